"""Confidence intervals: coverage by simulation and by exact summation, and their limits."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from pvsc_link.intervals import (
    _quantiles,
    bootstrap_ends,
    bootstrap_interval,
    mean_interval,
    percentile_interval,
    wilson_interval,
)
from pvsc_link.types import InputError


def wilson_coverage(num_trials, rate, confidence):
    """Exact probability that Wilson's interval of a binomial count contains ``rate``."""
    intervals = [wilson_interval(k, num_trials, confidence) for k in range(num_trials + 1)]
    hits = [k for k, interval in enumerate(intervals) if interval.low <= rate <= interval.high]
    return float(binom.pmf(hits, num_trials, rate).sum())


def test_wilson_covers_as_promised_on_average():
    rates = np.linspace(0.02, 0.98, 49)
    mean = np.mean([wilson_coverage(60, rate, 0.95) for rate in rates])
    assert mean == pytest.approx(0.95, abs=0.01)


def test_wilson_has_the_textbook_values():
    assert wilson_interval(10, 100) == pytest.approx((0.1, 0.0552, 0.1744), abs=1e-4)
    assert wilson_interval(0, 20_000).high == pytest.approx(1.92e-4, rel=1e-2)


@pytest.mark.parametrize("num_trials", [1, 40, 299, 20_000])
def test_the_ends_stay_probabilities_and_contain_the_estimate(num_trials):
    for num_errors in sorted({0, 1, num_trials // 2, num_trials - 1, num_trials}):
        estimate, low, high = wilson_interval(num_errors, num_trials)
        assert 0.0 <= low <= estimate <= high <= 1.0
        assert estimate == num_errors / num_trials
        assert (low == 0.0) == (num_errors == 0)
        assert (high == 1.0) == (num_errors == num_trials)


def test_half_as_many_independent_trials_give_a_wider_interval():
    whole, half = wilson_interval(3, 9), wilson_interval(1.5, 4.5)
    assert half.low < whole.low < whole.high < half.high


@pytest.mark.parametrize("num_values", [3, 10])
def test_the_t_interval_of_a_mean_covers_as_promised(num_values):
    samples = np.random.default_rng(0).normal(5.0, 2.0, (4000, num_values))
    intervals = [mean_interval(sample) for sample in samples]
    covered = np.mean([i.low <= 5.0 <= i.high for i in intervals])
    assert covered == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


def test_one_value_says_nothing_about_its_spread():
    assert mean_interval([3.0]) == (3.0, -math.inf, math.inf)


def test_more_confidence_is_a_wider_interval():
    assert mean_interval([1, 2, 4], 0.99).high > mean_interval([1, 2, 4], 0.9).high
    assert wilson_interval(3, 50, 0.99).high > wilson_interval(3, 50, 0.9).high


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([]),
        lambda: mean_interval([1.0, math.nan]),
        lambda: mean_interval([1.0, 2.0], 1.0),
        lambda: wilson_interval(1, 0),
        lambda: wilson_interval(5, 4),
        lambda: wilson_interval(-1, 4),
        lambda: wilson_interval(1, 4, 0.0),
    ],
)
def test_impossible_samples_counts_and_confidences_are_refused(call):
    with pytest.raises(InputError):
        call()


@pytest.mark.parametrize(("num_clips", "num_seeds"), [(3, 10), (5, 1), (5, 10), (20, 3)])
def test_a_bootstrap_over_clips_and_seeds_covers_the_mean_of_all_clips(num_clips, num_seeds):
    random = np.random.default_rng([num_clips, num_seeds])
    num_cases, covered = 1500, 0
    for case in range(num_cases):
        of_clips = random.normal(0.3, 1.0, (num_clips, 1))
        of_seeds = random.normal(0.0, 1.0, (num_clips, num_seeds))
        interval = bootstrap_interval((of_clips + of_seeds).mean(axis=1), seed=case)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.93 <= covered / num_cases <= 0.97


def test_a_bootstrap_over_the_seeds_of_one_clip_covers_a_ratio_of_means():
    """The statistic is no mean: as for BD-CBR, it is computed again for every resample."""
    random = np.random.default_rng(3)
    num_cases, covered = 600, 0
    for _ in range(num_cases):
        pairs = random.normal([2.0, 4.0], [0.3, 0.5], (10, 2))
        drawn = pairs[random.integers(0, 10, (1000, 10))].mean(axis=1)
        estimate = pairs[:, 1].mean() / pairs[:, 0].mean()
        interval = percentile_interval(estimate, drawn[:, 1] / drawn[:, 0], 10)
        covered += interval.low <= 2.0 <= interval.high
    assert 0.93 <= covered / num_cases <= 0.97


def test_two_clips_give_no_bootstrap_interval():
    assert bootstrap_interval([0.1, 0.2]) is None
    assert percentile_interval(0.1, [0.1, 0.2, 0.1], num_units=1) is None
    assert bootstrap_interval([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25)


def test_a_bootstrap_refuses_what_is_no_sample():
    for values in ([], [0.1, math.nan, 0.2], [[0.1], [0.2]]):
        with pytest.raises(InputError, match="no mean"):
            bootstrap_interval(values)


def test_intervals_of_many_groups_are_those_of_each_by_plain_resampling():
    """Groups of 2, 3, 5 and 12 units in mixed order, against the definition by numpy.quantile."""
    rng = np.random.default_rng(3)
    group = rng.permutation(np.repeat([0, 1, 2, 3, 4], [2, 3, 5, 12, 5]))
    values = rng.normal(30, 2, len(group))
    ends = bootstrap_ends(values, group, 6)
    assert np.isnan(ends[[0, 5]]).all()
    for number in (1, 2, 3, 4):
        units = values[group == number]
        drawn = np.random.default_rng(0).integers(0, len(units), (4000, len(units)))
        expected = percentile_interval(units.mean(), units[drawn].mean(axis=1), len(units))
        np.testing.assert_allclose(ends[number], expected[1:], rtol=1e-12)
        np.testing.assert_allclose(bootstrap_interval(units), expected, rtol=1e-12)


def test_quantiles_of_counted_values_are_those_of_the_values_written_out():
    """Also where a quantile lies exactly between two values."""
    values, times = np.array([[3.0, 1.0, 2.0], [5.0, 9.0, 7.0]]), np.array([2, 1, 2])
    shares = (0.0, 0.25, 0.5, 0.6, 0.75, 1.0)
    expected = np.quantile(np.repeat(values, times, axis=1), shares, axis=1).T
    np.testing.assert_allclose(_quantiles(values, times, shares), expected)
