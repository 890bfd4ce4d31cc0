"""Pretraining: an exact tokenizer, whole documents in rows, runs that resume to the same weights."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from restem_lib import pretrain as pretraining
from restem_lib.pretrain import build_model, build_tokenizer, pack, pretrain, row_loss
from restem_lib.tasks import toy_math

MODELS = Path(__file__).parent.parent / "models"
SHORT = 20 * 4 * pretraining.ROW
"""Tokens of a run of 20 steps of 4 rows."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_tokenizer_round_trip() -> None:
    tokenizer = build_tokenizer()
    assert len(tokenizer) < 200
    task = toy_math.load()
    texts = ["".join(pair) for pair in toy_math.pretraining_text(Random(6), 1_000)]
    texts += [task.prompt(p) + p.solution for p in task.train[:500] + task.test[:500]]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text
    assert tokenizer.tokenize(" 42\n#### 42") == [" 4", "2", "\n####", " 4", "2"]


def test_a_prompt_and_its_completion_tokenize_apart() -> None:
    tokenizer = build_tokenizer()
    for prompt, completion in toy_math.pretraining_text(Random(7), 200):
        apart = tokenizer.encode(prompt) + tokenizer.encode(completion)
        assert apart == tokenizer.encode(prompt + completion)


def test_pack_keeps_documents_whole() -> None:
    rng = Random(8)
    documents = [[index % 250 + 1] * rng.randint(1, 100) for index in range(300)]
    ids, numbers = pack(documents, pad=0)
    assert ids.shape == numbers.shape and ids.shape[1] == pretraining.ROW
    found = [
        row[number == each].tolist()
        for row, number in zip(ids, numbers, strict=True)
        for each in range(1, number.max() + 1)
    ]
    assert sorted(found) == sorted(documents)
    assert (ids[numbers == 0] == 0).all()
    with pytest.raises(ValueError, match="does not fit"):
        pack([[1] * (pretraining.ROW + 1)], pad=0)


def test_documents_of_a_row_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build_model("toy-s", tokenizer).eval()
    texts = ["".join(pair) for pair in toy_math.pretraining_text(Random(9), 2)]
    documents = [tokenizer.encode(text) for text in texts]
    together = row_loss(model, *map(torch.from_numpy, _long(pack(documents, 0))), bf16=False)
    apart = [
        row_loss(model, *map(torch.from_numpy, _long(pack([d], 0))), bf16=False) for d in documents
    ]
    weights = torch.tensor([len(document) - 1.0 for document in documents])
    assert torch.allclose(together, (torch.stack(apart) * weights).sum() / weights.sum(), atol=1e-5)


def _long(packed: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return packed[0].astype(np.int64), packed[1]


def test_short_run_learns_and_a_killed_one_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = toy_math.pretraining_text
    monkeypatch.setattr(toy_math, "pretraining_text", lambda rng, n: texts(rng, min(n, 300)))
    whole = pretrain("toy-s", tmp_path / "whole", SHORT, seed=1, rows=4, compiled=False)
    losses = [float(line.split(",")[2]) for line in (whole / "loss.csv").read_text().split()[1:]]
    assert len(losses) == 20 and losses[-1] < losses[0] - 0.5

    killed = pretrain(
        "toy-s", tmp_path / "resumed", SHORT, seed=1, rows=4, compiled=False, stop_at=9
    )
    assert killed != tmp_path / "resumed" and not (tmp_path / "resumed").exists()
    with pytest.raises(ValueError, match="another run"):
        pretrain("toy-s", tmp_path / "resumed", SHORT, seed=2, rows=4, compiled=False)
    resumed = pretrain("toy-s", tmp_path / "resumed", SHORT, seed=1, rows=4, compiled=False)
    for name in ("model.safetensors", "loss.csv"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["resumed", "whole"]
    with pytest.raises(FileExistsError):
        pretrain("toy-s", whole, SHORT, seed=1, rows=4, compiled=False)


@pytest.mark.parametrize("size", sorted(pretraining.SIZES))
def test_the_ladder_loads_and_writes(size: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODELS / size)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / size)
    assert model.dtype == torch.bfloat16
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    task = toy_math.load()
    prompts = [task.prompt(problem) for problem in task.test[:4]]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    out = model.float().generate(**batch, max_new_tokens=80, do_sample=False)
    texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert any("\n####" in text for text in texts)
