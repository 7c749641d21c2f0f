"""Unstable poles moved to the nearest stable ones, and what the record says of it."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from harness.arms import PostHocSpec
from harness.reduction import StackTruncation, TruncationError, truncate, weighting_of
from harness.reduction.balanced import eigenvectors, project
from harness.reduction.weighting import reduce as reducing
from harness.reduction.weighting import reduce_weighted
from harness.reduction.weighting.poles import nearest_stable, slowest
from harness.training.rows import truncation_row

from .test_truncate import Classifier, batches, radius, weighted

UNSTABLE = [seed for seed in range(40) if radius(weighted(seed), 6) >= 1.0]


def projecting(seed):
    system = weighted(seed)
    return replace(system, weighting=replace(system.weighting, stability="projected"))


def test_the_nearest_point_of_the_disc_is_on_the_same_radius():
    generator = torch.Generator().manual_seed(0)
    poles = torch.randn(50, generator=generator, dtype=torch.complex128)
    near = nearest_stable(poles, 0.99)
    out = poles.abs() >= 1.0
    assert out.any()
    assert torch.equal(near[~out], poles[~out])
    inside = torch.randn(50, 2000, generator=generator, dtype=torch.complex128)
    inside = inside * (0.99 / inside.abs().clamp_min(0.99))
    assert bool(
        ((near - poles).abs() <= (inside - poles[:, None]).abs().min(1).values + 1e-12).all()
    )
    torch.testing.assert_close(near[out].abs(), torch.full_like(near[out].real, 0.99))


def test_poles_unstable_by_rounding_alone_move_by_rounding_alone():
    poles = torch.tensor([1.0 + 2e-16, 1.0, 0.5], dtype=torch.complex128)
    assert float((nearest_stable(poles, 1.0 - 1e-15) - poles).abs().max()) < 2e-15


@pytest.mark.parametrize("seed", UNSTABLE)
def test_only_unstable_poles_move_and_the_record_says_how_far(seed):
    system = projecting(seed)
    done = reduce_weighted(system, 6)
    (A, _, _), T, _ = project(system, slice(0, 6))
    poles, X = eigenvectors(A)
    out = poles.abs() >= 1.0
    assert done.stabilised == "projected"
    assert torch.equal(done.eigenvalues[~out], poles[~out])
    moved = (done.eigenvalues - poles)[out]
    torch.testing.assert_close(done.eigenvalues[out].angle(), poles[out].angle())
    torch.testing.assert_close(done.eigenvalues[out].abs(), torch.full_like(
        moved.real, slowest(system)))  # fmt: skip
    assert done.poles_moved == pytest.approx(float(moved.abs().max()))
    # B, C and moments follow the projection itself.
    torch.testing.assert_close(done.T, T @ X)
    torch.testing.assert_close(done.W @ done.T, torch.eye(6, dtype=torch.complex128))
    torch.testing.assert_close(done.B, done.W @ system.B)
    torch.testing.assert_close(done.C, system.C @ done.T)
    assert done.condition > 1.0


def test_a_stable_projection_is_left_alone():
    seed = next(seed for seed in range(40) if radius(weighted(seed), 6) < 0.9999)
    done, plain = reduce_weighted(projecting(seed), 6), reduce_weighted(weighted(seed), 6)
    assert done.stabilised is None
    assert done.poles_moved is None
    assert torch.equal(done.eigenvalues, plain.eigenvalues)


def test_where_poles_alone_mend_nothing_one_side_takes_its_place(monkeypatch):
    system = projecting(UNSTABLE[0])
    check = reducing.check_diagonal_form

    def strict(balanced, reduced, *rest):
        if balanced[0].shape == (6, 6) and rest[-1] != plain.condition:
            raise TruncationError("no diagonal form")
        check(balanced, reduced, *rest)

    plain = reduce_weighted(weighted(UNSTABLE[0]), 6)
    monkeypatch.setattr(reducing, "check_diagonal_form", strict)
    done = reduce_weighted(system, 6)
    assert done.stabilised == "one_sided"
    assert done.poles_moved is None
    assert torch.equal(done.eigenvalues, plain.eigenvalues)


def test_a_stack_says_the_farthest_and_the_row_has_it():
    one, two = (reduce_weighted(projecting(seed), 6) for seed in UNSTABLE[:2])
    together = StackTruncation((one, two))
    assert together.poles_moved == max(one.poles_moved, two.poles_moved)
    arm = PostHocSpec(tau=0.1, gramians="task", stability="projected")
    assert arm.weighting == projecting(0).weighting
    row = truncation_row(arm, together)
    assert row["poles_moved"] == together.poles_moved
    assert row["stabilised"] == "projected"


def unstable_model():
    """A model whose second block, at 8 of its 24 states, is unstable when balanced by `task`."""
    model = Classifier(24)
    torch.manual_seed(14)
    for layer in (model.first, model.second):
        with torch.no_grad():
            layer.nu_log.copy_(torch.log(-torch.log(0.9 + 0.0999 * torch.rand(24))))
            layer.B_re.copy_(torch.randn_like(layer.B_re))
            layer.C_re.copy_(torch.randn_like(layer.C_re))
    return model


@pytest.mark.parametrize("stability", ["one_sided", "stabilised", "projected"])
def test_whatever_takes_its_place_its_error_is_measured(stability):
    model = unstable_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)  # moments, and weights as they are
    cross_entropy(model(batches(1)[0][0]), batches(1)[0][1]).backward()
    optimizer.step()
    old = [optimizer.state[p]["exp_avg"].clone() for p in (model.second.C_re, model.second.C_im)]
    (done,) = truncate(
        model,
        state_dims=[24, 8],
        gramians=weighting_of("task", stability=stability),
        calibration=batches(),
        loss=cross_entropy,
        optimizer=optimizer,
    )
    assert done.stabilised == stability
    assert (done.poles_moved is not None) == (stability == "projected")
    assert float(done.eigenvalues.abs().max()) < 1.0
    assert 0.0 < done.output_error < 1.0
    new = [optimizer.state[p]["exp_avg"] for p in (model.second.C_re, model.second.C_im)]
    wanted = torch.complex(*old).to(done.W.dtype) @ done.W.mH
    torch.testing.assert_close(torch.complex(*new).to(done.W.dtype), wanted, rtol=1e-4, atol=1e-8)
