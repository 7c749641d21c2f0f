"""Removing states of Mamba-2: the shares by brute force, what goes and what stays of each group."""

import copy

import numpy as np
import pytest
import scipy.linalg
import torch

from harness.models import build
from harness.reduction import Calibration, UnusableSystem, selective_decompositions, truncate
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks import TaskInfo
from harness.training.step.optimizer import make_optimizer

from .test_selective import batches, heard

N, G, LENGTH = 5, 2, 24
INFO = TaskInfo("classification", outputs=3, length=LENGTH, inputs=2)
FIELDS = {"kind": "mamba2", "width": 6, "state_dim": N, "head_dim": 3, "groups": G}
HOW = ("mean_modes", "second_moment")


def model_of(**fields):
    torch.manual_seed(0)
    model = build(ModelSpec(**{**FIELDS, **fields}), INFO).double().eval()
    with torch.no_grad():
        for block in model.blocks:  # faster heads, which differ
            block.ssm.dt_bias.add_(2.0)
    return model


def decomposed(model, how, given):
    found = dict(enumerate(block.ssm for block in model.blocks))
    return selective_decompositions(model, found, how, Calibration(given))


def shares_by_hand(layer, u, how):
    """Channel by channel, with scipy's Lyapunov solver and matrix root; (G, N)."""
    chosen = [one.detach().flatten(0, 1).numpy() for one in layer.selection(u)]
    x, dt, B, C = chosen
    heads, size = x.shape[1:]
    A, total = layer.rates.detach().numpy(), np.zeros((G, N))
    for k in range(heads):
        g = k // (heads // G)
        decay = np.exp(dt[:, k] * A[k]).mean() * np.eye(N)
        if how == "mean_modes":
            b, c = np.mean(dt[:, k, None] * B[:, g], 0), C[:, g].mean(0)
            BB, CC = np.outer(b, b), np.outer(c, c)
        else:
            BB = np.mean(dt[:, k] ** 2) * (B[:, g].T @ B[:, g]) / len(B)
            CC = C[:, g].T @ C[:, g] / len(C)
        P = scipy.linalg.solve_discrete_lyapunov(decay, BB)
        Q = scipy.linalg.solve_discrete_lyapunov(decay, CC)
        # Of one direction the root is that of a number, which scipy's cannot take.
        cross = P @ Q
        if how == "mean_modes":
            root = cross / np.sqrt(np.trace(cross))
        else:
            root = scipy.linalg.sqrtm(cross).real
        np.testing.assert_allclose(root @ root, cross, rtol=0, atol=1e-10 * np.abs(cross).max())
        total[g] += size * np.diag(root)
    return torch.from_numpy(total)


@pytest.mark.parametrize("how", HOW)
def test_shares_by_brute_force(how):
    model, given = model_of(), batches()
    found = decomposed(model, how, given)
    for i, u in enumerate(heard(model, given)):
        wanted = shares_by_hand(model.blocks[i].ssm, u, how)
        scale = float(wanted.abs().max())
        torch.testing.assert_close(found[i].mode_shares, wanted, rtol=0, atol=1e-7 * scale)
        assert float(found[i].mode_shares.min()) < 0.5 * scale  # states do differ
        ordered = found[i].mode_shares.clamp_min(0).sort(descending=True).values
        torch.testing.assert_close(found[i].hsv, ordered.sum(0))
        assert found[i].channels == 12


@pytest.mark.parametrize("how", HOW)
def test_a_truncation_zeroes_the_states_of_least_share_of_each_group(how):
    model, given = model_of(), batches()
    found, zeroed = decomposed(model, how, given), copy.deepcopy(model)
    for i, block in enumerate(zeroed.blocks):
        for g, shares in enumerate(found[i].mode_shares):
            least = shares.argsort()[: N - 2]
            with torch.no_grad():
                for name in block.ssm.of_states:
                    block.ssm.get_parameter(name)[g, least] = 0.0
    done = truncate(model, state_dims=2, calibration=Calibration(given), selective=how)
    assert model.state_dims == [2, 2]
    x = torch.randn(3, LENGTH, 2, dtype=torch.float64)
    torch.testing.assert_close(model(x), zeroed(x), rtol=0, atol=1e-13)
    for i, one in enumerate(done):
        worth = found[i].mode_shares.clamp_min(0)
        kept = sum(float(worth[g][one.modes[g]].sum()) for g in range(G))
        assert one.energy_kept == pytest.approx(kept / float(worth.sum()))
        assert one.modes.shape == (G, 2)
    assert any(one.modes[0].tolist() != one.modes[1].tolist() for one in done)


def test_the_error_is_that_of_the_scans_on_held_out_batches():
    model, given = model_of(), batches()
    whole = copy.deepcopy(model)
    u = heard(model, given[4:])
    done = truncate(model, state_dims=3, calibration=Calibration(given[:4], given[4:]))
    for i, one in enumerate(done):
        A, outputs = whole.blocks[i].ssm.rates, []
        for layer in (whole.blocks[i].ssm, model.blocks[i].ssm):
            x, dt, B, C = layer.selection(u[i])
            h, ys = torch.zeros(10, 4, 3, layer.state_dim).double(), []
            for t in range(LENGTH):
                drive = (dt[:, t, :, None] * x[:, t])[..., None]
                b, c = (one[:, t].repeat_interleave(2, 1)[:, :, None] for one in (B, C))
                h = torch.exp(dt[:, t] * A)[..., None, None] * h + drive * b
                ys.append((h * c).sum(-1))
            outputs.append(torch.stack(ys))
        y, y_r = outputs
        assert one.output_error == pytest.approx(float((y - y_r).norm() / y.norm()), rel=1e-6)
        assert 0.0 < one.output_error < 1.5


