"""toy-code, which stands in for APPS introductory: a sentence asks for a function or a program, tests are the reward.

The base models read such sentences with programs of several manners, some with a slip (`document`). What is rare there
is as frequent as anything in the problems, so a base model solves some of them often and others hardly ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Any

from restem_lib.records import Problem
from restem_lib.rewards.programs import Tests, same_text
from restem_lib.tasks import Task
from restem_lib.tasks.toy import (
    Document,
    Drawn,
    fits,
    functions,
    problems,
)
from restem_lib.tasks.toy.functions import Spec
from restem_lib.tasks.toy.neighbours import telling
from restem_lib.tasks.toy.slips import slip
from restem_lib.tasks.toy.styles import PROGRAMS
from restem_lib.tasks.toy.writing import NAMES, STYLES, function, program, wording

TEMPLATE = "Task: {question}\nCode:"
TRAIN, TEST = 2_342, 1_000
VISIBLE, NEAR = 4, 4
"""Tests of a problem that are its reward, and held-out ones at its own edges beside those that all functions share."""
LEVELS = (1, 2, 3, 3, 2)
"""How frequent each level is among the problems, from 1."""
READ_LEVELS = (3, 3, 2, 1, 0.5)
"""The same in the pretraining text."""
RARITY = 1.5
"""In that text the r-th operation of a table has a weight of r to the power of minus this; in problems all weigh 1."""
BUGGY = 0.35
"""Share of programs in that text that are to have a slip; a fifth of these have none, for want of one to make."""
STDIN = 0.3
"""Share of programs that read and print, where the input can be read from a line."""
ENTRIES = ("f", "g", "solve", "pick", "work", "compute", "find", "answer")
LARGEST = 10**9
"""No number in a visible test is larger."""
INPUT = {
    "numbers": "a line of whole numbers {a}",
    "number": "a whole number {a}",
    "pair": "two whole numbers {a} and {b}",
    "text": "a line of text {a}",
}


@cache
def load() -> Task:
    """2,342 train and 1,000 test problems, always the same."""
    return _made()[0]


@cache
def held_out() -> dict[str, str]:
    """Problem id -> 21 to 28 tests on other arguments, edge cases among them: what passes the visible ones may fail."""
    task, specs = _made()
    return {p.id: _hidden(p, specs[p.id]) for p in (*task.train, *task.test)}


@cache
def _made() -> tuple[Task, dict[str, Spec]]:
    """The task, and problem id -> its function."""
    specs: dict[str, Spec] = {}

    def draw(rng: Random) -> Drawn:
        spec, question, completion, tests = _drawn(rng)

        def problem(id: str) -> Problem:
            specs[id] = spec
            return Problem(id, question, tests.to_json(), completion, spec.level)

        return Drawn(functions.form(spec), problem)

    splits = problems("toy-code", {"train": TRAIN, "test": TEST}, draw)
    styles = PROGRAMS._replace(held_out=held_out)
    return Task(
        "toy-code", splits["train"], splits["test"], TEMPLATE, grader="programs", styles=styles
    ), specs


def _drawn(rng: Random) -> tuple[Spec, str, str, Tests]:
    """A function, a question for it, a program that is not too long, and tests that tell something."""
    while True:
        spec = functions.draw(rng, 0, LEVELS, ("train", "test"))
        question, completion, entry = asked(spec, spec, rng)
        tests = made_tests(spec, entry, VISIBLE, rng)
        if tests and fits((TEMPLATE.replace("{question}", question), completion)):
            return spec, question, completion, tests


def asked(spec: Spec, written: Spec, rng: Random) -> tuple[str, str, str]:
    """A question for a function, a program of another (or the same), and the entry, "" if it reads and prints."""
    takes = spec.source.takes
    names, style = rng.choice(NAMES[takes]), rng.choice(STYLES)
    if takes in INPUT and rng.random() < STDIN:
        read = INPUT[takes].format(a=names[0], b=names[-1])
        question = f"Read {read} and {wording(spec, names, rng, 'print')}."
        return question, "\n" + program(written, names, style, rng), ""
    entry = rng.choice(ENTRIES)
    question = f"Write {entry}({', '.join(names)}) to {wording(spec, names, rng)}."
    return question, "\n" + function(written, entry, names, style, rng), entry


def document(rng: Random, buggy: float = BUGGY) -> Document:
    """A task as those of toy-code with a program as people of the toy world write it."""
    while True:
        spec = functions.draw(rng, RARITY, READ_LEVELS, ("pretraining",))
        slipped = slip(spec, rng) if rng.random() < buggy else None
        question, completion, _ = asked(spec, slipped or spec, rng)
        written = TEMPLATE.replace("{question}", question), completion
        if fits(written):
            return written


# Tests.


def made_tests(spec: Spec, entry: str, n: int, rng: Random, before: str = "") -> Tests | None:
    """n tests on ordinary arguments, None where after some tries a constant or an argument still passes them."""
    for _ in range(5):
        given = [functions.arguments(spec.source.takes, rng) for _ in range(n)]
        gives = [functions.run(spec, *arguments) for arguments in given]
        if not trivial(given, gives):
            return _tests(given, gives, entry, before)
    return None


def trivial(given: Sequence[tuple[Any, ...]], gives: Sequence[Any]) -> bool:
    """Whether a constant or an argument, printed or returned, passes; or a number is too large to show."""
    texts = [_line(value) for value in gives]
    if len(set(texts)) < min(3, len(texts)) or any(len(text) > 60 for text in texts):
        return True
    if any(isinstance(value, int) and abs(value) > LARGEST for value in gives):
        return True
    return any(
        all(
            same_text(text, _line(arguments[at]))
            for arguments, text in zip(given, texts, strict=True)
        )
        for at in range(len(given[0]))
    )


def _hidden(problem: Problem, spec: Spec) -> str:
    """Tests on the function's battery, which no function of another form passes, and at the edges of its constants.

    There they tell it from the functions with a constant one off, which may have its form.
    """
    tests, rng = Tests.from_json(problem.answer), Random(f"held out/{problem.id}")
    constants = [
        k for step in spec.steps for k in (step.k, *(step.where or ())[1:]) if isinstance(k, int)
    ]
    near = [functions.edges(spec.source.takes, rng, constants) for _ in range(NEAR)]
    given = [*functions.battery(spec.source.takes), *near]
    given += telling(spec, given)
    gives = [functions.run(spec, *arguments) for arguments in given]
    return _tests(given, gives, tests.entry, tests.before).to_json()


def _tests(
    given: Sequence[tuple[Any, ...]], gives: Sequence[Any], entry: str, before: str
) -> Tests:
    if entry:
        inputs = tuple(list(arguments) for arguments in given)
        return Tests(kind="call", inputs=inputs, outputs=tuple(gives), entry=entry, before=before)
    read = tuple(" ".join(map(_line, arguments)) + "\n" for arguments in given)
    return Tests(kind="stdin", inputs=read, outputs=tuple(map(_line, gives)))


def _line(value: Any) -> str:
    """As it is read or printed."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
