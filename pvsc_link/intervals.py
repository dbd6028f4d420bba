"""Confidence intervals of what a simulation estimates: means, and error rates over blocks."""

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
    quantile = stdtrit(len(sample) - 1, 0.5 + confidence / 2)
    half = float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


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


def _require_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(
            "confidence is no probability",
            found=confidence,
            allowed="between 0 and 1, both excluded",
            remedy="0.95 is customary.",
        )
