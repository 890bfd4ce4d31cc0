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

RESAMPLES, BAND_RESAMPLES = 10_000, 2_000
ENOUGH_SEEDS = 5
"""With fewer, how much training runs differ is hardly known."""
TAIL = 100
"""Draws beyond an interval's two ends, at least: an end is not left to a handful of them."""


class Estimate(NamedTuple):
    """A mean over seeds and problems."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, against the margin; for "same" twice the larger of the two one-sided tests; NaN for a curve."""
    n: int
    """Problems; the fewest where there are several sets."""
    seeds: int


def spread(
    values: ArrayLike,
    rng: np.random.Generator,
    level: float = 0.95,
    minus: Sequence[ArrayLike] = (),
    against: Sequence[ArrayLike] = (),
) -> NDArray[np.float64]:
    """Draws of the mean of values, [S, P], as other seeds and other problems would give it.

    `minus` are tables of other problems whose means are taken off (train against test, say); `against` are tables of
    the same problems and other runs. Problems are resampled, each set's apart, with a correction for few of them and
    for few that differ (`_problem_part`). Seeds are too few to be resampled, an interval by a handful would be too
    narrow: their part is drawn from Student's t with S - 1 degrees of freedom on their own spread, less what problems
    explain of it where there are ENOUGH_SEEDS to tell. Of `values` and `minus`, tables of as many seeds are of the
    same runs, so it is the spread of the difference, seed by seed. With one seed there is no such part. Higher levels
    get more draws. Raises ValueError for anything but a finite [S, P].
    """
    signed = [_checked(values), *(-_checked(one) for one in minus)]
    rivals = [-_checked(one) for one in against]
    draws = max(RESAMPLES, math.ceil(TAIL / (1 - level)))
    drawn = np.zeros(draws)
    sets = [table.mean(axis=0) for table in signed]
    sets[0] = sets[0] + sum(table.mean(axis=0) for table in rivals)
    for a_problem in sets:
        drawn += a_problem.mean() + _problem_part(a_problem, rng, draws)
    same = len({len(table) for table in signed}) == 1
    groups = [signed] if same else [[table] for table in signed]
    for group in [*groups, *([table] for table in rivals)]:
        seeds = len(group[0])
        if seeds > 1:
            each = np.sum([table.mean(axis=1) for table in group], axis=0)
            between = _between(float(each.var(ddof=1)), sum(map(_within, group)), seeds)
            drawn += math.sqrt(between) * rng.standard_t(seeds - 1, size=draws)
    return drawn


def _between(variance: float, within: float, seeds: int) -> float:
    """The part of seeds in the variance of a mean over them, of which chance on single problems explains `within`.

    Few seeds often seem to differ by no more than that, which is luck too: nothing is taken off then.
    """
    return max(0.0, variance - (within if seeds >= ENOUGH_SEEDS else 0.0)) / seeds


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError("a claim is judged on one finite value for each seed and problem, [S, P]")
    return table


def _problem_part(
    a_problem: NDArray[np.float64], rng: np.random.Generator, draws: int
) -> NDArray[np.float64]:
    """How far the mean of other problems would lie from that of these, [P], whose values are from -1 to 1.

    A bootstrap over these problems and two more, each solved by one model alone (Agresti and Min 2005, for paired
    proportions): that models differ on few problems, or on none, is no certainty. Its tails are made those of Student's
    t, which counts where problems are few.
    """
    more = np.append(a_problem, (1.0, -1.0))
    more -= more.mean()
    size = len(more)
    drawn = np.empty(draws)
    rows = max(1, 1_000_000 // size)
    for start in range(0, draws, rows):
        block = drawn[start : start + rows]
        block[:] = more[rng.integers(size, size=(len(block), size))].mean(axis=1)
    stretched: NDArray[np.float64] = drawn * np.sqrt((size - 1) / rng.chisquare(size - 1, draws))
    return stretched


def _error(a_problem: NDArray[np.float64]) -> float:
    """Standard error of the mean of values, [P], with the two problems more."""
    more = np.append(a_problem, (1.0, -1.0))
    return float(more.std() / math.sqrt(len(more)))


def estimate(
    values: ArrayLike,
    claim: Claim,
    rng: np.random.Generator,
    level: float = 0.95,
    *,
    minus: Sequence[ArrayLike] = (),
    error: tuple[float, float] = (0.0, 1.0),
    against: Sequence[ArrayLike] = (),
) -> Estimate:
    """The mean of values, [S, P], its interval over seeds and problems, and the p-value against the claim's margin.

    `minus` and `against` as `spread` takes them. `error` is that of a number which was taken off the values: its
    standard error and degrees of freedom.
    """
    tables = [_checked(one) for one in (values, *minus, *against)]
    drawn = spread(values, rng, level, minus, against)
    drawn += error[0] * rng.standard_t(error[1], size=len(drawn))
    value = float(tables[0].mean() - sum(float(table.mean()) for table in tables[1:]))
    most = float(len(tables))  # each has values from -1 to 1
    ordered = np.sort(drawn)
    place = int((1 - level) / 2 * (len(drawn) + 1))  # by the count of `_beyond`: ends and p agree
    low, high = np.clip((ordered[place - 1], ordered[-place]), -most, most)
    if claim.direction == "same":
        p = max(_beyond(drawn, -claim.margin), _beyond(-drawn, -claim.margin))
    else:
        p = min(_beyond(drawn, claim.margin), _beyond(-drawn, -claim.margin))
    n, seeds = (min(table.shape[axis] for table in tables) for axis in (1, 0))
    return Estimate(value, float(low), float(high), min(1.0, 2 * p), n, seeds)


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
    parts: Sequence[Sequence[ArrayLike]],
    claim: Claim,
    rng: np.random.Generator,
    level: float = 0.95,
) -> Estimate:
    """For a claim on every one of several estimates: the lowest. A part is a table, [S, P], and what to take off it.

    That all lie above the margin needs no correction for their number; that some one lies below it does.
    """
    one = [estimate(table, claim, rng, level, minus=minus) for table, *minus in parts]
    each = 1 - (1 - level) / len(parts)
    wide = [estimate(table, claim, rng, each, minus=minus) for table, *minus in parts]
    return Estimate(
        min(found.value for found in one),
        min(found.low for found in one),
        min(found.high for found in wide),
        math.nan,
        min(found.n for found in one),
        min(found.seeds for found in one),
    )


