"""The committed baselines hold every row, and HM and VTM differ as codecs of their age do."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from pvsc_link.scenario.loader import load_scenario

HERE = Path(__file__).parents[2]
RESULTS = HERE / "results" / "reference" / "baselines"
CLIPS = ("bikes", "carphone")


@pytest.fixture(scope="module")
def scenario():
    return load_scenario(HERE / "scenarios" / "baselines.yaml")


def test_every_system_has_a_row_per_rate_on_both_clips(scenario):
    points = pd.read_csv(RESULTS / "points.csv")
    assert {entry.scheme for entry in scenario.schemes} == set(points["scheme"])
    expected = Counter()
    for entry in scenario.schemes:
        expected[entry.scheme] += len(entry.variant) * (
            5 if entry.rates == "all" else len(entry.rates)
        )
    for scheme, number in expected.items():
        for clip in CLIPS:
            rows = points[(points["scheme"] == scheme) & (points["clip"] == clip)]
            assert len(rows) == number, (scheme, clip)
            assert rows["status"].isin(["ok", "untrained"]).all()
            assert (rows["cbr"] > 0).all()


@pytest.mark.parametrize("clip", CLIPS)
def test_hm_needs_15_to_40_percent_more_channel_uses_than_vtm_at_equal_psnr(clip):
    """Without block errors BD-CBR is the BD-rate of the two encoders, without parameter sets."""
    table = pd.read_csv(RESULTS / "bd_cbr.csv")
    row = table[(table["scheme"] == "hm") & (table["clip"] == clip) & (table["metric"] == "psnr")]
    assert 15.0 < row["bd_cbr_percent"].item() < 40.0
