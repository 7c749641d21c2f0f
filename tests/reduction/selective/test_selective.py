"""Removing states of selective layers: the shares by brute force, what goes and what stays."""

import copy

import numpy as np
import pytest
import scipy.linalg
import torch

from harness.models import build
from harness.reduction import (
    Calibration,
    StateSelection,
    UnusableSystem,
    decompositions,
    ranks,
    selective_decompositions,
    spectra,
    truncate,
)
from harness.reduction.selective.means import hankel_shares
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks import TaskInfo
from harness.training.step.optimizer import make_optimizer

H, N, LENGTH = 4, 6, 24
INFO = TaskInfo("classification", outputs=3, length=LENGTH, inputs=2)


def model_of(seed=0, **fields):
    torch.manual_seed(seed)
    return build(ModelSpec(kind="mamba", width=H, state_dim=N, **fields), INFO).double().eval()


def batches(count=6, size=5, seed=1):
    numbers = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, LENGTH, 2, dtype=torch.float64, generator=numbers),
            torch.randint(0, 3, (size,), generator=numbers),
        )
        for _ in range(count)
    ]


def heard(model, given):
    """What each block's layer hears on these batches, (examples, length, H)."""
    found = []
    for block in model.blocks:
        block.ssm.register_forward_hook(lambda layer, u, y: found.append(u[0].detach()))
    for x, _ in given:
        model(x)
    for block in model.blocks:
        block.ssm._forward_hooks.clear()
    blocks = len(model.blocks)
    return [torch.cat(found[i::blocks]) for i in range(blocks)]


def shares_by_hand(layer, u, how):
    """Step by step and channel by channel, with scipy's Lyapunov solver and matrix root."""
    p = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    chosen = [one.detach().flatten(0, 1).numpy() for one in layer.selection(u)]
    _, dt, B, C = chosen
    A, total = -np.exp(p["A_log"]), np.zeros(layer.state_dim)
    for d in range(len(A)):
        decay = np.mean([np.exp(step * A[d]) for step in dt[:, d]], 0)
        if how == "mean_modes":
            b, c = np.mean(dt[:, d, None] * B, 0), C.mean(0)
            BB, CC = np.outer(b, b), np.outer(c, c)
        else:
            BB = np.mean(dt[:, d] ** 2) * (B.T @ B) / len(B)
            CC = C.T @ C / len(C)
        P = scipy.linalg.solve_discrete_lyapunov(np.diag(decay), BB)
        Q = scipy.linalg.solve_discrete_lyapunov(np.diag(decay), CC)
        total += np.diag(scipy.linalg.sqrtm(P @ Q)).real
    return total


@pytest.mark.parametrize(
    ("how", "close"), [("mean_modes", 1e-5), ("second_moment", 1e-5)]
)  # the root of a matrix of rank one but for rounding is known to about 1e-8
def test_shares_by_brute_force(how, close):
    model, given = model_of(), batches()
    found = selective_decompositions(
        model, {i: b.ssm for i, b in enumerate(model.blocks)}, how, Calibration(given)
    )
    for i, u in enumerate(heard(model, given)):
        wanted = torch.from_numpy(shares_by_hand(model.blocks[i].ssm, u, how))
        scale = float(wanted.abs().max())
        torch.testing.assert_close(found[i].mode_shares, wanted, rtol=0, atol=close * scale)
        assert float(found[i].mode_shares.min()) < 0.5 * scale  # states do differ


def test_shares_sum_to_the_hankel_singular_values_and_know_their_scale():
    numbers = np.random.default_rng(0)
    losses = torch.from_numpy(numbers.uniform(1e-7, 0.9, (3, 5)))
    b, c = torch.from_numpy(numbers.normal(size=(3, 5))), torch.from_numpy(numbers.normal(size=5))
    BB, CC = b[:, :, None] * b[:, None], c[None, :, None] * c
    found = hankel_shares(losses, BB, CC)
    torch.testing.assert_close(hankel_shares(losses, b, c[None]), found, rtol=1e-6, atol=0)
    lam = (1 - losses).numpy()
    for d in range(3):
        # Of a system with one input and output, the Hankel values are |eigenvalues| of b_i c_j gap.
        gap = 1 - np.outer(lam[d], lam[d])
        cross = np.outer(b[d].numpy(), c.numpy()) / gap
        wanted = np.abs(np.linalg.eigvals(cross)).sum()
        assert float(found[d].sum()) == pytest.approx(wanted, rel=1e-6)
    torch.testing.assert_close(hankel_shares(losses, 9 * BB, 4 * CC), 6 * found)
    alone = hankel_shares(losses[:, :1], BB[:, :1, :1], CC[:, :1, :1])[:, 0]
    first = losses[:, 0]
    torch.testing.assert_close(alone, (b[:, 0] * c[0]).abs() / (first * (2 - first)))


