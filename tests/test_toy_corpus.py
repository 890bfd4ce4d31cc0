"""The text that base models read: whole, of pieces, of the same words for ever, and without any problem of a task."""

from __future__ import annotations

import re
from hashlib import sha256
from itertools import islice
from random import Random

import pytest

from restem_lib.tasks import load_task
from restem_lib.tasks.toy import LONGEST, PIECES, corpus, notes

TASKS = (
    "toy-math",
    "toy-gsm",
    "toy-exam",
    "toy-code",
    "toy-humaneval",
    "toy-bbh",
    "toy-bbh-direct",
)


def text(n: int, seed: str = "text") -> list[tuple[str, str]]:
    return list(islice(corpus.documents(Random(seed)), n))


def test_the_shares_are_shares() -> None:
    assert sum(share for share, _, _ in corpus.MIXTURE.values()) == pytest.approx(1)
    assert all(0 <= wrong < 1 for _, _, wrong in corpus.MIXTURE.values())


def test_the_same_text_for_ever() -> None:
    digest = sha256("".join("".join(pair) for pair in text(1_000)).encode()).hexdigest()
    assert digest[:16] == "e256bbb458da5b30"


def test_documents_fit_and_are_made_of_pieces() -> None:
    for prompt, completion in text(5_000):
        pieces = re.findall(PIECES, prompt + completion)
        assert "".join(pieces) == prompt + completion
        assert pieces == re.findall(PIECES, prompt) + re.findall(PIECES, completion)
        assert len(pieces) < LONGEST


def test_the_text_holds_no_problem() -> None:
    asked = set()
    for name in TASKS:
        task = load_task(name)
        asked |= {task.prompt(problem) for problem in task.train + task.test}
    shared = [prompt for prompt, _ in text(30_000) if prompt in asked]
    assert not shared, shared[:3]


def test_notes_repeat_and_look_up_what_they_say() -> None:
    rng = Random(1)
    for _ in range(300):
        prompt, completion = notes.document(rng)
        said = prompt.removeprefix("Note: ").removesuffix(".\nAgain:")
        again = completion.removeprefix(" ").removesuffix(".")
        assert again == said or set(again.split(", ")) <= set(said.split(", "))
