"""What toy-gsm's problems tell: everyday stories with small numbers, as words and as a plan."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from restem_lib.tasks.toy.plans import Node, Plan, results

LARGEST = 199
"""No number on the way exceeds it."""
MOST = 4
"""Operations of the longest story."""


Text = tuple[str, Plan]


class Scene(NamedTuple):
    """What a story is about."""

    things: tuple[str, ...]
    box: str
    gain: tuple[str, str]
    lose: tuple[str, str]


SCENES = (
    Scene(("pens", "books", "cards"), "boxes", ("buys", "gets"), ("lends", "loses")),
    Scene(("eggs", "apples", "plums"), "baskets", ("picks", "finds"), ("sells", "drops")),
    Scene(("shells", "stones", "fish"), "buckets", ("collects", "finds"), ("loses", "drops")),
    Scene(("cakes", "buns", "pies"), "trays", ("bakes", "buys"), ("eats", "sells")),
    Scene(("coins", "stamps", "medals"), "bags", ("wins", "gets"), ("spends", "loses")),
    Scene(("seeds", "bulbs", "trees"), "rows", ("plants", "grows"), ("cuts", "sells")),
)
NAMES = ("Ann", "Ben", "Carl", "Dora", "Eva", "Finn", "Gina", "Hugo", "Iris", "Jon", "Kim", "Leo")
ASK = ("How many {things} does {name} have now?", "How many {things} are left?")


def tell(rng: Random) -> Text:
    """A fresh story and the plan of its question."""
    while True:
        scene = rng.choice(SCENES)
        name, friend = rng.sample(NAMES, 2)
        words = {"name": name, "friend": friend, "things": rng.choice(scene.things)}
        text, plan = rng.choice(KINDS)(rng, scene)
        found = list(results(plan))
        if len(found) <= MOST and all(isinstance(n, int) and 2 <= n <= LARGEST for n in found):
            return text.format(box=scene.box, **words), plan


def _chain(rng: Random, scene: Scene) -> Text:
    """One running number that goes up and down."""
    a, b = rng.randint(2, 9), rng.randint(2, 9)
    if rng.random() < 0.3:
        told, plan = [f"{{name}} has {a} {{box}} of {b} {{things}}."], Node("*", a, b)
        now: Plan = plan
    else:
        now = rng.randint(5, 60)
        told = [f"{{name}} {rng.choice(('has', 'starts with'))} {now} {{things}}."]
    for _ in range(rng.choice((1, 2, 2, 3))):
        n, k = rng.randint(2, 25), rng.randint(2, 5)
        kind = rng.choice("++--*/b")
        if kind == "*":
            told.append(f"Now {{name}} has {k} times as many.")
            now = Node("*", now, k)
        elif kind == "/":
            told.append(f"{{name}} makes {k} equal piles and keeps one.")
            now = Node("/", now, k)
        elif kind == "b":
            told.append(f"{{name}} {rng.choice(scene.gain)} {a} {{box}} of {b}.")
            now = Node("+", now, Node("*", a, b))
        elif kind == "+":
            more = (
                f"{{name}} {rng.choice(scene.gain)} {n} more.",
                f"{{friend}} gives {{name}} {n} more.",
            )
            told.append(rng.choice(more))
            now = Node("+", now, n)
        else:
            less = (f"{{name}} {rng.choice(scene.lose)} {n}.", f"{{name}} gives {n} to {{friend}}.")
            told.append(rng.choice(less))
            now = Node("-", now, n)
    return " ".join([*told, rng.choice(ASK)]), now


def _wages(rng: Random, scene: Scene) -> Text:
    hours, pay, n, price = (rng.randint(2, 9) for _ in range(4))
    return (
        f"{{name}} works {hours} hours for {pay} coins an hour and buys {n} {{things}} for {price} "
        "coins each. How many coins are left?",
        Node("-", Node("*", hours, pay), Node("*", n, price)),
    )


def _together(rng: Random, scene: Scene) -> Text:
    n, k, more = rng.randint(3, 30), rng.randint(2, 4), rng.randint(2, 20)
    if rng.random() < 0.5:
        other, told = Node("*", n, k), f"{k} times as many"
    else:
        other, told = Node("+", n, more), f"{more} more"
    return (
        f"{{name}} has {n} {{things}}. {{friend}} has {told}. How many {{things}} do they have together?",
        Node("+", n, other),
    )


def _shared(rng: Random, scene: Scene) -> Text:
    a, b, friends = rng.randint(2, 9), rng.randint(2, 12), rng.randint(2, 6)
    return (
        f"{a} {{box}} of {b} {{things}} are shared among {friends} friends. How many does each get?",
        Node("/", Node("*", a, b), friends),
    )


def _days(rng: Random, scene: Scene) -> Text:
    whole, a_day, days = rng.randint(20, 90), rng.randint(2, 9), rng.randint(2, 9)
    return (
        f"{{name}} wants {whole} {{things}} and {scene.gain[0]} {a_day} a day for {days} days. How many are missing?",
        Node("-", whole, Node("*", a_day, days)),
    )


def _sold(rng: Random, scene: Scene) -> Text:
    a, b, price = rng.randint(2, 20), rng.randint(2, 20), rng.randint(2, 5)
    return (
        f"{{name}} has {a} {{things}} and {{friend}} has {b}. They sell all for {price} coins each. "
        "How many coins do they get?",
        Node("*", Node("+", a, b), price),
    )


KINDS = (_chain, _chain, _chain, _wages, _together, _shared, _days, _sold)
