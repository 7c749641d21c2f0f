"""Moments follow where a layer says so, and are refused where it says nothing."""

import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.reduction import truncate

from .networks import (
    Forgetful,
    OwnLayer,
    assert_untouched,
    nested,
    optimizer_of,
    snapshot,
    step,
    stepped,
    with_lru,
)

PAIRS = {"B": ("B_re", "B_im"), "C": ("C_re", "C_im")}


def test_moments_of_which_a_layer_says_nothing_are_not_dropped():
    """5 of 6 were gone, without a word."""
    torch.manual_seed(0)
    model = with_lru(OwnLayer())
    optimizer = stepped(model)
    before = snapshot(model, optimizer)
    said = "block 1: OwnLayer does not say what becomes of the moments of B, C, lam .*'reset'"
    with pytest.raises(ValueError, match=said):
        truncate(model, state_dims=[3, 4], optimizer=optimizer)
    assert_untouched(model, before, optimizer)
    truncate(model, state_dims=[3, 4], optimizer=optimizer, moments="reset")
    assert not any(optimizer.state.get(p) for p in model[1].parameters())
    stepped(model, optimizer)


def test_a_layer_may_say_that_its_moments_start_again():
    class Restarting(OwnLayer):
        restarts = ("lam", "B", "C")

    torch.manual_seed(0)
    model = with_lru(Restarting())
    optimizer = stepped(model)
    truncate(model, state_dims=[3, 4], optimizer=optimizer)
    assert not any(optimizer.state.get(p) for p in model[1].parameters())
    stepped(model, optimizer, steps=1)
    assert {float(optimizer.state[p]["step"]) for p in model[1].parameters()} == {1.0}


@pytest.mark.parametrize("method", ["balanced", "last"])
def test_a_parameter_that_came_with_a_subclass_is_not_passed_over(method):
    class Stepped(LRU):
        """Has a step size for each state, of which LRU knows nothing."""

        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.delta = nn.Parameter(torch.ones(sizes[1]))

        def assign(self, eigenvalues, B, C):
            super().assign(eigenvalues, B, C)
            self.delta = nn.Parameter(self.delta.new_ones(len(eigenvalues)))

    torch.manual_seed(0)
    model = nn.Sequential(Stepped(3, 6, 0.5, 0.95))
    optimizer = stepped(model)
    if method == "last":  # `keep_modes` leaves it alone, and so do the moments
        truncate(model, state_dims=4, optimizer=optimizer, method=method)
        assert float(optimizer.state[model[0].delta]["step"]) == 3.0
        return
    with pytest.raises(ValueError, match=r"block 0: Stepped does not say .* moments of delta"):
        truncate(model, state_dims=4, optimizer=optimizer)


class Plain(nn.Module):
    """B and C in parts, without a normalisation, changed in place."""

    transports = PAIRS
    restarts = ("lam_re", "lam_im")

    def __init__(self, n=6, width=3):
        super().__init__()
        lam = torch.polar(0.5 + 0.4 * torch.rand(n), 6.0 * torch.rand(n))
        # The two halves of one memory, as is natural to write.
        B = torch.view_as_real(torch.randn(n, width, dtype=torch.complex64))
        self.lam_re, self.lam_im = nn.Parameter(lam.real), nn.Parameter(lam.imag)
        self.B_re, self.B_im = nn.Parameter(B[..., 0]), nn.Parameter(B[..., 1])
        self.C_re, self.C_im = (nn.Parameter(torch.randn(width, n)) for _ in range(2))

    @property
    def state_dim(self):
        return len(self.lam_re)

    @torch.no_grad()
    def system(self):
        parts = ("lam", "B", "C")
        pairs = ((getattr(self, f"{p}_re"), getattr(self, f"{p}_im")) for p in parts)
        return tuple(torch.complex(re.double(), im.double()) for re, im in pairs)

    def assign(self, eigenvalues, B, C):
        for name, value in (("lam", eigenvalues), ("B", B), ("C", C)):
            getattr(self, f"{name}_re").data = value.real.float().contiguous()
            getattr(self, f"{name}_im").data = value.imag.float().contiguous()


def moment(optimizer, layer, part):
    held = [optimizer.state[getattr(layer, f"{part}_{half}")] for half in ("re", "im")]
    return torch.complex(*(one["exp_avg"].double() for one in held))


