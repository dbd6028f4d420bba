"""The plain loop that a sweep is measured against: every step again at every point.

Encode the clip, send the packed symbols, decode frame by frame, measure: with the same rooms and
the same numbers as a sweep, but nothing shared between points except models and LDPC codes.

``python -m pvsc_link.bench sweep``: what sharing saves in a sweep, and what points cost.

    (default)   CPU time of one sweep, and of the plain loop that does all steps at each point
    --memory    resident memory after 10, 100, 1000 points of one sweep
    --scaling   CPU time of one more channel point, by frames and by pixels

CPU time is that of all threads of the process, so that ratios hold on a machine that does other
work as well. The first point of either loop, which traces, counts in the totals.
"""

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pvsc_link.bench.link import resident_mib
from pvsc_link.bench.provenance import write_manifest
from pvsc_link.link.channel import make_channel
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.media.pixels import crop, pad_to_multiple
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.models.layers.base import Compiler, as_is
from pvsc_link.models.stream import Receiver, StreamSteps, Transmitter
from pvsc_link.models.zoo import find_weights, load_models
from pvsc_link.scenario.grid import Point
from pvsc_link.scenario.schema import Scenario
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.semantic import side_link_options, side_seed
from pvsc_link.sweep.mcs import SideMcsPolicy
from pvsc_link.sweep.plan import Plan, build, link_options, load
from pvsc_link.sweep.rows import link_seeds
from pvsc_link.sweep.runner import SweepRunner
from pvsc_link.sweep.store import SweepStore
from pvsc_link.types import Payload, Video

PlainRow = dict[str, float]


class PlainLoop:
    """Rows of points, one after the other.

    Parameters: ``compiled`` : wraps the steps of both ends.
    """

    def __init__(self, preset: str, video: Video, metrics: Sequence[str], compiled: Compiler):
        self._models = load_models(preset, find_weights(preset))
        self._steps = StreamSteps(*self._models, compiled=compiled)
        self._video, self._metrics = video, metrics
        multiple = max(model.config.padding_multiple for model in self._models)
        self._padded = pad_to_multiple(video.frames, multiple)

    def row(self, point: Point) -> PlainRow:
        """Quality, channel uses and losses of one point at a given MCS."""
        transmitter = self._end(Transmitter, point)
        gops = [
            [
                transmitter.encode(frame, intra=t == 0)
                for t, frame in enumerate(self._padded[first:end])
            ]
            for first, end in self._gops(point)
        ]
        receiver, shown, uses, lost = self._end(Receiver, point), [], 0, 0
        for gop, seed in zip(gops, link_seeds(point, len(gops)), strict=True):
            side_ok, side_uses = self._side(gop, point, seed)
            uses += side_uses + sum(payload.symbols.size for payload in gop)
            for t, (payload, received) in enumerate(zip(gop, _air(gop, point, seed), strict=True)):
                bits = payload.side_bits if side_ok[t] else {}
                decoded = receiver.decode(received, bits, intra=t == 0)
                lost += decoded.status != "ok"
                shown.append(decoded.frame_uint8)
        return self._measured(np.stack(shown)) | {"uses": uses, "frames_lost": lost}

    def _gops(self, point: Point) -> Iterator[tuple[int, int]]:
        for first in range(0, len(self._padded), point.gop):
            yield first, first + point.gop

    def _end(self, kind: Callable, point: Point):
        height, width = self._padded.shape[1:3]
        return kind(
            *self._models,
            height=height,
            width=width,
            omega_index=point.rate,
            steps=self._steps,
        )

    def _side(self, gop: Sequence[Payload], point: Point, seed: int) -> tuple[np.ndarray, int]:
        options = asdict(side_link_options(link_options(point)))
        messages = [payload.side_bits[part] for payload in gop for part in side_stream.PARTS]
        bits = np.unpackbits(np.frombuffer(side_stream.write(messages), np.uint8))
        link = get_coded_link(int(point.mcs), point.channel, **options)
        sent = link.send(bits, point.channel_point, side_seed(seed))
        lost = side_stream.messages_lost(messages, sent.block_ok, sent.block_num_bits)
        side_ok = np.logical_not(np.any(lost.reshape(len(gop), -1), axis=1))
        return side_ok, sent.num_channel_uses

    def _measured(self, shown: np.ndarray) -> PlainRow:
        frames = self._video.frames
        with tempfile.TemporaryDirectory() as folder:
            metrics = FrameMetrics(Path(folder) / "metrics.sqlite")
            values = metrics.evaluate(self._metrics, frames, crop(shown, *frames.shape[1:3]))
        return {column: float(np.mean(of_frames)) for column, of_frames in values.items()}


