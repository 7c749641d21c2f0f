"""Truncating models in place: which blocks change, what a failure leaves, how training goes on."""

import importlib

import numpy as np
import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.reduction import (
    TruncationError,
    UnusableSystem,
    energy_rank,
    hankel_singular_values,
    layers,
    spectra,
    truncate,
)

from .networks import OwnLayer, assert_untouched, dims, nested, optimizer_of, snapshot, step

EPS32 = torch.finfo(torch.float32).eps

# By its name, since the package gives the function of the same name.
MODULE = importlib.import_module("harness.reduction.pieces")


def transfer(system, angles):
    """C (z - Lambda)^-1 B on the unit circle, (len(angles), H, H)."""
    lam, B, C = system
    z = torch.polar(torch.ones_like(angles), angles)
    return (C[None] / (z[:, None, None] - lam)) @ B


def distance(one, two):
    """The H-infinity distance of two systems, on a grid with their resonances in it."""
    grid = torch.linspace(0, 2 * torch.pi, 720, dtype=torch.float64)
    angles = torch.cat([grid, one[0].angle(), two[0].angle()])
    gap = transfer(one, angles) - transfer(two, angles)
    return float(torch.linalg.matrix_norm(gap, ord=2).max())


def rounding(system):
    """What float32 parameters may cost, H-infinity norm.

    A phase of up to 2 pi, written as a logarithm, errs by about pi float32 units; a resonance at
    distance 1 - |Lambda| from the circle turns that into a relative error of its gain. The errors
    of different states are independent.
    """
    lam, B, C = system
    gain = B.abs().norm(dim=1) * C.abs().norm(dim=0) / (1 - lam.abs())
    return float((4 * torch.pi * EPS32 / (1 - lam.abs()) * gain).norm())


@pytest.mark.parametrize(
    "sizes",
    [(2, 3, 4), np.array([2, 3, 4]), torch.tensor([2, 3, 4]), range(2, 5), np.array([2.0, 3, 4])],
)
def test_sizes_may_be_any_sequence_of_whole_numbers(sizes):
    model = nested()
    truncate(model, state_dims=sizes)
    assert dims(model) == [2, 3, 4]


@pytest.mark.parametrize("size", [2, np.int64(2), torch.tensor(2), np.array(2)])
def test_one_size_is_that_of_every_block(size):
    model = nested()
    truncate(model, state_dims=size)
    assert dims(model) == [2, 2, 2]


@pytest.mark.parametrize(
    "sizes", [[2, None, 4], [2, "x", 4], [2, float("nan"), 4], [2, float("inf"), 4], [2, [3], 4],
              np.array([2.0, 2.5, 2.0]), np.array([True, True, True])],
)  # fmt: skip
def test_sizes_that_are_no_whole_numbers_are_refused(sizes):
    with pytest.raises(ValueError, match=r"block [01]: order must be from 1 to [97], not"):
        truncate(nested(), state_dims=sizes)


def test_layers_are_found_at_every_depth_in_order():
    model = nested()
    assert [layer.state_dim for layer in layers(model)] == [9, 7, 5]
    assert layers(model)[1] is model.deep["inner"][0][0]
    assert layers(LRU(4, 3))[0].state_dim == 3
    with pytest.raises(ValueError, match="Linear has no state-space layer"):
        layers(nn.Linear(2, 2))


def test_a_layer_used_twice_is_one_block():
    shared = LRU(4, 6)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    assert len(truncate(model, state_dims=[3])) == 1
    assert model[0] is model[2]
    assert model(torch.randn(2, 5, 4)).shape == (2, 5, 4)


@pytest.mark.parametrize("tau", [0.05, 0.2, 0.5])
def test_by_tau_every_block_takes_its_own_energy_rank(tau):
    model = nested()
    systems = [layer.system() for layer in layers(model)]
    ranks = [energy_rank(hankel_singular_values(*s), tau) for s in systems]
    truncations = truncate(model, tau=tau)
    assert dims(model) == ranks
    assert [t.order for t in truncations] == [
        r for r, s in zip(ranks, systems, strict=True) if r < len(s[0])
    ]
    assert model(torch.randn(2, 9, 2)).shape == (2, 9, 4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [([4, 7, 2], [4, 7, 2]), ((1, 1, 1), [1, 1, 1]), (5, [5, 5, 5]), (np.int64(3), [3, 3, 3])],
)
def test_by_state_dims(given, expected):
    model = nested()
    before = snapshot(model)
    truncations = truncate(model, state_dims=given)
    assert dims(model) == expected
    changed = [n for n, old in zip(expected, (9, 7, 5), strict=True) if n < old]
    assert [t.order for t in truncations] == changed
    # What is no state's, and blocks at their rank, keep their very parameters.
    still = {name for name in before[0] if name.startswith("front.0") or name.endswith(".D")}
    for i, prefix in enumerate(("front.1", "deep.inner.0.0", "last")):
        if expected[i] == (9, 7, 5)[i]:
            still |= {name for name in before[0] if name.startswith(prefix)}
    assert_untouched(model, before, names=still)


