"""toy-math, toy-gsm, toy-exam: right solutions pass reward and step checker, wrong ones never; splits share nothing."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib.records import Problem
from restem_lib.rewards import answers
from restem_lib.tasks.toy import (
    exam,
    fits,
    for_reading,
    maths,
    split_of,
    stories,
    subjects,
)
from restem_lib.tasks.toy.plans import Node, Plan, lines, normal_form, operations, results, value
from restem_lib.tasks.toy.solutions import LAYOUTS, Style, write
from restem_lib.tasks.toy.steps import read
from restem_lib.tasks.toy.steps import results as true_results

MATH, TERSE, GSM, EXAM = (
    maths.load(),
    maths.load("toy-math-terse"),
    maths.load_gsm(),
    exam.load(),
)
seeds = st.integers(0, 2**32)


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


def test_the_same_problems_for_ever() -> None:
    asked = [*MATH.train[:50], *MATH.test[:50], *TERSE.train[:50], *GSM.test[:50], *EXAM.test[:50]]
    text = "\n".join(f"{p.id} {p.question} {p.answer} {p.solution}" for p in asked)
    assert sha256(text.encode()).hexdigest()[:16] == "397c821e20f40e32"


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
    few = (task.train + task.test)[::7]
    graded = answers.grade([p.answer for p in few], [p.solution for p in few])
    assert {one.verdict for one in graded} == {"correct"}


@pytest.mark.parametrize("task", [MATH, GSM], ids=lambda task: task.name)
def test_luck_is_rare(task: maths.Task) -> None:
    commonest = Counter(problem.answer for problem in task.test).most_common(1)[0][1]
    assert commonest / len(task.test) < 0.03


# Splits.


def test_every_split_holds_its_own_forms_only() -> None:
    """Replays the generators and looks at the plans behind the words."""
    forms: dict[str, str] = {}

    def recorded(rng: Random) -> subjects.Asked:
        asked = subjects.ask(rng)
        forms[subjects.question(asked, Random(rng.random()))] = normal_form(asked.plan)
        return asked

    rng = Random(3)
    reading = [for_reading(rng, recorded, lambda one: normal_form(one.plan)) for _ in range(2_000)]
    assert {split_of(normal_form(one.plan)) for one in reading} == {"pretraining"}
    counts = Counter(map(split_of, forms.values()))
    assert counts["pretraining"] > counts["train"] > 0 < counts["test"]


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
    asked = subjects.ask(rng)
    return asked.plan, subjects.question(asked, rng)


@settings(max_examples=300, deadline=None)
@given(seeds, st.sampled_from((0.0, 0.5, 0.7, 1.0)), st.integers(0, len(LAYOUTS) - 1))
def test_a_solution_is_graded_right_in_every_style(seed: int, joined: float, layout: int) -> None:
    plan, words = plan_of(seed)
    rng = Random(seed)
    text = write(plan, Style(joined, layout), rng)
    problem = Problem("p", words, str(value(plan)), write(plan, Style(0.0, 0), rng))
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
    passes = right(problem, changed) and read(problem, changed).valid
    # 0 * 7 = 0 and 9 mod 12 = 9 hold for other numbers too; such a number must then be one of the question's.
    if passes:
        numbers = {Fraction(n) for n in re.findall(r"\d+(?:/\d+)?", words + text)}
        assert Fraction(int(spot[0]) + by) in numbers or "/" in text


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
    }
    for text, why in cases.items():
        reading = read(problem, text)
        assert why in reading.why and reading.valid == (why == ""), (text[:60], reading)


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


def test_without_slips_every_maths_document_is_right() -> None:
    for draw in (maths.document, maths.gsm_document, exam.document):
        rng = Random(6)
        wrong = 0
        for slips in (0.0, 1.0):
            for _ in range(300):
                _, completion = draw(rng, slips)
                told = completion.rpartition("####")[0]
                answer = completion.rpartition("#### ")[2]
                last = re.findall(r"= (\d+(?:/\d+)?)", told)
                assert not last or last[-1] == answer
                wrong += len(true_results(completion)) < len(last) if slips else 0
                if not slips:
                    assert len(true_results(completion)) == len(last)
        assert wrong > 50


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
