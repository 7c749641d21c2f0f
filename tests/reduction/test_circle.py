"""Poles that double precision can hardly tell from the unit circle: right, or refused."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from harness.reduction import (
    TruncationError,
    UnusableSystem,
    balanced_truncation,
    gramians,
    hankel_nuclear_norm,
    hankel_singular_values,
)
from harness.reduction.circle import CLOSE, distances, gaps
from harness.reduction.gramians import check_range
from harness.reduction.hankel import decompose
from harness.reduction.modes import aire_scores, select
from harness.reduction.singular_perturbation import residualise

from .systems import HARD, random_system

DISTANCES = (1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-14, 3e-16, 1.2e-16)
PHASES = (0.0, 1.0, 2.5)
POLES = [(1.0 - d) * np.exp(1j * phase) for d in DISTANCES for phase in PHASES]


def exact_gap(x, y):
    """1 - x conj(y) of two floating point numbers as they stand, in rational arithmetic."""
    a, b, c, d = (Fraction(float(v)) for v in (x.real, x.imag, y.real, y.imag))
    return 1 - (a * c + b * d), a * d - b * c


def within(lam):
    return exact_gap(lam, lam)[0] > 0 and abs(lam) < 1


def with_pole(lam, seed=1):
    """A system of 16 states and 3 channels, one of its poles there."""
    poles, B, C = random_system(16, 3, seed=seed)
    poles[0] = lam
    return poles, B, C


def stacked(system):
    return decompose(*(torch.from_numpy(np.asarray(a, complex)) for a in system))


def long_distance(full, reduced, gain=0.0):
    """The H-infinity distance, computed with 64 bits of mantissa, at the phases of all poles."""
    full, reduced = ([np.asarray(a).astype(np.clongdouble) for a in s] for s in (full, reduced))
    poles = np.concatenate([full[0], reduced[0]])
    z = poles / np.sqrt(poles.real**2 + poles.imag**2)
    z = np.concatenate([z, np.exp(2j * np.pi * np.arange(64, dtype=np.clongdouble) / 64)])
    largest = 0.0
    for at in z:
        one, two = (at * ((C / (at - lam)) @ B) for lam, B, C in (full, reduced))
        largest = max(largest, np.linalg.norm((one - two - gain).astype(complex), ord=2))
    return largest


def test_gaps_are_those_of_rational_arithmetic():
    rng = np.random.default_rng(0)
    lam = np.array([p for p in POLES if within(p)] + list(0.9 * np.exp(1j * rng.uniform(0, 6, 4))))
    found = gaps(torch.from_numpy(lam), float(abs(lam).max())).numpy()
    for i, x in enumerate(lam):
        for j, y in enumerate(lam):
            real, imag = (float(part) for part in exact_gap(x, y))
            wanted = complex(real, imag)
            # The ordinary difference errs by about 4e-16, whatever is left of it.
            allowed = 4e-8 if abs(wanted) < CLOSE else 4e-16 / abs(wanted)
            assert abs(found[i, j] - wanted) <= allowed * abs(wanted)
            if abs(wanted) < CLOSE / 2:
                assert abs(found[i, j] - wanted) <= 1e-15 * abs(wanted)
        assert distances(torch.from_numpy(lam))[i] == pytest.approx(
            float(exact_gap(x, x)[0]) / (1 + abs(x)), rel=4e-8
        )


def test_what_is_not_close_keeps_its_bits():
    for lam, _, _ in HARD.values():
        poles = torch.from_numpy(np.asarray(lam, complex))
        plain = 1.0 - poles[:, None] * poles[None, :].conj()
        assert torch.equal(gaps(poles, float(poles.abs().max())), plain)
        assert torch.equal(distances(poles), 1.0 - poles.abs())
    mixed = torch.tensor([0.5 + 0.5j, 1.0 - 1e-15, 0.99j], dtype=torch.complex128)
    plain = 1.0 - mixed[:, None] * mixed[None, :].conj()
    far = plain.abs() >= CLOSE
    assert torch.equal(gaps(mixed, 1.0 - 1e-15)[far], plain[far])
    assert int((~far).sum()) == 1


@pytest.mark.parametrize("lam", [p for p in POLES if within(p)])
def test_gramians_solve_their_equations_in_rational_arithmetic(lam):
    system = with_pole(lam)
    P, Q = gramians(*system)
    poles, B, C = system
    for gramian, right, conj in ((P, B @ B.conj().T, 1), (Q, C.conj().T @ C, -1)):
        for i, j in ((0, 0), (0, 3), (3, 0)):
            re, im = exact_gap(poles[i], poles[j])
            g = complex(float(re), conj * float(im))
            assert gramian[i, j] * g == pytest.approx(right[i, j], rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("lam", [p for p in POLES if within(p)])
def test_one_state_by_hand(lam):
    sigma = 6.0 / float(exact_gap(lam, lam)[0])
    system = np.array([lam]), np.array([[2.0]]), np.array([[3.0]])
    np.testing.assert_allclose(hankel_singular_values(*system), [sigma], rtol=4e-8)


@pytest.mark.parametrize("order", [1, 4, 8, 15, 16])
@pytest.mark.parametrize("lam", POLES)
def test_a_truncation_keeps_its_bound_or_is_refused(lam, order):
    """At 1 - 1e-16 the bound was 73.5 and the error about 1e16; at 1 - 1e-9 still 7 times it."""
    system = with_pole(lam)
    try:
        t = balanced_truncation(*system, order)
    except (TruncationError, UnusableSystem):
        assert abs(lam) > 1 - 1e-5, "nothing to refuse"
        return
    allowed = max(t.error_bound, 1e-9 * t.hsv[0])
    assert long_distance(system, (t.eigenvalues, t.B, t.C)) <= allowed * (1 + 1e-6)


@pytest.mark.parametrize("order", [1, 4, 8])
@pytest.mark.parametrize("lam", POLES)
def test_a_residualisation_keeps_its_bound_or_is_refused(lam, order):
    system = with_pole(lam)
    try:
        t = residualise(stacked(system), order)
    except (TruncationError, UnusableSystem):
        assert abs(lam) > 1 - 1e-5, "nothing to refuse"
        return
    allowed = max(t.error_bound, 1e-9 * float(t.hsv[0]))
    reduced = (t.eigenvalues.numpy(), t.B.numpy(), t.C.numpy())
    assert long_distance(system, reduced, t.gain.numpy()) <= allowed * (1 + 1e-6)


def test_the_case_of_the_issue_is_refused_with_its_reason():
    with pytest.raises(TruncationError, match=r"rounding alone makes|reduced system is unstable"):
        balanced_truncation(*with_pole(1 - 1e-16), 1)


@pytest.mark.parametrize("lam", [p for p in POLES if within(p)])
def test_leaving_out_a_mode_costs_no_more_than_is_said(lam):
    system = with_pole(lam)
    t = select(stacked(system), torch.arange(1, 16))
    distance = exact_gap(lam, lam)[0] / (1 + Fraction(abs(lam)))
    size = np.linalg.norm(system[1][0]) * np.linalg.norm(system[2][:, 0])
    assert t.error_bound == pytest.approx(size / float(distance), rel=1e-7)
    energy = size**2 / float(exact_gap(lam, lam)[0])
    assert float(aire_scores(stacked(system))[0]) == pytest.approx(energy, rel=1e-7)


def test_an_eigenvalue_that_the_rounding_of_its_magnitude_puts_inside_is_refused():
    """On a CPU |l| is rounded correctly; other devices promise less."""
    gap = torch.tensor([[0.1, 0.2], [0.2, -1e-17]], dtype=torch.complex128)
    one = torch.eye(2, dtype=torch.complex128)
    with pytest.raises(UnusableSystem, match=r"every .eigenvalue. must be below 1"):
        check_range(gap, (one, one), (one, one))


@pytest.mark.parametrize("method", ["exact", "adjoint"])
def test_the_regularizer_sees_the_same_singular_values(method):
    class Layer:
        def __init__(self, system):
            self.parts = [torch.from_numpy(np.asarray(a, complex)).requires_grad_() for a in system]

        def trainable_system(self):
            return self.parts

    system = np.array([1 - 3e-16 + 0j]), np.array([[2.0]]), np.array([[3.0]])
    layer = Layer(system)
    value = hankel_nuclear_norm([layer], method)
    gap = float(exact_gap(system[0][0], system[0][0])[0])
    assert float(value.detach()) == pytest.approx(6.0 / gap, rel=1e-7)
    value.backward()
    # d/dl of 6 / (1 - l^2)
    assert float(layer.parts[0].grad[0].real) == pytest.approx(12.0 / gap**2, rel=1e-6)
