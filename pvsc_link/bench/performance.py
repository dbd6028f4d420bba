"""``python -m pvsc_link.bench performance``: what this package costs beside others, in one table.

Every part is another benchmark, or a sweep, in a process of its own, and gives rows with two
numbers and their ratio. Both were measured in one run; where they are of CPU time, their ratio
holds on a machine that does other work as well.

    quickstart   the scenario of that name from empty caches, from filled ones, and from filled ones
                 with its stages one after another: CPU time over wall time, which is how many cores
                 were busy
    metrics      LPIPS and DISTS of a frame: Keras layers, and the official packages in the Python
                 of ``--python``, against this package (``bench metrics``)
    sweep        a plain loop over all points against a sweep, which shares (``bench sweep``)
    link         LDPC decoding: Sionna under XLA against this package (``bench link``)
    complexity   DVST against PVSC: MACs, CPU time and memory of either end (``bench complexity``)

``peak_mib`` is the most memory that the largest process of a part held. ``runnable`` is the mean
number of its threads that ran or waited for a processor (Linux): about as many cores it would keep
busy if it had them. Unlike CPU over wall time it says something on a busy machine too.
"""

import argparse
import csv
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pvsc_link.bench.provenance import as_text, write_manifest, write_rows
from pvsc_link.metrics import vgg16_weights
from pvsc_link.storage import cache_directory, num_threads

Row = dict[str, Any]
#: Weights that a sweep would download.
_DOWNLOADED = "vgg16_lpips.npz"


@dataclass(frozen=True)
class Spent:
    """What a command took: seconds of the clock, of the CPU, and the peak of its memory in MiB.

    ``runnable`` : mean number of threads that ran or waited for a processor; NaN if not known.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float
    runnable: float = math.nan


def run(words: Sequence[str], **environment: str) -> Spent:
    """Run ``python -m`` with these words to its end. Raises ``RuntimeError`` where it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *words], env=os.environ | environment, stdout=subprocess.DEVNULL
    )
    demand: dict[str, float] = {}
    ended = 0
    while not ended:
        _note_demand(process.pid, demand)
        time.sleep(_POLL_S)
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python -m {' '.join(words)} ended with {process.returncode}")
    wall_s, cpu_s = time.perf_counter() - start, used.ru_utime + used.ru_stime
    runnable = sum(demand.values()) / wall_s if demand else math.nan
    return Spent(wall_s, cpu_s, used.ru_maxrss / 1024, runnable)


#: Seconds between two looks at the threads of a process. One that ends between them is missed.
_POLL_S = 0.1


def _note_demand(process: int, demand: dict[str, float]) -> None:
    """Seconds that every thread of a process, and of those below it, ran or waited for a core."""
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError, ValueError, IndexError):
            ran, waited, *_ = (thread / "schedstat").read_text().split()
            demand[str(thread)] = (int(ran) + int(waited)) / 1e9
            for below in (thread / "children").read_text().split():
                _note_demand(int(below), demand)


def row_of(part: str, what: str, unit: str, ours: float, other: float, spent: Spent) -> Row:
    """``other`` over ``ours``, and what the part that gave both took."""
    return {
        "part": part,
        "what": what,
        "unit": unit,
        "ours": ours,
        "other": other,
        "ratio": other / ours,
        "wall_s": spent.wall_s,
        "cpu_s": spent.cpu_s,
        "runnable": spent.runnable,
        "peak_mib": spent.peak_mib,
    }


def quickstart(options: argparse.Namespace, folder: Path) -> list[Row]:
    """The scenario ``quickstart`` with caches of its own."""
    vgg16_weights()  # into the user's cache
    cache = folder / "cache"
    cache.mkdir()
    shutil.copy(cache_directory() / _DOWNLOADED, cache)
    runs = (
        ("empty caches", num_threads()),
        ("filled caches", num_threads()),
        ("filled caches, no overlap", 1),
    )
    rows = []
    for what, threads in runs:
        words = ["pvsc_link.sweep", options.scenario, "--out", str(folder / what)]
        given = {"PVSC_LINK_CACHE": str(cache), "PVSC_LINK_THREADS": str(threads)}
        spent = run(words, **given)
        rows.append(row_of("quickstart", what, "s", spent.wall_s, spent.cpu_s, spent))
        print(as_text(rows[-1:]), flush=True)
    return rows


