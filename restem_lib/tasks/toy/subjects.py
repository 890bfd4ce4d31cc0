"""The subjects of toy-math: what their problems ask, in words and as a plan.

A subject gives a noun phrase ("term 12 of the sequence 3, 7, 11") with its plan.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from random import Random

from restem_lib.tasks.toy.plans import Node, Plan, lines

Phrase = tuple[str, Plan]


def _low(rng: Random) -> int:
    return rng.randint(2, 9)


def size(rng: Random, level: int) -> int:
    """A number as large as a level may begin with."""
    return rng.randint(3, 15 + 25 * level)


def _fraction(rng: Random) -> Fraction:
    below = rng.randint(2, 9)
    return Fraction(rng.randint(1, below - 1), below)


def _arithmetic(rng: Random, level: int) -> Phrase:
    def build(count: int) -> tuple[str, Plan]:
        if count == 0:
            leaf = size(rng, level)
            return str(leaf), leaf
        op = rng.choice(tuple(WORDS))
        if op == "*":
            left, right = build(0), build(0) if count == 1 else build(count - 1)
        else:
            first = rng.randrange(count)
            left, right = build(first), build(count - 1 - first)
        return f"the {WORDS[op]} of {left[0]} and {right[0]}", Node(op, left[1], right[1])

    text, plan = build(rng.randint(1, 1 + (level + 1) // 2))
    if rng.random() < 0.5:
        text = lines(plan, lambda node: True)[-1].left
    return text, plan


WORDS = {"+": "sum", "-": "difference", "*": "product"}


def _fractions(rng: Random, level: int) -> Phrase:
    a, b = _fraction(rng), _fraction(rng)
    kind = rng.randrange(4 if level < 3 else 6)
    if kind == 0:
        return f"the sum of {a} and {b}", Node("+", a, b)
    if kind == 1:
        return f"the difference of {max(a, b)} and {min(a, b)}", Node("-", max(a, b), min(a, b))
    if kind == 2:
        return f"{a} of {b}", Node("*", b, a)
    if kind == 3:
        whole = a.denominator * rng.randint(2, 12)
        return f"{a} of {whole}", Node("*", whole, a)
    if kind == 4:
        return f"{a} divided by {b}", Node("/", a, b)
    c = _fraction(rng)
    return f"{c} of the sum of {a} and {b}", Node("*", Node("+", a, b), c)


def _ratios(rng: Random, level: int) -> Phrase:
    a, b = _low(rng), _low(rng)
    kind = rng.randrange(4)
    if kind == 0:
        percent, whole = 5 * rng.randint(1, 19), 20 * rng.randint(1, 4 + 4 * level)
        return f"{percent} percent of {whole}", Node("/", Node("*", whole, percent), 100)
    if kind == 1:
        total = (a + b) * rng.randint(2, 8 + 2 * level)
        text = f"the {{}} part when {total} is shared {a} to {b}"
        first = rng.random() < 0.5
        part = Node("*", Node("/", total, Node("+", a, b)), a if first else b)
        return text.format("first" if first else "second"), part
    if kind == 2:
        cost = a * rng.randint(2, 6 + 2 * level)
        thing = rng.choice(("pens", "cups", "books", "keys"))
        return f"the cost of {b} {thing} when {a} {thing} cost {cost}", Node(
            "*", Node("/", cost, a), b
        )
    percent, whole = 10 * rng.randint(1, 9), 10 * rng.randint(2, 5 + 5 * level)
    change = Node("/", Node("*", whole, percent), 100)
    more = rng.random() < 0.5
    return f"{whole} {'raised' if more else 'cut'} by {percent} percent", Node(
        "+" if more else "-", whole, change
    )


def _sequences(rng: Random, level: int) -> Phrase:
    first, step = rng.randint(1, 10 + 4 * level), rng.randint(2, 5 + 2 * level)
    n = rng.randint(5, 8 + 3 * level)
    start = f"{first}, {first + step}, {first + 2 * step}"
    kind = rng.randrange(2 if level < 3 else 4)
    last = Node("+", first, Node("*", Node("-", n, 1), Node("-", first + step, first)))
    if kind == 0:
        return f"term {n} of the sequence {start}", last
    if kind == 1:
        times, more = rng.randint(2, 3), _low(rng)
        count = rng.randint(2, 3)
        plan: Plan = first
        for _ in range(count - 1):
            plan = Node("+", Node("*", plan, times), more)
        return (
            f"term {count} when term 1 is {first} and each next term is {times} times the one before plus {more}",
            plan,
        )
    if kind == 2:
        return (
            f"the sum of the numbers from {first} to {first + n}",
            Node("/", Node("*", Node("+", first, first + n), Node("+", n, 1)), 2),
        )
    a, r = rng.randint(1, 6), rng.randint(2, 4)
    return (
        f"term 5 of the sequence {a}, {a * r}, {a * r * r}",
        Node("*", Node("*", a * r * r, Node("/", a * r, a)), Node("/", a * r, a)),
    )


def _equations(rng: Random, level: int) -> Phrase:
    x, a, b = rng.randint(2, 9 + 4 * level), _low(rng), size(rng, level)
    kind = rng.randrange(3 if level < 3 else 6)
    if kind == 0:
        return f"x when {a} x + {b} = {a * x + b}", Node("/", Node("-", a * x + b, b), a)
    if kind == 1:
        b = min(b, a * x - 1)
        return f"x when {a} x - {b} = {a * x - b}", Node("/", Node("+", a * x - b, b), a)
    if kind == 2:
        return f"x when x / {a} + {b} = {x + b}", Node("*", Node("-", x + b, b), a)
    if kind == 3:
        c = rng.randint(1, 9)
        return (
            f"x when {a} (x + {c}) = {a * (x + c)}",
            Node("-", Node("/", a * (x + c), a), c),
        )
    if kind == 4:
        c = a + rng.randint(1, 6)
        d = rng.randint(1, 20)
        e = (c - a) * x + d
        return (
            f"x when {c} x + {d} = {a} x + {e}",
            Node("/", Node("-", e, d), Node("-", c, a)),
        )
    y = x + 2 * rng.randint(1, 10)
    larger = rng.random() < 0.5
    return (
        f"the {'larger' if larger else 'smaller'} of two numbers with sum {x + y} and difference {y - x}",
        Node("/", Node("+" if larger else "-", x + y, y - x), 2),
    )


def _counting(rng: Random, level: int) -> Phrase:
    n = rng.randint(4, 8 + 2 * level)
    kind = rng.randrange(4 if level < 3 else 7)
    if kind == 0:
        a, b, c = _low(rng), _low(rng), _low(rng)
        if level == 1:
            return f"the number of ways to wear one of {a} hats and one of {b} coats", Node(
                "*", a, b
            )
        return (
            f"the number of ways to wear one of {a} hats, one of {b} coats and one of {c} ties",
            Node("*", Node("*", a, b), c),
        )
    if kind == 1:
        return (
            f"the number of pairs among {n} people",
            Node("/", Node("*", n, Node("-", n, 1)), 2),
        )
    if kind == 2:
        both = _low(rng)
        a, b = both + size(rng, level), both + size(rng, level)
        return (
            f"how many like tea or milk when {a} like tea, {b} like milk and {both} like both",
            Node("-", Node("+", a, b), both),
        )
    a, b = _low(rng), _low(rng)
    if kind == 3:
        return f"the chance to draw red from {a} red and {b} blue balls", Node(
            "/", a, Node("+", a, b)
        )
    if kind == 4:
        n = rng.randint(4, 10)
        return (
            f"the number of ways to seat 3 of {n} people in a row",
            Node("*", Node("*", n, Node("-", n, 1)), Node("-", n, 2)),
        )
    if kind == 5:
        n = rng.randint(2, 7)
        return f"the number of words of 3 letters from {n} letters", Node("*", Node("*", n, n), n)
    total = Node("+", a, b)
    first = Node("/", a, total)
    return (
        f"the chance to draw two red from {a} red and {b} blue balls",
        Node("*", first, Node("/", Node("-", a, 1), Node("-", Node("+", a, b), 1))),
    )


def _numbers(rng: Random, level: int) -> Phrase:
    common = rng.randint(2, 6 + level)
    a, b = common * rng.randint(2, 9), common * rng.randint(2, 9)
    kind = rng.randrange(4)
    if kind == 0:
        return f"the greatest common divisor of {a} and {b}", Node("gcd", a, b)
    if kind == 1:
        a, b = (x * rng.randint(2, 5) for x in (common, common))
        return (
            f"the least common multiple of {a} and {b}",
            Node("*", Node("/", a, Node("gcd", a, b)), b),
        )
    n, by = size(rng, level) + 20 * level, _low(rng) + level
    if kind == 2:
        return f"the remainder of {n} divided by {by}", Node("mod", n, by)
    return (
        f"the number of multiples of {by} up to {n}",
        Node("/", Node("-", n, Node("mod", n, by)), by),
    )


SUBJECTS: dict[str, Callable[[Random, int], Phrase]] = {
    "arithmetic": _arithmetic,
    "fractions": _fractions,
    "ratios": _ratios,
    "sequences": _sequences,
    "equations": _equations,
    "counting": _counting,
    "numbers": _numbers,
}
