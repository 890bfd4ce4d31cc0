"""What a maths problem of the toy world asks, as a tree of operations: its value, its normal form, its lines.

Numbers are exact fractions. A line is one equation, "3 * (4 + 5) = 27"; how many operations stand in one line is the
writer's choice: every inner node of the tree is either a line of its own or written into the line that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import gcd
from typing import NamedTuple, Union


class Node(NamedTuple):
    """One operation: + - * /, or "gcd" of two whole numbers, or "mod", the remainder."""

    op: str
    left: Plan
    right: Plan


Number = Union[int, Fraction]  # noqa: UP007 - evaluated at run time, in NamedTuples
"""A whole number is an int, always: fractions cost ten times as much."""
Plan = Union[Node, Number]  # noqa: UP007
"""A tree of operations; its leaves are numbers."""

_RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "mod": 2}


class Line(NamedTuple):
    """One equation of a solution."""

    left: str
    result: Number

    def __str__(self) -> str:
        return f"{self.left} = {self.result}"


def read_number(text: str) -> Number:
    """The inverse of str. Raises ValueError, and ZeroDivisionError for "1/0".

    >>> read_number("6/4"), read_number("7")
    (Fraction(3, 2), 7)
    """
    return _plain(Fraction(text)) if "/" in text else int(text)


def _plain(number: Number) -> Number:
    return number.numerator if number.denominator == 1 else number


def apply(op: str, left: Number, right: Number) -> Number:
    """One operation. Raises ZeroDivisionError, and ValueError for gcd and mod of what is not whole."""
    if op == "/":
        return _plain(Fraction(left) / right)
    if op == "+":
        return _plain(left + right)
    if op == "-":
        return _plain(left - right)
    if op == "*":
        return _plain(left * right)
    if not isinstance(left, int) or not isinstance(right, int):
        raise ValueError(f"{op} of {left} and {right}")
    return left % right if op == "mod" else gcd(left, right)


def value(plan: Plan) -> Number:
    """The exact result.

    >>> value(Node("*", 3, Node("+", 4, 5)))
    27
    """
    if not isinstance(plan, Node):
        return plan
    return apply(plan.op, value(plan.left), value(plan.right))


def results(plan: Plan) -> Iterator[Number]:
    """The result of every operation, those first that are needed first; the last one is the plan's value."""
    if not isinstance(plan, Node):
        return
    left, right = list(results(plan.left)), list(results(plan.right))
    yield from left
    yield from right
    a = left[-1] if left else value(plan.left)
    b = right[-1] if right else value(plan.right)
    yield apply(plan.op, a, b)


def operations(plan: Plan) -> int:
    """How many operations there are."""
    if not isinstance(plan, Node):
        return 0
    return 1 + operations(plan.left) + operations(plan.right)


def nodes(plan: Plan) -> Iterator[Node]:
    """Every operation, those whose results are needed first."""
    if isinstance(plan, Node):
        yield from nodes(plan.left)
        yield from nodes(plan.right)
        yield plan


def normal_form(plan: Plan) -> str:
    """The arithmetic without order or grouping within sums and products: equal for problems that ask the same.

    >>> normal_form(Node("+", Node("*", 3, 2), 8)) == normal_form(Node("+", 8, Node("*", 2, 3)))
    True
    """
    if not isinstance(plan, Node):
        return str(plan)
    if plan.op in "+-":
        return "(" + " ".join(sorted(_terms(plan, "+", "-", "+"))) + ")"
    if plan.op in "*/":
        return "[" + " ".join(sorted(_terms(plan, "*", "/", "*"))) + "]"
    parts = [normal_form(plan.left), normal_form(plan.right)]
    return f"{plan.op}{{{' '.join(sorted(parts) if plan.op == 'gcd' else parts)}}}"


def _terms(plan: Plan, plus: str, minus: str, sign: str) -> Iterator[str]:
    if isinstance(plan, Node) and plan.op in (plus, minus):
        yield from _terms(plan.left, plus, minus, sign)
        other = {plus: minus, minus: plus}[sign]
        yield from _terms(plan.right, plus, minus, sign if plan.op == plus else other)
    else:
        yield sign + normal_form(plan)


def lines(
    plan: Plan,
    joined: Callable[[Node], bool],
    swapped: Callable[[Node], bool] = lambda node: False,
    euclid: bool = True,
    slip: tuple[int, int] | None = None,
) -> list[Line]:
    """The lines of a solution, in an order in which each can be worked out.

    `joined` says which operations are written into the line that uses their result, `swapped` which sums and products
    have their operands exchanged. With `euclid` a gcd's remainders are lines too. `slip` (index, error) adds the error
    to the result of that line, and what follows uses the wrong result; of a wrong remainder only the other remainders
    know, the gcd is still right.
    """
    written: list[Line] = []

    def write(left: str, result: Number) -> Number:
        if slip is not None and slip[0] == len(written):
            result += slip[1]
        written.append(Line(left, result))
        return result

    def part(plan: Plan, top: bool) -> tuple[str, int, Number]:
        """Text, rank (3: a number) and value of a plan, after the lines that it needs."""
        if not isinstance(plan, Node):
            return str(plan), 3, plan
        first, second = plan.left, plan.right
        if plan.op in "+*" and swapped(plan):
            first, second = second, first
        a, left_rank, left = part(first, False)
        b, right_rank, right = part(second, False)
        if plan.op == "gcd":
            high, low = max(left, right), min(left, right)
            while euclid and low:
                text = f"{high} mod {low}"
                high, low = low, write(text, apply("mod", high, low))
            text, rank = f"gcd({a}, {b})", 3
        else:
            rank = _RANK[plan.op]
            a = f"({a})" if left_rank < rank else a
            b = f"({b})" if right_rank < rank or (right_rank == rank and plan.op != "+") else b
            text = f"{a} {plan.op} {b}"
        result = apply(plan.op, left, right)
        if not top and joined(plan):
            return text, rank, result
        return str(write(text, result)), 3, written[-1].result

    part(plan, True)
    return written
