"""The regulariser: its value is the spectrum's, its gradients those of finite differences."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.models.layers.lru import PARAMETERS
from harness.reduction import UnusableSystem, hankel_singular_values
from harness.reduction.regularizer import hankel_nuclear_norm, regularizer_flops
from harness.training.costs.flops import spectrum_flops

from .networks import OwnLayer, nested

METHODS = ("exact", "adjoint", "modal")


def lru(n=5, width=3, seed=0, **fields):
    """A layer in float64, so that finite differences have digits."""
    torch.manual_seed(seed)
    return LRU(width, n, r_min=0.5, r_max=0.9, **fields).double()


def deficient_lru(n=64):
    """Fast modes behind one channel: from the middle on, the spectrum is rounding."""
    torch.manual_seed(3)
    return LRU(1, n, r_min=0.5, r_max=0.6).double()


def gradients(layers, method):
    """Name to gradient, of every parameter that the norm sees."""
    layers = [layers] if isinstance(layers, nn.Module) else layers
    params = {f"{i}.{k}": getattr(one, k) for i, one in enumerate(layers) for k in PARAMETERS}
    value = hankel_nuclear_norm(layers, method)
    return dict(zip(params, torch.autograd.grad(value, list(params.values())), strict=True))


def mean_hsv(layer):
    return float(hankel_singular_values(*layer.system()).mean())


@pytest.mark.parametrize("method", ["exact", "adjoint"])
def test_the_value_is_the_sum_over_layers_of_mean_hankel_singular_values(method):
    torch.manual_seed(1)
    model = nested(dims=(9, 5, 9))
    found = hankel_nuclear_norm(model, method)
    assert found.shape == ()
    assert found.dtype == torch.float64
    expected = sum(mean_hsv(one) for one in model.modules() if isinstance(one, LRU))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-12)


def test_one_state_by_hand():
    layer = lru(1, 1)
    with torch.no_grad():
        layer.nu_log.fill_(np.log(np.log(2)))  # |lambda| = 1/2
        layer.gamma_log.fill_(np.log(2))
        for name, value in (("B_re", 3.0), ("B_im", 4.0), ("C_re", 0.6), ("C_im", 0.8)):
            getattr(layer, name).fill_(value)
    # gamma |B| |C| / (1 - |lambda|^2) = 2 x 5 x 1 / 0.75, for one state that of the bound too
    for method in METHODS:
        assert float(hankel_nuclear_norm(layer, method).detach()) == pytest.approx(10 / 0.75)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_are_those_of_finite_differences(method, seed):
    layers = [lru(5, 3, seed), lru(5, 3, seed + 10), lru(3, 4, seed + 20)]
    found = gradients(layers, method)
    for (i, layer), name in itertools.product(enumerate(layers), PARAMETERS):
        parameter = getattr(layer, name)
        numeric = torch.empty_like(parameter)
        for index in np.ndindex(*parameter.shape):
            ends = []
            for h in (1e-6, -2e-6):
                with torch.no_grad():
                    parameter[index] += h
                ends.append(float(hankel_nuclear_norm(layers, method).detach()))
            with torch.no_grad():
                parameter[index] += 1e-6
            numeric[index] = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(found[f"{i}.{name}"], numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(5, 3), (16, 8), (24, 24)])
def test_the_two_ways_to_a_gradient_agree(shape):
    layers = [lru(*shape, seed) for seed in range(2)]
    exact, adjoint = gradients(layers, "exact"), gradients(layers, "adjoint")
    for name, value in exact.items():
        assert value.norm() > 0
        torch.testing.assert_close(adjoint[name], value, rtol=1e-8, atol=1e-8 * float(value.norm()))


def test_leaving_out_the_gradient_of_weak_singular_values_changes_little():
    layer = deficient_lru()
    hsv = hankel_singular_values(*layer.system())
    assert hsv[32] < 1e-14 * hsv[0]
    exact, adjoint = gradients(layer, "exact"), gradients(layer, "adjoint")
    for name, value in exact.items():
        assert 0 < (adjoint[name] - value).norm() < 1e-4 * value.norm()
    values = [float(hankel_nuclear_norm(layer, m).detach()) for m in ("exact", "adjoint")]
    assert values[1] == pytest.approx(values[0], rel=1e-7)


def degenerate(kind):
    """Layers where roots, eigenvectors or inverses of singular values do not exist."""
    layer = deficient_lru() if kind == "numerically rank-deficient" else lru(6, 3)
    with torch.no_grad():
        if kind == "two equal modes":
            for name in ("nu_log", "theta_log", "gamma_log", "B_re", "B_im"):
                getattr(layer, name)[1] = getattr(layer, name)[0]
        elif kind == "equal eigenvalues":
            layer.nu_log[1], layer.theta_log[1] = layer.nu_log[0], layer.theta_log[0]
        elif kind == "a zero row of B":
            layer.B_re[2] = layer.B_im[2] = 0
        elif kind == "a zero column of C":
            layer.C_re[:, 2] = layer.C_im[:, 2] = 0
        elif kind == "no input":
            layer.B_re.zero_(), layer.B_im.zero_()
        elif kind == "one channel, all equal":
            for name in PARAMETERS:
                getattr(layer, name)[...] = 0.3
    return layer


DEGENERATE = (
    "two equal modes",
    "equal eigenvalues",
    "a zero row of B",
    "a zero column of C",
    "no input",
    "one channel, all equal",
    "numerically rank-deficient",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_systems_have_finite_gradients_that_lead_downhill(method, kind):
    layer = degenerate(kind)
    found = gradients(layer, method)
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    square = sum(float(value.square().sum()) for value in found.values())
    true, length = "modal" if method == "modal" else "exact", 1e-5
    before = float(hankel_nuclear_norm(layer, true).detach())
    assert square < 1e3 * max(before, 1e-12) ** 2 * layer.state_dim  # no 1 / rounding in it
    with torch.no_grad():
        for name in PARAMETERS:
            getattr(layer, name).sub_(length * found[f"0.{name}"])
    drop = before - float(hankel_nuclear_norm(layer, true).detach())
    assert drop >= 0.9 * length * square


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_states_does_not_matter(method):
    layer, other, order = lru(7), lru(7), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    with torch.no_grad():
        for name in PARAMETERS:
            axis = LRU.state_axis(name)
            getattr(other, name).copy_(getattr(layer, name).index_select(axis, order))
    torch.testing.assert_close(
        hankel_nuclear_norm(other, method), hankel_nuclear_norm(layer, method), rtol=1e-12, atol=0
    )
    before, after = gradients(layer, method), gradients(other, method)
    for name in PARAMETERS:
        moved = before[f"0.{name}"].index_select(LRU.state_axis(name), order)
        torch.testing.assert_close(after[f"0.{name}"], moved, rtol=1e-8, atol=1e-10)


def test_the_modal_bound_is_above_and_tight_for_orthogonal_modes():
    for seed in range(20):
        layer = lru(12, 3, seed)
        with torch.no_grad():
            bound = float(hankel_nuclear_norm(layer, "modal"))
            assert bound > 1.01 * mean_hsv(layer)
    layer = lru(4, 4)
    with torch.no_grad():
        for name in ("B_re", "B_im", "C_re", "C_im"):
            getattr(layer, name).copy_(torch.diag(torch.randn(4)))
        assert float(hankel_nuclear_norm(layer, "modal")) == pytest.approx(mean_hsv(layer))


@pytest.mark.parametrize("method", METHODS)
def test_descent_in_float32_shrinks_the_spectrum(method):
    model = nested(dims=(12, 12, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = hankel_nuclear_norm(model, "exact").detach()
    for _ in range(20):
        loss = model(torch.ones(1, 4, 2)).square().mean() * 0 + hankel_nuclear_norm(model, method)
        optimizer.zero_grad()
        loss.backward()
        assert model.last.B_re.grad.dtype == torch.float32
        optimizer.step()
    assert hankel_nuclear_norm(model, "exact").detach() < 0.97 * before


def test_frozen_parameters_and_no_gradient_at_all():
    layer = lru()
    layer.nu_log.requires_grad_(False)
    hankel_nuclear_norm(layer, "adjoint").backward()
    assert layer.nu_log.grad is None
    assert layer.theta_log.grad.abs().sum() > 0
    with torch.no_grad():
        for method in METHODS:
            assert not hankel_nuclear_norm(layer, method).requires_grad


def test_several_threads_give_the_same(monkeypatch):
    monkeypatch.setattr("harness.reduction.parallel.WORTHWHILE", 1)
    layers = [lru(8, 3, seed) for seed in range(3)]
    one = gradients(layers, "adjoint")
    torch.set_num_threads(2)
    try:
        two = gradients(layers, "adjoint")
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(two[name], value) for name, value in one.items())


@pytest.mark.parametrize("method", ["exact", "adjoint"])
def test_an_unusable_system_names_its_block(method):
    layers = [lru(), lru(4), lru()]
    with torch.no_grad():
        layers[2].B_re[0, 0] = torch.nan
    with pytest.raises(UnusableSystem, match=r"^block 2: eigenvalues, B and C must be finite"):
        hankel_nuclear_norm(layers, method)


def test_what_is_refused():
    with pytest.raises(ValueError, match="method must be one of exact, adjoint, modal, not 'hsvr'"):
        hankel_nuclear_norm(lru(), "hsvr")
    with pytest.raises(ValueError, match="method must be one of exact, adjoint, modal, not 'hsvr'"):
        regularizer_flops(4, 2, "hsvr")
    with pytest.raises(ValueError, match="there is no layer to regularise"):
        hankel_nuclear_norm([])
    with pytest.raises(ValueError, match="Linear has no state-space layer"):
        hankel_nuclear_norm(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"block 1: OwnLayer has no trainable_system\(\)"):
        hankel_nuclear_norm([lru(), OwnLayer()])


def test_flops_by_hand():
    n, h = 10, 3
    # exact: the spectrum, and 13 products and 4 Gramians more
    expected = spectrum_flops(n, h) + 4 * (13 * 2 * n**3 + 4 * 2 * n * n * h)
    assert regularizer_flops(n, h, "exact") == pytest.approx(expected)
    assert regularizer_flops(n, h, "adjoint") == pytest.approx(4 * (64 / 3 * n**3 + 8 * n * n * h))
    assert regularizer_flops(n, h, "modal") == 30 * n * h
