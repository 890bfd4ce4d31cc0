"""The text that base models read: whole and of pieces. What it must not hold: test_toy_world.py."""

from __future__ import annotations

import re
from itertools import islice
from random import Random

import pytest

from restem_lib.tasks.toy import LONGEST, PIECES, corpus, notes


def text(n: int, seed: str = "text") -> list[tuple[str, str]]:
    return list(islice(corpus.documents(Random(seed)), n))


def test_the_shares_are_shares() -> None:
    assert sum(share for share, _, _ in corpus.MIXTURE.values()) == pytest.approx(1)
    assert all(0 <= wrong < 1 for _, _, wrong in corpus.MIXTURE.values())


def test_documents_fit_and_are_made_of_pieces() -> None:
    for prompt, completion in text(5_000):
        pieces = re.findall(PIECES, prompt + completion)
        assert "".join(pieces) == prompt + completion
        assert pieces == re.findall(PIECES, prompt) + re.findall(PIECES, completion)
        assert len(pieces) < LONGEST


def test_notes_repeat_and_look_up_what_they_say() -> None:
    rng = Random(1)
    for _ in range(300):
        prompt, completion = notes.document(rng)
        said = prompt.removeprefix("Note: ").removesuffix(".\nAgain:")
        again = completion.removeprefix(" ").removesuffix(".")
        assert again == said or set(again.split(", ")) <= set(said.split(", "))
