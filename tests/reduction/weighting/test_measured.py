"""Gramians measured through a model, against the sums that define them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harness.models import LRU
from harness.reduction import decompositions, layers, weighted_decompositions, weighting_of
from harness.reduction.weighting import Calibration

WIDTH, LENGTH, STATES = 3, 12, 5


class Pooled(nn.Module):
    """One LRU, whose steps count differently, so that time has a direction; then three logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.ssm = LRU(WIDTH, STATES, r_min=0.4, r_max=0.9)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.read_out(self.ssm(x))

    def read_out(self, y):
        steps = torch.linspace(0.0, 1.0, LENGTH)[:, None] ** 3
        return self.head((steps * torch.tanh(y)).sum(1))


def batches():
    generator = torch.Generator().manual_seed(2)
    return [
        (
            torch.randn(size, LENGTH, WIDTH, generator=generator),
            torch.randint(0, 3, (size,), generator=generator),
        )
        for size in (6, 1)  # a mean over either weighs its examples differently
    ]


def measured(model, given, **how):
    weighting = weighting_of("task", **how)
    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    calibration = Calibration(given, loss=cross_entropy)
    (block,) = weighted_decompositions(model, found, white, weighting, calibration).values()
    return block.R @ block.R.mH, block.L @ block.L.mH


def defined(model, given, scalar, normalise=False):
    """(P, Q) by their definitions, one example and one step at a time."""
    lam, B, C = model.ssm.system()
    P = torch.zeros(STATES, STATES, dtype=torch.complex128)
    Q, count = P.clone(), 0
    for xs, ys in given:
        for x, target in zip(xs, ys, strict=True):
            y = model.ssm(x[None]).detach().requires_grad_()
            (g,) = torch.autograd.grad(scalar(model.read_out(y), target[None]), y)
            g = g[0].double()
            g = g / g.norm() if normalise else g
            h, a = torch.zeros(2, STATES, dtype=torch.complex128)
            for k in range(LENGTH):
                h = lam * h + B @ x[k].to(B.dtype)
                P += torch.outer(h, h.conj())
            for k in reversed(range(LENGTH)):
                a = lam.conj() * a + C.mH @ g[k].to(C.dtype)
                Q += torch.outer(a, a.conj())
            count += LENGTH
    return P / count, Q / count


def label(logits, target):
    return logits[0, target[0]]


@pytest.mark.parametrize(
    ("how", "scalar"),
    [
        ({"target": "loss"}, cross_entropy),
        ({"target": "loss", "normalise": True}, cross_entropy),
        ({"target": "label"}, label),
    ],
)
def test_both_gramians_are_those_of_their_definition(how, scalar):
    model, given = Pooled(), batches()
    wanted = defined(model, given, scalar, how.get("normalise", False))
    for found, exact in zip(measured(model, given, **how), wanted, strict=True):
        assert float((found - exact).norm()) <= 1e-4 * float(exact.norm())


def test_a_loss_of_every_example_is_as_good_as_their_mean():
    model, given = Pooled(), batches()

    def each(logits, y):
        return cross_entropy(logits, y, reduction="none")

    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    hsv = [
        weighted_decompositions(
            model, found, white, weighting_of("task"), Calibration(given, loss=loss)
        )[0].hsv
        for loss in (cross_entropy, each)
    ]
    torch.testing.assert_close(hsv[0], hsv[1], rtol=1e-5, atol=0.0)


def jacobian_gramian(model, given, weigh):
    """The adjoint Gramian of sum over logits, weighed by `weigh(p)` (outputs, outputs)."""
    total = torch.zeros(STATES, STATES, dtype=torch.complex128)
    for xs, ys in given:
        for x in xs:
            p = model(x[None]).detach()[0].softmax(-1)
            values, vectors = torch.linalg.eigh(weigh(p))
            for value, v in zip(values.clamp_min(0), vectors.mT, strict=True):
                one = [(x[None], ys[:1])]
                total += value * defined(model, one, lambda z, _, v=v: (z[0] * v).sum())[1]
    return total / sum(len(xs) for xs, _ in given)


@pytest.mark.parametrize(
    ("target", "weigh"),
    [
        ("logits", lambda p: torch.eye(len(p))),
        ("fisher", lambda p: torch.diag(p) - torch.outer(p, p)),
    ],
)
def test_random_targets_converge_to_the_jacobians_gramian(target, weigh):
    model, given = Pooled(), batches()
    exact = jacobian_gramian(model, given, weigh)
    many = given * 300
    _, found = measured(model, many, target=target)
    assert float((found - exact).norm()) <= 0.1 * float(exact.norm())


class Noisy(Pooled):
    """Draws even in evaluation mode."""

    def forward(self, x):
        return super().forward(x + 1e-3 * torch.randn_like(x))


def test_a_model_that_draws_leaves_the_generator_as_it_was():
    model = Noisy()
    before = torch.get_rng_state()
    measured(model, batches(), target="fisher")
    assert torch.equal(torch.get_rng_state(), before)
