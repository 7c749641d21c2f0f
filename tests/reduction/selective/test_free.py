"""Balancing what stands in for a selective layer, in a free basis: the equations, by other ways."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.models import build
from harness.models.description import describe, rebuild
from harness.reduction import (
    Calibration,
    StandIn,
    UnusableSystem,
    balanced_truncation,
    selective_decompositions,
    truncate,
)
from harness.reduction.selective.curve import DecaySums
from harness.reduction.selective.shares import factors
from harness.suite import ModelSpec, TrainingSpec
from harness.tasks import TaskInfo
from harness.training.step.optimizer import make_optimizer

H, N, LENGTH = 4, 6, 24
INFO = TaskInfo("classification", outputs=3, length=LENGTH, inputs=2)
KINDS = {
    "mamba": {"kind": "mamba"},
    "mamba2": {"kind": "mamba2", "expand": 3, "head_dim": 3, "groups": 2},
}
METHODS = (("mamba", "mean_lti"), ("mamba", "second_moment"), ("mamba2", "second_moment"))


def model_of(kind="mamba", seed=0, **fields):
    torch.manual_seed(seed)
    options = {"width": H, "state_dim": N, "basis": "free", **KINDS[kind], **fields}
    return build(ModelSpec(**options), INFO).double().eval()


def batches(count=6, size=5, seed=1):
    numbers = torch.Generator().manual_seed(seed)
    return [torch.randn(size, LENGTH, 2, dtype=torch.float64, generator=numbers)
            for _ in range(count)]  # fmt: skip


@torch.no_grad()
def heard(model, given):
    """What each block's layer hears on these batches, (examples, length, H)."""
    found = [[] for _ in model.blocks]
    hooks = [block.ssm.register_forward_hook(lambda layer, u, y, i=i: found[i].append(u[0]))
             for i, block in enumerate(model.blocks)]  # fmt: skip
    for x in given:
        model(x)
    for hook in hooks:
        hook.remove()
    return [torch.cat(one) for one in found]


def decomposed(model, how, given):
    layers = dict(enumerate(model.layers))
    return selective_decompositions(model, layers, how, Calibration(given))


@torch.no_grad()
def moments(layer, u):
    """Of all steps: dt, B and C as the states of each channel see them, (steps, D, N)."""
    chosen = layer.selection(u)
    B, C = (one.flatten(0, 1).expand(-1, len(layer.rates), -1) for one in chosen.of_channels())
    return chosen.dt.flatten(0, 1), B, C


@pytest.mark.parametrize("how", ["mean_lti", "second_moment"])
def test_hankel_singular_values_by_another_solver_before_and_after_a_truncation(how):
    model, given = model_of(), batches()
    for _ in range(2):
        found = decomposed(model, how, given)
        for i, (layer, u) in enumerate(zip(model.layers, heard(model, given), strict=True)):
            dt, B, C = moments(layer, u)
            for d, n in enumerate(layer.orders.tolist()):
                decay = torch.exp(dt[:, d, None] * layer.rates[d, :n].detach()).mean(0)
                b, c = B[:, d, :n], C[:, d, :n]
                if how == "mean_lti":
                    b, c = (dt[:, d, None] * b).mean(0)[None], c.mean(0)[None]
                    BB, CC = b.mT @ b, c.mT @ c
                else:
                    BB = dt[:, d].square().mean() * (b.mT @ b) / len(b)
                    CC = c.mT @ c / len(c)
                A = np.diag(decay.numpy())
                P, Q = (scipy.linalg.solve_discrete_lyapunov(A, one.numpy()) for one in (BB, CC))
                wanted = np.sqrt(np.linalg.eigvals(P @ Q).real.clip(0))
                wanted = torch.from_numpy(np.sort(wanted)[::-1].copy())
                hsv = found[i].systems[d].hsv
                torch.testing.assert_close(hsv, wanted, rtol=0, atol=1e-7 * float(hsv[0]))
        truncate(model, state_dims=4, calibration=given, selective=how)


def test_those_of_a_group_are_of_its_moments_and_weigh_its_heads():
    model, given = model_of("mamba2"), batches()
    found = decomposed(model, "second_moment", given)
    for i, (layer, u) in enumerate(zip(model.layers, heard(model, given), strict=True)):
        with torch.no_grad():
            _, dt, B, C = (one.flatten(0, 1) for one in layer.selection(u))
            decay = torch.exp(dt * layer.rates).mean(0)
            weights = 3 * dt.square().mean(0).sqrt() / (1 - decay.square())  # 3 channels a head
        for g in range(2):
            product = (B[:, g].mT @ B[:, g]) @ (C[:, g].mT @ C[:, g]) / len(dt) ** 2
            values = torch.linalg.eigvals(product).real.clamp_min(0.0).sqrt()
            wanted = weights.view(2, -1)[g].sum() * values.sort(descending=True).values
            hsv = found[i].systems[g].hsv
            torch.testing.assert_close(hsv, wanted, rtol=0, atol=1e-7 * float(hsv[0]))


