"""Moments that are entries of the old ones: of selected modes, and of the leading states."""

import numpy as np
import pytest
import torch

from harness.models.layers.lru import LRU, PARAMETERS
from harness.reduction import layers, truncate

from .networks import nested, optimizer_of, step


def trained(fused=False, steps=4):
    model = nested()
    optimizer = optimizer_of(model)
    if fused:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, fused=True)
    for k in range(steps):
        step(model, optimizer, seed=k)
    return model, optimizer


def held(layer, optimizer):
    return {
        name: {k: v.clone() for k, v in optimizer.state[p].items()}
        for name, p in layer.named_parameters()
    }


def assert_entries(before, after, entries):
    """Every moment is the old one at these states, every step count the old one."""
    for name in PARAMETERS:
        axis = LRU.state_axis(name)
        for key in ("exp_avg", "exp_avg_sq"):
            wanted = before[name][key].index_select(axis, torch.as_tensor(entries))
            assert torch.equal(after[name][key], wanted), (name, key)
            assert after[name][key].is_contiguous()
        assert float(after[name]["step"]) == float(before[name]["step"]) == 4.0
    for key in before["D"]:
        assert torch.equal(after["D"][key], before["D"][key])


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    "how",
    [{"keep": "largest"}, {"keep": "smallest"}, {"keep": "random"}, {"method": "last"}],
    ids=lambda how: "".join(how.values()),
)
def test_slice_takes_the_leading_states_whatever_is_kept(how, fused):
    model, optimizer = trained(fused)
    before = held(model.last, optimizer)
    truncate(
        model, state_dims=[9, 7, 3], optimizer=optimizer, moments="slice", **how,
        generator=np.random.default_rng(2),
    )  # fmt: skip
    assert_entries(before, held(model.last, optimizer), [0, 1, 2])
    step(model, optimizer, seed=9)
    assert float(optimizer.state[model.last.nu_log]["step"]) == 5.0


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("method", ["last", "aire", "modal", "random"])
def test_selected_modes_take_their_moments_along(method, fused):
    model, optimizer = trained(fused)
    before = held(model.last, optimizer)
    (t,) = truncate(
        model, state_dims=[9, 7, 3], optimizer=optimizer, method=method,
        generator=np.random.default_rng(5),
    )  # fmt: skip
    assert t.modes.tolist() != [0, 1, 2]
    assert_entries(before, held(model.last, optimizer), t.modes)


def test_a_step_after_selecting_is_the_step_before_it_for_the_modes_kept():
    """Modes that say nothing can go without a trace: the others train on, bit by bit alike."""
    runs = []
    for cut in (False, True):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(2, 4), LRU(4, 6, 0.5, 0.95))
        with torch.no_grad():
            for name, value in (("B_re", 0.0), ("B_im", 0.0), ("C_re", 0.0), ("C_im", 0.0)):
                getattr(model[1], name).select(LRU.state_axis(name), 2).fill_(value)
        model = model.double()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for k in range(6):
            if cut and k == 3:
                truncate(model, state_dims=5, method="last", optimizer=optimizer)
            x = torch.randn(4, 12, 2, generator=torch.Generator().manual_seed(k)).double()
            (model(x) - 1.0).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        runs.append(model)
    whole, cut = (layers(model)[0] for model in runs)
    others = torch.tensor([0, 1, 3, 4, 5])
    for name in PARAMETERS:
        kept = getattr(whole, name).index_select(LRU.state_axis(name), others)
        torch.testing.assert_close(getattr(cut, name), kept, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("keep", ["largest", "smallest"])
def test_transport_takes_fused_states(keep, fused):
    model, optimizer = trained(fused)
    truncate(model, state_dims=3, optimizer=optimizer, keep=keep)
    state = optimizer.state[model.last.B_re]
    assert isinstance(state["step"], torch.Tensor)
    assert float(state["step"]) == 4.0
    step(model, optimizer, seed=9)
    assert float(state["step"]) == 5.0
    assert float(optimizer.state[model.last.nu_log]["step"]) == 1.0


def test_the_smallest_states_moments_follow_their_own_projection():
    """T^H m for the exact adjoint, with T of the truncation that was done."""
    model, optimizer = trained()
    layer = model.last
    before, gamma = held(layer, optimizer), layer.gamma_log.detach().double().exp()
    (t,) = truncate(model, state_dims=[9, 7, 3], optimizer=optimizer, keep="smallest")
    m = torch.complex(*(before[name]["exp_avg"].double() for name in ("B_re", "B_im")))
    wanted = layer.gamma_log.detach().double().exp()[:, None] * (t.T.mH @ (m / gamma[:, None]))
    ours = held(layer, optimizer)
    got = torch.complex(*(ours[name]["exp_avg"].double() for name in ("B_re", "B_im")))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))
