"""Killed at any moment and started again, a sweep ends with the table of an uninterrupted one."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.codecs.precoded import PACKAGED_STREAMS, read_index, write_index
from pvsc_link.codecs.registry import CODECS
from pvsc_link.codecs.x264_x265 import X264
from pvsc_link.sweep.store import RULES, SweepStore, read_gops, read_points, restore
from pvsc_link.types import InputError


def start(scenario, out):
    return subprocess.Popen(
        [sys.executable, "-m", "pvsc_link.sweep", str(scenario), "--out", str(out)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def rows_so_far(database):
    if not database.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT COUNT(*) FROM points").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def kill_after(process, database, num_rows, patience_s=300):
    deadline = time.monotonic() + patience_s
    while rows_so_far(database) < num_rows and process.poll() is None:
        assert time.monotonic() < deadline, "the sweep stored no row"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("num_rows", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_kill_minus_nine_and_restart_give_the_uninterrupted_table(
    num_rows, own_caches, write_scenario, tmp_path
):
    # One MCS, so that the row and not the search for an MCS is what gets interrupted.
    schemes = [{"scheme": name, "rates": [27, 32, 37], "mcs": 9} for name in ("x264", "x265")]
    scenario = write_scenario(schemes=schemes)
    interrupted = start(scenario, tmp_path / "killed")
    kill_after(interrupted, tmp_path / "killed/small/points.sqlite", num_rows)
    stored = rows_so_far(tmp_path / "killed/small/points.sqlite")
    assert not (tmp_path / "killed/small/points.csv").exists()
    assert start(scenario, tmp_path / "killed").wait() == 0
    assert start(scenario, tmp_path / "whole").wait() == 0
    killed = read_points(tmp_path / "killed/small").drop(columns="seconds")
    whole = read_points(tmp_path / "whole/small").drop(columns="seconds")
    assert num_rows <= stored < len(whole)
    pd.testing.assert_frame_equal(killed, whole)
    for name in ("bd_cbr.csv",):
        assert (tmp_path / "killed/small" / name).read_text() == (
            tmp_path / "whole/small" / name
        ).read_text()


def test_two_sweeps_do_not_write_into_one_folder(write_scenario, tmp_path, capsys):
    import fcntl

    from pvsc_link.sweep.__main__ import main

    folder = tmp_path / "out" / "small"
    folder.mkdir(parents=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main([str(write_scenario()), "--out", str(tmp_path / "out")]) == 2
    assert "in use" in capsys.readouterr().err


def test_a_restored_sweep_runs_nothing_anew_and_writes_the_same_tables(
    own_caches, write_scenario, tmp_path, monkeypatch
):
    from pvsc_link.sweep.__main__ import main
    from pvsc_link.sweep.runner import SweepRunner

    scenario, out = str(write_scenario()), tmp_path / "out"
    assert main([scenario, "--out", str(out)]) == 0
    names = ("points.csv", "mcs_neighbours.csv", "gops.csv", "seed_means.csv", "bd_cbr.csv")
    tables = {name: (out / "small" / name).read_text() for name in names}
    for file in (out / "small").glob("points.sqlite*"):
        file.unlink()

    def refuse(*_):
        raise AssertionError("a restored row ran again")

    monkeypatch.setattr(SweepRunner, "_encode", refuse)
    assert main([scenario, "--out", str(out), "--restore"]) == 0
    assert {name: (out / "small" / name).read_text() for name in names} == tables


def test_a_fresh_clone_restores_the_committed_tables(
    own_caches, write_scenario, tmp_path, monkeypatch
):
    """Only the tables and the manifest are there, in reference/; the database is made beside it."""
    from pvsc_link.sweep.__main__ import main
    from pvsc_link.sweep.runner import SweepRunner

    scenario, out = str(write_scenario()), tmp_path / "out"
    assert main([scenario, "--out", str(out)]) == 0
    committed = out / "reference" / "small"
    committed.mkdir(parents=True)
    for name in ("points.csv", "mcs_neighbours.csv", "manifest.json"):
        (out / "small" / name).rename(committed / name)
    shutil.rmtree(out / "small")
    monkeypatch.setattr(SweepRunner, "_encode", None)  # calling it would fail
    assert main([scenario, "--out", str(out), "--restore"]) == 0
    assert (out / "small" / "points.csv").read_text() == (committed / "points.csv").read_text()


def test_restored_rows_have_the_transport_that_their_table_leaves_out(
    own_caches, write_scenario, tmp_path
):
    """A table without the column has the default; beside other rows its cells are filled."""
    from pvsc_link.sweep.__main__ import main

    def sweep(block_lengths, *words):
        link = {"channel": "awgn", "snr_db": 6, "block_length": block_lengths}
        schemes = [{"scheme": "x264", "rates": [37], "mcs": 9}]
        scenario = write_scenario(link=link, schemes=schemes, anchor="x264")
        assert main([str(scenario), "--out", str(tmp_path), *words]) == 0
        return read_points(tmp_path / "small")

    assert "block_length" not in sweep(6144)
    (tmp_path / "small" / "points.sqlite").unlink()
    assert sorted(sweep([1536, 6144], "--restore").block_length.unique()) == [1536, 6144]


def test_restore_without_tables_says_what_is_missing(write_scenario, tmp_path, capsys):
    from pvsc_link.sweep.__main__ import main

    assert main([str(write_scenario()), "--out", str(tmp_path), "--restore"]) == 2
    assert "points.csv" in capsys.readouterr().err
    assert not list(tmp_path.rglob("points.sqlite"))


def test_a_database_that_cannot_be_read_is_told_with_the_remedy(tmp_path):
    (tmp_path / "points.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(InputError, match="--restore"):
        SweepStore(tmp_path, version="1")


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"pvsc_link": "0", "rules": RULES}, "another version"),
        ({"pvsc_link": "1", "rules": RULES - 1}, "another version"),
        ({"pvsc_link": "1"}, "another version"),
        ({}, "another version"),
        ({"pvsc_link": "1", "rules": RULES}, "codec_commands"),
    ],
)
def test_tables_that_cannot_be_restored_are_told_with_the_remedy(manifest, said, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "points.csv").write_text("point_id\n1\n")
    with pytest.raises(InputError, match=said) as caught:
        restore(tmp_path, version="1")
    assert "--restore" in caught.value.remedy
    assert not (tmp_path / "points.sqlite").exists()


def test_a_metric_that_is_added_later_is_measured_and_the_others_stay(
    own_caches, write_scenario, tmp_path
):
    entry = {"scheme": "x264", "rates": [27, 32, 37], "mcs": 9}

    def run(out, *metrics):
        scenario = write_scenario(schemes=[entry], anchor="x264", metrics=list(metrics))
        assert start(scenario, tmp_path / out).wait() == 0
        return read_points(tmp_path / out / "small")

    before = run("grown", "psnr")
    assert set(before.status) == {"ok"}, before.note.tolist()
    grown = run("grown", "ssim", "vmaf")
    assert grown[["psnr_db", "ssim", "vmaf"]].notna().all(axis=None)
    added = ["ssim", "vmaf", "seconds"]
    pd.testing.assert_frame_equal(grown.drop(columns=added), before.drop(columns=added))
    whole = run("whole", "psnr", "ssim", "vmaf")
    pd.testing.assert_frame_equal(
        grown.drop(columns="seconds"), whole.drop(columns="seconds"), check_like=True
    )
    of_gops = read_gops(tmp_path / "grown" / "small")
    pd.testing.assert_frame_equal(of_gops, read_gops(tmp_path / "whole" / "small"))
    # All GOPs have two frames, so the mean over GOPs is that over frames.
    means = of_gops.groupby("point_id")[["psnr_db", "ssim", "vmaf"]].mean()
    expected = grown.set_index("point_id")[["psnr_db", "ssim", "vmaf"]]
    pd.testing.assert_frame_equal(means.loc[expected.index], expected, rtol=1e-6)


def test_other_frames_under_the_name_of_a_clip_are_refused(tmp_path):
    """Old rows would stand for the new video; with ``fresh`` it is measured."""
    import pvsc_link

    def made(level):
        folder = tmp_path / "clip"
        folder.mkdir(exist_ok=True)
        for t in range(2):
            frame = np.full((64, 64, 3), level, np.uint8)
            frame[8 * t : 8 * t + 16, :32] = 255 - level
            Image.fromarray(frame).save(folder / f"{t}.png")
        scenario = {
            "name": "replaced",
            "media": {"clips": [str(folder)], "gop": 2, "num_gops": 1},
            "link": {"snr_db": 6.0},
            "schemes": [{"scheme": "x264", "rates": [37], "mcs": 5}],
            "metrics": ["psnr"],
        }
        return pvsc_link.Scenario.model_validate(scenario)

    folder = pvsc_link.run_sweep(made(40), tmp_path)
    first = pvsc_link.load_results(folder)
    pvsc_link.run_sweep(made(40), tmp_path)
    with pytest.raises(InputError, match="other frames than those"):
        pvsc_link.run_sweep(made(90), tmp_path)
    kept = pvsc_link.load_results(folder)
    assert kept.equals(first)
    pvsc_link.run_sweep(made(90), tmp_path, fresh=True)
    assert not pvsc_link.load_results(folder).psnr_db.equals(first.psnr_db)


def grown_and_fresh(write_scenario, tmp_path, small, large):
    """Rows of a folder that grew from one scenario to another, and of the second run afresh."""
    from pvsc_link.sweep.__main__ import main

    for changes, out in ((small, "grown"), (large, "grown"), (large, "fresh")):
        assert main([str(write_scenario(**changes)), "--out", str(tmp_path / out)]) == 0
    return [
        pd.read_csv(tmp_path / out / "small" / name).drop(columns="seconds")
        for name in ("points.csv", "mcs_neighbours.csv")
        for out in ("grown", "fresh")
    ]


@pytest.fixture
def costly_streams(monkeypatch):
    """Block error rates by which the best MCS of carphone depends on the rates of the curve."""
    rates = {12: 0.0, 13: 0.02, 14: 0.1}
    monkeypatch.setattr("pvsc_link.sweep.mcs._bler", lambda p, o, mcs, n, **_: bler(mcs))

    def bler(mcs):
        return rates.get(mcs, float(mcs > 14))


def test_a_rate_that_is_added_moves_the_choice_of_finished_rows_too(
    own_caches, costly_streams, write_scenario, tmp_path
):
    """A curve has one MCS; the rows that were sent at the one of a shorter curve are sent again."""
    link = {"channel": "awgn", "snr_db": 10}

    def made(*rates):
        entries = [{"scheme": "x264", "rates": list(rates), "preset": "ultrafast"}]
        return {"link": link, "schemes": entries, "anchor": None}

    from pvsc_link.sweep.__main__ import main

    assert main([str(write_scenario(**made(50))), "--out", str(tmp_path / "first")]) == 0
    (alone,) = read_points(tmp_path / "first" / "small").mcs
    grown, fresh, beside, fresh_beside = grown_and_fresh(
        write_scenario, tmp_path, made(50), made(10, 30, 50)
    )
    assert grown.mcs.nunique() == 1
    assert grown.mcs[0] != alone, "the case is one where the choice moves"
    pd.testing.assert_frame_equal(grown, fresh)
    pd.testing.assert_frame_equal(beside, fresh_beside)


@pytest.fixture
def index(tmp_path):
    """A folder of two streams of carphone, out of those of the package; how to swap the two."""
    folder = tmp_path / "index"
    shutil.copytree(PACKAGED_STREAMS / "hm", folder)
    entries = [
        entry
        for entry in read_index(folder)
        if (entry.clip, entry.gop, entry.first_frame) == ("carphone", 4, 0) and entry.qp in (32, 37)
    ]
    write_index(folder, entries)

    def swap():
        first, second = read_index(folder)
        write_index(folder, [replace(first, qp=second.qp), replace(second, qp=first.qp)])

    return folder, swap


def test_other_bitstreams_under_the_name_of_an_index_are_refused(
    own_caches, index, write_scenario, tmp_path, capsys
):
    from pvsc_link.sweep.__main__ import main

    folder, swap = index
    scenario = write_scenario(
        media={"clips": ["carphone"], "gop": 4, "num_gops": 1},
        link={"channel": "awgn", "snr_db": 10},
        schemes=[{"scheme": "precoded", "index": str(folder), "mcs": 5}],
        anchor=None,
    )
    words = [str(scenario), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = read_points(tmp_path / "out" / "small").psnr_db.tolist()
    assert main(words) == 0
    swap()
    assert main(words) == 2
    assert "other bitstreams than those" in capsys.readouterr().err
    for file in (tmp_path / "out" / "small").glob("points.sqlite*"):
        file.unlink()
    assert main([*words, "--restore"]) == 2, "the manifest keeps what the rows were made of"
    assert main([*words, "--fresh"]) == 0
    assert read_points(tmp_path / "out" / "small").psnr_db.tolist() == before[::-1]


def test_a_stream_that_is_not_the_one_of_its_index_is_never_taken_from_the_cache(
    own_caches, index, write_scenario, tmp_path
):
    from pvsc_link.sweep.__main__ import main

    folder, _ = index
    scenario = write_scenario(
        media={"clips": ["carphone"], "gop": 4, "num_gops": 1},
        link={"channel": "awgn", "snr_db": 10},
        schemes=[{"scheme": "precoded", "index": str(folder), "mcs": 5}],
        anchor=None,
    )
    assert main([str(scenario), "--out", str(tmp_path / "one")]) == 0
    first, second = read_index(folder)
    shutil.copy(folder / first.file, folder / second.file)
    assert main([str(scenario), "--out", str(tmp_path / "two")]) == 0
    statuses = read_points(tmp_path / "two" / "small").set_index("rate").status
    assert statuses.to_dict() == {first.qp: "ok", second.qp: "codec_error"}


def test_a_codec_that_gives_other_bitstreams_has_all_its_rows_sent_again(
    own_caches, write_scenario, tmp_path, monkeypatch
):
    """Such as another release of x264: its curve is never made of two."""
    from pvsc_link.sweep.__main__ import main

    class Other(X264):
        version = "another"

        def encode(self, frames, fps, rate, **place):
            return super().encode(frames, fps, min(rate + 3, 51), **place)

    def run(out, *rates):
        entry = {"scheme": "x264", "rates": list(rates), "mcs": 9, "preset": "ultrafast"}
        changes = {"schemes": [entry], "anchor": None, "link": {"snr_db": 10}}
        assert main([str(write_scenario(**changes)), "--out", str(tmp_path / out)]) == 0
        return read_points(tmp_path / out / "small").drop(columns="seconds")

    run("grown", 27)
    monkeypatch.setitem(CODECS, "x264", replace(CODECS["x264"], implementation=Other))
    with pytest.warns(UserWarning, match="other bitstreams of carphone"):
        grown = run("grown", 27, 32)
    pd.testing.assert_frame_equal(grown, run("fresh", 27, 32))


def test_rows_whose_choice_stands_are_kept_when_a_rate_is_added(
    own_caches, write_scenario, tmp_path, monkeypatch
):
    from pvsc_link.sweep.__main__ import main

    monkeypatch.setattr("pvsc_link.sweep.mcs._bler", lambda p, o, mcs, n, **_: float(mcs > 9))

    def run(*rates):
        entries = [{"scheme": "x264", "rates": list(rates), "preset": "ultrafast"}]
        scenario = write_scenario(schemes=entries, anchor=None, link={"snr_db": 10})
        assert main([str(scenario), "--out", str(tmp_path / "out")]) == 0
        return read_points(tmp_path / "out" / "small").set_index("rate")

    before, after = run(27, 37), run(27, 32, 37)
    assert after.mcs.nunique() == 1
    pd.testing.assert_frame_equal(after.loc[[27, 37]], before)  # "seconds" too: not sent again
