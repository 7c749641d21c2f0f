"""Losses and metrics where some steps are not scored, against a computation step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.arms.distill import DistillSpec, distillation_loss
from harness.models import build as build_model
from harness.models.specs import LRUSpec
from harness.tasks import build
from harness.tasks.base import UNSCORED, TaskInfo
from harness.tasks.metrics import METRICS
from harness.tasks.scored import scored_mean
from harness.tasks.specs import MqarSpec
from harness.training.evaluate import evaluate
from harness.training.step.loss import loss_of, metric_sum, published_cross_entropy

BATCH, LENGTH, CLASSES = 3, 5, 4
SCORED = [(0, 1, 3), (0, 4, 0), (1, 2, 2), (2, 0, 1), (2, 1, 1), (2, 3, 0)]  # example, step, class


def logits_and_targets():
    numbers = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, LENGTH, CLASSES, generator=numbers, dtype=torch.float64)
    targets = torch.full((BATCH, LENGTH), UNSCORED)
    for example, step, target in SCORED:
        targets[example, step] = target
    return logits.requires_grad_(), targets


def probabilities(logits, example, step, temperature=1.0):
    weights = np.exp(logits[example, step].detach().numpy() / temperature)
    return weights / weights.sum()


def mean_of(term):
    return sum(term(*one) for one in SCORED) / len(SCORED)


def plain_loss(logits, targets):
    return loss_of("next_token", logits, targets)


def published_loss(logits, targets):
    return published_cross_entropy(logits, targets, unscored=True)


def plain_term(logits):
    return lambda i, k, c: -math.log(probabilities(logits, i, k)[c])


def published_term(logits):
    return lambda i, k, c: -math.log(probabilities(logits, i, k)[c] + 1e-8)


@pytest.mark.parametrize(
    ("loss", "term"), [(plain_loss, plain_term), (published_loss, published_term)]
)
def test_a_loss_is_the_mean_over_scored_steps(loss, term):
    logits, targets = logits_and_targets()
    assert loss(logits, targets).item() == pytest.approx(mean_of(term(logits)), rel=1e-12)


def test_distillation_learns_from_the_teacher_at_scored_steps():
    logits, targets = logits_and_targets()
    answers = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1)).double()

    def soft(example, step, _):
        taught = probabilities(answers, example, step, 2.0)
        return -(taught * np.log(probabilities(logits, example, step, 2.0))).sum()

    found = distillation_loss(
        plain_loss, answers, logits, targets, temperature=2.0, alpha=0.3, unscored=True
    )
    wanted = 0.3 * 4 * mean_of(soft) + 0.7 * mean_of(plain_term(logits))
    assert found.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("unscored", [True, False])
def test_the_arm_tells_by_its_teacher_whether_targets_may_be_unscored(unscored):
    info = TaskInfo("next_token", CLASSES, LENGTH, vocabulary=CLASSES, unscored=unscored)
    teacher = build_model(LRUSpec(blocks=1, width=3, state_dim=2), info).eval()
    logits, targets = logits_and_targets()
    x = torch.randint(CLASSES, (BATCH, LENGTH))
    arm = DistillSpec(state_dims=(1,), temperature=3.0, alpha=0.6)
    targets = targets if unscored else targets.clamp_min(0)
    found = arm.batch_loss(plain_loss, x, teacher)(logits, targets)
    taught = (teacher(x) / 3).softmax(-1)
    soft = -(taught * (logits / 3).log_softmax(-1)).sum(-1)[targets != UNSCORED].mean()
    wanted = 0.6 * 9 * soft + 0.4 * plain_loss(logits, targets)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-12)


def distilled(logits, targets):
    answers = torch.zeros_like(logits)
    return distillation_loss(plain_loss, answers, logits, targets, 2.0, 0.3, unscored=True)


@pytest.mark.parametrize("loss", [plain_loss, published_loss, distilled])
def test_logits_of_unscored_steps_get_no_gradient(loss):
    logits, targets = logits_and_targets()
    loss(logits, targets).backward()
    touched = logits.grad.ne(0).any(-1)
    assert torch.equal(touched, targets != UNSCORED)
    torch.autograd.gradcheck(lambda z: loss(z, targets), logits)


def test_unscored_steps_may_hold_anything():
    logits, targets = logits_and_targets()
    spoiled = logits.detach().clone()
    spoiled[targets == UNSCORED] = float("inf")
    for loss in (plain_loss, published_loss):
        assert loss(spoiled, targets).item() == loss(logits, targets).item()


def test_where_all_is_scored_both_ways_of_the_published_loss_agree():
    logits, _ = logits_and_targets()
    targets = torch.randint(CLASSES, (BATCH, LENGTH))
    torch.testing.assert_close(
        published_cross_entropy(logits, targets),
        published_loss(logits, targets),
        rtol=1e-14,
        atol=0,
    )
    torch.testing.assert_close(
        scored_mean(logits[..., 0], targets), logits[..., 0].mean(), rtol=1e-14, atol=0
    )


def test_a_class_that_does_not_exist_is_no_unscored_step():
    logits, targets = logits_and_targets()
    targets[0, 0] = -1
    for loss in (plain_loss, published_loss):
        with pytest.raises((IndexError, RuntimeError)):
            loss(logits, targets)


def test_metrics_add_up_over_scored_steps():
    logits, targets = logits_and_targets()
    hits = sum(int(logits[i, k].argmax()) == c for i, k, c in SCORED)
    assert 0 < hits < len(SCORED)
    assert float(metric_sum("accuracy", logits, targets)) == hits
    bits = mean_of(plain_term(logits)) * len(SCORED) / math.log(2)
    for metric in ("bits_per_byte", "bits_per_token"):
        assert metric_sum(metric, logits, targets).item() == pytest.approx(bits, rel=1e-12)


class Says(torch.nn.Module):
    """One-hot logits of the token `shift` steps earlier."""

    def __init__(self, vocabulary, shift):
        super().__init__()
        self.vocabulary, self.shift = vocabulary, shift

    def forward(self, x):
        return torch.nn.functional.one_hot(x.roll(self.shift, 1), self.vocabulary).float()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_evaluation_counts_the_answers_alone(split, tmp_path):
    """Even where training has a target at every step; against a loop over examples."""
    spec = MqarSpec(
        name="mqar", length=8, pairs=2, vocabulary=6, trained="every_step",
        train=400, validation=300, test=200,
    )  # fmt: skip
    task = build(spec, tmp_path)
    model = Says(6, 5)
    x, y = task.examples(split, np.arange(task.sizes[split]))
    hits = count = 0
    for tokens, targets in zip(x.tolist(), y.tolist(), strict=True):
        for step, target in enumerate(targets):
            if target != UNSCORED:
                count += 1
                hits += tokens[(step - 5) % 8] == target
    assert count == task.sizes[split] * (7 if split == "train" else 2)
    found = evaluate(model, task, split, torch.device("cpu"))
    assert found == pytest.approx(hits / count, rel=1e-12)
    assert METRICS[task.metric].higher_is_better
    assert 0 < hits < count


def test_what_was_stored_of_tasks_that_score_everything_has_no_such_field():
    plain = TaskInfo("classification", outputs=10, length=64, inputs=1)
    assert "unscored" not in plain.described()
    assert TaskInfo(**plain.described()) == plain
    masked = TaskInfo("next_token", outputs=8, length=4, vocabulary=8, unscored=True)
    assert masked.described()["unscored"] is True
    assert TaskInfo(**masked.described()) == masked


def test_the_loss_of_a_user_may_leave_steps_out_by_torch_itself():
    logits, targets = logits_and_targets()
    own = cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert own.item() == pytest.approx(plain_loss(logits, targets).item(), rel=1e-14)
