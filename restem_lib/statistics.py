"""Arithmetic on evaluations: pass@k, majority vote, and intervals over problems.

Arrays are [P, N] (P problems, N samples each) or [P] (one rate a problem). The problem is the unit
that is resampled: samples of one problem depend on each other, problems do not. No global random
state is read: whatever draws takes an `rng`, so the same seed gives the same interval.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHUNK = 1_000_000
"""Problems drawn at once while resampling: 16 MB, however many problems and resamples there are."""


class Interval(NamedTuple):
    """A mean over n problems, and the two ends of its interval."""

    value: float
    low: float
    high: float
    n: int


class McNemar(NamedTuple):
    """How many problems only one of two models solves, and the p-value of that difference."""

    only_a: int
    only_b: int
    p: float


def pass_at_k(correct: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Chance that at least one of k samples is correct, per problem, without bias.

    correct is [P, N], the result [P]: 1 - C(N - c, k) / C(N, k) for a problem with c correct
    samples (Chen et al. 2021); all NaN when k > N. Raises ValueError for k < 1 and for anything
    but a boolean [P, N].

    >>> pass_at_k(np.array([[True, False, False, False], [False] * 4]), 2).tolist()
    [0.5, 0.0]
    """
    _require_bool("correct", correct, dimensions=2)
    if k < 1:
        raise ValueError(f"pass@k needs k of at least 1, got {k}")
    problems, samples = correct.shape
    if k > samples:
        return np.full(problems, np.nan)
    # The ratio is the chance of drawing k wrong samples one after the other. Its factors stay
    # within 0..1, whereas the binomials themselves overflow at a thousand samples or so.
    drawn = np.arange(k)
    wrong = samples - correct.sum(axis=1)
    left = np.maximum(wrong[:, None] - drawn, 0)
    all_wrong: NDArray[np.float64] = np.prod(left / (samples - drawn), axis=1)
    return 1.0 - all_wrong


def majority(answers: Sequence[Sequence[str]], correct: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Chance that the most frequent answer is correct, per problem.

    answers holds P rows of N canonical answers, correct is [P, N], the result [P]. "" is no answer:
    it never votes, and a problem without votes scores 0. A tie is broken at random in expectation:
    the score is the share of the tied answers that are correct. An answer is correct if any sample
    with that answer is. Raises ValueError when the shapes differ or correct is not boolean [P, N].

    >>> correct = np.array([[True, True, False, False], [True, False, False, False]])
    >>> majority([["7", "7", "8", ""], ["7", "8", "", ""]], correct).tolist()
    [1.0, 0.5]
    """
    _require_bool("correct", correct, dimensions=2)
    problems, samples = correct.shape
    if len(answers) != problems:
        raise ValueError(f"answers has {len(answers)} problems, correct has {problems}")
    for problem, row in enumerate(answers):
        if len(row) != samples:
            raise ValueError(
                f"problem {problem} has {len(row)} answers, correct has {samples} samples a problem"
            )
    rows = zip(answers, correct, strict=True)
    return np.array([_majority_of_one(row, flags) for row, flags in rows], dtype=np.float64)


def interval(
    values: ArrayLike, rng: np.random.Generator, level: float = 0.95, resamples: int = 10_000
) -> Interval:
    """Mean of one rate a problem, with its interval over problems.

    values is [P], each within 0..1: 0/1 for greedy pass@1, fractions for pass@k. The interval is

    - for 0/1 values Wilson's score interval;
    - for fractions the percentile bootstrap over problems (a little narrow when problems are few);
    - where all P values equal one v, neither: no resample could differ, and a width of 0 would
      claim a certainty that P problems cannot give. The share of problems that would score
      something else was 0 in P, so Wilson puts it below u = z^2 / (P + z^2); whatever they score
      is within 0..1, so the mean is within v - u v .. v + u (1 - v). At v = 0 and at v = 1 this is
      Wilson's interval itself;
    - NaN at both ends, and as value, where any value is NaN.

    Only the bootstrap draws from rng. Raises ValueError for no values, values outside 0..1, a level
    not between 0 and 1, and resamples < 1.

    >>> value, low, high, n = interval([1, 1, 1, 0], np.random.default_rng(0))
    >>> f"{value} within {low:.3f}..{high:.3f} over {n} problems"
    '0.75 within 0.301..0.954 over 4 problems'
    """
    rates = _rates("values", values)
    _require_settings(level, resamples)
    if np.isnan(rates).any():
        return Interval(np.nan, np.nan, np.nan, len(rates))
    if _all_equal(rates):
        return unvaried(rates, lowest=0.0, level=level)
    # A percentile bootstrap of 0/1 values has no width at a mean of 0 or 1, and too little nearby.
    if np.isin(rates, (0.0, 1.0)).all():
        return _wilson(rates, level)
    return _bootstrap(rates, rng, level, resamples)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Mean of b - a on the same problems, with its percentile bootstrap interval over problems.

    a and b are [P], rates within 0..1 of the same problems in the same order: positive means that b
    is better. Where all differences are equal (two models that agree on every problem, say) the
    rule of `interval` applies, with -1..1 as the range of a difference. Any NaN gives NaN. With 0/1
    rates that differ on a handful of problems the bootstrap is coarse: read it beside `mcnemar`,
    which is exact there. Raises ValueError as `interval` does, and when a and b differ in length.

    >>> paired_difference([0, 0, 1, 1], [1, 1, 1, 1], np.random.default_rng(0))
    Interval(value=0.5, low=0.0, high=1.0, n=4)
    """
    before, after = _rates("a", a), _rates("b", b)
    _require_same_length(before, after)
    _require_settings(level, resamples)
    gains = after - before
    if np.isnan(gains).any():
        return Interval(np.nan, np.nan, np.nan, len(gains))
    if _all_equal(gains):
        return unvaried(gains, lowest=-1.0, level=level)
    return _bootstrap(gains, rng, level, resamples)


def ratio(
    part: ArrayLike,
    whole: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Interval:
    """Sum of part over sum of whole, one count a problem each, with its interval over problems.

    For a rate among some of the samples, of which problems have different numbers: right ones (part)
    among those in one style (whole). n counts the problems that have any. The interval is the
    percentile bootstrap over these; where no problem has more than one, or all have the same rate,
    that of `interval`; NaN where there are none. Raises ValueError for counts that are not
    0 <= part <= whole, and as `interval` does.

    >>> ratio([1, 0, 0, 2], [1, 0, 2, 2], np.random.default_rng(0))[::3]
    (0.6, 3)
    """
    parts, wholes = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    if (
        parts.shape != wholes.shape
        or parts.ndim != 1
        or (parts < 0).any()
        or (parts > wholes).any()
    ):
        raise ValueError("part and whole must hold one count a problem, 0 <= part <= whole")
    _require_settings(level, resamples)
    there = wholes > 0
    parts, wholes = parts[there], wholes[there]
    n = len(wholes)
    if not n:
        return Interval(np.nan, np.nan, np.nan, 0)
    if wholes.max() == 1 or _all_equal(parts / wholes):
        return interval(parts / wholes, rng, level, resamples)
    rows = max(1, CHUNK // n)
    rates = np.empty(resamples)
    for start in range(0, resamples, rows):
        block = rates[start : start + rows]
        drawn = rng.integers(n, size=(len(block), n))
        block[:] = parts[drawn].sum(axis=1) / wholes[drawn].sum(axis=1)
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(parts.sum() / wholes.sum()), float(low), float(high), n)


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> McNemar:
    """Exact two-sided McNemar test of two models on the same problems.

    a and b are boolean [P]: solved or not. Only problems that one model alone solves say anything;
    if the models are equally good each of them is a fair coin, so p is the two-sided binomial tail
    (1 when there are none). Raises ValueError when the lengths differ or an array is not boolean [P].

    >>> mcnemar(np.array([False, False, False, True]), np.array([True, True, True, True]))
    McNemar(only_a=0, only_b=3, p=0.25)
    """
    _require_bool("a", a, dimensions=1)
    _require_bool("b", b, dimensions=1)
    _require_same_length(a, b)
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    discordant = only_a + only_b
    tail = sum(comb(discordant, heads) for heads in range(min(only_a, only_b) + 1))
    # Integers of any size, so exact; the two tails overlap, and pass 1, when only_a equals only_b.
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**discordant))


