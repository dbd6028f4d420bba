"""What happens to a sweep from outside: full disks, damaged stores, signals, kills."""

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import closing, contextmanager

import made_up
import pandas as pd
import pytest
import yaml
from PIL import Image

from pvsc_link.storage import remove_abandoned
from pvsc_link.sweep import SweepStore, read_points
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.stopping import Stopped, stoppable
from pvsc_link.types import InputError


@pytest.fixture
def cheap(tmp_path, monkeypatch):
    """A scenario file of the made-up schemes."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    made_up.register(monkeypatch)
    scenario = tmp_path / "small.yaml"
    scenario.write_text(yaml.safe_dump(made_up.described(made_up.write_clip(tmp_path / "clip"))))
    return scenario


@contextmanager
def mounted(folder, *options):
    """A file system of one's own at ``folder``; the test is left out where none can be mounted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def database(folder):
    return closing(sqlite3.connect(folder / "small/points.sqlite"))


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:5000])


def damage_text(path):
    path.write_text("no database at all\n" * 500)


def damage_schema(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE points (name TEXT)")


def damage_row(text):
    def damage(path):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "UPDATE points SET row = ? WHERE rowid = (SELECT MIN(rowid) FROM points)", (text,)
            )

    return damage


def damage_fact(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE facts SET value = '{' WHERE key = 'frame_digests'")


@pytest.fixture
def done(cheap, tmp_path):
    """A finished sweep without its journals."""
    assert main([str(cheap), "--out", str(tmp_path / "out")]) == 0
    return cheap, tmp_path / "out"


@pytest.mark.parametrize(
    "damage",
    [
        damage_truncate, damage_schema, damage_row("{}"),
        *(pytest.param(damage, marks=pytest.mark.slow) for damage in (
            damage_text, damage_fact, damage_row("{"), damage_row("[]"),
            damage_row('{"point_id": "other"}'),
        )),
    ],
)  # fmt: skip
def test_a_damaged_store_is_told_and_fresh_mends_it(damage, done, capsys):
    scenario, out = done
    before = read_points(out / "small").drop(columns="seconds")
    damage(out / "small/points.sqlite")
    assert main([str(scenario), "--out", str(out)]) == 2
    assert "cannot be used" in capsys.readouterr().err
    assert main([str(scenario), "--out", str(out), "--fresh"]) == 0
    pd.testing.assert_frame_equal(before, read_points(out / "small").drop(columns="seconds"))


def test_a_folder_in_the_place_of_the_store_is_told_and_stays(cheap, tmp_path, capsys):
    (tmp_path / "out/small/points.sqlite").mkdir(parents=True)
    for words in ([], ["--fresh"]):
        assert main([str(cheap), "--out", str(tmp_path / "out"), *words]) == 2
        assert "cannot be used" in capsys.readouterr().err
    assert (tmp_path / "out/small/points.sqlite").is_dir()


def test_a_full_disk_under_results_keeps_what_was_stored(cheap, tmp_path, capsys):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as disk:
        (disk / "ballast").write_bytes(b"x" * 150_000)
        status = main([str(cheap), "--out", str(disk)])
        said = capsys.readouterr().err
        assert status == 2, said
        assert "space" in said
        (disk / "ballast").unlink()
        shutil.copytree(disk / "small", tmp_path / "out/small")
    assert main([str(cheap), "--out", str(tmp_path / "out")]) == 0
    assert main([str(cheap), "--out", str(tmp_path / "whole")]) == 0
    resumed, whole = (read_points(tmp_path / o / "small") for o in ("out", "whole"))
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"))


@pytest.mark.slow
def test_a_frame_that_cannot_be_kept_is_told_and_the_sweep_goes_on_later(
    cheap, tmp_path, monkeypatch, capsys
):
    write, written = Image.Image.save, []

    def full(self, *given, **more):
        written.append(given)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, *given, **more)

    words = [str(cheap), "--out", str(tmp_path / "out"), "--save-frames"]
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        assert main(words) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert main(words) == 0
    assert len(read_points(tmp_path / "out/small")) == 16