def test_parameters_that_change_in_place_take_their_moments_along():
    torch.manual_seed(0)
    model = nn.Sequential(Plain())
    optimizer = stepped(model)
    parameters = list(model.parameters())
    before = {part: moment(optimizer, model[0], part) for part in ("B", "C")}
    (t,) = truncate(model, state_dims=4, optimizer=optimizer)
    assert all(p is q for p, q in zip(parameters, optimizer.param_groups[0]["params"], strict=True))
    wanted = {"B": t.T.mH @ before["B"], "C": before["C"] @ t.W.mH}
    for part, value in wanted.items():
        torch.testing.assert_close(moment(optimizer, model[0], part), value, rtol=1e-5, atol=1e-6)
    assert not optimizer.state.get(model[0].lam_re)
    stepped(model, optimizer, steps=1)
    assert float(optimizer.state[model[0].B_re]["step"]) == 4.0


def test_a_refusal_takes_back_what_was_changed_in_place():
    torch.manual_seed(0)
    model = nn.Sequential(Plain(), Forgetful())
    optimizer = stepped(model)
    before = snapshot(model, optimizer)
    memory = [p.data_ptr() for p in model.parameters()]
    with pytest.raises(ValueError, match=r"block 1: Forgetful.assign was given 4 states"):
        truncate(model, state_dims=4, optimizer=optimizer, moments="reset")
    assert_untouched(model, before, optimizer)
    assert [p.data_ptr() for p in model.parameters()] == memory


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"transports": ("B_re",)}, "Plain.transports must map 'B' and 'C' to the names"),
        ({"transports": {"lam": PAIRS["B"]}}, "Plain.transports must map 'B' and 'C' to the names"),
        (
            {"transports": {"B": PAIRS["B"]}},
            "Plain does not say what becomes of the moments of C_im, C_re",
        ),
        (
            {"transports": {"B": PAIRS["C"], "C": PAIRS["B"]}},
            r"C_re must be \(N, H\) for B and \(H, N\) for C, not \(3, 6\)",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused(says, message, monkeypatch):
    for name, value in says.items():
        monkeypatch.setattr(Plain, name, value)
    torch.manual_seed(0)
    model = nn.Sequential(Plain())
    optimizer = stepped(model)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=4, optimizer=optimizer)
    assert_untouched(model, before, optimizer)


def test_half_of_a_pair_cannot_be_transported():
    """Where B_im is frozen, the moments of B_re were dropped without a word."""
    model = nested()
    model.last.B_im.requires_grad_(False)
    optimizer = optimizer_of(model)
    step(model, optimizer)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match="block 2: B_re has moments and its other half has none"):
        truncate(model, state_dims=3, optimizer=optimizer)
    assert_untouched(model, before, optimizer)


class Packed(nn.Module):
    """Real and imaginary parts of the eigenvalues one after the other."""

    def __init__(self, n=6, width=3):
        super().__init__()
        own = OwnLayer(n, width)
        self.parts = nn.Parameter(torch.cat([own.lam.real, own.lam.imag]).detach())
        self.B, self.C = own.B, own.C

    @property
    def state_dim(self):
        return len(self.parts) // 2

    @torch.no_grad()
    def system(self):
        return torch.complex(*self.parts.chunk(2)), self.B.detach(), self.C.detach()

    @torch.no_grad()
    def assign(self, eigenvalues, B, C):
        self.parts = nn.Parameter(torch.cat([eigenvalues.real, eigenvalues.imag]).float())
        self.B, self.C = (nn.Parameter(value.to(torch.complex64)) for value in (B, C))


def test_a_slice_is_along_the_axis_of_states_or_refused():
    torch.manual_seed(0)
    model = nn.Sequential(OwnLayer())
    optimizer = stepped(model)
    held = {n: optimizer.state[p]["exp_avg"].clone() for n, p in model[0].named_parameters()}
    truncate(model, state_dims=4, optimizer=optimizer, moments="slice")
    for name, axis in (("lam", 0), ("B", 0), ("C", 1)):
        now = optimizer.state[getattr(model[0], name)]["exp_avg"]
        assert torch.equal(now, held[name].narrow(axis, 0, 4))
    packed = nn.Sequential(Packed())
    optimizer = stepped(packed)
    before = snapshot(packed, optimizer)
    with pytest.raises(
        ValueError, match=r"parts went from shape \(12,\) to \(8,\), in which no axis"
    ):
        truncate(packed, state_dims=4, optimizer=optimizer, moments="slice")
    assert_untouched(packed, before, optimizer)


def test_what_was_frozen_stays_so():
    torch.manual_seed(0)
    model = nn.Sequential(OwnLayer())
    model[0].B.requires_grad_(False)
    truncate(model, state_dims=4)
    assert [p.requires_grad for p in (model[0].lam, model[0].B, model[0].C)] == [True, False, True]
