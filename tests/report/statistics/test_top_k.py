import numpy as np
import pytest
from scipy import stats

from harness.report.statistics import top_k
from harness.report.statistics.intervals import known_coverage, mean_interval, simulated_coverage
from harness.report.statistics.top_k import top_k_bootstrap, top_k_excess, top_k_interval


def test_excess_by_known_order_statistics():
    # The larger of two normal values lies 1/sqrt(pi) above the mean, the largest of three
    # 3/(2 sqrt(pi)); the best n of n are the mean itself.
    assert top_k_excess(2, 1) == pytest.approx(1 / np.sqrt(np.pi))
    assert top_k_excess(3, 1) == pytest.approx(1.5 / np.sqrt(np.pi))
    assert top_k_excess(3, 3) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("count", [5, 8, 10])
def test_excess_is_the_simulated_one(count):
    values = np.random.default_rng(1).standard_normal((200_000, count))
    simulated = np.sort(values, axis=1)[:, -3:].mean()  # standard error below 0.002
    assert top_k_excess(count) == pytest.approx(simulated, abs=0.006)


@pytest.mark.parametrize(("count", "k"), [(2, 3), (3, 0)])
def test_more_best_seeds_than_seeds_are_refused(count, k):
    with pytest.raises(ValueError, match=r"k must lie in 1\.\."):
        top_k_excess(count, k)


def test_of_three_seeds_the_best_three_have_students_interval():
    found, student = top_k_interval([1.0, 2.0, 4.0]), mean_interval([1.0, 2.0, 4.0])
    assert found.mean == student.mean
    # The quantiles are simulated: 1 % of the half-width.
    assert (found.low, found.high) == pytest.approx((student.low, student.high), rel=0.03)


def test_the_interval_follows_the_direction():
    values = np.array([0.1, 0.5, 0.4, 0.9, 0.3])
    up, down = top_k_interval(values), top_k_interval(-values, higher_is_better=False)
    assert (down.mean, down.low, down.high) == pytest.approx((-up.mean, -up.high, -up.low))
    assert up.low < up.mean < up.high
    assert up.mean == pytest.approx(0.6)


@pytest.mark.parametrize("count", [3, 5, 8, 10])
def test_the_interval_covers_what_it_says(count):
    # 2,000 experiments: standard error 0.005.
    rng, truth = np.random.default_rng(count), top_k_excess(count)
    found = simulated_coverage(top_k_interval, count, rng, truth)
    assert found == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("count", [3, 5, 8, 10])
def test_the_bootstrap_covers_what_its_table_says(count):
    rng, truth = np.random.default_rng(count), top_k_excess(count)
    found = simulated_coverage(
        lambda values: top_k_bootstrap(values, rng, resamples=400), count, rng, truth, 1_000
    )
    assert found == pytest.approx(top_k.BOOTSTRAP_COVERAGE[count], abs=0.04)
    assert found < 0.9  # which is why it does not judge claims


def test_the_bootstrap_of_two_by_hand():
    # The larger of two drawn from (0, 1): 0 in a quarter of cases, else 1.
    found = top_k_bootstrap([0.0, 1.0], np.random.default_rng(0), k=1)
    assert found[:3] == (1.0, 0.0, 1.0)
    assert top_k_bootstrap([0.0, 1.0], np.random.default_rng(0), k=1, confidence=0.4).low == 1.0


@pytest.mark.parametrize("interval", [top_k_interval, lambda v: top_k_bootstrap(v, None)])
def test_too_few_seeds_have_no_bounds(interval):
    assert np.isnan(interval([1.0, 2.0])[:3]).all()


def test_coverage_between_known_counts_is_the_smaller():
    assert known_coverage(7, top_k.BOOTSTRAP_COVERAGE) == 0.79
    assert known_coverage(9, top_k.BOOTSTRAP_COVERAGE) == 0.78
    assert np.isnan(known_coverage(2, top_k.BOOTSTRAP_COVERAGE))


def test_normal_quantiles_are_not_used_where_t_is_needed():
    """With 3 seeds Student's quantile is 4.3, not 1.96: the interval must show it."""
    found = top_k_interval([-1.0, 0.0, 1.0])
    assert found.high == pytest.approx(stats.t.ppf(0.975, 2) / 3**0.5, rel=0.03)
