"""The toy world: six made-up tasks that stand in for the paper's benchmarks, and the text its base models read.

Everything is drawn from seeded generators. What a problem asks, without its wording, is its normal form, and the form's
hash says where the problem may stand: among the training problems, the test problems or in the pretraining text, of any
task. So no model meets a test problem before its test, in whatever words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from random import Random
from typing import NamedTuple, TypeVar

from restem_lib.records import Problem

LONGEST = 160
"""Tokens of the longest document, prompt and completion together: a row of pretraining (a test checks)."""

PIECES = r"\n####|\n *| ?[A-Za-z_]+| ?[0-9]| ?[^\sA-Za-z0-9]"
"""What the world's tokenizer makes a token of: words, single digits, signs, line breaks with the indentation after."""

Document = tuple[str, str]
"""A prompt and its completion."""


class Drawn(NamedTuple):
    """A problem as it was drawn, before it has a number."""

    form: str
    """Its normal form: equal for two problems that ask the same."""
    problem: Callable[[str], Problem]
    """The problem by its id; not called for one that is not wanted."""


def fits(document: Document) -> bool:
    """Whether a document and the token that ends it are no longer than LONGEST."""
    return len(_PIECE.findall("".join(document))) < LONGEST


_PIECE = re.compile(PIECES)


def split_of(form: str) -> str:
    """Where problems of a normal form stand: "train", "test" or "pretraining" (a quarter, a quarter, half)."""
    return ("train", "test", "pretraining", "pretraining")[sha256(form.encode()).digest()[0] % 4]


def problems(
    name: str, wanted: Mapping[str, int], draw: Callable[[Random], Drawn]
) -> dict[str, tuple[Problem, ...]]:
    """Split -> the first `wanted` problems of it that draw gives, never two of one form; the same ones for ever."""
    rng = Random(name)
    found: dict[str, dict[str, Problem]] = {split: {} for split in wanted}
    while any(len(found[split]) < wanted[split] for split in wanted):
        form, problem = draw(rng)
        split = split_of(form)
        if split in wanted and form not in found[split] and len(found[split]) < wanted[split]:
            found[split][form] = problem(f"{name}/{split}/{len(found[split])}")
    return {split: tuple(asked.values()) for split, asked in found.items()}


T = TypeVar("T")


def for_reading(rng: Random, draw: Callable[[Random], T], form: Callable[[T], str]) -> T:
    """The first thing drawn whose form belongs to the pretraining text."""
    while True:
        drawn = draw(rng)
        if split_of(form(drawn)) == "pretraining":
            return drawn
