"""Statistics against enumeration, hand-done matrices, scipy and simulated coverage."""

from __future__ import annotations

import doctest
import tracemalloc
from collections import Counter
from collections.abc import Callable
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, binomtest

from restem_lib import statistics
from restem_lib.statistics import (
    Interval,
    McNemar,
    interval,
    majority,
    mcnemar,
    paired_difference,
    pass_at_k,
)

FOUR_BY_TWO = np.array([[True, True], [True, False], [False, True], [False, False]])
ANSWERS = ["", "1", "2", "3"]

enumerated = settings(deadline=None, max_examples=60)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def correctness(draw: st.DrawFn, most_samples: int = 7) -> NDArray[np.bool_]:
    samples = draw(st.integers(1, most_samples))
    row = st.lists(st.booleans(), min_size=samples, max_size=samples)
    return np.array(draw(st.lists(row, min_size=1, max_size=4)), dtype=bool)


def test_docstring_examples() -> None:
    results = doctest.testmod(statistics)
    assert results.attempted >= 6
    assert results.failed == 0


# pass@k


@pytest.mark.parametrize(("k", "expected"), [(1, [1.0, 0.5, 0.5, 0.0]), (2, [1.0, 1.0, 1.0, 0.0])])
def test_pass_at_k_by_hand(k: int, expected: list[float]) -> None:
    assert pass_at_k(FOUR_BY_TWO, k).tolist() == expected


@enumerated
@given(correctness(), st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(
    correct: NDArray[np.bool_], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, correct.shape[1]))
    subsets = [correct[:, list(chosen)] for chosen in combinations(range(correct.shape[1]), k)]
    expected = np.mean([subset.any(axis=1) for subset in subsets], axis=0)
    np.testing.assert_allclose(pass_at_k(correct, k), expected, atol=1e-12)


@pytest.mark.filterwarnings("error")
def test_pass_at_k_beyond_the_samples_is_undefined() -> None:
    assert np.isnan(pass_at_k(FOUR_BY_TWO, 3)).all()
    assert pass_at_k(FOUR_BY_TWO, 3).shape == (4,)


def test_pass_at_k_is_stable_where_binomials_overflow() -> None:
    correct = np.arange(4000)[None, :] < 3
    # All three correct samples lie in the half that is not drawn.
    missed = (2000 / 4000) * (1999 / 3999) * (1998 / 3998)
    assert pass_at_k(correct, 2000)[0] == pytest.approx(1 - missed, abs=1e-12)
    assert pass_at_k(np.ones((1, 4000), dtype=bool), 4000).tolist() == [1.0]


@pytest.mark.parametrize("k", [0, -1])
def test_pass_at_k_needs_a_positive_k(k: int) -> None:
    with pytest.raises(ValueError, match="k of at least 1"):
        pass_at_k(FOUR_BY_TWO, k)


@pytest.mark.parametrize(
    "correct", [np.array([True, False]), np.ones((2, 2, 2), dtype=bool), np.ones((2, 2))]
)
def test_pass_at_k_wants_boolean_problems_by_samples(correct: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match=r"boolean array \[P, N\]"):
        pass_at_k(correct, 1)


# majority vote


def test_majority_by_hand() -> None:
    answers = [["7", "7"], ["7", "8"], ["", "8"], ["", ""]]
    assert majority(answers, FOUR_BY_TWO).tolist() == [1.0, 0.5, 1.0, 0.0]


def test_one_correct_sample_makes_its_answer_correct() -> None:
    assert majority([["7", "7", "8"]], np.array([[True, False, False]])).tolist() == [1.0]


def test_no_answer_never_votes_even_when_it_is_most_frequent_or_marked_correct() -> None:
    assert majority([["", "", "", "7"]], np.array([[False] * 3 + [True]])).tolist() == [1.0]
    assert majority([["", ""]], np.array([[True, True]])).tolist() == [0.0]


