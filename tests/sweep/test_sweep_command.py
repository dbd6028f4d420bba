"""The command from end to end: real video, real codecs, a link, tables and figures."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pvsc_link.codecs.registry import CODECS
from pvsc_link.codecs.x264_x265 import X264
from pvsc_link.link import packet_fields
from pvsc_link.link.transport_options import Transport
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.sweep import __main__ as command
from pvsc_link.sweep.store import point_columns, read_points
from pvsc_link.types import CodecFailure


def run(scenario, out, *words):
    return command.main([str(scenario), "--out", str(out), *words])


def test_a_sweep_leaves_tables_figures_and_manifest(finished):
    points = read_points(finished)
    # The transport is the default one, and there are no packets.
    left_out = {*Transport.model_fields, *packet_fields()}
    written = [name for name in point_columns() if name not in left_out]
    assert list(points.columns[: len(written)]) == written
    assert len(points) == 2 * (2 + 3)
    assert set(points.status) == {"ok"}
    assert points.point_id.is_unique
    for _, curve in points.groupby(["scheme", "channel"]):
        curve = curve.sort_values("rate")
        assert (curve.cbr.diff().dropna() < 0).all(), "a larger QP costs fewer channel uses"
        assert (curve.psnr_db.diff().dropna() < 0).all(), "a larger QP looks worse"
    bd = pd.read_csv(finished / "bd_cbr.csv")
    own = bd[(bd.scheme == "x265") & (bd.metric == "psnr")]
    assert np.allclose(own.bd_cbr_percent, 0, atol=1e-6)
    few = bd[bd.scheme == "x264"]
    assert few.bd_cbr_percent.isna().all(), "two points are no curve"
    assert few.note.notna().all()
    figures = {path.suffix for path in (finished / "figures").iterdir()}
    assert figures == {".png", ".pdf"}
    beside = pd.read_csv(finished / "mcs_neighbours.csv")
    assert set(beside.mcs_role) == {"neighbour"}
    assert set(points.mcs_role) == {"chosen"}
    assert not set(beside.point_id) & set(points.point_id)
    manifest = json.loads((finished / "manifest.json").read_text())
    assert "veryslow" in manifest["codec_commands"]["x265:psy rate 27"]
    assert manifest["packages"]["sionna-no-rt"]
    assert manifest["scenario"]["schemes"][0]["equalizer"] == ["lmmse"]
    (notes,) = manifest["clip_notes"].values()
    assert notes[1:] == ["colour matrix bt709 (no tag)", "limited range (no tag)"]
    assert "128:117" in notes[0]


def test_no_neighbour_of_a_chosen_mcs_delivers_more_for_less(finished):
    """The rule's promise on real bits: a neighbour costs more, or loses frames."""
    points = read_points(finished).set_index("point_id")
    beside = pd.read_csv(finished / "mcs_neighbours.csv")
    chosen = points.loc[beside.point_id.str.split("-").str[0]].reset_index()
    dearer = beside.cbr > chosen.cbr
    assert (dearer | (beside.frames_lost > chosen.frames_lost)).all()
    assert dearer.any()
    assert (beside.frames_lost > 0).any()


def test_fading_costs_channel_uses(finished):
    points = read_points(finished)
    cbr = points.groupby("channel").cbr.mean()
    assert cbr["rayleigh"] > 1.1 * cbr["awgn"]


def test_a_second_run_does_nothing_again(finished, write_scenario, tmp_path, monkeypatch, capsys):
    before = read_points(finished)
    # Every row is there, so nothing may be loaded, encoded or sent.
    monkeypatch.setattr("pvsc_link.sweep.runner.load", None)
    assert run(write_scenario(), tmp_path / "out") == 0
    pd.testing.assert_frame_equal(read_points(finished), before)
    *_, done, where = capsys.readouterr().err.splitlines()
    assert (
        done == f"Nothing was left to run: all {len(before)} rows were there. --fresh starts anew."
    )
    assert where.endswith(f"pvsc-link report {finished}")


def test_a_wider_scenario_keeps_the_rows_it_has(finished, write_scenario, tmp_path):
    before = read_points(finished).set_index("point_id")
    wider = write_scenario(link={"channel": "awgn", "snr_db": [6, 10]})
    assert run(wider, tmp_path / "out") == 0
    after = read_points(finished).set_index("point_id")
    assert len(after) == 2 * (2 + 3)
    common = after.index.intersection(before.index)
    assert len(common) == 5
    assert (after.loc[common, "seconds"] == before.loc[common, "seconds"]).all()