@pytest.mark.parametrize("how", [{"tau": 0.0}, {"state_dims": [9, 7, 5]}])
def test_nothing_to_do_touches_nothing(how):
    model = nested()
    optimizer = optimizer_of(model)
    step(model, optimizer)
    before = snapshot(model, optimizer)
    assert truncate(model, **how, optimizer=optimizer) == []
    assert_untouched(model, before, optimizer)


def test_a_layer_of_ones_own_is_truncated_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Identity(), OwnLayer())
    optimizer = torch.optim.AdamW(model.parameters())
    before = model[1].system()
    (truncation,) = truncate(model, state_dims=[4], optimizer=optimizer)
    assert model[1].state_dim == 4
    assert distance(before, model[1].system()) <= truncation.error_bound + rounding(before)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == set(map(id, model.parameters()))


def broken_system(model, monkeypatch):
    with torch.no_grad():
        layers(model)[1].nu_log[2] = -60.0
    return UnusableSystem, "block 1: every .eigenvalue. must be below 1"


def no_diagonal_form(model, monkeypatch):
    whole = MODULE.reduce

    def second_fails(system, order):
        if len(system.hsv) == 7:
            raise TruncationError("no diagonal form: condition 1e20")
        return whole(system, order)

    monkeypatch.setattr(MODULE, "reduce", second_fails)
    return TruncationError, "block 1: no diagonal form: condition 1e20"


def too_large_an_order(model, monkeypatch):
    return ValueError, "block 1: order must be from 1 to 7, not 8"


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        (broken_system, {"state_dims": [3, 3, 3]}),
        (broken_system, {"tau": 0.3}),
        (no_diagonal_form, {"state_dims": [3, 3, 3]}),
        (no_diagonal_form, {"tau": 0.3}),
        (too_large_an_order, {"state_dims": [3, 8, 3]}),
    ],
)
def test_a_failure_in_one_block_leaves_all_as_it_was(fault, how, monkeypatch):
    model = nested()
    optimizer = optimizer_of(model)
    step(model, optimizer)
    kind, message = fault(model, monkeypatch)
    before = snapshot(model, optimizer)
    with pytest.raises(kind, match=message):
        truncate(model, **how, optimizer=optimizer)
    assert_untouched(model, before, optimizer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of tau and state_dims"),
        ({"tau": 0.1, "state_dims": 3}, "exactly one of tau and state_dims"),
        ({"tau": 0.0, "state_dims": [9, 7, 5]}, "exactly one of tau and state_dims"),
        ({"tau": 1.0}, "block 0: tau must be in"),
        ({"tau": -0.1}, "tau must be in"),
        ({"tau": float("nan")}, "tau must be in"),
        ({"state_dims": [3, 3]}, "2 state dimensions for 3 blocks"),
        ({"state_dims": []}, "0 state dimensions for 3 blocks"),
        ({"state_dims": [3, 0, 3]}, "block 1: order must be from 1 to 7, not 0"),
        ({"state_dims": [3, 3, 6]}, "block 2: order must be from 1 to 5, not 6"),
        ({"state_dims": 6}, "block 2: order must be from 1 to 5, not 6"),
        ({"state_dims": [3, 2.5, 3]}, "block 1: order must be from 1 to 7, not 2.5"),
        ({"state_dims": [True, 3, 3]}, "block 0: order must be from 1 to 9, not True"),
        ({"state_dims": True}, "block 0: order must be from 1 to 9, not True"),
        ({"state_dims": -1}, "block 0: order must be from 1 to 9, not -1"),
    ],
)
def test_wrong_calls_are_refused(arguments, message):
    model = nested()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        truncate(model, **arguments)
    assert_untouched(model, before)


