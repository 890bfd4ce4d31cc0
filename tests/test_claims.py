"""Verdicts on made-up tables where the truth is known: how often they are wrong, and when they are silent."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from restem_lib import claims, estimates
from restem_lib.claims import FAILS, HOLDS, SMALL
from restem_lib.config import PROJECT
from restem_lib.keys import ConfigError
from restem_lib.paper import Claim, read_claims

MORE = Claim("C1", "more", "difference", "above", 0.0, "Figure 2", "strong", "+6")
SAME = replace(MORE, name="C17", direction="same", margin=0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer draws: the tables are many."""
    monkeypatch.setattr(estimates, "RESAMPLES", 1_000)
    monkeypatch.setattr(estimates, "BAND_RESAMPLES", 300)
    monkeypatch.setattr(estimates, "TAIL", 20)


def table(
    rng: np.random.Generator, gain: float, seeds: int, problems: int, seed_sd: float = 0.0
) -> NDArray[np.float64]:
    """Differences of two models' 0/1 on the same problems: the first is right in a fifth of them."""
    shift = rng.normal(0, seed_sd, size=seeds)
    before = rng.random(problems) < 0.2
    after = rng.random((seeds, problems)) < np.clip(0.2 + gain + shift[:, None], 0, 1)
    return after.astype(float) - before


def judged(claim: Claim, values: NDArray[np.float64], tests: int = 1) -> claims.Verdict:
    found = estimates.estimate(values, claim, np.random.default_rng(0), 1 - 0.05 / tests)
    return claims.judge(claim, "x", found, "00")


def verdicts(claim: Claim, gain: float, seeds: int, seed_sd: float, times: int = 150) -> list[str]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(times):
        made = estimates.estimate(table(rng, gain, seeds, 200, seed_sd), claim, rng)
        found.append(claims.verdict(claim, made.low, made.high))
    return found


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (2, 0.02), (3, 0.0), (5, 0.0), (5, 0.03)])
def test_at_the_margin_hardly_any_verdict_is_given(seeds: int, seed_sd: float) -> None:
    found = verdicts(MORE, 0.0, seeds, seed_sd)
    assert found.count(HOLDS) / len(found) < 0.06  # 2.5 % and chance
    assert found.count(FAILS) / len(found) < 0.06


def wrong(seeds: int, seed_sd: float, tests: int, times: int = 1_500) -> float:
    """How often the interval, corrected for so many tests, leaves out the truth."""
    rng, found = np.random.default_rng(1), 0
    for _ in range(times):
        shift = rng.normal(0, seed_sd, size=seeds)
        values = rng.normal(0, 0.3, (seeds, 200)) + rng.normal(0, 0.2, 200) + shift[:, None]
        made = estimates.estimate(np.clip(values, -1, 1), MORE, rng, 1 - 0.05 / tests)
        found += not made.low <= 0 <= made.high
    return found / times


@pytest.mark.parametrize(("seeds", "seed_sd"), [(2, 0.03), (3, 0.0), (3, 0.03)])
def test_few_seeds_are_not_wrong_more_often_than_stated(seeds: int, seed_sd: float) -> None:
    assert wrong(seeds, seed_sd, tests=14) < 0.0036 + 3 * math.sqrt(0.0036 / 1_500)
    assert wrong(seeds, seed_sd, tests=1) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1_500)


def test_large_effects_are_told_and_never_the_wrong_way() -> None:
    up, down = verdicts(MORE, 0.15, 5, 0.01), verdicts(MORE, -0.15, 5, 0.01)
    assert up.count(HOLDS) > 0.9 * len(up) and FAILS not in up
    assert down.count(FAILS) > 0.9 * len(down) and HOLDS not in down


def test_seeds_that_disagree_keep_the_verdict_open() -> None:
    problems = 2_000
    rng = np.random.default_rng(0)
    agree = np.stack([table(rng, 0.05, 1, problems)[0] for _ in range(3)])
    apart = agree + np.array([-0.1, 0.0, 0.1])[:, None]
    for values, expected in ((agree, HOLDS), (apart, SMALL)):
        assert judged(MORE, values).verdict == expected
    assert judged(MORE, apart[:1]).seeds == 1


