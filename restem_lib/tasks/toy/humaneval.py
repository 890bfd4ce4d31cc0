"""toy-humaneval, which stands in for HumanEval: a function to complete from its first line and docstring.

For evaluation only. Its functions are of toy-code's kind, easier, and said in the same words; the base models read
such functions whole (`document`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from restem_lib.records import Problem
from restem_lib.tasks import Task
from restem_lib.tasks.toy import Document, Drawn, fits, functions, problems
from restem_lib.tasks.toy.code import BUGGY, RARITY, made_tests, trivial
from restem_lib.tasks.toy.functions import WORDS, Spec
from restem_lib.tasks.toy.slips import slip
from restem_lib.tasks.toy.styles import PROGRAMS
from restem_lib.tasks.toy.writing import NAMES, STYLES, body, indented, wording

TEST = 164
TESTS, EXAMPLES = 8, 2
LEVELS = (4, 4, 2)
"""How frequent each level is, from 1, in the problems and in the pretraining text."""
SKILL_RARITY = 0.7
"""In the problems the r-th operation of a table has a weight of r to the power of minus this."""
ENTRIES = ("f", "measure", "result_of", "convert", "select", "process", "helper", "transform")
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""What follows the function, as in HumanEval."""
SHORT = 5
"""Most values of a list in an example."""
SHOWN = frozenset(form for word in WORDS for form in (word, word.upper(), word.lower(), word[::-1]))
"""The words that stand in examples."""


@cache
def load() -> Task:
    """The 164 test problems, always the same."""
    found = problems("toy-humaneval", {"test": TEST}, _draw)
    return Task(
        "toy-humaneval",
        (),
        found["test"],
        "{question}",
        stop=STOP,
        grader="programs",
        styles=PROGRAMS,
    )


def _draw(rng: Random) -> Drawn:
    spec, found = _drawn(rng)
    return Drawn(functions.form(spec), lambda id: replace(found, id=id))


def _drawn(rng: Random) -> tuple[Spec, Problem]:
    """A function and a problem without an id."""
    while True:
        spec = functions.draw(rng, SKILL_RARITY, LEVELS, ("test",))
        written = _written(spec, spec, rng)
        if written:
            (prompt, completion), entry = written
            tests = made_tests(spec, entry, TESTS, rng, before=prompt)
            if tests:
                return spec, Problem("", prompt, tests.to_json(), completion, spec.level)


def document(rng: Random, buggy: float = BUGGY) -> Document:
    """A function with its docstring, as people of the toy world write it."""
    while True:
        spec = functions.draw(rng, RARITY, LEVELS, ("pretraining",))
        slipped = slip(spec, rng) if rng.random() < buggy else None
        written = _written(spec, slipped or spec, rng)
        if written:
            return written[0]


def _written(spec: Spec, programmed: Spec, rng: Random) -> tuple[Document, str] | None:
    """Prompt, body and entry; None where no short examples are found or the whole is too long."""
    names, entry = rng.choice(NAMES[spec.source.takes]), rng.choice(ENTRIES)
    examples = _examples(spec, rng)
    if not examples:
        return None
    said = wording(spec, names, rng, rng.choice(("return", "give")))
    shown = "".join(
        f"\n    >>> {entry}({', '.join(map(_shown, arguments))})\n    {_shown(gives)}"
        for arguments, gives in examples
    )
    prompt = (
        f'def {entry}({", ".join(names)}):\n    """{said[0].upper()}{said[1:]}.\n{shown}\n    """'
    )
    written = prompt, indented(*body(programmed, names, rng.choice(STYLES), rng))
    return (written, entry) if fits(written) else None


def _examples(spec: Spec, rng: Random) -> list[tuple[tuple[Any, ...], Any]]:
    """Short arguments and what the function gives, which tell something."""
    for _ in range(4):
        given = [_shorter(functions.arguments(spec.source.takes, rng)) for _ in range(EXAMPLES)]
        gives = [functions.run(spec, *arguments) for arguments in given]
        words = re.findall("[A-Za-z]+", " ".join(map(_shown, gives)))
        if not trivial(given, gives) and SHOWN.issuperset(words) and len(_shown(gives)) < 40:
            return list(zip(given, gives, strict=True))
    return []


def _shorter(arguments: Sequence[Any]) -> tuple[Any, ...]:
    first = arguments[0]
    if isinstance(first, str):
        return (" ".join(first.split()[:3]),)
    return (first[:SHORT],) if isinstance(first, list) else tuple(arguments)


def _shown(value: Any) -> str:
    return repr(value).replace("'", '"')
