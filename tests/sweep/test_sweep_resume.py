"""Killed at any moment and started again, a sweep ends with the table of an uninterrupted one."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.sweep.store import SweepStore, read_points, restore
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
    names = ("points.csv", "mcs_neighbours.csv", "bd_cbr.csv")
    tables = {name: (out / "small" / name).read_text() for name in names}
    for file in (out / "small").glob("points.sqlite*"):
        file.unlink()

    def refuse(*_):
        raise AssertionError("a restored row ran again")

    monkeypatch.setattr(SweepRunner, "_run_clip", refuse)
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
    monkeypatch.setattr(SweepRunner, "_run_clip", None)  # calling it would fail
    assert main([scenario, "--out", str(out), "--restore"]) == 0
    assert (out / "small" / "points.csv").read_text() == (committed / "points.csv").read_text()


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
        ({"pvsc_link": "0"}, "another version"),
        ({}, "another version"),
        ({"pvsc_link": "1"}, "codec_commands"),
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
    grown = run("grown", "ssim", "vmaf")
    assert grown[["psnr_db", "ssim", "vmaf"]].notna().all(axis=None)
    added = ["ssim", "vmaf", "seconds"]
    pd.testing.assert_frame_equal(grown.drop(columns=added), before.drop(columns=added))
    whole = run("whole", "psnr", "ssim", "vmaf")
    pd.testing.assert_frame_equal(
        grown.drop(columns="seconds"), whole.drop(columns="seconds"), check_like=True
    )


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
