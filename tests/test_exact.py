"""The paper's derivation, checked by exact sums (claim C26)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restem_lib import exact


def world(
    seed: int, problems: int = 5, solutions: int = 6, size: int = 4
) -> tuple[exact.Array, exact.Array, exact.Array]:
    rng = np.random.default_rng(seed)
    reward = (rng.random((problems, solutions)) < 0.4).astype(float)
    reward[:, 0] = 1.0
    return rng.normal(size=(problems, solutions, size)), rng.normal(size=size), reward


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_the_bound_never_falls(seed: int) -> None:
    features, theta, reward = world(seed)
    bounds = [step.bound for step in exact.run(features, theta, reward, 4)]
    # The M-step is a numerical search with a faint pull to 0: it may miss its maximum by about 1e-5.
    assert all(after >= before - 1e-5 for before, after in pairwise(bounds))


def test_after_an_e_step_the_bound_is_the_log_of_success() -> None:
    features, theta, reward = world(1)
    p = exact.policy(features, theta)
    q = exact.e_step(p, reward)
    assert exact.bound(p, q, reward) == pytest.approx(
        np.log((reward * p).sum(axis=1)).mean(), abs=1e-12
    )


@given(st.integers(0, 10_000))
def test_no_other_q_gives_a_larger_bound(seed: int) -> None:
    features, theta, reward = world(seed)
    p = exact.policy(features, theta)
    other = np.random.default_rng(seed + 1).random(reward.shape) * reward
    other /= other.sum(axis=1, keepdims=True)
    assert exact.bound(p, other, reward) <= exact.bound(p, exact.e_step(p, reward), reward) + 1e-12


def test_with_a_feature_a_cell_one_iteration_solves_everything() -> None:
    _, _, reward = world(2, problems=3, solutions=4)
    features = np.eye(12).reshape(3, 4, 12)
    steps = exact.run(features, np.zeros(12), reward, 1)
    assert steps[-1].success == pytest.approx(1.0, abs=1e-4)


def test_the_m_step_is_the_maximum_likelihood_of_q() -> None:
    features, theta, reward = world(3)
    q = exact.e_step(exact.policy(features, theta), reward)
    best = exact.m_step(features, q)

    def likelihood(at: exact.Array) -> float:
        return float((q * np.log(exact.policy(features, at))).sum())

    rng = np.random.default_rng(0)
    assert all(
        likelihood(best) >= likelihood(best + 0.1 * rng.normal(size=best.size)) for _ in range(200)
    )


def test_a_problem_without_rewarded_solution_is_named() -> None:
    features, theta, reward = world(4)
    reward[2] = 0
    with pytest.raises(ValueError, match="problem 2 has no rewarded solution"):
        exact.e_step(exact.policy(features, theta), reward)