@enumerated
@given(correctness(most_samples=5), st.data())
def test_majority_is_the_mean_over_all_orders_of_the_samples(
    correct: NDArray[np.bool_], data: st.DataObject
) -> None:
    samples = correct.shape[1]
    row = st.lists(st.sampled_from(ANSWERS), min_size=samples, max_size=samples)
    answers = data.draw(st.lists(row, min_size=len(correct), max_size=len(correct)))
    expected = [
        np.mean([first_come_vote(order) for order in permutations(zip(texts, flags, strict=True))])
        for texts, flags in zip(answers, correct, strict=True)
    ]
    np.testing.assert_allclose(majority(answers, correct), expected, atol=1e-12)


def first_come_vote(order: tuple[tuple[str, bool], ...]) -> bool:
    """A vote whose ties go to the answer seen first: in a random order, a random tied answer."""
    ranking = Counter(text for text, _ in order if text).most_common(1)
    return any(flag and text == winner for winner, _ in ranking for text, flag in order)


def test_majority_rejects_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match="answers has 1 problems, correct has 4"):
        majority([["1", "2"]], FOUR_BY_TWO)
    with pytest.raises(ValueError, match="problem 3 has 1 answers, correct has 2"):
        majority([["1", "2"]] * 3 + [["1"]], FOUR_BY_TWO)
    with pytest.raises(ValueError, match=r"boolean array \[P, N\]; it is int64"):
        majority([["1", "2"]] * 4, FOUR_BY_TWO.astype(int))


# interval


@enumerated
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sampled_from([0.8, 0.95, 0.99]))
def test_interval_of_solved_or_not_is_wilsons(solved: list[bool], level: float) -> None:
    n = len(solved)
    reference = binomtest(sum(solved), n).proportion_ci(level, method="wilson")
    found = interval(solved, rng(), level)
    assert found == pytest.approx((sum(solved) / n, reference.low, reference.high, n), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_bootstrap_by_hand() -> None:
    values = [0.1, 0.5, 0.9]
    # 27 equally likely resamples: one sums to 0.3, three to 0.7, and so on up to 2.7, so the lower
    # 10 % end among the three.
    expected = pytest.approx((0.5, 0.7 / 3, 2.3 / 3, 3))
    assert interval(values, rng(), level=0.8) == expected
    assert paired_difference([0.0] * 3, values, rng(), level=0.8) == expected


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 15), min_size=2, max_size=5, unique=True), st.integers(0, 2**32 - 1))
def test_bootstrap_agrees_with_enumeration(sixteenths: list[int], seed: int) -> None:
    values = np.array(sixteenths) / 16
    exact = np.array([np.mean(chosen) for chosen in product(values, repeat=len(values))])
    found = interval(values, rng(seed), level=0.9)
    # 10,000 resamples estimate a tail of 0.05 with a standard error of 0.002; 0.02 is nine of them.
    assert np.mean(exact < found.low - 1e-9) <= 0.05 + 0.02
    assert np.mean(exact <= found.low + 1e-9) >= 0.05 - 0.02
    assert np.mean(exact > found.high + 1e-9) <= 0.05 + 0.02
    assert np.mean(exact >= found.high - 1e-9) >= 0.05 - 0.02


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
def test_equal_values_keep_a_width_that_shrinks_with_more_problems(value: float) -> None:
    few, many = interval([value] * 10, rng()), interval([value] * 1000, rng())
    assert few.value == many.value == value
    assert 0 <= few.low <= many.low <= value <= many.high <= few.high <= 1
    assert few.high - few.low > 10 * (many.high - many.low) > 0
    # What may be otherwise is a share z^2 / (n + z^2) of the problems, spread over 0..1.
    assert few.high - few.low == pytest.approx(1.959964**2 / (10 + 1.959964**2), rel=1e-6)


def test_any_nan_makes_the_interval_nan() -> None:
    for found in (
        interval([1.0, np.nan, 0.0], rng()),
        interval(pass_at_k(FOUR_BY_TWO, 3), rng()),
        paired_difference([1.0, np.nan], [1.0, 0.5], rng()),
        paired_difference([1.0, 0.5], [np.nan, 0.5], rng()),
    ):
        assert np.isnan(found[:3]).all()
    assert interval([1.0, np.nan, 0.0], rng()).n == 3