@pytest.mark.parametrize(
    ("losses", "BB", "message"),
    [
        ([[0.1, 0.0]], [[[1.0, 0], [0, 1]]], "a state never decays"),
        ([[0.1, 0.2]], [[[1.0, 0], [0, float("nan")]]], "must be finite"),
    ],
)
def test_means_that_make_no_system_are_refused(losses, BB, message):
    CC = torch.eye(2, dtype=torch.float64)[None]
    with pytest.raises(UnusableSystem, match=message):
        hankel_shares(
            torch.tensor(losses, dtype=torch.float64), torch.tensor(BB, dtype=torch.float64), CC
        )


@pytest.mark.parametrize("how", ["mean_modes", "second_moment"])
def test_a_truncation_zeroes_b_and_c_of_the_states_of_least_share(how):
    model, given = model_of(), batches()
    found = selective_decompositions(
        model, {i: b.ssm for i, b in enumerate(model.blocks)}, how, Calibration(given)
    )
    zeroed = copy.deepcopy(model)
    for i, block in enumerate(zeroed.blocks):
        least = found[i].mode_shares.argsort()[: N - 2]
        with torch.no_grad():
            block.ssm.B_proj[least] = 0.0
            block.ssm.C_proj[least] = 0.0
    done = truncate(model, state_dims=2, calibration=Calibration(given), selective=how)
    assert model.state_dims == [2, 2]
    x = torch.randn(3, LENGTH, 2, dtype=torch.float64)
    torch.testing.assert_close(model(x), zeroed(x), rtol=0, atol=1e-13)
    for i, one in enumerate(done):
        assert isinstance(one, StateSelection)
        assert one.modes.tolist() == sorted(found[i].mode_shares.argsort()[N - 2 :].tolist())
        assert one.error_bound is None
        worth = found[i].mode_shares.clamp_min(0)
        assert one.energy_kept == pytest.approx(float(worth[one.modes].sum() / worth.sum()))


def test_the_error_is_that_of_the_scans_on_held_out_batches():
    model, given = model_of(), batches()
    whole = copy.deepcopy(model)
    u = heard(model, given[4:])
    done = truncate(model, state_dims=3, calibration=Calibration(given[:4], given[4:]))
    for i, one in enumerate(done):
        layer, small = whole.blocks[i].ssm, model.blocks[i].ssm
        chosen, kept = layer.selection(u[i]), small.selection(u[i])
        h, h_r = torch.zeros(10, 2 * H, N).double(), torch.zeros(10, 2 * H, 3).double()
        lost = total = 0.0
        for t in range(LENGTH):
            x, dt = chosen.x[:, t, :, None], chosen.dt[:, t, :, None]
            h = torch.exp(dt * layer.rates) * h + dt * x * chosen.B[:, t, None]
            h_r = torch.exp(dt * small.rates) * h_r + dt * x * kept.B[:, t, None]
            y, y_r = (h * chosen.C[:, t, None]).sum(-1), (h_r * kept.C[:, t, None]).sum(-1)
            lost, total = lost + (y - y_r).square().sum(), total + y.square().sum()
        assert one.output_error == pytest.approx((lost / total).sqrt().item(), rel=1e-6)
        assert 0.0 < one.output_error < 1.5


def test_moments_of_states_that_stay_stay():
    model, given = model_of(), batches()
    optimizer = make_optimizer(model.train(), TrainingSpec(lr=0.01))
    for x, y in given[:3]:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    ssm = model.blocks[0].ssm
    old = {name: dict(optimizer.state[p]) for name, p in ssm.named_parameters()}
    groups = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    (done, _) = truncate(model, state_dims=2, calibration=Calibration(given), optimizer=optimizer)
    axes = {"A_log": 1, "B_proj": 0, "C_proj": 0}
    for name, p in ssm.named_parameters():
        for key, value in optimizer.state[p].items():
            wanted = old[name][key]
            if name in axes and value.dim():
                wanted = wanted.index_select(axes[name], done.modes)
            assert torch.equal(value, wanted), (name, key)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    now = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    assert all(a < b for a, b in zip(now, groups, strict=True))
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert decays[id(ssm.A_log)] == decays[id(ssm.D)] == 0.0 < decays[id(ssm.B_proj)]


