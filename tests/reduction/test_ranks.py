"""Ranks by energy, sizes and budgets: spectra that one can add up by hand, and what is refused."""

import itertools

import numpy as np
import pytest
import torch

from harness.reduction import decompositions, energy_rank, ranks, spectra, truncate
from harness.reduction.hankel import decompose
from harness.reduction.modes import scores

from .networks import dims, nested
from .systems import random_system, with_hsv


def with_gains(magnitudes, gains):
    """One channel, C = 1: |B_i| of every mode, and its |eigenvalue|."""
    B = torch.tensor(gains, dtype=torch.complex128)[:, None]
    lam = torch.tensor(magnitudes, dtype=torch.complex128)
    return decompose(lam, B, torch.ones_like(B).mT)


# Kept fractions by rank: 0.5, 0.8, 0.95, 1 and 0.7, 0.9, 1. The steps of the common fraction, in
# order: both at 1 up to 0.5; (2, 1) to 0.7; (2, 2) to 0.8; (3, 2) to 0.9; (3, 3) to 0.95; (4, 3).
TWO = [with_hsv(50.0, 30.0, 15.0, 5.0), with_hsv(7.0, 2.0, 1.0)]


@pytest.mark.parametrize(
    ("mean_dim", "wanted"),
    [(1.0, [1, 1]), (1.4, [1, 1]), (1.5, [2, 1]), (2.0, [2, 2]), (2.49, [2, 2]), (2.5, [3, 2]),
     (3.0, [3, 3]), (3.4, [3, 3]), (3.5, [4, 3])],
)  # fmt: skip
@pytest.mark.parametrize("method", ["balanced", "singular_perturbation"])
def test_a_common_energy_fraction_by_hand(mean_dim, wanted, method):
    assert ranks(TWO, method=method, scope="global", mean_dim=mean_dim) == wanted


