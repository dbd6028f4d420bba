"""``python -m pvsc_link.bench faults``: what is lost when a sweep is disturbed.

A small sweep is killed at random moments, stopped by signals, run on full and read-only disks, on
damaged stores, twice in one folder, and with a video that changed under its name. After each fault
the same command runs again, and its table is compared with that of an undisturbed sweep: rows that
are missing or have other numbers count as lost, rows that stand twice as doubled. A fault that
should be refused counts as lost if the sweep goes on or ends with anything but status 2.

Faults that need a file system of one's own are injected where one can be mounted (Linux, as root),
and are else told as left out. Faults of workers need the extra ``cluster``.
"""

import argparse
import multiprocessing
import os
import random
import runpy
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pvsc_link.bench.provenance import write_manifest, write_rows
from pvsc_link.sweep import read_points

#: Modules that every sweep imports; loaded once, because each sweep is a process of its own.
_PRELOAD = ("pvsc_link.sweep.runner", "pvsc_link.report")
_PATIENCE_S = 600
_SCENARIO = """\
name: faults
seed: [1, 2, 3, 4]
media: {{clips: [{{path: {clip}, width: 64, height: 48, name: made_up}}], gop: 2, num_gops: 2}}
link: {{channel: [awgn, rayleigh], snr_db: [6, 12]}}
schemes:
  - {{scheme: x264, rates: [27, 37], mcs: 4}}
  - {{scheme: x265, rates: [27, 37], mcs: 4}}
anchor: x264
metrics: [psnr]
"""


@dataclass
class Bench:
    """The folder of the benchmark, its scenario, and the table of an undisturbed sweep."""

    folder: Path
    kills: int
    worker_kills: int
    rng: random.Random
    context: Any
    reference: pd.DataFrame = field(default_factory=pd.DataFrame)
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def scenario(self) -> Path:
        """The scenario file."""
        return self.folder / "faults.yaml"

    def start(self, out: Path, *words: str, cache: Path | None = None) -> Any:
        """A sweep in a process of its own, by ``multiprocessing``."""
        given = [str(self.scenario), "--out", str(out), *words]
        process = self.context.Process(
            target=_sweep, args=(given, str(cache or self.folder / "cache"), str(out) + ".log")
        )
        process.start()
        return process

    def run(self, out: Path, *words: str, cache: Path | None = None) -> int:
        """Exit status of a sweep that runs to its end."""
        process = self.start(out, *words, cache=cache)
        process.join(_PATIENCE_S)
        return -1 if process.exitcode is None else int(process.exitcode)

    def note(self, fault: str, injected: int, out: Path | None, refused: bool = True) -> None:
        """Compare the table in ``out`` with the reference, and print a line."""
        lost = doubled = 0
        if out is not None:
            lost, doubled = self._differences(out)
        lost += 0 if refused else len(self.reference)
        row = {"fault": fault, "injected": injected, "rows_lost": lost, "rows_doubled": doubled}
        self.rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)

    def _differences(self, out: Path) -> tuple[int, int]:
        try:
            found = read_points(out / "faults")
        except OSError:
            return len(self.reference), 0
        doubled = len(found) - found["point_id"].nunique()
        found = found.drop_duplicates("point_id").set_index("point_id")
        wanted = self.reference.set_index("point_id")
        same = found.reindex(wanted.index)[wanted.columns].drop(columns="seconds")
        wanted = wanted.drop(columns="seconds")
        alike = (same == wanted) | (same.isna() & wanted.isna())
        return int((~alike.all(axis=1)).sum()), doubled


def _sweep(words: Sequence[str], cache: str, log: str) -> None:
    """What a process of the benchmark does: one sweep, its words in a file."""
    os.environ["PVSC_LINK_CACHE"] = cache
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["pvsc-link sweep", *words]
    try:
        runpy.run_module("pvsc_link.sweep", run_name="__main__")
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def write_clip(path: Path, shift: int = 0) -> None:
    """A raw clip of four frames of 64x48, a moving ramp."""
    y, x = np.mgrid[:48, :64]
    frames = []
    for t in range(4):
        luma = (16 + 2 * ((x + 3 * t + shift) % 64) + y).astype(np.uint8)
        chroma = np.full((24, 32), 128, np.uint8)
        frames += [luma.tobytes(), chroma.tobytes(), chroma.tobytes()]
    path.write_bytes(b"".join(frames))


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[bool]:
    """Whether a file system was mounted at ``folder`` for the block."""
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode
    except OSError:
        done = 1
    try:
        yield done == 0
    finally:
        if done == 0:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)


