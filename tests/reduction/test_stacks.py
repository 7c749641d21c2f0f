"""Stacks of systems, each of its own order: against the systems one by one, and their equations."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from harness.reduction import (
    balanced_truncation,
    decompositions,
    energy_rank,
    gramians,
    hankel_nuclear_norm,
    layers,
    ranks,
    spectra,
    truncate,
)
from harness.reduction.stacks import unpadded
from tests.models.channel_layer import PARAMETERS, ChannelLayer

from .networks import OwnLayer, assert_untouched, snapshot, stepped
from .systems import transfer

TAU = 0.1
WIDTH, STATES = 5, 8


def stack(seed=0, double=True):
    """A block of five systems of eight states; the first ones put more into fewer of them."""
    torch.manual_seed(seed)
    model = nn.Sequential(ChannelLayer(WIDTH, STATES))
    weaker = torch.linspace(0.2, 1.0, WIDTH)[:, None] ** torch.arange(STATES)
    with torch.no_grad():
        model[0].C_re *= weaker
        model[0].C_im *= weaker
    return model.double() if double else model


def ragged(seed=0, double=True):
    """The same after a truncation by energy, whose orders differ."""
    model = stack(seed, double)
    truncate(model, tau=TAU)
    assert len(set(model[0].orders.tolist())) > 2
    return model


def systems(layer):
    """Its systems as separate ones without padding, (N_s,), (N_s, 1), (1, N_s) numpy."""
    given = unpadded(layer.system(), layer.orders.tolist())
    return [tuple(array.numpy() for array in system) for system in given]


def alone(system):
    """A single system as a layer of its own."""
    layer = OwnLayer(len(system[0]), 1)
    for name, value in zip(("lam", "B", "C"), system, strict=True):
        setattr(layer, name, nn.Parameter(torch.as_tensor(value)))
    return layer


GRID = np.exp(1j * np.linspace(0, 2 * np.pi, 512, endpoint=False))


def misses(full, reduced):
    """Per system the H-infinity distance on a grid that has the resonances in it."""
    found = []
    for one, two in zip(full, reduced, strict=True):
        z = np.concatenate([GRID, np.exp(1j * np.angle(one[0])), np.exp(1j * np.angle(two[0]))])
        found.append(abs(transfer(*one, z) - transfer(*two, z)).max())
    return found


@pytest.mark.parametrize("make", [stack, ragged])
def test_every_systems_gramians_solve_its_lyapunov_equations(make):
    (block,) = decompositions(make())
    for one in block.systems:
        A, B, C = one.eigenvalues.diag(), one.B, one.C
        P, Q = one.R @ one.R.mH, one.L @ one.L.mH
        assert torch.linalg.matrix_norm(P - A @ P @ A.mH - B @ B.mH) < 1e-12 * P.abs().max()
        assert torch.linalg.matrix_norm(Q - A.mH @ Q @ A - C.mH @ C) < 1e-12 * Q.abs().max()


def test_a_padded_stack_decomposes_as_its_systems_do_alone():
    model = ragged()
    (block,) = decompositions(model)
    assert block.order == tuple(model[0].orders.tolist())
    assert block.state_dim == model[0].state_dim == max(block.order)
    ((hsv, shares),) = spectra(model)
    ours = zip(hsv.split(block.order), shares.split(block.order), strict=True)
    for (sigma, share), (lam, B, C) in zip(ours, systems(model[0]), strict=True):
        P, Q = gramians(lam, B, C)
        wanted = np.sqrt(np.sort(np.linalg.eigvals(P @ Q).real.clip(0))[::-1])
        np.testing.assert_allclose(sigma, wanted, rtol=1e-5, atol=1e-6 * wanted[0])
        assert float(share.sum()) == pytest.approx(float(sigma.sum()))


def test_by_energy_every_system_gets_its_own_order_and_its_own_balanced_truncation():
    model = stack()
    full = systems(model[0])
    (found,) = truncate(model, tau=TAU)
    wanted = []
    for lam, B, C in full:
        hsv = balanced_truncation(lam, B, C, 1).hsv
        wanted.append(balanced_truncation(lam, B, C, energy_rank(hsv, TAU)))
    assert found.orders == tuple(one.order for one in wanted) == tuple(model[0].orders.tolist())
    assert found.order == model[0].state_dim == max(found.orders) < STATES
    assert len(set(found.orders)) > 1
    for (lam, B, C), one in zip(systems(model[0]), wanted, strict=True):
        for ours, theirs in zip((lam, B, C), (one.eigenvalues, one.B, one.C), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    total = sum(one.hsv.sum() for one in wanted)
    kept = sum(one.hsv[: one.order].sum() for one in wanted)
    assert found.energy_kept == pytest.approx(kept / total)


@pytest.mark.parametrize("method", ["balanced", "last", "aire", "modal"])
@pytest.mark.parametrize("how", [{"state_dims": 3}, {"state_dims": [[1, 2, 3, 4, 8]]}])
def test_the_bound_of_a_block_is_the_largest_of_its_systems(method, how):
    """Side by side, systems err apart: the norm of the block is that of the worst of them."""
    model = stack()
    full = systems(model[0])
    (t,) = truncate(model, method=method, **how)
    apart = misses(full, systems(model[0]))
    for miss, one in zip(apart, t.systems, strict=True):
        assert miss <= one.error_bound * (1 + 1e-9) + 1e-9
    assert t.error_bound == max(one.error_bound for one in t.systems)
    assert max(apart) <= t.error_bound
    assert max(apart) > 0.2 * t.error_bound  # a sum over systems would be far above


def test_a_ragged_stack_runs_as_the_list_of_its_systems():
    """In float64, output and gradient of every channel are those of a small system by itself."""
    model = ragged()
    layer = model[0]
    u = torch.randn(3, 40, WIDTH, dtype=torch.float64, requires_grad=True)
    y = layer(u)
    for s, (lam, B, C) in enumerate(systems(layer)):
        h, wanted = np.zeros((3, len(lam)), complex), []
        for k in range(40):
            h = lam * h + u[:, k, s, None].detach().numpy() * B[:, 0]
            wanted.append((h @ C[0]).real)
        wanted = np.stack(wanted, 1) + layer.D[s].item() * u[..., s].detach().numpy()
        np.testing.assert_allclose(y[..., s].detach(), wanted, rtol=1e-11, atol=1e-12)
    y.square().sum().backward()
    padding = layer.mask == 0
    assert bool(padding.any())
    for name in PARAMETERS[3:5]:
        assert not bool(getattr(layer, name).grad[padding].any())


def test_given_orders_are_at_most_those_that_a_system_has():
    model = ragged()
    before = model[0].orders.tolist()
    n = min(before) + 1
    (found,) = truncate(model, state_dims=n)
    assert found.orders == tuple(min(n, order) for order in before)
    assert model[0].state_dim == n


def test_systems_at_their_order_keep_their_basis():
    model = stack()
    full = systems(model[0])
    orders = [STATES, 3, STATES, 2, STATES]
    (found,) = truncate(model, state_dims=[orders])
    assert found.orders == tuple(orders)
    assert model[0].state_dim == STATES
    for s in (0, 2, 4):
        assert found.systems[s].error_bound == 0.0
        for ours, theirs in zip(systems(model[0])[s], full[s], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-13)


def test_nothing_happens_to_a_stack_at_its_ranks():
    model = ragged()
    optimizer = stepped(model, steps=1)
    before = snapshot(model, optimizer)
    assert truncate(model, tau=0.0, optimizer=optimizer) == []
    assert truncate(model, state_dims=model[0].state_dim, optimizer=optimizer) == []
    assert truncate(model, state_dims=[model[0].orders], optimizer=optimizer) == []
    assert_untouched(model, before, optimizer)


def test_a_channel_that_does_nothing_keeps_one_state_and_refuses_nobody():
    model = stack()
    with torch.no_grad():
        model[0].C_re[2] = model[0].C_im[2] = 0.0
    full = systems(model[0])
    (found,) = truncate(model, tau=TAU)
    assert found.orders[2] == 1
    assert max(misses(full, systems(model[0]))) <= found.error_bound
    for n in (1, 4):
        dead = stack()
        with torch.no_grad():
            dead[0].C_re.zero_(), dead[0].C_im.zero_()
        with pytest.raises(ValueError, match="block 0: the system is zero"):
            truncate(dead, state_dims=n)
        with pytest.raises(ValueError, match=r"block 0: .* sum to zero"):
            truncate(dead, tau=TAU)


def test_an_unusable_system_is_named_with_its_block():
    model = nn.Sequential(OwnLayer(), ChannelLayer(WIDTH, STATES))
    with torch.no_grad():
        model[1].nu_log[3, 1] = -60.0
    with pytest.raises(ValueError, match=r"block 1: system 3: every .eigenvalue. must be below 1"):
        truncate(model, tau=TAU)


@pytest.mark.parametrize(
    ("state_dims", "message"),
    [
        (9, "block 0: order must be from 1 to 8, not 9"),
        ([[1, 2]], "block 0: 2 orders for a stack of 5 systems"),
        ([[1, 2, 3, 9, 1]], "block 0: system 3: order must be from 1 to 8, not 9"),
        ([[1, 2, 3, 0, 1]], "block 0: system 3: order must be from 1 to 8, not 0"),
    ],
)
def test_orders_that_cannot_be_are_refused(state_dims, message):
    model = stack()
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=state_dims)
    assert_untouched(model, before)


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        (None, r"eigenvalues of shape \(5, 8\), and no `orders`"),
        ([8, 8, 8], "`orders` must be 5 numbers from 1 to 8, the largest 8"),
        ([8, 0, 8, 8, 8], "`orders` must be 5 numbers from 1 to 8, the largest 8"),
        ([7, 7, 7, 7, 7], "`orders` must be 5 numbers from 1 to 8, the largest 8"),
    ],
)
def test_a_stack_must_say_its_orders(orders, message):
    model = stack()
    given = model[0].system()
    model[0].system = lambda: given
    model[0].orders = None if orders is None else torch.tensor(orders)
    with pytest.raises(ValueError, match="block 0: .*" + message):
        decompositions(model)


# --- ranks ----------------------------------------------------------------------------------------


def separate(model):
    """The systems of a stack as so many blocks of one system."""
    return nn.Sequential(*map(alone, systems(model[0])))


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("method", ["balanced", "last", "aire", "modal", "random"])
@pytest.mark.parametrize("size", [{"tau": TAU}, {"mean_dim": 3.5}], ids=["tau", "mean_dim"])
def test_a_systems_rank_is_that_of_a_block_by_itself(method, scope, size):
    if "tau" in size and method in ("modal", "random"):
        return
    model = stack()
    each = ranks(
        decompositions(separate(model)), method=method, scope=scope, **size,
        generator=np.random.default_rng(3),
    )  # fmt: skip
    (together,) = ranks(
        decompositions(model), method=method, scope=scope, **size,
        generator=np.random.default_rng(3),
    )  # fmt: skip
    assert together == tuple(each)


def test_a_stack_and_a_single_system_share_one_budget():
    torch.manual_seed(1)
    model = nn.Sequential(OwnLayer(7, 3), ChannelLayer(4, 6)).double()
    one, many = ranks(decompositions(model), scope="global", mean_dim=2.0)
    assert isinstance(one, int)
    assert len(many) == 4
    assert one + sum(many) <= 2 * 5
    with pytest.raises(ValueError, match="mean_dim 7 is a budget larger than the model"):
        ranks(decompositions(model), scope="global", mean_dim=7.0)


# --- moments --------------------------------------------------------------------------------------


def held(layer, optimizer):
    return {
        name: {k: v.clone() for k, v in optimizer.state[p].items()}
        for name, p in layer.named_parameters()
        if optimizer.state.get(p)
    }


def test_moments_follow_the_adjoint_of_every_systems_change_of_basis():
    """<m_B, dB_full> = <m_B', dB_reduced> for every direction, in the raw parameters, and for C."""
    model = stack()
    optimizer = stepped(model)
    before, gamma = held(model[0], optimizer), model[0].gamma_log.detach().exp()
    (t,) = truncate(model, tau=TAU, optimizer=optimizer)
    after, gamma_new = held(model[0], optimizer), model[0].gamma_log.detach().exp()
    g = torch.Generator().manual_seed(3)
    for s, one in enumerate(t.systems):
        n, r = one.T.shape
        dB, dC = (torch.randn(r, 2, generator=g, dtype=torch.float64) for _ in range(2))
        dB, dC = (torch.view_as_complex(d) for d in (dB, dC))
        full_B = one.T @ (gamma_new[s, :r] * dB) / gamma[s, :n]
        full_C = dC @ one.W
        for part, full, reduced in (("B", full_B, dB), ("C", full_C, dC)):
            old, new = (
                torch.complex(m[f"{part}_re"]["exp_avg"][s], m[f"{part}_im"]["exp_avg"][s])
                for m in (before, after)
            )
            inner = (old[:n].conj() * full).sum().real, (new[:r].conj() * reduced).sum().real
            assert float(inner[0]) == pytest.approx(float(inner[1]), rel=1e-9)
            assert not bool(new[r:].any())
    assert set(after) == {"B_re", "B_im", "C_re", "C_im", "D"}


