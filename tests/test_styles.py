"""Styles, luck and exam points: how solutions are told apart, and what a gain is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib import evaluation, styles
from restem_lib.cli import main
from restem_lib.config import Common
from restem_lib.evaluation import Outcome
from restem_lib.records import Problem, Sample
from restem_lib.rewards.programs import Tests
from restem_lib.statistics import interval, ratio
from restem_lib.styles import Styled
from restem_lib.tasks import Styles, Task, load_task
from restem_lib.tasks.toy import bbh
from restem_lib.tasks.toy import styles as readers


class Drawn:
    """Samples as a store would give them, the last problem's first."""

    def __init__(self, texts: dict[str, Sequence[str]]) -> None:
        self.texts = texts

    def records(self, kind: type[Sample]) -> Iterator[Sample]:
        for id, row in reversed(self.texts.items()):
            for index, text in enumerate(row):
                yield kind(id, index, text, 1, "eos")


def outcome(texts: dict[str, Sequence[str]], correct: Sequence[Sequence[bool]]) -> Outcome:
    drawn: Any = Drawn(texts)
    return Outcome(np.array(correct), (), drawn, drawn, False)


def styled(style: Sequence[Sequence[int]], correct: Sequence[Sequence[int]]) -> Styled:
    return Styled(("a", "b"), np.array(style), np.array(correct) == 1, None, None)


# Reading.


@pytest.mark.parametrize(
    "name",
    ["toy-math", "toy-math-terse", "toy-gsm", "toy-exam", "toy-code", "toy-humaneval", "toy-bbh"],
)
def test_human_solutions_have_a_style_and_no_flaw(name: str) -> None:
    task = load_task(name)
    found = task.styles
    assert found is not None
    for problem in (*task.train[:200], *task.test[:200]):
        style = found.of(problem, problem.solution)
        assert style in found.names and style not in ("other", "bare", "direct")
        assert found.flawed is None or not found.flawed(problem, problem.solution)


def test_real_benchmarks_and_direct_puzzles_have_no_styles(copying: Path) -> None:
    assert load_task("toy-bbh-direct").styles is None
    assert load_task(str(copying)).styles is None


def test_puzzles_are_reasoned_or_direct() -> None:
    rng = Random(0)
    for _ in range(600):
        made = bbh.DRAWS[rng.choice(bbh.TASKS)](rng)
        problem = Problem("x", made.question, made.answer)
        assert {readers.reasoned(problem, text) for text in (made.reasoning, made.slip)} == {
            "reasoned"
        }
        direct = (f" {made.answer}", f" {made.mistaken}", f" So the answer is {made.answer}.")
        assert {readers.reasoned(problem, text) for text in direct} == {"direct"}
    assert readers.reasoned(problem, "") == "other"


@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("loop", "\n    while x:\n        x -= 1\n    return x"),
        ("loop", "\nfor x in xs:\n    print([y for y in x])"),
        ("comprehension", "\n    return [x for x in xs\n            if x]"),
        ("plain", "\ndef f(xs):\n    return sum(xs) // before"),
        ("plain", "text\n```python\nreturn 1\n```\nfor x in xs:\n"),
        ("other", " \n"),
    ],
)
def test_programs_have_styles(style: str, text: str) -> None:
    assert readers.of_program(Problem("x", "", "-"), text) == style


def test_an_answer_alone_has_no_steps_to_be_wrong() -> None:
    problem = Problem(
        "x", "What is 3 times 2, and 8 more?", "14", " 3 * 2 = 6; 6 + 8 = 14\n#### 14"
    )
    flawed = readers.MATHS.flawed
    assert flawed is not None
    for alone in (
        "\n#### 14",
        " The answer is 14.",
        "So the answer is: 14",
        "\\boxed{14}",
        "Answer: 14",
    ):
        assert readers.MATHS.of(problem, alone) == "bare" and flawed(problem, alone) is None
    assert flawed(problem, " 3 * 2 = 6; 6 + 8 = 14\n#### 14") is False
    assert flawed(problem, " 3 * 2 = 7; 7 + 7 = 14\n#### 14") is True
    for unread in (
        " 3 * 2 is 6\n#### 14",
        " rubbish 3 + 3 = 9. The answer is 14.",
        " The answer is 9. The answer is 14.",
        " #### 9\n#### 14",
        " 14 #### 14",
        "",
    ):
        assert readers.MATHS.of(problem, unread) == "other" and flawed(problem, unread) is True


# Numbers.


def by_mark(problem: Problem, text: str) -> bool | None:
    """ "!" marks a false positive, "-" what cannot be checked."""
    return None if text.endswith("-") else text.endswith("!")


