"""Gramians of noise that is white in time with the covariance of what enters a layer."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harness.models import LRU
from harness.models.layers.s4d import S4D
from harness.models.layers.s5 import S5
from harness.reduction import (
    decompositions,
    layers,
    truncate,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction.weighting import Calibration

WIDTH, STATES, LENGTH = 4, 6, 15

LAYERS = {
    "lru": lambda: LRU(WIDTH, STATES, r_min=0.3, r_max=0.95),
    "s5": lambda: S5(WIDTH, STATES),
    "s4d": lambda: S4D(WIDTH, STATES),
}


class Pooled(nn.Module):
    """One layer, then three logits."""

    def __init__(self, kind="lru", seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.ssm = LAYERS[kind]()
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.ssm(x)).mean(1))


def batches(seed=1, count=3, length=LENGTH):
    """Channels that are correlated, of different sizes, and not centred."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WIDTH, WIDTH, generator=generator)
    found = []
    for size in (5, 2, 1)[:count]:
        x = torch.randn(size, length, WIDTH, generator=generator) @ mixing + 0.3
        found.append((x, torch.randint(0, 3, (size,), generator=generator)))
    return found


def moment(given):
    """E[u u^T] over all steps, one at a time."""
    found, count = torch.zeros(WIDTH, WIDTH, dtype=torch.float64), 0
    for xs, _ in given:
        for u in xs.reshape(-1, WIDTH).double():
            found += torch.outer(u, u)
            count += 1
    return found / count


def systems_under(model, weighting, given):
    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    calibration = Calibration(given, loss=cross_entropy)
    (block,) = weighted_decompositions(model, found, white, weighting, calibration).values()
    return [getattr(one, "whole", one) for one in block.systems]


def residual(system, covariance):
    """|P - A P A^H - B E[u u^T] B^H|, relative."""
    P = system.R @ system.R.mH
    lam, B = system.eigenvalues, system.B
    wanted = B @ covariance.to(B.dtype) @ B.mH
    left = P - lam[:, None] * P * lam.conj() - wanted
    return float(left.norm() / wanted.norm())


@pytest.mark.parametrize("kind", ["lru", "s5"])
def test_it_solves_its_lyapunov_equation(kind):
    model, given = Pooled(kind), batches()
    (system,) = systems_under(model, weighting_of("input"), given)
    assert residual(system, moment(given)) < 1e-12
    assert torch.equal(system.L, system.white.L)


def test_each_channel_of_a_stack_has_its_own_variance():
    model, given = Pooled("s4d"), batches()
    covariance = moment(given)
    systems = systems_under(model, weighting_of("input"), given)
    assert len(systems) == WIDTH
    for channel, system in enumerate(systems):
        own = covariance[channel : channel + 1, channel : channel + 1]
        assert residual(system, own) < 1e-12


def test_of_white_inputs_it_is_the_published_one():
    corners = torch.eye(WIDTH)[None] * WIDTH**0.5  # whose second moment is the identity
    given = [(torch.cat([corners, -corners]), torch.tensor([0, 1]))]
    (system,) = systems_under(Pooled(), weighting_of("input"), given)
    assert torch.allclose(system.R @ system.R.mH, system.white.R @ system.white.R.mH, atol=1e-14)
    assert torch.allclose(system.hsv, system.white.hsv, rtol=1e-12)


def test_the_signal_of_such_noise_tends_to_it():
    model = Pooled()
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 6000, WIDTH, generator=generator)
    x = x @ torch.randn(WIDTH, WIDTH, generator=generator)
    given = [(x, torch.randint(0, 3, (8,), generator=generator))]
    (by_input,) = systems_under(model, weighting_of("input"), given)
    (by_signal,) = systems_under(model, weighting_of("signal"), given)
    P, S = (one.R @ one.R.mH for one in (by_input, by_signal))
    assert float((P - S).norm() / P.norm()) < 0.03


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("order", [1, 3, 5])
def test_with_the_tasks_observability_it_stays_stable(seed, order):
    """One Gramian that solves its Lyapunov equation is enough (Enns 1984), also this one."""
    model, given = Pooled(seed=seed), batches(seed)
    (done,) = truncate(
        model, state_dims=order, calibration=given, loss=cross_entropy,
        gramians="task", controllability="input",
    )  # fmt: skip
    assert done.stabilised is None
    assert float(done.eigenvalues.abs().max()) < 1.0


def test_inputs_that_are_all_zero_are_refused():
    given = [(torch.zeros(2, LENGTH, WIDTH), torch.tensor([0, 1])), *batches(count=1)]
    model = Pooled()
    model.ssm.register_forward_pre_hook(lambda _, args: (0.0 * args[0],))
    with pytest.raises(ValueError, match=r"^block 0: .*drive no state at all$"):
        systems_under(model, weighting_of("input"), given)
