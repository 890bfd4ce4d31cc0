"""The whole loop on a tiny model: what it promises, and that a killed run ends as an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from restem_lib import em, evaluation
from restem_lib.cli import main
from restem_lib.config import Loop
from restem_lib.filtering import NothingKept
from restem_lib.keys import ConfigError
from restem_lib.records import Pair, Sample, Score
from restem_lib.store import open_stage
from restem_lib.tasks import Task, jsonl
from restem_lib.upkeep import contents, stages


@pytest.fixture
def task(copying: Path) -> Task:
    return jsonl.load(copying)


@pytest.fixture
def loop(tiny: Path, copying: Path, tmp_path: Path) -> Loop:
    return Loop(
        model=str(tiny),
        task=str(copying),
        problems=40,
        samples=6,
        iterations=2,
        max_new_tokens=6,
        val_problems=0,
        test_problems=50,
        learning_rate=1e-2,
        batch_size=8,
        max_epochs=3.0,
        dtype="float32",
        problem_block=16,
        sample_block=4,
        runs_dir=str(tmp_path / "runs"),
    )


def test_the_loop_learns(loop: Loop, task: Task, tiny: Path) -> None:
    turns = list(em.rest_em(loop, task))
    test = em.held_out(task, loop)
    before = evaluation.greedy(tiny, task, test, loop).pass_at_k(1)
    after = evaluation.greedy(turns[-1].model, task, test, loop).pass_at_k(1)
    assert [turn.number for turn in turns] == [1, 2]
    assert after.value > before.value
    assert after.low <= after.value <= after.high
    assert after.problems == 50


def test_each_record_leads_to_the_next(loop: Loop, task: Task) -> None:
    turn = next(em.rest_em(loop, task))
    problems, validation = em.split(task, loop)
    samples, scores = list(turn.samples.records(Sample)), list(turn.scores.records(Score))
    pairs = list(turn.pairs.records(Pair))
    assert len(samples) == len(scores) == 40 * 6
    assert sorted({s.problem_id for s in samples}) == sorted(p.id for p in problems)
    right = {(s.problem_id, s.index) for s in scores if s.reward == 1}
    assert {(pair.problem_id, pair.index) for pair in pairs} <= right
    assert 0 < len(pairs) < len(samples)
    assert not {p.id for p in validation} & {pair.problem_id for pair in pairs}


@pytest.mark.parametrize(("start", "continues"), [("base", False), ("last", True)])
def test_every_m_step_starts_where_it_should(
    loop: Loop, task: Task, start: str, continues: bool
) -> None:
    turns = list(em.rest_em(replace(loop, start=start), task))
    second = open_stage(turns[1].model.parent).key["settings"]["base"]
    first = open_stage(turns[0].model.parent).key["settings"]["base"]
    assert (second == turns[0].model.parent.name) is continues
    assert (second == first) is not continues


def test_an_e_step_samples_the_current_model_only(loop: Loop, task: Task) -> None:
    turns = list(em.rest_em(loop, task))
    assert turns[1].samples.stage.key["settings"]["model"] == turns[0].model.parent.name


def test_more_samples_reuse_those_that_are_there(loop: Loop, task: Task) -> None:
    def written(names: set[str]) -> dict[str, int]:
        return {name: (few.stage.folder / name).stat().st_mtime_ns for name in names}

    few = next(em.rest_em(loop, task)).samples
    before = written(set(few.names))
    more = next(em.rest_em(replace(loop, samples=12), task)).samples
    shared = set(few.names) & set(more.names)
    assert more.stage.name == few.stage.name
    assert {name[-17:-8] for name in shared} == {"0000-0004"}
    assert written(shared) == {name: before[name] for name in shared}


def test_validation_and_training_never_overlap(loop: Loop, task: Task) -> None:
    for problems in (1, 100, 0):
        training, validation = em.split(task, replace(loop, problems=problems))
        assert not {p.id for p in training} & {p.id for p in validation}
        assert len(validation) >= 100
    assert em.split(task, loop)[1] == em.split(task, replace(loop, seed=9))[1]


def test_too_few_problems_stop_before_any_work(loop: Loop, task: Task) -> None:
    with pytest.raises(ConfigError, match="too few"):
        next(em.rest_em(replace(loop, problems=5000), task))
    with pytest.raises(ConfigError, match="test problems"):
        em.held_out(task, replace(loop, test_problems=5000))
    assert stages(loop.runs_dir) == []


def test_a_model_that_is_never_right_is_a_clear_stop(loop: Loop, task: Task) -> None:
    silent = replace(loop, max_new_tokens=1)
    with pytest.raises(NothingKept, match="none of the 240 samples was right"):
        next(em.rest_em(silent, task))


# --- a killed run -------------------------------------------------------------------------------------------------

FORK = multiprocessing.get_context("forkserver")


def command(loop: Loop, out: Path) -> list[str]:
    return [
        *(
            "train",
            "--model",
            loop.model,
            "--task",
            loop.task,
            "--out",
            str(out),
            "--dtype",
            "float32",
        ),
        *(
            "--problems",
            "40",
            "--samples",
            "6",
            "--iterations",
            "2",
            "--max-new-tokens",
            "6",
            "--test-problems",
            "50",
        ),
        *(
            "--learning-rate",
            "1e-2",
            "--batch-size",
            "8",
            "--max-epochs",
            "3",
            "--eval-every",
            "0.25",
        ),
        *("--patience", "9", "--problem-block", "8", "--sample-block", "2"),
    ]


def train(arguments: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    raise SystemExit(main(arguments))


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_an_uninterrupted_one(
    loop: Loop, tmp_path: Path
) -> None:
    FORK.set_forkserver_preload(
        ["restem_lib.em", "restem_lib.engines.torch_engine", "accelerate", "datasets"]
    )
    warm = FORK.Process(target=int)  # so that the imports are not in the time below
    warm.start()
    warm.join()
    whole = FORK.Process(target=train, args=(command(loop, tmp_path / "whole"),))
    began = time.monotonic()
    whole.start()
    whole.join(300)
    assert whole.exitcode == 0
    lasts = time.monotonic() - began

    rng = random.Random(0)
    kills = 0
    for _ in range(40):
        process = FORK.Process(target=train, args=(command(loop, tmp_path / "killed"),))
        began = time.monotonic()
        process.start()
        # Later attempts live longer: some are killed in every stage, and one comes to the end.
        process.join(rng.uniform(0.1, 0.3) * lasts * (1 + kills / 4))
        if process.exitcode is not None:
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert process.exitcode == 0
    print(f"time to recover: {time.monotonic() - began:.1f} s")
    assert kills >= 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
