"""Truncations with states of B and C of equal norm: the same systems in other coordinates."""

import numpy as np
import pytest
import torch
from torch import nn

from harness.models.layers.lru import LRU
from harness.models.layers.mamba import Mamba
from harness.models.layers.s4d import S4D
from harness.models.layers.s5 import S5
from harness.reduction import truncate
from harness.reduction.stacks import StackTruncation

from .test_moments import check_moments_follow

WIDTH = 3
LAYERS = {
    "lru": lambda: LRU(WIDTH, 12, r_min=0.4, r_max=0.99),
    "s5": lambda: S5(WIDTH, 8),
    "s4d": lambda: S4D(WIDTH, 8),
}
SMOOTH = torch.sin(torch.linspace(0.0, 3.0, 64, dtype=torch.float64))
HEARD = [SMOOTH[None, :, None] * torch.randn(4, 1, WIDTH, dtype=torch.float64) for _ in range(3)]
WAYS = {
    "white": {},
    "signal": {"gramians": "signal", "calibration": HEARD},
    "gain": {"method": "singular_perturbation"},
    "smallest": {"keep": "smallest"},
    "real": {"realness": "real"},
    "refit": {"refit": "BC", "calibration": HEARD},
    "in order": {"gramians": "signal", "sweep": "in_order", "calibration": HEARD},
}
FIT = [(kind, way) for kind in LAYERS for way in WAYS
       if (kind == "lru" or way not in ("real", "gain"))]  # fmt: skip


def model_of(kind):
    torch.manual_seed(3)
    return nn.Sequential(LAYERS[kind](), nn.Tanh(), LAYERS[kind]()).double()


def norms(layer):
    """(states,) each, those that are there: of B with its scale, and of C."""
    _, B, C = layer.system()
    found = torch.linalg.vector_norm(B, dim=-1), torch.linalg.vector_norm(C, dim=-2)
    there = found[0] > 0
    return tuple(one[there] for one in found)


@pytest.mark.parametrize(("kind", "way"), FIT)
def test_it_is_the_same_system_with_B_and_C_of_equal_norm(kind, way):
    one, two = model_of(kind), model_of(kind)
    plain = truncate(one, state_dims=5, **WAYS[way])
    equal = truncate(two, state_dims=5, scaling="equal", **WAYS[way])
    x = torch.randn(2, 40, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(one(x), two(x), rtol=1e-9, atol=1e-9)
    for layer in (two[0], two[2]):
        inputs, outputs = norms(layer)
        torch.testing.assert_close(inputs, outputs, rtol=1e-9, atol=0.0)
    assert any(abs(i / o - 1).max() > 0.01 for i, o in map(norms, (one[0], one[2])))
    for before, after in zip(plain, equal, strict=True):
        assert before.error_bound == after.error_bound
        assert before.output_error == after.output_error


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("way", ["white", "signal"])
def test_its_maps_are_those_of_its_own_states(kind, way):
    model = model_of(kind)
    full = [layer.system() for layer in (model[0], model[2])]
    done = truncate(model, state_dims=5, scaling="equal", **WAYS[way])
    for (_, B, C), block in zip(full, done, strict=True):
        stack = isinstance(block, StackTruncation)
        pairs = zip(B, C, strict=True) if stack else [(B, C)]
        for one, (b, c) in zip(block.systems, pairs, strict=True):
            W, T = one.W, one.T
            if one.T_conj is None:
                torch.testing.assert_close(W @ b, one.B)
                torch.testing.assert_close(c @ T, one.C)
                torch.testing.assert_close(W @ T, torch.eye(len(W), dtype=W.dtype))
            else:
                torch.testing.assert_close(W @ b + one.W_conj @ b.conj(), one.B)
                back = (W @ one.T_conj + one.W_conj @ T.conj()).abs()
                assert float(back[:, one.eigenvalues.imag != 0].max()) < 1e-6


@pytest.mark.parametrize("way", ["white", "real"])
def test_moments_follow_it(way):
    check_moments_follow(scaling="equal", **WAYS[way])


def test_a_system_that_keeps_its_order_keeps_its_states():
    model = nn.Sequential(S4D(WIDTH, 8).double())
    before = [part.clone() for part in model[0].system()]
    truncate(model, state_dims=[(8, 5, 8)], scaling="equal")
    after = model[0].system()
    for was, now in zip(before, after, strict=True):
        for channel in (0, 2):
            torch.testing.assert_close(now[channel], was[channel], rtol=1e-9, atol=1e-12)
    assert not torch.allclose(*norms_of_channel(before, 0))
    torch.testing.assert_close(*norms_of_channel(after, 1))


def norms_of_channel(system, channel):
    _, B, C = system
    inputs, outputs = B[channel, :, 0].abs(), C[channel, 0].abs()
    return inputs[inputs > 0], outputs[inputs > 0]


def test_a_state_that_nothing_reaches_stays():
    """Of a stack with a channel without an output."""
    model = nn.Sequential(S4D(WIDTH, 8).double())
    with torch.no_grad():
        for name in ("C_re", "C_im"):
            model[0].get_parameter(name)[1] = 0.0
    truncate(model, state_dims=3, scaling="equal")
    assert all(bool(part.isfinite().all()) for part in model[0].system())
    assert bool(model(torch.randn(1, 9, WIDTH).double()).isfinite().all())


def test_a_signal_that_hardly_moves_some_states_leaves_no_huge_parameters():
    """Balanced by a smooth signal, states it does not excite would have a huge B and a tiny C, of
    which no step of Adam's makes anything."""
    torch.manual_seed(0)
    sizes = {}
    for scaling in ("gramians", "equal"):
        model = nn.Sequential(S4D(WIDTH, 16).double())
        truncate(model, state_dims=12, scaling=scaling, **WAYS["signal"])
        inputs, outputs = norms(model[0])
        sizes[scaling] = float((inputs / outputs).max())
    assert sizes["gramians"] > 1e3
    assert sizes["equal"] == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"scaling": "none"}, "scaling must be one of gramians, equal, not 'none'"),
        ({"scaling": "equal", "method": "aire"}, "not with 'aire': modes stay as they are"),
        (
            {"scaling": "equal", "keep": "random", "generator": np.random.default_rng(0)},
            "goes with balanced states, not with 'random'",
        ),
    ],
)
def test_what_cannot_be_asked(how, message):
    with pytest.raises(ValueError, match=message):
        truncate(model_of("lru"), state_dims=5, **how)


def test_selective_layers_have_no_such_states():
    model = nn.Sequential(Mamba(4, 8))
    with pytest.raises(ValueError, match="scaling 'equal' needs a system"):
        truncate(model, state_dims=3, scaling="equal", calibration=[torch.randn(4, 8, 4)])
