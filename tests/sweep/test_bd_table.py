"""bd_cbr.csv: every curve against the anchor at its own channel condition."""

import numpy as np
import pandas as pd
import pytest

from pvsc_link.sweep.tables import MEAN_CLIP, bd_columns, bd_table

METRICS = ["psnr", "lpips"]


def curve(scheme, factor=1.0, *, clip="bikes", snr_db=6.0, seed=1, shift=0.0):
    """Four points of one scheme; ``factor`` scales its CBR."""
    quality = np.array([30.0, 33.0, 36.0, 39.0])
    return pd.DataFrame(
        {
            "scheme": scheme,
            "variant": "",
            "equalizer": "lmmse",
            "csi_aware": True,
            "mcs_policy": "best",
            "decoder": "layered",
            "channel": "awgn",
            "snr_db": snr_db,
            "csi_nmse_db": np.nan,
            "coherence_length": np.nan,
            "gop": 4,
            "clip": clip,
            "seed": seed,
            "rate": [42, 37, 32, 27],
            "cbr": factor * 0.001 * 2.0 ** np.arange(4),
            "psnr_db": quality + shift,
            "lpips": 0.5 - 0.01 * quality,
        }
    )


def value(table, scheme, metric="psnr", **place):
    rows = table[(table.scheme == scheme) & (table.metric == metric)]
    for key, wanted in place.items():
        rows = rows[rows[key] == wanted]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_fifth_fewer_channel_uses_are_minus_twenty_percent():
    table = bd_table(pd.concat([curve("vtm"), curve("new", 0.8)]), "vtm", METRICS)
    assert value(table, "new").bd_cbr_percent == pytest.approx(-20, abs=1e-6)
    assert value(table, "new", "lpips").bd_cbr_percent == pytest.approx(-20, abs=1e-6)
    assert value(table, "vtm").bd_cbr_percent == pytest.approx(0, abs=1e-9)
    assert list(table.columns) == bd_columns()


def test_each_condition_has_its_own_anchor():
    points = pd.concat(
        [curve("vtm"), curve("new", 0.8), curve("vtm", 3.0, snr_db=0), curve("new", 1.5, snr_db=0)]
    )
    table = bd_table(points, "vtm", METRICS)
    assert value(table, "new", snr_db=0.0).bd_cbr_percent == pytest.approx(-50, abs=1e-6)
    assert value(table, "new", snr_db=6.0).bd_cbr_percent == pytest.approx(-20, abs=1e-6)


def test_curves_are_means_over_seeds():
    points = pd.concat([curve("vtm"), curve("new", 0.8, seed=1), curve("new", 1.2, seed=2)])
    table = bd_table(points, "vtm", METRICS)
    assert value(table, "new").bd_cbr_percent == pytest.approx(0, abs=1e-6)


def test_several_clips_get_a_plain_mean():
    points = pd.concat(
        [curve("vtm"), curve("new", 0.8), curve("vtm", clip="car"), curve("new", 0.6, clip="car")]
    )
    table = bd_table(points, "vtm", METRICS)
    mean = value(table, "new", clip=MEAN_CLIP)
    assert mean.bd_cbr_percent == pytest.approx(-30, abs=1e-6)


def test_a_mean_over_a_missing_clip_is_nan_and_says_so():
    points = pd.concat([curve("vtm"), curve("new", 0.8), curve("vtm", clip="car")])
    points = pd.concat([points, curve("new", 0.8, clip="car", shift=60.0)])
    mean = value(bd_table(points, "vtm", ["psnr"]), "new", clip=MEAN_CLIP)
    assert np.isnan(mean.bd_cbr_percent)
    assert "1 of 2" in mean.note


def test_a_condition_without_the_anchor_is_nan_with_the_reason():
    points = pd.concat([curve("vtm"), curve("new", snr_db=0)])
    row = value(bd_table(points, "vtm", ["psnr"]), "new")
    assert np.isnan(row.bd_cbr_percent)
    assert "anchor" in row.note


