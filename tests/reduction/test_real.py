"""Real systems by their stored states, against dense real arithmetic of another making."""

import numpy as np
import pytest
import scipy.linalg
import torch

from harness.models.layers.s5 import S5
from harness.reduction import UnusableSystem, decompositions, energy_rank, spectra, truncate
from harness.reduction.pieces import all_reduced
from harness.reduction.real import decompose_real, with_conjugates
from harness.reduction.regularizer import hankel_nuclear_norm

from .systems import HARD, random_system

METHODS = ("balanced", "smallest", "singular_perturbation")


def decomposed(lam, B, C):
    (found,) = decompose_real(
        *(torch.as_tensor(np.asarray(part, complex))[None] for part in (lam, B, C))
    )
    return found


def reduced(system, order, how="balanced", generator=None):
    (found,) = all_reduced({0: decomposed(*system)}, {0: order}, how, generator)
    return found


def dense(lam, B, C):
    """The real system of (Re h, Im h): A (2 N, 2 N), b (2 N, H), c (H, 2 N)."""
    lam, B, C = (np.asarray(part, complex) for part in (lam, B, C))
    A = np.block([[np.diag(lam.real), -np.diag(lam.imag)], [np.diag(lam.imag), np.diag(lam.real)]])
    return A, np.concatenate([B.real, B.imag]), np.concatenate([C.real, -C.imag], 1)


def dense_gramians(A, b, c):
    solve = scipy.linalg.solve_discrete_lyapunov
    return solve(A, b @ b.T), solve(A.T, c.T @ c)


def dense_hsv(P, Q):
    R, L = (scipy.linalg.cholesky(one + 1e-13 * np.eye(len(one)), lower=True) for one in (P, Q))
    return scipy.linalg.svdvals(L.T @ R)


def dense_truncation(A, b, c, r):
    """Textbook square-root truncation to real order r."""
    P, Q = dense_gramians(A, b, c)
    R, L = (scipy.linalg.cholesky(one, lower=True) for one in (P, Q))
    U, S, Vh = np.linalg.svd(L.T @ R)
    T = R @ Vh.T[:, :r] / np.sqrt(S[:r])
    W = (L @ U[:, :r] / np.sqrt(S[:r])).T
    return W @ A @ T, W @ b, c @ T


def response(A, b, c, z, gain=0.0):
    """z c (z - A)^-1 b + gain: the output reads the new state."""
    identity = np.eye(len(A))
    return np.stack([one * c @ np.linalg.solve(one * identity - A, b) + gain for one in z])


def grid(*systems):
    phases = np.concatenate([np.linspace(0, np.pi, 150), *(np.angle(one[0]) for one in systems)])
    return np.exp(1j * phases)


def system_of(truncation):
    return tuple(part.numpy() for part in (truncation.eigenvalues, truncation.B, truncation.C))


def apart(full, small, gain=0.0):
    """The largest 2-norm of the difference of two real systems over their frequencies."""
    z = grid(full, small)
    gap = response(*dense(*full), z) - response(*dense(*small), z, gain)
    return np.linalg.norm(gap, ord=2, axis=(1, 2)).max()


@pytest.mark.parametrize("name", HARD)
def test_its_gramians_solve_the_real_lyapunov_equations(name):
    system = HARD[name]
    A, b, c = dense(*system)
    found = decomposed(*system).whole
    n = len(system[0])
    change = np.block([[np.eye(n), np.eye(n)], [-1j * np.eye(n), 1j * np.eye(n)]]) / np.sqrt(2)
    R, L = (change @ factor.numpy() for factor in (found.R, found.L))
    for factor, (F, g) in ((R, (A, b)), (L, (A.T, c.T))):
        assert np.abs(factor.imag).max() <= 1e-12 * np.abs(factor).max()  # real, as it says
        gramian = (factor @ factor.T).real
        residual = F @ gramian @ F.T - gramian + g @ g.T
        assert np.abs(residual).max() <= 1e-10 * np.abs(gramian).max()


