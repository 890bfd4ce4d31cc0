"""From numbers to verdicts: a claim of the paper holds here, does not hold, or is too small to tell.

Claims, their direction and margin stand in paper/claims.yaml, written down before the runs that they judge.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from restem_lib.estimates import ENOUGH_SEEDS, Estimate, estimate, lowest, lowest_of
from restem_lib.keys import ConfigError
from restem_lib.paper import CLAIMS, Claim, read_claims
from restem_lib.store import seed_for

HOLDS, FAILS, SMALL = "holds", "does not hold", "too small to tell"


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


class Ledger:
    """The claims that a notebook judges: all are entered, then judged together.

    Intervals are at 1 - 0.05 / number of entries (Bonferroni), so that a notebook is wrong in 5 % of the cases at most.
    """

    def __init__(self, notebook: str, file: Path = CLAIMS) -> None:
        self.notebook, self.claims = notebook, read_claims(file)
        self.entries: list[tuple[Claim, str, Callable[..., Estimate]]] = []

    def enter(
        self,
        claim: str,
        part: str,
        values: ArrayLike,
        minus: Sequence[ArrayLike] = (),
        error: tuple[float, float] = (0.0, 1.0),
        against: Sequence[ArrayLike] = (),
    ) -> None:
        """A part of a claim with what `estimate` takes. Raises KeyError for a claim that there is not."""
        found = partial(
            estimate, values, self.claims[claim], minus=minus, error=error, against=against
        )
        self.entries.append((self.claims[claim], part, found))

    def enter_lowest(self, claim: str, part: str, curve: ArrayLike) -> None:
        """A part of a claim on every point of a curve, [S, K, P], as `lowest` takes it."""
        found = partial(lowest, curve, self.claims[claim])
        self.entries.append((self.claims[claim], part, found))

    def enter_each(self, claim: str, part: str, parts: Sequence[Sequence[ArrayLike]]) -> None:
        """A part of a claim on every one of several estimates, as `lowest_of` takes them."""
        found = partial(lowest_of, parts, self.claims[claim])
        self.entries.append((self.claims[claim], part, found))

    def enter_exact(self, claim: str, part: str, value: float, n: int) -> None:
        """A part of a claim on a number that is computed and not estimated: no interval, no seeds."""

        def found(rng: np.random.Generator, level: float) -> Estimate:
            return Estimate(value, value, value, math.nan, n, 0)

        self.entries.append((self.claims[claim], part, found))

    def verdicts(self) -> list[Verdict]:
        """All of them, in the order of entry; p-values are multiplied by their number."""
        entries = len(self.entries)
        verdicts = []
        for claim, part, found in self.entries:
            made = found(rng=_rng(claim, part), level=1 - 0.05 / entries)
            if not math.isnan(made.p):
                made = made._replace(p=min(1.0, made.p * entries))
            verdicts.append(judge(claim, part, made, self.notebook))
        return verdicts

    def settle(self, out: Path) -> None:
        """Print all verdicts and save them under results/claims/ of a notebook's folder."""
        verdicts = self.verdicts()
        save(out / "results" / "claims" / f"{self.notebook}.csv", verdicts)
        print("\n".join(map(said, verdicts)))


def _rng(claim: Claim, part: str) -> np.random.Generator:
    return np.random.default_rng(seed_for("claim", claim.name, part))


def said(one: Verdict) -> str:
    """A verdict in two lines of text.

    >>> print(said(Verdict("C1", "toy-math", HOLDS, "", 0.05, 0.02, 0.08, 500, 1, 0.001, 0.0, "+5.9", "02")))
    C1 toy-math: holds, +5.0 points (+2.0 to +8.0; n = 500, 1 seed: training variance not covered)
      the paper: +5.9
    """
    return f"{one.claim} {one.part}: {one.verdict}, {amount(one)}\n  the paper: {one.paper}"


def amount(one: Verdict) -> str:
    """A verdict's estimate with its interval, n and seeds, in the unit of its claim.

    >>> amount(Verdict("C26", "table", HOLDS, "", 0.0006, 0.0006, 0.0012, 12, 2, 0.0, 0.0, "", "00"))
    '+0.0006 nats (+0.0006 to +0.0012; n = 12, 2 seeds: training variance not covered)'
    """
    unit = _units()[one.claim]
    ends = (one.estimate, one.low, one.high)
    value, low, high = (f"{100 * x:+.1f}" if unit == "points" else f"{x:+.3g}" for x in ends)
    if not one.seeds:
        return f"{value} {unit} (exact; n = {one.n})"
    seeds = f"{one.seeds} seed{'s' * (one.seeds != 1)}"
    few = ": training variance not covered" if one.seeds < ENOUGH_SEEDS else ""
    margin = f", margin {100 * one.margin:+g}" if one.margin and unit == "points" else ""
    return f"{value} {unit} ({low} to {high}{margin}; n = {one.n}, {seeds}{few})"


@cache
def _units() -> dict[str, str]:
    return {name: claim.unit for name, claim in read_claims().items()}


def counted(verdicts: Sequence[Verdict]) -> str:
    """How many say what.

    >>> counted([Verdict("C1", "x", HOLDS, "", 0.1, 0.1, 0.1, 9, 1, 0.0, 0.0, "", "02")])
    '1 holds, 0 do not, 0 too small to tell'
    """
    each = [one.verdict for one in verdicts]
    hold, fail, small = (each.count(kind) for kind in (HOLDS, FAILS, SMALL))
    return (
        f"{hold} {'holds' if hold == 1 else 'hold'}, "
        f"{fail} {'does' if fail == 1 else 'do'} not, {small} too small to tell"
    )


def save(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write a notebook's verdicts as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Verdict))
        for one in verdicts:
            writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in asdict(one).values())


def read(path: Path) -> list[Verdict]:
    """The inverse of save, up to rounding. Raises ConfigError for a damaged file."""
    kinds: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
    columns = {field.name: kinds[str(field.type)] for field in fields(Verdict)}
    known, found = read_claims(), []
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        try:
            if next(lines, None) != list(columns):
                raise ValueError(f"the columns must be {', '.join(columns)}")
            for line in lines:
                if len(line) != len(columns):
                    raise ValueError(f"{len(line)} values, not {len(columns)}")
                typed = zip(columns.values(), line, strict=True)
                one = Verdict(*(kind(text) for kind, text in typed))
                if one.claim not in known:
                    raise ValueError(f"there is no claim {one.claim!r}")
                if one.verdict not in (HOLDS, FAILS, SMALL):
                    raise ValueError(f"{one.verdict!r} is no verdict")
                found.append(one)
        except (ValueError, csv.Error) as error:
            raise ConfigError(f"line {lines.line_num} of {path} is damaged: {error}") from error
    return found
