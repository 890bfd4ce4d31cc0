"""Pretraining: an exact tokenizer, batches of documents of about one length, runs that resume to the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from restem_lib import pretrain as pretraining
from restem_lib.ladder import LADDER, SHAPES, Recipe
from restem_lib.pretrain import (
    PretrainError,
    batch_loss,
    pretrain,
    training_batches,
)
from restem_lib.tasks import load_task
from restem_lib.tasks.toy import LONGEST, corpus
from restem_lib.untrained import build_model, build_tokenizer

MODELS = Path(__file__).parent.parent / "models"
SHORT = Recipe("toy-s", 20 * 640, seed=1, batch=640)
"""20 steps."""
TASKS = (
    "toy-math",
    "toy-math-terse",
    "toy-gsm",
    "toy-exam",
    "toy-code",
    "toy-humaneval",
    "toy-bbh",
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_tokenizer_round_trip() -> None:
    tokenizer = build_tokenizer()
    assert len(tokenizer) < 1_000
    texts = ["".join(pair) for pair in islice(corpus.documents(Random(6)), 2_000)]
    for task in map(load_task, TASKS):
        texts += [task.prompt(p) + p.solution for p in (task.train + task.test)[::15]]
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode("Qwerty, zxcvb! 9~")) == "Qwerty, zxcvb! 9~"
    assert tokenizer.tokenize(" 42\n#### 42") == [" 4", "2", "\n####", " 4", "2"]


def test_a_prompt_and_its_completion_tokenize_apart() -> None:
    tokenizer = build_tokenizer()
    for prompt, completion in islice(corpus.documents(Random(7)), 500):
        apart = tokenizer.encode(prompt) + tokenizer.encode(completion)
        assert apart == tokenizer.encode(prompt + completion)


def test_batches_hold_whole_documents_of_about_one_length() -> None:
    tokenizer = build_tokenizer()
    recipe = replace(SHORT, tokens=60 * 2560, batch=2560)
    batches = training_batches(recipe, tokenizer)
    assert len(batches) == recipe.steps == 60
    known = {"".join(pair) for pair in islice(corpus.documents(Random("pretraining/1")), 10_000)}
    padding = 0
    for batch in batches:
        assert batch.shape[1] in pretraining.EDGES and batch.size <= 2560
        lengths = (batch != tokenizer.pad_token_id).sum(axis=1)
        padding += batch.size - lengths.sum()
        for row, length in zip(batch, lengths, strict=True):
            assert (row[length:] == tokenizer.pad_token_id).all()
            assert row[length - 1] == tokenizer.eos_token_id
            assert tokenizer.decode(row[: length - 1]) in known
    assert padding < 0.2 * sum(batch.size for batch in batches)
    again = training_batches(recipe, tokenizer)
    assert all(map(np.array_equal, batches, again))


def test_the_loss_ignores_padding() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build_model("toy-s", tokenizer).eval()
    texts = ["".join(pair) for pair in islice(corpus.documents(Random(9)), 2)]
    documents = [tokenizer.encode(text) for text in texts]
    longest = max(map(len, documents))
    padded = torch.full((2, longest), tokenizer.pad_token_id)
    for row, document in zip(padded, documents, strict=True):
        row[: len(document)] = torch.tensor(document)
    pad = tokenizer.pad_token_id
    together = batch_loss(model, padded, pad, bf16=False)
    apart = torch.stack([batch_loss(model, torch.tensor([d]), pad, bf16=False) for d in documents])
    weights = torch.tensor([len(document) - 1.0 for document in documents])
    assert torch.allclose(together, (apart * weights).sum() / weights.sum(), atol=1e-5)


def test_text_without_slips_is_other_text() -> None:
    tokenizer = build_tokenizer()
    batches = training_batches(SHORT, tokenizer)
    right = training_batches(replace(SHORT, slips=False), tokenizer)
    assert not all(map(np.array_equal, batches, right))


def killed(recipe: Recipe, out: Path, at: int, **settings: Any) -> None:
    """Pretrain until step `at` is done, and go down without a chance to save."""
    step = pretraining._Run.step

    def fatal(run: Any, batch: np.ndarray) -> None:
        step(run, batch)
        if len(run.curve) == at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretraining._Run, "step", fatal)
        pretrain(recipe, out, **settings)
    assert not out.exists()


def test_short_run_learns_and_a_killed_one_resumes_to_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pretrain(SHORT, tmp_path / "whole", compiled=False)
    losses = [float(line.split(",")[2]) for line in (whole / "loss.csv").read_text().split()[1:]]
    assert len(losses) == 20 and losses[-1] < losses[0] - 0.5

    killed(SHORT, tmp_path / "resumed", 3, save_every=4, compiled=False)
    killed(SHORT, tmp_path / "resumed", 11, save_every=4, compiled=False)
    with pytest.raises(PretrainError, match="another run"):
        pretrain(replace(SHORT, seed=2), tmp_path / "resumed", compiled=False)
    capsys.readouterr()
    resumed = pretrain(SHORT, tmp_path / "resumed", save_every=4, compiled=False)
    assert "going on after step 8" in capsys.readouterr().out
    for name in ("model.safetensors", "loss.csv"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["resumed", "whole"]
    made = json.loads((resumed / pretraining.MADE).read_text())
    assert [process["from_step"] for process in made["processes"]] == [0, 8]
    assert 0.05 < made["padding"] < 0.2
    with pytest.raises(PretrainError, match="exists"):
        pretrain(SHORT, whole, compiled=False)


def test_a_kill_while_the_model_is_written_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pretraining._Run, "made", Mock(side_effect=KeyboardInterrupt))
        pretrain(SHORT, out, compiled=False)
    assert not out.exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining._Run, "step", Mock(side_effect=AssertionError("again")))
        pretrain(SHORT, out, compiled=False)
    assert (out / "model.safetensors").is_file()


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    killed(SHORT, tmp_path / "model", 5, save_every=4, compiled=False)
    checkpoint = tmp_path / ".model.partial" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(
        PretrainError, match=r"checkpoint\.pt is damaged .*remove .*\.model\.partial"
    ):
        pretrain(SHORT, tmp_path / "model", compiled=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # torch.compile sets off warnings about its own insides
def test_a_compiled_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        pretraining, "EDGES", (96, LONGEST)
    )  # two lengths to compile for, not seven
    whole = pretrain(SHORT, tmp_path / "whole")
    killed(SHORT, tmp_path / "resumed", 11, save_every=4)
    resumed = pretrain(SHORT, tmp_path / "resumed")
    made = json.loads((resumed / pretraining.MADE).read_text())
    assert all(process["compiled"] for process in made["processes"])
    assert (whole / "model.safetensors").read_bytes() == (
        resumed / "model.safetensors"
    ).read_bytes()


def test_without_a_compiler_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none = Mock(side_effect=RuntimeError("no compiler\nat all"))
    monkeypatch.setattr(torch, "compile", lambda *_, **__: none)
    out = pretrain(SHORT, tmp_path / "model")
    assert "note: not compiled, so slower (RuntimeError: no compiler)" in capsys.readouterr().out
    assert not json.loads((out / pretraining.MADE).read_text())["processes"][0]["compiled"]


def test_how_long_it_takes_is_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pretraining, "FIRST", 2)
    pretrain(SHORT, tmp_path / "model", compiled=False)
    told = capsys.readouterr().out.split("\n")
    assert told[0].startswith("20 steps, at most about ") and "minutes left" in told[2]


def test_every_size_of_the_ladder_has_a_shape() -> None:
    assert {recipe.size for recipe in LADDER.values()} == set(SHAPES)


@pytest.mark.parametrize("name", LADDER)
def test_the_ladder_loads_and_writes(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODELS / name)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    assert model.dtype == torch.bfloat16
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    task = load_task("toy-math")
    prompts = [task.prompt(problem) for problem in task.test[:4]]
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    out = model.float().generate(**batch, max_new_tokens=100, do_sample=False)
    texts = tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert any("\n####" in text for text in texts)


def test_all_models_together_are_small() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*.safetensors")) < 20e6