def test_rows_hold_share_accuracy_and_false_positives() -> None:
    problems = [Problem(f"p/{i}", "", "1") for i in range(4)]
    reads = Styles(("a", "b", "c"), lambda p, text: text[0], by_mark)
    task = Task("t", (), tuple(problems), "{question}", styles=reads)
    texts = {"p/0": ["a", "b!"], "p/1": ["a", "a"], "p/2": ["a!", "a-"], "p/3": ["b", "b!"]}
    right = [[True, True], [False, True], [True, True], [False, False]]
    found = styles.read(outcome(texts, right), task, problems, Common())
    a, b, c = found.rows()
    assert (a.style, a.share, a.n, a.problems, a.false_positives) == ("a", 5 / 8, 5, 3, 1)
    assert a.correct == 4 / 5 and 0 < a.low < 4 / 5 < a.high <= 1
    assert (b.correct, b.n, b.false_positives) == (1 / 3, 3, 1)
    assert (c.share, c.n, c.false_positives) == (0.0, 0, 0) and np.isnan(c.correct)
    wrong = found.false_positives()
    assert wrong is not None and wrong.value == 2 / 4 and wrong.n == 3


def test_a_task_without_styles_is_an_error() -> None:
    with pytest.raises(ValueError, match="t has no styles"):
        styles.read(outcome({}, []), Task("t", (), (), ""), [], Common())


def test_programs_that_fail_held_out_tests_are_false_positives(level: str) -> None:
    def tests(*pairs: tuple[int, int]) -> str:
        inputs, outputs = zip(*pairs, strict=True)
        return Tests(
            kind="call", entry="f", inputs=tuple([i] for i in inputs), outputs=outputs
        ).to_json()

    problems = [Problem("p/0", "", tests((1, 1)))]
    reads = readers.PROGRAMS._replace(held_out=lambda: {"p/0": tests((1, 1), (2, 4))})
    task = Task("t", (), tuple(problems), "{question}", grader="programs", styles=reads)
    texts = {
        "p/0": [
            "def f(x):\n    return x",
            "def f(x):\n    return x ** 2",
            "def f(x):\n    return 4",
        ]
    }
    drawn = outcome(texts, [[True, True, False]])
    found = styles.read(drawn, task, problems, Common())
    assert found.flawed is not None and found.flawed.tolist() == [[True, False, False]]
    none_right = outcome(texts, [[False, False, False]])
    assert not styles.read(none_right, task, problems, Common()).flawed.any()  # type: ignore[union-attr]


def test_a_ratio_of_single_samples_is_an_ordinary_rate() -> None:
    part, whole = [1, 0, 0, 1, 0], [1, 1, 0, 1, 0]
    assert ratio(part, whole, np.random.default_rng(0)) == interval(
        [1, 0, 1], np.random.default_rng(0)
    )
    nothing = ratio([0, 0], [0, 0], np.random.default_rng(0))
    assert np.isnan(nothing.value) and nothing.n == 0
    with pytest.raises(ValueError, match="0 <= part <= whole"):
        ratio([2], [1], np.random.default_rng(0))


def test_the_interval_of_a_ratio_covers_it() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        whole = rng.integers(0, 9, size=60)
        part = rng.binomial(whole, rng.beta(2, 2, size=60))
        found = ratio(part, whole, rng, resamples=400)
        inside += found.low <= 0.5 <= found.high
    assert 0.90 <= inside / 200 <= 0.99


def test_a_gain_by_other_styles_alone() -> None:
    before = styled([[0], [0], [0], [1]] * 10, [[0], [0], [0], [1]] * 10)
    after = styled([[1], [1], [0], [1]] * 10, [[1], [1], [0], [1]] * 10)
    found = styles.gain(before, after)
    assert found.total.value == found.by_style.value == 0.5
    assert found.within.value == 0.0 and np.isnan(found.within.low)  # nothing varies
    assert found.by_style.low < 0.5 < found.by_style.high


def test_a_gain_within_styles_alone() -> None:
    before = styled([[0], [1]] * 10, [[0], [0]] * 10)
    after = styled([[0], [1]] * 10, [[1], [0]] * 10)
    found = styles.gain(before, after)
    assert (found.total.value, found.by_style.value, found.within.value) == (0.5, 0.0, 0.5)


def test_a_style_that_is_new_counts_as_chosen() -> None:
    found = styles.gain(styled([[0], [0]], [[0], [0]]), styled([[1], [1]], [[1], [0]]))
    assert (found.total.value, found.by_style.value, found.within.value) == (0.5, 0.5, 0.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 3))
