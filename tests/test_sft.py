"""The M-step: loss on the completion only, the paper's stopping rule, batches that do not change the step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib import UserError, learner
from restem_lib.batching import Example, batches, completion_loss, distinct, tokens
from restem_lib.config import Common
from restem_lib.engines import PromptError
from restem_lib.learner import Diverged, Learner, NotCompiled, compiles
from restem_lib.models import identity, load_model, load_tokenizer
from restem_lib.records import Pair, Problem
from restem_lib.sft import fine_tune
from restem_lib.store import Shards, Stage, open_stage, write_records
from restem_lib.tasks import Task
from restem_lib.training import schedule

if TYPE_CHECKING:
    from transformers import PreTrainedModel

VALIDATION = [Problem(f"v/{i}", str(i % 10), str(i % 10)) for i in range(20)]
TASK = Task("copy", (), (), template="Q: {question}\nA:")


def kept(root: Path, n: int = 60, wrong: bool = False) -> Shards:
    stage = Stage(root, "filter", 1, {"n": n, "wrong": wrong})
    pairs = [Pair(f"p/{i}", 0, f"Q: {i % 10}\nA:", f"\n#### {(i + wrong) % 10}") for i in range(n)]
    with stage.work():
        write_records(stage, "pairs.parquet", pairs, Pair, 0.0)
    return Shards(stage, ("pairs.parquet",))


def config(root: Path, **settings: object) -> Common:
    defaults = {
        "learning_rate": 1e-2,
        "batch_size": 8,
        "max_epochs": 4.0,
        "eval_every": 0.5,
        "max_new_tokens": 6,
        "dtype": "float32",
    }
    return Common(runs_dir=str(root), **{**defaults, **settings})  # type: ignore[arg-type]


def test_the_prompt_is_tokenised_as_it_was_sampled(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    example = tokens(Pair("p", 0, "Q: 7\nA:", "\n#### 7"), tokenizer)
    assert list(example.prompt) == tokenizer("Q: 7\nA:")["input_ids"]
    assert tokenizer.decode(example.target) == "\n#### 7<eos>"


def tiny_model(family: str) -> PreTrainedModel:
    """An untrained model of two layers; what is peculiar to the family is on, and short enough to matter."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 60}
    if family not in ("gpt2", "bloom"):
        shape |= {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8}
    peculiar = {"sliding_window": 5} if family in ("gemma2", "mistral") else {}
    config = AutoConfig.for_model(family, **shape, **peculiar, pad_token_id=0, eos_token_id=1)
    return AutoModelForCausalLM.from_config(config).eval()


EXAMPLES = [
    Example(tuple(range(2, 2 + asked)), tuple(range(30, 30 + said)))
    for asked, said in ((3, 9), (12, 2), (7, 7), (1, 1), (3, 9))
]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "family", ["llama", "qwen2", "qwen3", "gemma2", "mistral", "gpt2", "bloom"]
)
def test_a_batch_has_the_gradient_of_its_examples_one_by_one(family: str, attention: str) -> None:
    model = tiny_model(family)
    if attention == "sdpa" and not model._supports_sdpa:
        pytest.skip("transformers has no such attention for this family")
    model.set_attn_implementation(attention)

    def gradient(loss: torch.Tensor) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        loss.backward()
        parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return loss.item(), torch.cat(parts)

    alone = torch.zeros(())
    for example in EXAMPLES:  # as the definition has it: no padding, all logits, every copy
        ids = torch.tensor([example.prompt + example.target])
        likelihood = model(ids).logits[0].log_softmax(-1)[len(example.prompt) - 1 : -1]
        alone = alone - likelihood.gather(1, torch.tensor(example.target)[:, None]).sum()
    loss, expected = gradient(alone)
    assert len(distinct(EXAMPLES)) == 4
    together = gradient(completion_loss(model, distinct(EXAMPLES), 0))
    assert together[0] == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(together[1], expected, atol=1e-5, rtol=1e-4)
    assert expected.abs().max() > 1e-2