@pytest.mark.parametrize("order", [1, 4, 12, 23])
@pytest.mark.parametrize("r_max", [0.9, 0.99, 0.999])
def test_the_written_system_keeps_the_error_bound_up_to_float32(order, r_max):
    torch.manual_seed(0)
    model = nn.Sequential(LRU(4, 24, r_min=0.5, r_max=r_max))
    before = model[0].system()
    (t,) = truncate(model, state_dims=order)
    after = model[0].system()
    allowed = rounding((t.eigenvalues, t.B, t.C))
    # Small beside the gain of the system, so that the next two lines say something.
    assert allowed < 2e-4 * float(t.hsv[0])
    assert distance((t.eigenvalues, t.B, t.C), after) <= allowed
    assert distance(before, after) <= t.error_bound + allowed
    assert t.error_bound == pytest.approx(2 * float(t.hsv[order:].sum()), rel=1e-12)
    gamma = torch.exp(model[0].gamma_log.double())
    torch.testing.assert_close(gamma, torch.sqrt(1 - after[0].abs() ** 2), rtol=1e-4, atol=0)


def test_spectra_are_those_of_every_block_and_name_it():
    model = nested()
    for (hsv, shares), layer in zip(spectra(model), layers(model), strict=True):
        torch.testing.assert_close(hsv, hankel_singular_values(*layer.system()))
        torch.testing.assert_close(shares.sum(), hsv.sum())
    with torch.no_grad():
        model.last.B_re[0, 0] = float("nan")
    with pytest.raises(UnusableSystem, match=r"block 2: .* must be finite"):
        spectra(model)


def test_a_frozen_layer_stays_frozen():
    model = nested()
    model.last.requires_grad_(False)
    truncate(model, state_dims=[3, 3, 3])
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.named_parameters() if name.startswith("last.")
    }


def membership(model, optimizer):
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]


def options(optimizer):
    return [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]


@pytest.mark.parametrize("moments", ["transport", "reset"])
def test_the_optimizer_keeps_its_groups(moments):
    model = nested()
    optimizer = optimizer_of(model)
    step(model, optimizer)
    members, settings = membership(model, optimizer), options(optimizer)
    old = list(model.parameters())  # held, or a new parameter could take the id of an old one
    truncate(model, state_dims=[4, 7, 2], optimizer=optimizer, moments=moments)
    assert membership(model, optimizer) == members
    assert options(optimizer) == settings
    current = set(map(id, model.parameters()))
    assert {id(p) for p in optimizer.state} <= current
    assert len(current - set(map(id, old))) == 2 * 7  # all but D of two layers


@pytest.mark.parametrize("moments", ["transport", "reset"])
def test_training_goes_on(moments):
    model = nested()
    optimizer = optimizer_of(model)
    for k in range(20):
        step(model, optimizer, seed=k)
    truncate(model, state_dims=[4, 3, 2], optimizer=optimizer, moments=moments)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    first = step(model, optimizer, seed=100)
    for name, p in model.named_parameters():
        change = (p.detach() - before[name]).abs()
        assert float(change.max()) > 0, name
        # A step of Adam is never far above its learning rate; decay adds 0.05 of it.
        assert float(change.max()) < 0.02, name
        assert optimizer.state[p]["exp_avg"].shape == p.shape
    for k in range(60):
        step(model, optimizer, seed=k)
    assert step(model, optimizer, seed=100) < 0.9 * first
    assert dims(model) == [4, 3, 2]


@pytest.mark.parametrize(
    ("make", "moments", "message"),
    [
        (
            lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
            "transport",
            "not momentum_buffer: use moments='reset'",
        ),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "transport", "max_exp_avg_sq"),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "slice", "be sliced, not max_exp_avg_sq"),
        (torch.optim.AdamW, "keep", "must be one of transport, reset, slice, not 'keep'"),
    ],
)
def test_moments_that_cannot_be_carried_are_refused_before_anything_changes(make, moments, message):
    model = nested()
    optimizer = make(model.parameters())
    step(model, optimizer)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=3, optimizer=optimizer, moments=moments)
    assert_untouched(model, before, optimizer)
    truncate(model, state_dims=3, optimizer=optimizer, moments="reset")
    step(model, optimizer)


def test_an_optimizer_that_holds_only_some_parameters():
    """Whoever freezes C, or trains the head alone, can truncate all the same."""
    model = nested()
    model.last.C_re.requires_grad_(False)
    model.last.C_im.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    step(model, optimizer)
    truncate(model, state_dims=3, optimizer=optimizer)
    assert set(map(id, optimizer.param_groups[0]["params"])) == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    step(model, optimizer)