def test_the_same_needs_an_interval_within_the_margin() -> None:
    rng = np.random.default_rng(0)
    still = np.where(rng.random((3, 4_000)) < 0.02, rng.choice([-1.0, 1.0], (3, 4_000)), 0.0)
    assert judged(SAME, still).verdict == HOLDS
    assert judged(SAME, still + 0.05).verdict == FAILS
    assert judged(SAME, still[:, :30]).verdict == SMALL
    assert judged(SAME, still).p < 0.05 < judged(SAME, still + 0.05).p


def test_more_tests_in_a_notebook_widen_the_interval() -> None:
    values = table(np.random.default_rng(1), 0.04, 1, 500)
    one, ten = (judged(MORE, values, tests) for tests in (1, 10))
    assert ten.low < one.low < one.estimate == ten.estimate < one.high < ten.high


def test_a_verdict_is_the_same_every_time() -> None:
    values = table(np.random.default_rng(1), 0.04, 2, 300)
    assert judged(MORE, values) == judged(MORE, values)


def test_two_models_that_agree_everywhere_are_no_certainty() -> None:
    few, many = (judged(SAME, np.zeros((2, n))) for n in (20, 4_000))
    assert few.low < 0 < few.high and few.verdict == SMALL and many.verdict == HOLDS


def test_what_cannot_be_judged_is_refused() -> None:
    for values in (np.zeros(4), np.zeros((1, 0)), np.array([[0.0, np.nan]])):
        with pytest.raises(ValueError, match="for each seed and problem"):
            judged(MORE, values)


def test_a_ledger_corrects_for_all_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "RESAMPLES", 20_000)
    values = table(np.random.default_rng(1), 0.04, 1, 500)
    ledger = claims.Ledger("02_scaling")
    for part in ("toy-math", "toy-code"):
        ledger.enter("C1", part, values)
    found = ledger.verdicts()
    assert [one.part for one in found] == ["toy-math", "toy-code"]
    alone = judged(ledger.claims["C1"], values, tests=2)
    assert found[0].p == pytest.approx(2 * judged(MORE, values).p, abs=0.02)
    assert (
        found[0].low == pytest.approx(alone.low, abs=0.003)
        and found[0].low < judged(MORE, values).low
    )
    with pytest.raises(KeyError):
        ledger.enter("C99", "x", values)


def test_verdicts_are_read_as_they_were_saved(tmp_path: Path) -> None:
    part = 'toy-math, "greedy"'
    curve = claims.Verdict("C9", part, SMALL, "s", 0.1, 0.0, 1 / 8, 5, 2, 0.5, 0.0, "+5", "04")
    path = tmp_path / "claims.csv"
    claims.save(path, [curve, replace(curve, claim="C1", p=math.nan)])
    first, second = claims.read(path)
    assert first == curve and second.claim == "C1" and math.isnan(second.p)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("claim,part", "claim,path", "line 1 of .* is damaged: the columns must be claim, part, "),
        (",500,", ",many,", r"line 2 of .*claims\.csv is damaged: invalid literal .*'many'"),
        ("C1,", "C99,", "line 2 of .* there is no claim 'C99'"),
        ("holds", "perhaps", "line 2 of .* 'perhaps' is no verdict"),
        (",02", "", "line 2 of .* 12 values, not 13"),
    ],
)
def test_a_damaged_file_of_verdicts_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "claims.csv"
    one = claims.Verdict("C1", "x", HOLDS, "s", 0.1, 0.1, 0.1, 500, 2, 0.5, 0.0, "+5", "02")
    claims.save(path, [one])
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        claims.read(path)


def test_a_band_holds_all_points_at_once() -> None:
    rng = np.random.default_rng(0)
    chances = np.linspace(0.1, 0.8, 6)
    inside = 0
    for _ in range(120):
        values = (rng.random(200) < chances[:, None]).astype(
            float
        )  # one number decides all k: dependent
        band = estimates.band(values[None], rng)
        inside += bool(((band[:, 0] <= chances) & (chances <= band[:, 1])).all())
    assert 0.88 <= inside / 120 <= 1.0
    flat = estimates.band(np.ones((1, 2, 50)), rng)
    assert (flat[:, 0] < 1.0).all() and (flat[:, 1] > 1.0).all()  # 50 problems are no certainty


