"""EM by exact sums on a small table: the derivation of section 3 of the paper, without sampling.

P problems with K candidate solutions each, a reward r[P, K], and a policy p(y|x) ∝ exp(features[x, y] · θ). With as
many features as cells any policy is reachable; with fewer, problems share them, as they share a network's weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class HalfStep(NamedTuple):
    """The state after one E-step or M-step."""

    step: str
    """"start", "E" or "M"."""
    bound: float
    """L(p, q), the evidence lower bound of equation 2, mean over problems."""
    success: float
    """Probability of a rewarded solution under p, mean over problems."""


def policy(features: Array, theta: Array) -> Array:
    """p(y|x) [P, K] of features [P, K, F] and parameters [F].

    >>> policy(np.zeros((1, 2, 3)), np.ones(3))
    array([[0.5, 0.5]])
    """
    scores = features @ theta
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def e_step(p: Array, reward: Array) -> Array:
    """q(y|x) ∝ r(x, y) p(y|x): for a binary reward, the policy given that it succeeds.

    Raises ValueError for a problem that the policy cannot solve: q is undefined there.
    """
    joint = reward * p
    mass = joint.sum(axis=1, keepdims=True)
    if not (mass > 0).all():
        raise ValueError(
            f"problem {int(mass.argmin())} has no rewarded solution of positive probability"
        )
    return np.asarray(joint / mass)


def m_step(features: Array, q: Array) -> Array:
    """θ that maximises the mean of Σ_y q(y|x) log p(y|x): reward-weighted likelihood, equation 3. Concave in θ.

    A pull of strength 1e-8 towards 0 keeps θ finite where the best policy is deterministic.
    """
    from scipy.optimize import minimize

    def loss(theta: Array) -> tuple[float, Array]:
        p = policy(features, theta)
        gradient = np.einsum("pk,pkf->f", p - q, features) / len(q) + 2e-8 * theta
        value = -(q * np.log(np.maximum(p, 1e-300))).sum() / len(q) + 1e-8 * theta @ theta
        return float(value), gradient

    found = minimize(
        loss, np.zeros(features.shape[2]), jac=True, method="L-BFGS-B", options={"maxiter": 2000}
    )
    return np.asarray(found.x)


def bound(p: Array, q: Array, reward: Array) -> float:
    """L(p, q) = E_q[log r] - KL(q || p), mean over problems; at most log p(success), with equality after an E-step."""
    inside = q > 0
    terms = np.zeros_like(q)
    terms[inside] = q[inside] * (np.log(reward[inside]) + np.log(p[inside]) - np.log(q[inside]))
    return float(terms.sum(axis=1).mean())


def run(features: Array, theta: Array, reward: Array, iterations: int) -> list[HalfStep]:
    """Alternate exact E- and M-steps. The bound before the first E-step takes q uniform on the rewarded solutions."""
    p = policy(features, theta)
    q = (reward > 0) / (reward > 0).sum(axis=1, keepdims=True)

    def state(step: str) -> HalfStep:
        return HalfStep(step, bound(p, q, reward), float((reward * p).sum(axis=1).mean()))

    steps = [state("start")]
    for _ in range(iterations):
        q = e_step(p, reward)
        steps.append(state("E"))
        p = policy(features, m_step(features, q))
        steps.append(state("M"))
    return steps


def example(iterations: int, seed: int = 0) -> list[HalfStep]:
    """Exact EM on a random table of 12 problems with 8 solutions each, whose policy has only 5 parameters."""
    rng = np.random.default_rng(seed)
    features, theta = rng.normal(size=(12, 8, 5)), rng.normal(size=5)
    reward = (rng.random((12, 8)) < 0.3).astype(float)
    reward[:, 0] = 1.0
    return run(features, theta, reward, iterations)
