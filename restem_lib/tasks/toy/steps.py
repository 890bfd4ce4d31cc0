"""Reading a solution of the toy world: its style, and whether its steps are valid, not only its answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from restem_lib.records import Problem
from restem_lib.rewards.extraction import extract
from restem_lib.tasks.toy.plans import Number, apply, read_number

STYLES = ("full", "terse", "bare", "other")
"""One operation a line; some lines with more; the answer alone; not the world's way to write."""

_SPLIT = re.compile(r";|\n|\.(?=\s|$)")
_WORDS = re.compile(r"^(?:First|Then)\s+")
_TOKEN = re.compile(r"\s*(\d+(?:/\d+)?|gcd|mod|[-+*/(),])")
_NUMBER = re.compile(r"\d+(?:/\d+)?")


class Reading(NamedTuple):
    """What a solution's steps are worth."""

    style: str
    """One of STYLES."""
    valid: bool
    """Every line is true, uses only numbers that it may, and the last one gives the answer. False without lines."""
    why: str
    """The first thing that is wrong, "" if nothing is."""


class _Left(NamedTuple):
    value: Number
    numbers: tuple[Number, ...]
    operations: int


def read(problem: Problem, text: str) -> Reading:
    r"""Check a solution's steps against the problem.

    A number may come from the question, from the human solution (2 for "twice") or from an earlier line. Where the
    lines are true but the way is wrong, numbers that happen to fit can still pass.

    >>> problem = Problem("x", "What is 3 times 2, and 8 more?", "14", " 3 * 2 = 6; 6 + 8 = 14\n#### 14")
    >>> read(problem, " 3 * 2 = 6; 6 + 8 = 14\n#### 14").valid
    True
    >>> read(problem, " 3 * 2 = 7; 7 + 7 = 14\n#### 14")
    Reading(style='full', valid=False, why='3 * 2 = 7 is not true')
    """
    known = {
        read_number(found)
        for given in (problem.question, problem.solution.rpartition("####")[0])
        for found in _NUMBER.findall(given)
        if not found.endswith("/0")
    }
    answer = extract(text)
    most, last, why = 0, None, ""
    for line, left, last in _lines(text):
        if left is None:
            return Reading("other", False, f"{line[:60]!r} is no line")
        most = max(most, left.operations)
        if left.value != last:
            why = why or f"{line} is not true"
        for found in left.numbers:
            if found not in known:
                why = why or f"{found} in {line} comes from nowhere"
        known.add(last)
    if not most:
        return Reading("bare" if answer else "other", False, "no steps")
    if not _NUMBER.fullmatch(answer) or answer.endswith("/0") or read_number(answer) != last:
        why = why or "the last line does not give the answer"
    return Reading("terse" if most > 1 else "full", not why, why)


def results(text: str) -> list[Number]:
    r"""What a solution's true lines work out, in order.

    >>> results(" 3 * 2 = 6; 6 + 8 = 15; 15 - 1 = 14\n#### 14")
    [6, 14]
    """
    return [found for _, left, found in _lines(text) if left and left.value == found]


def _lines(text: str) -> Iterator[tuple[str, _Left | None, Number]]:
    """Each line, its left side and its result; no left side where it is not the world's way to write."""
    for part in _SPLIT.split(text.rpartition("####")[0]):
        line = _WORDS.sub("", part.strip())
        if not line:
            continue
        left_text, equals, right_text = line.rpartition(" = ")
        left = _evaluate(left_text) if equals else None
        if left and left.operations and _NUMBER.fullmatch(right_text) and right_text[-2:] != "/0":
            yield line, left, read_number(right_text)
        else:
            yield line, None, 0


def _evaluate(text: str) -> _Left | None:
    """The value of one side of a line, None where it is no expression. Recursive descent; nothing is executed."""
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found or len(tokens) > 100:
            return None
        tokens.append(found[1])
        at = found.end()
    numbers: list[Number] = []
    tokens.append("")
    position = operations = 0

    def take(wanted: str = "") -> str:
        nonlocal position
        token = tokens[position]
        if wanted and token != wanted:
            raise ValueError(token)
        position += 1
        return token

    def atom() -> Number:
        nonlocal operations
        token = take()
        if token == "(":
            inside = chain(0)
            take(")")
            return inside
        if token == "gcd":
            take("(")
            left = chain(0)
            take(",")
            right = chain(0)
            take(")")
            operations += 1
            return apply("gcd", left, right)
        if not _NUMBER.fullmatch(token):
            raise ValueError(token)
        numbers.append(read_number(token))
        return numbers[-1]

    levels = (("+", "-"), ("*", "/", "mod"))

    def chain(level: int) -> Number:
        nonlocal operations
        if level == len(levels):
            return atom()
        left = chain(level + 1)
        while tokens[position] in levels[level]:
            op = take()
            left = apply(op, left, chain(level + 1))
            operations += 1
        return left

    try:
        found_value = chain(0)
        if tokens[position] != "":
            return None
    except (ValueError, ZeroDivisionError, RecursionError):
        return None
    return _Left(found_value, tuple(numbers), operations)