def test_a_common_energy_fraction_never_exceeds_the_budget():
    """Equal layers step together: three of them cannot share 5 states, so they take 3."""
    same = [with_hsv(3.0, 2.0, 1.0)] * 3
    assert ranks(same, scope="global", mean_dim=5 / 3) == [1, 1, 1]
    assert ranks(same, scope="global", mean_dim=2.0) == [2, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_a_common_energy_fraction_is_the_best_that_there_is(seed):
    """Against every tau at which some layer changes its rank."""
    rng = np.random.default_rng(seed)
    spectra = [np.sort(rng.exponential(size=n))[::-1] ** 3 for n in (9, 5, 12)]
    steps = itertools.chain(*(1 - np.cumsum(hsv) / hsv.sum() for hsv in spectra))
    at = [
        [energy_rank(hsv, t) for hsv in spectra] for t in (0.0, *(max(s, 0) + 1e-12 for s in steps))
    ]
    for total in range(3, 27):
        best = max((r for r in at if sum(r) <= total), key=sum)
        assert ranks([with_hsv(*h) for h in spectra], scope="global", mean_dim=total / 3) == best


def test_pooled_energy_by_hand():
    # Shares 0.50 0.30 0.15 0.05 and 0.7 0.2 0.1; weakest first 0.05, 0.1, 0.15, 0.2, 0.3, sums
    # 0.05, 0.15, 0.3, 0.5, 0.8 against tau x 2.
    for tau, wanted in [
        (0.02, [4, 3]),
        (0.03, [3, 3]),
        (0.08, [3, 2]),
        (0.16, [2, 2]),
        (0.26, [2, 1]),
    ]:
        assert ranks(TWO, scope="global", tau=tau) == wanted
    assert ranks(TWO, scope="global", tau=0.0) == [4, 3]
    assert ranks(TWO, scope="global", tau=0.99) == [1, 1]


@pytest.mark.parametrize("tau", [0.0, 0.01, 0.2, 0.5, 0.9])
def test_pooled_energy_of_one_layer_is_its_energy_rank(tau):
    hsv = spectra(nested())[0][0]
    assert ranks([with_hsv(*hsv.tolist())], scope="global", tau=tau) == [energy_rank(hsv, tau)]


# All of one |eigenvalue| 0.5 and thus in proportion to |B|^2: worth 8, 1, 1 and 4, 4, 2 by LAST and
# AIRE alike. Sums from the largest down: 8, 9, 10 and 4, 8, 10; normalised 1, 1/9, 1/10 and 1, 1/2,
# 1/5. The other layer is 1000 times stronger, which makes no difference.
SHARED = [
    with_gains([0.5, 0.5, 0.5], [1.0, np.sqrt(8), 1.0]),
    with_gains([0.5, 0.5, 0.5], [2e3, np.sqrt(2) * 1e3, 2e3]),
]


@pytest.mark.parametrize("method", ["last", "aire"])
@pytest.mark.parametrize(
    ("mean_dim", "wanted"),
    [(1, [1, 1]), (1.5, [1, 2]), (1.99, [1, 2]), (2, [1, 3]), (2.5, [2, 3]), (3, [3, 3])],
)
def test_normalised_scores_by_hand(method, mean_dim, wanted):
    assert ranks(SHARED, method=method, scope="global", mean_dim=mean_dim) == wanted


@pytest.mark.parametrize("method", ["last", "aire"])
@pytest.mark.parametrize(
    ("tau", "wanted"),
    [(0.0, [3, 3]), (0.105, [2, 3]), (0.15, [1, 3]), (0.3, [1, 2]), (0.9, [1, 1])],
)
def test_normalised_scores_against_a_threshold_by_hand(method, tau, wanted):
    assert ranks(SHARED, method=method, scope="global", tau=tau) == wanted


@pytest.mark.parametrize("method", ["last", "aire"])
def test_by_layer_the_scores_are_energy(method):
    # 8 of 10 and 4, 8 of 10.
    assert ranks(SHARED, method=method, tau=0.25) == [1, 2]
    assert ranks(SHARED, method=method, tau=0.15) == [2, 3]


def test_modal_pools_magnitudes():
    systems = [with_gains([0.1, 0.9, 0.8], [1, 1, 1]), with_gains([0.2, 0.3, 0.85], [1, 1, 1])]
    wanted = {2: [1, 1], 3: [2, 1], 4: [2, 2], 5: [2, 3], 6: [3, 3]}
    for total, each in wanted.items():
        assert ranks(systems, method="modal", scope="global", mean_dim=total / 2) == each


def test_no_layer_goes_empty():
    systems = [with_gains([0.1, 0.2], [1, 1]), with_gains([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1])]
    assert ranks(systems, method="modal", scope="global", mean_dim=1.5) == [1, 2]


def test_a_lot_is_pooled_and_repeatable():
    systems = [with_hsv(*[1.0] * 30), with_hsv(*[1.0] * 10)]
    how = {"method": "random", "scope": "global", "mean_dim": 8.0}
    drawn = [ranks(systems, **how, generator=np.random.default_rng(s)) for s in range(400)]
    assert {sum(r) for r in drawn} == {16}
    assert drawn[3] == ranks(systems, **how, generator=np.random.default_rng(3))
    # Hypergeometric: mean 16 x 10 / 40 = 4 with sd 1.36, and 0.07 of the mean of 400.
    assert np.mean([r[1] for r in drawn]) == pytest.approx(4.0, abs=0.3)


def test_by_layer_a_budget_is_one_rank():
    found = decompositions(nested())
    for method in ("balanced", "last", "modal", "random"):
        assert ranks(found, method=method, mean_dim=3.6) == [3, 3, 3]  # never above it
    assert ranks(found, state_dims=[2, 7, 1]) == [2, 7, 1]
    assert ranks(found, state_dims=np.int64(5)) == [5, 5, 5]


@pytest.mark.parametrize("method", ["balanced", "singular_perturbation", "last", "aire"])
def test_ranks_by_tau_are_those_of_truncate(method):
    model = nested()
    wanted = ranks(decompositions(model), method=method, tau=0.2)
    truncate(model, tau=0.2, method=method)
    assert dims(model) == wanted


@pytest.mark.parametrize("method", ["last", "aire"])
def test_what_truncate_keeps_is_what_the_pool_chose(method):
    """The pooled best of all layers, listed by hand, are the modes that are left."""
    model = nested()
    found = decompositions(model)
    pool = []
    for layer, one in enumerate(found):
        values = scores(one, method).tolist()
        for i, value in enumerate(values):
            pool.append((value / sum(v for v in values if v >= value), layer, i))
    chosen = sorted(pool, reverse=True)[:12]
    wanted = [sorted(i for _, owner, i in chosen if owner == layer) for layer in range(3)]
    assert all(len(kept) < n for kept, n in zip(wanted, dims(model), strict=True))
    orders = ranks(found, method=method, scope="global", mean_dim=4.0)
    truncations = truncate(model, state_dims=orders, method=method)
    assert [t.modes.tolist() for t in truncations] == wanted


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "exactly one of tau, state_dims and mean_dim"),
        ({"tau": 0.1, "mean_dim": 3}, "exactly one of tau, state_dims and mean_dim"),
        (
            {"mean_dim": 7.5},
            r"mean_dim 7.5 is a budget larger than the model: its 3 blocks have 7 ",
        ),
        ({"mean_dim": 7.5, "scope": "global"}, "7.5 is a budget larger than the model"),
        ({"mean_dim": 0.5, "scope": "global"}, "mean_dim must be a number from 1 upwards, not 0.5"),
        ({"mean_dim": float("nan")}, "mean_dim must be a number from 1 upwards, not nan"),
        ({"state_dims": [3, 3, 6]}, "block 2: order must be from 1 to 5, not 6"),
        ({"state_dims": [3, 3]}, "2 state dimensions for 3 blocks"),
        ({"state_dims": 3, "scope": "global"}, "state_dims are per layer"),
        ({"tau": 1.0}, r"block 0: tau must be in \[0, 1\)"),
        ({"tau": -0.1, "scope": "global", "method": "last"}, r"block 0: tau must be in \[0, 1\)"),
        ({"tau": 0.1, "method": "modal"}, "method 'modal' has no energy for tau to discard"),
        ({"tau": 0.1, "method": "random", "scope": "global"}, "'random' has no energy for tau"),
        ({"tau": 0.1, "method": "best"}, "method must be one of balanced, .*random, not 'best'"),
        ({"tau": 0.1, "scope": "model"}, "scope must be one of layer, global, not 'model'"),
        ({"mean_dim": 3, "scope": "global", "method": "random"}, "'random' needs a generator"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(how, message):
    with pytest.raises(ValueError, match=message) as refused:
        ranks(decompositions(nested()), **how)
    assert "\n" not in str(refused.value)


def test_a_dead_layer_is_named():
    dead = [with_hsv(1.0, 0.5), with_hsv(0.0, 0.0)]
    for how in (
        {"tau": 0.1},
        {"tau": 0.1, "scope": "global"},
        {"mean_dim": 1.0, "scope": "global"},
    ):
        with pytest.raises(ValueError, match=r"block 1: .* sum to zero"):
            ranks(dead, **how)


def test_a_score_beyond_double_precision_is_refused():
    lam, B, C = random_system(4, 2)
    system = decompose(*(torch.from_numpy(a) for a in (lam, 1e145 * B, 1e10 * C)))
    with pytest.raises(ValueError, match="block 0: a mode's last score overflows"):
        ranks([system], method="last", tau=0.1)
    with pytest.raises(ValueError, match="block 0: a mode's aire score overflows"):
        ranks([system], method="aire", scope="global", mean_dim=2)


def test_a_whole_budget_is_not_lost_to_binary_fractions():
    same = [with_gains([0.1 * k for k in range(1, 10)], [1.0] * 9)] * 100
    assert 4.35 * 100 < 435
    assert sum(ranks(same, method="modal", scope="global", mean_dim=4.35)) == 435