def test_without_an_anchor_the_table_is_empty():
    assert bd_table(curve("x265"), None, METRICS).empty


def seeded(scheme, factors, **place):
    """A curve that met several seeds, each with a CBR of its own."""
    return pd.concat(
        [curve(scheme, factor, seed=seed, **place) for seed, factor in enumerate(factors)]
    )


def test_seeds_that_move_both_curves_alike_give_a_narrow_interval():
    """Both curves of a seed meet the same channel, so a resample draws the same seeds of both."""
    spread = np.array([0.7, 0.9, 1.0, 1.1, 1.3])
    both = pd.concat([seeded("vtm", spread), seeded("new", 0.8 * spread)])
    row = value(bd_table(both, "vtm", ["psnr"]), "new")
    assert row.interval_over == "seeds"
    assert (row.num_clips, row.num_seeds) == (1, 5)
    assert row.bd_cbr_low == pytest.approx(-20)
    assert row.bd_cbr_high == pytest.approx(-20)
    alone = pd.concat([seeded("vtm", np.ones(5)), seeded("new", 0.8 * spread)])
    row = value(bd_table(alone, "vtm", ["psnr"]), "new")
    assert row.bd_cbr_low < -28
    assert row.bd_cbr_high > -12


def test_a_mean_over_clips_has_an_interval_over_clips():
    factors = {"a": 0.7, "b": 0.8, "c": 0.9}
    points = pd.concat(
        [
            curve(s, f if s == "new" else 1.0, clip=c)
            for c, f in factors.items()
            for s in ("vtm", "new")
        ]
    )
    table = bd_table(points, "vtm", ["psnr"])
    mean = value(table, "new", clip=MEAN_CLIP)
    assert (mean.interval_over, mean.num_clips) == ("clips", 3)
    assert mean.bd_cbr_low < mean.bd_cbr_percent < mean.bd_cbr_high
    single = value(table, "new", clip="a")
    assert np.isnan(single.bd_cbr_low)
    assert pd.isna(single.interval_over)


def test_two_seeds_give_no_interval():
    points = pd.concat([seeded("vtm", [1.0, 1.1]), seeded("new", [0.8, 0.9])])
    row = value(bd_table(points, "vtm", ["psnr"]), "new")
    assert np.isnan(row.bd_cbr_low)
    assert pd.isna(row.interval_over)


def test_resamples_without_common_quality_give_no_interval_but_a_note():
    far = [curve("new", seed=seed, shift=shift) for seed, shift in enumerate([0.0, 0.0, 25.0])]
    points = pd.concat([seeded("vtm", np.ones(3)), *far])
    row = value(bd_table(points, "vtm", ["psnr"]), "new")
    assert np.isfinite(row.bd_cbr_percent)
    assert np.isnan(row.bd_cbr_low)
    assert "resamples" in row.note


def test_what_stands_behind_a_number_is_counted_where_it_is_least():
    """GOPs and fades of all seeds at the rate that has fewest; a mean has those of its clips."""

    def counted(scheme, clip, seeds, shift=0.0):
        made = [curve(scheme, clip=clip, seed=seed, shift=shift) for seed in seeds]
        return pd.concat(made).assign(
            num_frames=[8, 8, 4, 8] * len(seeds), num_fades=[9, 7, 5, 6] * len(seeds)
        )

    of_anchor = [counted("vtm", "a", [1]), counted("vtm", "b", [1, 2])]
    points = pd.concat(
        [*of_anchor, counted("new", "a", [1]), counted("new", "b", [1, 2], shift=3.0)]
    )
    table = bd_table(points, "vtm", ["psnr"])
    found = {clip: value(table, "new", clip=clip) for clip in ("a", "b", MEAN_CLIP)}
    counts = {clip: (row.num_gops, row.num_seeds, row.num_fades) for clip, row in found.items()}
    assert counts == {"a": (1, 1, 5), "b": (2, 2, 10), MEAN_CLIP: (3, 1, 15)}
    assert found["b"].overlap == pytest.approx(6 / 12)
    assert found[MEAN_CLIP].overlap == found["b"].overlap
