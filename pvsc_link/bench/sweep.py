"""``python -m pvsc_link.bench sweep``: what sharing saves in a sweep, and what points cost.

    (default)   CPU time of one sweep, and of a plain loop that does all steps at each point
    --memory    resident memory after 10, 100, 1000 points of one sweep
    --scaling   CPU time of one more channel point, by frames and by pixels

The plain loop runs every row as a sweep of its own: rows share models, traces and LDPC codes, but
each encodes, sends and measures anew. CPU time is that of all threads of the process, so that
ratios hold on a machine that does other work as well. The first point of either loop, which
traces, counts in the totals.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.bench.link import resident_mib
from pvsc_link.bench.provenance import write_manifest, write_rows
from pvsc_link.metrics import METRICS, FrameMetrics
from pvsc_link.scenario import Scenario
from pvsc_link.schemes import scheme_of_preset
from pvsc_link.sweep import Plan, SweepRunner, SweepStore, build, load

Row = dict[str, Any]
#: Most that PSNR may differ between the two loops: a rounding to 8 bits may fall either way.
PSNR_TOLERANCE_DB = 0.01
_MCS = 4  # robust enough for every point of the benchmark


def scenario(options: argparse.Namespace, num_points: int) -> Scenario:
    """PVSC over Rayleigh fading at ``num_points`` channel points.

    There are 24 conditions at most; further points are further realisations.
    """
    nmse_db, coherence = [-20, -10], [1, 16]
    num_snr = min(6, -(-num_points // (len(nmse_db) * len(coherence))))
    snr_db = np.linspace(6, 18, num_snr).round(4).tolist()
    num_conditions = num_snr * len(nmse_db) * len(coherence)
    link = {"snr_db": snr_db, "csi_nmse_db": nmse_db, "coherence_length": coherence}
    entry = {"preset": options.preset, "rates": list(range(options.rates)), "mcs": _MCS}
    if options.jit_compile:
        entry["jit_compile"] = True
    return Scenario.model_validate(
        {
            "name": "bench",
            "seed": list(range(1, 1 - (-num_points // num_conditions))),
            "media": {"clips": [options.clip], "gop": options.gop, "num_gops": 1},
            "link": {"channel": "rayleigh", **link},
            "schemes": [{"scheme": scheme_of_preset(options.preset).name, **entry}],
            "metrics": options.metrics,
        }
    )


def plan_of(options: argparse.Namespace, num_points: int) -> Plan:
    """The scenario's plan, cut to exactly ``num_points`` channel points."""
    plan = build(scenario(options, num_points))
    kept = list(dict.fromkeys((p.channel_point, p.seed) for p in plan.points))[:num_points]
    points = [point for point in plan.points if (point.channel_point, point.seed) in kept]
    return Plan(plan.scenario, points, plan.schemes)


@contextmanager
def _store() -> Iterator[SweepStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = SweepStore(Path(folder), version="bench")
        yield store
        store.close()


def run_shared(plan: Plan, told: Callable[[int], None] = lambda done: None) -> tuple[list, float]:
    """Rows of a sweep and its CPU seconds; ``told`` hears how many rows are done."""
    start = time.process_time()
    with _store() as store:
        metrics = FrameMetrics(store.path.with_name("metrics.sqlite"))
        SweepRunner(plan, store, metrics, lambda done, *_: told(done)).run()
        finished = store.finished()
    return [finished[point.point_id] for point in plan.points], time.process_time() - start


def run_plain(plan: Plan, num_rows: int | None) -> tuple[list[Row], float]:
    """Rows of the plain loop, the first ``num_rows`` (None: all), and its CPU seconds."""
    start = time.process_time()
    alone = (Plan(plan.scenario, [point], plan.schemes) for point in plan.points)
    rows = [row for single in islice(alone, num_rows) for row in run_shared(single)[0]]
    return rows, time.process_time() - start


def require_same(shared: Sequence[Row], plain: Sequence[Row]) -> None:
    """Raises ``RuntimeError`` where the two tables differ."""
    for ours, theirs in zip(shared, plain, strict=False):
        same = all(ours[name] == theirs[name] for name in ("frames_lost", "cbr"))
        if "psnr_db" in theirs:
            same &= abs(ours["psnr_db"] - theirs["psnr_db"]) <= PSNR_TOLERANCE_DB
        if not same:
            raise RuntimeError(f"the two loops differ: {ours} and {theirs}")


def compare(options: argparse.Namespace) -> list[Row]:
    """CPU seconds of both loops over the same points."""
    shared, shared_s = run_shared(plan_of(options, options.points))
    plain, plain_s = run_plain(plan_of(options, options.points), options.plain_rows)
    require_same(shared, plain)
    whole = plain_s * len(shared) / len(plain)
    return [
        {
            "clip": options.clip,
            "gop": options.gop,
            "points": options.points,
            "rates": options.rates,
            "rows": len(shared),
            "metrics": " ".join(options.metrics),
            "shared_cpu_s": round(shared_s, 1),
            "plain_rows": len(plain),
            "plain_cpu_s": round(whole, 1),
            "ratio": round(whole / shared_s, 2),
        }
    ]


def memory(options: argparse.Namespace) -> list[Row]:
    """Resident memory as a sweep goes on."""
    wanted, rows = sorted(options.memory), []
    seen = set()

    def told(done: int) -> None:
        for number in wanted:
            if done >= number and number not in seen:
                seen.add(number)
                rows.append({"points": number, "resident_mib": round(resident_mib())})
                print(rows[-1], flush=True)

    options.rates = 1
    run_shared(plan_of(options, wanted[-1]), told)
    return rows


def scaling(options: argparse.Namespace) -> list[Row]:
    """CPU seconds of one more channel point by clip and GOP length, tracing left out."""
    rows = []
    options.rates = 1
    for clip in options.clips:
        for gop in (2, 4, 8):
            options.clip, options.gop = clip, gop
            plans = [plan_of(options, number) for number in (4, 16)]
            few, many = (run_shared(plan)[1] for plan in plans)  # both trace: it cancels
            video, seconds = load(clip, plans[0].scenario.media, gop), (many - few) / 12
            rows.append(
                {
                    "clip": clip,
                    "gop": gop,
                    "megapixels": round(video.frames.size / 3e6, 3),
                    "cpu_s_per_point": round(seconds, 3),
                    "cpu_s_per_megapixel": round(seconds / (video.frames.size / 3e6), 3),
                }
            )
    return rows


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m pvsc_link.bench sweep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", default="pvsc_tiny")
    add("--clip", default="bikes")
    add("--gop", type=int, default=4)
    add("--points", type=int, default=24, help="channel points")
    add("--rates", type=int, default=4, help="quality presets per point")
    add("--metrics", nargs="+", default=["psnr"], choices=list(METRICS))
    add("--jit-compile", action="store_true", help="compile the shared graph with XLA")
    add("--plain-rows", type=int, help="rows of the plain loop; its time is scaled to all rows")
    add("--memory", type=int, nargs="*", help="numbers of points (default 10 100 1000)")
    add("--scaling", action="store_true")
    add("--clips", nargs="+", default=["carphone", "bikes"], help="of --scaling")
    add("--csv", type=Path)
    options = parser.parse_args(argv)
    if options.memory == []:
        options.memory = [10, 100, 1000]
    return options


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it as CSV with its manifest where asked."""
    options = parse(argv)
    kind = memory if options.memory else scaling if options.scaling else compare
    rows = kind(options)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.csv:
        write_rows(options.csv, rows)
        write_manifest(options.csv, ["sweep", *argv])
    return 0