def _air(gop: Sequence[Payload], point: Point, seed: int) -> list[np.ndarray]:
    """Equalised symbols of each frame of a GOP."""
    stream = np.concatenate([payload.symbols for payload in gop])
    channel = make_channel(
        point.channel_point, equalizer=point.equalizer, csi_aware=point.csi_aware
    )
    received = channel(tf.constant(stream[None]), snr_db=point.snr_db, seed=seed)
    ends = np.cumsum([payload.symbols.size for payload in gop])
    return np.split(received.x_hat.numpy()[0], ends[:-1])


Row = dict[str, Any]
#: Most that PSNR may differ between the two loops: a rounding to 8 bits may fall either way.
PSNR_TOLERANCE_DB = 0.01
_MCS = 4  # robust enough for every point of the benchmark


def scenario(options: argparse.Namespace, num_points: int) -> Scenario:
    """PVSC over Rayleigh fading at ``num_points`` channel points, 24 conditions at most.

    More points are further realisations: a BLER per condition would take longer than the sweep.
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
            "schemes": [{"scheme": "pvsc", **entry}],
            "metrics": options.metrics,
        }
    )


def plan_of(options: argparse.Namespace, num_points: int) -> Plan:
    """The scenario's plan, cut to exactly ``num_points`` channel points; BLER already measured."""
    plan = build(scenario(options, num_points))
    kept = list(dict.fromkeys((p.channel_point, p.seed) for p in plan.points))[:num_points]
    points = [point for point in plan.points if (point.channel_point, point.seed) in kept]
    plan = Plan(plan.scenario, points, plan.schemes)
    with _store() as store:  # BLER is measured once for both loops, outside the times
        policy = SideMcsPolicy(plan, store, points[0].clip, points[0].gop)
        for point in points:
            policy.choices(point)
    return plan


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


def run_plain(plan: Plan, options: argparse.Namespace) -> tuple[list[Row], float]:
    """Rows of the plain loop and its CPU seconds."""
    start, media = time.process_time(), plan.scenario.media
    video = load(plan.points[0].clip, media, plan.points[0].gop)
    compiled = partial(tf.function, autograph=False) if options.traced else as_is
    loop = PlainLoop(options.preset, video, plan.scenario.metrics, compiled)
    rows = [loop.row(point) for point in islice(plan.points, options.plain_rows)]
    return rows, time.process_time() - start


def require_same(shared: Sequence[Row], plain: Sequence[Row], num_samples: int) -> None:
    """Raises ``RuntimeError`` where the two tables differ."""
    for ours, theirs in zip(shared, plain, strict=False):
        same = ours["frames_lost"] == theirs["frames_lost"]
        same &= round(ours["cbr"] * num_samples) == theirs["uses"]
        if "psnr_db" in theirs:
            same &= abs(ours["psnr_db"] - theirs["psnr_db"]) <= PSNR_TOLERANCE_DB
        if not same:
            raise RuntimeError(f"the two loops differ: {ours} and {theirs}")


def compare(options: argparse.Namespace) -> list[Row]:
    """CPU seconds of both loops over the same points."""
    plan = plan_of(options, options.points)
    shared, shared_s = run_shared(plan)
    plain, plain_s = run_plain(plan, options)
    video = load(plan.points[0].clip, plan.scenario.media, options.gop)
    require_same(shared, plain, video.frames.size)
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
    add("--metrics", nargs="+", default=["psnr"], choices=["psnr", "lpips", "dists"])
    add("--jit-compile", action="store_true", help="compile the shared graph with XLA")
    add("--traced", action="store_true", help="the plain loop, too, traces its steps once")
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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = parse(argv)
    kind = memory if options.memory else scaling if options.scaling else compare
    rows = kind(options)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        write_manifest(options.csv, ["sweep", *argv])
    return 0
