"""Overlap between sets of problems: what a model saw in training should not be what it is tested on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from restem_lib.records import Problem

WORDS = 13
"""Length of a run of words that two texts hardly share by chance."""
SHARE = 0.5
"""Share of a problem's runs found in the other set from which it counts as overlapping."""
EXAMPLES = 3

_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Overlap:
    """How much of the second set is in the first."""

    first: str
    second: str
    exact: int
    """Problems of the second set whose words are those of one of the first."""
    partial: int
    """Other problems of the second set of which at least SHARE of the runs of WORDS words are in the first."""
    of: int
    """Problems in the second set."""
    examples: tuple[tuple[str, str], ...] = ()
    """Up to EXAMPLES pairs of ids, one of each set."""


def overlaps(tasks: Mapping[str, Sequence[Problem]]) -> list[Overlap]:
    """One for each pair of sets, in their order: name the training problems before the test problems.

    Only questions are compared, by their words: case, signs and spaces do not count, so two problems that differ in a
    sign alone are taken for equal. Time and memory are linear in the text.
    """
    read = {name: [_words(problem.question) for problem in tasks[name]] for name in tasks}
    return [_overlap(first, second, tasks, read) for first, second in combinations(tasks, 2)]


def _words(text: str) -> tuple[str, ...]:
    """The normal form of a question.

    >>> _words("What is $x_1 +  2$?")
    ('what', 'is', 'x', '1', '2')
    """
    return tuple(_WORD.findall(text.casefold()))


def _runs(words: tuple[str, ...]) -> list[int]:
    """Hashes of the runs of WORDS words; 64 bits, so a chance match is not to be expected."""
    return list(dict.fromkeys(hash(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)))


def _overlap(
    first: str,
    second: str,
    tasks: Mapping[str, Sequence[Problem]],
    read: Mapping[str, Sequence[tuple[str, ...]]],
) -> Overlap:
    whole: dict[int, int] = {}
    runs: dict[int, int] = {}
    for index, words in enumerate(read[first]):
        whole.setdefault(hash(words), index)
        for run in _runs(words):
            runs.setdefault(run, index)
    exact, partial = [], []
    for index, words in enumerate(read[second]):
        same = whole.get(hash(words))
        if words and same is not None:
            exact.append((same, index))
            continue
        own = _runs(words)
        found = Counter(runs[run] for run in own if run in runs)
        if own and found.total() >= SHARE * len(own):
            partial.append((found.most_common(1)[0][0], index))
    pairs = [(tasks[first][a].id, tasks[second][b].id) for a, b in (exact + partial)[:EXAMPLES]]
    return Overlap(first, second, len(exact), len(partial), len(read[second]), tuple(pairs))