@pytest.mark.parametrize("moments", ["transport", "reset"])
def test_moments_of_states_that_stay_stay(moments):
    model, given = model_of(), batches()
    optimizer = make_optimizer(model.train(), TrainingSpec(lr=0.01))
    for x, y in given[:3]:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    ssm = model.blocks[0].ssm
    old = {name: dict(optimizer.state[p]) for name, p in ssm.named_parameters()}
    (done, _) = truncate(
        model, state_dims=2, calibration=Calibration(given), optimizer=optimizer, moments=moments
    )
    for name, p in ssm.named_parameters():
        if moments == "reset" and name in ssm.of_states:
            assert not optimizer.state[p]
            continue
        for key, value in optimizer.state[p].items():
            wanted = old[name][key]
            if name in ssm.of_states and value.dim():
                wanted = torch.stack([wanted[g][done.modes[g]] for g in range(G)])
            assert torch.equal(value, wanted), (name, key)


def test_random_and_smallest_states():
    model, given = model_of(), Calibration(batches())
    before = copy.deepcopy(model)
    done = truncate(
        model, state_dims=2, method="random", generator=np.random.default_rng(3), calibration=given
    )
    drawn = np.random.default_rng(3)
    for i, one in enumerate(done):  # in all groups the same
        lot = np.sort(drawn.choice(N, size=2, replace=False)).tolist()
        assert one.modes.tolist() == [lot] * G
        kept = before.blocks[i].ssm.B_proj[:, lot]
        assert torch.equal(model.blocks[i].ssm.B_proj, kept)
    most = truncate(model_of(), state_dims=3, calibration=given, selective="second_moment")
    least = truncate(
        model_of(), state_dims=2, calibration=given, selective="second_moment", keep="smallest"
    )
    for a, b in zip(most, least, strict=True):
        for g in range(G):
            assert sorted([*a.modes[g].tolist(), *b.modes[g].tolist()]) == list(range(N))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("A_log", -800.0, "block 1: a head never decays"),
        ("dt_bias", float("nan"), "block 1: the means over the calibration examples must be fin"),
    ],
)
def test_heads_that_make_no_system_are_refused(name, value, message):
    model = model_of()
    with torch.no_grad():
        model.blocks[1].ssm.get_parameter(name).fill_(value)
    with pytest.raises(UnusableSystem, match=message):
        truncate(model, state_dims=2, calibration=Calibration(batches()))


def test_a_layer_that_keeps_other_states_is_refused_and_restored():
    model = model_of()
    ssm = model.blocks[1].ssm
    ssm.keep_modes = lambda modes: type(ssm).keep_modes(ssm, (modes + 1) % N)
    before = [block.ssm.B_proj for block in model.blocks]
    with pytest.raises(ValueError, match=r"block 1: Mamba2\.keep_modes kept other states"):
        truncate(model, state_dims=2, calibration=Calibration(batches()))
    assert all(a is block.ssm.B_proj for a, block in zip(before, model.blocks, strict=True))


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
def test_activations_are_what_each_state_adds_to_the_outputs(kind):
    fields = {} if kind == "mamba2" else {"head_dim": None, "groups": None}
    fields = {name: value for name, value in {**FIELDS, **fields, "kind": kind}.items() if value}
    torch.manual_seed(0)
    model, given = build(ModelSpec(**fields), INFO).double().eval(), batches()
    found = decomposed(model, "activation", given)
    for i, u in enumerate(heard(model, given)):
        layer = model.blocks[i].ssm
        x, dt, B, C = (one.detach() for one in layer.selection(u))
        energies = torch.zeros(found[i].mode_shares.shape, dtype=torch.float64)
        for n in range(N):
            h = torch.zeros_like(x[:, 0])
            for t in range(LENGTH):
                if kind == "mamba":
                    b, c, rates, step = B[:, t, n, None], C[:, t, n, None], layer.rates[:, n], dt
                else:
                    b, c = (one[:, t, :, n].repeat_interleave(2, 1)[..., None] for one in (B, C))
                    rates, step = layer.rates[:, None], dt[..., None]
                h = torch.exp(step[:, t] * rates) * h + step[:, t] * x[:, t] * b
                y = (h * c).detach().square()
                if kind == "mamba":
                    energies[n] += y.sum()
                else:
                    energies[:, n] += y.sum((0, 2)).view(G, 2).sum(1)
        wanted = (energies / (len(u) * LENGTH)).sqrt()
        torch.testing.assert_close(found[i].mode_shares, wanted)
        assert found[i].channels == 12
        assert found[i].solved == 0
    truncate(model, state_dims=2, calibration=Calibration(given), selective="activation")
    assert model.state_dims == [2, 2]
