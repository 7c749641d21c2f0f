"""Sizes from a bound on the loss, and the prediction that the search opens with."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.reduction import (
    Calibration,
    TruncationError,
    decompositions,
    layers,
    ranks,
    truncate,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction import within as module
from harness.reduction.within import bisected, mean_loss, predicted_rise, predicts

from .weighting.test_truncate import LENGTH, Classifier, batches


def calibrated(length=LENGTH):
    found = batches(12)
    return Calibration(found[:8], found[8:], cross_entropy, length)


def decomposed_under(model, gramians, calibration, **more):
    white = dict(enumerate(decompositions(model)))
    weighting = weighting_of(gramians, **more)
    found = dict(enumerate(layers(model)))
    return list(weighted_decompositions(model, found, white, weighting, calibration).values())


def cut_of(given, weighting):
    def cut(candidate, orders):
        truncate(
            candidate,
            state_dims=orders,
            decomposed=given,
            gramians=weighting,
            calibration=Calibration(loss=cross_entropy),
        )

    return cut


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_a_prediction_opens_the_search_and_whatever_it_says_the_bound_holds(scale, monkeypatch):
    """Even where it is wrong by a million."""
    model, calibration = Classifier(), calibrated()
    given = decomposed_under(model, "task", calibration)
    cut = cut_of(given, weighting_of("task"))
    bounds = (0.0, 0.001, 0.01, 1e6)
    with monkeypatch.context() as patch:
        patch.setattr(module, "predicts", lambda *_: False)
        plain = [bisected(model, given, bound, calibration, cut)[0] for bound in bounds]
    monkeypatch.setattr(module, "predicted_rise", lambda *given: scale * predicted_rise(*given))
    for max_loss, wanted in zip(bounds, plain, strict=True):
        orders, measured = bisected(model, given, max_loss, calibration, cut)
        assert orders == wanted
        assert measured[0] == (10, 10)
        assert tuple(orders) in measured
        candidate = Classifier()
        cut(candidate, orders)
        assert mean_loss(candidate, calibration) <= mean_loss(model, calibration) + max_loss


def test_a_prediction_that_is_right_saves_candidates(monkeypatch):
    """The loss of a model whose rise is the prediction itself, to a factor of three."""
    model, calibration = Classifier(), calibrated()
    given = decomposed_under(model, "task", calibration)

    def rise(orders):
        return 3.0 * predicted_rise(given, orders, LENGTH)

    class Sized(torch.nn.Module):
        orders = (10, 10)

    def cut(candidate, orders):
        candidate.orders = tuple(orders)

    monkeypatch.setattr(module, "mean_loss", lambda one, _: rise(one.orders))
    saved = 0
    for asked in (2, 4, 6):
        bound = rise([asked, asked]) * 1.0001
        orders, measured = bisected(Sized(), given, bound, calibration, cut)
        monkeypatch.setattr(module, "predicts", lambda *_: False)
        plain, more = bisected(Sized(), given, bound, calibration, cut)
        monkeypatch.setattr(module, "predicts", predicts)
        assert orders == plain
        assert rise(orders) <= bound
        saved += len(more) - len(measured)
    assert saved > 0


def test_what_is_predicted_is_a_sum_of_squares_and_needs_signal_task_and_length():
    model, calibration = Classifier(), calibrated()
    given = decomposed_under(model, "task", calibration)
    left = [one.hsv[4:].square().sum() for one in given]
    assert predicted_rise(given, [4, 4], LENGTH) == pytest.approx(LENGTH / 4 * float(sum(left)))
    assert predicted_rise(given, [10, 10], LENGTH) == 0.0
    assert predicts(given, LENGTH)
    assert not predicts(given, None)
    others = [("signal", {}), ("white", {}), ("task", {"normalise": True})]
    for gramians, more in [*others, ("task", {"target": "logits"})]:
        assert not predicts(decomposed_under(model, gramians, calibration, **more), LENGTH)


def test_a_bound_in_points_is_a_loss_that_counts_errors():
    def points(logits, y):
        return 100.0 * (logits.argmax(-1) != y).float()

    def made():
        model = Classifier().eval()
        with torch.no_grad():
            for layer in (model.first, model.second):  # so that its answers hang on its states
                layer.C_re *= 10.0
                layer.C_im *= 10.0
            model.head.bias -= model(torch.cat([x for x, _ in batches(12)])).mean(0)
        return model

    found = [(x, made()(x).argmax(-1)) for x, _ in batches(12)]  # no error at full size
    assert {int(label) for _, y in found for label in y} == {0, 1, 2}
    calibration = Calibration(found[:8], found[8:], points, LENGTH)
    sizes = {}
    for bound in (0.0, 100.0):
        model = made()
        truncate(
            model,
            max_loss=bound,
            gramians=weighting_of("task", target="logits"),
            calibration=calibration,
        )
        sizes[bound] = sum(layer.state_dim for layer in layers(model))
        assert mean_loss(model, calibration) <= bound
    assert sizes[0.0] > sizes[100.0] == 2


def test_a_candidate_without_a_usable_form_does_not_hold():
    model, calibration = Classifier(), calibrated()
    given = decompositions(model)
    plain = cut_of(given, weighting_of("white"))

    def cut(candidate, orders):
        if min(orders) < 5:
            raise TruncationError("no diagonal form")
        plain(candidate, orders)

    orders, measured = bisected(model, given, 1e6, calibration, cut)
    assert min(orders) >= 5
    assert min(map(min, measured)) < 5
    assert min(ranks(given, tau=math.nextafter(1.0, 0.0))) == 1
