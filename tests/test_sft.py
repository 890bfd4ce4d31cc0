"""The M-step: loss on the completion only, the paper's stopping rule, batches that do not change the step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib import sft
from restem_lib.config import Common
from restem_lib.models import identity, load_model, load_tokenizer
from restem_lib.records import Pair, Problem
from restem_lib.sft import Example, batches, completion_loss, fine_tune, schedule, tokens
from restem_lib.store import Shards, Stage, write_records
from restem_lib.tasks import Task

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
        "max_new_tokens": 6,
        "dtype": "float32",
    }
    return Common(runs_dir=str(root), **{**defaults, **settings})  # type: ignore[arg-type]


def test_the_prompt_is_tokenised_as_it_was_sampled(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    example = tokens(Pair("p", 0, "Q: 7\nA:", "\n#### 7"), tokenizer)
    assert example.prompt == tokenizer("Q: 7\nA:")["input_ids"]
    assert tokenizer.decode(example.target) == "\n#### 7<eos>"


def test_no_loss_on_the_prompt(tiny: Path) -> None:
    model, tokenizer = load_model(tiny, torch.float32), load_tokenizer(tiny)
    examples = [
        tokens(Pair("p", 0, f"Q: {q}\nA:", a), tokenizer)
        for q, a in (("7", "\n#### 7"), ("3 apples", "\n#### 123"))
    ]
    expected = 0.0
    for example in examples:
        logits = model(torch.tensor([example.prompt + example.target])).logits[0].log_softmax(-1)
        for place, token in enumerate(example.target, len(example.prompt)):
            expected -= logits[place - 1, token].item()
    loss = completion_loss(model, examples, tokenizer.pad_token_id)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_padding_does_not_change_the_gradient(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    examples = [
        tokens(Pair("p", 0, f"Q: {'9 ' * i}\nA:", f"\n#### {i}"), tokenizer) for i in range(5)
    ]

    def gradient(parts: list[list[Example]]) -> torch.Tensor:
        model = load_model(tiny, torch.float32)
        for part in parts:
            completion_loss(model, part, tokenizer.pad_token_id).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    together = gradient([examples])
    assert torch.allclose(
        together, gradient([[example] for example in examples]), atol=1e-4, rtol=1e-3
    )
    assert together.abs().max() > 1e-2


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
    with pytest.raises(sft.Diverged, match=r"training loss is .*Lower learning_rate"):
        fine_tune(
            tiny,
            kept(tmp_path),
            TASK,
            VALIDATION,
            0,
            config(tmp_path, learning_rate=1e30, patience=99),
        )