def test_a_claim_on_every_point_needs_all_of_them() -> None:
    rng = np.random.default_rng(0)
    up, level_ = np.full(5, 0.2), np.array([0.2, 0.2, 0.0, 0.2, 0.2])
    down = np.array([0.2, 0.2, -0.2, 0.2, 0.2])
    for gains, expected in ((up, HOLDS), (level_, SMALL), (down, FAILS)):
        curve = gains[:, None] + rng.normal(0, 0.4, (5, 400))
        ledger = claims.Ledger("04")
        ledger.enter_lowest("C9", "x", curve[None])
        (found,) = ledger.verdicts()
        assert found.verdict == expected and found.estimate == curve.mean(axis=1).min()


def test_a_band_over_seeds_covers_what_other_seeds_would_give() -> None:
    rng = np.random.default_rng(0)
    chances = np.linspace(0.2, 0.6, 4)
    inside = 0
    for _ in range(120):
        shift = rng.normal(0, 0.05, size=(5, 1, 1))  # a lucky seed is so at every k
        values = rng.random((5, 1, 200)) < chances[:, None] + shift
        band = estimates.band(values.astype(float), rng)
        inside += bool(((band[:, 0] <= chances) & (chances <= band[:, 1])).all())
    assert 0.88 <= inside / 120 <= 1.0


def test_a_claim_on_several_sets_of_problems_needs_all_of_them() -> None:
    rng = np.random.default_rng(0)
    sets = [rng.normal(gain, 0.3, (3, n)) for gain, n in ((0.3, 200), (0.1, 900), (0.3, 100))]
    found = estimates.lowest_of([[one] for one in sets], MORE, rng)
    assert found.value == sets[1].mean() and found.n == 100 and 0 < found.low < found.high
    # that one of them fails has to be told from the chance that one of three does
    assert found.high > estimates.estimate(sets[1], MORE, rng).high
    ledger = claims.Ledger("05")
    ledger.enter_each("C22b", "x", [[one] for one in (*sets, rng.normal(-0.3, 0.3, (3, 300)))])
    assert ledger.verdicts()[0].verdict == FAILS
    less = estimates.lowest_of([(sets[0], sets[1]), (sets[0], sets[2])], MORE, rng)
    assert less.value == pytest.approx(sets[0].mean() - sets[2].mean())


def test_two_sets_of_problems_are_drawn_apart() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(0.3, 0.3, (3, 400)), rng.normal(0.1, 0.3, (3, 900))
    found = estimates.estimate(train, MORE, rng, minus=[test])
    assert found.value == pytest.approx(train.mean() - test.mean()) and found.n == 400
    alone = estimates.estimate(train, MORE, rng)
    assert found.high - found.low > alone.high - alone.low and 0.1 < found.low < found.high < 0.3


def test_the_same_runs_on_two_sets_vary_together() -> None:
    rng = np.random.default_rng(0)
    lucky = rng.normal(0, 0.2, size=(5, 1))
    one, two = (lucky + rng.normal(0, 0.1, (5, 400)) for _ in range(2))
    together = estimates.estimate(one, MORE, rng, minus=[two])
    apart = estimates.estimate(one, MORE, rng, minus=[two[:4]])  # not the same runs
    assert together.high - together.low < 0.2 * (apart.high - apart.low)
    against = estimates.estimate(one, MORE, rng, minus=[-two])
    assert against.high - against.low > 5 * (together.high - together.low)


def discordant(rng: np.random.Generator, n: int, share: float) -> NDArray[np.float64]:
    """Two equally good models that differ on a share of n problems."""
    return np.where(rng.random((1, n)) < share, rng.choice([-1.0, 1.0], (1, n)), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "share"), [(12, 0.5), (25, 0.3), (80, 0.1), (200, 0.02), (200, 0.3)])
def test_corrected_intervals_keep_their_level_on_few_problems(n: int, share: float) -> None:
    rng, level, times = np.random.default_rng(0), 1 - 0.05 / 10, 3_000
    wrong = 0
    for _ in range(times):
        found = estimates.estimate(discordant(rng, n, share), MORE, rng, level)
        wrong += claims.verdict(MORE, found.low, found.high) != SMALL
    assert wrong / times < 0.005 + 3 * (0.005 / times) ** 0.5


def test_few_that_differ_are_no_proof() -> None:
    rng = np.random.default_rng(0)

    def p(wins: int, losses: int) -> float:
        values = np.zeros((1, 200))
        values[0, :wins], values[0, wins : wins + losses] = 1.0, -1.0
        return estimates.estimate(values, MORE, rng).p

    assert p(4, 0) > 0.05 and p(7, 0) > 0.005  # McNemar's exact test: 0.125 and 0.016
    assert p(20, 2) < 0.01


