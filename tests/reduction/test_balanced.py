"""Balanced truncation: the error bound on a frequency grid, stability, canonical form."""

import numpy as np
import pytest
import torch
from systems import HARD, random_system

from harness.reduction import TruncationError, balanced_truncation, gramians
from harness.reduction.balanced import check_diagonal_form, eigenvectors, largest_miss, miss_bound

FREQUENCIES = np.exp(1j * np.linspace(0, 2 * np.pi, 400, endpoint=False))


def transfer(lam, B, C, extra=()):
    z = np.concatenate([FREQUENCIES, extra])
    return (C[None] / (z[:, None, None] - lam)) @ B


def distance(one, two):
    peaks = [np.exp(1j * np.angle(one[0])), np.exp(1j * np.angle(two[0]))]
    difference = transfer(*one, np.concatenate(peaks)) - transfer(*two, np.concatenate(peaks))
    return np.linalg.norm(difference, ord=2, axis=(1, 2)).max()


def orders(n):
    return sorted({1, max(1, n // 2), max(1, n - 1), n})


@pytest.mark.parametrize("name", HARD)
def test_error_bound_and_stability_at_every_order(name):
    system = HARD[name]
    for order in orders(len(system[0])):
        t = balanced_truncation(*system, order)
        assert t.order <= order
        assert t.eigenvalues.shape == (t.order,)
        assert np.abs(t.eigenvalues).max() < 1
        assert t.error_bound == pytest.approx(2 * t.hsv[t.order :].sum())
        error = distance(system, (t.eigenvalues, t.B, t.C))
        assert error <= t.error_bound + 1e-7 * t.hsv[0]


@pytest.mark.parametrize("name", ["ordinary", "magnitude 0.9999", "more channels than states"])
def test_hankel_singular_values_of_the_reduced_system_are_the_largest(name):
    lam, B, C = HARD[name]
    order = max(1, len(lam) // 2)
    t = balanced_truncation(lam, B, C, order)
    P, Q = gramians(t.eigenvalues, t.B, t.C)
    # In balanced coordinates both Gramians of the discrete reduced system are only bounded by
    # the kept values, so the full order is where equality must hold.
    full = balanced_truncation(lam, B, C, len(lam))
    P, Q = gramians(full.eigenvalues, full.B, full.C)
    values = np.sort(np.sqrt(np.abs(np.linalg.eigvals(P @ Q))))[::-1]
    np.testing.assert_allclose(values, full.hsv[: full.order], rtol=1e-5, atol=1e-8 * full.hsv[0])


def test_projections_and_canonical_scale():
    lam, B, C = random_system(10, 3)
    t = balanced_truncation(lam, B, C, 6)
    np.testing.assert_allclose(t.W @ t.T, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(t.W @ B, t.B, atol=1e-12)
    np.testing.assert_allclose(C @ t.T, t.C, atol=1e-12)
    np.testing.assert_allclose(t.W @ (lam[:, None] * t.T), np.diag(t.eigenvalues), atol=1e-10)


def test_the_result_does_not_depend_on_the_basis():
    lam, B, C = random_system(10, 3)
    phase = np.exp(1j * np.arange(10))
    one = balanced_truncation(lam, B, C, 5)
    two = balanced_truncation(lam, phase[:, None] * B, C / phase, 5)
    order_one, order_two = np.argsort(one.eigenvalues.real), np.argsort(two.eigenvalues.real)
    np.testing.assert_allclose(one.eigenvalues[order_one], two.eigenvalues[order_two], atol=1e-10)


def test_above_the_numerical_rank_the_order_says_so():
    lam, B, C = random_system(8, 2)
    B[5:] = 0.0
    t = balanced_truncation(lam, B, C, 8)
    assert t.order == 5
    assert distance((lam, B, C), (t.eigenvalues, t.B, t.C)) < 1e-9 * t.hsv[0]


@pytest.mark.parametrize("as_torch", [False, True])
def test_a_batch_of_systems_is_refused_with_its_shapes(as_torch):
    batch = [np.stack([array, array]) for array in random_system(8, 2)]
    batch = [torch.from_numpy(a) for a in batch] if as_torch else batch
    said = r"takes one system, .* of shapes \(2, 8\), \(2, 8, 2\), \(2, 2, 8\)$"
    with pytest.raises(ValueError, match=said) as refused:
        balanced_truncation(*batch, 4)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("order", [0, -1, 9, 2.5, True, None, "x", float("nan"), float("inf")])
def test_orders_outside_the_range_are_refused(order):
    with pytest.raises(ValueError, match="from 1 to 8"):
        balanced_truncation(*random_system(8, 2), order)


def test_a_zero_system_is_refused():
    lam, B, C = random_system(4, 2)
    with pytest.raises(ValueError, match="zero"):
        balanced_truncation(lam, 0 * B, C, 2)


def test_torch_in_torch_out():
    system = [torch.from_numpy(a) for a in random_system(6, 2)]
    t = balanced_truncation(*system, 3)
    assert isinstance(t.B, torch.Tensor)
    assert t.B.dtype == torch.complex128


def test_against_pymor():
    pymor = pytest.importorskip("pymor.reductors.bt")
    from pymor.models.iosys import LTIModel

    lam, B, C = random_system(10, 3, r_max=0.9)

    # pyMOR wants real systems: z -> (Re z, Im z) doubles the states and each singular value.
    def real(M):
        return np.block([[M.real, -M.imag], [M.imag, M.real]])

    model = LTIModel.from_matrices(real(np.diag(lam)), real(B), real(C), sampling_time=1)
    theirs = np.sort(model.hsv())[::-1]
    t = balanced_truncation(lam, B, C, 5)
    np.testing.assert_allclose(np.repeat(t.hsv, 2), theirs, rtol=1e-6, atol=1e-9 * t.hsv[0])
    rom = pymor.BTReductor(model).reduce(10)
    s = np.exp(0.7j)
    ours = (t.C / (s - t.eigenvalues)) @ t.B
    full = real_transfer = rom.transfer_function.eval_tf(s)
    h = ours.shape[0]
    ours_conjugate = (t.C.conj() / (s - t.eigenvalues.conj())) @ t.B.conj()
    np.testing.assert_allclose(full[:h, :h], (ours + ours_conjugate) / 2, atol=1e-7 * t.hsv[0])
    assert real_transfer.shape == (2 * h, 2 * h)


def both_forms(lam, B, C, order):
    """(balanced (A, b, c), diagonal (poles, b, c), eigenvectors, 2-norm of their inverse)."""
    t = balanced_truncation(*(torch.from_numpy(a) for a in (lam, B, C)), order)
    # Any basis serves the check; an orthogonal change of the diagonal one gives a full A.
    generator = torch.Generator().manual_seed(0)
    Q, _ = torch.linalg.qr(torch.randn(t.order, t.order, generator=generator, dtype=t.B.dtype))
    A, b, c = Q @ torch.diag(t.eigenvalues) @ Q.mH, Q @ t.B, t.C @ Q.mH
    poles, X = eigenvectors(A)
    inverse = torch.linalg.inv(X)
    return (A, b, c), (poles, inverse @ b, c @ X), X, float(torch.linalg.matrix_norm(inverse, 2))


@pytest.mark.parametrize("name", HARD)
def test_residuals_bound_how_far_the_diagonal_form_misses(name):
    lam, B, C = HARD[name]
    balanced, reduced, X, inverse = both_forms(lam, B, C, max(1, len(lam) // 2))
    bound = miss_bound(balanced, reduced, X, inverse)
    scale = float(balanced_truncation(lam, B, C, 1).hsv[0])
    assert largest_miss(balanced, reduced) <= bound + 1e-13 * scale
    assert bound < 1e-7 * scale  # or it would never spare the look at every frequency


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("size", [1e-6, 1e-3])
def test_a_diagonal_form_that_misses_is_noticed(part, size):
    balanced, reduced, X, inverse = both_forms(*random_system(10, 3), 6)
    check_diagonal_form(balanced, reduced, X, inverse, 1e-9, 1.0)
    wrong = list(reduced)
    wrong[part] = wrong[part] + size
    miss = largest_miss(balanced, wrong)
    assert miss > 1e-8
    assert miss_bound(balanced, wrong, X, inverse) >= miss * (1 - 1e-9)
    with pytest.raises(TruncationError, match="misses the balanced one by"):
        check_diagonal_form(balanced, wrong, X, inverse, 0.9 * miss, 1.0)
    check_diagonal_form(balanced, wrong, X, inverse, 1.1 * miss, 1.0)
