"""The statistics of a comparison, held against scipy where scipy has them."""

import numpy as np
import pytest
from scipy import stats

from profiler_agent.compare_runs import bootstrap_median_ratios, percentile_interval
from shared.measurements.significance import holm, mann_whitney_p, ratio_interval, smallest_p


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 6), (3, 4), (6, 6), (8, 5), (10, 16), (20, 20), (2, 200)])
def test_small_samples_without_ties_have_the_exact_p_value(m, n):
    rng = np.random.default_rng(m * 1000 + n)
    for shift in (0.0, 0.5, 2.0):
        a, b = rng.normal(size=m), rng.normal(size=n) + shift
        expected = stats.mannwhitneyu(a, b, method="exact").pvalue
        assert mann_whitney_p(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("m", "n"), [(30, 25), (21, 20), (100, 80)])
def test_large_samples_have_the_normal_approximation(m, n):
    rng = np.random.default_rng(m)
    for shift in (0.0, 0.3, 3.0):
        a, b = rng.normal(size=m), rng.normal(size=n) + shift
        expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
        assert mann_whitney_p(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("m", "n", "values"), [(6, 6, 3), (10, 16, 5), (60, 40, 10)])
def test_ties_are_corrected_for(m, n, values):
    rng = np.random.default_rng(m)
    a, b = rng.integers(values, size=m).astype(float), rng.integers(values, size=n) + 1.0
    expected = stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert mann_whitney_p(a, b) == pytest.approx(expected, rel=1e-9)


def test_equal_or_missing_values_are_no_evidence():
    assert mann_whitney_p([1.0] * 8, [1.0] * 8) == 1.0
    assert mann_whitney_p([], [1.0, 2.0]) == 1.0
    assert mann_whitney_p([1.0], []) == 1.0


def test_the_order_of_the_samples_does_not_matter():
    a, b = [1.0, 2.0, 3.0, 9.0], [4.0, 5.0, 6.0, 7.0, 8.0]
    assert mann_whitney_p(a, b) == mann_whitney_p(b, a)


def test_samples_that_do_not_overlap_have_the_smallest_p_value():
    for m, n in ((3, 3), (6, 6), (16, 20)):
        p = mann_whitney_p(list(map(float, range(m))), list(map(float, range(100, 100 + n))))
        assert p == pytest.approx(smallest_p(m, n))


def test_holm_corrects_step_by_step_and_never_beyond_one():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_without_a_difference_a_family_of_tests_raises_few_false_alarms():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        p_values = [mann_whitney_p(rng.lognormal(size=12), rng.lognormal(size=12)) for _ in range(10)]
        alarms += min(holm(p_values)) < 0.05
    assert alarms <= 20  # 10 are expected; more than 20 has probability 0.1 %


def test_bootstrap_intervals_cover_the_true_ratio_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        before, after = rng.normal(10, 0.3, size=20), rng.normal(11, 0.3, size=20)
        low, high = percentile_interval(bootstrap_median_ratios(before, after, rng, 400))
        covered += low <= 1.1 <= high
    assert 180 <= covered <= 200


def test_the_interval_of_a_ratio_belongs_to_the_rank_test_and_covers_the_truth():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(400):
        a, b = np.exp(0.1 * rng.normal(size=12)), 1.2 * np.exp(0.1 * rng.normal(size=9))
        middle, low, high = ratio_interval(a.tolist(), b.tolist())
        assert low <= middle <= high
        assert (low > 1 or high < 1) == (mann_whitney_p(a, b) <= 0.05)
        covered += low <= 1.2 <= high
    assert 0.93 <= covered / 400 <= 0.99


def test_a_ratio_of_values_that_are_not_above_zero_means_nothing():
    assert ratio_interval([1.0, 2.0], [0.0, 1.0]) is None
    assert ratio_interval([2.0], [3.0]) == (1.5, 1.5, 1.5)
