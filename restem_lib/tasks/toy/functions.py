"""The functions that the toy world's programs are about: what they are made of, what they give, which are the same.

A function takes numbers, a number, two numbers, a text or words, and does a few things to them one after another. Its
normal form is what it gives on a fixed battery of arguments, so two ways to say one function never stand in two splits.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256
from random import Random
from typing import Any, NamedTuple, TypeVar

from restem_lib.tasks.toy import operations as ops
from restem_lib.tasks.toy import split_of
from restem_lib.tasks.toy.snippets import Constant, Op, Source

WORDS = ("red", "tree", "sun", "Anna", "level", "stone", "Rome", "eye", "river", "noon", "oil", "Lea")  # fmt: skip
"""What texts are made of."""


class Step(NamedTuple):
    """One operation of a function."""

    op: Op
    k: Constant = 0
    where: tuple[Op, Constant] | None = None
    """map: the filter that an element must pass for it to be done."""
    other: tuple[Op, Constant] | None = None
    """The map that is done to the other elements; without it they stay as they are."""


@dataclass(frozen=True)
class Spec:
    """A function."""

    source: Source
    steps: tuple[Step, ...]

    @property
    def gives(self) -> str:
        """What comes out: "number", "word" (any text) or "list"."""
        kind = self.source.gives
        for step in self.steps:
            kind = step.op.gives or kind
        return kind

    @property
    def level(self) -> int:
        """Difficulty from 1 to 5: how many things are done; giving a list or text as it is is none."""
        done = sum(1 + (step.where is not None) for step in self.steps)
        return max(1, min(5, done - any(step.op in AS_IS for step in self.steps)))


AS_IS = tuple(folds[0] for folds in ops.FOLDS.values())
"""The folds that give a list or text as it is."""


def run(spec: Spec, *arguments: Any) -> Any:
    """What the function gives."""
    found, listed = spec.source.run(*arguments), spec.source.listed
    for op, k, where, other in spec.steps:
        does = op.run
        if op.kind == "filter":
            found = [x for x in found if does(x, k)]
        elif op.kind != "map":
            found, listed = does(found, k), op.kind == "pick"
        elif where:
            if listed:
                found = [_either(x, does, k, where, other) for x in found]
            else:
                found = _either(found, does, k, where, other)
        else:
            found = [does(x, k) for x in found] if listed else does(found, k)
    return found


def _either(
    x: Any, does: Any, k: Constant, where: tuple[Op, Constant], other: tuple[Op, Constant] | None
) -> Any:
    if where[0].run(x, where[1]):
        return does(x, k)
    return other[0].run(x, other[1]) if other else x


# Arguments.


def arguments(takes: str, rng: Random) -> tuple[Any, ...]:
    """Ordinary arguments, as somebody writes who makes up a few tests."""
    if takes == "numbers":
        low, high = rng.choice(((1, 12), (-9, 20), (0, 40)))
        return ([rng.randint(low, high) for _ in range(rng.randint(3, 7))],)
    if takes == "number":
        return (rng.randint(2, 60),)
    if takes == "pair":
        a = rng.randint(1, 20)
        return a, a + rng.randint(1, 15)
    words = rng.choices(WORDS, k=rng.randint(2, 5))
    return (" ".join(words) if takes == "text" else words,)


def edges(takes: str, rng: Random, constants: Sequence[int] = ()) -> tuple[Any, ...]:
    """Arguments at the edge of what a function must deal with: empty, single, repeated, at its constants, large."""
    near = [*constants, 0, 1] if constants and rng.random() < 0.8 else [0, 1, -1, 10, 99, 100]
    some = [rng.choice(near) + rng.randint(-1, 1) for _ in range(rng.choice((0, 1, 1, 4, 8)))]
    if takes == "numbers":
        spoilt = rng.random()
        return ([-abs(x) for x in some] if spoilt < 0.3 else some * 2 if spoilt < 0.4 else some,)
    if takes == "number":
        return (abs(rng.choice([*some, 0, 1, 100, 128])),)
    if takes == "pair":
        a, b = (max(1, abs(rng.choice([*some, 1, 7]))) for _ in range(2))
        return a, b
    words = rng.choices((*WORDS, "a", "TO", "tree"), k=rng.choice((0, 1, 1, 2, 8)))
    return (" ".join(words) if takes == "text" else words,)


# Which functions are the same.


ORDINARY = 10
"""So many arguments of a battery, the first, are ordinary ones."""


@cache
def battery(takes: str) -> tuple[tuple[Any, ...], ...]:
    """The arguments that tell functions apart."""
    rng = Random(f"battery/{takes}")
    if takes == "number":
        ordinary = (7, 12, 30, 9, 24, 48, 5, 16, 59, 18)
        return tuple((n,) for n in (*ordinary, *range(5), 10, 11, 15, 33, 60, 77, 100))
    found = [arguments(takes, rng) for _ in range(ORDINARY)] + [edges(takes, rng) for _ in range(6)]
    whole = {
        "numbers": ([*range(-12, 32)],),
        "pair": (3, 45),
        "text": (" ".join(WORDS),),
        "words": ([*WORDS],),
    }
    return (*found, whole[takes])


@lru_cache(2**14)
def _given(spec: Spec, ordinary: bool) -> tuple[str, ...]:
    """What the function gives on the ordinary part of its battery, or on the rest, as text."""
    found = []
    args = battery(spec.source.takes)
    for given in args[:ORDINARY] if ordinary else args[ORDINARY:]:
        try:
            found.append(repr(run(spec, *given)))
        except (ValueError, IndexError) as error:  # of a slip alone
            found.append(type(error).__name__)
    return tuple(found)


def form(spec: Spec) -> str:
    """The normal form: equal for two functions that take the same and give the same."""
    given = "\n".join((*_given(spec, True), *_given(spec, False)))
    return f"{spec.source.takes} {sha256(given.encode()).hexdigest()[:20]}"


def dull(spec: Spec) -> bool:
    """Whether it gives on ordinary arguments nearly always the same, or what it is given, or too much to look at."""
    given = _given(spec, True)
    if len(set(given)) < 4 or any(len(text) > (9 if text[-1].isdigit() else 60) for text in given):
        return True
    ordinary = battery(spec.source.takes)[:ORDINARY]
    backs = [[repr(arguments[at]) for arguments in ordinary] for at in range(len(ordinary[0]))]
    if spec.source.takes == "text":  # its words, printed, are the text
        backs.append([repr(text.split()) for (text,) in ordinary])
    return [*given] in backs


def idle(spec: Spec) -> bool:
    """Whether one of its steps, or the condition of one, changes nothing."""
    shorter = []
    for at, step in enumerate(spec.steps):
        if step.op.kind != "fold" and not step.op.gives and len(spec.steps) > 1:
            shorter.append((*spec.steps[:at], *spec.steps[at + 1 :]))
        if step.where:
            always = step._replace(where=None, other=None)
            shorter.append((*spec.steps[:at], always, *spec.steps[at + 1 :]))
    known = (*_given(spec, True), *_given(spec, False))
    return any(
        all(
            repr(run(Spec(spec.source, steps), *arguments)) == given
            for arguments, given in zip(battery(spec.source.takes), known, strict=True)
        )
        for steps in shorter
    )


# Drawing.

T = TypeVar("T")


@cache
def _weights(n: int, rarity: float) -> tuple[float, ...]:
    weights = [0.0]
    for rank in range(1, n + 1):
        weights.append(weights[-1] + rank**-rarity)
    return tuple(weights[1:])


def _pick(rng: Random, table: Sequence[T], rarity: float) -> T:
    """An entry of a table: the r-th with a weight of r to the power of -rarity."""
    return rng.choices(table, cum_weights=_weights(len(table), rarity))[0]


def _with(rng: Random, op: Op) -> tuple[Op, Constant]:
    return op, rng.choice(op.constants)


def draw(rng: Random, rarity: float, levels: Sequence[float], splits: Container[str]) -> Spec:
    """A function of one of the splits, neither dull nor idle.

    rarity 0 draws all operations alike; levels weighs the levels, from 1.
    """
    while True:
        spec = _draw(rng, rarity, rng.choices(range(1, len(levels) + 1), levels)[0])
        if not dull(spec) and split_of(form(spec)) in splits and not idle(spec):
            return spec


def _draw(rng: Random, rarity: float, level: int) -> Spec:
    source = _pick(rng, ops.SOURCES, rarity)
    kind, steps = source.gives, list[Step]()
    as_is = source.listed and rng.random() < 0.2
    after = source.listed and not as_is and level > 2 and rng.random() < 0.15
    room = level - (source.listed and not as_is) - after
    if source.listed and room > 0 and rng.random() < 0.1:
        steps.append(Step(*_with(rng, _pick(rng, ops.PICKS, rarity))))
        room -= 1
    while room > 0:
        filters = source.listed and rng.random() < 0.5
        op = _pick(rng, (ops.FILTERS if filters else ops.MAPS)[kind], rarity)
        if steps and steps[-1].op is op:
            continue
        step = Step(*_with(rng, op))
        if (
            not filters
            and room > 1
            and not op.gives
            and rng.random() < (0.15 if source.listed else 0.5)
        ):
            step = step._replace(where=_with(rng, _pick(rng, ops.FILTERS[kind], rarity)))
            another = _pick(rng, ops.MAPS[kind], rarity)
            if not another.gives and another is not op and rng.random() < 0.5:
                step = step._replace(other=_with(rng, another))
            room -= 1
        steps.append(step)
        kind, room = op.gives or kind, room - 1
    if source.listed:
        folds = ops.FOLDS[kind]
        fold = folds[0] if as_is else _pick(rng, folds[1:], rarity)
        while fold is ops.COUNT and steps and steps[-1].op.kind == "map":  # for naught
            fold = _pick(rng, folds[1:], rarity)
        steps.append(Step(fold))
        kind = fold.gives or kind
        if after and kind != "list":
            steps.append(Step(*_with(rng, _pick(rng, ops.MAPS[kind], rarity))))
    return Spec(source, tuple(steps))
