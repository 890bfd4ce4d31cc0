"""Notes: lists that are repeated and looked things up in. No task, only text that base models read.

Text in the world at large repeats itself, and from that models learn to copy; without it a small model does not learn
to copy words from a question at all.
"""

from __future__ import annotations

from random import Random

from restem_lib.tasks.toy import Document
from restem_lib.tasks.toy.puzzles import COLOURS
from restem_lib.tasks.toy.puzzles_people import NAMES
from restem_lib.tasks.toy.puzzles_words import THINGS

KINDS = (NAMES, COLOURS, THINGS, tuple(map(str, range(1, 100))))


def document(rng: Random, slips: float = 0.0) -> Document:
    """A list with its repetition, or pairs with what is looked up in them; always right, whatever `slips`."""
    if rng.random() < 0.5:
        words = [rng.choice(rng.choice(KINDS)) for _ in range(rng.randint(3, 12))]
        said = " ".join(words)
        return f"Note: {said}.\nAgain:", f" {said}."
    keys, values = rng.sample(KINDS, 2)
    pairs = list(
        zip(rng.sample(keys, size := rng.randint(2, 5)), rng.sample(values, size), strict=True)
    )
    told = ", ".join(f"{key} {value}" for key, value in pairs)
    asked = [rng.choice(pairs) for _ in range(rng.randint(2, 6))]
    looked_up = ", ".join(f"{key} {value}" for key, value in asked)
    return f"Note: {told}.\nAgain:", f" {looked_up}."
