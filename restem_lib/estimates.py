"""Means over training seeds and test problems with their intervals, and what a comparison can tell before it is run.

What is estimated is [S, P]: a value for each seed and problem, most often the difference of two models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from restem_lib.paper import Claim
from restem_lib.statistics import unvaried

RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A mean over seeds and problems."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, against the margin; for "same" of the two one-sided tests, the larger; NaN for a curve."""
    n: int
    """Problems."""
    seeds: int


def spread(
    values: ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Draws of the mean of values, [S, P], as other seeds and other problems would give it: [resamples].

    Problems are resampled. Seeds are too few for that, an interval by resampling a handful would be too narrow: their
    part is drawn from Student's t with S - 1 degrees of freedom on their own spread, less what problems
    explain of it. With one seed there is no such part. Raises ValueError for anything but a finite [S, P].
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError("a claim is judged on one finite value for each seed and problem, [S, P]")
    seeds, problems = table.shape
    a_problem = table.mean(axis=0)
    drawn = np.empty(resamples)
    rows = max(1, 1_000_000 // problems)
    for start in range(0, resamples, rows):
        block = drawn[start : start + rows]
        block[:] = a_problem[rng.integers(problems, size=(len(block), problems))].mean(axis=1)
    if seeds > 1:
        drawn += np.sqrt(_between(table)) * rng.standard_t(seeds - 1, size=resamples)
    return drawn


def estimate(
    values: ArrayLike,
    claim: Claim,
    rng: np.random.Generator,
    level: float = 0.95,
    *,
    minus: Sequence[ArrayLike] = (),
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean of values, [S, P], its interval over seeds and problems, and the p-value against the claim's margin.

    `minus` are tables of other problems whose means are taken off (train against test, say); all are drawn apart.
    """
    table = np.asarray(values, dtype=np.float64)
    drawn, value, n = spread(table, rng, resamples), float(table.mean()), table.shape[1]
    for other in (np.asarray(one, dtype=np.float64) for one in minus):
        drawn -= spread(other, rng, resamples)
        value, n = value - float(other.mean()), min(n, other.shape[1])
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    if low == high:  # two models that agree on every problem: no certainty either
        _, low, high, _ = unvaried(np.full(n, value), lowest=-1.0, level=level)
    if claim.direction == "same":
        p = max(_beyond(drawn, -claim.margin), _beyond(-drawn, -claim.margin))
    else:
        p = min(1.0, 2 * min(_beyond(drawn, claim.margin), _beyond(-drawn, -claim.margin)))
    return Estimate(value, float(low), float(high), p, n, len(table))


def lowest(
    curve: ArrayLike, claim: Claim, rng: np.random.Generator, level: float = 0.95
) -> Estimate:
    """For a claim on every point of a curve, [S, K, P]: its lowest point, within a band that holds for all at once.

    The lower end lies above the margin where all points do; the upper end below it where some point does.
    """
    table = np.asarray(curve, dtype=np.float64)
    low, high = band(table, rng, level).min(axis=0)
    centre = float(table.mean(axis=(0, 2)).min())
    return Estimate(centre, float(low), float(high), math.nan, table.shape[2], table.shape[0])


def lowest_of(
    tables: Sequence[ArrayLike], claim: Claim, rng: np.random.Generator, level: float = 0.95
) -> Estimate:
    """For a claim on every one of several sets of problems, [S, P] each: the lowest, by intervals for all."""
    each = 1 - (1 - level) / len(tables)
    found = [estimate(table, claim, rng, each) for table in tables]
    value, low, high = (min(getattr(one, end) for one in found) for end in ("value", "low", "high"))
    return Estimate(value, low, high, math.nan, min(one.n for one in found), found[0].seeds)


def band(
    values: ArrayLike, rng: np.random.Generator, level: float = 0.95, resamples: int = 2_000
) -> NDArray[np.float64]:
    """A simultaneous band for the K points of a curve, values [S, K, P]: all K means lie in it at once. [K, 2].

    The largest of the K studentised deviations is bootstrapped over problems, so a claim on every k at once needs no
    correction of its own. With several seeds their part, as in `spread`, is added as by Student's t at the same level.
    """
    from scipy.stats import t

    table = np.asarray(values, dtype=np.float64)
    seeds, points, problems = table.shape
    mean = table.mean(axis=0)
    centre, error = mean.mean(axis=1), mean.std(axis=1, ddof=1) / np.sqrt(problems)
    scale = np.where(error > 0, error, np.inf)
    worst = np.empty(resamples)
    for at in range(len(worst)):
        drawn = mean[:, rng.integers(problems, size=problems)].mean(axis=1)
        worst[at] = np.max(np.abs(drawn - centre) / scale)
    reach = np.quantile(worst, level) * error
    if seeds > 1:
        between = np.array([_between(table[:, k]) for k in range(points)])
        reach = np.sqrt(reach**2 + t.ppf((1 + level) / 2, seeds - 1) ** 2 * between)
    return np.stack([centre - reach, centre + reach], axis=1)


class Power(NamedTuple):
    """What a comparison can tell, before it is run."""

    power: float
    """Chance of an interval beyond the margin, if the effect is as large as said."""
    problems: float
    """Test problems that would be enough for 80 % with these seeds; inf where none would."""
    seeds: float
    """Seeds that would be enough for 80 % with these problems; inf where none would."""


def power(
    effect: float,
    discordant: float,
    problems: int,
    seeds: int = 1,
    seed_sd: float = 0.0,
    level: float = 0.95,
) -> Power:
    """The planned power of a paired comparison of two models.

    effect: the true difference less the margin. discordant: share of the problems that only one of the two solves. Both
    in 0..1. seed_sd: standard deviation of the difference from seed to seed. Normal approximation.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    wanted = (effect / (z + NormalDist().inv_cdf(0.8))) ** 2
    one = max(discordant - effect**2, 0.0)
    between = seed_sd**2

    def error(n: float, s: float) -> float:
        return math.sqrt(one / n + between / s)

    now = error(problems, seeds)
    chance = 1.0 if not now else 1 - NormalDist().cdf(z - effect / now)
    left = wanted - between / seeds
    more_problems = one / left if left > 0 else math.inf
    left = wanted - one / problems
    more_seeds = between / left if left > 0 else math.inf
    return Power(
        chance,
        math.ceil(more_problems) if math.isfinite(more_problems) else math.inf,
        math.ceil(more_seeds) if math.isfinite(more_seeds) else math.inf,
    )


def _between(table: NDArray[np.float64]) -> float:
    """Variance of the mean of [S, P] that comes from the seeds: their own spread, less what problems explain of it."""
    seeds, problems = table.shape
    a_seed = table.mean(axis=1)
    rest = table - table.mean(axis=0) - a_seed[:, None] + table.mean()
    within = (rest**2).sum() / max(1, (seeds - 1) * (problems - 1)) / problems
    return max(0.0, float(a_seed.var(ddof=1)) - within) / seeds


def _beyond(drawn: NDArray[np.float64], margin: float) -> float:
    """Share of the draws at or below the margin, never 0: so many draws cannot tell."""
    return float((1 + (drawn <= margin).sum()) / (1 + len(drawn)))