class Groups(nn.Module):
    """Three systems of two inputs and two outputs, B scaled as by a zero-order hold; C is kept as
    it stands in `system`, (S, O, N), or `turned`, (S, N, O)."""

    transports: ClassVar = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}
    restarts = ("lam_re", "lam_im")

    def __init__(self, turned=False):
        super().__init__()
        self.turned, self.orders = turned, torch.full((3,), 6)
        lam = torch.polar(torch.rand(3, 6) * 0.4 + 0.5, 6.0 * torch.rand(3, 6)).to(torch.complex128)
        B, C = torch.randn(2, 3, 6, 2, dtype=torch.complex128)
        self.put(lam, B, C.mT)

    def put(self, lam, raw, C):
        for name, value in (("lam", lam), ("B", raw), ("C", C.mT if self.turned else C)):
            setattr(self, f"{name}_re", nn.Parameter(value.real.contiguous()))
            setattr(self, f"{name}_im", nn.Parameter(value.imag.contiguous()))

    def part(self, name):
        return torch.complex(*(getattr(self, f"{name}_{half}").detach() for half in ("re", "im")))

    @property
    def state_dim(self):
        return self.lam_re.shape[1]

    def input_scale(self):
        return zero_order_hold(self.part("lam"))

    def system(self):
        there = torch.arange(self.state_dim) < self.orders[:, None]
        B = self.part("B") * torch.where(there, self.input_scale(), 0.0)[..., None]
        return self.part("lam"), B, self.part("C").mT if self.turned else self.part("C")

    def assign(self, lam, B, C, orders):
        self.orders = orders
        lam = torch.where(lam == 0.0, 0.5, lam)
        self.put(lam, B / zero_order_hold(lam)[..., None], C)


