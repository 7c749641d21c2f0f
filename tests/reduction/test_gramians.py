"""The equations: Lyapunov residuals, invariance, ranks, refusals."""

import numpy as np
import pytest
import torch
from systems import HARD, random_system

from harness.reduction import (
    UnusableSystem,
    energy_rank,
    gramians,
    hankel_singular_values,
    spectrum,
)


@pytest.mark.parametrize("name", HARD)
def test_gramians_solve_their_lyapunov_equations(name):
    lam, B, C = HARD[name]
    P, Q = gramians(lam, B, C)
    A = np.diag(lam)
    assert P.dtype == Q.dtype == np.complex128
    for residual, gramian in (
        (A @ P @ A.conj().T + B @ B.conj().T - P, P),
        (A.conj().T @ Q @ A + C.conj().T @ C - Q, Q),
    ):
        assert np.linalg.norm(residual) <= 1e-13 * np.linalg.norm(gramian)


@pytest.mark.parametrize("name", HARD)
def test_hankel_singular_values_are_invariant_and_match_the_eigenvalues_of_pq(name):
    lam, B, C = HARD[name]
    hsv = hankel_singular_values(lam, B, C)
    P, Q = gramians(lam, B, C)
    direct = np.sort(np.sqrt(np.clip(np.linalg.eigvals(P @ Q).real, 0, None)))[::-1]
    np.testing.assert_allclose(hsv, direct, atol=2e-7 * hsv[0])
    scale = np.exp(np.linspace(-1, 1, len(lam)))  # a change of basis that keeps A diagonal
    moved = hankel_singular_values(lam, scale[:, None] * B, C / scale)
    np.testing.assert_allclose(moved, hsv, rtol=0, atol=1e-9 * hsv[0])
    assert (np.diff(hsv) <= 0).all()


def test_one_state_by_hand():
    # P = |b|^2 / (1 - l^2) = 4 / 0.75, Q = 9 / 0.75, sigma = sqrt(P Q) = 6 / 0.75
    hsv = hankel_singular_values(np.array([0.5]), np.array([[2.0]]), np.array([[3.0]]))
    np.testing.assert_allclose(hsv, [8.0], rtol=1e-14)


def test_mode_shares_sum_to_the_hankel_singular_values():
    lam, B, C = random_system(12, 3)
    hsv, shares = spectrum(lam, B, C)
    P, Q = gramians(lam, B, C)
    values, X = np.linalg.eig(P @ Q)
    root = (X * np.sqrt(values)) @ np.linalg.inv(X)
    np.testing.assert_allclose(shares.sum(), hsv.sum(), rtol=1e-12)
    np.testing.assert_allclose(shares, np.diag(root).real, rtol=1e-5, atol=1e-8 * hsv[0])


def test_torch_and_leading_batch_dimensions_agree_with_numpy_one_by_one():
    systems = [random_system(6, 2, seed=s) for s in range(3)]
    stacked = [torch.from_numpy(np.stack(a)) for a in zip(*systems, strict=True)]
    P, Q = gramians(*stacked)
    hsv = hankel_singular_values(*stacked)
    assert isinstance(hsv, torch.Tensor)
    assert hsv.shape == (3, 6)
    for i, system in enumerate(systems):
        np.testing.assert_allclose(P[i], gramians(*system)[0], rtol=1e-12)
        np.testing.assert_allclose(Q[i], gramians(*system)[1], rtol=1e-12)
        np.testing.assert_allclose(hsv[i], hankel_singular_values(*system), rtol=1e-10)


@pytest.mark.parametrize(
    ("hsv", "tau", "rank"),
    [
        ([4, 3, 2, 1], 0.0, 4),
        ([4, 3, 2, 1], 0.05, 4),
        ([4, 3, 2, 1], 0.1, 3),  # 9 of 10 is exactly 90 %
        ([4, 3, 2, 1], 0.3, 2),
        ([1, 2, 3, 4], 0.3, 2),  # the order does not matter
        ([4, 3, 2, 1], 0.99, 1),
        ([1, 0, 0], 0.1, 1),
        ([1, 0, 0], 0.0, 3),  # tau 0 keeps all
        ([5], 0.5, 1),
    ],
)
def test_energy_rank(hsv, tau, rank):
    assert energy_rank(np.array(hsv, float), tau) == rank
    assert energy_rank(torch.tensor(hsv, dtype=torch.float64), tau) == rank


@pytest.mark.parametrize("hsv", [[], [np.nan, 1], [np.inf, 1], [-1, 2], [0, 0]])
def test_energy_rank_refuses(hsv):
    with pytest.raises(ValueError, match=r"spectrum|finite|zero"):
        energy_rank(np.array(hsv, float), 0.1)


def test_unstable_and_ill_shaped_systems_are_refused():
    lam, B, C = random_system(4, 2)
    with pytest.raises(ValueError, match="below 1"):
        gramians(lam / abs(lam), B, C)
    with pytest.raises(ValueError, match="must be"):
        gramians(lam, B.T, C)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lam, B, C: (lam / abs(lam), B, C), "below 1"),
        (lambda lam, B, C: (lam * np.nan, B, C), "finite"),
        (lambda lam, B, C: (lam, B * np.inf, C), "finite"),
        (lambda lam, B, C: (lam, B, C * 1e200), "overflow"),
    ],
)
def test_a_system_without_finite_gramians_is_told_from_a_wrong_call(change, message):
    system = random_system(4, 2)
    with np.errstate(invalid="ignore"):
        broken = change(*system)
    for call in (gramians, hankel_singular_values, spectrum):
        with pytest.raises(UnusableSystem, match=message):
            call(*broken)
