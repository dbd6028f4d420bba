"""Curves that are different systems are told apart, or the scenario is refused at load."""

import numpy as np
import pandas as pd
import pytest

from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.sweep.plan import build
from pvsc_link.types import InputError


def scenario(*entries, **changes):
    data = {
        "name": "x",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
        "link": {"snr_db": 10},
        "schemes": list(entries),
        "metrics": "psnr",
    }
    return parse_scenario(data | changes)


X264 = {"scheme": "x264", "rates": [27], "mcs": 5}


def test_an_anchor_of_two_variants_asks_which():
    two = {**X264, "variant": ["psy", "psy-off"]}
    with pytest.raises(InputError, match=r"2 variants.*\['x264:psy', 'x264:psy-off'\]"):
        build(scenario(two, anchor="x264"))
    assert build(scenario(two, anchor="x264:psy-off")).scenario.anchor == "x264:psy-off"
    assert build(scenario(X264, anchor="x264")).scenario.anchor == "x264"


def test_an_option_that_the_variant_does_not_say_is_added_where_it_differs():
    """The variant of x264 says its preset, not its time limit."""
    short, long = {**X264, "timeout_s": 60}, {**X264, "timeout_s": 90}
    plan = build(scenario(short, long, {**long, "preset": "slow"}))
    assert [point.variant for point in plan.points] == [
        "psy, timeout_s 60.0",
        "psy, timeout_s 90.0",
        "psy, slow",
    ]
    (alone,) = build(scenario(long)).points
    assert alone.variant == "psy", "one entry keeps its name"
    (_, default) = build(scenario(short, X264)).points
    assert default.variant == "psy, timeout_s 600.0"


def test_one_option_written_in_two_ways_is_refused():
    with pytest.raises(InputError, match="x264:psy that mean the same"):
        build(scenario(X264, {**X264, "preset": "veryslow"}))
    receivers = [{**X264, "equalizer": name} for name in ("zf", "lmmse")]
    assert len(build(scenario(*receivers)).points) == 2, "entries of one codec, two receivers"


@pytest.mark.parametrize("metric", ["vmaf", "xpsnr", "tlp", "lpips", "dists"])
def test_a_metric_that_cannot_choose_an_mcs_is_refused_with_those_that_can(metric):
    with pytest.raises(InputError, match=r"\['psnr', 'psnr_yuv', 'ssim', 'ms_ssim'\]"):
        scenario(X264, link={"snr_db": 10, "mcs_metric": metric})
    assert scenario(X264, link={"snr_db": 10, "mcs_metric": "ssim"}).link.mcs_metric == "ssim"


def test_an_anchor_with_several_curves_is_told_in_the_table():
    from pvsc_link.sweep.tables import bd_table

    def curve(equalizer, factor):
        return pd.DataFrame(
            {
                **{"scheme": "x264", "variant": "psy", "equalizer": equalizer, "csi_aware": True},
                **{"mcs_policy": "5", "decoder": "layered", "channel": "awgn", "snr_db": 6.0},
                **{"gop": 4, "clip": "bikes", "rate": [42, 37, 32, 27], "seed": 1},
                **{"cbr": factor * 2.0 ** np.arange(4), "psnr_db": [30.0, 33.0, 36.0, 39.0]},
            }
        )

    both = bd_table(pd.concat([curve("zf", 1.0), curve("lmmse", 0.5)]), "x264", ["psnr"])
    assert both.note.str.contains("anchor has 2 curves here; taken is .*equalizer zf").all()
    assert not bd_table(curve("zf", 1.0), "x264", ["psnr"]).note.any()
