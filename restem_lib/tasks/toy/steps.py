"""Reading a solution of the toy world: its style, and whether its steps are valid, not only its answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from restem_lib.records import Problem
from restem_lib.rewards.extraction import extract
from restem_lib.tasks.toy.plans import Number, apply, read_number

STYLES = ("full", "terse", "bare", "other")
"""One operation a line; some lines with more; the answer alone; not the world's way to write."""

_SPLIT = re.compile(r";|\n|\.(?=\s|$)")
_WORDS = re.compile(r"^(?:First|Then)\s+")
_TOKEN = re.compile(r"\s*([0-9]+(?:/[0-9]+)?|gcd|mod|[-+*/(),])")
_NUMBER = re.compile(r"[0-9]+(?:/[0-9]+)?")
_DECLARES = re.compile(
    r"\s*(?:####|(?:(?:so )?the )?(?:final )?answer(?: is)?:?|\\boxed\{)[\s$*]*", re.IGNORECASE
)
"""What stands before an answer alone."""


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

    A number may come from the question, from an earlier line, or from the human solution where that has it from nowhere
    (2 for "twice"). So lines can be true and the way wrong where other numbers happen to fit, above all where the
    answer is itself such a number.

    >>> problem = Problem("x", "What is 3 times 2, and 8 more?", "14", " 3 * 2 = 6; 6 + 8 = 14\n#### 14")
    >>> read(problem, " 3 * 2 = 6; 6 + 8 = 14\n#### 14").valid
    True
    >>> read(problem, " 3 * 2 = 7; 7 + 7 = 14\n#### 14")
    Reading(style='full', valid=False, why='3 * 2 = 7 is not true')
    """
    known, answer = _known(problem), extract(text)
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
        alone = answer and _DECLARES.fullmatch(text.rpartition(answer)[0])
        return Reading("bare" if alone else "other", False, "no steps")
    if _number(answer) != last:
        why = why or "the last line does not give the answer"
    return Reading("terse" if most > 1 else "full", not why, why)


def results(text: str) -> list[Number]:
    r"""What a solution's true lines work out, in order.

    >>> results(" 3 * 2 = 6; 6 + 8 = 15; 15 - 1 = 14\n#### 14")
    [6, 14]
    """
    return [found for _, left, found in _lines(text) if left and left.value == found]


def reached(problem: Problem, text: str) -> set[Number]:
    r"""What a solution works out by lines that are true and use only numbers that they may.

    >>> problem = Problem("x", "What is 3 times 2, and 8 more?", "14", " 3 * 2 = 6; 6 + 8 = 14\n#### 14")
    >>> reached(problem, " 3 * 2 = 6; 5 + 9 = 14; 6 - 3 = 4\n#### 4")
    {6}
    """
    known, found = _known(problem), set[Number]()
    for _, left, result in _lines(text):
        if left and left.value == result and known.issuperset(left.numbers):
            known.add(result)
            found.add(result)
    return found


def _known(problem: Problem) -> set[Number]:
    """The numbers of the question, and those that the human solution takes from nowhere.

    The latter are those that it uses more often than it works them out before its last line. That a number is worked
    out somewhere does not tell: the world may supply an equal one, and a terse solution does not write every line.
    """
    told = list(_lines(problem.solution))
    used = Counter(number for _, left, _ in told if left for number in left.numbers)
    used.subtract([result for *_, result in told[:-1]])
    asked = map(_number, _NUMBER.findall(problem.question))
    return {number for number in (*asked, *(+used)) if number is not None}


def _number(text: str) -> Number | None:
    """The number that a text is; None where it is none (1/0 too), or has more digits than Python reads."""
    try:
        return read_number(text) if _NUMBER.fullmatch(text) else None
    except (ValueError, ZeroDivisionError):
        return None


def _lines(text: str) -> Iterator[tuple[str, _Left | None, Number]]:
    """Each line, its left side and its result; no left side where it is not the world's way to write."""
    for part in _SPLIT.split(text.rpartition("####")[0]):
        line = _WORDS.sub("", part.strip())
        if not line:
            continue
        left_text, equals, right_text = line.rpartition(" = ")
        left, right = _left(left_text) if equals else None, _number(right_text)
        if left and left.operations and right is not None:
            yield line, left, right
        else:
            yield line, None, 0


def _left(text: str) -> _Left | None:
    """The left side of a line, None where it is no expression that has a value."""
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found or len(tokens) > 100:
            return None
        tokens.append(found[1])
        at = found.end()
    parser = _Parser(tokens)
    try:
        value = parser.chain()
        parser.take("")
    except (ValueError, ZeroDivisionError, RecursionError):
        return None
    return _Left(value, tuple(parser.numbers), parser.operations)


class _Parser:
    """Recursive descent over an expression's tokens; nothing is executed. ValueError where it is no expression."""

    LEVELS = (("+", "-"), ("*", "/", "mod"))

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = ["", *reversed(tokens)]
        self.numbers: list[Number] = []
        self.operations = 0

    def take(self, wanted: str) -> None:
        """The next token, which must be this one; "" for the end."""
        if self.tokens.pop() != wanted:
            raise ValueError(wanted)

    def chain(self, level: int = 0) -> Number:
        """Operations of one rank, from left to right."""
        if level == len(self.LEVELS):
            return self.atom()
        left = self.chain(level + 1)
        while self.tokens[-1] in self.LEVELS[level]:
            op = self.tokens.pop()
            left = self.apply(op, left, self.chain(level + 1))
        return left

    def atom(self) -> Number:
        """A number, gcd(a, b) or something in parentheses."""
        token = self.tokens.pop()
        if token == "(":
            inside = self.chain()
            self.take(")")
            return inside
        if token == "gcd":
            return self.gcd()
        number = _number(token)
        if number is None:
            raise ValueError(token)
        self.numbers.append(number)
        return number

    def gcd(self) -> Number:
        """What follows the word."""
        self.take("(")
        left = self.chain()
        self.take(",")
        right = self.chain()
        self.take(")")
        return self.apply("gcd", left, right)

    def apply(self, op: str, left: Number, right: Number) -> Number:
        """One more operation."""
        self.operations += 1
        return apply(op, left, right)
