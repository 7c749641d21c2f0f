"""A layer takes what it is given and its optimizer follows, or all is as it was."""

import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.reduction import decompositions, truncate

from .networks import OwnLayer, assert_untouched, dims, nested, optimizer_of, snapshot, step

CARRIED = ("B_re", "B_im", "C_re", "C_im")


def stepped(model, optimizer=None, steps=3):
    """Moments for every parameter, made by gradients of random numbers."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-3)
    torch.manual_seed(5)
    for _ in range(steps):
        for p in model.parameters():
            p.grad = torch.randn_like(p) if p.requires_grad else None
        optimizer.step()
    optimizer.zero_grad()
    return optimizer


class Forgetful(OwnLayer):
    """`assign` does nothing."""

    def assign(self, eigenvalues, B, C):
        pass


class Sized(OwnLayer):
    """Takes the eigenvalues and leaves B as it was."""

    def assign(self, eigenvalues, B, C):
        self.lam = nn.Parameter(eigenvalues.to(torch.complex64))
        self.C = nn.Parameter(C.to(torch.complex64))


class Negative(OwnLayer):
    """Has another C than it was given."""

    def assign(self, eigenvalues, B, C):
        super().assign(eigenvalues, B, -C)


class Reordered(OwnLayer):
    """The same transfer function, with its states in another order than T and W have them."""

    def assign(self, eigenvalues, B, C):
        super().assign(eigenvalues.flip(0), B.flip(0), C.flip(1))


class Overflowing(OwnLayer):
    def assign(self, eigenvalues, B, C):
        super().assign(eigenvalues, B / 1e-45, C)


class Stumbling(OwnLayer):
    """Fails when half is done, in place at that."""

    def assign(self, eigenvalues, B, C):
        self.C.data = C.to(torch.complex64)
        self.lam = nn.Parameter(eigenvalues.to(torch.complex64))
        self.note = "half"
        with torch.no_grad():
            self.B.mul_(2.0)
        raise RuntimeError("no memory left")


class Lying(OwnLayer):
    """Is told how many states it has."""

    @property
    def state_dim(self):
        return 6


class Renaming(OwnLayer):
    def assign(self, eigenvalues, B, C):
        super().assign(eigenvalues, B, C)
        self.extra = nn.Parameter(torch.zeros(2))


class Unmoved(LRU):
    """`keep_modes` keeps the first ones, whichever are asked for."""

    def keep_modes(self, modes):
        super().keep_modes(torch.arange(len(modes)))


class Deaf(LRU):
    """`add_gain` adds nothing."""

    def add_gain(self, gain):
        super().add_gain(0 * gain)


def with_lru(layer):
    """A model in which a layer of ours changes before that one does."""
    return nn.Sequential(LRU(3, 7, 0.5, 0.95), layer)


@pytest.mark.parametrize("moments", ["transport", "reset", "slice"])
@pytest.mark.parametrize(
    ("kind", "kind_of_error", "message"),
    [
        (Forgetful, ValueError, "Forgetful.assign was given 4 states, and state_dim is 6 after"),
        (Sized, ValueError, "Sized.assign was given B of shape .4, 3., and system.. has them of"),
        (Negative, ValueError, "Negative.assign was given C that system.. misses by"),
        (Reordered, ValueError, "Reordered.assign was given eigenvalues that system.. misses by"),
        (Overflowing, ValueError, "Overflowing.assign was given B that system.. misses by nan"),
        (Stumbling, RuntimeError, "no memory left"),
        (Lying, ValueError, "Lying.assign was given 4 states, and state_dim is 6"),
        (Renaming, ValueError, "Renaming must keep .* none went, extra came"),
    ],
)
def test_a_layer_that_is_not_what_was_assigned_is_refused(kind, kind_of_error, message, moments):
    torch.manual_seed(0)
    model = with_lru(kind())
    optimizer = stepped(model)
    before, attributes = snapshot(model, optimizer), dict(vars(model[1]))
    with pytest.raises(kind_of_error, match=message):
        truncate(model, state_dims=[3, 4], optimizer=optimizer, moments=moments)
    assert_untouched(model, before, optimizer)
    assert vars(model[1]) == attributes
    assert model[0].state_dim == 7


@pytest.mark.parametrize(
    ("layer", "method", "message"),
    [
        (Unmoved, "last", "block 1: Unmoved.keep_modes was given eigenvalues that system.. misses"),
        (Deaf, "singular_perturbation", "block 1: Deaf.add_gain was given a gain that the layer"),
    ],
)
def test_what_a_layer_offers_beyond_is_checked_too(layer, method, message):
    torch.manual_seed(1)
    model = with_lru(layer(3, 6, 0.5, 0.95))
    optimizer = stepped(model)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=[3, 2], method=method, optimizer=optimizer, moments="reset")
    assert_untouched(model, before, optimizer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("r_max", [0.9, 0.9999])
def test_what_rounding_to_the_parameters_costs_is_allowed(dtype, r_max):
    torch.manual_seed(0)
    model = nn.Sequential(LRU(4, 24, r_min=0.5, r_max=r_max)).to(dtype)
    truncate(model, state_dims=5)
    assert dims(model) == [5]
    assert model[0].nu_log.dtype == dtype


# --- moments -----------------------------------------------------------------------------------


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

    transports = CARRIED
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
        ({"transports": ("lam_re",)}, "Plain.transports names lam_re: only B_re, B_im, C_re, C_im"),
        ({"transports": CARRIED[:3]}, "does not say what becomes of the moments of C_im"),
        (
            {"transports": CARRIED[:3], "restarts": ("lam_re", "lam_im", "C_im")},
            "C_re has moments and its other half has none",
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


# --- what is shared ----------------------------------------------------------------------------


def tied(second, name, other):
    """Two layers and a linear map; a parameter of the second is another module's, too."""
    torch.manual_seed(0)
    model = nn.Sequential(LRU(4, 6, 0.5, 0.95), LRU(4, 6, 0.5, 0.95), nn.Linear(6, 4, bias=False))
    other(model, second, name)
    return model


