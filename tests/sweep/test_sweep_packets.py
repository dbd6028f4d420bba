"""Sweeps over packets: columns that mean something, and none that do not; figures; bad files."""

import json

import pandas as pd
import pytest

from pvsc_link.report.curves import condition_words
from pvsc_link.report.figures import axis_figures, rate_figures
from pvsc_link.report.results import read_results
from pvsc_link.report.tables import comparison_tables, loss_tables
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.plan import build
from pvsc_link.types import InputError

LINK = {"channel": "packets", "loss_rate": [0, 0.2], "transport_unit": "frame"}
SCHEMES = [{"scheme": "x264", "rates": [27, 32, 37]}, {"scheme": "x265", "rates": [27, 32, 37]}]


@pytest.fixture(scope="module")
def swept_packets(shared_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packets")
    data = {
        "name": "packets",
        "seed": [1, 2],
        "media": {"clips": ["carphone"], "gop": 2, "num_gops": 2},
        "link": LINK,
        "schemes": SCHEMES,
        "anchor": "x265",
        "metrics": ["psnr"],
    }
    (folder / "packets.yaml").write_text(json.dumps(data))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVSC_LINK_CACHE", str(shared_cache))
        for _ in range(2):  # the second run finds everything
            assert main([str(folder / "packets.yaml"), "--out", str(folder)]) == 0
    return folder / "packets"


def test_rows_state_bytes_and_leave_out_what_packets_do_not_have(swept_packets):
    points = pd.read_csv(swept_packets / "points.csv")
    assert len(points) == 2 * 2 * 3 * 2
    assert (points["status"] == "ok").all()
    nothing = ["cbr", "cbr_source", "snr_db", "mcs", "mcs_policy", "bler", "num_blocks", "papr_db"]
    nothing += ["equalizer", "csi_aware", "decoder", "num_iter", "latency_ms_p50"]
    assert points[nothing].isna().all(axis=None)
    assert points["bytes_per_pixel"].gt(0).all()
    clean = points[points["loss_rate"] == 0]
    assert not clean["packets_lost"].any()
    assert not clean["frames_lost"].any()
    lossy = points[points["loss_rate"] == 0.2]
    assert (lossy["packets_lost"] > 0).any()
    assert ((lossy["packets_lost"] > 0) >= (lossy["frames_lost"] > 0)).all()
    # One packet each for the P frames, more for the I frames; 4 frames of 176x144.
    assert points["num_packets"].between(4, 20).all()
    gops = pd.read_csv(swept_packets / "gops.csv")
    per_row = gops.groupby("point_id")["num_bytes"].sum() / (4 * 176 * 144)
    pd.testing.assert_series_equal(
        per_row.sort_index(),
        points.set_index("point_id")["bytes_per_pixel"].sort_index(),
        check_names=False,
    )


def test_tables_compare_bytes(swept_packets):
    bd = pd.read_csv(swept_packets / "bd_cbr.csv")
    of_x264 = bd[(bd["scheme"] == "x264") & (bd["loss_rate"] == 0)]
    assert of_x264["bd_cbr_percent"].gt(0).all(), "x264 needs more bytes"
    means = pd.read_csv(swept_packets / "seed_means.csv")
    assert means["cbr"].isna().all()
    assert means["bytes_per_pixel"].gt(0).all()
    assert (means["num_packets"] >= means["packets_lost"]).all()
    results = read_results(swept_packets)
    assert len(results.points) == 24
    titles = [table.title for table in comparison_tables(results)]
    assert all(title.startswith("BD-rate in bytes (%)") for title in titles)
    assert titles
    (losses,) = loss_tables(results)
    assert "LDPC" not in " ".join(key for row in losses.rows for key in row.keys)


def test_figures_are_over_bytes_and_over_the_loss_rate(swept_packets):
    curves = read_results(swept_packets).curves
    assert all("LDPC" not in style.label for style in curves.styles.values())
    name, draw = next(iter(rate_figures(curves.means, curves.styles)))
    assert "snr" not in name
    assert "bytes per pixel" in draw().axes[-1].get_xlabel()
    ((_, draw),) = axis_figures(curves.keyed, curves.styles, "loss_rate")
    assert draw().axes[-1].get_xlabel() == "Packet loss rate"
    words = condition_words(curves.keyed.iloc[-1][["channel", "snr_db", "loss_rate"]].to_dict())
    assert "SNR" not in words
    assert "loss rate 0.2" in words


def scenario(**link):
    return parse_scenario(
        {
            "name": "packets",
            "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
            "link": link,
            "schemes": SCHEMES,
        }
    )


def test_beside_another_channel_packets_have_points_of_their_own():
    plan = build(scenario(channel=["awgn", "packets"], snr_db=[3, 6], harq=["none", {}], mtu=[600]))
    packets = [point for point in plan.points if point.is_packets]
    assert len(packets) == 2 * 3 * 2, "transport units, rates and codecs, but no SNR"
    assert len(plan.points) - len(packets) == 2 * 2 * 3 * 2
    assert {point.mcs for point in packets} == {""}
    assert all(point.transport.harq is None for point in packets)
    assert len({point.point_id for point in plan.points}) == len(plan.points)


@pytest.mark.parametrize(
    "link",
    [
        {"channel": "packets", "snr_db": 6},
        {"channel": "packets", "harq": {}},
        {"channel": "packets", "block_length": 1536},
        {"channel": "packets", "erasure_rate": 0.1},
        {"channel": "packets", "decoder": "sionna-minsum"},
        {"channel": "awgn"},
        {"channel": ["packets", "awgn"]},
        {"channel": "packets", "loss": "gilbert"},
        {"channel": "packets", "loss": "iid", "loss_burst": 3},
        {"channel": "awgn", "snr_db": 6, "mtu": 600},
    ],
)
def test_keys_that_do_not_go_together_are_refused(link):
    with pytest.raises(InputError):
        build(scenario(**link))