def test_the_mean_system_is_met_by_the_reduced_one_and_by_the_rates_that_run_it():
    model, given = model_of(), batches()
    before = [moments(layer, u) for layer, u in zip(model.layers, heard(model, given), strict=True)]
    rates = [layer.rates.detach().clone() for layer in model.layers]
    done = truncate(model, state_dims=2, calibration=Calibration(given), selective="mean_lti")
    for i, one in enumerate(done):
        dt, B, C = before[i]
        new = model.layers[i].rates.detach()
        for d, system in enumerate(one.systems):
            lam = torch.exp(dt[:, d, None] * rates[i][d]).mean(0)
            b, c = (dt[:, d, None] * B[:, d]).mean(0), C[:, d].mean(0)
            wanted = balanced_truncation(
                *(a.to(torch.complex128) for a in (lam, b[:, None], c[None])), 2
            )
            poles = wanted.eigenvalues
            assert system.poles_moved is None  # or the case is another than this test's
            assert float(poles.imag.abs().max()) < 1e-12
            steps = torch.arange(40, dtype=torch.float64)[:, None]
            impulse = ((wanted.C[0] * wanted.B[:, 0]) * poles**steps).sum(-1).real
            ours = ((system.C[0] * system.B[:, 0]) * system.eigenvalues**steps).sum(-1)
            torch.testing.assert_close(ours, impulse, rtol=0, atol=1e-8 * float(impulse.abs()[0]))
            met = torch.exp(dt[:, d, None] * new[d]).mean(0)
            torch.testing.assert_close(met, system.eigenvalues, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "how"), METHODS)
