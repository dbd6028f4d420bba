"""Confidence intervals: coverage by simulation and by exact summation, and their limits."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from pvsc_link.metrics.statistics import clopper_pearson_interval, mean_interval, wilson_interval
from pvsc_link.types import InputError


def coverage(interval, num_trials, rate, confidence):
    """Exact probability that the interval of a binomial count contains ``rate``."""
    hits = [
        k
        for k in range(num_trials + 1)
        if interval(k, num_trials, confidence).low <= rate <= interval(k, num_trials, confidence)[2]
    ]
    return float(binom.pmf(hits, num_trials, rate).sum())


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.37, 0.5, 0.93])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_clopper_pearson_never_covers_less_than_promised(rate, confidence):
    assert coverage(clopper_pearson_interval, 60, rate, confidence) >= confidence - 1e-12


def test_wilson_covers_as_promised_on_average():
    rates = np.linspace(0.02, 0.98, 49)
    mean = np.mean([coverage(wilson_interval, 60, rate, 0.95) for rate in rates])
    assert mean == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("interval", [wilson_interval, clopper_pearson_interval])
def test_the_ends_stay_probabilities_and_contain_the_estimate(interval):
    for num_errors in (0, 1, 20, 39, 40):
        estimate, low, high = interval(num_errors, 40)
        assert 0.0 <= low <= estimate <= high <= 1.0
        assert estimate == num_errors / 40
    assert interval(0, 40).high > 0
    assert interval(40, 40).low < 1


def test_no_error_in_n_blocks_bounds_the_rate_by_about_three_over_n():
    assert clopper_pearson_interval(0, 1000, 0.9).high == pytest.approx(3.0 / 1000, rel=0.01)


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
        lambda: clopper_pearson_interval(-1, 4),
        lambda: clopper_pearson_interval(1, 4, 0.0),
    ],
)
def test_impossible_samples_counts_and_confidences_are_refused(call):
    with pytest.raises(InputError):
        call()
