"""A model's numbers as lines of text, each with its interval and n."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

import numpy as np

from restem_lib import evaluation
from restem_lib.evaluation import Luck, Outcome
from restem_lib.records import Evaluation, Problem
from restem_lib.statistics import Interval, interval, mcnemar, paired_difference
from restem_lib.styles import Gain, Styled
from restem_lib.tasks import Task


def number(found: Evaluation) -> str:
    """One number of an evaluation."""
    if found.metric == "points":
        points = f"{100 * found.value:.1f} of 100 a form"
        return f"{'points':<14} {points} ({_within(found, 100, '.1f')}, n={found.problems} forms)"
    metric = found.metric.replace("@k", f"@{found.k}")
    label = "greedy pass@1" if metric == "greedy" else metric
    return f"{label:<14} {found.value:.3f} ({_within(found)}, n={found.problems})"


def luck(found: Luck) -> str:
    """What it takes no model for."""
    if not found.answer:
        return f"luck: one output, whichever, would pass all tests of {found.value:.1%} of the problems"
    text = f"luck: always answering {found.answer!r} is right in {found.value:.1%}"
    if found.kinds:
        text += f", the commonest answer of each kind in {found.by_kind:.1%}"
    return text


def kinds(decoded: Outcome, problems: Sequence[Problem], found: Luck) -> list[str]:
    """Labels: a line a kind of problem, beside what always giving its commonest answer would score."""
    lines = []
    for kind, commonest in found.kinds.items():
        mine = [problem.id.split("/")[1] == kind for problem in problems]
        if not any(mine):
            continue
        value, low, high, n = interval(decoded.correct[mine, 0], np.random.default_rng(0))
        lines.append(
            f"{kind:<40} {value:.3f} (95 % interval {low:.3f} to {high:.3f}, n={n}; "
            f"always the commonest target: {commonest:.3f})"
        )
    return lines


def exam(decoded: Outcome, task: Task, problems: Sequence[Problem]) -> list[str]:
    """toy-exam: mean points of a form; nothing for other tasks."""
    if task.name != "toy-exam":
        return []
    found = evaluation.exam_points(decoded, problems)
    return [
        number(found) if found else "points: no form of the exam is among these problems in full"
    ]


def styles(found: Styled, what: str) -> list[str]:
    """A line a style that occurs, and one for false positives where something tells of them."""
    lines = [f"{what} by style: share of all, and what is right in it"]
    for row in found.rows():
        if row.n:
            share = f"{row.share:6.1%} ({row.share_low:.1%} to {row.share_high:.1%})"
            right = f"{row.correct:.3f} (95 % interval {row.low:.3f} to {row.high:.3f}, n={row.n})"
            lines.append(f"  {row.style:<14} {share:<25} right {right}")
    wrong = found.false_positives()
    if found.flawed is not None and found.checked is not None and wrong is not None and wrong.n:
        lines.append(
            f"  false positives: {int(found.flawed.sum())} of {int(found.checked.sum())} right solutions with "
            f"steps or tests to check, {wrong.value:.3f} ({_within(wrong)})"
        )
    return lines


def gain(found: Gain, what: str) -> str:
    """A gain in its two parts."""
    return (
        f"{what}: {found.total.value:+.3f} = {_signed(found.by_style)} by other shares of styles, "
        f"{_signed(found.within)} by accuracy within styles"
    )


def change(what: str, first: Outcome, second: Outcome) -> str:
    """Greedy pass@1 of one model against another on the same problems."""
    a, b = first.correct[:, 0], second.correct[:, 0]
    found = paired_difference(a.astype(float), b.astype(float), np.random.default_rng(0))
    test = mcnemar(a, b)
    return (
        f"{what}: {found.value:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f}, paired, n={found.n}; "
        f"{test.only_b} gained, {test.only_a} lost, McNemar p = {test.p:.2g})"
    )


def _within(found: Evaluation | Interval, times: int = 1, shape: str = ".3f") -> str:
    return f"95 % interval {times * found.low:{shape}} to {times * found.high:{shape}}"


def _signed(found: Interval) -> str:
    if isnan(found.low):
        return f"{found.value:+.3f} (no interval: the same in every resample)"
    return f"{found.value:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f})"
