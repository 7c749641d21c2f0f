import numpy as np
import pytest
from scipy import stats

from harness.report.statistics.intervals import (
    Interval,
    mean_interval,
    ratio_interval,
    simulated_coverage,
)
from harness.report.statistics.power import (
    decide,
    equivalence_p,
    noninferiority_p,
    power,
    region_p,
    seeds_to_decide,
)

INF = float("inf")


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.0, INF, "inside"), (1.5, INF, "undecided"), (4.0, INF, "outside"),
        (-INF, 0.5, "outside"), (0.0, 4.0, "inside"), (0.0, 2.0, "undecided"),
        (1.0, 4.0, "undecided"),  # touching the bound is not inside
    ],
)  # fmt: skip
def test_an_interval_decides_by_where_it_lies(low, high, decision):
    assert decide(Interval(2.0, 1.0, 3.0, 5), low, high) == decision


def test_nothing_decides_without_an_interval_or_a_region():
    assert decide(Interval(2.0, np.nan, np.nan, 1), 0.0, INF) == "undecided"
    with pytest.raises(ValueError, match="no width"):
        decide(Interval(2.0, 1.0, 3.0, 5), 1.0, 1.0)


def test_equivalence_by_hand():
    # Differences 0, 1, 2: mean 1, standard error 1/sqrt(3). To -3: t = 4 sqrt(3); to 3: 2 sqrt(3),
    # whose tail with 2 degrees of freedom is 0.0370; that is the larger p-value.
    found = equivalence_p([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 3.0)
    t = 2 * 3**0.5
    assert found == pytest.approx(0.5 - t / (2 * (2 + t * t) ** 0.5))  # t_2 in closed form
    assert found == pytest.approx(0.0371, abs=1e-4)


def test_noninferiority_is_the_one_sided_paired_test():
    ours, theirs = [0.80, 0.90, 0.85, 0.84], [0.82, 0.88, 0.86, 0.88]
    shifted = np.array(theirs) - 0.05
    expected = stats.ttest_rel(ours, shifted, alternative="greater").pvalue
    assert noninferiority_p(ours, theirs, 0.05) == pytest.approx(expected)
    assert noninferiority_p(ours, theirs, 0.001) > noninferiority_p(ours, theirs, 0.05)


def test_decision_and_p_value_agree():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.normal(0.5, 1.0, 6)
        inside = decide(mean_interval(values), -1.0, 1.5) == "inside"
        assert inside == (region_p(values, -1.0, 1.5) < 0.025)


def test_p_values_that_are_none():
    assert np.isnan(region_p([1.0], 0.0, 2.0))
    assert np.isnan(region_p([1.0, 1.0], 0.0, 2.0))


@pytest.mark.parametrize("bad", [([1, 2], [1], 1.0), ([1, 2], [1, 2], 0.0)])
def test_pairs_and_margins_are_checked(bad):
    with pytest.raises(ValueError, match=r"pairs|must be positive"):
        equivalence_p(*bad)


@pytest.mark.parametrize("seeds", [3, 5, 8, 10])
def test_power_is_the_simulated_one(seeds):
    # The mean lies one standard deviation above the bound 0: how often does the interval, too?
    values = np.random.default_rng(seeds).normal(1.0, 1.0, (40_000, seeds))
    error = values.std(axis=1, ddof=1) / seeds**0.5
    low = values.mean(axis=1) - stats.t.ppf(0.975, seeds - 1) * error
    simulated = (low > 0).mean()  # standard error 0.0025
    assert power(1.0, 1.0, seeds) == pytest.approx(simulated, abs=0.01)


def test_power_of_certain_questions_is_one():
    assert power(1e6, 1.0, [5, 500]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="at least 2 seeds"):
        power(1.0, 1.0, 1)


def test_seeds_by_a_published_table():
    # Cohen (1988), paired t, two-sided 5 %, power 80 %: d = 0.5 needs 34 pairs, d = 1 needs 10.
    assert seeds_to_decide(0.5, 1.0, 0.0, INF) == 34
    assert seeds_to_decide(1.0, 1.0, 0.0, INF) == 10
    assert seeds_to_decide(2.0, 4.0, -INF, 4.0) == 34
    # From outside, only the nearer end has to be cleared.
    assert seeds_to_decide(1.5, 1.0, -1.0, 1.0) == 34
    assert seeds_to_decide(-1.5, 1.0, -1.0, 1.0) == 34


@pytest.mark.parametrize(("half", "one_sided"), [(1.0, 10), (0.6, 24)])
def test_seeds_within_two_bounds_by_simulation(half, one_sided):
    # How often does the t interval of n normal values of mean 0 lie inside ±half? By one end alone
    # fewer seeds would seem enough.
    def inside(count):
        values = np.random.default_rng(count).standard_normal((20_000, count))
        arm = stats.t.ppf(0.975, count - 1) * values.std(axis=1, ddof=1) / count**0.5
        return (np.abs(values.mean(axis=1)) + arm < half).mean()  # standard error 0.003

    needed = seeds_to_decide(0.0, 1.0, -half, half)
    assert seeds_to_decide(0.0, 1.0, -INF, half) == one_sided
    assert inside(one_sided) < 0.75
    assert inside(needed) > 0.79
    assert inside(needed - 2) < 0.8


def test_seeds_at_the_ends():
    assert seeds_to_decide(0.0, 1.0, 0.0, INF) is None
    assert seeds_to_decide(1e-3, 1.0, 0.0, INF) is None
    assert seeds_to_decide(1.0, 0.0, 0.0, INF) == 2
    with pytest.raises(ValueError, match="must not be negative"):
        seeds_to_decide(1.0, -1.0, 0.0, INF)
    with pytest.raises(ValueError, match="no width"):
        seeds_to_decide(1.0, 1.0, 2.0, 2.0)


@pytest.mark.parametrize("count", [3, 5, 8, 10])
def test_students_interval_covers_what_it_says(count):
    found = simulated_coverage(mean_interval, count, np.random.default_rng(count))
    assert found == pytest.approx(0.95, abs=0.02)  # standard error 0.005


def test_an_interval_of_ratios_by_hand():
    # Ratios 2 and 8: geometric mean 4, their logarithms spread by ln 4 / sqrt 2.
    found = ratio_interval([2.0, 8.0], [1.0, 1.0], confidence=0.5)  # t quantile 1 at 1 df
    assert found[:3] == pytest.approx((4.0, 2.0, 8.0))
    with pytest.raises(ValueError, match="not positive"):
        ratio_interval([1.0], [0.0])
