"""The problems of toy-math before they are worded, and their questions.

A subject gives a phrase with its plan (`subjects.py`). Moves on the result ("Multiply by 3.") bring a problem to the
number of operations of its level.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from restem_lib.tasks.toy.plans import Node, Number, Plan, apply, results
from restem_lib.tasks.toy.subjects import SUBJECTS, size

OPERATIONS = {1: (1, 2), 2: (2, 3), 3: (3, 4), 4: (4, 5), 5: (5, 6)}
"""Level -> the fewest and the most operations."""
LARGEST = 2_000
"""No number on the way exceeds it."""
LARGEST_NUMERATOR, LARGEST_DENOMINATOR = 200, 60
"""Of a fraction."""


class Asked(NamedTuple):
    """What a problem asks, before it is worded."""

    subject: str
    level: int
    phrase: str
    """What the subject gives."""
    moves: tuple[tuple[str, int], ...]
    """Operations on it, with their numbers."""
    plan: Plan
    """All of it."""


SIMPLE = ("What is {}?", "Find {}.", "Compute {}.")
MOVED = ("Take {}. {} What is the result?", "Start with {}. {} What do you get?")
TOLD = {
    "+": ("Add {}.", "Then add {}."),
    "-": ("Take away {}.", "Subtract {}."),
    "*": ("Multiply by {}.", "Make it {} times as much."),
    "/": ("Divide by {}.", "Share it among {}."),
}


def _move(rng: Random, before: Number, level: int) -> tuple[str, int]:
    """An operation and its number that keep the result positive, and whole if it was."""
    while True:
        op = rng.choices("+-*/", (3, 3, 2, 2))[0]
        by = rng.randint(2, 9) if op in "*/" else size(rng, level)
        if op == "-" and before <= by:
            continue
        if op == "/" and before.denominator == 1 and before % by:
            continue
        return op, by


def ask(rng: Random, levels: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Asked:
    """Something to ask; subject and level are drawn evenly."""
    while True:
        subject, level = rng.choice(tuple(SUBJECTS)), rng.choice(levels)
        wanted = rng.randint(*OPERATIONS[level])
        phrase, plan = SUBJECTS[subject](rng, level)
        found = list(results(plan))
        if len(found) > wanted or not all(map(_plain, found)):
            continue
        moves: list[tuple[str, int]] = []
        while len(found) < wanted and _plain(found[-1]):
            op, by = _move(rng, found[-1], level)
            moves.append((op, by))
            plan = Node(op, plan, by)
            found.append(apply(op, found[-1], by))
        if _plain(found[-1]):
            return Asked(subject, level, phrase, tuple(moves), plan)


def question(asked: Asked, rng: Random) -> str:
    """The question in toy-math's words."""
    told = " ".join(rng.choice(TOLD[op]).format(by) for op, by in asked.moves)
    return rng.choice(MOVED if told else SIMPLE).format(asked.phrase, told)


def _plain(result: Number) -> bool:
    if isinstance(result, int):
        return 0 <= result <= LARGEST
    return 0 <= result.numerator <= LARGEST_NUMERATOR and result.denominator <= LARGEST_DENOMINATOR