def zero_order_hold(lam):
    """What B is multiplied by, up to the step size, where lam = exp(step * A)."""
    return (lam - 1.0) / lam.log()


def test_systems_of_several_inputs_and_a_complex_scale_carry_their_moments():
    """The adjoint as above: raw B_full = T (scale' B_reduced) / scale."""
    torch.manual_seed(0)
    model = nn.Sequential(Groups())
    optimizer = stepped(model)
    before, scale = held(model[0], optimizer), model[0].input_scale()
    (t,) = truncate(model, state_dims=[[2, 4, 3]], optimizer=optimizer)
    after, scale_new = held(model[0], optimizer), model[0].input_scale()
    assert t.orders == (2, 4, 3)
    for s, one in enumerate(t.systems):
        r = one.order
        dB = torch.randn(r, 2, dtype=torch.complex128)
        dC = torch.randn(2, r, dtype=torch.complex128)
        full_B = one.T @ (scale_new[s, :r, None] * dB) / scale[s, :, None]
        for part, full, reduced in (("B", full_B, dB), ("C", dC @ one.W, dC)):
            old, new = (
                torch.complex(m[f"{part}_re"]["exp_avg"][s], m[f"{part}_im"]["exp_avg"][s])
                for m in (before, after)
            )
            new = new[:r] if part == "B" else new[:, :r]
            inner = (old.conj() * full).sum().real, (new.conj() * reduced).sum().real
            assert inner[0].item() == pytest.approx(inner[1].item(), rel=1e-9)


