"""Confidence intervals of what a simulation estimates: means, and error rates over blocks.

A mean over clips and seeds has two sources of spread: which clips were taken, and which fades, CSI
errors and noise each of them met. ``bootstrap_interval`` counts both.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from pvsc_link.types import InputError


class Interval(NamedTuple):
    """An estimate with its two-sided confidence interval."""

    estimate: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent values with its Student t interval.

    The interval of a single value is infinite, because one value says nothing about its spread.
    Raises ``InputError`` for no value, a value that is not finite, or a bad confidence.
    """
    sample = _sample(values, confidence)
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, -math.inf, math.inf)
    quantile = stdtrit(len(sample) - 1, 0.5 + confidence / 2)
    half = float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


#: Resamples of a bootstrap. The tails of a handful of clips need this many.
NUM_RESAMPLES = 4000
#: Fewer independent units (clips, or seeds) than this say next to nothing about their spread.
MIN_UNITS = 3


def bootstrap_interval(
    values: Sequence[float], confidence: float = 0.95, seed: int = 0
) -> Interval | None:
    """Mean of independent units with its bootstrap interval.

    For a mean over clips and seeds a unit is a clip, and its value is the mean over its seeds: a
    clip is drawn with all its seeds, so that the spread of clips and that of seeds both count.

    Parameters: ``values`` : one per unit; ``seed`` : of the resampling.
    Output: ``Interval``, or None for fewer than ``MIN_UNITS`` units.
    Raises ``InputError`` for no value, a value that is not finite, or a bad confidence.
    """
    sample = _sample(values, confidence)
    if len(sample) < MIN_UNITS:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(sample), (NUM_RESAMPLES, len(sample)))
    means = sample[drawn].mean(axis=1)
    return percentile_interval(float(sample.mean()), means, len(sample), confidence)


def percentile_interval(
    estimate: float, resampled: Sequence[float], num_units: int, confidence: float = 0.95
) -> Interval | None:
    """Interval of any statistic from its values over resamples of its independent units.

    Plain percentiles are too narrow for few units (Hesterberg, The American Statistician 69(4),
    2015, section 4). Their distances from the estimate are therefore multiplied by
    t / z * sqrt(n / (n - 1)), the quantiles of Student's t and of the normal law: what makes the
    interval of a mean of normal values as wide as Student's.

    Input: ``estimate`` : of the whole sample; ``resampled`` : of each resample; ``num_units`` : how
    many units were drawn with replacement for each. Output and errors: as ``bootstrap_interval``.
    """
    distribution = _sample(resampled, confidence)
    if num_units < MIN_UNITS:
        return None
    upper = 0.5 + confidence / 2
    low, high = np.quantile(distribution, [1 - upper, upper])
    wider = float(stdtrit(num_units - 1, upper) / ndtri(upper))
    wider *= math.sqrt(num_units / (num_units - 1))
    below, above = max(estimate - float(low), 0.0), max(float(high) - estimate, 0.0)
    return Interval(estimate, estimate - wider * below, estimate + wider * above)


def wilson_interval(num_errors: float, num_trials: float, confidence: float = 0.95) -> Interval:
    """Error rate with Wilson's score interval, whose coverage is ``confidence`` on average.

    Input: ``num_errors``, ``num_trials`` : counts, which may be fractions of trials where trials
    depend on one another. Output: :class:`Interval` within [0, 1].
    Raises ``InputError`` for impossible counts or a bad confidence.
    """
    _require_confidence(confidence)
    if not (num_trials > 0 and 0 <= num_errors <= num_trials):
        raise InputError(
            "these counts are no error rate",
            found=(num_errors, num_trials),
            allowed="0 <= num_errors <= num_trials, more than zero trials",
            remedy="Count errors among the trials.",
        )
    z2 = float(ndtri(0.5 + confidence / 2)) ** 2
    rate = num_errors / num_trials
    centre = (rate + z2 / (2 * num_trials)) / (1 + z2 / num_trials)
    spread = rate * (1 - rate) / num_trials + z2 / (4 * num_trials**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / num_trials)
    # At rates of 0 and 1 one end is the estimate itself; rounding must not cross it.
    return Interval(rate, max(0.0, min(centre - half, rate)), min(1.0, max(centre + half, rate)))


def _sample(values: Sequence[float], confidence: float) -> np.ndarray:
    _require_confidence(confidence)
    sample = np.asarray(values, float)
    if sample.ndim != 1 or not len(sample) or not np.all(np.isfinite(sample)):
        raise InputError(
            "no mean of these values",
            found=sample.tolist()[:20],
            allowed="a flat, non-empty sequence of finite numbers",
            remedy="Drop failed points first.",
        )
    return sample


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(
            "confidence is no probability",
            found=confidence,
            allowed="between 0 and 1, both excluded",
            remedy="0.95 is customary.",
        )
