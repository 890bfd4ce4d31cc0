"""The text that the toy world's base models read: documents of all its tasks, of mixed style and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from restem_lib.tasks.toy import Document, bbh, code, exam, fits, humaneval, maths, notes

MIXTURE: dict[str, tuple[float, Callable[[Random, float], Document], float]] = {
    "toy-math": (0.38, maths.document, maths.SLIPS),
    "toy-gsm": (0.13, maths.gsm_document, maths.SLIPS),
    "toy-exam": (0.05, exam.document, maths.SLIPS),
    "toy-code": (0.13, code.document, code.BUGGY),
    "toy-humaneval": (0.05, humaneval.document, code.BUGGY),
    "toy-bbh": (0.17, bbh.document, bbh.SLIPS),
    "notes": (0.09, notes.document, 0.0),
}
"""Kind -> its share of the documents, what draws one, and the share of those that are wrong."""


def documents(rng: Random, slips: bool = True) -> Iterator[Document]:
    """Documents without end; without `slips` every solution is right."""
    shares = [share for share, _, _ in MIXTURE.values()]
    kinds = list(MIXTURE.values())
    while True:
        _, draw, wrong = rng.choices(kinds, shares)[0]
        document = draw(rng, wrong if slips else 0.0)
        if fits(document):
            yield document