def test_a_higher_level_is_wider() -> None:
    for values in (rng(1).random(50), rng(1).random(50) < 0.3, np.full(50, 0.5)):
        narrow, wide = interval(values, rng(), level=0.8), interval(values, rng(), level=0.99)
        assert wide.low < narrow.low < narrow.high < wide.high


def test_same_seed_same_interval_and_no_global_state() -> None:
    values, others = rng(1).random(40), rng(2).random(40)
    state = repr(np.random.get_state())
    assert interval(values, rng(5)) == interval(values, rng(5))
    assert paired_difference(values, others, rng(5)) == paired_difference(values, others, rng(5))
    assert interval(values, rng(5)) != interval(values, rng(6))
    assert paired_difference(values, others, rng(5)) != paired_difference(values, others, rng(6))
    assert repr(np.random.get_state()) == state


def test_chunks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng(1).random(37)
    whole = interval(values, rng(5), resamples=1003)
    monkeypatch.setattr(statistics, "CHUNK", 37 * 10)
    assert interval(values, rng(5), resamples=1003) == whole
    monkeypatch.setattr(statistics, "CHUNK", 1)
    assert interval(values, rng(5), resamples=1003) == whole


def test_many_problems_and_resamples_fit_in_memory() -> None:
    values = rng(1).random(5000)
    tracemalloc.start()
    interval(values, rng(), resamples=10_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32e6  # all at once: 5000 x 10,000 x 8 bytes = 400 MB


@pytest.mark.parametrize(
    ("values", "level", "resamples", "message"),
    [
        ([], 0.95, 100, "at least one problem"),
        ([[0.5, 0.5]], 0.95, 100, "one rate a problem"),
        ([0.5, 1.5], 0.95, 100, r"within 0\.\.1, but holds 1\.5"),
        ([0.5, -0.1], 0.95, 100, r"within 0\.\.1, but holds -0\.1"),
        ([0.5, np.inf], 0.95, 100, r"within 0\.\.1, but holds inf"),
        ([0.5, 0.6], 95, 100, "between 0 and 1"),
        ([0.5, 0.6], 0.95, 0, "resamples must be at least 1"),
    ],
)
def test_what_is_no_rate_or_setting_is_refused(
    values: list[float], level: float, resamples: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        interval(values, rng(), level, resamples)
    with pytest.raises(ValueError, match=message):
        paired_difference(values, values, rng(), level, resamples)


# paired difference


def test_paired_difference_by_hand() -> None:
    # Gains 0, 1, 0, 1: a resample's sum is binomial(4, 1/2), of which 1/16 is 0 and 1/16 is 4.
    found = paired_difference(FOUR_BY_TWO[:, 1], [True, True, True, True], rng(), level=0.9)
    assert found == Interval(0.5, 0.0, 1.0, 4)
    found = paired_difference(FOUR_BY_TWO[:, 1], [True, True, True, True], rng(), level=0.8)
    assert found == Interval(0.5, 0.25, 0.75, 4)


def test_swapping_the_models_mirrors_the_difference() -> None:
    a, b = rng(1).random(60), rng(2).random(60)
    forth, back = paired_difference(a, b, rng(5)), paired_difference(b, a, rng(5))
    assert back[:3] == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_pairing_removes_what_the_models_share() -> None:
    base = rng(1).random(200) * 0.8
    better = base + 0.1 + rng(2).uniform(-0.02, 0.02, 200)
    paired = paired_difference(base, better, rng())
    assert paired.high - paired.low < 0.01
    alone = interval(base, rng())
    assert alone.high - alone.low > 0.05


def test_models_that_agree_everywhere_are_not_proved_equal() -> None:
    few = paired_difference([1, 0, 1], [1, 0, 1], rng())
    assert few.value == 0.0
    assert few.low == pytest.approx(-few.high)
    assert few.high > 0.5
    many = paired_difference([0.5] * 2000, [0.5] * 2000, rng())
    assert 0 < many.high < 0.002


def test_rounding_is_no_width() -> None:
    a, b = [0.1, 0.2, 0.3], [0.3, 0.4, 0.5]
    assert len(set(np.subtract(b, a))) > 1
    found = paired_difference(a, b, rng())
    assert found.low < 0 < found.high < 1


def test_always_better_by_the_most_reaches_the_end_of_the_range() -> None:
    found = paired_difference([0] * 50, [1] * 50, rng())
    assert found.value == found.high == 1.0
    assert 0.8 < found.low < 1


def test_pairs_need_the_same_problems() -> None:
    with pytest.raises(ValueError, match="a has 2 problems, b has 3"):
        paired_difference([0.5, 0.6], [0.5, 0.6, 0.7], rng())
    with pytest.raises(ValueError, match="a has 4 problems, b has 3"):
        mcnemar(FOUR_BY_TWO[:, 0], FOUR_BY_TWO[:3, 0])


# coverage: how often a 95 % interval holds the truth, over repeated test sets


def coverage(find: Callable[[np.random.Generator], Interval], truth: float, sets: int) -> float:
    found = [find(rng(seed)) for seed in range(sets)]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def test_coverage_of_wilson() -> None:
    for truth in (0.02, 0.1, 0.5, 0.9):
        held = 0.0
        for solved in range(101):
            found = interval(np.arange(100) < solved, rng())
            held += binom.pmf(solved, 100, truth) * (found.low <= truth <= found.high)
        # Exact, not simulated; 0/1 outcomes come in steps, so no interval hits 0.95 everywhere.
        assert held == pytest.approx(0.95, abs=0.03)


def test_coverage_of_the_bootstrap() -> None:
    def pass_rates(draw: np.random.Generator) -> Interval:
        rates = draw.binomial(16, draw.beta(0.5, 0.5, 100)) / 16
        return interval(rates, draw, resamples=500)

    # 1000 test sets: a standard error of 0.007, three of which are allowed.
    assert coverage(pass_rates, 0.5, sets=1000) == pytest.approx(0.95, abs=0.02)


def test_coverage_of_the_paired_difference() -> None:
    def same_problems(draw: np.random.Generator) -> Interval:
        fate = draw.random(200)
        base = draw.random(200) < 0.5
        only_a, only_b = fate < 0.1, fate > 0.85
        a, b = (base | only_a) & ~only_b, (base | only_b) & ~only_a
        return paired_difference(a, b, draw, resamples=500)

    # Unpaired resampling would be too wide here and hold the truth nearly always.
    assert coverage(same_problems, 0.05, sets=1000) == pytest.approx(0.95, abs=0.02)


def test_coverage_where_most_test_sets_do_not_vary() -> None:
    def nearly_always_half(draw: np.random.Generator) -> Interval:
        return interval(np.where(draw.random(50) < 0.01, 0.0, 0.5), draw, resamples=500)

    # An interval of no width misses the truth in every unvaried set: 0.99^50, 60 % of them.
    assert coverage(nearly_always_half, 0.495, sets=500) >= 0.93


# McNemar


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (0, 3, 0.25), (1, 5, 14 / 64), (5, 5, 1.0), (6, 0, 2 / 64)],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(*with_discordant(only_a, only_b)) == McNemar(only_a, only_b, p)


@enumerated
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(only_a: int, only_b: int) -> None:
    found = mcnemar(*with_discordant(only_a, only_b))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    if only_a + only_b:
        assert found.p == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, rel=1e-9)


def test_mcnemar_wants_booleans() -> None:
    with pytest.raises(ValueError, match=r"boolean array \[P\]; it is int64"):
        mcnemar(np.array([1, 0]), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"boolean array \[P\]"):
        mcnemar(FOUR_BY_TWO, FOUR_BY_TWO)


def with_discordant(only_a: int, only_b: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two models that also solve three problems both, and fail two both."""
    both, neither = [True] * 3, [False] * 2
    a = both + neither + [True] * only_a + [False] * only_b
    b = both + neither + [False] * only_a + [True] * only_b
    return np.array(a), np.array(b)
