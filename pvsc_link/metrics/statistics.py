"""Confidence intervals of what a sweep estimates: means over frames, error rates over blocks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import beta, norm, t

from pvsc_link.types import InputError


class Interval(NamedTuple):
    """An estimate with its two-sided confidence interval."""

    estimate: float
    low: float
    high: float


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of independent values with its Student t interval.

    Input: ``values``, finite. Output: :class:`Interval`; infinite for a single value, which says
    nothing about its spread. Raises ``InputError`` for no value, a NaN, or a bad confidence.
    """
    _require_confidence(confidence)
    sample = np.asarray(values, float)
    if sample.ndim != 1 or not len(sample) or not np.all(np.isfinite(sample)):
        raise InputError(
            "no mean of these values",
            found=sample.tolist(),
            allowed="a flat, non-empty sequence of finite numbers",
            remedy="Drop failed points first.",
        )
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, -math.inf, math.inf)
    quantile = t.ppf(0.5 + confidence / 2, len(sample) - 1)
    half = float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


def wilson_interval(num_errors: int, num_trials: int, confidence: float = 0.95) -> Interval:
    """Error rate with Wilson's score interval: coverage close to ``confidence`` on average.

    Input: counts. Output: :class:`Interval` within [0, 1].
    Raises ``InputError`` for impossible counts or a bad confidence.
    """
    _require_counts(num_errors, num_trials, confidence)
    z2 = float(norm.ppf(0.5 + confidence / 2)) ** 2
    rate = num_errors / num_trials
    centre = (rate + z2 / (2 * num_trials)) / (1 + z2 / num_trials)
    spread = rate * (1 - rate) / num_trials + z2 / (4 * num_trials**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / num_trials)
    # At 0 errors (or 0 successes) the end is exact; rounding must not cross the estimate.
    low = 0.0 if num_errors == 0 else centre - half
    high = 1.0 if num_errors == num_trials else centre + half
    return Interval(rate, low, high)


def clopper_pearson_interval(
    num_errors: int, num_trials: int, confidence: float = 0.95
) -> Interval:
    """Error rate with the exact binomial interval: coverage never below ``confidence``.

    Input: counts. Output: :class:`Interval` within [0, 1].
    Raises ``InputError`` for impossible counts or a bad confidence.
    """
    _require_counts(num_errors, num_trials, confidence)
    tail = (1 - confidence) / 2
    num_good = num_trials - num_errors
    low = float(beta.ppf(tail, num_errors, num_good + 1)) if num_errors else 0.0
    high = float(beta.ppf(1 - tail, num_errors + 1, num_good)) if num_good else 1.0
    return Interval(num_errors / num_trials, low, high)


def _require_counts(num_errors: int, num_trials: int, confidence: float) -> None:
    _require_confidence(confidence)
    if not (num_trials >= 1 and 0 <= num_errors <= num_trials):
        raise InputError(
            "these counts are no error rate",
            found=(num_errors, num_trials),
            allowed="0 <= num_errors <= num_trials, at least one trial",
            remedy="Count errors among the trials.",
        )


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(
            "confidence is no probability",
            found=confidence,
            allowed="between 0 and 1, both excluded",
            remedy="0.95 is customary.",
        )