def test_a_full_disk_under_the_cache_costs_no_row(cheap, tmp_path, monkeypatch):
    assert main([str(cheap), "--out", str(tmp_path / "whole")]) == 0
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        monkeypatch.setenv("PVSC_LINK_CACHE", str(disk))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert main([str(cheap), "--out", str(tmp_path / "full")]) == 0
    assert any("not kept" in str(w.message) or "not cached" in str(w.message) for w in told)
    full, whole = (read_points(tmp_path / o / "small") for o in ("full", "whole"))
    pd.testing.assert_frame_equal(full.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_read_only_results_are_told_and_a_warm_read_only_cache_serves(
    cheap, tmp_path, monkeypatch, capsys
):
    assert main([str(cheap), "--out", str(tmp_path / "whole")]) == 0
    cache = str(tmp_path / "cache")
    with mounted(tmp_path / "ro", "--bind", cache) as folder:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        monkeypatch.setenv("PVSC_LINK_CACHE", str(folder))
        made_up.Coarse.encoded.clear()
        with pytest.warns(UserWarning, match="not kept"):
            assert main([str(cheap), "--out", str(tmp_path / "again")]) == 0
        assert made_up.Coarse.encoded == [], "the encodings came from the cache"
        capsys.readouterr()
        assert main([str(cheap), "--out", str(folder / "results")]) == 2
        assert "cannot be used" in capsys.readouterr().err
    again, whole = (read_points(tmp_path / o / "small") for o in ("again", "whole"))
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_a_dry_run_starts_no_program_that_the_scenario_names(tmp_path, monkeypatch, capsys):
    program, trace = tmp_path / "ffmpeg", tmp_path / "was_run"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    data = {
        "name": "small",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
        "link": {"snr_db": 6},
        "schemes": [{"scheme": "vvenc", "rates": [37], "binary": str(program), "mcs": 3}],
        "metrics": ["psnr"],
    }
    scenario = tmp_path / "small.yaml"
    scenario.write_text(yaml.safe_dump(data))
    assert main([str(scenario), "--dry-run", "--out", str(tmp_path)]) == 0
    assert "1 points" in capsys.readouterr().out
    assert not trace.exists()
    assert main([str(scenario), "--out", str(tmp_path)]) == 2  # it prints no encoders
    assert trace.exists()


def test_a_program_without_a_version_is_no_traceback(tmp_path):
    from pvsc_link.codecs.vvenc import ffmpeg_version

    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert "unknown" in ffmpeg_version(str(program))


def test_temporary_files_of_killed_processes_are_removed_after_a_day(tmp_path):
    old, new, other = (tmp_path / f".{c * 32}.part" for c in "abc")
    for path in (old, new):
        path.write_text("half")
    other = tmp_path / ".mine.part"
    other.write_text("of somebody else")
    for path in (old, other):
        os.utime(path, (time.time() - 100_000,) * 2)
    assert remove_abandoned(tmp_path) == 1
    assert not old.exists()
    assert new.exists()
    assert other.exists()


@pytest.mark.slow
def test_a_clock_that_jumps_back_keeps_rows_and_locks(done, monkeypatch):
    scenario, out = done
    monkeypatch.setattr(time, "time", lambda: 1.0)
    before = (out / "small/points.csv").read_text()
    assert main([str(scenario), "--out", str(out)]) == 0
    assert (out / "small/points.csv").read_text() == before


def test_a_store_on_a_shared_file_system_has_another_journal(tmp_path, monkeypatch):
    def journal(folder):
        store = SweepStore(folder, version="1")
        store.add([{"point_id": "a", "status": "ok"}])
        with closing(sqlite3.connect(folder / "points.sqlite")) as connection:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        note = store.note
        store.close()
        return mode, note

    assert journal(tmp_path / "local") == ("wal", "")
    monkeypatch.setattr("pvsc_link.sweep.store.file_system", lambda folder: "nfs4")
    mode, note = journal(tmp_path / "shared")
    assert mode == "delete"
    assert "nfs4" in note


def test_a_folder_without_locks_is_told_and_used(cheap, tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.warns(UserWarning, match="cannot be locked"):
        assert main([str(cheap), "--out", str(tmp_path / "out")]) == 0


def test_a_video_that_changed_under_its_name_is_refused(done, tmp_path, capsys):
    scenario, out = done
    made_up.write_clip(tmp_path / "clip", start=7)
    assert main([str(scenario), "--out", str(out)]) == 2
    assert "other frames" in capsys.readouterr().err


SWEEP = """
import sys, time
sys.path.insert(0, {here!r})
import made_up, pytest
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.stopping import Stopped, stoppable
with pytest.MonkeyPatch.context() as patch:
    made_up.register(patch)
    patch.setattr("pvsc_link.report.write_figures", lambda folder: [])
    sent = made_up.Noisy.stream
    def slow(self, *words):
        for reception in sent(self, *words):
            {wait}
            yield reception
    patch.setattr(made_up.Noisy, "stream", slow)
    print("ready", flush=True)
    sys.exit(main([{scenario!r}, "--out", {out!r}]))
"""


def start(scenario, out, wait, **environment):
    """A sweep of the made-up schemes in a process of its own, slowed down."""
    here = os.path.dirname(__file__)
    code = SWEEP.format(here=here, scenario=str(scenario), out=str(out), wait=wait)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def wait_for_rows(folder, number, process, patience_s=240):
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            path = folder / "small/points.sqlite"
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
                if connection.execute("SELECT COUNT(*) FROM points").fetchone()[0] >= number:
                    return
        except sqlite3.OperationalError:
            pass
        time.sleep(0.02)
    pytest.fail(f"the sweep stored no {number} rows: {process.communicate()}")


# A wait in Python is interrupted; one inside the C library, with its program, is ended by force.
@pytest.mark.parametrize(
    ("number", "status", "wait"),
    [
        (signal.SIGTERM, 143, "time.sleep(30)"),
        pytest.param(
            *(signal.SIGINT, 130),
            "import ctypes; ctypes.PyDLL(None); ctypes.CDLL(None).sleep(30)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_signal_ends_a_sweep_with_its_rows_and_a_word_how_to_go_on(
    number, status, wait, cheap, tmp_path
):
    process = start(cheap, tmp_path / "out", wait)
    wait_for_rows(tmp_path / "out", 8, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "rows are stored in" in said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert main([str(cheap), "--out", str(tmp_path / "out")]) == 0
    assert len(read_points(tmp_path / "out/small")) == 16


def test_a_second_signal_does_not_interrupt_the_end():
    """Threads that nobody waits for would hold the process for as long as they work."""
    ended = []

    def sweep():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            ended.append(True)
            raise OSError("a program that was killed")

    with pytest.raises(Stopped) as caught, stoppable(lambda: ""):
        sweep()
    assert ended
    assert caught.value.status == 143


HANGING = """
import subprocess, sys, threading, time
from pvsc_link.sweep.stopping import stoppable
def programs():
    while True:
        subprocess.run(["sleep", sys.argv[1]])
threads = [threading.Thread(target=programs) for _ in range(4)]
with stoppable(lambda: "stopped"):
    try:
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        time.sleep(30)
    finally:
        for thread in threads:
            thread.join()
"""


@pytest.mark.slow
def test_a_sweep_that_hangs_is_ended_with_its_programs_also_behind_a_pipe_that_is_gone():
    """``2>&1 | tee log``: Ctrl-C ends tee too. The programs' threads start others meanwhile."""
    seconds = f"30.{random.SystemRandom().randrange(10**9):09}"
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, seconds], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert f"sleep {seconds}" not in listed


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(cheap, tmp_path):
    assert main([str(cheap), "--out", str(tmp_path / "whole")]) == 0
    moments = random.Random(1)
    for _ in range(20):
        process = start(cheap, tmp_path / "out", "time.sleep(0.05)")
        process.stdout.readline()
        time.sleep(moments.uniform(0.0, 3.0))
        process.kill()
        process.communicate()
    assert main([str(cheap), "--out", str(tmp_path / "out")]) == 0
    killed, whole = (read_points(tmp_path / o / "small") for o in ("out", "whole"))
    pd.testing.assert_frame_equal(killed.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_rows_with_nan_are_read(tmp_path):
    """Earlier versions stored NaN, which is no JSON."""
    store = SweepStore(tmp_path, version="1")
    store.add([{"point_id": "a", "status": "ok", "psnr_db": float("nan")}])
    assert store.row("a")["psnr_db"] is None
    store.close()
    with closing(sqlite3.connect(tmp_path / "points.sqlite")) as connection, connection:
        text = json.dumps({"point_id": "b", "status": "ok", "psnr_db": float("nan")})
        connection.execute("INSERT INTO points VALUES ('b', ?)", (text,))
    store = SweepStore(tmp_path, version="1")
    assert set(store.heads(["status", "psnr_db"])) == {"a", "b"}
    store.close()


def test_a_store_says_which_row_is_damaged(tmp_path):
    store = SweepStore(tmp_path, version="1")
    store.add([{"point_id": "a", "status": "ok"}])
    store.close()
    damage_row("{]")(tmp_path / "points.sqlite")
    with pytest.raises(InputError, match="the row 'a' is damaged"):
        SweepStore(tmp_path, version="1")


@pytest.mark.parametrize("where", ["UPDATE points SET row", "UPDATE facts SET value"])
def test_a_store_of_bytes_that_are_no_utf8_is_refused(where, tmp_path):
    """SQLite takes such a text for JSON, and fails when it is fetched."""
    store = SweepStore(tmp_path, version="1")
    store.add([{"point_id": "a", "status": "ok", "psnr_db": 30.0}])
    store.close()
    with closing(sqlite3.connect(tmp_path / "points.sqlite")) as database, database:
        old, new = ("psnr", "70ff6e72") if "points" in where else ("1", "31ff")
        column = where.split()[-1]
        query = f"{where} = CAST(replace({column}, ?, CAST(x'{new}' AS TEXT)) AS TEXT)"
        assert database.execute(query, (old,)).rowcount
    with pytest.raises(InputError, match=r"cannot be used.*UTF-8"):
        SweepStore(tmp_path, version="1")


def test_a_store_with_a_fact_without_value_is_refused(tmp_path):
    SweepStore(tmp_path, version="1").close()
    with closing(sqlite3.connect(tmp_path / "points.sqlite")) as database, database:
        # A damaged header of a page can say so where the schema forbids it.
        database.executescript("DROP TABLE facts; CREATE TABLE facts (key TEXT PRIMARY KEY, value)")
        database.execute("INSERT INTO facts VALUES ('version', NULL)")
    with pytest.raises(InputError, match="the fact 'version' is damaged"):
        SweepStore(tmp_path, version="1")