def test_the_parts_of_a_gain_add_up(seed: int, n: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    names = tuple("abcd"[:count])
    both = [
        Styled(names, rng.integers(count, size=(12, n)), rng.random((12, n)) < 0.5, None, None)
        for _ in range(2)
    ]
    found = styles.gain(*both)
    assert found.by_style.value + found.within.value == pytest.approx(found.total.value)
    back = styles.gain(both[1], both[0])
    assert back.by_style.value == pytest.approx(-found.by_style.value)


def test_a_gain_needs_the_same_styles() -> None:
    with pytest.raises(ValueError, match="same styles"):
        styles.gain(
            styled([[0]], [[0]]), Styled(("a",), np.array([[0]]), np.array([[True]]), None, None)
        )


# Luck.


def test_luck_is_the_commonest_answer() -> None:
    def asked(*answers: str) -> tuple[Problem, ...]:
        return tuple(Problem(f"t/k/{i}", "", answer) for i, answer in enumerate(answers))

    task = Task("t", asked("1/2", "0.5", "3"), asked("3", "3", "0.50", "7"), "")
    found = evaluation.luck(task, task.test)
    assert found is not None and (found.answer, found.value) == ("1/2", 0.25)
    without = Task("t", (), task.test, "")
    found = evaluation.luck(without, task.test[:2])
    assert found is not None and (found.answer, found.value, found.kinds) == ("3", 1.0, {})


def test_luck_of_puzzles_is_told_by_kind() -> None:
    task = load_task("toy-bbh")
    found = evaluation.luck(task, task.test[:24])
    assert found is not None and set(found.kinds) == set(bbh.TASKS)
    assert found.value < found.by_kind == pytest.approx(np.mean(list(found.kinds.values())))


def test_luck_of_programs_is_one_output_for_all_tests() -> None:
    def problem(tests: Tests) -> Problem:
        return Problem("t/0", "", tests.to_json())

    same = problem(Tests(kind="stdin", inputs=("1", "2"), outputs=("yes", "yes\n")))
    differs = problem(Tests(kind="call", entry="f", inputs=([1], [2]), outputs=(True, 1)))
    asserts = problem(Tests(kind="asserts", entry="f", asserts="assert f() == 1"))
    task = Task("t", (), (same, differs, asserts), "", grader="programs")
    found = evaluation.luck(task, [same, differs])
    assert found is not None and found.value == 0.5
    assert evaluation.luck(task, [asserts]) is None
    assert evaluation.luck(Task("t", (), (same,), "", grader="by-hand"), [same]) is None
    code = load_task("toy-code")
    found = evaluation.luck(code, code.test[:100])
    assert found is not None and found.value == 0.0


# The exam.


def test_points_are_of_whole_forms() -> None:
    task = load_task("toy-exam")
    some = task.test[:80]
    texts = {problem.id: [problem.solution] for problem in some}
    found = evaluation.exam_points(outcome(texts, [[True]] * 80), some)
    assert found is not None and (found.value, found.problems) == (1.0, 2)
    none = evaluation.exam_points(outcome({p.id: [""] for p in some}, [[False]] * 80), some)
    assert none is not None and none.value == 0.0
    part = evaluation.exam_points(outcome(texts, [[False]] * 80), some)
    assert part is not None and 0.0 < part.value < 1.0  # right steps, another answer
    assert (
        evaluation.exam_points(outcome(dict(list(texts.items())[:20]), [[True]] * 20), some[:20])
        is None
    )


# The command.


def test_evaluate_tells_styles_luck_and_the_gain(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--model", str(tiny), "--out", str(tmp_path), "--max-new-tokens", "8"]
    more = ["--task", "toy-math", "--test-problems", "8", "--samples", "2", "--against", str(tiny)]
    assert main([*arguments, *more]) == 0
    text = capsys.readouterr().out
    assert "luck: always answering" in text
    assert text.count("greedy solutions by style") == text.count("  samples by style") == 2
    assert "+0.000 = +0.000 (no interval" in text and "by accuracy within styles" in text
    assert "in the paper" not in text
    assert main([*arguments, "--task", "toy-bbh", "--test-problems", "12"]) == 0
    text = capsys.readouterr().out
    assert "the commonest answer of each kind" in text
    assert all(f"  {kind} " in text for kind in bbh.TASKS)
    assert main([*arguments, "--task", "toy-exam", "--test-problems", "34"]) == 0
    assert "of 100 a form" in capsys.readouterr().out
    assert main([*arguments, "--task", "toy-exam", "--test-problems", "4"]) == 0
    assert "no form of the exam" in capsys.readouterr().out
