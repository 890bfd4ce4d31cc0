"""From numbers to verdicts: a claim of the paper holds here, does not hold, or is too small to tell.

Claims, their direction and margin stand in paper/claims.yaml, written down before the runs that they judge. What is
judged is [S, P]: a value for each training seed and test problem, most often the difference of two models.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from restem_lib.config import PROJECT, ConfigError, parse_yaml
from restem_lib.statistics import unvaried
from restem_lib.store import seed_for

HOLDS, FAILS, SMALL = "holds", "does not hold", "too small to tell"
RESAMPLES = 10_000
CLAIMS = PROJECT / "paper" / "claims.yaml"
ENOUGH_SEEDS = 5
"""With fewer a verdict does not cover what another training run would give."""


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, as it is judged here."""

    name: str
    """C1 to C27."""
    statement: str
    statistic: str
    """What is measured, in words."""
    direction: str
    """"above" (the value lies above the margin) or "same" (within the margin on both sides of 0)."""
    margin: float
    """In the statistic's own unit; rates and their differences are in 0..1."""
    where: str
    """In the paper."""
    strength: str
    """How strong the paper's own evidence is."""
    paper: str
    """The paper's number."""


class Estimate(NamedTuple):
    """A mean over seeds and problems."""

    value: float
    low: float
    high: float
    p: float
    """Two-sided, against the margin; for "same" of the two one-sided tests, the larger."""
    n: int
    """Problems."""
    seeds: int


@dataclass(frozen=True)
class Verdict:
    """A row of claims.csv."""

    claim: str
    part: str
    """Model, task and metric."""
    verdict: str
    statistic: str
    estimate: float
    low: float
    high: float
    n: int
    seeds: int
    p: float
    margin: float
    paper: str
    notebook: str


