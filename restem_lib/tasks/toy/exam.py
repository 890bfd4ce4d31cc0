"""toy-exam, which stands in for the Hungarian exam: 20 forms of 33 questions and 100 points, graded by a rubric.

The skills are those of toy-math, the wording is an examiner's: "Let a be the sum of 4 and 9. Let b be a times 3.
Determine b." A right answer earns a question's points; a wrong one earns part of them for right steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from random import Random

from restem_lib.records import Problem
from restem_lib.tasks import Task
from restem_lib.tasks.toy import Document, Drawn, fits, for_reading, problems
from restem_lib.tasks.toy.asking import Asked, ask
from restem_lib.tasks.toy.maths import SLIPS, TEMPLATE, problem, read_about
from restem_lib.tasks.toy.plans import normal_form
from restem_lib.tasks.toy.solutions import Style, write
from restem_lib.tasks.toy.steps import reached, results
from restem_lib.tasks.toy.styles import MATHS

FORMS, QUESTIONS = 20, 33
POINTS = (2,) * 16 + (3,) * 7 + (4,) * 6 + (5, 6, 6, 6)
"""Of the questions of a form: 100 in all, more for harder ones."""
LEVELS = (1,) * 8 + (2,) * 8 + (3,) * 7 + (4,) * 6 + (5,) * 4
"""Of the questions of a form."""
LET = {
    "+": ("{0} plus {1}", "the sum of {0} and {1}"),
    "-": ("{0} minus {1}", "{0} less {1}"),
    "*": ("{0} times {1}", "the product of {0} and {1}"),
    "/": ("{0} over {1}", "the quotient of {0} and {1}"),
}
END = ("Determine {}.", "Give the value of {}.")


@cache
def load() -> Task:
    """The forms, one after the other; ids are "toy-exam/FORM/NUMBER"."""
    drawn = {
        level: iter(_questions(level, FORMS * LEVELS.count(level))) for level in sorted({*LEVELS})
    }
    asked = [
        replace(next(drawn[level]), id=f"toy-exam/{form}/{number}")
        for form in range(1, FORMS + 1)
        for number, level in enumerate(LEVELS, 1)
    ]
    return Task("toy-exam", (), tuple(asked), TEMPLATE, styles=MATHS)


def points(problem: Problem, text: str, right: bool) -> int:
    """What the rubric gives for a solution: all points where it is right, else some for right steps.

    Of the results that the reference solution works out on the way, the share that this one reaches, by true lines with
    numbers that they may use (`steps.reached`), earns that share of all points but one, rounded down. Lines without a
    plan earn something too, where they meet such a result: of a form's 100 points the sums, differences and products of
    neighbouring numbers of the question earn 13, the text "1 + 1 = 2; 2 + 1 = 3; ..." 7, "1 + 0 = 1; ..." none.
    """
    worth = POINTS[int(problem.id.rpartition("/")[2]) - 1]
    if right:
        return worth
    wanted = {*results(problem.solution)[:-1]}
    return (worth - 1) * len(wanted & reached(problem, text)) // len(wanted) if wanted else 0


def by_form(given: Mapping[str, int]) -> list[int]:
    """Problem id -> points, as the total of each form that is there in full, of 100."""
    totals: dict[str, list[int]] = {}
    for id, earned in given.items():
        totals.setdefault(id.split("/")[1], []).append(earned)
    return [sum(earned) for earned in totals.values() if len(earned) == QUESTIONS]


def document(rng: Random, slips: float = SLIPS) -> Document:
    """An examiner's question with a solution as people of the toy world write it."""
    asked = for_reading(rng, ask, lambda one: normal_form(one.plan))
    return read_about(_worded(asked, rng), asked.plan, asked.subject, rng, slips)


def _questions(level: int, n: int) -> tuple[Problem, ...]:
    def draw(rng: Random) -> Drawn:
        asked = ask(rng, (level,))
        words = _worded(asked, rng)
        while not fits(
            (TEMPLATE.replace("{question}", words), write(asked.plan, Style(0.0, 1), rng))
        ):
            asked = ask(rng, (level,))
            words = _worded(asked, rng)
        return Drawn(normal_form(asked.plan), lambda id: problem(id, words, asked.plan, level))

    return problems(f"toy-exam/{level}", {"test": n}, draw)["test"]


def _worded(asked: Asked, rng: Random) -> str:
    names = iter("abcdefg")
    name = next(names)
    told = [f"Let {name} be {asked.phrase}."]
    for op, by in asked.moves:
        phrase = rng.choice(LET[op]).format(name, by)
        name = next(names)
        told.append(f"Let {name} be {phrase}.")
    return " ".join([*told, rng.choice(END).format(name)])