def test_ranks_by_energy_sizes_and_loss():
    given = Calibration(batches()[:4], batches()[4:], torch.nn.functional.cross_entropy)
    model = model_of()
    whole = selective_decompositions(
        model, {i: b.ssm for i, b in enumerate(model.blocks)}, "mean_modes", given
    )
    found = list(whole.values())
    by_tau = ranks(found, tau=0.05)
    for order, one in zip(by_tau, found, strict=True):
        assert float(one.hsv[:order].sum()) >= 0.95 * float(one.hsv.sum()) > 0
        assert order == 1 or float(one.hsv[: order - 1].sum()) < 0.95 * float(one.hsv.sum())
    assert sum(ranks(found, mean_dim=2.5, scope="global")) <= 5
    cut = model_of()
    truncate(cut, tau=0.05, calibration=given, decomposed=found)
    assert cut.state_dims == by_tau
    untouched = model_of()
    assert truncate(untouched, tau=0.0, calibration=given) == []
    bound = model_of()
    truncate(bound, max_loss=10.0, calibration=given)
    assert bound.state_dims == [1, 1]


def test_random_and_smallest_states():
    model, given = model_of(), Calibration(batches())
    again = model_of()
    for one in (model, again):
        truncate(one, state_dims=2, method="random", generator=np.random.default_rng(3),
                 calibration=given)  # fmt: skip
    assert torch.equal(model.blocks[0].ssm.A_log, again.blocks[0].ssm.A_log)
    drawn = np.random.default_rng(3)
    lots = [np.sort(drawn.choice(N, size=2, replace=False)) for _ in range(2)]
    for lot, block in zip(lots, model.blocks, strict=True):
        torch.testing.assert_close(
            block.ssm.rates[0], -torch.from_numpy(lot + 1.0), rtol=1e-6, atol=0
        )
    largest, smallest = model_of(), model_of()
    most = truncate(largest, state_dims=3, calibration=given)
    least = truncate(smallest, state_dims=3, calibration=given, keep="smallest")
    for a, b in zip(most, least, strict=True):
        assert sorted([*a.modes.tolist(), *b.modes.tolist()]) == list(range(N))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": "last"}, "method 'last' needs a system, and selective layers have none"),
        ({"method": "singular_perturbation"}, "method 'singular_perturbation' needs a system"),
        ({"gramians": "signal"}, "gramians other than white need a system"),
        ({"refit": "C"}, "a refit needs a system"),
        ({"calibration": None}, "is measured: give `calibration` batches"),
        (
            {"selective": "median"},
            "selective must be one of mean_modes, second_moment, .*drrqr, not 'median'",
        ),
        ({"calibration": Calibration([])}, "the calibration set is empty"),
        ({"state_dims": 7}, "block 0: order must be from 1 to 6, not 7"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(how, message):
    model = model_of()
    bits = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=message) as refused:
        truncate(model, **{"state_dims": 2, "calibration": Calibration(batches()), **how})
    assert "\n" not in str(refused.value)
    assert all(torch.equal(bits[name], value) for name, value in model.state_dict().items())


def test_there_is_no_spectrum_without_data():
    for function in (decompositions, spectra):
        with pytest.raises(ValueError, match="selective layers have no system of their own"):
            function(model_of())


def test_decompositions_of_other_weights_are_refused():
    model, given = model_of(), Calibration(batches())
    found = selective_decompositions(
        model, {i: b.ssm for i, b in enumerate(model.blocks)}, "mean_modes", given
    )
    with torch.no_grad():
        model.blocks[1].ssm.A_log.add_(0.1)
    with pytest.raises(ValueError, match="are not those of the model as it is now"):
        truncate(model, state_dims=2, calibration=given, decomposed=list(found.values()))


def test_a_layer_that_keeps_other_states_is_refused_and_restored():
    model = model_of()
    ssm = model.blocks[1].ssm
    ssm.keep_modes = lambda modes: type(ssm).keep_modes(ssm, (modes + 1) % N)
    before = [block.ssm.A_log for block in model.blocks]
    with pytest.raises(ValueError, match=r"block 1: Mamba\.keep_modes kept other states"):
        truncate(model, state_dims=2, calibration=Calibration(batches()))
    assert all(a is block.ssm.A_log for a, block in zip(before, model.blocks, strict=True))