def spread(
    values: ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Draws of the mean of values, [S, P], as other seeds and other problems would give it: [resamples].

    Problems are resampled. Seeds are too few for that (of five, an interval by resampling covers 84 % instead of 95):
    their part is drawn from Student's t with S - 1 degrees of freedom on their own spread, less what problems
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
        a_seed = table.mean(axis=1)
        rest = table - a_problem - a_seed[:, None] + table.mean()
        within = (rest**2).sum() / max(1, (seeds - 1) * (problems - 1)) / problems
        between = max(0.0, float(a_seed.var(ddof=1)) - within) / seeds
        drawn += np.sqrt(between) * rng.standard_t(seeds - 1, size=resamples)
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
    """For a claim on every point of a curve, [K, P]: its lowest point, within a band that holds for all at once.

    The lower end lies above the margin where all points do; the upper end below it where some point does.
    """
    table = np.asarray(curve, dtype=np.float64)
    ends = band(table, rng, level)
    low, high = ends.min(axis=0)
    centre = table.mean(axis=1)
    return Estimate(float(centre.min()), float(low), float(high), math.nan, table.shape[1], 1)


def _beyond(drawn: NDArray[np.float64], margin: float) -> float:
    """Share of the draws at or below the margin, never 0: so many draws cannot tell."""
    return float((1 + (drawn <= margin).sum()) / (1 + len(drawn)))


def verdict(claim: Claim, low: float, high: float) -> str:
    """HOLDS where the interval lies beyond the margin, FAILS where wholly on its other side, else SMALL.

    >>> gain = Claim("C1", "", "", "above", 0.0, "", "", "")
    >>> [verdict(gain, *ends) for ends in ((0.01, 0.05), (-0.05, -0.01), (-0.01, 0.05))]
    ['holds', 'does not hold', 'too small to tell']
    """
    if math.isnan(low) or math.isnan(high):
        return SMALL
    if claim.direction == "same":
        inside = -claim.margin < low and high < claim.margin
        outside = low > claim.margin or high < -claim.margin
    else:
        inside, outside = low > claim.margin, high < claim.margin
    return HOLDS if inside else FAILS if outside else SMALL


def read_claims(path: Path = CLAIMS) -> dict[str, Claim]:
    """The claims by name. Raises ConfigError for a file that is not like that."""
    found = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    names = {field.name for field in fields(Claim)} - {"name"}
    claims = {}
    for name, entry in found.items():
        if set(entry) != names:
            raise ConfigError(f"{path}: {name} must have {', '.join(sorted(names))}, no more")
        if entry["direction"] not in ("above", "same"):
            raise ConfigError(
                f"{path}: {name} has direction {entry['direction']!r}, not above or same"
            )
        claims[name] = Claim(name=name, **entry)
    return claims


def judge(claim: Claim, part: str, found: Estimate, notebook: str) -> Verdict:
    """What an estimate says of one part of a claim."""
    return Verdict(
        claim.name,
        part,
        verdict(claim, found.low, found.high),
        claim.statistic,
        found.value,
        found.low,
        found.high,
        found.n,
        found.seeds,
        found.p,
        claim.margin,
        claim.paper,
        notebook,
    )


def band(
    values: ArrayLike, rng: np.random.Generator, level: float = 0.95, resamples: int = 2_000
) -> NDArray[np.float64]:
    """A simultaneous band for the K points of a curve, values [K, P]: all K means lie in it at once. [K, 2].

    The largest of the K studentised deviations is bootstrapped over problems, so a claim on every k at once needs no
    correction of its own.
    """
    table = np.asarray(values, dtype=np.float64)
    problems = table.shape[1]
    centre, error = table.mean(axis=1), table.std(axis=1, ddof=1) / np.sqrt(problems)
    error = np.where(error > 0, error, np.inf)
    worst = np.empty(resamples)
    for at in range(len(worst)):
        drawn = table[:, rng.integers(problems, size=problems)].mean(axis=1)
        worst[at] = np.max(np.abs(drawn - centre) / error)
    reach = np.quantile(worst, level) * np.where(np.isinf(error), 0.0, error)
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


class Ledger:
    """The claims that a notebook judges: all are entered, then judged together.

    Intervals are at 1 - 0.05 / number of entries (Bonferroni), so that a notebook is wrong in 5 % of the cases at most.
    """

    def __init__(self, notebook: str, file: Path = CLAIMS) -> None:
        self.notebook, self.claims = notebook, read_claims(file)
        self.entries: list[tuple[Claim, str, Callable[..., Estimate]]] = []

    def enter(
        self, claim: str, part: str, values: ArrayLike, minus: Sequence[ArrayLike] = ()
    ) -> None:
        """A part of a claim with what `estimate` takes. Raises KeyError for a claim that there is not."""
        found = partial(estimate, values, self.claims[claim], minus=minus)
        self.entries.append((self.claims[claim], part, found))

    def enter_lowest(self, claim: str, part: str, curve: ArrayLike) -> None:
        """A part of a claim on every point of a curve, [K, P], as `lowest` takes it."""
        found = partial(lowest, curve, self.claims[claim])
        self.entries.append((self.claims[claim], part, found))

    def verdicts(self) -> list[Verdict]:
        """All of them, in the order of entry."""
        level = 1 - 0.05 / max(1, len(self.entries))
        return [
            judge(claim, part, found(rng=_rng(claim, part), level=level), self.notebook)
            for claim, part, found in self.entries
        ]


def _rng(claim: Claim, part: str) -> np.random.Generator:
    return np.random.default_rng(seed_for("claim", claim.name, part))


def said(one: Verdict) -> str:
    """A verdict in two lines of text.

    >>> print(said(Verdict("C1", "toy-math", HOLDS, "", 0.05, 0.02, 0.08, 500, 1, 0.001, 0.0, "+5.9", "02")))
    C1 toy-math: holds, +5.0 points (+2.0 to +8.0; n = 500, 1 seed)
      the paper: +5.9
    """
    seeds = f"{one.seeds} seed{'s' * (one.seeds > 1)}"
    return (
        f"{one.claim} {one.part}: {one.verdict}, {100 * one.estimate:+.1f} points "
        f"({100 * one.low:+.1f} to {100 * one.high:+.1f}; n = {one.n}, {seeds})\n"
        f"  the paper: {one.paper}"
    )


def save(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write a notebook's verdicts as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Verdict))
        for one in verdicts:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in asdict(one).values())