def test_the_head_sees_target_tokens_only() -> None:
    model, seen = tiny_model("llama"), []
    model.get_output_embeddings().register_forward_hook(lambda _, __, out: seen.append(out.shape))
    completion_loss(model, distinct(EXAMPLES), 0)
    assert seen == [(9 + 2 + 7 + 1, 60)]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 16), st.integers(0, 99)
)
@settings(max_examples=50, deadline=None)
def test_an_epoch_shows_every_example_once(lengths: list[int], size: int, seed: int) -> None:
    plan = batches(lengths, size, seed, 0)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    assert max(map(len, plan)) <= size
    assert plan == batches(lengths, size, seed, 0)


def test_batches_hold_neighbours_in_length_and_differ_between_epochs() -> None:
    lengths = [i % 50 for i in range(800)]
    plan = batches(lengths, 16, 0, 0)
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in plan]
    assert sum(spread) / len(spread) < 6
    assert plan != batches(lengths, 16, 0, 1)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    factors = [schedule(step, 100, 0.1) for step in range(101)]
    assert factors[9] == factors[10] == 1.0
    assert factors[0] == pytest.approx(0.1)
    assert factors[100] == 0.0
    assert [schedule(step, 4, 0.0) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_the_best_candidate_by_validation_reward_is_kept(tiny: Path, tmp_path: Path) -> None:
    tuned = fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, config(tmp_path, patience=99))
    rewards = [candidate.reward for candidate in tuned.history]
    assert [candidate.epoch for candidate in tuned.history] == [i / 2 for i in range(9)]
    assert rewards[-1] > rewards[0]
    assert [candidate.best for candidate in tuned.history].index(1) == rewards.index(max(rewards))
    assert tuned.history[0].problems == 20


def test_training_that_does_not_help_stops_and_gives_back_the_base(
    tiny: Path, tmp_path: Path
) -> None:
    tuned = fine_tune(
        tiny, kept(tmp_path, wrong=True), TASK, VALIDATION, 0, config(tmp_path, patience=2)
    )
    assert [candidate.best for candidate in tuned.history] == [1, 0, 0]
    before, after = (
        load_model(folder, torch.float32).state_dict() for folder in (tiny, tuned.model)
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_smaller_forward_passes_give_the_same_training(tiny: Path, tmp_path: Path) -> None:
    whole = fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, config(tmp_path, max_epochs=1.0))
    parts = fine_tune(
        tiny,
        kept(tmp_path),
        TASK,
        VALIDATION,
        0,
        config(tmp_path, max_epochs=1.0, micro_batch_size=3),
    )
    assert whole.model != parts.model
    for a, b in zip(whole.history[1:], parts.history[1:], strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)


def test_the_result_is_named_by_base_pairs_and_settings(tiny: Path, tmp_path: Path) -> None:
    quick = config(tmp_path, max_epochs=0.5)
    first = fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, quick)
    assert fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, quick).model == first.model
    others = {
        fine_tune(tiny, kept(tmp_path, n=50), TASK, VALIDATION, 0, quick).model,
        fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 1, quick).model,
        fine_tune(
            tiny, kept(tmp_path), TASK, VALIDATION, 0, replace(quick, learning_rate=1e-3)
        ).model,
        fine_tune(first.model, kept(tmp_path), TASK, VALIDATION, 0, quick).model,
    }
    assert len(others | {first.model}) == 5
    assert identity(first.model) == first.model.parent.name


def test_a_diverging_step_is_a_clear_error(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"training loss is .*Lower learning_rate"):
        fine_tune(
            tiny,
            kept(tmp_path),
            TASK,
            VALIDATION,
            0,
            config(tmp_path, learning_rate=1e30, patience=99),
        )


