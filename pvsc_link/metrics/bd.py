"""BD-CBR: mean difference of the channel bandwidth ratio at equal quality (VCEG-M33)."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pvsc_link.types import InputError

#: Fewer points than this give no curve worth integrating.
MIN_POINTS = 3
#: Share of the joint quality range below which a mean over the common range says nothing, and below
#: which a note says how small it is.
MIN_OVERLAP, SMALL_OVERLAP = 0.01, 0.1


@dataclass(frozen=True)
class BdResult:
    """Mean CBR difference over the common quality range, against the anchor.

    ``bd_cbr_percent`` : negative where the system needs fewer channel uses than the anchor at
    equal quality; NaN where there is no such number. ``overlap`` : common quality range over joint
    quality range, in [0, 1]. ``note`` : reason of a NaN and dropped points, or empty.
    """

    bd_cbr_percent: float
    overlap: float
    note: str


@dataclass(frozen=True)
class _Curve:
    cbr: np.ndarray  # increasing
    quality: np.ndarray  # increasing: higher is better
    note: str


def bd_cbr(
    cbr_anchor: Sequence[float],
    quality_anchor: Sequence[float],
    cbr_test: Sequence[float],
    quality_test: Sequence[float],
    *,
    higher_is_better: bool,
    min_points: int = MIN_POINTS,
) -> BdResult:
    """BD-CBR of a test curve over an anchor: piecewise cubic (PCHIP) in log CBR over quality.

    Metrics of which lower is better (LPIPS, DISTS) are negated first. Points that are not finite
    are dropped. So is a point if another one of its curve has no higher CBR and no lower quality,
    because a user of the system would choose that one.

    Input: CBR and quality of each point, in any order, equal lengths per curve.
    Output: :class:`BdResult`; never a number with an overlap below ``MIN_OVERLAP`` or fewer than
    ``min_points`` points on either curve.
    Raises ``InputError`` if CBR and quality of a curve differ in length.
    """
    sign = 1.0 if higher_is_better else -1.0
    anchor = _curve("anchor", cbr_anchor, quality_anchor, sign)
    test = _curve("test", cbr_test, quality_test, sign)
    overlap = _overlap(anchor.quality, test.quality)
    reason = _reason_against(anchor, test, overlap, min_points, sign)
    small = f"overlap of {100 * overlap:.2g} % only" if overlap < SMALL_OVERLAP else ""
    note = "; ".join(text for text in (anchor.note, test.note, reason or small) if text)
    value = math.nan if reason else _bd_rate_percent(anchor, test)
    return BdResult(value, overlap, note)


def bd_cbr_percents(
    cbr_anchor: np.ndarray,
    quality_anchor: np.ndarray,
    cbr_test: np.ndarray,
    quality_test: np.ndarray,
    *,
    higher_is_better: bool,
) -> np.ndarray:
    """``bd_cbr_percent`` of many pairs of curves at once, such as resamples of one pair.

    The same number as :func:`bd_cbr` gives for each pair, up to rounding.

    Input: CBR and quality, float ``[num_pairs, num_points]``; anchor and test may differ in
    ``num_points``. Output: float ``[num_pairs]``, NaN where there is no such number.
    """
    sign = 1.0 if higher_is_better else -1.0
    anchors, num_anchor = _curves(cbr_anchor, sign * quality_anchor)
    tests, num_test = _curves(cbr_test, sign * quality_test)
    percents = np.full(len(num_anchor), np.nan)
    for sizes in {*zip(num_anchor.tolist(), num_test.tolist(), strict=True)}:
        if min(sizes) < MIN_POINTS:
            continue
        here = np.flatnonzero((num_anchor == sizes[0]) & (num_test == sizes[1]))
        anchor, test = anchors[:, here, : sizes[0]], tests[:, here, : sizes[1]]
        low = np.maximum(anchor[1, :, 0], test[1, :, 0])
        common = np.minimum(anchor[1, :, -1], test[1, :, -1]) - low
        joint = np.maximum(anchor[1, :, -1], test[1, :, -1])
        joint = joint - np.minimum(anchor[1, :, 0], test[1, :, 0])
        enough = (common > 0) & (common >= MIN_OVERLAP * joint)
        low, common = low[enough], common[enough]
        area = _area(test[:, enough], low, common) - _area(anchor[:, enough], low, common)
        percents[here[enough]] = 100 * (10 ** (area / common) - 1)
    return percents


def _curves(cbr: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undominated points of every row, first and in order: log10 CBR and quality; how many."""
    finite = np.isfinite(cbr) & np.isfinite(quality) & (cbr > 0)
    cbr, quality = np.where(finite, cbr, np.inf), np.where(finite, quality, -np.inf)
    order = np.lexsort((-quality, cbr), axis=1)
    cbr, quality = (np.take_along_axis(values, order, axis=1) for values in (cbr, quality))
    kept = np.isfinite(quality)
    kept[:, 1:] &= quality[:, 1:] > np.maximum.accumulate(quality, axis=1)[:, :-1]
    first = np.argsort(~kept, axis=1, kind="stable")
    points = np.stack([np.log10(cbr), quality])
    return np.take_along_axis(points, first[None], axis=2), kept.sum(axis=1)


