"""Functions of the toy world with one number a little off, and arguments that tell a function from these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any

from restem_lib.tasks.toy.functions import Spec, arguments, run
from restem_lib.tasks.toy.snippets import Constant, Op


def telling(spec: Spec, given: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Arguments to add to those given, so that the function is told from its neighbours, where close ones do so."""
    found: list[tuple[Any, ...]] = []
    for other in neighbours(spec):
        for some in (*given, *found, *close(spec.source.takes)):
            if run(other, *some) != run(spec, *some):
                if some not in given and some not in found:
                    found.append(some)
                break
    return found


def neighbours(spec: Spec) -> Iterator[Spec]:
    """The functions with one of its numbers, that of a condition or of what is done, one smaller or larger."""
    for at, step in enumerate(spec.steps):
        for by in (-1, 1):
            changed = [step._replace(k=k) for k in _off(step.op, step.k, by)]
            if step.where:
                op, k = step.where
                changed += [step._replace(where=(op, off)) for off in _off(op, k, by)]
            if step.other:
                op, k = step.other
                changed += [step._replace(other=(op, off)) for off in _off(op, k, by)]
            for one in changed:
                yield Spec(spec.source, (*spec.steps[:at], one, *spec.steps[at + 1 :]))


def _off(op: Op, k: Constant, by: int) -> tuple[int, ...]:
    """The constant so much larger; nothing for a letter, and where the operation has none."""
    return (k + by,) if isinstance(k, int) and len(op.constants) > 1 else ()


@cache
def close(takes: str) -> tuple[tuple[Any, ...], ...]:
    """Arguments that lie close together, so that some are at the edge of a condition, then ordinary ones."""
    if takes == "number":
        return tuple((n,) for n in range(131))
    if takes == "pair":
        return tuple((a, b) for a in range(1, 16) for b in range(1, 46))
    rng = Random(f"close/{takes}")
    ordinary = tuple(arguments(takes, rng) for _ in range(400))
    if takes != "numbers":
        return ordinary
    edge = [([n], [n] * 4, [1, 2, n]) for n in range(-25, 46)]
    return (*((some,) for lists in edge for some in lists), *ordinary)
