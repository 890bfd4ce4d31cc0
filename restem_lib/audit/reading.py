r"""Reading gold answers, for the variants made of them: trusted text, and none of the grader's code."""

from __future__ import annotations

import re
from fractions import Fraction
from math import isqrt, pi, sqrt
from typing import NamedTuple

FRACTION = re.compile(
    r"\\[dt]?frac\s*(?:\{(?P<over>(?:[^{}]|\{[^{}]*\})*)\}|(?P<over1>\d))"
    r"\s*(?:\{(?P<under>(?:[^{}]|\{[^{}]*\})*)\}|(?P<under1>\d))"
)
_NUMBER = re.compile(
    r"""(?P<before>\\\$)?(?P<sign>-?)
    (?: (?P<digits>\d{1,3}(?:(?:,|\{,\}|,\s*\\!\s*)\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
      | (?P<whole>\d*)(?P<fraction>\s?\\[dt]?frac.*?)
    )(?P<after>\s*(?:\\%|\^\\circ|\\(?:text|mbox)\{[^{}]*\}(?:\^[23])?)?)""",
    re.VERBOSE,
)
_SURD = re.compile(
    r"(?P<sign>-?)(?P<times>\d*)\s*(?:\\sqrt\{?(?P<root>\d+)\}?|(?P<pi>\\pi))(?![\w{])"
)
MATRIX = re.compile(r"\\begin\{([pbv])matrix\}(.*)\\end\{\1matrix\}", re.DOTALL)
TIME = re.compile(r"(\d{1,2}):(\d\d)\s*(?:\\text\{\s*)?([ap])\.?m\.?\}?", re.IGNORECASE)
WORD = re.compile(r"(?:\\text\{)?([A-Za-z]{2,})\}?")
OPTION = re.compile(r"(?:\\text\{)?\(([A-F])\)\}?")
BASE = re.compile(r"(\d+)_\{?(\d+)\}?")


class Number(NamedTuple):
    """A gold answer that is one rational number, perhaps with a unit."""

    before: str
    r"""Currency: "\\$" or ""."""
    value: Fraction
    after: str
    """The unit as it is written, or ""."""
    written: str
    """ "integer", "decimal", "fraction" or "mixed"."""

    def spelled(self, number: str) -> str:
        """Another number with this one's unit."""
        return f"{self.before}{number}{self.after}"


class Group(NamedTuple):
    """Elements between brackets, or a list without any (both "")."""

    left: str
    items: list[str]
    right: str

    def spelled(self, items: list[str], left: str | None = None, right: str | None = None) -> str:
        """Other elements, or other brackets, in the same spelling."""
        opening, closing = (
            self.left if left is None else left,
            self.right if right is None else right,
        )
        return opening + ", ".join(items) + closing


def number(gold: str) -> Number | None:
    """The rational number a gold answer is, or None."""
    match = _NUMBER.fullmatch(gold)
    if match is None:
        return None
    if match["digits"] is not None:
        value = Fraction(re.sub(r"[^\d.]", "", match["digits"]))
        written = "decimal" if "." in match["digits"] else "integer"
    else:
        parts = FRACTION.fullmatch(match["fraction"].strip())
        try:
            over, under = (int(side) for side in sides(parts)) if parts else (0, 0)
        except ValueError:
            return None
        if under == 0 or (match["whole"] and not 0 < over < under):
            return None
        value = int(match["whole"] or 0) + Fraction(over, under)
        written = "mixed" if match["whole"] else "fraction"
    return Number(
        match["before"] or "", -value if match["sign"] else value, match["after"], written
    )


def sides(fraction: re.Match[str]) -> tuple[str, str]:
    """Numerator and denominator of a match of FRACTION."""
    return (
        fraction["over"] if fraction["over"] is not None else fraction["over1"],
        fraction["under"] if fraction["under"] is not None else fraction["under1"],
    )


