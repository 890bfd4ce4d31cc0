"""toy-math, toy-gsm, toy-exam: right solutions pass reward and step checker, wrong ones never."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib.records import Problem
from restem_lib.rewards import answers
from restem_lib.tasks.toy import (
    Document,
    asking,
    exam,
    fits,
    maths,
    stories,
)
from restem_lib.tasks.toy.plans import Node, Plan, lines, normal_form, operations, results, value
from restem_lib.tasks.toy.solutions import LAYOUTS, Style, write
from restem_lib.tasks.toy.steps import reached, read
from restem_lib.tasks.toy.steps import results as true_results

MATH, TERSE, GSM, EXAM = (
    maths.load(),
    maths.load("toy-math-terse"),
    maths.load_gsm(),
    exam.load(),
)
seeds = st.integers(0, 2**32)
joins = st.sampled_from((0.0, 0.5, 0.7, 1.0))


def right(problem: Problem, text: str) -> bool:
    return answers.grade([problem.answer], [text])[0].verdict == "correct"


# Problems.


def test_sizes_and_prompts() -> None:
    sizes = {task.name: (len(task.train), len(task.test)) for task in (MATH, TERSE, GSM, EXAM)}
    assert sizes == {
        "toy-math": (7_500, 5_000),
        "toy-math-terse": (7_500, 5_000),
        "toy-gsm": (0, 1_319),
        "toy-exam": (0, 660),
    }
    every = [*MATH.train, *MATH.test, *GSM.test, *EXAM.test]
    assert len({problem.id for problem in every}) == len(every)
    assert {problem.level for problem in MATH.test} == {1, 2, 3, 4, 5}
    assert MATH.prompt(MATH.test[0]) == f"Q: {MATH.test[0].question}\nA:"


def test_both_sets_of_human_solutions_are_of_the_same_problems() -> None:
    for full, terse in zip(MATH.train, TERSE.train, strict=True):
        assert (full.id, full.question, full.answer) == (terse.id, terse.question, terse.answer)
    styles = {
        task.name: Counter(read(p, p.solution).style for p in task.train) for task in (MATH, TERSE)
    }
    assert styles["toy-math"].keys() == {"full"}
    assert styles["toy-math-terse"]["terse"] > 0.8 * len(TERSE.train)


@pytest.mark.parametrize("task", [MATH, TERSE, GSM, EXAM], ids=lambda task: task.name)
def test_every_human_solution_is_right_and_its_steps_valid(task: maths.Task) -> None:
    for problem in task.train + task.test:
        assert read(problem, problem.solution)[1:] == (True, "")
        assert fits((task.prompt(problem), problem.solution))
    every = task.train + task.test
    graded = answers.grade([p.answer for p in every], [p.solution for p in every])
    assert {one.verdict for one in graded} == {"correct"}


@pytest.mark.parametrize("task", [MATH, GSM], ids=lambda task: task.name)
def test_luck_is_rare(task: maths.Task) -> None:
    commonest = Counter(problem.answer for problem in task.test).most_common(1)[0][1]
    assert commonest / len(task.test) < 0.03


# Splits.


def arithmetic(problem: Problem) -> tuple[str, ...]:
    """The equations of the human solution, whatever the words: independent of the normal form."""
    found = re.findall(r"([^;\n.]+) = (\d+(?:/\d+)?)", problem.solution.rpartition("####")[0])
    return tuple(
        " ".join(sorted(re.sub("First|Then", "", left).split())) + "=" + right
        for left, right in found
    )


def test_the_same_arithmetic_is_never_in_train_and_test() -> None:
    train = {arithmetic(problem) for problem in MATH.train}
    for task in (MATH, GSM, EXAM):
        shared = [p for p in task.test if len(arithmetic(p)) > 1 and arithmetic(p) in train]
        assert not shared, [p.question for p in shared[:3]]


# Solutions.


def plan_of(seed: int) -> tuple[Plan, str]:
    rng = Random(seed)
    if rng.random() < 0.3:
        words, plan = stories.tell(rng)
        return plan, words
    asked = asking.ask(rng)
    return asked.plan, asking.question(asked, rng)


@settings(max_examples=300, deadline=None)
@given(seeds, joins, joins, st.integers(0, len(LAYOUTS) - 1))
def test_a_solution_is_graded_right_in_every_style(
    seed: int, joined: float, human: float, layout: int
) -> None:
    plan, words = plan_of(seed)
    rng = Random(seed)
    text = write(plan, Style(joined, layout), rng)
    problem = Problem("p", words, str(value(plan)), write(plan, Style(human, 0), rng))
    assert right(problem, text)
    reading = read(problem, text)
    assert reading.valid and reading.style in ("full", "terse")
    assert reading.style == "full" or joined > 0
    bare = write(plan, Style(0.0, 0, bare=True), rng)
    assert right(problem, bare) and read(problem, bare) == ("bare", False, "no steps")


@settings(max_examples=300, deadline=None)
@given(seeds, st.sampled_from((0.0, 0.5, 1.0)))
def test_a_solution_with_a_slip_is_never_right(seed: int, joined: float) -> None:
    plan, words = plan_of(seed)
    rng = Random(seed)
    for bare in (False, True):
        text = write(plan, Style(joined, rng.randrange(3), bare), rng, slip=True)
        problem = Problem("p", words, str(value(plan)), write(plan, Style(0.0, 0), rng))
        assert not right(problem, text)


@settings(max_examples=300, deadline=None)
@given(seeds, st.integers(0, 100), st.integers(1, 9))
def test_a_perturbed_number_never_passes_both(seed: int, where: int, by: int) -> None:
    plan, words = plan_of(seed)
    text = write(plan, Style(0.0, 0), Random(seed))
    problem = Problem("p", words, str(value(plan)), text)
    found = list(re.finditer(r"\d+", text))
    spot = found[where % len(found)]
    changed = text[: spot.start()] + str(int(spot[0]) + by) + text[spot.end() :]
    line = re.split("[;\n]", text[: spot.start()])[-1] + re.split("[;\n]", text[spot.start() :])[0]
    # 0 * 7 = 0, and 21 mod 9 = 12 mod 9: such lines are true with other numbers too, which may be known ones.
    if not re.search(r" mod |gcd| [*/] .* = 0$", line):
        assert not (right(problem, changed) and read(problem, changed).valid)


LONG = "9" * 5_000
"""More digits than Python reads."""


def test_the_checker_sees_what_is_wrong() -> None:
    problem = Problem(
        "p", "What is 3 times 2, and 8 more?", "14", " 3 * 2 = 6; 6 + 8 = 14\n#### 14"
    )
    cases = {
        " 3 * 2 = 6; 6 + 8 = 14\n#### 14": "",
        " 8 + 3 * 2 = 14\n#### 14": "",
        "\n3 * 2 = 6\n8 + 6 = 14\n#### 14": "",
        " First 3 * 2 = 6. Then 6 + 8 = 14.\n#### 14": "",
        " 3 * 2 = 7; 7 + 8 = 14\n#### 14": "3 * 2 = 7 is not true",
        " 3 * 2 = 6; 6 + 8 = 15\n#### 14": "6 + 8 = 15 is not true",
        " 7 + 7 = 14\n#### 14": "7 in 7 + 7 = 14 comes from nowhere",
        " 3 * 2 = 6\n#### 14": "the last line does not give the answer",
        " 14 = 14\n#### 14": "'14 = 14' is no line",
        " obviously\n#### 14": "'obviously' is no line",
        "\n#### 14": "no steps",
        " 3 * 2 = 6; 6 + 8 = 14": "no steps",
        " 8 / 0 = 14\n#### 14": "'8 / 0 = 14' is no line",
        " (8 = 14\n#### 14": "'(8 = 14' is no line",
        " 3 * 2 = 6/0\n#### 14": "'3 * 2 = 6/0' is no line",
        f" {'(' * 90}8{')' * 90} = 14\n#### 14": "no line",
        f" {'8 + ' * 5_000}8 = 14\n#### 14": "no line",
        " 5/00 + 8 = 14\n#### 14": "'5/00 + 8 = 14' is no line",
        " 3 * 2 = 5/00; 6 + 8 = 14\n#### 14": "'3 * 2 = 5/00' is no line",
        " 3 * 2 = 6; 6 + 8 = 14\n#### 5/00": "the last line does not give the answer",
        f" {LONG} + 8 = 14\n#### 14": "is no line",
        f" 3 * 2 = 6; 6 + 8 = 14\n#### {LONG}": "the last line does not give the answer",
        " \u0663 * 2 = 6; 6 + 8 = 14\n#### 14": "is no line",
        # The human solution works out 6 and 14: they are known to nobody else.
        " 14 + 8 - 8 = 14\n#### 14": "14 in 14 + 8 - 8 = 14 comes from nowhere",
        " 14 * 2 = 28; 28 / 2 = 14\n#### 14": "14 in 14 * 2 = 28 comes from nowhere",
        " 6 + 8 = 14\n#### 14": "6 in 6 + 8 = 14 comes from nowhere",
    }
    for text, why in cases.items():
        reading = read(problem, text)
        assert why in reading.why and reading.valid == (why == ""), (text[:60], reading)


def test_what_is_worked_out_is_true_and_from_known_numbers() -> None:
    problem = Problem(
        "p", "What is 3 times 2, and 8 more?", "14", " 3 * 2 = 6; 6 + 8 = 14\n#### 14"
    )
    cases: dict[str, tuple[list[int], set[int]]] = {
        " 3 * 2 = 6; 6 + 8 = 15; 6 + 2 = 8\n#### 8": ([6, 8], {6, 8}),
        " 6 + 0 = 6; 14 + 0 = 14\n#### 3": ([6, 14], set()),
        " 5/00 + 8 = 14; 3 * 2 = 6/0; 3 * 2 = 6\n#### 3": ([6], {6}),
        f" {LONG} - 8 = 6; 3 + 2 = {LONG}; 3 * 2 = 6\n#### 3": ([6], {6}),
        " 3 * 2 = 6": ([], set()),
    }
    for text, (true, reached_) in cases.items():
        assert true_results(text) == true and reached(problem, text) == reached_


def test_full_and_terse_solutions_are_valid_beside_each_other() -> None:
    for full, terse in zip(MATH.train, TERSE.train, strict=True):
        assert read(full, terse.solution).valid and read(terse, full.solution).valid


def test_the_answer_taken_for_given_seldom_passes() -> None:
    """Only where it is among the numbers of the question, or one that the world supplies."""
    passed = 0
    for problem in MATH.test:
        a, n = problem.answer, re.findall(r"\d+(?:/\d+)?", problem.question)[0]
        passed += read(problem, f" {a} + {n} - {n} = {a}\n#### {a}").valid
    assert 0 < passed < 0.05 * len(MATH.test)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789+-*/(),.;=# \ngcdmoFirstThen", max_size=200))
def test_the_checker_reads_anything(text: str) -> None:
    problem = Problem("p", "What is 3 times 2?", "6", " 3 * 2 = 6\n#### 6")
    assert read(problem, text).style in ("full", "terse", "bare", "other")


@given(seeds)
@settings(max_examples=200, deadline=None)
def test_lines_agree_with_the_plan(seed: int) -> None:
    plan, _ = plan_of(seed)
    told = lines(plan, lambda node: False, euclid=False)
    assert [line.result for line in told] == list(results(plan))
    assert len(told) == operations(plan) and told[-1].result == value(plan)
    one = lines(plan, lambda node: True, euclid=False)
    assert len(one) == 1 and one[0].result == value(plan)


def test_normal_forms_forget_order_and_grouping_and_nothing_else() -> None:
    a = Node("+", Node("*", 3, 2), 8)
    same = [
        Node("+", 8, Node("*", 2, 3)),
        Node("-", Node("+", Node("*", 3, 2), 10), 2),
    ]
    assert normal_form(a) == normal_form(same[0]) != normal_form(same[1])
    left, right_ = Node("-", Node("+", 9, 4), 2), Node("+", Node("-", 9, 2), 4)
    assert normal_form(left) == normal_form(right_)
    assert normal_form(Node("-", 9, Node("-", 4, 2))) != normal_form(Node("-", Node("-", 9, 4), 2))
    assert normal_form(Node("gcd", 4, 6)) == normal_form(Node("gcd", 6, 4))
    assert normal_form(Node("mod", 4, 6)) != normal_form(Node("mod", 6, 4))


@pytest.mark.parametrize("draw", [maths.document, maths.gsm_document, exam.document])
def test_a_maths_document_is_wrong_if_it_has_a_slip(
    draw: Callable[[Random, float], Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []

    def watched(words: str, plan: Plan, *rest: Any) -> Document:
        plans.append(plan)
        return read_about(words, plan, *rest)

    read_about = maths.read_about
    for module in (maths, exam):
        monkeypatch.setattr(module, "read_about", watched)
    rng = Random(6)
    untrue = 0
    for slips in (0.0, 1.0):
        for _ in range(500):
            _, completion = draw(rng, slips)
            told, _, answer = completion.rpartition("\n#### ")
            lines_ = re.findall(r"= (\d+(?:/\d+)?)", told)
            assert (answer == str(value(plans[-1]))) == (slips == 0.0)
            assert not lines_ or lines_[-1] == answer
            wrong = len(true_results(completion)) < len(lines_)
            assert not wrong or slips
            untrue += wrong
    assert untrue > 100 and len(plans) == 1_000


# The exam.


def test_forms_are_of_33_questions_and_100_points() -> None:
    assert sum(exam.POINTS) == 100 and len(exam.POINTS) == len(exam.LEVELS) == exam.QUESTIONS == 33
    full = {problem.id: exam.points(problem, problem.solution, True) for problem in EXAM.test}
    assert exam.by_form(full) == [100] * exam.FORMS
    nothing = {problem.id: exam.points(problem, "\n#### 7", False) for problem in EXAM.test}
    assert exam.by_form(nothing) == [0] * exam.FORMS
    assert exam.by_form(dict(list(full.items())[:40])) == [100]


def test_right_steps_earn_part_of_the_points() -> None:
    problem = next(p for p in EXAM.test if len(true_results(p.solution)) >= 4)
    worth = exam.points(problem, problem.solution, True)
    wrong_end = re.sub(r"#### .*", "#### 999999", problem.solution)
    assert exam.points(problem, wrong_end, False) == worth - 1
    assert 0 <= exam.points(problem, " 1 + 1 = 2\n#### 3", False) < worth - 1


def points_of(text: Callable[[Problem], str]) -> float:
    """The mean points of a form where every question is answered so, and wrong."""
    given = {p.id: exam.points(p, f" {text(p)}\n#### 0", False) for p in EXAM.test}
    return sum(exam.by_form(given)) / exam.FORMS


def test_lines_without_a_plan_earn_little() -> None:
    def neighbours(problem: Problem) -> str:
        numbers = list(dict.fromkeys(map(int, re.findall(r"\d+", problem.question))))
        return "; ".join(
            f"{a} + {b} = {a + b}; {a} * {b} = {a * b}; {max(a, b)} - {min(a, b)} = {abs(a - b)}"
            for a, b in pairwise(numbers)
        )

    assert points_of(lambda p: "; ".join(f"{n} + 0 = {n}" for n in range(1, 21))) == 0
    assert points_of(lambda p: "; ".join(f"{n} + 1 = {n + 1}" for n in range(1, 40))) < 8
    assert points_of(neighbours) < 15
    assert points_of(lambda p: p.solution.rpartition("\n####")[0]) > 60