def of_the_first(model, layer, name):
    setattr(model[layer], name, getattr(model[0], name))


def of_the_map(model, layer, name):
    model[2].weight = getattr(model[layer], name)


def memory_of_the_map(model, layer, name):
    model[2].weight = nn.Parameter(getattr(model[layer], name).data.view(4, 6))


def of_itself(model, layer, name):
    setattr(model[layer], name, getattr(model[layer], name.replace("re", "im")))


@pytest.mark.parametrize("with_optimizer", [True, False])
@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("C_re", of_the_first, "0.C_re and 1.C_re are one parameter"),
        ("C_re", of_the_map, "1.C_re and 2.weight are one parameter"),
        ("C_re", memory_of_the_map, "1.C_re and 2.weight are one parameter"),
        ("B_re", of_itself, "1.B_im and 1.B_re are one parameter"),
    ],
)
def test_what_is_one_parameter_does_not_come_apart(name, other, message, with_optimizer):
    """It became two, and the optimizer trained one of them."""
    model = tied(1, name, other)
    optimizer = stepped(model) if with_optimizer else None
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=3, optimizer=optimizer)
    assert_untouched(model, before, optimizer)
    truncate(model, state_dims=6, optimizer=optimizer)  # nothing changes


def test_what_is_shared_and_does_not_change_stays_shared():
    model = tied(1, "D", of_the_first)
    optimizer = stepped(model)
    truncate(model, state_dims=3, optimizer=optimizer)
    assert model[0].D is model[1].D
    assert float(optimizer.state[model[0].D]["step"]) == 3.0
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("sizes", [[3, 3], [3, 6], [6, 3]])
def test_a_layer_within_a_layer_is_not_truncated_twice(sizes):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = LRU(4, 6, 0.5, 0.95)
            self.system, self.assign = self.inner.system, self.inner.assign

        @property
        def state_dim(self):
            return self.inner.state_dim

    torch.manual_seed(0)
    model = nn.Sequential(Wrapped())
    optimizer = stepped(model)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match="belongs to blocks 0 and 1, one within the other"):
        truncate(model, state_dims=sizes, optimizer=optimizer)
    assert_untouched(model, before, optimizer)


# --- whose optimizer ---------------------------------------------------------------------------


def of_another(model):
    return stepped(nested(seed=1))


def from_before(model):
    optimizer = optimizer_of(model)
    truncate(model, state_dims=[8, 6, 4])
    return optimizer


def of_another_and_a_part(model):
    others = [*nn.Linear(2, 2).parameters(), model.front[0].weight]
    return torch.optim.AdamW([{"params": others}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_another, "the optimizer holds no parameter of the model: it is another's"),
        (from_before, "block 0: the optimizer lacks nu_log, .*, and holds 21 parameters"),
        (of_another_and_a_part, "block 0: the optimizer lacks nu_log, .*, and holds 2 parameters"),
        (lambda model: "adam", "optimizer must be one of torch.optim, not 'adam'"),
    ],
)
def test_an_optimizer_of_another_model_is_refused(make, message):
    model = nested()
    optimizer = make(model)
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        truncate(model, state_dims=3, optimizer=optimizer)
    assert_untouched(model, before)


def test_an_optimizer_may_hold_more_than_the_model_or_less():
    model, other = nested(), nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": model.parameters()}, {"params": other.parameters()}])
    truncate(model, state_dims=3, optimizer=optimizer)
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))
    head = torch.optim.AdamW(model.front[0].parameters())
    truncate(model, state_dims=2, optimizer=head)
    assert len(head.param_groups[0]["params"]) == 2


def test_decompositions_from_before_a_step_are_refused():
    model = nested()
    optimizer = optimizer_of(model)
    found = decompositions(model)
    step(model, optimizer)
    before = snapshot(model, optimizer)
    with pytest.raises(ValueError, match="not those of the model as it is now"):
        truncate(model, state_dims=3, optimizer=optimizer, decomposed=found)
    assert_untouched(model, before, optimizer)
    truncate(model, state_dims=3, optimizer=optimizer, decomposed=decompositions(model))