@pytest.mark.parametrize("seed", range(4))
def test_its_spectrum_is_the_real_systems_two_by_two(seed):
    system = random_system(6, 3, seed)
    found = decomposed(*system)
    hsv = dense_hsv(*dense_gramians(*dense(*system)))
    np.testing.assert_allclose(found.whole.hsv, hsv, rtol=1e-7)
    np.testing.assert_allclose(found.hsv, hsv[::2] + hsv[1::2], rtol=1e-7)
    assert float(found.mode_shares.sum()) == pytest.approx(hsv.sum())
    # Not those of the complex system that the stored states would make alone.
    assert abs(float(found.hsv.sum()) / hsv.sum() - 1) < 1e-7


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_textbook_truncation_of_the_real_system(order, seed):
    system = random_system(6, 3, seed)
    found = reduced(system, order)
    poles = found.eigenvalues.numpy()
    r = 2 * len(poles) - int((poles.imag == 0).sum())
    z = grid(system)
    wanted = response(*dense_truncation(*dense(*system), r), z)
    np.testing.assert_allclose(response(*dense(*system_of(found)), z), wanted, atol=1e-8)
    hsv = dense_hsv(*dense_gramians(*dense(*system)))
    assert found.error_bound == pytest.approx(2 * hsv[r:].sum(), rel=1e-6)
    assert found.energy_kept == pytest.approx(hsv[:r].sum() / hsv.sum())


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("name", HARD)
def test_the_error_is_within_the_bound(name, how):
    system = HARD[name]
    n = len(system[0])
    for order in {1, n // 2, n} - {0}:
        if how == "singular_perturbation" and name == "near zero":
            continue  # refused, as of complex systems
        found = reduced(system, order, how)
        assert found.order == len(found.eigenvalues) <= order
        gain = 0.0 if found.gain is None else found.gain.real.numpy()
        slack = 1e-7 * float(found.hsv[0])
        assert apart(system, system_of(found), gain) <= found.error_bound + slack
        assert float(found.eigenvalues.abs().max()) < 1.0


def test_a_real_pole_takes_a_stored_state_of_its_own():
    """Real coefficients all through: every pole that stays is real, and so are B and C."""
    lam = np.array([0.9, 0.5, -0.4, 0.1]).astype(complex)
    B, C = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(complex)
    found = reduced((lam, B, C.T), 2)
    assert found.order == 2
    for part in (found.eigenvalues, found.B, found.C):
        assert not bool(part.imag.any())
    np.testing.assert_allclose(
        found.error_bound, 2 * dense_hsv(*_minimal(lam, B, C.T))[2:].sum(), rtol=1e-6
    )
    assert apart((lam, B, C.T), system_of(found)) <= found.error_bound * (1 + 1e-9)


def _minimal(lam, B, C):
    return dense_gramians(np.diag(lam.real), B.real, C.real)


def test_an_odd_order_is_tried_where_an_even_one_has_too_many_poles():
    """Fewest real poles: the largest real order whose pairs and real poles can be stored."""
    seen = set()
    for seed in range(40):
        system = random_system(5, 2, seed, r_min=0.1, r_max=0.9)
        for order in (1, 2, 3):
            poles = reduced(system, order).eigenvalues
            real = int((poles.imag == 0).sum())
            r = 2 * len(poles) - real
            seen.add(r - 2 * order)
            if r < 2 * order:  # then the next larger order does need more
                A, _, _ = dense_truncation(*dense(*system), r + 1)
                values = np.linalg.eigvals(A)
                assert (np.abs(values.imag) < 1e-12).sum() + (values.imag > 1e-12).sum() > order
    assert seen >= {0, -1}


@pytest.mark.parametrize("seed", range(3))
def test_the_maps_are_those_of_the_projection(seed):
    system = random_system(5, 2, seed)
    for order in (1, 3):
        t = reduced(system, order)
        B = torch.as_tensor(system[1])
        torch.testing.assert_close(t.W @ B + t.W_conj @ B.conj(), t.B)
        real = (t.eigenvalues.imag == 0).double()
        # B_r through the full states and back, for states that are real where their pole is.
        g = torch.complex(
            torch.randn(order, 2).double(), (1 - real)[:, None] * torch.randn(order, 2)
        )
        h = t.T @ g + t.T_conj @ g.conj()
        torch.testing.assert_close(t.W @ h + t.W_conj @ h.conj(), g)
        # The reduced output on the projected states of any h: Re(C_r (W h + ..)) = Re(C_full h).
        full = t.C @ t.W + t.C.conj() @ t.W_conj.conj()
        h = torch.randn(5, 2, dtype=torch.complex128)
        projected = t.W @ h + t.W_conj @ h.conj()
        torch.testing.assert_close((full @ h).real, (t.C @ projected).real)


@pytest.mark.parametrize("how", ["last", "aire", "modal", "random"])
def test_modes_are_taken_in_pairs_and_as_they_are(how):
    system = random_system(6, 3, 1)
    found = reduced(system, 4, how, np.random.default_rng(0))
    assert np.array_equal(found.eigenvalues.numpy(), system[0][found.modes.numpy()])
    assert apart(system, system_of(found)) <= found.error_bound


def test_an_energy_rank_discards_the_fraction_of_the_real_systems_energy():
    found = decomposed(*random_system(12, 3, 2))
    hsv = found.whole.hsv
    for tau in (0.01, 0.1, 0.3):
        n = found.energy_rank(tau)
        assert float(hsv[: 2 * n].sum()) >= (1 - tau) * float(hsv.sum())
        assert float(hsv[: 2 * n - 2].sum()) < (1 - tau) * float(hsv.sum())
        assert n == energy_rank(found.hsv, tau)


def layers_of(width=4, state_dim=6, **options):
    torch.manual_seed(0)
    layer = S5(width, state_dim, dt_min=0.05, dt_max=0.5, **options).double()
    return torch.nn.Sequential(layer), layer


def test_a_layers_blocks_are_decomposed_as_what_they_are():
    model, layer = layers_of()
    ((hsv, shares),) = spectra(model)
    wanted = dense_hsv(*dense_gramians(*dense(*(part.numpy() for part in layer.system()))))
    np.testing.assert_allclose(hsv, wanted[::2] + wanted[1::2], rtol=1e-6)
    assert shares.shape == (6,)
    plain, _ = layers_of(conj_sym=False)
    assert not decompositions(plain)[0].is_real


@pytest.mark.parametrize("method", ["exact", "adjoint", "modal"])
def test_the_hankel_norm_is_that_of_the_real_system(method):
    model, layer = layers_of()
    (block,) = decompositions(model)
    norm = hankel_nuclear_norm(model, method)
    if method == "modal":
        peaks = block.mode_gains / (1 - block.eigenvalues.abs().square())
        assert norm.item() == pytest.approx(float(peaks.sum()) / 6)
    else:
        assert norm.item() == pytest.approx(float(block.whole.hsv.sum()) / 6, rel=1e-6)
    (gradient,) = torch.autograd.grad(norm, layer.B_re)
    step = 1e-5 * torch.ones_like(layer.B_re)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            layer.B_re += sign * step
            values.append(float(hankel_nuclear_norm(model, method)))
            layer.B_re -= sign * step
    slope = (values[0] - values[1]) / 2
    assert float((gradient * step).sum()) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("gramians", ["horizon", "signal", "task"])
def test_weighted_gramians_are_those_of_the_real_states(gramians):
    """Against the states (Re h, Im h) run one by one, and the adjoint run backwards in time."""
    model, layer = layers_of(state_dim=3)
    A, b, c = dense(*(part.numpy() for part in layer.system()))
    length = 12
    if gramians == "horizon":
        powers = [np.linalg.matrix_power(A, k) for k in range(length)]
        weights = [1 - k / length for k in range(length)]
        P = sum(w * p @ b @ b.T @ p.T for w, p in zip(weights, powers, strict=True))
        Q = sum(w * p.T @ c.T @ c @ p for w, p in zip(weights, powers, strict=True))
        how = {"length": length}
    else:
        x = torch.randn(5 * 5, length, 4, dtype=torch.float64)
        batches = [(part, part) for part in x.split(5)]
        how = {"calibration": batches, "loss": lambda y, _: y.pow(3).sum((1, 2)) / 3}
        heard = x[:20]  # every fifth batch is held out
        P = _second_moment(A, b, heard)
        Q = dense_gramians(A, b, c)[1]
        if gramians == "task":
            Q = _second_moment(A.T, c.T, model(heard).detach().square().flip(1))
    wanted = dense_hsv(P, Q)
    truncated, _ = layers_of(state_dim=3)
    (found,) = truncate(truncated, state_dims=2, gramians=gramians, **how)
    np.testing.assert_allclose(found.hsv, wanted[::2] + wanted[1::2], rtol=1e-5)
    assert float(found.eigenvalues.abs().max()) < 1.0


def _second_moment(A, b, u):
    total = np.zeros_like(A)
    for sequence in u.numpy():
        x = np.zeros(len(A))
        for step in sequence:
            x = A @ x + b @ step
            total += np.outer(x, x)
    return total / (u.shape[0] * u.shape[1])


def test_an_unstable_system_names_its_block():
    model = torch.nn.Sequential(S5(4, 6), S5(4, 6, clip_eigs=False))
    with torch.no_grad():
        model[1].Lambda_re[2] = 0.1
    for call in (decompositions, lambda m: truncate(m, state_dims=2)):
        with pytest.raises(UnusableSystem, match=r"block 1: every \|eigenvalue\| must be below 1"):
            call(model)


def test_conjugates_double_the_states_and_halve_each():
    lam, B, C = with_conjugates(*(torch.as_tensor(part) for part in random_system(2, 3)))
    assert lam.shape == (4,)
    k = torch.arange(5)[:, None]
    whole = torch.einsum("on,kn,ni->koi", C, lam**k, B)
    stored = torch.einsum("on,kn,ni->koi", C[:, :2], lam[:2] ** k, B[:2])
    torch.testing.assert_close(whole, (2 * stored).real.to(whole.dtype))
