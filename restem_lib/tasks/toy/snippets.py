"""What a part of the toy world's functions is: a line of Python and words for it.

What it means is what the Python gives: the tables of `operations.py` are evaluated, and nothing else is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Constant = int | str
"""A number or a letter."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where the values come from."""

    name: str
    takes: str
    """Which arguments: "numbers", "number", "pair", "text" or "words"."""
    gives: str
    """Which elements: "number", "word" or "letter"."""
    code: str
    """Python, with {a} and {b} for the parameters."""
    says: str
    listed: bool = True
    """Whether it gives a list, of which each element is dealt with, or one value."""
    loop: tuple[str, str] = ("", "")
    """What a loop goes over instead of the code, and its first line."""
    run: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        code = self.code.format(a="a", b="b")
        object.__setattr__(
            self, "run", _meaning("a, b=0", f"list({code})" if self.listed else code)
        )


@dataclass(frozen=True, eq=False)
class Op:
    """What is done to an element {x}, or with pick and fold to a list {x}; {k} is a constant."""

    kind: str
    """"pick", "filter", "map" or "fold"."""
    name: str
    code: str
    """Python, with {x} and {k}."""
    says: tuple[str, ...]
    """pick: of {things}. filter: clauses, in the plural or "plural|singular". map: what to do with {it}, and what {it}
    becomes. fold: of {them}."""
    constants: tuple[Constant, ...] = (0,)
    gives: str = ""
    """map, fold: the kind of value that comes out, where it is not the kind that goes in."""
    loop: tuple[str, str, str] = ("[]", "{t}.append({x})", "")
    """fold: how {t} begins, what each {x} does to it, what comes out ("": the code, of {t})."""
    style: str = ""
    """The only style of programs that it is written in, "" for all."""
    run: Callable[[Any, Any], Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "run", _meaning("x, k", self.code.format(x="x", k="k")))


def _meaning(parameters: str, code: str) -> Callable[..., Any]:
    line = f"lambda {parameters}: {code}"  # of `operations.py`'s tables, never of a model
    meaning: Callable[..., Any] = eval(line, {"math": math})
    return meaning


def pick_(name: str, code: str, says: str, constants: tuple[Constant, ...] = (0,)) -> Op:
    return Op("pick", name, code, (says,), constants)


def filter_(name: str, code: str, says: str, constants: tuple[Constant, ...] = (0,)) -> Op:
    return Op("filter", name, code, tuple(says.split("; ")), constants)


def map_(
    name: str, code: str, says: str, constants: tuple[Constant, ...] = (0,), gives: str = ""
) -> Op:
    return Op("map", name, code, tuple(says.split("; ")), constants, gives)


def fold_(name: str, code: str, says: str, gives: str = "", loop: str = "", style: str = "") -> Op:
    """loop is Op.loop in one text, its parts between semicolons."""
    start, update, result = loop.split("; ") if loop else ("[]", "{t}.append({x})", "")
    return Op(
        "fold", name, code, tuple(says.split("; ")), (0,), gives, (start, update, result), style
    )