def stored(out: Path) -> int:
    """Rows that the store of a results folder holds."""
    with suppress(sqlite3.Error):
        path = (out / "faults" / "points.sqlite").resolve()
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM points").fetchone()[0])
    return 0


def kills(bench: Bench) -> None:
    """kill -9 at random moments, each followed by the same command in the same folder."""
    left = bench.kills
    folders = 0
    while left:
        folders += 1
        number = 0
        out = bench.folder / f"killed{folders}"
        while number < left and not (out / "faults/points.csv").exists():
            process = bench.start(out)
            process.join(bench.rng.uniform(0.0, bench.seconds))
            if process.exitcode is None:
                os.kill(process.pid, signal.SIGKILL)
                number += 1
            process.join(_PATIENCE_S)
        bench.run(out)
        bench.note(f"kill -9 of the sweep, folder {folders}", number, out)
        left -= number


def signals(bench: Bench) -> None:
    """SIGTERM and Ctrl-C after some rows: status 143 and 130 within two seconds, rows stored."""
    for sent, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        out = bench.folder / sent.name
        process = bench.start(out)
        while process.exitcode is None and stored(out) < 2:
            time.sleep(0.01)
        start = time.monotonic()
        os.kill(process.pid, sent)
        process.join(_PATIENCE_S)
        seconds = time.monotonic() - start
        good = process.exitcode == status
        if not good:
            print(f"exit status {process.exitcode}, wanted {status}")
        bench.run(out)
        bench.note(f"{sent.name}, ended after {seconds:.1f} s", 1, out, refused=good)


