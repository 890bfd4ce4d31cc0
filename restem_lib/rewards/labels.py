r"""Rewards for labels: an option, a word, a number or a sequence that must be given exactly (BBH)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from restem_lib.rewards import Graded
from restem_lib.rewards.extraction import MAX_ANSWER

GRADER = "labels-1"

_PHRASE = re.compile(r"\bthe answer is\b:?", re.IGNORECASE)
_OPTION = re.compile(r"\(?([A-Za-z])\)?")


def extract(text: str) -> str:
    """What follows the last "the answer is" on its line, else the first line that holds anything.

    A full stop at the end does not belong to it. More than MAX_ANSWER characters is no answer.

    >>> extract("It is May. So the answer is (B)."), extract(" True\\n\\nQ: next"), extract("")
    ('(B)', 'True', '')
    """
    end = -1
    for phrase in _PHRASE.finditer(text):
        end = phrase.end()
    rest = text if end < 0 else text[end:]
    line = rest.strip().split("\n", 1)[0].strip()
    return line.removesuffix(".").rstrip() if len(line) <= MAX_ANSWER else ""


def normal(label: str) -> str:
    """One spelling of a label: no case, single spaces, an option without its brackets.

    >>> normal("(B)"), normal("b"), normal("]  )"), normal("Yes")
    ('b', 'b', '] )', 'yes')
    """
    clean = " ".join(label.split()).casefold()
    option = _OPTION.fullmatch(clean)
    return option[1] if option else clean


def grade(golds: Sequence[str], texts: Sequence[str]) -> list[Graded]:
    """The verdict on each solution; `texts[i]` is graded against `golds[i]`.

    >>> [graded.verdict for graded in grade(["(B)", "(B)"], ["So the answer is (B).", "(A) or (B)"])]
    ['correct', 'wrong']
    """
    graded = []
    for gold, text in zip(golds, texts, strict=True):
        answer = extract(text)
        if not answer:
            graded.append(Graded("no_answer", "", "no final answer found"))
        else:
            verdict = "correct" if normal(answer) == normal(gold) else "wrong"
            graded.append(Graded(verdict, answer, "exact comparison"))
    return graded
