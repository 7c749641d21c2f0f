"""LAST's and AIRE's scores with measured instead of white norms."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.reduction import (
    Weighting,
    decompositions,
    layers,
    ranks,
    truncate,
    weighted_decompositions,
    weighting_of,
)
from harness.reduction.hankel import decompose
from harness.reduction.modes import best, scores
from harness.reduction.weighting import Calibration, WeightedDecomposition
from harness.reduction.weighting.measured import root
from harness.reduction.weighting.states import SecondMoment, driven

from ..systems import random_system
from .test_truncate import LENGTH, Classifier, Deaf, batches


def tensors(system):
    return tuple(torch.as_tensor(part, dtype=torch.complex128) for part in system)


def weighted(system, P, Q=None):
    """The decomposition under these Gramians, Q white if None."""
    white = decompose(*system)
    R, L = root(P), white.L if Q is None else root(Q)
    U, S, Vh = torch.linalg.svd(L.mH @ R)
    weighting = Weighting("signal", "white" if Q is None else "task")
    return WeightedDecomposition(*system, R, L, U, S, Vh, white, weighting)


@pytest.mark.parametrize("method", ["last", "aire"])
def test_under_white_noise_the_measured_score_converges_to_the_methods_own(method):
    """Both sides: P by driving the system, Q by driving its adjoint, at the rate of samples."""
    lam, b, c = system = tensors(random_system(6, 2, r_max=0.9))
    wanted = scores(decompose(*system), method)
    generator = torch.Generator().manual_seed(0)
    errors = []
    for sequences in (5, 80, 1280):
        moments = [
            SecondMoment(one[None], into[None].resolve_conj())
            for one, into in ((lam, b), (lam.conj().resolve_conj(), c.mH))
        ]
        for moment in moments:
            noise = torch.randn(sequences, 400, 2, generator=generator, dtype=torch.float64)
            moment.add(noise)
        found = scores(weighted(system, *(one.mean[0] for one in moments)), method)
        errors.append(float((found / wanted - 1.0).abs().max()))
    # The first steps, before the states have grown, are 1 / (400 (1 - 0.9^2)) of the mean.
    assert errors[0] > 2 * errors[1] > 2.5 * errors[2]
    assert errors[2] < 0.035


@pytest.mark.parametrize("method", ["last", "aire"])
@pytest.mark.parametrize("gap", [0.5, 1e-3, 1e-9])
def test_white_gramians_give_the_methods_own_score_to_rounding(method, gap):
    lam, b, c = tensors(random_system(6, 2))
    lam = lam / lam.abs() * (1.0 - gap)
    white = decompose(lam, b, c)
    same = WeightedDecomposition(*vars(white).values(), white, Weighting("horizon", "horizon"))
    torch.testing.assert_close(scores(same, method), scores(white, method), rtol=1e-10, atol=0.0)


def test_aire_measures_the_energy_of_the_modes_own_output():
    """|C_i|^2 E|h_i|^2 by the recurrence, of inputs that are far from white."""
    lam, b, c = system = tensors(random_system(5, 2, r_max=0.95))
    v = torch.randn(7, 60, 2, generator=torch.Generator().manual_seed(1)).cumsum(1).double()
    moment = SecondMoment(lam[None], b[None])
    moment.add(v)
    h, energy = torch.zeros(7, 5, dtype=torch.complex128), torch.zeros(5, dtype=torch.float64)
    for k in range(60):
        h = lam * h + v[:, k].to(b.dtype) @ b.T
        energy += (h.abs().square()[..., None] * c.T.abs().square()).sum(-1).sum(0) / (7 * 60)
    found = scores(weighted(system, moment.mean[0]), "aire")
    torch.testing.assert_close(found, energy, rtol=1e-9, atol=0.0)
    assert sum(x.shape[0] for x in driven(lam[None], b[None], v)) == 60
    assert not torch.equal(best(found, 2), best(scores(decompose(*system), "aire"), 2))


@pytest.mark.parametrize("method", ["last", "aire"])
@pytest.mark.parametrize(("gramians", "kind"), [("signal", "deaf"), ("task", "unseen")])
def test_modes_that_are_never_driven_or_never_seen_go_first(method, gramians, kind):
    model, found = Deaf(**{kind: True}), batches(width=2)
    for x, _ in found:
        x[..., 1] *= kind == "unseen"
    (white,) = truncate(Deaf(**{kind: True}), state_dims=4, method=method)
    (done,) = truncate(
        model,
        state_dims=4,
        method=method,
        gramians=gramians,
        calibration=found,
        loss=lambda y, _: y[..., 0].square().mean(1),
    )
    assert done.modes.tolist() == [0, 1, 2, 3]
    assert white.modes.tolist() != [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["last", "aire"])
@pytest.mark.parametrize("gramians", ["horizon", "input", "signal", "task"])
def test_a_models_modes_by_measured_scores(method, gramians):
    model = Classifier()
    kept = model.first.system()[0]
    done = truncate(
        model,
        state_dims=4,
        method=method,
        gramians=gramians,
        calibration=batches(),
        loss=cross_entropy,
        length=LENGTH,
    )
    for one in done:
        assert 0.0 < one.output_error < 2.0
        assert one.error_bound > 0.0  # of selected modes, by the triangle inequality: it holds
        assert one.stabilised is None
    assert torch.equal(done[0].eigenvalues, kept[done[0].modes].to(torch.complex128))
    assert [layer.state_dim for layer in layers(model)] == [4, 4]


@pytest.mark.parametrize("method", ["last", "aire"])
def test_sizes_across_layers_follow_the_measured_scores(method):
    """They are normalised, so that a layer's gain says nothing, but which modes are driven does."""
    model = Classifier()
    white = decompositions(model)
    calibration = Calibration(batches(), loss=cross_entropy)
    found = weighted_decompositions(
        model, dict(enumerate(layers(model))), dict(enumerate(white)), weighting_of("signal"),
        calibration,
    )  # fmt: skip
    given = list(found.values())
    assert sum(ranks(given, method=method, scope="global", mean_dim=4.5)) == 9
    by_tau = ranks(given, method=method, scope="global", tau=0.05)
    for one, order in zip(given, by_tau, strict=True):
        ranked = scores(one, method).sort(descending=True).values
        eps = 1e-12 if method == "aire" else 0.0
        assert order == max(1, int((ranked / (ranked.cumsum(0) + eps) >= 0.05).sum()))
    assert by_tau != ranks(white, method=method, scope="global", tau=0.05)
    # Scaling a layer's input scales all its scores alike.
    louder = [replace(given[0], R=given[0].R * 100.0), given[1]]
    assert ranks(louder, method=method, scope="global", tau=0.05) == by_tau
    cut = [int(one) for one in ranks(given, method=method, tau=0.1)]
    for one, order in zip(given, cut, strict=True):
        shares = scores(one, method).sort(descending=True).values
        assert float(shares[:order].sum() / shares.sum()) >= 0.9
        assert float(shares[: order - 1].sum() / shares.sum()) < 0.9


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"method": "modal"},
            "balanced, last, aire .* not 'modal', which weighs nothing by a norm",
        ),
        ({"method": "singular_perturbation"}, "not 'singular_perturbation'$"),
        ({"keep": "smallest"}, "keep 'largest', not 'smallest'$"),
    ],
)
def test_methods_that_measure_nothing_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        truncate(Classifier(), state_dims=3, gramians="signal", calibration=batches(), **asked)