def full_disks(bench: Bench) -> None:
    """Results, then the cache, on file systems of a few kilobytes."""
    for size in (64, 128, 256):
        disk, out = bench.folder / f"disk{size}", bench.folder / f"full{size}"
        with mounted(disk, "-t", "tmpfs", "-o", f"size={size}k", "tmpfs") as there:
            if not there:
                print("full disks are left out: no file system can be mounted here")
                return
            status = bench.run(disk)
            if (disk / "faults").is_dir():
                shutil.copytree(disk / "faults", out / "faults", dirs_exist_ok=True)
        bench.run(out)
        bench.note(f"full disk of {size} KiB under results", 1, out, refused=status in (0, 2))
    disk, out = bench.folder / "disk_cache", bench.folder / "full_cache"
    with mounted(disk, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        status = bench.run(out, cache=disk)
        bench.note("full disk of 64 KiB under the cache", 1, out, refused=status == 0)


def read_only(bench: Bench) -> None:
    """Results on a read-only file system are refused; a warm read-only cache serves."""
    for what in ("results", "cache"):
        source, place = bench.folder / "cache", bench.folder / f"read_only_{what}"
        with mounted(place, "--bind", str(source)) as there:
            if not there:
                print("read-only disks are left out: no file system can be mounted here")
                return
            subprocess.run(["mount", "-o", "remount,ro,bind", str(place)], check=True)
            if what == "results":
                status = bench.run(place)
                bench.note("read-only results", 1, None, refused=status == 2)
            else:
                out = bench.folder / "warm"
                status = bench.run(out, cache=place)
                bench.note("read-only warm cache", 1, out, refused=status == 0)


def damages(bench: Bench) -> None:
    """Stores that are cut, overwritten, of another schema, or have a bad row; then --fresh."""

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def text(path: Path) -> None:
        path.write_text("no database\n" * 1000)

    def statement(words: str) -> Callable[[Path], None]:
        def change(path: Path) -> None:
            with closing(sqlite3.connect(path)) as database, database:
                database.executescript(words)

        return change

    cases = {
        "store cut in half": cut,
        "text in place of the store": text,
        "store of another schema": statement("DROP TABLE points; CREATE TABLE points (a TEXT)"),
        "row that is no JSON": statement("UPDATE points SET row = '{'"),
        "row without its values": statement("UPDATE points SET row = '{}'"),
        "fact that is no JSON": statement("UPDATE facts SET value = '{' WHERE key = 'contents'"),
    }
    for name, damage in cases.items():
        out = bench.folder / "damaged" / name.replace(" ", "_")
        out.parent.mkdir(exist_ok=True)
        shutil.copytree(bench.folder / "whole/faults", out / "faults")
        damage(out / "faults/points.sqlite")
        (out / "faults/points.csv").unlink()
        refused = bench.run(out) == 2
        bench.run(out, "--fresh")
        bench.note(name, 1, out, refused=refused)


def two_sweeps(bench: Bench) -> None:
    """A second sweep in the folder of a running one is refused, and the first ends well."""
    out = bench.folder / "two"
    first = bench.start(out)
    while first.exitcode is None and stored(out) < 1:
        time.sleep(0.01)
    status = bench.run(out)
    first.join(_PATIENCE_S)
    bench.note("two sweeps in one folder", 1, out, refused=status == 2)


def changed_input(bench: Bench) -> None:
    """Another video under the old name is refused; the old one goes on."""
    out, clip = bench.folder / "changed", bench.folder / "clip.yuv"
    shutil.copytree(bench.folder / "whole/faults", out / "faults")
    write_clip(clip, shift=5)
    refused = bench.run(out) == 2
    write_clip(clip)
    bench.run(out)
    bench.note("another video under an old name", 1, out, refused=refused)


def workers(bench: Bench) -> None:
    """kill -9 of worker processes in tasks.

    Rows of a task that took three workers down have a status; ``--retry-failed`` sends them.
    """
    out = bench.folder / "workers"
    process = bench.start(out, "--workers", "2", "--seeds-per-task", "1")
    killed = 0
    before: set[int] = set()
    while process.exitcode is None and killed < bench.worker_kills:
        time.sleep(0.2)
        busy = [pid for pid in _grandchildren(process.pid) if pid not in before and _cpu(pid) > 5]
        if stored(out) > 0 and busy:
            with suppress(OSError):
                os.kill(busy[0], signal.SIGKILL)
                before.add(busy[0])
                killed += 1
    process.join(_PATIENCE_S)
    ended = process.exitcode == 0 and bench.run(out, "--retry-failed") == 0
    bench.note("kill -9 of a worker", killed, out, refused=ended)


def _grandchildren(pid: int) -> list[int]:
    """Processes of workers: children of the nannies, which are threads of the client."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
            if parent == pid and b"spawn_main" in command:
                found.append(int(folder.name))
    return found


def _cpu(pid: int) -> float:
    """CPU seconds that a process has used: those of a worker at work are more than its imports."""
    with suppress(OSError, ValueError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


#: What injects the faults, by the name that ``--only`` takes.
FAULTS = {
    "kills": kills,
    "signals": signals,
    "full_disks": full_disks,
    "read_only": read_only,
    "damages": damages,
    "two_sweeps": two_sweeps,
    "changed_input": changed_input,
    "workers": workers,
}


def main(argv: Sequence[str]) -> int:
    """Print a line per fault and the sums; status 1 if a row was lost or doubled."""
    parser = argparse.ArgumentParser(
        prog="python -m pvsc_link.bench faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20, help="of the sweep, at random moments")
    parser.add_argument("--worker-kills", type=int, default=3, help="of worker processes")
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args(argv)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    with tempfile.TemporaryDirectory(prefix="pvsc_link_faults_") as folder:
        rng = random.Random(options.seed)
        bench = Bench(Path(folder), options.kills, options.worker_kills, rng, context)
        clip = bench.folder / "clip.yuv"
        write_clip(clip)
        bench.scenario.write_text(_SCENARIO.format(clip=clip))
        if bench.run(bench.folder / "warming") or bench.run(bench.folder / "whole"):
            print((bench.folder / "whole.log").read_text(), file=sys.stderr)
            return 1
        bench.reference = read_points(bench.folder / "whole/faults")
        start = time.monotonic()
        bench.run(bench.folder / "timed")
        bench.seconds = time.monotonic() - start
        print(f"{len(bench.reference)} rows in {bench.seconds:.1f} s undisturbed", flush=True)
        for name in options.only:
            FAULTS[name](bench)
        rows = bench.rows
    sums = {name: sum(row[name] for row in rows) for name in ("rows_lost", "rows_doubled")}
    injected = sum(row["injected"] for row in rows)
    print(
        f"{injected} faults injected, {sums['rows_lost']} rows lost, "
        f"{sums['rows_doubled']} rows doubled"
    )
    if options.csv:
        write_rows(options.csv, rows)
        write_manifest(options.csv, ["faults", *argv])
    return int(any(sums.values()))
