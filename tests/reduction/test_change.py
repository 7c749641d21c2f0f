"""A layer takes what it is given and its optimizer follows, or all is as it was."""

import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.reduction import decompositions, truncate

from .networks import (
    Forgetful,
    OwnLayer,
    assert_untouched,
    dims,
    nested,
    optimizer_of,
    snapshot,
    step,
    stepped,
    with_lru,
)


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
