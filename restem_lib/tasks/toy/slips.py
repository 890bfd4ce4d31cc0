"""Slips: what people of the toy world program by mistake.

A slip is another function, right in itself: with a constant beside it, a wrong comparison, a step forgotten, nothing
thought of empty lists. So it is written as any function, and whether it really is another one can be asked.
"""

from __future__ import annotations

from functools import cache
from random import Random

from restem_lib.tasks.toy import split_of
from restem_lib.tasks.toy.functions import Spec, Step, form
from restem_lib.tasks.toy.operations import (
    DIVISORS,
    FILTERS,
    FOLDS,
    MAPS,
)
from restem_lib.tasks.toy.snippets import Op, Source, filter_, fold_

SLIPPED_SOURCES = {
    "range": (
        Source("to", "number", "number", "range(1, {a})", ""),
        Source("from", "number", "number", "range({a})", ""),
    ),
    "between": (Source("up", "pair", "number", "range({a}, {b})", ""),),
    "divisors": (Source("proper", "number", "number", DIVISORS.replace("{a} + 1", "{a}"), ""),),
}
SLIPPED = (
    filter_("nonnegative", "{x} >= 0", ""),
    filter_("nonpositive", "{x} <= 0", ""),
    fold_("max_from_0", "max([0] + {x})", "", "", "0; if {x} > {t}:\n    {t} = {x}; {t}", "loop"),
    fold_("min_from_0", "min([0] + {x})", "", "", "0; if {x} < {t}:\n    {t} = {x}; {t}", "loop"),
    fold_("max_of_none", "max({x})", "", style="builtin"),
    fold_("min_of_none", "min({x})", "", style="builtin"),
    fold_("first_of_none", "{x}[0]", "", style="builtin"),
    fold_("last_of_none", "{x}[-1]", "", style="builtin"),
    fold_("longest_of_none", "max({x}, key=len)", "", style="builtin"),
    fold_("shortest_of_none", "min({x}, key=len)", "", style="builtin"),
    fold_("sum_from_1", "sum({x}) + 1", "", "", "1; {t} += {x}; {t}", "loop"),
    fold_("product_from_0", "math.prod({x}) * 0", "", "", "0; {t} *= {x}; {t}", "loop"),
)

INSTEAD = {
    "over": "atleast under",
    "atleast": "over atmost",
    "under": "atmost over",
    "atmost": "under",
    "positive": "nonnegative",
    "negative": "nonpositive",
    "even": "odd",
    "odd": "even",
    "by": "notby",
    "notby": "by",
    "vowel": "consonant",
    "starts": "ends with",
    "add": "less",
    "less": "add from",
    "from": "less",
    "mod": "divide",
    "cap": "raise",
    "raise": "cap",
    "upper": "lower",
    "first": "end first_of_none last",
    "sum": "sum_from_1 product",
    "count": "distinct",
    "distinct": "count",
    "largest": "max_from_0 max_of_none smallest",
    "smallest": "min_from_0 min_of_none largest",
    "product": "product_from_0 sum",
    "last": "last_of_none first",
    "longest": "longest_of_none shortest",
    "shortest": "shortest_of_none longest",
    "sorted": "descending list",
    "descending": "sorted",
    "unique": "list",
}
"""For the name of an operation those of others, of the same kind, that are written in its place."""


def slip(spec: Spec, rng: Random) -> Spec | None:
    """Another function, which somebody programs who means this one; of the pretraining text, like all that is read."""
    for _ in range(20):
        slipped = _slip(spec, rng)
        if slipped and form(slipped) != form(spec) and split_of(form(slipped)) == "pretraining":
            return slipped
    return None


def _slip(spec: Spec, rng: Random) -> Spec | None:
    """The function after one change, None where the change that was drawn cannot be made."""
    at = rng.randrange(-1, len(spec.steps))
    steps = list(spec.steps)
    if at < 0:
        sources = SLIPPED_SOURCES.get(spec.source.name, ())
        return Spec(rng.choice(sources), spec.steps) if sources else None
    step = steps[at]
    how = rng.choice(("constant", "instead", "instead", "forgotten", "swapped", "always"))
    if how == "constant" and len(step.op.constants) > 1 and isinstance(step.k, int):
        steps[at] = step._replace(k=max(1, step.k + rng.choice((-1, 1))))
    elif how == "instead" and _instead(step.op):
        steps[at] = step._replace(op=rng.choice(_instead(step.op)))
    elif how == "forgotten" and len(steps) > 1 and step.op.kind != "fold" and not step.op.gives:
        del steps[at]
    elif how == "swapped" and at + 1 < len(steps) and _plain(step) and _plain(steps[at + 1]):
        steps[at], steps[at + 1] = steps[at + 1], step
    elif how == "always" and step.where:
        steps[at] = step._replace(where=None, other=None)
    else:
        return None
    return Spec(spec.source, tuple(steps))


@cache
def _instead(op: Op) -> tuple[Op, ...]:
    """The operations that are written in its place, of its kind and for the same elements."""
    tables = (*FILTERS.values(), *MAPS.values(), *FOLDS.values())
    siblings = next((table for table in tables if op in table), ())
    names = INSTEAD.get(op.name, "").split()
    alike = [other for other in siblings if other.gives == op.gives]
    return tuple(
        other for other in (*alike, *SLIPPED) if other.name in names and other.kind == op.kind
    )


def _plain(step: Step) -> bool:
    return step.op.kind in ("filter", "map") and not step.op.gives
