"""The table of metrics: every name, and how the sums of batches become the metric of a split."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from harness.report.presentation import shown_metric, value
from harness.tasks.metrics import METRICS, Metric, measure
from harness.training.step.loss import metric_sum

BATCHES = [(7, 0), (1, 1), (4, 2)]  # of different sizes: their own metrics do not average


def of_batches(metric, batches):
    total = sum(float(metric_sum(metric, logits, targets)) for logits, targets in batches)
    return measure(metric).value(total, sum(targets.numel() for _, targets in batches))


def test_every_name_is_in_the_table():
    assert set(get_args(Metric)) == set(METRICS)
    assert {name for name, one in METRICS.items() if one.higher_is_better} == {"accuracy"}


def test_errors_of_numbers():
    batches = []
    for size, seed in BATCHES:
        generator = torch.Generator().manual_seed(seed)
        batches.append([torch.randn(size, 5, 2, generator=generator) for _ in range(2)])
    errors = torch.cat([(a - b).flatten() for a, b in batches]).double()
    squared = float(errors.square().mean())
    assert of_batches("mean_squared_error", batches) == pytest.approx(squared, rel=1e-6)
    assert of_batches("root_mean_squared_error", batches) == pytest.approx(squared**0.5, rel=1e-6)
    parts = [of_batches("root_mean_squared_error", [batch]) for batch in batches]
    assert abs(sum(parts) / 3 - squared**0.5) > 1e-3  # the test can tell them apart


@pytest.mark.parametrize("metric", ["bits_per_byte", "bits_per_character", "bits_per_token"])
def test_bits_of_a_blind_guess(metric):
    batches = [(torch.zeros(size, 3, 8), torch.ones(size, 3).long()) for size, _ in BATCHES]
    assert of_batches(metric, batches) == pytest.approx(3.0)


def test_hits():
    logits = torch.eye(4)
    batches = [(logits, torch.tensor([0, 1, 2, 0])), (logits[:1], torch.tensor([3]))]
    assert of_batches("accuracy", batches) == 3 / 5


def test_a_broken_model_is_not_hidden():
    for metric in ("mean_squared_error", "root_mean_squared_error"):
        assert math.isnan(measure(metric).value(math.nan, 3))
        assert math.isinf(measure(metric).value(math.inf, 3))


def test_names_that_are_none():
    with pytest.raises(ValueError, match="no metric 'f1'; there are accuracy, bits_per_byte"):
        metric_sum("f1", torch.zeros(1, 2), torch.zeros(1).long())


def test_how_they_are_shown():
    assert tuple(shown_metric("accuracy")) == ("accuracy", "%", 100.0, 1)
    assert tuple(shown_metric("bits_per_byte")) == ("bits per byte", "", 1.0, 3)
    assert shown_metric("root_mean_squared_error").name == "root mean squared error"
    assert shown_metric("of_a_newer_harness").name == "of a newer harness"
    assert value(0.8512, "accuracy") == "85.1"
    assert value(0.8512, "mean_squared_error") == "0.851"
