"""CBR as in eq. 5; BD-CBR is right where it exists, and NaN with a reason where it does not."""

import math
import subprocess
import sys

import numpy as np
import pytest

from pvsc_link.metrics.bd import BdResult, bd_cbr, bd_cbr_percents
from pvsc_link.metrics.cbr import channel_bandwidth_ratio
from pvsc_link.types import InputError


def test_one_channel_use_per_sample_is_a_ratio_of_one():
    assert channel_bandwidth_ratio({"source": 4 * 144 * 176 * 3}, 4, 144, 176) == {
        "cbr": 1.0,
        "cbr_source": 1.0,
    }


def test_side_information_counts_and_the_parts_add_up():
    ratios = channel_bandwidth_ratio({"source": 3000, "side": 500, "padding": 0}, 2, 240, 416)
    assert ratios["cbr"] == pytest.approx(3500 / (2 * 240 * 416 * 3))
    parts = ratios["cbr_source"] + ratios["cbr_side"] + ratios["cbr_padding"]
    assert ratios["cbr"] == pytest.approx(parts, rel=1e-12)


def test_nothing_sent_is_a_ratio_of_zero():
    assert channel_bandwidth_ratio({}, 1, 16, 16) == {"cbr": 0.0}


@pytest.mark.parametrize(
    ("uses", "size"),
    [
        ({"source": -1}, (1, 16, 16)),
        ({"source": 0.5}, (1, 16, 16)),
        ({"source": float("nan")}, (1, 16, 16)),
        ({"": 5}, (1, 16, 16)),
        ({"source": 5}, (0, 16, 16)),
        ({"source": 5}, (1, -16, 16)),
    ],
)
def test_impossible_counts_and_sizes_are_refused(uses, size):
    with pytest.raises(InputError):
        channel_bandwidth_ratio(uses, *size)


CBR = np.array([0.002, 0.004, 0.009, 0.02, 0.05])
PSNR = np.array([28.0, 30.5, 33.0, 35.5, 37.0])
LPIPS = np.array([0.52, 0.44, 0.37, 0.30, 0.26])


def run(anchor, test, higher_is_better=True, **options) -> BdResult:
    return bd_cbr(*anchor, *test, higher_is_better=higher_is_better, **options)


@pytest.mark.parametrize(("quality", "higher"), [(PSNR, True), (LPIPS, False)])
def test_twenty_percent_fewer_channel_uses_is_minus_twenty(quality, higher):
    result = run((CBR, quality), (0.8 * CBR, quality), higher)
    assert result.bd_cbr_percent == pytest.approx(-20.0, abs=1e-9)
    assert result.overlap == pytest.approx(1.0)
    assert result.note == ""


def test_a_system_costs_nothing_more_than_itself():
    assert run((CBR, PSNR), (CBR, PSNR)).bd_cbr_percent == pytest.approx(0.0, abs=1e-9)


def test_better_quality_at_equal_cbr_is_negative_for_both_kinds_of_metric():
    assert run((CBR, PSNR), (CBR, PSNR + 1)).bd_cbr_percent < -5
    assert run((CBR, LPIPS), (CBR, LPIPS - 0.02), False).bd_cbr_percent < -5


@pytest.mark.parametrize(("scale", "shift"), [(2.5, 7.0), (0.01, -3.0)])
def test_an_affine_map_of_quality_changes_nothing(scale, shift):
    other = 0.7 * CBR**1.02, PSNR - 0.3
    plain = run((CBR, PSNR), other)
    mapped = run((CBR, scale * PSNR + shift), (other[0], scale * other[1] + shift))
    assert mapped.bd_cbr_percent == pytest.approx(plain.bd_cbr_percent, rel=1e-6)
    assert mapped.overlap == pytest.approx(plain.overlap, rel=1e-9)


def test_swapping_anchor_and_test_changes_the_sign_in_the_log_domain():
    other = 0.7 * CBR**1.02, PSNR - 0.3
    there = run((CBR, PSNR), other).bd_cbr_percent
    back = run(other, (CBR, PSNR)).bd_cbr_percent
    product = (1 + there / 100) * (1 + back / 100)
    assert product == pytest.approx(1.0, abs=1e-9)


def test_a_common_factor_on_cbr_changes_nothing():
    other = 0.7 * CBR**1.02, PSNR - 0.3
    plain, scaled = run((CBR, PSNR), other), run((8 * CBR, PSNR), (8 * other[0], other[1]))
    assert scaled.bd_cbr_percent == pytest.approx(plain.bd_cbr_percent, abs=1e-9)


def test_the_order_of_points_does_not_matter():
    order = [3, 0, 4, 1, 2]
    plain = run((CBR, PSNR), (0.9 * CBR, PSNR))
    assert run((CBR[order], PSNR[order]), (0.9 * CBR, PSNR)) == plain


def test_overlap_is_the_common_part_of_the_joint_range():
    result = run((CBR, [30, 31, 32, 33, 34]), (CBR, [33, 34, 35, 36, 37]))
    assert result.overlap == pytest.approx(1 / 7)
    assert math.isfinite(result.bd_cbr_percent)


def test_without_common_quality_there_is_no_number():
    result = run((CBR, LPIPS), (CBR, LPIPS + 0.5), False)
    assert math.isnan(result.bd_cbr_percent)
    assert result.overlap == 0.0
    assert "share no quality: anchor 0.26 to 0.52, test 0.76 to 1.02" in result.note


