"""What a stage writes changes only together with its version number.

Fails after a change of output? If the change is meant, raise the stage's version (which makes every store draw anew)
and enter the new digest here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from restem_lib import filtering, models, sampling, scoring, sft
from restem_lib.config import Common
from restem_lib.engines import Sampling
from restem_lib.records import Pair, Problem, Sample, Score
from restem_lib.rewards.answers import GRADER
from restem_lib.store import Shards, Stage, digest, write_records
from restem_lib.tasks.toy import maths

PROBLEMS = maths.load().train[:6]
TASK = maths.load()
TEXTS = [
    " 1 + 1 = 2\n#### 2",
    "\n#### {gold}",
    "no answer",
    r"so $\boxed{{{gold}}}$",
    "The answer is {gold}.",
    "#### 1{gold}",
]


def given(root: Path) -> Shards:
    """Samples that no model drew."""
    samples = [
        Sample(
            problem.id, i, text.format(gold=problem.answer), 9, "eos" if (i + k) % 5 else "length"
        )
        for k, problem in enumerate(PROBLEMS)
        for i, text in enumerate(TEXTS)
    ]
    stage = Stage(root, "sample", 1, {"by": "hand"})
    with stage.work():
        write_records(stage, "p00000-00000000-s0000-0006.parquet", samples, Sample, 0.0)
    return Shards(stage, ("p00000-00000000-s0000-0006.parquet",))


def rows(shards: Shards, kind: type[Sample] | type[Score] | type[Pair]) -> str:
    return digest([list(vars(record).values()) for record in shards.records(kind)])


def test_samples(tmp_path: Path) -> None:
    config = Common(runs_dir=str(tmp_path), dtype="float32", problem_block=4, sample_block=2)
    drawn = sampling.draw_samples(
        models.TOYS / "toy-s", TASK, PROBLEMS, 2, Sampling(0.7, 40, 1.0, 64), "golden", 0, config
    )
    assert (sampling.SAMPLE_VERSION, rows(drawn, Sample)) == (2, "8f33908bf72b9f9b")


def test_scores(tmp_path: Path) -> None:
    scores = scoring.score_samples(TASK, PROBLEMS, given(tmp_path), Common(runs_dir=str(tmp_path)))
    assert (scoring.SCORE_VERSION, GRADER, rows(scores, Score)) == (
        1,
        "answers-2",
        "3467dcdc9d87866c",
    )


def test_pairs(tmp_path: Path) -> None:
    config = Common(runs_dir=str(tmp_path), cap=2)
    samples = given(tmp_path)
    scores = scoring.score_samples(TASK, PROBLEMS, samples, config)
    pairs = filtering.keep_correct(TASK, PROBLEMS, samples, scores, 0, config)
    assert (filtering.FILTER_VERSION, rows(pairs, Pair)) == (1, "f337e5aa38e10d4c")


def test_fine_tuning(tmp_path: Path) -> None:
    config = Common(
        runs_dir=str(tmp_path),
        dtype="float32",
        batch_size=3,
        max_epochs=2.0,
        eval_every=1.0,
        patience=9,
    )
    pairs = filtering.human_pairs(TASK, PROBLEMS, config)
    tuned = sft.fine_tune(
        models.TOYS / "toy-s", pairs, TASK, [Problem("v", "1 + 1?", "2")], 0, config
    )
    losses = [candidate.loss for candidate in tuned.history[1:]]
    assert sft.TUNE_VERSION == 2
    assert losses == pytest.approx(
        [0.30557, 0.26502], rel=0.02
    )  # rounding alone moves them by less
