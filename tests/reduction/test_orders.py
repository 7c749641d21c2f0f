"""Orders that the systems of a stack share, and those that each has for itself."""

import pytest
import torch

from harness.models import S4D
from harness.reduction import decompositions, energy_rank, ranks, truncate
from harness.reduction.ranks import shared, sharing
from harness.reduction.stacks import level, stack_ranks
from harness.suite import TrialSpec

WORTHS = [torch.tensor(one).double() for one in ([8.0, 1.0, 1.0], [0.5, 0.3, 0.2], [2.0, 2.0])]


def model_of(width=6, state_dim=6, seed=0):
    torch.manual_seed(seed)
    layer = S4D(width, state_dim, n_ssm=width, dt_min=0.05, dt_max=0.5)
    with torch.no_grad():
        layer.C_re *= torch.logspace(0, 2, width)[:, None]  # of unlike energies
        layer.C_im *= torch.logspace(0, 2, width)[:, None]
    return torch.nn.Sequential(layer), layer


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.2, 0.4])
def test_the_common_rank_loses_that_share_of_all_energy(tau):
    total = sum(float(one.sum()) for one in WORTHS)
    found = stack_ranks(WORTHS, tau, "common")
    holds = [
        r for r in range(1, 4) if sum(float(one[r:].sum()) for one in WORTHS) <= tau * total + 1e-12
    ]
    r = 3 if tau == 0.0 else holds[0]
    assert found == (r, r, min(r, 2))


@pytest.mark.parametrize("tau", [0.0, 0.05, 0.2, 0.4])
def test_the_largest_is_that_of_the_systems_own(tau):
    own = stack_ranks(WORTHS, tau)
    assert own == tuple(energy_rank(one, tau) for one in WORTHS)
    found = stack_ranks(WORTHS, tau, "largest")
    assert found == level(own, [3, 3, 2]) == (max(own), max(own), min(max(own), 2))


@pytest.mark.parametrize("orders", ["ragged", "common", "largest"])
def test_a_model_is_truncated_to_them(orders):
    model, layer = model_of()
    blocks = decompositions(model)
    (block,) = blocks
    (wanted,) = ranks(sharing(blocks, orders), tau=0.1)
    (done,) = truncate(model, tau=0.1, orders=orders)
    assert tuple(layer.orders.tolist()) == done.orders == wanted
    assert (len(set(wanted)) > 1) == (orders == "ragged")
    energies = [one.hsv for one in block.systems]
    kept = sum(float(one[:r].sum()) for one, r in zip(energies, wanted, strict=True))
    assert kept >= 0.9 * sum(float(one.sum()) for one in energies)
    if orders == "common":  # and no smaller one would do
        fewer = sum(float(one[: wanted[0] - 1].sum()) for one in energies)
        assert fewer < 0.9 * sum(float(one.sum()) for one in energies)


def test_they_cost_what_the_literature_does_not_count():
    """Padded to the largest, a ragged block stores more than its states."""
    counts = {}
    for orders in ("ragged", "common", "largest"):
        model, layer = model_of()
        truncate(model, tau=0.1, orders=orders)
        counts[orders] = (int(layer.orders.sum()), layer.C_re.numel())
    assert counts["ragged"][0] < counts["ragged"][1] == counts["largest"][1]
    assert counts["common"][0] == counts["common"][1] < counts["ragged"][1]


def test_orders_from_elsewhere_are_levelled():
    found = shared([(1, 3, 2), 4], [(6, 6, 2), 9], "common")
    assert found == [(3, 3, 2), 4]
    assert shared([(1, 3, 2)], [(6, 6, 2)], "ragged") == [(1, 3, 2)]


def test_a_wrong_name_is_refused():
    with pytest.raises(ValueError, match="orders must be one of ragged, common, largest, not 'al"):
        truncate(model_of()[0], tau=0.1, orders="all")


@pytest.mark.parametrize("kind", ["in_training", "post_hoc", "hankel_regularized"])
def test_an_arm_says_them_only_where_they_are_not_ragged(kind):
    fields = {"kind": kind, "tau": 0.1}
    one, two = (
        TrialSpec(task={"name": "digits"}, model={"kind": "s4d"}, arm={**fields, **more})
        for more in ({}, {"orders": "common"})
    )
    assert "orders" not in one.model_dump(mode="json")["arm"]
    assert two.model_dump(mode="json")["arm"]["orders"] == "common"
    assert len({one.trial_id, two.trial_id}) == 2


def test_a_bound_on_the_loss_is_kept_at_a_common_order():
    model, layer = model_of()
    batches = [(torch.randn(4, 20, 6), torch.zeros(())) for _ in range(10)]

    def loss(y, _):
        return y.square().mean()

    truncate(model, max_loss=1e4, orders="common", calibration=batches, loss=loss)
    assert len(set(layer.orders.tolist())) == 1
    assert int(layer.orders[0]) < 6
