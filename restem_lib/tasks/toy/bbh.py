"""toy-bbh: twelve kinds of small puzzles, unlike the sums and programs of the toy world; for evaluation only.

The toy world's stand-in for BIG-Bench Hard: does training on one skill cost the others? Each puzzle is asked with
reasoning ("toy-bbh") or directly ("toy-bbh-direct").
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random

from restem_lib.records import Problem
from restem_lib.tasks import Task
from restem_lib.tasks.local import TaskError, mixed
from restem_lib.tasks.toy import (
    Document,
    Drawn,
    for_reading,
    problems,
    puzzles,
    puzzles_people,
    puzzles_words,
)
from restem_lib.tasks.toy.puzzles import Puzzle
from restem_lib.tasks.toy.styles import PUZZLES

DRAWS = puzzles.DRAWS | puzzles_people.DRAWS | puzzles_words.DRAWS
TASKS = tuple(DRAWS)
EACH = 250
"""Test problems of a task."""
TEMPLATES = {
    "toy-bbh": "Q: {question}\nA: Let's think step by step.",
    "toy-bbh-direct": "Q: {question}\nA: The answer is",
}
"""Neither begins the other, or a model could not know that it is asked directly."""
STOP = ("\nQ:",)
DIRECT = 0.45
"""Share of the pretraining text that gives the answer alone."""
SLIPS = 0.15
"""Share of the pretraining text, reasoned and direct, whose answer is wrong."""


def load(name: str = "toy-bbh") -> Task:
    """ "toy-bbh" or "toy-bbh-direct", with ":" and a task for one alone, e.g. "toy-bbh:dates". Raises TaskError."""
    kind, _, part = name.partition(":")
    if kind not in TEMPLATES or (part and part not in TASKS):
        raise TaskError(
            f"no task {name!r}; there are {' and '.join(TEMPLATES)}, "
            f"with one of {', '.join(TASKS)} after a colon or without"
        )
    asked = [mixed(_asked(task)) for task in ([part] if part else TASKS)]
    return Task(
        name=name,
        train=(),
        # In turn, so that the first n problems hold every task as often.
        test=tuple(problem for turn in zip(*asked, strict=True) for problem in turn),
        template=TEMPLATES[kind],
        stop=STOP,
        grader="labels",
        notes=("For evaluation only: there is no train split.",),
        styles=PUZZLES if kind == "toy-bbh" else None,
    )


@cache
def _asked(task: str) -> tuple[Problem, ...]:
    def draw(rng: Random) -> Drawn:
        made = DRAWS[task](rng)
        return Drawn(
            made.form,
            lambda id: Problem(id, made.question, made.answer, made.reasoning, made.level),
        )

    found = problems(f"toy-bbh/{task}", {"test": EACH}, draw)["test"]
    return tuple(
        replace(problem, id=f"toy-bbh/{task}/{number}") for number, problem in enumerate(found)
    )


def document(rng: Random, slips: float = SLIPS) -> Document:
    """A puzzle of the pretraining text and what somebody wrote below it, wrong with the probability `slips`."""
    made = for_reading(rng, DRAWS[rng.choice(TASKS)], _form)
    direct = rng.random() < DIRECT
    wrong = rng.random() < slips
    prompt = TEMPLATES["toy-bbh-direct" if direct else "toy-bbh"].format(question=made.question)
    if direct:
        return prompt, f" {made.mistaken if wrong else made.answer}"
    return prompt, made.slip if wrong else made.reasoning


def _form(made: Puzzle) -> str:
    return made.form