def test_a_layout_that_is_none_is_refused():
    torch.manual_seed(0)
    model = nn.Sequential(Groups(turned=True))
    optimizer = stepped(model)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=r"block 0: C_re must be .* or \(S, N\), not \(3, 6, 2\)"):
        truncate(model, state_dims=3, optimizer=optimizer)
    assert_untouched(model, before, optimizer)


def test_second_moments_follow_the_squared_adjoint():
    model = stack()
    optimizer = stepped(model)
    before, gamma = held(model[0], optimizer), model[0].gamma_log.detach().exp()
    (t,) = truncate(model, tau=TAU, optimizer=optimizer)
    after, gamma_new = held(model[0], optimizer), model[0].gamma_log.detach().exp()
    for s, one in enumerate(t.systems):
        n, r = one.T.shape
        M = gamma_new[s, :r, None] * one.T.mH / gamma[s, None, :n]
        real = torch.cat([torch.cat([M.real, -M.imag], 1), torch.cat([M.imag, M.real], 1)])
        v = torch.cat([before[name]["exp_avg_sq"][s, :n] for name in ("B_re", "B_im")])
        wanted = real.square() @ v
        ours = torch.cat([after[name]["exp_avg_sq"][s, :r] for name in ("B_re", "B_im")])
        torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=0)


