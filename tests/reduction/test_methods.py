"""Truncating models by every method: what is kept, to the bit where nothing should change."""

import numpy as np
import pytest
import torch

from harness.models.layers.lru import PARAMETERS
from harness.reduction import (
    METHODS,
    balanced_truncation,
    decompositions,
    energy_rank,
    layers,
    truncate,
)
from harness.reduction.modes import best, scores

from .networks import OwnLayer, assert_untouched, dims, nested, optimizer_of, snapshot, step
from .systems import HARD, distance, random_system

CASES = {**HARD, "LRU at its start": random_system(256, 8, 1, 0.9, 0.999)}


def as_numpy(system):
    return tuple(a.numpy() for a in system)


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_states_keep_the_bound_and_stability(name):
    lam, B, C = CASES[name]
    n = len(lam)
    for order in sorted({1, max(1, n // 2), max(1, n - 1), n}):
        t = balanced_truncation(lam, B, C, order, keep="smallest")
        assert 1 <= t.order <= order
        assert np.abs(t.eigenvalues).max() < 1
        np.testing.assert_allclose(t.W @ t.T, np.eye(t.order), atol=5e-3)
        gap = distance((lam, B, C), (t.eigenvalues, t.B, t.C))
        assert gap <= t.error_bound * (1 + 1e-9) + 1e-7 * t.hsv[0]
        # The largest state is not among them, unless nothing that counts is left out.
        if t.order == order < n:
            assert t.error_bound >= 2 * t.hsv[0]


def test_the_smallest_states_are_the_last_of_the_balanced_ones():
    """Their projection, up to the scale of each state, from the eigenvectors of P Q."""
    lam, B, C = random_system(8, 3)
    P = (B @ B.conj().T) / (1 - lam[:, None] * lam.conj())
    Q = (C.conj().T @ C) / (1 - lam[:, None].conj() * lam)
    values, X = np.linalg.eig(P @ Q)
    X = X[:, np.argsort(-values.real)]
    A, b, c = np.linalg.solve(X, lam[:, None] * X), np.linalg.solve(X, B), C @ X
    t = balanced_truncation(lam, B, C, 3, keep="smallest")
    wanted = c[:, 5:] @ np.linalg.solve(1.7j * np.eye(3) - A[5:, 5:], b[5:])
    np.testing.assert_allclose((t.C / (1.7j - t.eigenvalues)) @ t.B, wanted, atol=1e-11)
    hsv = np.sqrt(np.sort(values.real)[::-1])
    assert t.error_bound == pytest.approx(2 * hsv[:5].sum())
    assert t.energy_kept == pytest.approx(hsv[5:].sum() / hsv.sum())


def test_states_that_are_none_are_not_kept_for_being_small():
    lam, B, C = random_system(8, 2)
    B[5:] = 0.0
    t = balanced_truncation(lam, B, C, 4, keep="smallest")
    assert t.order == 4
    assert t.error_bound == pytest.approx(2 * t.hsv[0], rel=1e-9)
    assert balanced_truncation(lam, B, C, 7, keep="smallest").order == 5


def test_of_the_largest_all_the_energy_is_what_is_left():
    lam, B, C = random_system(8, 3)
    t = balanced_truncation(lam, B, C, 3)
    assert t.energy_kept == pytest.approx(t.hsv[:3].sum() / t.hsv.sum())
    assert (t.gain, t.modes) == (None, None)
    with pytest.raises(ValueError, match="keep must be 'largest' or 'smallest', not 'random'"):
        balanced_truncation(lam, B, C, 3, keep="random")


def parameters(layer):
    return {name: getattr(layer, name).detach().clone() for name in PARAMETERS}


def assert_sliced(layer, before, modes):
    """The parameters are those of some modes, bit by bit, in their order."""
    for name, now in parameters(layer).items():
        axis = layer.state_axis(name)
        assert torch.equal(now, before[name].index_select(axis, torch.as_tensor(modes))), name


@pytest.mark.parametrize("method", ["last", "aire", "modal"])
def test_selected_modes_are_left_as_they_are(method):
    model = nested()
    with torch.no_grad():
        for layer in layers(model):
            layer.gamma_log += 0.3  # away from sqrt(1 - |lambda|^2), which must not come back
    found, before = decompositions(model), [parameters(layer) for layer in layers(model)]
    truncations = truncate(model, state_dims=[4, 7, 2], method=method)
    assert dims(model) == [4, 7, 2]
    for t, i, r in zip(truncations, (0, 2), (4, 2), strict=True):
        wanted = np.sort(np.argsort(-scores(found[i], method).numpy(), kind="stable")[:r])
        assert t.modes.tolist() == wanted.tolist() == best(scores(found[i], method), r).tolist()
        assert_sliced(layers(model)[i], before[i], wanted)
        full = as_numpy((found[i].eigenvalues, found[i].B, found[i].C))
        assert distance(full, as_numpy(layers(model)[i].system())) <= t.error_bound * (1 + 1e-9)


@pytest.mark.parametrize("how", [{"method": "random"}, {"keep": "random"}])
def test_random_modes_are_drawn_block_by_block(how):
    model = nested()
    before = [parameters(layer) for layer in layers(model)]
    truncations = truncate(model, state_dims=[4, 7, 2], **how, generator=np.random.default_rng(5))
    rng = np.random.default_rng(5)
    first, third = (np.sort(rng.choice(n, r, replace=False)) for n, r in ((9, 4), (5, 2)))
    assert [t.modes.tolist() for t in truncations] == [first.tolist(), third.tolist()]
    for i, modes in ((0, first), (2, third)):
        assert_sliced(layers(model)[i], before[i], modes)


@pytest.mark.parametrize("keep", ["largest", "smallest", "random"])
def test_ablations_have_the_ranks_of_the_energy_rule(keep):
    model = nested()
    wanted = [energy_rank(one.hsv, 0.2) for one in decompositions(model)]
    truncate(model, tau=0.2, keep=keep, generator=np.random.default_rng(0))
    assert dims(model) == wanted


def test_keeping_the_smallest_is_not_keeping_the_largest():
    ours, theirs = nested(), nested()
    smallest, largest = (
        truncate(model, state_dims=3, keep=keep)
        for model, keep in ((ours, "smallest"), (theirs, "largest"))
    )
    for s, t in zip(smallest, largest, strict=True):
        assert s.order == t.order == 3
        assert s.energy_kept < t.energy_kept
        assert s.error_bound > t.error_bound
    x = torch.randn(2, 9, 2)
    assert not torch.allclose(ours(x), theirs(x), atol=1e-3)


def test_a_layer_of_ones_own_takes_selected_modes_too():
    torch.manual_seed(0)
    model = torch.nn.Sequential(OwnLayer())
    lam, B, C = model[0].system()
    optimizer = torch.optim.AdamW(model.parameters())
    (t,) = truncate(model, state_dims=4, method="last", optimizer=optimizer)
    for now, before in zip(
        model[0].system(), (lam[t.modes], B[t.modes], C[:, t.modes]), strict=True
    ):
        assert torch.equal(now, before)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == set(map(id, model.parameters()))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": "best"}, "method must be one of balanced, .*, random, not 'best'"),
        ({"keep": "some"}, "keep must be one of largest, smallest, random, not 'some'"),
        ({"method": "last", "keep": "smallest"}, "keep='smallest' is an ablation of method 'bal"),
        ({"method": "random"}, "random modes need a generator"),
        ({"keep": "random"}, "random modes need a generator"),
        ({"method": "modal", "state_dims": None, "tau": 0.0}, "'modal' has no energy for tau"),
        ({"method": "aire", "state_dims": 6}, "block 2: order must be from 1 to 5, not 6"),
    ],
)
def test_wrong_calls_are_refused_before_anything_changes(how, message):
    model = nested()
    optimizer = optimizer_of(model)
    step(model, optimizer)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=message) as refused:
        truncate(model, optimizer=optimizer, **{"state_dims": 3, **how})
    assert "\n" not in str(refused.value)
    assert_untouched(model, before, optimizer)


@pytest.mark.parametrize("scope", ["B", "C"])
@pytest.mark.parametrize("method", METHODS)
def test_of_a_system_of_no_energy_no_share_is_kept(method, scope):
    """`energy_kept` was NaN for selected modes, where the other methods refused."""
    model = nested()
    with torch.no_grad():
        for name in (f"{scope}_re", f"{scope}_im"):
            getattr(layers(model)[1], name).zero_()
    before = snapshot(model)
    with pytest.raises(ValueError, match="block 1: the system is zero: B or C maps everything"):
        truncate(model, state_dims=3, method=method, generator=np.random.default_rng(0))
    assert_untouched(model, before)
