"""LRUs balanced as the real systems that they are: against dense real arithmetic, and autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.models.layers.lru import LRU
from harness.models.layers.mamba import Mamba
from harness.models.layers.s4d import S4D
from harness.models.layers.s5 import S5
from harness.reduction import decompositions, energy_rank, hankel_nuclear_norm, truncate

from .networks import OwnLayer
from .systems import distance, random_system
from .test_moments import check_moments_follow
from .test_real import apart, dense, dense_gramians, dense_hsv, grid, response


def lru(state_dim=8, width=3, seed=0, **radii):
    torch.manual_seed(seed)
    layer = LRU(width, state_dim, **{"r_min": 0.4, "r_max": 0.95, **radii}).double()
    return nn.Sequential(layer), layer


def system_of(layer):
    return tuple(part.numpy() for part in layer.system())


def real_hsv(layer):
    return dense_hsv(*dense_gramians(*dense(*system_of(layer))))


@pytest.mark.parametrize("seed", range(3))
def test_the_spectrum_is_that_of_the_dense_system_of_twice_the_states(seed):
    model, layer = lru(seed=seed)
    (found,) = decompositions(model, realness="real")
    sigma = real_hsv(layer)
    assert len(sigma) == 16
    np.testing.assert_allclose(found.hsv, sigma[::2] + sigma[1::2], rtol=1e-6)
    (as_published,) = decompositions(model)
    assert abs(as_published.hsv.numpy() / found.hsv.numpy() - 1).max() > 0.05


@pytest.mark.parametrize("method", ["balanced", "singular_perturbation"])
@pytest.mark.parametrize("order", [1, 3, 6])
def test_the_error_of_the_map_from_inputs_to_outputs_is_within_the_bound(order, method):
    for seed in range(4):
        model, layer = lru(seed=seed)
        full, sigma = system_of(layer), real_hsv(layer)
        (done,) = truncate(model, state_dims=order, realness="real", method=method)
        poles = done.eigenvalues.numpy()
        assert layer.state_dim == len(poles) <= order
        r = 2 * len(poles) - int((poles.imag == 0).sum())  # a pair is one stored state
        assert done.error_bound == pytest.approx(2 * sigma[r:].sum(), rel=1e-6)
        assert done.energy_kept == pytest.approx(sigma[:r].sum() / sigma.sum())
        gain = 0.0 if done.gain is None else done.gain.real.numpy()
        error = apart(full, system_of(layer), gain)
        assert 0.02 * done.error_bound < error <= done.error_bound * (1 + 1e-9)


def test_the_layer_then_computes_the_reduced_real_system():
    """forward, on an impulse per channel: its transfer function on a grid of frequencies."""
    model, layer = lru(seed=2, r_max=0.8)
    D = torch.diag(layer.D.detach()).numpy()
    truncate(model, state_dims=4, realness="real")
    length = 256  # 0.8^256 is nothing
    impulses = torch.zeros(3, length, 3, dtype=torch.float64)
    impulses[range(3), 0, range(3)] = 1.0
    found = np.fft.fft(model(impulses).detach().numpy(), axis=1)  # (inputs, frequencies, outputs)
    z = np.exp(2j * np.pi * np.arange(length) / length)
    wanted = response(*dense(*system_of(layer)), z) + D
    np.testing.assert_allclose(found.transpose(1, 2, 0), wanted, atol=1e-9)


def test_no_pair_is_taken_apart():
    """A state that is a real pole is real all through; any other stands for two of the poles that
    the dense truncation has, which are conjugate."""
    model, layer = lru(state_dim=6, r_min=0.1, r_max=0.6, seed=3)
    A, b, c = dense(*system_of(layer))
    (done,) = truncate(model, state_dims=3, realness="real")
    lam, B, C = system_of(layer)
    phases = np.angle(lam)
    is_real = np.abs(np.sin(phases)) < 1e-12
    assert (phases[~is_real] > 0).all()
    for part in (B[is_real], C[:, is_real]):
        assert np.abs(part.imag).max(initial=0.0) == 0.0
    r = 2 * len(lam) - is_real.sum()
    P, Q = dense_gramians(A, b, c)
    R, L = np.linalg.cholesky(P), np.linalg.cholesky(Q)
    U, S, Vh = np.linalg.svd(L.T @ R)
    W = (L @ U[:, :r] / np.sqrt(S[:r])).T
    poles = np.linalg.eigvals(W @ A @ (R @ Vh.T[:, :r] / np.sqrt(S[:r])))
    ours = np.concatenate([lam, lam[~is_real].conj()])
    np.testing.assert_allclose(np.sort_complex(ours), np.sort_complex(poles), atol=1e-7)
    assert len(done.eigenvalues) == len(lam)


TAUS = (0.05, 0.1, 0.2)


@pytest.mark.parametrize(
    ("radii", "least", "most"),
    [((0.1, 0.9), 0.2, 0.4), ((0.5, 0.99), 0.1, 0.3), ((0.9, 0.999), 0.02, 0.15)],
)
def test_fewer_states_hold_the_same_share_of_energy_on_random_systems(radii, least, most):
    """How many fewer depends on the memory: a pole near the circle and its conjugate overlap
    little. At no tau and in no system are there more."""
    saved = []
    for seed in range(6):
        own = OwnLayer(n=32, width=8)
        lam, B, C = (torch.as_tensor(part) for part in random_system(32, 8, seed, *radii))
        own.system = lambda found=(lam, B, C): found
        model = nn.Sequential(own)
        both = [decompositions(model, kind)[0] for kind in ("complex", "real")]
        ranks = np.array([[one.energy_rank(tau) for tau in TAUS] for one in both])
        assert (ranks[1] <= ranks[0]).all()
        saved.append(1 - ranks[1].sum() / ranks[0].sum())
    assert least < np.mean(saved) < most


def test_tau_discards_that_share_of_the_real_systems_energy():
    model, layer = lru(state_dim=16)
    sigma = real_hsv(layer)
    pairs = sigma[::2] + sigma[1::2]
    truncate(model, tau=0.1, realness="real")
    assert layer.state_dim == energy_rank(pairs, 0.1) < 16


def test_moments_follow_the_adjoint_of_the_change_of_basis():
    check_moments_follow(realness="real")


@pytest.mark.parametrize("method", ["exact", "adjoint"])
def test_the_hankel_norm_can_be_that_of_the_real_system(method):
    model, layer = lru()
    norm = hankel_nuclear_norm(model, method, realness="real")
    assert norm.item() == pytest.approx(real_hsv(layer).sum() / 8, rel=1e-6)
    assert norm.item() != pytest.approx(hankel_nuclear_norm(model, method).item(), rel=1e-2)


@pytest.mark.parametrize(
    "how",
    [
        {"gramians": "horizon", "length": 12},
        {"gramians": "signal"},
        {"gramians": "task", "sweep": "in_order"},
        {"refit": "BC"},
    ],
)
def test_it_goes_with_other_gramians_sweeps_and_refits(how):
    torch.manual_seed(0)
    layers = [LRU(3, n, r_min=0.4, r_max=0.95).double() for n in (6, 5)]
    x = torch.randn(30, 12, 3, dtype=torch.float64)
    heard = {
        "calibration": [(part, part) for part in x.split(5)],
        "loss": lambda y, _: y.pow(3).sum((1, 2)),
    }
    done = truncate(nn.Sequential(*layers), state_dims=3, realness="real", **heard, **how)
    assert [one.state_dim for one in layers] == [one.order for one in done]
    assert all(one.T_conj is not None and 0 < one.output_error < 1 for one in done)


def test_sizes_by_a_bound_on_the_loss_are_those_of_real_systems():
    x = torch.randn(60, 12, 3, dtype=torch.float64)
    y = lru(state_dim=12)[0](x).detach()
    batches = [(x[k : k + 10], y[k : k + 10]) for k in range(0, 60, 10)]
    loss = lambda found, wanted: (found - wanted).square().mean((1, 2))  # noqa: E731
    sizes = {}
    for realness in ("complex", "real"):
        model, layer = lru(state_dim=12)
        how = {"calibration": batches, "loss": loss, "realness": realness}
        done = truncate(model, max_loss=0.01, **how)
        sizes[realness] = layer.state_dim
        with torch.no_grad():
            held_out = loss(model(x[40:50]), y[40:50]).mean()
        assert float(held_out) <= 0.01  # and the full model's is zero
        assert (done[0].T_conj is not None) == (realness == "real")
    assert 1 <= sizes["real"] <= sizes["complex"] < 12


def test_decompositions_of_the_other_realness_are_refused():
    model, _ = lru()
    for given, asked in (("real", "complex"), ("complex", "real")):
        known = decompositions(model, realness=given)
        with pytest.raises(ValueError, match=f"another realness than '{asked}'"):
            truncate(model, state_dims=3, decomposed=known, realness=asked)
    known = decompositions(model, realness="real")
    truncate(model, state_dims=3, decomposed=known, realness="real")


@pytest.mark.parametrize("make", [lambda: S5(4, 6), lambda: S4D(4, 6)])
def test_a_layer_with_conjugates_is_real_already(make):
    model = nn.Sequential(LRU(4, 6), make())
    with pytest.raises(ValueError, match=r"block 1: S\w+ is balanced as a real system already"):
        truncate(model, state_dims=3, realness="real")
    assert model[0].state_dim == 6
    truncate(nn.Sequential(S5(4, 6, conj_sym=False)), state_dims=3, realness="real")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"realness": "imaginary"}, "realness must be one of complex, real, not 'imaginary'"),
        ({"realness": "real", "method": "aire"}, "a mode is worth the same with its conjugate"),
        ({"realness": "real", "method": "modal"}, "goes with methods balanced"),
    ],
)
def test_what_it_cannot_be_is_refused(how, message):
    model, layer = lru()
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=3, **how)
    assert layer.state_dim == 8


def test_a_selective_layer_has_no_system_to_balance():
    model = nn.Sequential(Mamba(4, 6))
    with pytest.raises(ValueError, match="realness 'real' needs a system"):
        truncate(model, state_dims=3, realness="real", calibration=[torch.randn(4, 8, 4)])


def test_nothing_changes_where_nothing_is_said():
    """Bit by bit, and near what `balanced_truncation` of the complex system gives."""
    one, two = lru()[0], lru()[0]
    truncate(one, state_dims=3)
    truncate(two, state_dims=3, realness="complex")
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    full = system_of(lru()[1])
    sigma = decompositions(lru()[0])[0].hsv
    assert distance(full, system_of(one[0])) <= 2 * float(sigma[3:].sum())
    assert grid(full, system_of(one[0])).size  # real frequencies are among those compared