def metrics(options: argparse.Namespace, folder: Path) -> list[Row]:
    """``bench metrics``."""
    official = ["--python", str(options.python)] if options.python else []
    words = ["pvsc_link.bench", "metrics", "--rounds", "3", "--out", str(folder), *official]
    spent = run(words)
    rows = []
    for found in _read(folder / "bench_metrics.csv"):
        for other in ("layers", "official") if official else ("layers",):
            what = f"LPIPS and DISTS of {found['size']}, against {other}"
            numbers = float(found["pvsc_link_cpu_ms"]), float(found[f"{other}_cpu_ms"])
            rows.append(row_of("metrics", what, "CPU-ms", *numbers, spent))
    return rows


def sweep(options: argparse.Namespace, folder: Path) -> list[Row]:
    """``bench sweep``: its plain loop is timed on a part of the rows."""
    words = ["pvsc_link.bench", "sweep", "--clip", "carphone", "--csv", str(folder / "sweep.csv")]
    spent = run([*words, "--plain-rows", "12"])
    (found,) = _read(folder / "sweep.csv")
    numbers = float(found["shared_cpu_s"]), float(found["plain_cpu_s"])
    what = f"{found['rows']} rows, against a plain loop"
    return [row_of("sweep", what, "CPU-s", *numbers, spent)]


def link(options: argparse.Namespace, folder: Path) -> list[Row]:
    """``bench link``: time per bit, so that a ratio above 1 is in our favour as in other rows."""
    file = folder / "link.csv"
    spent = run(["pvsc_link.bench", "link", "--quick", "--mcs", "19", "--csv", str(file)])
    speed = {found["decoder"]: float(found["mbit_per_cpu_s"]) for found in _read(file)}
    what = "LDPC of MCS 19, against Sionna under XLA"
    numbers = 1e3 / speed["layered"], 1e3 / speed["sionna-xla"]
    return [row_of("link", what, "CPU-ms per Mbit", *numbers, spent)]


def complexity(options: argparse.Namespace, folder: Path) -> list[Row]:
    """``bench complexity`` of the paper's PVSC and DVST."""
    file, sizes = folder / "complexity.csv", options.sizes
    presets = "pvsc_paper", "dvst_paper"
    words = ["pvsc_link.bench", "complexity", "--preset", *presets]
    spent = run([*words, "--sizes", *sizes, "--repeats", "1", "--csv", str(file)])
    found = {(one["preset"], one["label"]): one for one in _read(file)}
    columns = {"macs_tx_g": "GMAC", "macs_rx_g": "GMAC", "peak_mib": "MiB"}
    columns |= {"tx_cpu_ms": "CPU-ms", "rx_cpu_ms": "CPU-ms"}
    rows = []
    for size in sizes:
        for column, unit in columns.items():
            ours, other = (float(found[preset, size][column]) for preset in presets)
            what = f"{size} {column}, DVST against PVSC"
            rows.append(row_of("complexity", what, unit, ours, other, spent))
    return rows


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "quickstart": quickstart,
    "metrics": metrics,
    "sweep": sweep,
    "link": link,
    "complexity": complexity,
}


def main(argv: Sequence[str]) -> int:
    """Print the table; ``--out`` keeps it with a manifest."""
    parser = argparse.ArgumentParser(
        prog="python -m pvsc_link.bench performance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--scenario", default="quickstart", help="of the part quickstart")
    parser.add_argument("--python", type=Path, help="a Python with the official packages")
    parser.add_argument("--sizes", nargs="+", default=["480p"], help="frames of complexity")
    parser.add_argument("--out", type=Path, help="folder for performance.csv and its manifest")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    for name in options.only:
        with TemporaryDirectory() as folder:
            rows += PARTS[name](options, Path(folder))
        print(as_text([row for row in rows if row["part"] == name]), flush=True)
    if options.out:
        write_rows(options.out / "performance.csv", rows)
        write_manifest(options.out / "performance.csv", ["performance", *argv])
    return 0