def test_moments_of_selected_modes_are_entries_of_the_old_ones():
    model = stack()
    optimizer = stepped(model)
    before = held(model[0], optimizer)
    values = {name: p.detach().clone() for name, p in model[0].named_parameters()}
    orders = [2, 8, 3, 1, 4]
    (t,) = truncate(model, state_dims=[orders], method="last", optimizer=optimizer)
    after = held(model[0], optimizer)
    for s, n in enumerate(orders):
        modes = t.systems[s].modes
        for name in PARAMETERS:
            now = getattr(model[0], name).detach()[s]
            assert torch.equal(now[:n], values[name][s, modes])
            for key in ("exp_avg", "exp_avg_sq"):
                assert torch.equal(after[name][key][s, :n], before[name][key][s, modes])
                assert not bool(after[name][key][s, n:].any())
            assert float(after[name]["step"]) == 3.0


@pytest.mark.parametrize("orders", [[2, 3, 3, 1, 2], [8, 3, 3, 1, 2]])
def test_sliced_moments_are_the_leading_ones(orders):
    model = stack()
    optimizer = stepped(model)
    before = held(model[0], optimizer)
    truncate(model, state_dims=[orders], moments="slice", optimizer=optimizer)
    after = held(model[0], optimizer)
    for name in PARAMETERS:
        for s, n in enumerate(orders):
            got = after[name]["exp_avg"][s]
            assert torch.equal(got[:n], before[name]["exp_avg"][s, :n])
            assert not bool(got[n:].any())


def test_what_follows_a_truncation_trains_as_separate_systems_do():
    """Ten steps of AdamW after a ragged truncation: the padding stays what it is, and zero."""
    model = stack()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    truncate(model, tau=TAU, optimizer=optimizer)
    layer = model[0]
    padding = layer.mask == 0
    for k in range(10):
        x = torch.randn(4, 16, WIDTH, generator=torch.Generator().manual_seed(k)).double()
        (model(x) - 1.0).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not bool(layer.system()[1][..., 0][padding].any())
    assert truncate(model, tau=0.0) == []


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["exact", "adjoint", "modal"])
def test_the_nuclear_norm_of_a_stack_is_the_mean_over_its_states(method):
    model = ragged()
    norm = hankel_nuclear_norm(model, method)
    apart = [alone(system) for system in systems(model[0])]
    for layer in apart:
        layer.trainable_system = lambda layer=layer: (layer.lam, layer.B, layer.C)
    wanted = sum(hankel_nuclear_norm([one], method) * one.state_dim for one in apart)
    states = sum(one.state_dim for one in apart)
    assert norm.item() == pytest.approx(wanted.item() / states, rel=1e-9)
    norm.backward()
    wanted.backward()
    lam = model[0].system()[0]
    for s, one in enumerate(apart):
        # Through lambda = exp(-nu + i theta), the gradient by nu_log is -nu Re(conj(g) lambda).
        n, nu = one.state_dim, model[0].nu_log[s].exp()
        through = -(nu[:n] * (one.lam.grad.conj() * lam[s, :n]).real) / states
        torch.testing.assert_close(
            model[0].nu_log.grad[s, :n], through.detach(), rtol=1e-6, atol=1e-9
        )
        assert not bool(model[0].C_re.grad[s, n:].any())


def test_layers_are_found_in_any_model():
    assert [one.state_dim for one in layers(stack())] == [STATES]


def test_orders_that_a_layer_did_not_take_are_refused():
    class Deaf(ChannelLayer):
        def assign(self, eigenvalues, B, C, orders):
            super().assign(eigenvalues, B, C, torch.full_like(orders, eigenvalues.shape[1]))

    torch.manual_seed(0)
    model = nn.Sequential(Deaf(WIDTH, STATES))
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"block 0: Deaf.assign was given orders that the layer"):
        truncate(model, state_dims=[[1, 2, 3, 1, 1]])
    assert_untouched(model, before)
    assert model[0].orders.tolist() == [STATES] * WIDTH


@pytest.mark.parametrize("keep", ["smallest", "random"])
def test_ablations_work_on_every_system(keep):
    model = stack()
    full = systems(model[0])
    (t,) = truncate(model, state_dims=3, keep=keep, generator=np.random.default_rng(0))
    for miss, one in zip(misses(full, systems(model[0])), t.systems, strict=True):
        assert miss <= one.error_bound * (1 + 1e-9) + 1e-9
    assert t.order == 3


def test_singular_perturbation_needs_a_layer_that_takes_a_gain():
    model = stack()
    with pytest.raises(
        ValueError, match=r"block 0: .* needs a static gain, and ChannelLayer has no"
    ):
        truncate(model, state_dims=3, method="singular_perturbation")
