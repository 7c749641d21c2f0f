"""Blocks truncated in order, each measured on what the truncated ones before it give."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harness.models.orders import order_of
from harness.reduction import (
    Calibration,
    decompositions,
    layers,
    truncate,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction.weighting import sweep as sweeping
from harness.reduction.weighting.states import SecondMoment
from tests.models.channel_layer import ChannelLayer

from .test_truncate import WIDTH, Classifier, batches

ASKED = {"calibration": batches(), "loss": cross_entropy}


class Alone(Classifier):
    """The same with one block."""

    def __init__(self):
        super().__init__()
        del self.second

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)).mean(1))


def bits(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("gramians", ["signal", "task"])
@pytest.mark.parametrize("how", [{"state_dims": 4}, {"tau": 0.1}])
def test_one_block_is_truncated_as_it_is_together(gramians, how):
    found = []
    for sweep in ("together", "in_order"):
        model = Alone()
        truncate(model, gramians=gramians, sweep=sweep, **how, **ASKED)
        found.append(bits(model))
    assert found[0] == found[1]


def test_the_second_block_hears_the_first_one_truncated():
    model, other = Classifier(), Classifier()
    first, second = truncate(model, state_dims=4, gramians="signal", sweep="in_order", **ASKED)
    (alone,) = truncate(other, state_dims=[4, 10], gramians="signal", **ASKED)
    assert torch.equal(first.eigenvalues, alone.eigenvalues)

    heard = []
    other.second.register_forward_hook(lambda _, given, out: heard.append(given[0].detach()))
    other.eval()
    with torch.no_grad():
        for i, (x, _) in enumerate(batches()):
            if i not in (4, 9):  # held out
                other(x)
    lam, B, _ = other.second.system()
    moment = SecondMoment(lam[None], B[None])
    for u in heard:
        moment.add(u)
    (white,) = decompositions(Single(other.second))
    P = moment.mean[0]
    sigma = torch.linalg.eigvals(P @ (white.L @ white.L.mH)).real.clamp_min(0).sqrt()
    wanted = sigma.sort(descending=True).values
    torch.testing.assert_close(second.hsv, wanted, rtol=1e-5, atol=1e-8 * float(wanted[0]))

    (_, together) = truncate(Classifier(), state_dims=4, gramians="signal", **ASKED)
    assert float((second.hsv - together.hsv).abs().max()) > 1e-3 * float(together.hsv[0])


class Single(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer


@pytest.mark.parametrize("gramians", ["signal", "task"])
@pytest.mark.parametrize("how", [{"state_dims": [4, 3]}, {"tau": 0.1}])
def test_in_order_is_a_truncation_of_one_block_after_the_other(gramians, how):
    """Of which the second one measures the model that the first one has left."""
    model, other = Classifier(), Classifier()
    done = truncate(model, gramians=gramians, sweep="in_order", **how, **ASKED)
    sizes = [one.order for one in done]
    calibration = batches()
    truncate(other, state_dims=[sizes[0], 10], gramians=gramians, **ASKED)
    asked = {"calibration": calibration, "loss": cross_entropy, "gramians": gramians}
    if "tau" in how:  # the first block stays as it is, whatever its own rank is now
        systems = measured(other, weighting_of(gramians), calibration)
        assert systems[1].energy_rank(how["tau"]) == sizes[1]
    truncate(other, state_dims=sizes, **asked)
    for one, two in zip(layers(model), layers(other), strict=True):
        for a, b in zip(one.system(), two.system(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def measured(model, weighting, given):
    """The decompositions of a model on those batches that `truncate` does not hold out."""
    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    rest = [batch for i, batch in enumerate(given) if i % 5 != 4]
    calibration = Calibration(rest, loss=cross_entropy)
    return list(weighted_decompositions(model, found, white, weighting, calibration).values())


def test_given_decompositions_save_the_first_blocks_pass(monkeypatch):
    weighting = weighting_of("task", sweep="in_order")
    model, other = Classifier(), Classifier()
    given = measured(model, weighting, batches())
    truncate(other, state_dims=4, gramians=weighting, **ASKED)
    passes = []
    take = sweeping.weighted_decompositions
    monkeypatch.setattr(
        sweeping, "weighted_decompositions", lambda *a: passes.append(list(a[1])) or take(*a)
    )
    truncate(model, state_dims=4, decomposed=given, gramians=weighting, **ASKED)
    assert passes == [[1]]
    assert bits(model) == bits(other)


def test_the_error_is_that_of_the_block_in_the_full_model():
    model = Classifier()
    full = copy.deepcopy(model).eval()
    _, second = truncate(model, state_dims=4, gramians="signal", sweep="in_order", **ASKED)
    lost = whole = 0.0
    inputs = []
    full.second.register_forward_hook(lambda _, given, out: inputs.append(given[0].detach()))
    with torch.no_grad():
        for x, _ in (batches()[4], batches()[9]):
            full(x)
            u = inputs[-1]
            y, small = (layer(u) - layer.D * u for layer in (full.second, model.second))
            lost, whole = lost + float((y - small).square().sum()), whole + float(y.square().sum())
    assert second.output_error == pytest.approx((lost / whole) ** 0.5, rel=1e-3)


def test_a_failure_in_the_second_block_leaves_everything_as_it_was():
    class Broken(Classifier):
        """Its second layer hears nothing once the first one is smaller."""

        def forward(self, x):
            smaller = float(self.first.state_dim == 10)
            h = torch.tanh(self.first(x)) * smaller
            return self.head(torch.tanh(self.second(h)).mean(1))

    model = Broken()
    optimizer = stepped(model)
    before = bits(model), list(model.parameters()), dict(optimizer.state)
    with pytest.raises(ValueError, match=r"block 1: the calibration sequences drive no state"):
        truncate(
            model, state_dims=4, gramians="signal", sweep="in_order", optimizer=optimizer, **ASKED
        )
    assert bits(model) == before[0]
    assert all(a is b for a, b in zip(model.parameters(), before[1], strict=True))
    assert all(optimizer.state[p] is state for p, state in before[2].items())
    assert not any(module._forward_hooks for module in model.modules())


def stepped(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = batches(1)[0]
    cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_moments_are_carried_once_by_each_blocks_t_and_w():
    model = Classifier()
    optimizer = stepped(model)
    old = {name: optimizer.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    done = truncate(
        model, state_dims=4, gramians="task", sweep="in_order", optimizer=optimizer, **ASKED
    )
    for name, one in zip(("first", "second"), done, strict=True):
        parts = [f"{name}.C_re", f"{name}.C_im"]
        new = [optimizer.state[model.get_parameter(part)]["exp_avg"] for part in parts]
        C, found = (torch.complex(*pair) for pair in ([old[part] for part in parts], new))
        wanted = C.to(one.W.dtype) @ one.W.mH
        torch.testing.assert_close(found.to(one.W.dtype), wanted, rtol=1e-4, atol=1e-8)


def test_blocks_at_their_size_are_passed_over():
    model = Classifier()
    first = bits(model.first)
    (done,) = truncate(model, state_dims=[10, 4], gramians="task", sweep="in_order", **ASKED)
    assert done.order == 4
    assert bits(model.first) == first
    assert truncate(model, tau=0.0, gramians="task", sweep="in_order", **ASKED) == []


def test_max_loss_sweeps_its_candidates():
    model = Classifier()
    heard = batches()
    truncate(model, max_loss=0.005, gramians="task", sweep="in_order", **ASKED)
    sizes = [layer.state_dim for layer in layers(model)]
    other = Classifier()
    truncate(other, state_dims=sizes, gramians="task", sweep="in_order", **ASKED)
    assert bits(model) == bits(other)

    def loss(one):
        one.eval()
        with torch.no_grad():
            return sum(float(cross_entropy(one(x), y)) for x, y in (heard[4], heard[9])) / 2

    assert sizes != [10, 10]
    assert loss(model) <= loss(Classifier()) + 0.005 + 1e-6


class Stacked(Classifier):
    def __init__(self):
        super().__init__()
        self.first, self.second = (ChannelLayer(WIDTH, 6) for _ in range(2))


@pytest.mark.parametrize("how", [{"state_dims": 2}, {"tau": 0.2}])
def test_stacks_are_swept_too(how):
    models = [Stacked(), Stacked()]
    done = truncate(models[0], gramians="task", sweep="in_order", **how, **ASKED)
    sizes = [order_of(layer) for layer in layers(models[0])]
    assert [one.orders for one in done] == sizes
    truncate(models[1], state_dims=[sizes[0], 6], gramians="task", **ASKED)
    if "tau" in how:
        again = measured(models[1], weighting_of("task"), batches())
        assert again[1].energy_rank(how["tau"]) == sizes[1]
    truncate(models[1], state_dims=sizes, gramians="task", **ASKED)
    for one, two in zip(*(layers(model) for model in models), strict=True):
        for a, b in zip(one.system(), two.system(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gramians", ["white", "horizon"])
def test_where_nothing_is_measured_there_is_no_order(gramians):
    with pytest.raises(ValueError, match="sweep 'in_order' needs gramians that are measured"):
        truncate(Classifier(), state_dims=4, gramians=gramians, sweep="in_order", length=30)
    with pytest.raises(ValueError, match="sweep must be one of together, in_order, not 'twice'"):
        truncate(Classifier(), state_dims=4, gramians="task", sweep="twice", **ASKED)


@pytest.mark.parametrize("method", ["last", "aire"])
def test_the_rivals_keep_their_own_modes_in_order_too(method):
    found = []
    for sweep in ("together", "in_order"):
        model = Alone()
        truncate(model, state_dims=4, method=method, gramians="task", sweep=sweep, **ASKED)
        found.append(bits(model))
    assert found[0] == found[1]
    balanced = Alone()
    truncate(balanced, state_dims=4, gramians="task", sweep="in_order", **ASKED)
    assert bits(balanced) != found[1]
