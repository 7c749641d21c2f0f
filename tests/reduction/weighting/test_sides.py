"""Which Gramian goes where: each side by itself, systems of a stack, what is told of the cut."""

import pytest
import torch
from torch import nn

from harness.models import LRU
from harness.reduction import (
    decompositions,
    gramians,
    layers,
    truncate,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction.weighting import Calibration, horizon_gramians, reduce_weighted
from tests.models.channel_layer import ChannelLayer

LENGTH = 14


def batches(width, count=3):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(4, LENGTH, width, generator=generator).cumsum(1) for _ in range(count)]


def loss(y, _):
    """Of unequal weight in steps and channels, one number per example."""
    steps = torch.linspace(0.1, 1.0, LENGTH)[:, None]
    return (steps * torch.linspace(1.0, 2.0, y.shape[-1]) * y.tanh()).square().sum((1, 2))


def labelled(found):
    return [(x, torch.zeros(len(x))) for x in found]


def weighted(layer, given, seed=0, **how):
    model = nn.Sequential(layer)
    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    calibration = Calibration(given, loss=loss, length=LENGTH, seed=seed)
    return weighted_decompositions(model, found, white, weighting_of(**how), calibration)[0]


def lru(width=3, n=6):
    torch.manual_seed(0)
    return LRU(width, n, r_min=0.5, r_max=0.95)


def close(found, exact):
    return float((found - exact).norm()) <= 1e-4 * float(exact.norm())


def test_every_side_stands_where_it_belongs():
    layer, given = lru(), labelled(batches(3))
    system = layer.system()
    both = {"white": gramians(*system), "horizon": horizon_gramians(*system, LENGTH)}
    whole = weighted(layer, given, gramians="task")
    both["measured"] = whole.R @ whole.R.mH, whole.L @ whole.L.mH
    for reach in ("white", "horizon", "signal"):
        for see in ("white", "horizon", "task"):
            one = weighted(layer, given, controllability=reach, observability=see)
            P = both["measured" if reach == "signal" else reach][0]
            Q = both["measured" if see == "task" else see][1]
            assert close(one.R @ one.R.mH, P)
            assert close(one.L @ one.L.mH, Q)
            squares = torch.linalg.eigvals(P @ Q).real.clamp_min(0).sort(descending=True).values
            torch.testing.assert_close(one.hsv.square(), squares, rtol=1e-3, atol=1e-9)


def stack():
    torch.manual_seed(1)
    layer = ChannelLayer(3, 5)
    layer.orders.copy_(torch.tensor([5, 2, 4]))
    return layer


def test_systems_of_a_stack_are_measured_each_on_its_channel_without_the_padding():
    layer, given = stack(), labelled(batches(3))
    block = weighted(layer, given, gramians="task")
    assert [one.state_dim for one in block.systems] == [5, 2, 4]
    count = sum(len(x) for x, _ in given) * LENGTH
    for s, one in enumerate(block.systems):
        lam, b, c = one.eigenvalues, one.B[:, 0], one.C[0]
        P = torch.zeros(len(lam), len(lam), dtype=torch.complex128)
        Q = P.clone()
        for x, y in given:
            out = layer(x).detach().requires_grad_()
            (g,) = torch.autograd.grad(loss(out, y).sum(), out)
            h = a = torch.zeros(len(x), len(lam), dtype=torch.complex128)
            for k in range(LENGTH):
                h = lam * h + b * x[:, k, s, None].double()
                a = lam.conj() * a + c.conj() * g[:, LENGTH - 1 - k, s, None].double()
                P += h.mT @ h.conj()
                Q += a.mT @ a.conj()
        assert close(one.R @ one.R.mH, P / count)
        assert close(one.L @ one.L.mH, Q / count)


@pytest.mark.parametrize(("make", "asked"), [(lru, 3), (stack, ((2, 2, 3),))])
def test_the_output_error_is_that_of_the_recurrences(make, asked):
    layer, given = make(), batches(3, 5)  # of five batches the last is held out
    static = layer.D.detach()
    x = given[4]
    before = (layer(x) - static * x).detach()
    model = nn.Sequential(layer)
    (done,) = truncate(model, state_dims=asked, gramians="signal", calibration=given)
    after = (model(x) - static * x).detach()
    wanted = float((before - after).norm() / before.norm())
    assert 0.01 < wanted < 1.0
    assert done.output_error == pytest.approx(wanted, rel=1e-3)


def test_what_is_kept_is_told_by_the_weighted_singular_values():
    block = weighted(lru(), batches(3), gramians="signal")
    done = reduce_weighted(block, 2)
    assert done.energy_kept == pytest.approx(float(block.hsv[:2].sum() / block.hsv.sum()))
    assert 0.5 < done.energy_kept < 1.0
    assert done.order == 2


def test_batches_without_examples_count_nothing():
    given = labelled(batches(3))
    empty = (torch.zeros(0, LENGTH, 3), torch.zeros(0))
    found = [weighted(lru(), more, gramians="task").hsv for more in (given, [empty, *given, empty])]
    assert torch.equal(*found)


def test_random_targets_are_those_of_the_seed():
    found = [
        weighted(lru(), batches(3), seed, gramians="task", target="logits").hsv
        for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], rtol=1e-3)