@pytest.mark.parametrize("side", ["anchor", "test"])
def test_too_few_points_give_no_number(side):
    curves = {"anchor": (CBR, PSNR), "test": (0.8 * CBR, PSNR)}
    curves[side] = curves[side][0][:2], PSNR[:2]
    result = run(curves["anchor"], curves["test"])
    assert math.isnan(result.bd_cbr_percent)
    assert result.note == f"{side}: 2 usable points, 3 needed"
    assert math.isnan(run((CBR, PSNR), (CBR, PSNR), min_points=6).bd_cbr_percent)


def test_no_points_at_all_give_no_number():
    result = run((CBR, PSNR), ([], []))
    assert math.isnan(result.bd_cbr_percent)
    assert "0 usable points" in result.note


def test_a_point_that_pays_more_for_less_is_dropped_and_noted():
    cbr, psnr = np.append(0.8 * CBR, 0.03), np.append(PSNR, 25.0)
    result = run((CBR, PSNR), (cbr, psnr))
    assert result.bd_cbr_percent == pytest.approx(-20.0, abs=1e-9)
    assert result.note.startswith("test: 1 dropped: not monotone")


def test_a_curve_that_only_falls_gives_no_number():
    result = run((CBR, PSNR), (CBR, PSNR[::-1]))
    assert math.isnan(result.bd_cbr_percent)
    assert "4 dropped: not monotone" in result.note


def test_of_two_points_with_one_cbr_the_better_stays():
    cbr, psnr = np.append(0.8 * CBR, 0.8 * CBR[2]), np.append(PSNR, PSNR[2] - 2)
    assert run((CBR, PSNR), (cbr, psnr)).bd_cbr_percent == pytest.approx(-20.0, abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_failed_points_are_dropped_and_noted(bad):
    cbr, psnr = np.append(0.8 * CBR, 0.1), np.append(PSNR, bad)
    result = run((CBR, PSNR), (cbr, psnr))
    assert result.bd_cbr_percent == pytest.approx(-20.0, abs=1e-9)
    assert result.note == "test: 1 dropped: without a finite value"
    assert math.isnan(run((CBR, PSNR), (CBR, np.full(5, bad))).bd_cbr_percent)


def test_a_point_that_sent_nothing_is_dropped():
    result = run((CBR, PSNR), (np.append(0.8 * CBR, 0.0), np.append(PSNR, 20.0)))
    assert result.bd_cbr_percent == pytest.approx(-20.0, abs=1e-9)


def test_unequal_lengths_are_refused():
    with pytest.raises(InputError, match="length"):
        run((CBR, PSNR[:-1]), (CBR, PSNR))


def test_reading_results_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys, pvsc_link.intervals\n"
        "from pvsc_link.metrics import bd_cbr, channel_bandwidth_ratio\n"
        "bd_cbr([1, 2, 4], [1, 2, 3], [1, 2, 4], [1, 2, 3], higher_is_better=True)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_sliver_of_common_quality_gives_no_number():
    cbr, anchor = [1, 2, 3, 4], [30, 31, 32, 33]
    sliver = bd_cbr(cbr, anchor, cbr, [32.999, 34, 35, 36], higher_is_better=True)
    assert np.isnan(sliver.bd_cbr_percent)
    assert "0.017 % of their quality, 1% needed" in sliver.note
    small = bd_cbr(cbr, anchor, cbr, [32.7, 34, 35, 36], higher_is_better=True)
    assert np.isfinite(small.bd_cbr_percent)
    assert small.note == "overlap of 5 % only"


@pytest.mark.parametrize(("start", "is_known"), [(32.95, False), (32.93, True)])
def test_a_hundredth_of_the_joint_quality_is_the_least_that_counts(start, is_known):
    """Shares of 0.05 / 6 and of 0.07 / 6, of one pair of curves and of one among many."""
    curves = [1.0, 2, 3, 4], [30.0, 31, 32, 33], [1.0, 2, 3, 4], [start, 34, 35, 36]
    one = bd_cbr(*curves, higher_is_better=True).bd_cbr_percent
    many = bd_cbr_percents(*(np.array([values]) for values in curves), higher_is_better=True)
    assert (np.isfinite(one), np.isfinite(many[0])) == (is_known, is_known)


@pytest.mark.parametrize("higher", [True, False])
def test_many_pairs_of_curves_give_the_numbers_of_each(higher):
    """Curves with dominated, missing and equal points, of two lengths, some without overlap."""
    rng = np.random.default_rng(5)
    sign = 1 if higher else -1
    cbr, quality = np.exp(rng.normal(size=(40, 5))), sign * (30 + 3 * rng.random((40, 5)))
    other, better = np.exp(rng.normal(size=(40, 6))), sign * (31 + 3 * rng.random((40, 6)))
    for values, order in ((cbr, 1), (other, 1), (quality, sign), (better, sign)):
        values[:25] = order * np.sort(order * values[:25], axis=1)
    quality[3, 0], other[4, 1], better[5], cbr[6] = np.nan, 0.0, better[5, 0], cbr[6, 0]
    better[7] += sign * 100
    found = bd_cbr_percents(cbr, quality, other, better, higher_is_better=higher)
    one_by_one = [
        bd_cbr(*curves, higher_is_better=higher).bd_cbr_percent
        for curves in zip(cbr, quality, other, better, strict=True)
    ]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-9)
    assert 5 < np.isfinite(found).sum() < 40
