"""The vLLM engine against the torch engine, really run: the same greedy texts, the same distributions.

`make test-vllm` runs these in an environment of their own, with vLLM's build for CPUs.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scipy.stats import chi2_contingency

from restem_lib.config import Config
from restem_lib.engines import Completion, PromptError, Sampling
from restem_lib.models import TOYS, load_model, load_tokenizer
from restem_lib.records import Sample
from restem_lib.sampling import draw_samples
from restem_lib.store import Shards
from restem_lib.tasks import load_task

if TYPE_CHECKING:
    from restem_lib.engines.torch_engine import TorchEngine
    from restem_lib.engines.vllm_engine import VllmEngine

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed here: make test-vllm"
    ),
    pytest.mark.filterwarnings("default"),  # those of vLLM and of what it imports are not ours
]

TOY = TOYS / "toy-m"
GREEDY = Sampling(temperature=0, top_k=0, top_p=1, max_new_tokens=96)
SAMPLED = Sampling(temperature=1, top_k=0, top_p=1, max_new_tokens=40)
TASK = load_task("toy-math")
PROMPTS = [TASK.prompt(problem) for problem in TASK.test[:300]]


@pytest.fixture(scope="module")
def mine() -> TorchEngine:
    import torch

    from restem_lib.engines.torch_engine import TorchEngine

    return TorchEngine(load_model(TOY, torch.float32), load_tokenizer(TOY))


@pytest.fixture(scope="module")
def engine() -> VllmEngine:
    import torch

    from restem_lib.engines.vllm_engine import VllmEngine

    return VllmEngine(TOY, torch.float32)


def alike(ours: Sequence[Sequence[Completion]], theirs: Sequence[Sequence[Completion]]) -> float:
    """Share of equal completions; rounding may tip a near tie between two tokens."""
    pairs = [pair for rows in zip(ours, theirs, strict=True) for pair in zip(*rows, strict=True)]
    return sum(a == b for a, b in pairs) / len(pairs)


def same_distribution(a: Sequence[str], b: Sequence[str]) -> float:
    """p value of two samples coming from one distribution; outcomes seen fewer than 20 times are taken together."""
    counts = Counter(a), Counter(b)
    often = [text for text, count in (counts[0] + counts[1]).items() if count >= 20]
    table = [[count[text] for text in often] for count in counts]
    for row, total in zip(table, (len(a), len(b)), strict=True):
        row.append(total - sum(row))
    kept = [column for column in zip(*table, strict=True) if sum(column) >= 20]
    assert len(kept) > 3
    return float(chi2_contingency(list(zip(*kept, strict=True)), lambda_="log-likelihood").pvalue)


def test_greedy_completions_are_those_of_torch(engine: VllmEngine, mine: TorchEngine) -> None:
    drawn = engine.generate(PROMPTS, 2, GREEDY, seed=0)
    assert alike(drawn, mine.generate(PROMPTS, 2, GREEDY, seed=0)) >= 0.99
    assert {completion.finish for row in drawn for completion in row} == {"eos"}
    short = replace(GREEDY, max_new_tokens=12)
    drawn = engine.generate(PROMPTS, 1, short, seed=0)
    assert alike(drawn, mine.generate(PROMPTS, 1, short, seed=0)) >= 0.99
    assert {completion.finish for (completion,) in drawn} == {"eos", "length"}
    assert max(completion.tokens for (completion,) in drawn) == 12


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.7, 40, 1.0), (1.5, 6, 1.0), (1.3, 0, 0.9), (1.5, 12, 0.8)],
)
def test_three_tokens_have_the_distribution_of_torch(
    engine: VllmEngine, mine: TorchEngine, temperature: float, top_k: int, top_p: float
) -> None:
    sampling = Sampling(temperature, top_k, top_p, max_new_tokens=3)
    (theirs,) = engine.generate(PROMPTS[:1], 4_000, sampling, seed=1)
    (ours,) = mine.generate(PROMPTS[:1], 4_000, sampling, seed=2)
    warmer = replace(sampling, temperature=temperature + 0.3)
    (other,) = mine.generate(PROMPTS[:1], 4_000, warmer, seed=3)
    texts = [[f"{c.text}|{c.finish}" for c in drawn] for drawn in (theirs, ours, other)]
    assert same_distribution(texts[0], texts[1]) > 1e-4
    assert same_distribution(texts[0], texts[2]) < 1e-4  # so the test can tell


def test_answers_have_the_distribution_of_torch(engine: VllmEngine, mine: TorchEngine) -> None:
    sampling = Sampling(0.7, 40, 1, max_new_tokens=96)
    texts = [
        [c.text.rpartition("####")[2] for c in e.generate(PROMPTS[:1], 2_000, sampling, seed=4)[0]]
        for e in (engine, mine)
    ]
    assert same_distribution(*texts) > 1e-4


def test_seeds_decide_and_belong_to_the_prompt(engine: VllmEngine) -> None:
    drawn = engine.generate(PROMPTS[:20], 4, SAMPLED, seed=1)
    assert [len(row) for row in drawn] == [4] * 20
    assert engine.generate(PROMPTS[:20], 4, SAMPLED, seed=1) == drawn
    assert alike(engine.generate(PROMPTS[:5], 4, SAMPLED, seed=1), drawn[:5]) >= 0.9
    assert alike(engine.generate(PROMPTS[:20], 4, SAMPLED, seed=2), drawn) < 0.5
    twice = engine.generate([PROMPTS[0]] * 2, 50, SAMPLED, seed=1)
    everything = [[completion.text for completion in row] for row in twice]
    assert len({text for row in everything for text in row}) > 40
    for shift in range(-3, 4):  # neighbours share no random numbers, not even displaced ones
        pairs = list(zip(everything[0][3:-3], everything[1][3 + shift : 47 + shift], strict=True))
        assert sum(a == b for a, b in pairs) < len(pairs) / 2


@pytest.mark.parametrize(
    "stops", [("####",), ("####", "\n####"), (" = ", "1", "+"), ("\n#### 1", "never there")]
)
def test_stop_strings_cut_as_in_torch(
    engine: VllmEngine, mine: TorchEngine, stops: tuple[str, ...]
) -> None:
    sampling = replace(GREEDY, stop=stops)
    drawn = engine.generate(PROMPTS[:60], 1, sampling, seed=0)
    assert alike(drawn, mine.generate(PROMPTS[:60], 1, sampling, seed=0)) >= 0.98
    assert "stop" in {completion.finish for (completion,) in drawn}
    assert not any(stop in completion.text for (completion,) in drawn for stop in stops)


def test_mistakes_are_named_before_any_work(engine: VllmEngine) -> None:
    with pytest.raises(PromptError, match=r"prompt 1 .* no tokens"):
        engine.generate(["a", ""], 1, GREEDY, seed=0)
    with pytest.raises(PromptError, match=r"500 tokens .* 96, .* 512 positions"):
        engine.tokenise(["1" * 500], 96)
    with pytest.raises(ValueError, match="n is 0"):
        engine.generate(["a"], 0, GREEDY, seed=0)
    for temperature in (-1.0, 0.001, 2.5, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            engine.generate(["a"], 1, replace(GREEDY, temperature=temperature), seed=0)
    assert engine.generate([], 1, GREEDY, seed=0) == []


def test_progress_counts_all_samples(engine: VllmEngine) -> None:
    seen: list[int] = []
    engine.generate(PROMPTS[:5], 3, SAMPLED, seed=0, progress=seen.append)
    assert seen == [3] * 5


def test_a_stage_of_vllm_holds_what_one_of_torch_does(tmp_path: Path) -> None:
    """Greedily, in its own process, with a second end-of-sequence token in generation_config.json."""
    model = tmp_path / "toy"
    shutil.copytree(TOY, model)
    ends = load_tokenizer(model).convert_tokens_to_ids(["<eos>", "\n####"])
    generation = model / "generation_config.json"
    generation.write_text(json.dumps({**json.loads(generation.read_text()), "eos_token_id": ends}))

    def drawn(engine: str) -> Shards:
        config = Config(
            engine=engine, dtype="float32", runs_dir=str(tmp_path / "runs"), problem_block=8
        )
        return draw_samples(model, TASK, TASK.test[:20], 2, GREEDY, "test", 0, config)

    theirs, ours = drawn("vllm"), drawn("torch")
    assert theirs.stage.folder != ours.stage.folder
    assert list(theirs.records(Sample)) == list(ours.records(Sample))
    assert {sample.finish for sample in theirs.records(Sample)} == {"eos"}
    assert not any("####" in sample.text for sample in theirs.records(Sample))
    for name in theirs.names:
        assert theirs.stage.read(name).schema == ours.stage.read(name).schema
