"""``python -m pvsc_link.bench scale``: what many points, rows and workers cost.

plan      CPU seconds and resident memory of a plan of 100,000 points
resume    CPU seconds from the stored rows of a sweep to the first point that is still to be
          sent: the store is opened and checked, every row is looked at; rows are made up
store     milliseconds of CPU to store one row
memory    resident memory after 100 and 1,000 points of one sweep over Rayleigh fading, each
          tenth point at a new SNR
workers   wall seconds of tasks that wait for one second, with 1 and 2 worker processes, what
          Dask adds to them, and milliseconds of CPU per task in the process of client and
          scheduler, which a busy machine changes less (extra cluster)
"""

import argparse
import os
import random
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from pvsc_link._version import __version__
from pvsc_link.bench.link import resident_mib
from pvsc_link.bench.provenance import write_manifest, write_rows
from pvsc_link.metrics import FrameMetrics
from pvsc_link.scenario import Point, Scenario, parse_scenario
from pvsc_link.sweep import Plan, SweepRunner, SweepStore, build

Row = dict[str, Any]
_QUIET = Console(quiet=True)


def scenario(num_points: int, **changes: Any) -> Scenario:
    """x264 and x265 at five rates over 200 conditions, with as many seeds as there must be."""
    return parse_scenario(
        {
            "name": "scale",
            "seed": list(range(1, 1 - (-num_points // 2000))),
            "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
            "link": {"channel": ["awgn", "rayleigh"], "snr_db": [n / 4 for n in range(100)]},
            "schemes": [
                {"scheme": name, "rates": [22, 27, 32, 37, 42], "mcs": 4}
                for name in ("x264", "x265")
            ],
            "metrics": ["psnr"],
        }
        | changes
    )


def made_up_row(point: Point, rng: random.Random) -> Row:
    """A row as a sweep stores it, with made-up numbers."""
    quality = 40 + point.snr_db / 10 - point.rate / 4 + rng.gauss(0, 0.1)
    names = ("scheme", "variant", "clip", "gop", "rate", "channel", "snr_db", "equalizer", "seed")
    counts = dict.fromkeys(
        ("num_block_errors", "frames_lost", "frames_concealed", "freeze_events"), 0
    )
    return {
        "point_id": point.point_id,
        **{name: point.coordinates[name] for name in names},
        **point.channel_point.condition,
        **point.transport.columns(),
        **{"csi_aware": point.csi_aware, "decoder": point.decoder, "num_iter": point.num_iter},
        **{"mcs": 4, "mcs_policy": "4", "mcs_role": "given", "num_frames": 2, "num_blocks": 9},
        **{"cbr": 0.1 * 0.9**point.rate, "psnr_db": quality, **counts, "bler": None},
        **{"status": "ok", "note": "", "seconds": 0.1},
        "gops": [{"gop_index": 0, "channel_uses": 999, "psnr_db": quality, "frames_lost": 0}],
    }


def plan(options: argparse.Namespace) -> list[Row]:
    """A plan with the ids of its points."""
    start = time.process_time()
    made = build(scenario(options.points))
    num_ids = len({point.point_id for point in made.points})
    seconds = time.process_time() - start
    return [{"what": f"plan of {num_ids} points", "cpu_s": seconds, "resident_mib": resident_mib()}]


def resume(options: argparse.Namespace) -> list[Row]:
    """Store made-up rows of all points but the last, and find that one."""
    made = build(scenario(options.rows))
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        store = SweepStore(Path(folder), version=__version__)
        points = made.points[:-1]
        for first in range(0, len(points), 1000):
            store.add(made_up_row(point, rng) for point in points[first : first + 1000])
        singles = [made_up_row(point, rng) for point in points[:500]]
        start = time.process_time()
        for row in singles:
            store.add([row])
        of_row = time.process_time() - start
        store.close()
        start, wall = time.process_time(), time.perf_counter()
        store = SweepStore(Path(folder), version=__version__)
        runner = SweepRunner(made, store, FrameMetrics(Path(folder) / "metrics.sqlite"))
        runner.prepare()
        todo = runner.open_points(made.points)
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
        store.close()
        if todo != [made.points[-1].point_id]:
            raise RuntimeError(f"{len(todo)} points are open, wanted the last one")
    resumed = {"what": f"resume of {len(points)} rows", "cpu_s": seconds, "wall_s": wall}
    return [
        resumed | {"resident_mib": resident_mib()},
        {"what": "store of a row", "cpu_ms": 1e3 * of_row / len(singles)},
    ]


def memory(options: argparse.Namespace) -> list[Row]:
    """Resident memory as a sweep over Rayleigh fading goes on."""
    snr_db = [round(6 + 0.1 * n, 1) for n in range(100)]
    made = build(
        scenario(
            1,
            seed=list(range(1, 11)),
            link={"channel": "rayleigh", "snr_db": snr_db},
            schemes=[{"scheme": "x264", "rates": [37], "mcs": 4}],
        )
    )
    by_snr = sorted(made.points, key=lambda point: (point.snr_db, point.seed))[: options.memory]
    seen: dict[int, float] = {}

    def told(done: int, total: int, stage: str) -> None:
        if done in (100, options.memory) and stage == "row stored":
            seen[done] = resident_mib()

    with tempfile.TemporaryDirectory() as folder:
        store = SweepStore(Path(folder), version=__version__)
        metrics = FrameMetrics(Path(folder) / "metrics.sqlite")
        SweepRunner(Plan(made.scenario, by_snr, made.schemes), store, metrics, told).run()
        store.close()
    rows: list[Row] = [{"what": f"memory, {n} points", "resident_mib": m} for n, m in seen.items()]
    if len(seen) == 2:
        rows.append({"what": "growth", "percent": 100 * (seen[options.memory] / seen[100] - 1)})
    return rows


def _wait(job: Any, seconds: float) -> list:
    time.sleep(seconds)
    return []


def workers(options: argparse.Namespace) -> list[Row]:
    """Tasks that wait, by 1 and 2 worker processes; what is added to them is Dask's."""
    from pvsc_link.sweep import ClusterEngine, cluster_client

    number = options.tasks
    given = scenario(1, seed=list(range(1, number + 1)), link={"snr_db": 6})
    given = given.model_copy(update={"schemes": given.schemes[:1]})
    made, rows = build(given), []
    for num_workers in (1, 2):
        with (
            tempfile.TemporaryDirectory() as folder,
            cluster_client(workers=num_workers, console=_QUIET) as client,
        ):
            client.wait_for_workers(num_workers)
            store = SweepStore(Path(folder), version=__version__)
            engine = ClusterEngine(client, given, seeds_per_task=1, job=partial(_wait, seconds=0))
            engine(made, store, lambda *_: None, False, None)  # workers import the package
            engine = ClusterEngine(client, given, seeds_per_task=1, job=partial(_wait, seconds=1))
            start, busy = time.perf_counter(), time.process_time()
            engine(made, store, lambda *_: None, False, None)
            wall, busy = time.perf_counter() - start, time.process_time() - busy
            store.close()
        ideal = -(-number // num_workers)
        rows.append(
            {
                "what": f"{number} tasks of 1 s, {num_workers} workers",
                "wall_s": wall,
                "overhead_percent": 100 * (wall / ideal - 1),
                "cpu_ms": 1e3 * busy / number,
            }
        )
    return rows


_PARTS = {"plan": plan, "resume": resume, "memory": memory, "workers": workers}


def main(argv: Sequence[str]) -> int:
    """Print the figures, and write them as CSV with their manifest where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m pvsc_link.bench scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--points", type=int, default=100_000, help="of the plan")
    parser.add_argument("--rows", type=int, default=200_000, help="of the resumed sweep")
    parser.add_argument("--memory", type=int, default=1000, help="points of the long sweep")
    parser.add_argument("--tasks", type=int, default=40, help="of the workers")
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS))
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    rows: list[Row] = []
    for name in options.only:
        for row in _PARTS[name](options):
            shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items())
            print("  ".join(shown), flush=True)
            rows.append(row)
    if options.csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        write_rows(options.csv, [{name: row.get(name, "") for name in names} for row in rows])
        write_manifest(options.csv, ["scale", *argv])
    return 0