def test_what_is_not_there_goes_without_a_trace(kind, how):
    """Three states stand twice, in B, C and A: half of them say all."""
    model, given = model_of(kind), batches()
    with torch.no_grad():
        for layer in model.layers:
            axis = 0 if kind == "mamba" else 1
            names = ("B_proj", "C_proj") if kind == "mamba" else layer.of_states
            for name in names:
                p = layer.get_parameter(name)
                half = p.narrow(axis, 0, 3)
                p.copy_(torch.cat([half, half], axis))
            if kind == "mamba":
                layer.A_log[:, 3:] = layer.A_log[:, :3]
        before = model(given[0])
        done = truncate(model, state_dims=3, calibration=Calibration(given, given), selective=how)
        # For the mean system of a channel alone, the others need not go without a trace.
        close = 2e-2 if how == "mean_lti" else 1e-4
        torch.testing.assert_close(model(given[0]), before, rtol=0, atol=close)
    assert model.state_dims == [3, 3]
    if how == "second_moment":
        assert all(one.output_error < 1e-3 for one in done)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_two_changes_of_basis_are_their_product(kind):
    numbers = torch.Generator().manual_seed(2)
    once, twice = (model_of(kind).layers[0] for _ in range(2))
    S, u = len(once.orders), torch.randn(2, LENGTH, H, dtype=torch.float64)

    def drawn(*shape):
        return torch.randn(S, *shape, dtype=torch.float64, generator=numbers)

    W1, T1, W2, T2 = drawn(4, N), drawn(N, 4), drawn(3, 4), drawn(4, 3)
    rates = [-drawn(n).abs() for n in (4, 3)] if kind == "mamba" else [None, None]
    orders = [torch.full((S,), n) for n in (4, 3)]

    def project(layer, W, T, stage):
        layer.project(W, T, orders[stage], *([rates[stage]] if kind == "mamba" else []))

    project(once, W2 @ W1, T1 @ T2, 1)
    project(twice, W1, T1, 0)
    project(twice, W2, T2, 1)
    torch.testing.assert_close(twice(u), once(u), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kind", "how"), METHODS)
@torch.no_grad()
def test_steps_are_forward_after_truncations_and_storing_keeps_it(kind, how):
    model, given = model_of(kind), batches()
    model.float()
    for dims in (4, 2):
        given_float = [one.float() for one in given]
        truncate(model, state_dims=dims, calibration=given_float, selective=how)
        y, state = model(given_float[0]), model.initial_state(5)
        for x in given_float[0].unbind(1):
            step, state = model.step(x, state)
        torch.testing.assert_close(step, y, rtol=1e-4, atol=1e-5)
        again = rebuild(describe(model), model.state_dict())
        assert again.state_dims == [dims, dims]
        assert torch.equal(again(given_float[0]), y)
        again.resize([N, N])  # as where a model goes back to before its truncations
        assert all(layer.B_map is None for layer in again.layers)


def test_the_scan_with_maps_is_the_recurrence_and_so_are_its_gradients(monkeypatch):
    from harness.models.scans.selective import mapped

    torch.manual_seed(0)
    D, n, M, batch, length = 5, 3, 4, 2, 9
    given = [torch.randn(batch, length, D), torch.rand(batch, length, D), -torch.rand(D, n) - 0.1,
             torch.randn(batch, length, M), torch.randn(batch, length, M),
             torch.randn(D, n, M), torch.randn(D, n, M)]  # fmt: skip
    given = [one.double().requires_grad_(True) for one in given]

    def plain(x, dt, A, B, C, B_map, C_map):
        h, outputs = torch.zeros(batch, D, n, dtype=torch.float64), []
        for t in range(length):
            drive = torch.einsum("dnm,bm->bdn", B_map, B[:, t])
            h = torch.exp(dt[:, t, :, None] * A) * h + (dt * x)[:, t, :, None] * drive
            outputs.append((h * torch.einsum("dnm,bm->bdn", C_map, C[:, t])).sum(-1))
        return torch.stack(outputs, 1)

    weight = torch.randn(batch, length, D, dtype=torch.float64)
    wanted = plain(*given)
    gradients = torch.autograd.grad((wanted * weight).sum(), given)
    for numbers, backend in itertools.product((2**22, 100), ("reference", "parallel", "scan")):
        monkeypatch.setattr(mapped, "NUMBERS", numbers)  # all channels at once, or two at a time
        found = mapped.mapped_scan(*given, backend)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
        ours = torch.autograd.grad((found * weight).sum(), given)
        for one, two in zip(ours, gradients, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_flops_count_the_maps(kind):
    model, given = model_of(kind, backend="reference"), batches()
    layer, spec, u = model.layers[0], model.spec, torch.randn(1, 16, H, dtype=torch.float64)
    channels = spec.channels
    per_state = 6 * channels if kind == "mamba" else 5 * channels
    for r in (N, 3):
        if r < N:
            truncate(model, state_dims=r, calibration=given, selective="second_moment")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            layer(u)
        elementwise = per_state * r + 2 * spec.conv * channels
        if kind == "mamba":
            elementwise += 4 * channels
        else:  # B and C of two groups are convolved, too, all N features
            elementwise += 2 * spec.conv * 4 * N + 8 * channels + spec.heads
        assert counter.get_total_flops() == 16 * (spec.layer_flops(r) - elementwise)


def stand_in(lam, b, c):
    """With the curve of a dt that is always 1: a decay p has the rate log p."""
    rates = lam.log()[None]
    sums = DecaySums(rates)
    sums.add(torch.ones(1, 1))
    R, L, U, hsv, Vh = (one[0] for one in factors(1 - lam[None], b[None], c[None]))
    hsv = torch.nn.functional.pad(hsv, (0, len(lam) - len(hsv)))
    system = lam, b[:, None], c[None]
    return StandIn(*system, R, L, U, hsv, Vh, rates[0], sums.curves()[0])


def test_complex_poles_give_way_to_real_ones_of_the_same_subspace():
    lam = torch.tensor([0.95, 0.9, 0.7, 0.5, 0.3], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0, 3.0, -1.0, 1.0], dtype=torch.float64)
    one, moved = stand_in(lam, b, torch.ones(5, dtype=torch.float64)), []
    Q = 1.0 / (1.0 - lam[:, None] * lam)  # C is ones
    for order in (1, 2, 3, 4):
        found = one.reduced(order, "balanced", None)
        system = (a.to(torch.complex128) for a in (lam, b[:, None], one.C))
        exact = balanced_truncation(*system, order)
        identity = torch.eye(order, dtype=torch.float64)
        torch.testing.assert_close(found.W @ found.T, identity, rtol=0, atol=1e-9)
        # A stays diagonal, the poles have their rates, and the range is that of balancing.
        A = found.W @ (lam[:, None] * found.T)
        torch.testing.assert_close(A, torch.diag(found.eigenvalues), rtol=0, atol=1e-8)
        torch.testing.assert_close(found.rates.exp(), found.eigenvalues, rtol=0, atol=1e-6)
        both = torch.cat([found.T.to(exact.T), exact.T], 1)
        assert int(torch.linalg.matrix_rank(both, rtol=1e-9)) == order
        moved.append(found.poles_moved)
        if found.poles_moved is None:
            steps = torch.arange(60, dtype=torch.float64)[:, None]
            wanted = ((exact.C[0] * exact.B[:, 0]) * exact.eigenvalues**steps).sum(-1).real
            ours = ((found.C[0] * found.B[:, 0]) * found.eigenvalues**steps).sum(-1)
            torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-9)
        else:
            assert float(exact.eigenvalues.imag.abs().max()) > 1e-3
            assert 0.3 <= float(found.eigenvalues.min()) <= float(found.eigenvalues.max()) <= 0.95
            # Orthogonal in the metric diag(Q): what is projected away sees nothing of the range.
            along = (torch.eye(5, dtype=torch.float64) - found.T @ found.W).mT
            seen = along @ torch.diag(Q.diagonal()) @ found.T
            torch.testing.assert_close(seen, torch.zeros_like(seen), rtol=0, atol=1e-8)
    assert moved[0] is None
    assert any(moved)  # or no pole was complex


