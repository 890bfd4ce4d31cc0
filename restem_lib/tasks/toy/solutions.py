"""How people of the toy world write solutions: in full, tersely or not at all, in several layouts, with slips.

Styles blend: a writer joins each operation to the next with a probability of its own, from never (one operation a line)
to always (one line). A slip is a wrong result that carries through, a number misread, or a wrong operation; a solution
with a slip ends in a wrong answer.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from restem_lib.tasks.toy.plans import Line, Node, Plan, lines, nodes, operations, value

LAYOUTS = ("; ", ". Then ", "\n")
"""What stands between two lines."""


class Style(NamedTuple):
    """One way to write."""

    joined: float
    """Chance that an operation is written into the line that uses its result."""
    layout: int
    """Index into LAYOUTS."""
    bare: bool = False
    """Only the answer."""


LARGEST, LARGEST_DENOMINATOR = 9_999, 60
"""Of what a slip leads to; fractions only in problems with fractions on the way."""
SWAPPED = 0.1
"""Chance that the operands of a sum or product are written the other way round."""


def write(plan: Plan, style: Style, rng: Random, slip: bool = False) -> str:
    r"""A solution in a style, as the completion of a prompt that ends in ":".

    >>> write(Node("+", Node("*", 3, 2), 8), Style(0.0, 0), Random(1))
    ' 3 * 2 = 6; 6 + 8 = 14\n#### 14'
    """
    told = _slipped(plan, style, rng) if slip else _lines(plan, style, rng)
    answer = f"\n#### {told[-1].result}"
    if style.bare:
        return answer
    between = LAYOUTS[style.layout]
    if between == "\n":
        return f"\n{between.join(map(str, told))}{answer}"
    if between == ". Then " and len(told) > 1:
        return f" First {between.join(map(str, told))}.{answer}"
    return f" {between.join(map(str, told))}{answer}"


def _lines(
    plan: Plan, style: Style, rng: Random, slip: tuple[int, int] | None = None
) -> list[Line]:
    return lines(
        plan,
        lambda node: rng.random() < style.joined,
        lambda node: rng.random() < SWAPPED,
        euclid=style.joined < 0.5,
        slip=slip,
    )


def _slipped(plan: Plan, style: Style, rng: Random) -> list[Line]:
    """Lines with one slip, whose answer is wrong and of the kind that the right one is."""
    right = value(plan)
    whole = all(isinstance(value(node), int) for node in nodes(plan))
    most = 1 if whole else LARGEST_DENOMINATOR
    while True:
        kind = rng.random()
        try:
            if kind < 0.6:
                error = rng.randrange(operations(plan)), rng.choice((1, -1, 2, -2, 10, -10))
                told = _lines(plan, style, rng, error)
            else:
                told = _lines((_misread if kind < 0.8 else _misdone)(plan, rng), style, rng)
        except (ZeroDivisionError, ValueError):  # a wrong number may not divide, or not be whole
            continue
        if told[-1].result != right and all(
            0 <= line.result.numerator <= LARGEST and line.result.denominator <= most
            for line in told
        ):
            return told


def _misread(plan: Plan, rng: Random) -> Plan:
    """The plan with one number changed a little."""
    return _changed(plan, rng.randrange(operations(plan) + 1), rng.choice((1, -1, 10)))


def _changed(plan: Plan, leaf: int, by: int) -> Plan:
    if not isinstance(plan, Node):
        return plan + by if leaf == 0 else plan
    before = operations(plan.left) + 1
    return Node(plan.op, _changed(plan.left, leaf, by), _changed(plan.right, leaf - before, by))


def _misdone(plan: Plan, rng: Random) -> Plan:
    """The plan with one operation mistaken for another."""
    mistaken = rng.choice(list(nodes(plan)))
    other = rng.choice([op for op in "+-*" if op != mistaken.op])

    def swap(plan: Plan) -> Plan:
        if not isinstance(plan, Node):
            return plan
        op = other if plan is mistaken else plan.op
        return Node(op, swap(plan.left), swap(plan.right))

    return swap(plan)