def spell(value: Fraction) -> str:
    r"""A fraction in LaTeX: "-\frac{1}{2}", "3"."""
    if value.denominator == 1:
        return str(value.numerator)
    return f"{'-' if value < 0 else ''}\\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def decimal(value: Fraction) -> str | None:
    """The digits of a fraction that terminates, else None.

    >>> decimal(Fraction(-1, 8)), decimal(Fraction(1, 3)), decimal(Fraction(20))
    ('-0.125', None, '20')
    """
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return None
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
    digits = f"{abs(int(value * 10**places)):0{places + 1}d}"
    text = digits if places == 0 else f"{digits[:-places]}.{digits[-places:]}"
    return f"-{text}" if value < 0 else text


def group(gold: str) -> Group | None:
    """The tuple, interval, set or list of two or more elements that a gold answer is, or None."""
    flat = re.sub(r"\\(?:left|right)(?![A-Za-z])\s*", "", gold).strip()
    if number(gold) or "\\begin" in flat or "=" in flat or "\\in " in flat or "\\cup" in flat:
        return None
    left, right = "", ""
    brackets = re.fullmatch(r"(\(|\[|\\\{)(.*)(\)|\]|\\\})", flat, re.DOTALL)
    if brackets:
        left, flat, right = brackets.groups()
    items = _split(flat, ",")
    if items is None or len(items) < 2 or not all(items):
        return None
    return Group(left, items, right)


def terms(gold: str) -> list[str] | None:
    """The terms of a sum of two or more, signs included; None for anything else."""
    if number(gold) or group(gold) or re.search(r"\\(?:begin|text|mbox|cup|pm)|[=:]", gold):
        return None
    parts, start = [], 0
    for position in range(1, len(gold)):
        if (
            gold[position] in "+-"
            and _depth(gold[:position]) == 0
            and gold[position - 1] not in "^_"
        ):
            parts.append(gold[start:position].strip())
            start = position
    parts.append(gold[start:].strip())
    parts = [re.sub(r"^([-+])\s+", r"\1", part) for part in parts]
    return parts if len(parts) > 1 and all(parts) else None


def rows(gold: str) -> list[list[str]] | None:
    """The entries of a matrix, row by row, or None."""
    match = MATRIX.fullmatch(gold.strip())
    if match is None:
        return None
    return [[cell.strip() for cell in row.split("&")] for row in match[2].split("\\\\")]


def matrix(entries: list[list[str]], kind: str = "pmatrix") -> str:
    """A matrix in LaTeX."""
    body = " \\\\ ".join(" & ".join(row) for row in entries)
    return f"\\begin{{{kind}}} {body} \\end{{{kind}}}"


def irrational(gold: str) -> float | None:
    r"""The value of k\sqrt{n}, k\pi or such over an integer, where it is irrational; else None."""
    under, top = 1, gold.strip()
    fraction = re.fullmatch(r"(-?)(\\[dt]?frac.*)", top)
    parts = FRACTION.fullmatch(fraction[2]) if fraction else None
    if fraction and parts:
        over, bottom = sides(parts)
        if not bottom.isdecimal():
            return None
        top, under = fraction[1] + over, int(bottom)
    match = _SURD.fullmatch(top)
    if match is None:
        return None
    if match["root"] and isqrt(int(match["root"])) ** 2 == int(match["root"]):
        return None
    size = int(match["times"] or 1) * (pi if match["pi"] else sqrt(int(match["root"])))
    return (-size if match["sign"] else size) / under


def _split(text: str, separator: str) -> list[str] | None:
    parts, depth, start = [], 0, 0
    for position, symbol in enumerate(text):
        depth += (symbol in "([{") - (symbol in ")]}")
        if depth < 0:
            return None
        if symbol == separator and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    parts.append(text[start:].strip())
    return parts if depth == 0 else None


def _depth(text: str) -> int:
    return sum((symbol in "([{") - (symbol in ")]}") for symbol in text)