def test_rates_have_the_decays_asked_for():
    numbers = torch.Generator().manual_seed(0)
    dt = torch.rand(4000, 3, generator=numbers, dtype=torch.float64).square() * 0.2
    rates = -torch.arange(1.0, 17.0, dtype=torch.float64).repeat(3, 1)
    sums = DecaySums(rates)
    sums.add(dt)
    wanted = torch.tensor([0.998, 0.99, 0.7, 0.3, 0.15], dtype=torch.float64)
    for d, curve in enumerate(sums.curves()):
        found, near = curve.rates(wanted)
        assert torch.equal(near, wanted)
        met = torch.exp(dt[:, d, None] * found).mean(0)
        torch.testing.assert_close(met, wanted, rtol=0, atol=2e-5)
        _, near = curve.rates(torch.tensor([1.2, -0.3], dtype=torch.float64))
        assert curve.lowest == float(near[1]) < float(near[0]) == curve.highest < 1.0


@pytest.mark.parametrize(("kind", "how"), METHODS)
@pytest.mark.parametrize("moments_are", ["transport", "slice", "reset"])
def test_of_all_moments_only_those_of_the_rates_change(kind, how, moments_are):
    model, given = model_of(kind), batches()
    optimizer = make_optimizer(model, TrainingSpec(steps=10, lr=0.01))
    for _ in range(3):
        model(given[0]).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    before = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    truncate(model, state_dims=3, calibration=given, selective=how, optimizer=optimizer,
             moments=moments_are)  # fmt: skip
    for name, p in model.named_parameters():
        held = optimizer.state.get(p, {}).get("exp_avg")
        if kind == "mamba" and name.endswith("A_log"):
            if moments_are == "slice":
                assert torch.equal(held, before[name][:, :3])
            else:
                assert held is None
        else:
            assert torch.equal(held, before[name])
    model(given[0]).square().sum().backward()
    optimizer.step()


def test_channels_may_have_orders_of_their_own_and_padding_stays_padding():
    model, given = model_of(), batches()
    (asked,) = {tuple(range(1, 9))}  # of the eight channels, of which two have more than they have
    asked = tuple(min(n, N) for n in asked)
    truncate(model, state_dims=[asked, 2], calibration=given, selective="second_moment")
    layer = model.layers[0]
    assert tuple(layer.orders.tolist()) == asked
    assert layer.state_dim == N
    for maps in (layer.B_map, layer.C_map):
        for d, n in enumerate(asked):
            assert not maps[d, n:].any()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(given[0]).square().sum().backward()
    optimizer.step()
    y = model(given[0])
    with torch.no_grad():
        for d, n in enumerate(asked):
            layer.A_log[d, n:] = 0.5
    torch.testing.assert_close(model(given[0]), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "how"), METHODS)
@pytest.mark.parametrize(
    ("bias", "message"),
    [(-1e4, "block 1: a (state|head) never decays on"), (float("nan"), "block 1: the means over")],
)
def test_steps_that_are_zero_or_no_numbers_are_refused_by_their_block(kind, how, bias, message):
    model = model_of(kind)
    with torch.no_grad():
        model.layers[1].get_parameter("dt_bias").fill_(bias)
    with pytest.raises(UnusableSystem, match=message):
        truncate(model, state_dims=2, calibration=batches(), selective=how)
    assert model.state_dims == [N, N]


@pytest.mark.parametrize(
    ("kind", "basis", "how", "message"),
    [
        ("mamba", "free", "mean_modes", "block 0: selective mean_modes does not go with the"),
        ("mamba", "free", "activation", "choose mean_lti or second_moment, or the other basis"),
        ("mamba", "own", "mean_lti", "basis own, in which a truncation removes states as they are"),
        ("mamba2", "free", "mean_lti", "would keep one state of a layer with heads"),
    ],
)
def test_what_a_basis_has_no_use_for_is_refused(kind, basis, how, message):
    model = model_of(kind, basis=basis)
    with pytest.raises(ValueError, match=message) as refused:
        truncate(model, state_dims=2, calibration=batches(), selective=how)
    assert "\n" not in str(refused.value)
    assert model.state_dims == [N, N]


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_in_a_free_basis_keeps_no_states_as_they_are(kind):
    layer = model_of(kind).blocks[0].ssm
    with pytest.raises(ValueError, match="in a free basis keeps no states as they are"):
        layer.keep_modes(torch.tensor([0, 1]))
    assert layer.state_dim == N
