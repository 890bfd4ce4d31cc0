"""The real benchmarks, where RESTEM_DATA names a folder that holds them: counts, and what a loader must not lose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restem_lib.rewards.answers import grade
from restem_lib.rewards.labels import grade as grade_labels
from restem_lib.rewards.programs import Tests
from restem_lib.tasks import Task, bbh, humaneval, load_task, mbpp
from restem_lib.tasks.local import TaskError
from restem_lib.tasks.overlap import overlaps


def real(name: str, *folders: str) -> Task:
    """The task, or a skipped test."""
    root = os.environ.get("RESTEM_DATA", "")
    for folder in folders or (name,):
        if not root or not (Path(root) / folder).is_dir():
            pytest.skip(f"RESTEM_DATA does not name a folder with {folder}/")
    return load_task(name)


@pytest.fixture
def no_math_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise TaskError("not asked in tests")

    monkeypatch.setattr("restem_lib.tasks.hendrycks_math.hub_rows", refuse)


def test_math500_rewards_its_own_solutions(no_math_on_the_hub: None) -> None:
    task = real("math500")
    assert len(task.test) == 500
    graded = grade([p.answer for p in task.test], [p.solution for p in task.test])
    assert [p.id for p, g in zip(task.test, graded, strict=True) if g.verdict != "correct"] == []
    assert {problem.level for problem in task.test} == {1, 2, 3, 4, 5}


def test_no_solution_of_math500_is_cut_by_a_stop_string(no_math_on_the_hub: None) -> None:
    task = real("math500")
    assert not any(stop in problem.solution for problem in task.test for stop in task.stop)


def test_humaneval_has_164_problems() -> None:
    task = real("humaneval")
    assert len(task.test) == 164
    assert len({problem.id for problem in task.test}) == 164


def test_no_body_of_humaneval_is_cut_by_a_stop_string() -> None:
    task = real("humaneval")
    bodies = [problem.solution for problem in task.test]
    assert [body for body in bodies if any(stop in body for stop in humaneval.STOP)] == []


def test_every_problem_of_humaneval_has_tests_that_call_it() -> None:
    for problem in real("humaneval").test:
        tests = Tests.from_json(problem.answer)
        assert f"check({tests.entry})" in tests.asserts
        assert f"def {tests.entry}(" in tests.before


def test_mbpp_has_374_train_and_500_test_problems_of_974() -> None:
    task = real("mbpp")
    assert (len(task.train), len(task.test), len(mbpp.all_rows())) == (374, 500, 974)


def test_every_problem_of_mbpp_defines_what_its_tests_call() -> None:
    real("mbpp")
    for problem in mbpp.all_rows():
        tests = Tests.from_json(problem.answer)
        assert f"def {tests.entry}" in problem.solution
        assert f"{tests.entry}" in tests.asserts


def test_no_program_of_mbpp_is_cut_by_a_stop_string() -> None:
    task = real("mbpp")
    assert not any(stop in problem.solution for problem in mbpp.all_rows() for stop in task.stop)


def test_bbh_has_6511_questions_in_27_files() -> None:
    task = real("bbh")
    assert len(task.test) == 6511
    assert len(bbh.baseline(task.test)) == 27


def test_no_prompt_of_the_real_bbh_holds_its_canary() -> None:
    task = real("bbh")
    prompts = (task.prompt(problem) for problem in task.test)
    assert not any("canary" in prompt.lower() or "-----" in prompt for prompt in prompts)


def test_eight_files_of_bbh_have_one_target_for_more_than_half() -> None:
    baseline = bbh.baseline(real("bbh").test)
    assert sum(share > 0.5 for share in baseline.values()) == 8


def test_the_examples_of_bbh_are_answered_as_its_grader_reads_them() -> None:
    real("bbh")
    for file in (file for files in bbh.FILES.values() for file in files):
        reasoned, direct = load_task(f"bbh:{file}").prefix, load_task(f"bbh-direct:{file}").prefix
        worked = [block.partition("step by step.")[2] for block in reasoned.split("\n\nQ: ")[1:]]
        bare = [block.rpartition("\nA:")[2] for block in direct.split("\n\nQ: ")[1:]]
        assert len(worked) == len(bare) == 3
        graded = grade_labels([text.strip() for text in bare], worked)
        assert [g.verdict for g in graded] == ["correct"] * 3, file


def test_three_targets_of_bbh_are_no_option_letter() -> None:
    (note,) = [note for note in real("bbh").notes if "option letter" in note]
    assert note.endswith("bbh/movie_recommendation/163, bbh/ruin_names/99, bbh/ruin_names/144.")


def test_the_sample_of_apps_is_introductory_and_has_no_test_problems() -> None:
    task = real("apps", "apps_sample")
    if not any("Only the sample" in note for note in task.notes):
        pytest.skip("there is more than the sample")
    # 50 records of one file and one more of the other; a second one there is in both.
    assert (len(task.train), len(task.test)) == (51, 0)
    kinds = [Tests.from_json(problem.answer).kind for problem in task.train]
    assert (kinds.count("call"), kinds.count("stdin")) == (13, 38)
    assert all(problem.solution for problem in task.train)


def test_real_benchmarks_share_no_question_exactly(no_math_on_the_hub: None) -> None:
    sets = {
        "gsm8k train": real("gsm8k").train,
        "mbpp train": real("mbpp").train,
        "gsm8k test": real("gsm8k").test,
        "math500": real("math500").test,
        "mbpp test": real("mbpp").test,
        "humaneval": real("humaneval").test,
    }
    found = overlaps(sets)
    assert [overlap for overlap in found if overlap.exact] == []
    assert max(overlap.partial for overlap in found) <= 1