def test_the_error_of_what_is_taken_off_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.1, 0.1, (1, 100))
    plain = estimates.estimate(values, MORE, rng)
    wide = estimates.estimate(values, MORE, rng, error=(0.1, 4.0))
    assert plain.low > 0 > wide.low and wide.value == plain.value


def test_power_says_what_would_be_enough() -> None:
    rng = np.random.default_rng(0)
    planned = estimates.power(0.06, 0.32 + 0.06 * 0.6, 400)
    told = np.mean(
        [
            claims.verdict(MORE, *estimates.estimate(table(rng, 0.06, 1, 400), MORE, rng)[1:3])
            == HOLDS
            for _ in range(200)
        ]
    )
    assert told == pytest.approx(planned.power, abs=0.12)
    assert estimates.power(0.06, 0.35, int(planned.problems)).power == pytest.approx(0.8, abs=0.03)
    assert estimates.power(0.01, 0.3, 200, seeds=1, seed_sd=0.02).problems == math.inf
    few, many = (estimates.power(0.06, 0.35, 10**6, seeds=n, seed_sd=0.05).power for n in (2, 9))
    assert few < 0.2 < 0.6 < many
    assert estimates.power(0.05, 0.0025, 100).power == 1.0
    assert estimates.power(0.0, 0.3, 200) == estimates.power(-0.05, 0.3, 200)
    assert estimates.power(-0.05, 0.3, 200) == (0.0, math.inf)


def test_the_claims_of_the_paper_are_complete() -> None:
    found = read_claims()
    names = [f"C{i}" for i in range(1, 28)]
    for after, more in (("C11", ["C11b"]), ("C22", ["C22b", "C22c"])):
        names[names.index(after) + 1 : names.index(after) + 1] = more
    assert list(found) == names
    assert all(claim.where and claim.strength and claim.paper for claim in found.values())
    assert {name for name, claim in found.items() if claim.direction == "same"} == {"C17", "C22c"}
    assert {name for name, claim in found.items() if claim.unit == "nats"} == {"C26"}


def test_a_damaged_file_of_claims_is_named(tmp_path: Path) -> None:
    entries = yaml.safe_load((PROJECT / "paper" / "claims.yaml").read_text())
    path = tmp_path / "claims.yaml"
    for change, said in (
        ({"direction": "below"}, "not above or same"),
        ({"unit": "%"}, "not points or nats"),
        ({"more": 1}, "must have"),
    ):
        path.write_text(yaml.safe_dump({"C1": {**entries["C1"], **change}}))
        with pytest.raises(ConfigError, match=said):
            read_claims(path)


def test_a_number_without_a_p_value_has_none_after_correction() -> None:
    ledger = claims.Ledger("00")
    ledger.enter_exact("C26", "x", 0.1, 12)
    ledger.enter("C1", "y", np.ones((5, 50)))
    exact, mean = ledger.verdicts()
    assert math.isnan(exact.p) and 0 < mean.p < 1


def test_runs_apart_bring_each_their_own_seeds() -> None:
    rng = np.random.default_rng(0)
    many, one = table(rng, 0.2, 5, 400), table(rng, 0.05, 1, 400)
    apart = estimates.estimate(many, MORE, rng, against=[one])
    assert apart.seeds == 1 and apart.n == 400
    assert apart.value == pytest.approx(many.mean() - one.mean())
    noisy = np.clip(many + np.array([-0.3, 0.3, 0.0, 0.2, -0.2])[:, None], -1, 1)
    wide, narrow = (
        estimates.estimate(many, MORE, np.random.default_rng(1), against=[other])
        for other in (noisy, many)
    )
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_an_interval_ends_where_means_can() -> None:
    found = estimates.estimate([[1.0, 0.5], [0.0, 1.0]], MORE, np.random.default_rng(0), 0.999)
    assert (found.low, found.high) == (-1.0, 1.0)


def test_an_interval_and_its_p_value_never_disagree() -> None:
    rng = np.random.default_rng(3)
    for gain in np.linspace(0, 0.12, 60):
        made = judged(MORE, table(rng, gain, 1, 150))
        assert (made.verdict == SMALL) == (made.p > 0.05), made
