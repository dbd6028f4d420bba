"""Confidence intervals of what a simulation estimates: means, and error rates over blocks.

A mean over clips and seeds has two sources of spread: which clips were taken, and which fades, CSI
errors and noise each of them met. ``bootstrap_interval`` counts both.
"""

import functools
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
    ends = bootstrap_ends(sample, np.zeros(len(sample), int), 1, confidence, seed)
    return Interval(float(sample.mean()), *map(float, ends[0]))


#: Numbers that the means over resamples may fill at a time, in ``bootstrap_ends``.
_MOST_MEANS = 2_000_000


def bootstrap_ends(
    values: np.ndarray,
    group: np.ndarray,
    num_groups: int,
    confidence: float = 0.95,
    seed: int = 0,
) -> np.ndarray:
    """Ends of ``bootstrap_interval`` of many groups of units at once.

    Groups of equal size share their resamples, so that a table of many means costs little.

    Input: ``values`` : float ``[num_units]``, finite; ``group`` : int ``[num_units]``, the group
    of each unit, from 0; ``seed`` : of the resampling.
    Output: float ``[num_groups, 2]``, low and high; NaN for fewer than ``MIN_UNITS`` units.
    Raises ``InputError`` for a value that is not finite, or a bad confidence.
    """
    ends = np.full((num_groups, 2), np.nan)
    if not len(values):
        return ends
    ordered = _sample(values, confidence)[np.argsort(group, kind="stable")]
    sizes = np.bincount(group, minlength=num_groups)
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes >= MIN_UNITS]).tolist():
        weights, times = _resamples(size, seed)
        step = max(1, _MOST_MEANS // NUM_RESAMPLES)
        of_size = np.flatnonzero(sizes == size)
        for here in (of_size[first : first + step] for first in range(0, len(of_size), step)):
            units = ordered[starts[here, None] + np.arange(size)]
            upper = 0.5 + confidence / 2
            quantiles = _quantiles(units @ weights.T / size, times, (1 - upper, upper))
            estimates = units.mean(axis=1)[:, None]
            distances = np.maximum((quantiles - estimates) * (-1, 1), 0)
            ends[here] = estimates + _widening(size, upper) * distances * (-1, 1)
    return ends


@functools.lru_cache(maxsize=32)
def _resamples(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Resamples of ``size`` units that differ, and how many of ``NUM_RESAMPLES`` are each of them.

    Output: float ``[num_distinct, size]``, how often each unit was drawn; int ``[num_distinct]``.
    """
    drawn = np.random.default_rng(seed).integers(0, size, (NUM_RESAMPLES, size))
    cells = np.arange(NUM_RESAMPLES)[:, None] * size + drawn
    counts = np.bincount(cells.ravel(), minlength=NUM_RESAMPLES * size)
    distinct, times = np.unique(counts.reshape(-1, size), axis=0, return_counts=True)
    return distinct.astype(float), times


def _quantiles(values: np.ndarray, times: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Quantiles ``[num_rows, num_shares]`` of rows in which column ``c`` counts ``times[c]`` times.

    Numbers between two values are interpolated, as ``numpy.quantile`` does.
    """
    if 2 * len(times) > NUM_RESAMPLES:  # hardly any value counts twice
        return np.quantile(np.repeat(values, times, axis=1), shares, axis=1).T
    order = np.argsort(values, axis=1)
    ordered, ranks = np.take_along_axis(values, order, axis=1), np.cumsum(times[order], axis=1)
    found = []
    for share in shares:
        whole, part = divmod(share * (times.sum() - 1), 1)
        below, above = (
            np.take_along_axis(ordered, np.argmax(ranks > rank, axis=1)[:, None], axis=1)
            for rank in (whole, min(whole + 1, times.sum() - 1))
        )
        found.append(below + part * (above - below))
    return np.concatenate(found, axis=1)


def _widening(num_units: int, upper: float) -> float:
    """By how much the ends of a bootstrap of few units are moved out (``percentile_interval``)."""
    wider = float(stdtrit(num_units - 1, upper) / ndtri(upper))
    return wider * math.sqrt(num_units / (num_units - 1))


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
    wider = _widening(num_units, upper)
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


def _sample(values: Sequence[float] | np.ndarray, confidence: float) -> np.ndarray:
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
