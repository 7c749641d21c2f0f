import numpy as np
import pytest

from harness.report.statistics.intervals import (
    BOOTSTRAP_COVERAGE,
    bootstrap_coverage,
    bootstrap_interval,
    known_coverage,
    mean_interval,
    paired_difference,
    paired_ratio,
    top_k_mean,
)


def test_mean_interval_of_three_seeds():
    # Standard deviation 1; the 0.975 quantile of t with 2 degrees of freedom is 4.302653.
    mean, low, high, seeds = mean_interval([1.0, 2.0, 3.0])
    assert (mean, seeds) == (2.0, 3)
    assert low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-6)
    assert high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-6)


def test_mean_interval_narrows_with_confidence():
    # t with 1 degree of freedom, two-sided 50 %: quantile 1; half-width 1 x sqrt(2) / sqrt(2).
    assert mean_interval([0.0, 2.0], confidence=0.5)[:3] == pytest.approx((1.0, 0.0, 2.0))


def test_one_seed_has_no_interval():
    mean, low, high, seeds = mean_interval([0.5])
    assert (mean, seeds) == (0.5, 1)
    assert np.isnan([low, high]).all()


def test_no_seed_has_no_mean():
    assert np.isnan(mean_interval([])[:3]).all()


@pytest.mark.parametrize("bad", [[0.1, np.nan], [0.1, np.inf], [[0.1, 0.2]]])
def test_values_that_are_no_seeds_are_refused(bad):
    with pytest.raises(ValueError, match="seed"):
        mean_interval(bad)


def test_paired_difference_by_hand():
    # Differences 0.10, 0.15, 0.10: mean 0.116667, sd 0.0288675, half 4.302653 sd / sqrt(3).
    found = paired_difference([0.80, 0.90, 0.85], [0.70, 0.75, 0.75])
    assert found[:3] == pytest.approx((0.1166667, 0.0449558, 0.1883775), abs=1e-6)
    assert found.seeds == 3


def test_positive_means_better_whatever_the_direction():
    lower = paired_difference([0.80, 0.90], [0.70, 0.75], higher_is_better=False)
    higher = paired_difference([0.80, 0.90], [0.70, 0.75])
    assert lower.mean == pytest.approx(-0.125)
    assert (lower.low, lower.high) == pytest.approx((-higher.high, -higher.low))


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="2 values and 3"):
        paired_difference([1, 2], [1, 2, 3])


def test_a_ratio_is_the_median_of_pairs_with_its_range():
    assert paired_ratio([30.0, 8.0, 18.0], [10.0, 10.0, 20.0]) == (0.9, 0.8, 3.0, 3)
    assert paired_ratio([3.0, 1.0], [1.0, 1.0]).median == 2.0
    assert np.isnan(paired_ratio([], [])[:3]).all()


def test_ratios_without_pairs_or_of_no_cost_are_refused():
    with pytest.raises(ValueError, match="needs pairs: 2 values and 1"):
        paired_ratio([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="not positive"):
        paired_ratio([1.0], [0.0])


def test_published_aggregate_is_the_best_three_by_test():
    values = [0.1, 0.9, 0.5, 0.7, 0.3]
    assert top_k_mean(values) == pytest.approx(0.7)
    assert top_k_mean(values, higher_is_better=False) == pytest.approx(0.3)
    assert top_k_mean(values, k=1) == pytest.approx(0.9)
    assert np.isnan(top_k_mean([0.1, 0.9]))


def test_bootstrap_uses_the_generator_it_is_given():
    values = [0.1, 0.5, 0.9, 0.4]
    once = bootstrap_interval(values, np.random.default_rng(1))
    assert once == bootstrap_interval(values, np.random.default_rng(1))
    assert once != bootstrap_interval(values, np.random.default_rng(2), resamples=50)
    assert 0.1 <= once.low < 0.475 < once.high <= 0.9


def test_bootstrap_of_two_values_by_hand():
    # Means of resamples of (0, 1): 0, 0.5, 0.5, 1, a quarter each, so 95 % reaches both ends.
    assert bootstrap_interval([0, 1], np.random.default_rng(0))[:3] == (0.5, 0.0, 1.0)


@pytest.mark.parametrize("seeds", [3, 5])
def test_stated_bootstrap_coverage_is_the_simulated_one(seeds):
    # Standard error of 1,500 experiments: 0.011. Nominal 0.95 would be 10 of them away.
    found = bootstrap_coverage(seeds, np.random.default_rng(7), experiments=1_500, resamples=500)
    assert found == pytest.approx(BOOTSTRAP_COVERAGE[seeds], abs=0.04)


def test_coverage_between_known_counts_is_understated():
    assert known_coverage(7) == BOOTSTRAP_COVERAGE[6]
    assert np.isnan(known_coverage(1))
