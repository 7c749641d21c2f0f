"""Sizes shared out across blocks by one common share of the weighted energy."""

import pytest
from torch.nn.functional import cross_entropy

from harness.arms import Event
from harness.arms.post_hoc import PostHocSpec
from harness.reduction import (
    Calibration,
    decompositions,
    layers,
    ranks,
    weighted_decompositions,
    weighting_of,
)

from .test_poles import unstable_model
from .test_truncate import batches


def weighed(gramians):
    model = unstable_model()
    found, white = (dict(enumerate(f(model))) for f in (layers, decompositions))
    calibration = Calibration(batches(), loss=cross_entropy, length=30)
    how = weighting_of(gramians)
    return list(weighted_decompositions(model, found, white, how, calibration).values())


def kept(one, tau):
    """The smallest r whose states left out sum to at most tau of all, by trying each."""
    sigma = one.hsv.tolist()
    return next(r for r in range(1, 25) if sum(sigma[r:]) <= tau * sum(sigma))


@pytest.mark.parametrize("gramians", ["horizon", "input", "signal", "task"])
@pytest.mark.parametrize("mean_dim", [2, 3.5, 6])
def test_the_budget_is_filled_at_the_smallest_common_tau_of_the_weighted_values(gramians, mean_dim):
    systems = weighed(gramians)
    steps = sorted(
        sum(one.hsv.tolist()[r:]) / sum(one.hsv.tolist()) for one in systems for r in range(25)
    )
    exact = (tau * (1 + 1e-12) for tau in steps)
    sizes = ([kept(one, tau) for one in systems] for tau in exact)
    wanted = next(some for some in sizes if sum(some) <= 2 * mean_dim)
    assert ranks(systems, mean_dim=mean_dim, scope="global") == wanted
    arm = PostHocSpec(mean_dim=mean_dim, scope="global", gramians=gramians)
    assert arm.ranks(systems, Event()) == wanted


def test_the_weighting_decides_which_block_gets_more():
    found = {name: ranks(weighed(name), mean_dim=8, scope="global") for name in ("white", "task")}
    assert found["white"] != found["task"]
    assert all(sum(sizes) <= 16 for sizes in found.values())
