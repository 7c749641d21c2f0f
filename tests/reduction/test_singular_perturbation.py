"""Balanced singular perturbation: by its definition, at rest, and within its bound elsewhere."""

import numpy as np
import pytest
import torch

from harness.models import LRU
from harness.reduction import TruncationError, hankel_singular_values, truncate
from harness.reduction.hankel import decompose
from harness.reduction.singular_perturbation import residualise

from .networks import OwnLayer, assert_untouched, dims, nested, optimizer_of, snapshot, step
from .systems import HARD, distance, random_system, transfer

CASES = {**HARD, "LRU at its start": random_system(96, 4, 1, 0.9, 0.999)}


def reduced_of(lam, B, C, order):
    system = (torch.as_tensor(a).to(torch.complex128) for a in (lam, B, C))
    t = residualise(decompose(*system), order)
    return t, (t.eigenvalues.numpy(), t.B.numpy(), t.C.numpy()), t.gain.numpy()


@pytest.mark.parametrize("name", CASES)
def test_constant_inputs_are_answered_exactly_and_others_within_the_bound(name):
    full = CASES[name]
    n = len(full[0])
    for order in sorted({1, max(1, n // 4), max(1, n // 2), max(1, n - 1), n}):
        t, reduced, gain = reduced_of(*full, order)
        scale = float(t.hsv[0])
        assert t.order <= order
        assert np.abs(reduced[0]).max() < 1
        still = transfer(*full, [1.0]) - transfer(*reduced, [1.0], gain)
        assert np.abs(still).max() <= 1e-12 * np.abs(transfer(*full, [1.0])).max() + 1e-15 * scale
        assert t.error_bound == pytest.approx(2 * float(t.hsv[t.order :].sum()), abs=1e-30)
        assert distance(full, reduced, gain) <= t.error_bound + 1e-9 * scale
        assert t.energy_kept == pytest.approx(float(t.hsv[: t.order].sum() / t.hsv.sum()))


def test_it_is_the_system_with_its_weak_states_at_rest():
    """h2 = A21 h1_{k-1} + A22 h2 + B2 u, in balanced coordinates from eigenvectors of P Q."""
    lam, B, C = random_system(10, 3)
    r, A = 4, np.diag(lam)
    after = C * lam  # the output map of the state before the input
    P = np.array((B @ B.conj().T) / (1 - lam[:, None] * lam.conj()))
    Q = np.array((after.conj().T @ after) / (1 - lam[:, None].conj() * lam))
    values, X = np.linalg.eig(P @ Q)
    X = X[:, np.argsort(-values.real)]  # balancing up to the scale of each state
    Ab, Bb, Cb = np.linalg.solve(X, A @ X), np.linalg.solve(X, B), after @ X
    N = np.linalg.inv(np.eye(10 - r) - Ab[r:, r:])
    A_r = Ab[:r, :r] + Ab[:r, r:] @ N @ Ab[r:, :r]
    B_r = Bb[:r] + Ab[:r, r:] @ N @ Bb[r:]
    C_r = Cb[:, :r] + Cb[:, r:] @ N @ Ab[r:, :r]
    D_r = C @ B + Cb[:, r:] @ N @ Bb[r:]
    t, reduced, gain = reduced_of(lam, B, C, r)
    z = np.exp(1j * np.linspace(0.1, 6.0, 23))
    wanted = [C_r @ np.linalg.solve(s * np.eye(r) - A_r, B_r) + D_r for s in z]
    np.testing.assert_allclose(transfer(*reduced, z, gain), wanted, atol=1e-11 * float(t.hsv[0]))


def test_the_kept_states_are_those_of_the_delayed_system():
    """Singular perturbation keeps a balanced system balanced: its HSVs are the kept ones exactly
    (truncation of a discrete system does not), and none is above that of (Lambda, B, C)."""
    lam, B, C = random_system(12, 3)
    delayed = hankel_singular_values(lam, B, C * lam)
    _, (poles, b, c), _ = reduced_of(lam, B, C, 5)
    np.testing.assert_allclose(hankel_singular_values(poles, b, c * poles), delayed[:5], rtol=1e-9)
    assert (delayed <= hankel_singular_values(lam, B, C)).all()


def test_what_float32_cannot_hold_is_refused():
    """1 / (1 - 0.5 / z) - 1 / (1 + a / z), reduced to one state, has a pole that changes sign with
    a: it passes 0, a delay, whose C = C_r / pole is nothing finite."""

    def pole(a):
        system = np.array([0.5, -a]), np.ones((2, 1)), np.array([[1.0, -1.0]])
        return reduced_of(*system, 1)[1][0][0].real

    def approach(low, high):
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if pole(middle) > 0 else (low, middle)

    assert pole(0.6) > 0 > pole(0.65)
    with pytest.raises(TruncationError, match=r"an .eigenvalue. of .*e-.*: written in float32"):
        approach(0.6, 0.65)


def constant_response(model, level):
    """What a layer settles to under a constant input, in double precision."""
    with torch.no_grad():
        return model(level.expand(1, 3000, -1))[0, -1]


def test_a_truncated_layer_answers_a_constant_input_as_before():
    torch.manual_seed(0)
    layer = LRU(4, 24, r_min=0.5, r_max=0.95).double()
    level = torch.randn(4, dtype=torch.float64)
    before, settled = layer.system(), constant_response(layer, level)
    (t,) = truncate(layer, state_dims=5, method="singular_perturbation")
    assert layer.state_dim == 5
    torch.testing.assert_close(constant_response(layer, level), settled, rtol=0, atol=1e-10)
    # Balanced truncation misses it, so that the line above says something.
    other = LRU(4, 24, r_min=0.5, r_max=0.95).double()
    other.load_state_dict({**other.state_dict(), "D": layer.D.detach()})
    other.assign(*before)
    truncate(other, state_dims=5)
    assert other.gain is None
    assert float((constant_response(other, level) - settled).abs().max()) > 1e-2
    torch.testing.assert_close(layer.gain.detach(), t.gain.real)


def test_a_later_truncation_keeps_the_gain_and_adds_to_it():
    torch.manual_seed(0)
    layer = LRU(4, 24, r_min=0.5, r_max=0.95).double()
    level = torch.randn(4, dtype=torch.float64)
    settled = constant_response(layer, level)
    (first,) = truncate(layer, state_dims=12, method="singular_perturbation")
    parameter = layer.gain
    (second,) = truncate(layer, state_dims=5, method="singular_perturbation")
    assert layer.gain is parameter
    torch.testing.assert_close(layer.gain.detach(), (first.gain + second.gain).real)
    torch.testing.assert_close(constant_response(layer, level), settled, rtol=0, atol=1e-10)
    kept = layer.gain.detach().clone()
    truncate(layer, state_dims=3)
    truncate(layer, state_dims=2, method="last")
    assert torch.equal(layer.gain, kept)


def test_the_gain_joins_the_optimizer_beside_D_and_trains():
    model = nested()
    optimizer = optimizer_of(model)
    step(model, optimizer)
    truncate(model, state_dims=[4, 7, 3], optimizer=optimizer, method="singular_perturbation")
    assert dims(model) == [4, 7, 3]
    gains = [model.front[1].gain, model.last.gain]
    assert model.deep["inner"][0][0].gain is None
    group = next(g for g in optimizer.param_groups if g["label"] == "main")
    assert all(sum(p is gain for p in group["params"]) == 1 for gain in gains)
    held = [id(p) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(held) == sorted(map(id, model.parameters()))
    before = [gain.detach().clone() for gain in gains]
    step(model, optimizer, seed=1)
    assert all(bool((g != b).all()) for g, b in zip(gains, before, strict=True))


def test_a_layer_that_takes_no_gain_is_refused_before_anything_changes():
    torch.manual_seed(0)
    model = torch.nn.Sequential(LRU(3, 6, r_min=0.5, r_max=0.9), OwnLayer())
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"block 1: .* needs a static gain, and OwnLayer has no"):
        truncate(model, state_dims=3, method="singular_perturbation")
    assert_untouched(model, before)


def test_a_frozen_layer_gets_a_frozen_gain():
    model = nested()
    model.last.requires_grad_(False)
    truncate(model, state_dims=3, method="singular_perturbation")
    assert not model.last.gain.requires_grad
    assert model.front[1].gain.requires_grad
