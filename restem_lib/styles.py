"""Solutions by style: how often a model writes in each, how often it is right in each, and what a gain is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from restem_lib.config import Common
from restem_lib.evaluation import Outcome
from restem_lib.records import Problem
from restem_lib.rewards import programs, sandbox
from restem_lib.statistics import Interval, paired_difference, ratio
from restem_lib.store import seed_for
from restem_lib.tasks import Styles, Task

RESAMPLES = 4_000
"""Of the problems, for the intervals of a gain's two parts."""


class Row(NamedTuple):
    """One style among a model's solutions."""

    style: str
    share: float
    """Of all solutions."""
    share_low: float
    share_high: float
    correct: float
    """Right ones among those in this style; NaN where there are none."""
    low: float
    high: float
    n: int
    """Solutions in this style."""
    problems: int
    """Problems that they are solutions of."""
    false_positives: int | None
    """Right ones with steps that do not hold, or that fail held-out tests; None where nothing tells."""


@dataclass(frozen=True)
class Styled:
    """N solutions of each of P problems by style."""

    names: tuple[str, ...]
    style: NDArray[np.int64]
    """[P, N], index into names."""
    correct: NDArray[np.bool_]
    """[P, N]"""
    flawed: NDArray[np.bool_] | None
    """[P, N]: right, but a false positive; None where nothing tells."""
    checked: NDArray[np.bool_] | None
    """[P, N]: right, and with steps to check or tests to run; an answer alone shows no steps."""

    def counts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Solutions, and right solutions, of each problem and style: [P, styles] each."""
        each = self.style[:, :, None] == np.arange(len(self.names))
        there, right = each.sum(axis=1), (each & self.correct[:, :, None]).sum(axis=1)
        return there.astype(np.float64), right.astype(np.float64)

    def rows(self) -> list[Row]:
        """A row a style, with 95 % intervals over problems."""
        there, right = self.counts()
        found = []
        for at, name in enumerate(self.names):
            rng = np.random.default_rng(seed_for("interval", "style", name))
            share = ratio(there[:, at], np.full(len(there), self.style.shape[1]), rng)
            within = ratio(right[:, at], there[:, at], rng)
            wrong = None if self.flawed is None else int(self.flawed[self.style == at].sum())
            found.append(
                Row(name, *share[:3], *within[:3], int(there[:, at].sum()), within.n, wrong)
            )
        return found

    def false_positives(self) -> Interval | None:
        """Share of false positives among the right solutions that can be checked; None where nothing tells."""
        if self.flawed is None or self.checked is None:
            return None
        rng = np.random.default_rng(seed_for("interval", "false positives"))
        return ratio(self.flawed.sum(axis=1), self.checked.sum(axis=1), rng)


def read(drawn: Outcome, task: Task, problems: Sequence[Problem], config: Common) -> Styled:
    """The styles of an outcome's solutions. Raises ValueError for a task without, SandboxError as scoring does."""
    if task.styles is None:
        raise ValueError(f"{task.name} has no styles")
    texts, place = drawn.texts(problems), {name: at for at, name in enumerate(task.styles.names)}
    style = [
        [place[task.styles.of(problem, text)] for text in row]
        for problem, row in zip(problems, texts, strict=True)
    ]
    flawed = _flawed(task.styles, problems, texts, drawn.correct, config)
    return Styled(task.styles.names, np.array(style), drawn.correct, *flawed)


def _flawed(
    styles: Styles,
    problems: Sequence[Problem],
    texts: Sequence[Sequence[str]],
    correct: NDArray[np.bool_],
    config: Common,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | tuple[None, None]:
    """`Styled.flawed` and `Styled.checked`."""
    if styles.flawed is None and styles.held_out is None:
        return None, None
    places = [(int(p), int(s)) for p, s in np.argwhere(correct)]
    found, checked = np.zeros_like(correct), np.zeros_like(correct)
    wrong: list[bool | None]
    if styles.flawed is not None:
        wrong = [styles.flawed(problems[p], texts[p][s]) for p, s in places]
    else:
        assert styles.held_out is not None
        tests = styles.held_out()
        golds = [tests[problems[p].id] for p, _ in places]
        written = [texts[p][s] for p, s in places]
        level = sandbox.level_here(config.unsafe_programs)
        graded = programs.grade(golds, written, level) if places else []
        wrong = [outcome.graded.verdict != "correct" for outcome in graded]
    for (p, s), flaw in zip(places, wrong, strict=True):
        found[p, s], checked[p, s] = bool(flaw), flaw is not None
    return found, checked


class Gain(NamedTuple):
    """The gain of one model over another on the same problems, in two parts that add up to it."""

    total: Interval
    by_style: Interval
    """What other shares of styles give: sum of (share 2 - share 1) x mean accuracy in the style."""
    within: Interval
    """What other accuracies within styles give: sum of mean share x (accuracy 2 - accuracy 1)."""


def gain(before: Styled, after: Styled) -> Gain:
    """The decomposition of Kitagawa and Oaxaca, with 95 % intervals over problems (paired bootstrap).

    A style that one model never uses has the other's accuracy there, so that it counts as chosen or given up. The
    two parts describe and do not explain: a model that keeps a style for other problems than before changes its
    accuracy within it. A part that no resample changes has NaN for an interval. Raises ValueError for other styles or
    problems.
    """
    if before.names != after.names or len(before.correct) != len(after.correct):
        raise ValueError("a gain needs the same styles and the same problems for both models")
    n = len(before.correct)
    counts = np.stack([*before.counts(), *after.counts()])  # [4, P, styles]
    rng = np.random.default_rng(seed_for("interval", "gain"))
    once = _parts(counts.sum(axis=1, keepdims=True))[0]
    # How often each problem is drawn, times the counts, is the counts of a resample.
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
    low, high = np.quantile(_parts(drawn @ counts), (0.025, 0.975), axis=0)
    low = np.where(low == high, np.nan, low)  # a width of 0 would claim a certainty
    high = np.where(np.isnan(low), np.nan, high)
    parts = [Interval(float(once[i]), float(low[i]), float(high[i]), n) for i in range(2)]
    a, b = before.correct.mean(axis=1), after.correct.mean(axis=1)
    return Gain(paired_difference(a, b, np.random.default_rng(0)), parts[0], parts[1])


def _parts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solutions and right ones before and after, [4, resamples, styles] -> [resamples, 2]: by style and within."""
    there, right = counts[0::2], counts[1::2]
    share = there / there.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        rate = right / there
    rate = np.where(np.isnan(rate), rate[::-1], rate)
    rate = np.nan_to_num(rate)  # in neither model: no share either
    by_style = (share[1] - share[0]) * rate.mean(axis=0)
    within = share.mean(axis=0) * (rate[1] - rate[0])
    return np.stack([by_style.sum(axis=-1), within.sum(axis=-1)], axis=-1)