def test_dry_run_prints_the_grid_and_writes_nothing(write_scenario, tmp_path, capsys):
    assert run(write_scenario(), tmp_path / "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "10 points: x264:psy 4, x265:psy 6"
    assert lines[-1].startswith("time: ")
    assert len(lines) == 12
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_transports_apart(write_scenario, tmp_path, capsys):
    link = {"channel": "awgn", "snr_db": 6, "block_length": [1536, 6144]}
    assert run(write_scenario(link=link), tmp_path / "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["block_length 1536" in line for line in lines].count(True) == (len(lines) - 2) // 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schemes": [{"scheme": "x266", "rates": [27]}]}, "x265"),
        ({"schemes": [{"scheme": "x265", "rates": [99]}]}, "rate"),
        ({"schemes": [{"scheme": "x265", "rates": [27], "equalizer": "mmse"}]}, "lmmse"),
        (
            {"schemes": [{"scheme": "x265", "rates": [27], "equalizer": "biased_lmmse"}]},
            "equalizer",
        ),
        ({"schemes": [{"scheme": "x265", "rates": [27], "variant": "loud"}]}, "psy"),
        ({"link": {"channel": "rayleight", "snr_db": 6}}, "rayleigh"),
        ({"link": {"snr_db": 6, "decoder": "turbo"}}, "layered"),
        ({"media": {"clips": ["carphon"]}}, "carphone"),
        ({"media": {"clips": ["no/such/file.mp4"]}}, "no/such/file.mp4"),
        ({"media": {"clips": ["carphone"], "num_gops": 5000}}, "20000"),
        ({"anchor": "vtm"}, "anchor"),
        ({"nmae": "x"}, "name"),
    ],
)
def test_bad_input_is_told_at_load_and_nothing_is_written(
    changes, said, write_scenario, tmp_path, capsys
):
    assert run(write_scenario(**changes), tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cache_folder_that_is_a_file_is_told_and_nothing_is_written(
    write_scenario, tmp_path, monkeypatch, capsys
):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    assert run(write_scenario(), tmp_path / "out") == 2
    assert "PVSC_LINK_CACHE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_codec_that_crashes_becomes_rows_and_the_sweep_goes_on(
    own_caches, write_scenario, tmp_path, monkeypatch
):
    class Fragile(X264):
        def describe(self, *args):
            return super().describe(*args) + " -fragile"  # not to be found in the encode cache

        def encode(self, frames, fps, rate, **place):
            if rate == 37:
                raise CodecFailure("codec_error", "Segmentation fault")
            return super().encode(frames, fps, rate, **place)

    monkeypatch.setitem(CODECS, "x264", replace(CODECS["x264"], implementation=Fragile))
    assert run(write_scenario(), tmp_path / "out") == 0
    points = read_points(tmp_path / "out" / "small")
    failed = points[points.status == "codec_error"]
    assert set(zip(failed.scheme, failed.rate, strict=True)) == {("x264", 37)}
    assert failed.psnr_db.isna().all()
    assert failed.cbr.isna().all()
    assert (failed.note == "Segmentation fault").all()
    assert (points[points.status != "codec_error"].status == "ok").all()
    monkeypatch.undo()
    assert run(write_scenario(), tmp_path / "out", "--retry-failed") == 0
    assert set(read_points(tmp_path / "out" / "small").status) == {"ok"}


def test_rows_of_another_version_are_not_mixed_in(finished, write_scenario, tmp_path, monkeypatch):
    monkeypatch.setattr("pvsc_link.sweep.runner.__version__", "999")
    assert run(write_scenario(), tmp_path / "out") == 2
    assert run(write_scenario(), tmp_path / "out", "--fresh") == 0


def test_an_outage_is_a_row_with_grey_frames(own_caches, write_scenario, tmp_path):
    lost = write_scenario(
        link={"channel": "awgn", "snr_db": -5},
        schemes=[{"scheme": "x265", "rates": [37], "mcs": 28}],
        anchor=None,
    )
    assert run(lost, tmp_path / "out") == 0
    row = read_points(tmp_path / "out" / "small").iloc[0]
    assert row.status == "outage"
    assert row.frames_lost == row.num_frames == 4
    assert np.isnan(row.bler), "the scenario gives the MCS, so nothing is measured"
    assert row.cbr > 0
    assert row.psnr_db < 20


def test_entries_that_differ_in_the_receiver_alone_are_encoded_once(
    rough_bler, write_scenario, tmp_path, monkeypatch
):
    encoded = []
    made = SeparatedScheme.encode

    def encode(scheme, video, gop, rate):
        encoded.append(rate)
        return made(scheme, video, gop, rate)

    monkeypatch.setattr(SeparatedScheme, "encode", encode)
    entries = [
        {"scheme": "x264", "rates": [27, 37], "equalizer": "lmmse"},
        {"scheme": "x264", "rates": [37, 42], "equalizer": "zf"},
    ]
    scenario = write_scenario(name="once", schemes=entries, anchor=None)
    assert run(scenario, tmp_path / "out") == 0
    points = read_points(tmp_path / "out" / "once")
    assert sorted(encoded) == [27, 37, 42]
    assert points.groupby("equalizer").rate.unique().map(sorted).to_dict() == {
        "lmmse": [27, 37],
        "zf": [37, 42],
    }