def _majority_of_one(row: Sequence[str], flags: NDArray[np.bool_]) -> float:
    votes = Counter(answer for answer in row if answer)
    if not votes:
        return 0.0
    right = {answer for answer, flag in zip(row, flags, strict=True) if flag}
    most = max(votes.values())
    tied = [answer for answer, count in votes.items() if count == most]
    return sum(answer in right for answer in tied) / len(tied)


def _wilson(rates: NDArray[np.float64], level: float) -> Interval:
    """Wilson's score interval for 0/1 rates that are not all equal."""
    n, z, p = len(rates), _z(level), float(rates.mean())
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    return Interval(p, centre - half, centre + half, n)


def unvaried(values: NDArray[np.float64], lowest: float, level: float) -> Interval:
    """Interval where every problem gave the same value out of lowest..1, as `interval` derives."""
    n, value, z = len(values), float(values[0]), _z(level)
    other = z**2 / (n + z**2)
    return Interval(value, value - other * (value - lowest), value + other * (1.0 - value), n)


def _bootstrap(
    values: NDArray[np.float64], rng: np.random.Generator, level: float, resamples: int
) -> Interval:
    """Percentile bootstrap of the mean: n problems drawn with replacement from the n there are."""
    n = len(values)
    rows = max(1, CHUNK // n)
    means = np.empty(resamples)
    for start in range(0, resamples, rows):
        block = means[start : start + rows]
        block[:] = values[rng.integers(n, size=(len(block), n))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high), n)


def _all_equal(values: NDArray[np.float64]) -> bool:
    # 0.3 - 0.1 and 0.4 - 0.2 differ in the last bit, which must not pass for an interval's width.
    return bool(np.ptp(values) < 1e-12)


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _rates(name: str, values: ArrayLike) -> NDArray[np.float64]:
    rates = np.asarray(values, dtype=np.float64)
    if rates.ndim != 1 or rates.size == 0:
        raise ValueError(
            f"{name} must hold one rate a problem, of at least one problem; its shape is {rates.shape}"
        )
    outside = rates[(rates < 0) | (rates > 1)]
    if outside.size:
        raise ValueError(f"{name} must hold rates within 0..1, but holds {outside[0]:g}")
    return rates


def _require_settings(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1 (0.95, say), got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")


def _require_bool(name: str, array: NDArray[np.bool_], dimensions: int) -> None:
    if array.dtype != np.bool_ or array.ndim != dimensions:
        wanted = "[P]" if dimensions == 1 else "[P, N]"
        raise ValueError(
            f"{name} must be a boolean array {wanted}; it is {array.dtype} of shape {array.shape}"
        )


def _require_same_length(
    a: NDArray[np.bool_] | NDArray[np.float64], b: NDArray[np.bool_] | NDArray[np.float64]
) -> None:
    if len(a) != len(b):
        raise ValueError(
            f"a has {len(a)} problems, b has {len(b)}: a comparison needs the same problems"
        )
