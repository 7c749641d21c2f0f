"""What the task looks at, where some steps have no label that counts."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harness.models import LRU
from harness.reduction import decompositions, layers, truncate, weighted_decompositions
from harness.reduction.weighting import Calibration, weighting_of
from harness.reduction.weighting.targets import scalars
from harness.tasks.base import UNSCORED

CLASSES, LENGTH, WIDTH, STATES = 4, 6, 3, 5


def given(size=5):
    """Logits (size, LENGTH, CLASSES), labels, and those labels with two thirds unscored."""
    numbers = torch.Generator().manual_seed(3)
    logits = torch.randn(size, LENGTH, CLASSES, generator=numbers).requires_grad_()
    labels = torch.randint(CLASSES, (size, LENGTH), generator=numbers)
    kept = torch.rand(size, LENGTH, generator=numbers) < 1 / 3
    assert kept.any(1).sum() > 2
    return logits, labels, torch.where(kept, labels, UNSCORED)


def mean_loss(logits, y):
    return cross_entropy(logits.flatten(0, -2), y.flatten())


def gradients(target, logits, y):
    found = scalars(target, logits, y, mean_loss, torch.Generator().manual_seed(0))
    return [torch.autograd.grad(one, logits)[0] for one in found]


@pytest.mark.parametrize("target", ["label", "logits", "fisher"])
def test_a_scored_step_has_the_gradient_that_it_has_where_all_are_scored(target):
    """And the others none. So the random draws are the same, whatever is scored."""
    logits, labels, masked = given()
    whole, part = gradients(target, logits, labels), gradients(target, logits, masked)
    scored = masked != UNSCORED
    assert len(whole) == len(part) == (2 if target == "logits" else 1)
    for one, other in zip(whole, part, strict=True):
        assert one[~scored].any(-1).all()
        assert torch.equal(other[scored], one[scored])
        assert not other[~scored].any()


def test_the_loss_is_its_own_mean_over_scored_steps_times_the_examples():
    logits, _, masked = given()
    (found,) = gradients("loss", logits, masked)
    scored = masked != UNSCORED
    p = logits.detach().softmax(-1)
    hot = nn.functional.one_hot(masked.clamp_min(0), CLASSES)
    wanted = (p - hot) * scored[..., None] * len(logits) / scored.sum()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


class Stepwise(nn.Module):
    """One LRU with logits at every step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.ssm = LRU(WIDTH, STATES, r_min=0.4, r_max=0.9)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.head(self.ssm(x).tanh())


def batches():
    numbers = torch.Generator().manual_seed(2)
    found = []
    for size in (6, 4, 5, 3, 5, 2):
        y = torch.randint(CLASSES, (size, LENGTH), generator=numbers)
        kept = torch.rand(size, LENGTH, generator=numbers) < 1 / 3
        kept[:, 4] = True
        x = torch.randn(size, LENGTH, WIDTH, generator=numbers)
        found.append((x, torch.where(kept, y, UNSCORED)))
    return found


@pytest.mark.parametrize("target", ["loss", "label"])
def test_the_observability_gramian_is_the_sum_over_scored_steps(target):
    model, data = Stepwise(), batches()
    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    weighting = weighting_of("task", target=target)
    calibration = Calibration(data, loss=mean_loss)
    block = weighted_decompositions(model, found, white, weighting, calibration)[0]
    lam, _, C = model.ssm.system()
    Q, count = torch.zeros(STATES, STATES, dtype=torch.complex128), 0
    for xs, ys in data:
        share = len(xs) / int((ys != UNSCORED).sum()) if target == "loss" else 1.0
        for x, y in zip(xs, ys, strict=True):
            a, count = torch.zeros(STATES, dtype=torch.complex128), count + LENGTH
            out = model.ssm(x[None])[0].detach()
            for k in reversed(range(LENGTH)):
                g = torch.zeros(WIDTH, dtype=torch.complex128)
                if y[k] != UNSCORED:  # d scalar / d output by the chain rule
                    z = model.head(out[k].tanh()).detach()
                    dz = nn.functional.one_hot(y[k], CLASSES).float()
                    if target == "loss":
                        dz = (z.softmax(-1) - dz) * share
                    g = ((dz @ model.head.weight) * (1 - out[k].tanh() ** 2)).detach().to(g.dtype)
                a = lam.conj() * a + C.mH @ g
                Q += torch.outer(a, a.conj())
    Q /= count
    assert float((block.L @ block.L.mH - Q).norm()) <= 1e-4 * float(Q.norm())


@pytest.mark.parametrize("target", ["loss", "label", "logits", "fisher"])
def test_truncation_by_the_task_takes_labels_with_unscored_steps(target):
    model = Stepwise()
    weighting = weighting_of("task", target=target)
    (done,) = truncate(
        model, state_dims=3, gramians=weighting, calibration=batches(), loss=mean_loss
    )
    assert (done.order, model.ssm.state_dim) == (3, 3)
    assert 0 < done.output_error < 1