def band(values: ArrayLike, rng: np.random.Generator, level: float = 0.95) -> NDArray[np.float64]:
    """A simultaneous band for the K points of a curve, values [S, K, P]: all K means lie in it at once. [K, 2].

    The largest of the K studentised deviations is bootstrapped over problems, so a claim on every k at once needs no
    correction of its own. With several seeds their part, as in `spread`, is added by Student's t, corrected for K.
    """
    from scipy.stats import t

    table = np.asarray(values, dtype=np.float64)
    seeds, points, problems = table.shape
    mean = table.mean(axis=0)
    centre, error = mean.mean(axis=1), np.array([_error(row) for row in mean])
    worst = np.empty(max(BAND_RESAMPLES, math.ceil(TAIL / (1 - level))))
    for at in range(len(worst)):
        drawn = mean[:, rng.integers(problems, size=problems)].mean(axis=1)
        worst[at] = np.max(np.abs(drawn - centre) / error)
    least = t.ppf((1 + level) / 2, problems + 1)  # where no resample differs
    reach = max(np.quantile(worst, level), least) * error
    if seeds > 1:
        means = table.mean(axis=2)
        within = np.array([_within(table[:, k]) for k in range(points)])
        variances = means.var(axis=0, ddof=1)
        pairs = zip(variances, within, strict=True)
        between = np.array([_between(float(one), float(own), seeds) for one, own in pairs])
        wide = t.ppf(1 - (1 - level) / 2 / points, seeds - 1)
        reach = np.sqrt(reach**2 + wide**2 * between)
    return np.stack([centre - reach, centre + reach], axis=1)


class Power(NamedTuple):
    """What a comparison can tell, before it is run."""

    power: float
    """Chance of an interval beyond the margin, if the effect is as large as said."""
    problems: float
    """Test problems that would be enough for 80 % with these seeds; inf where none would."""


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
    in 0..1. seed_sd: standard deviation of the difference from seed to seed; they count by Student's t, as in `spread`.
    """
    from scipy.stats import t

    z = NormalDist().inv_cdf((1 + level) / 2)
    wide = float(t.ppf((1 + level) / 2, seeds - 1)) if seeds > 1 else 0.0
    one, between = max(discordant - effect**2, 0.0), seed_sd**2 / seeds

    def chance(n: float) -> float:
        error = math.sqrt(one / n + between)
        reach = math.sqrt(z**2 * one / n + wide**2 * between)
        return 1 - NormalDist().cdf((reach - effect) / error) if error else 1.0

    if effect <= 0:
        return Power(0.0, math.inf)
    few, many = 0, 1
    while chance(many) < 0.8 and many < 10**9:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if chance(middle) >= 0.8 else (middle, many)
    return Power(chance(problems), many if chance(many) >= 0.8 else math.inf)


def _within(table: NDArray[np.float64]) -> float:
    """What chance on single problems adds to the variance of a seed's mean, [S, P]."""
    seeds, problems = table.shape
    rest = table - table.mean(axis=0) - table.mean(axis=1)[:, None] + table.mean()
    return float((rest**2).sum()) / max(1, (seeds - 1) * (problems - 1)) / problems


def _beyond(drawn: NDArray[np.float64], margin: float) -> float:
    """Share of the draws at or below the margin, never 0: so many draws cannot tell."""
    return float((1 + (drawn <= margin).sum()) / (1 + len(drawn)))
