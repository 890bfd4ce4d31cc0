"""Scores: each task's own reward, named in every score; a second opinion on the same samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from restem_lib import UserError, evaluation, scoring
from restem_lib.config import Common
from restem_lib.records import Problem, Sample, Score
from restem_lib.rewards import GRADERS, grader, sandbox
from restem_lib.rewards.programs import Tests
from restem_lib.store import Shards, Stage, write_records
from restem_lib.tasks import Task

TESTS = Tests(kind="stdin", inputs=("1", "2", "3"), outputs=("1 2", "2 3", "3 4")).to_json()
PROBLEMS = (Problem("p/0", "Print n and the next.", TESTS), Problem("p/1", "The same.", TESTS))
TASK = Task("p", PROBLEMS, PROBLEMS, "{question}", grader="programs", second_grader="programs-apps")
RIGHT = "n = int(input())\nprint(n, n + 1)"
SWAPPED = "n = int(input())\nprint(n + 1, n)"
TWICE = "n = int(input())\nprint(n, 3 if n == 2 else 2)"
SHARD = "p00000-00000000-s0000-0002.parquet"


def drawn(root: Path) -> Shards:
    """Samples that no model drew: right and cut off; swapped, and right in two of three tests."""
    texts = [(RIGHT, "eos"), (RIGHT, "length"), (SWAPPED, "eos"), (TWICE, "stop")]
    samples = [
        Sample(f"p/{i // 2}", i % 2, text, 9, finish) for i, (text, finish) in enumerate(texts)
    ]
    stage = Stage(root, "sample", 1, {"by": "hand"})
    with stage.work():
        write_records(stage, SHARD, samples, Sample, 0.0)
    return Shards(stage, (SHARD,))


def test_a_score_of_a_program_names_grader_and_sandbox(level: str, tmp_path: Path) -> None:
    config = Common(runs_dir=str(tmp_path))
    scores = list(scoring.score_samples(TASK, PROBLEMS, drawn(tmp_path), config).records(Score))
    assert [score.verdict for score in scores] == ["correct", "no_answer", "wrong", "wrong"]
    assert [score.reward for score in scores] == [1, 0, 0, 0]
    assert {score.grader for score in scores} == {f"programs-1 ({level})"}
    assert scores[1].why.startswith("cut off")


def test_another_grader_scores_the_same_samples_apart(level: str, tmp_path: Path) -> None:
    config = Common(runs_dir=str(tmp_path))
    samples = drawn(tmp_path)
    first = scoring.score_samples(TASK, PROBLEMS, samples, config)
    strict = evaluation.outcome(PROBLEMS, samples, first, greedy=False)
    lenient = evaluation.regraded(strict, TASK, PROBLEMS, "programs-apps", config)
    assert strict.correct.tolist() == [[True, False], [False, False]]
    assert lenient.correct.tolist() == [[True, False], [True, False]]
    assert lenient.scores.stage.folder != strict.scores.stage.folder


def test_an_evaluation_can_run_every_test(level: str, tmp_path: Path) -> None:
    config = Common(runs_dir=str(tmp_path))
    samples = drawn(tmp_path)
    first = scoring.score_samples(TASK, PROBLEMS, samples, config)
    found = evaluation.outcome(PROBLEMS, samples, first, greedy=False)
    number = evaluation.tests_passed(found, PROBLEMS, config)
    # p/0: all and, cut off, none; p/1: none and two of three (3 gives "3 2").
    assert number.value == pytest.approx((0.5 + (0 + 2 / 3) / 2) / 2)
    assert (number.metric, number.problems, number.samples) == ("tests passed", 2, 2)


def test_without_a_sandbox_programs_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.level_here.cache_clear()
    monkeypatch.setattr(sandbox, "LEVELS", ())
    samples = drawn(tmp_path)
    try:
        with pytest.raises(UserError, match="apt install bubblewrap"):
            scoring.score_samples(TASK, PROBLEMS, samples, Common(runs_dir=str(tmp_path)))
        unsafe = Common(runs_dir=str(tmp_path), unsafe_programs=True)
        scores = list(scoring.score_samples(TASK, PROBLEMS, samples, unsafe).records(Score))
        assert {score.grader for score in scores} == {"programs-1 (unsafe)"}
    finally:
        sandbox.level_here.cache_clear()


def test_labels_and_answers_have_graders_of_their_own(level: str) -> None:
    names = {name: grader(name).name for name in GRADERS if name != "by-hand"}
    assert len(set(names.values())) == len(names)
    assert [one.verdict for one in grader("labels").grade(["(B)"], ["So the answer is (B)."])] == [
        "correct"
    ]


def test_what_is_graded_by_hand_says_how() -> None:
    with pytest.raises(UserError, match="restem exam sheet"):
        grader("by-hand")