def _area(curves: np.ndarray, low: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Integral of log CBR over quality from ``low`` on, by PCHIP, of every curve.

    Input: ``curves`` : log10 CBR and quality, [2, num_curves, num_points]. Both increase along a
    curve, so that no slope is zero or negative. Slopes at the points are those of Fritsch and
    Butland (SIAM J. Sci. Stat. Comput. 5(2), 1984), as in ``scipy.interpolate``.
    """
    log_cbr, quality = curves
    steps = np.diff(quality)
    slopes = np.diff(log_cbr) / steps
    before, after = 2 * steps[:, 1:] + steps[:, :-1], steps[:, 1:] + 2 * steps[:, :-1]
    inner = (before + after) / (before / slopes[:, :-1] + after / slopes[:, 1:])
    ends = [
        ((2 * steps[:, i] + steps[:, j]) * slopes[:, i] - steps[:, i] * slopes[:, j])
        / (steps[:, i] + steps[:, j])
        for i, j in ((0, 1), (-1, -2))
    ]
    first, last = (np.maximum(end, 0)[:, None] for end in ends)
    at_points = np.concatenate([first, inner, last], axis=1)
    start = np.clip(low[:, None] - quality[:, :-1], 0, steps)
    end = np.clip((low + length)[:, None] - quality[:, :-1], 0, steps)
    square = (3 * slopes - 2 * at_points[:, :-1] - at_points[:, 1:]) / steps
    cube = (at_points[:, :-1] + at_points[:, 1:] - 2 * slopes) / steps**2
    coefficients = (log_cbr[:, :-1], at_points[:, :-1] / 2, square / 3, cube / 4)
    area = sum(c * (end**n - start**n) for n, c in enumerate(coefficients, 1))
    return np.asarray(area).sum(axis=1)


def _reason_against(
    anchor: _Curve, test: _Curve, overlap: float, min_points: int, sign: float
) -> str:
    """Why a number would mean nothing, or an empty string."""
    for name, curve in (("anchor", anchor), ("test", test)):
        if len(curve.cbr) < min_points:
            return f"{name}: {len(curve.cbr)} usable points, {min_points} needed"
    if overlap == 0.0:
        ends = [sorted(sign * curve.quality[[0, -1]]) for curve in (anchor, test)]
        ranges = "anchor {:.4g} to {:.4g}, test {:.4g} to {:.4g}".format(*ends[0], *ends[1])
        return f"the curves share no quality: {ranges}"
    if overlap < MIN_OVERLAP:
        return f"the curves share {100 * overlap:.2g} % of their quality, {MIN_OVERLAP:.0%} needed"
    return ""


def _curve(name: str, cbr: Sequence[float], quality: Sequence[float], sign: float) -> _Curve:
    """The undominated, finite points in order of CBR, and a note of what was dropped."""
    cbrs, qualities = np.asarray(cbr, float), sign * np.asarray(quality, float)
    if cbrs.ndim != 1 or cbrs.shape != qualities.shape:
        raise InputError(
            f"CBR and quality of the {name} differ in length",
            found=(cbrs.shape, qualities.shape),
            allowed="two flat sequences of equal length",
            remedy="Give one quality per CBR.",
        )
    finite = np.isfinite(cbrs) & np.isfinite(qualities) & (cbrs > 0)
    kept = _undominated(cbrs[finite], qualities[finite])
    dropped = {
        "without a finite value": int(np.sum(~finite)),
        "not monotone (beaten by a point of lower or equal CBR)": int(finite.sum()) - len(kept),
    }
    note = ", ".join(f"{count} dropped: {why}" for why, count in dropped.items() if count)
    return _Curve(cbrs[finite][kept], qualities[finite][kept], f"{name}: {note}" if note else "")


def _undominated(cbr: np.ndarray, quality: np.ndarray) -> list[int]:
    """Indices in order of CBR along which quality strictly grows."""
    kept: list[int] = []
    for i in np.lexsort((-quality, cbr)):
        if not kept or quality[i] > quality[kept[-1]]:
            kept.append(int(i))
    return kept


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Common over joint range of two increasing sequences, 0 where there is no interval."""
    if not (len(a) and len(b)):
        return 0.0
    common = min(a[-1], b[-1]) - max(a[0], b[0])
    joint = max(a[-1], b[-1]) - min(a[0], b[0])
    return float(common / joint) if common > 0 else 0.0


def _bd_rate_percent(anchor: _Curve, test: _Curve) -> float:
    import bjontegaard  # imported here because it imports matplotlib, which takes a second

    with warnings.catch_warnings():  # a small overlap is in the result, as a number
        warnings.simplefilter("ignore")
        value = bjontegaard.bd_rate(
            anchor.cbr,
            anchor.quality,
            test.cbr,
            test.quality,
            method="pchip",
            require_matching_points=False,
            min_overlap=0,
        )
    return float(value)