def test_a_pair_longer_than_the_model_is_a_clear_error(tiny: Path, tmp_path: Path) -> None:
    stage = Stage(tmp_path, "filter", 1, {"long": True})
    with stage.work():
        pairs = [Pair("p", 0, "Q: 1\nA:", " 1" * 200)]
        write_records(stage, "pairs.parquet", pairs, Pair, 0.0)
    with pytest.raises(PromptError, match="but the model has 128 positions"):
        fine_tune(tiny, Shards(stage, ("pairs.parquet",)), TASK, VALIDATION, 0, config(tmp_path))


def losses(folder: Path, settings: Common, compiled: bool = False) -> list[float]:
    """Of a few steps on batches of different shapes."""
    tokenizer = load_tokenizer(folder)
    pairs = [Pair(f"p/{i}", 0, f"Q: {'9 ' * i}\nA:", f"\n#### {i}") for i in range(9)]
    examples = [tokens(pair, tokenizer) for pair in pairs]
    longest = max(example.length for example in examples)
    one = Learner(folder, longest, tokenizer.pad_token_id, 0, settings, compiled)
    parts = (examples[:4], examples[4:8], examples[2:5], examples[7:])
    return [one.step(part, 1e-2) for part in parts]


def test_gradient_checkpointing_changes_memory_only(tiny: Path, tmp_path: Path) -> None:
    plain = losses(tiny, config(tmp_path))
    saving = losses(tiny, config(tmp_path, gradient_checkpointing=True))
    assert saving == pytest.approx(plain, rel=1e-5)
    assert plain[0] > plain[2]


def test_lora_trains_adapters_and_gives_an_ordinary_model(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapted = config(tmp_path, lora_rank=4, gradient_checkpointing=True, patience=9)
    tuned = fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, adapted)
    assert tuned.history[-1].loss < tuned.history[1].loss
    assert tuned.history[-1].best or any(candidate.best for candidate in tuned.history[1:])
    assert not list(tuned.model.glob("adapter*"))
    before = load_model(tiny, torch.float32).state_dict()
    after = load_model(tuned.model, torch.float32).state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}


def test_adapters_without_peft_are_a_clear_error(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"lora_rank is 4, which needs peft: pip install"):
        fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, config(tmp_path, lora_rank=4))


def test_only_long_m_steps_are_compiled_and_only_with_a_compiler(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(learner, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(learner.shutil, "which", lambda name: name == "g++")
    assert [compiles(tiny, n, "auto") for n in (1e5, 1e10)] == [False, True]
    assert [compiles(tiny, n, "always") for n in (1e5, 1e10)] == [True, True]
    assert [compiles(tiny, n, "never") for n in (1e5, 1e10)] == [False, False]
    monkeypatch.setattr(learner.shutil, "which", lambda _: None)
    assert not compiles(tiny, 1e10, "auto")
    assert "not compiled (no C++ compiler" in capsys.readouterr().out


def test_a_model_that_cannot_be_compiled_is_trained_all_the_same(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise NotCompiled("broken here")

    monkeypatch.setattr(learner, "_compile", broken)
    monkeypatch.setattr("restem_lib.sft.compiles", lambda *_: True)
    quick = config(tmp_path, max_epochs=0.5)
    tuned = fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, quick)
    assert "not compiled (broken here)" in capsys.readouterr().out
    never = fine_tune(tiny, kept(tmp_path), TASK, VALIDATION, 0, replace(quick, compile="never"))
    monkeypatch.undo()
    assert never.model == tuned.model
    assert open_stage(tuned.model.parent).key["settings"]["compiled"] is False


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch.compile sets off warnings about its own insides
def test_compiled_steps_differ_in_rounding_only(tiny: Path, tmp_path: Path) -> None:
    settings = config(tmp_path)
    if not compiles(tiny, 0, "always"):
        pytest.skip("no compiler")
    plain = losses(tiny, settings)
    assert losses(tiny, settings, compiled=True) == pytest.approx(plain, rel=1e-3)
