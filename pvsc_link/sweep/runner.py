"""Run a plan: encode once, measure once, send every point's real bits, store each row."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.scenario.grid import Point
from pvsc_link.schemes.scheme import Scheme
from pvsc_link.sweep.builder import Plan, link_options, load, scheme_label
from pvsc_link.sweep.mcs_policy import NEIGHBOUR, McsChoice, McsPolicy
from pvsc_link.sweep.rows import failed_row, finished_row, link_seeds
from pvsc_link.sweep.store import SweepStore
from pvsc_link.types import CodecFailure, EncodedGop, Video

#: Told before each step: (rows done, rows in all, what is happening).
Progress = Callable[[int, int, str], None]


def _silent(done: int, total: int, stage: str) -> None:
    pass


@dataclass
class SweepRunner:
    """Walks the grid clip by clip and scheme by scheme, so that what is shared is done once.

    Encoded GOPs come from the encode cache, error-free metrics from the frame cache, BLER from
    the BLER cache; finished rows in the store are not run again.
    """

    plan: Plan
    store: SweepStore
    frame_metrics: FrameMetrics
    progress: Progress = _silent
    retry_failed: bool = False

    def run(self) -> None:
        """Run every point that the store does not have yet."""
        finished = self._finished()
        self._done, self._total = 0, len(self.plan.points)
        for (clip, gop), of_clip in groupby(self.plan.points, key=lambda p: (p.clip, p.gop)):
            points = list(of_clip)
            todo = [point for point in points if point.point_id not in finished]
            self._done += len(points) - len(todo)
            if todo:
                self._run_clip(load(clip, self.plan.scenario.media, gop), points, todo)

    def _finished(self) -> set[str]:
        rows = self.store.finished().items()
        return {
            point_id
            for point_id, row in rows
            if not (self.retry_failed and row["status"] in CodecFailure.STATUSES)
        }

    def _run_clip(self, video: Video, points: list[Point], todo: list[Point]) -> None:
        """One clip at one GOP length: encode with every scheme, measure, then send.

        All error-free reconstructions are measured together, frame by frame, because the
        reference features of a frame cost as much as a comparison.
        """
        encoded = {}
        for key in dict.fromkeys((point.entry, point.variant) for point in todo):
            scheme = self.plan.schemes[key]
            self._say(f"{scheme.name}: encode {video.name}, GOP {todo[0].gop}")
            # All rates, finished or not: together they form the curve that MCS choice needs.
            rates = sorted({p.rate for p in points if (p.entry, p.variant) == key})
            encoded[key] = self._encode(scheme, video, todo[0].gop, rates)
        self._measure_clean(video, [curve for curve, _ in encoded.values()])
        for key, (curve, failures) in encoded.items():
            policy = McsPolicy(curve, video.frames, self.frame_metrics, self.store)
            for point in (p for p in todo if (p.entry, p.variant) == key):
                if point.rate in failures:
                    self._finish([failed_row(point, failures[point.rate])])
                else:
                    self._finish(self._send(video, point, curve[point.rate], policy))

    def _measure_clean(self, video: Video, curves: Sequence[Mapping]) -> None:
        """Bring the metrics of every error-free reconstruction into the frame cache."""
        shown = [
            np.concatenate([gop.frames_hat for gop in gops])
            for curve in curves
            for gops in curve.values()
        ]
        for index, frame in enumerate(video.frames):
            self._say(f"measure {video.name}, frame {index + 1} of {len(video.frames)}")
            for frames_hat in shown:
                self.frame_metrics.evaluate(
                    self.plan.scenario.metrics, frame[None], frames_hat[index, None]
                )

    def _encode(
        self, scheme: Scheme, video: Video, gop: int, rates: Sequence[int]
    ) -> tuple[dict[int, list[EncodedGop]], dict[int, CodecFailure]]:
        """Encode the clip at every rate, in parallel; failures by rate."""
        curve: dict[int, list[EncodedGop]] = {}
        failures: dict[int, CodecFailure] = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            jobs = {rate: pool.submit(scheme.encode, video, gop, rate) for rate in rates}
            for rate, job in jobs.items():
                try:
                    curve[rate] = list(job.result())
                except CodecFailure as failure:
                    failures[rate] = failure
        self._note_commands(scheme, curve)
        return curve, failures

    def _note_commands(self, scheme: Scheme, curve: Mapping[int, Sequence[EncodedGop]]) -> None:
        """Keep the literal codec options of every rate for the manifest."""
        commands = self.store.fact("codec_commands") or {}
        for rate, gops in curve.items():
            name = f"{scheme_label(scheme.name, scheme.variant)} rate {rate}"
            commands[name] = f"{gops[0].command}  [{gops[0].version}]"
        self.store.set_fact("codec_commands", commands)

    def _send(
        self, video: Video, point: Point, gops: Sequence[EncodedGop], policy: McsPolicy
    ) -> list[Mapping]:
        """The point's row, and behind it those of the MCS that stood beside the chosen one."""
        scheme = self.plan.schemes[point.entry, point.variant]
        self._say(f"{scheme.name}: {video.name} over {point.channel} {point.snr_db:g} dB")
        return [self._send_at(video, point, gops, choice) for choice in policy.choices(point)]

    def _send_at(
        self, video: Video, point: Point, gops: Sequence[EncodedGop], choice: McsChoice
    ) -> Mapping:
        """One row: the point's real bits over its channel at one MCS, and what was shown."""
        start = time.perf_counter()
        receptions = self.plan.schemes[point.entry, point.variant].transmit(
            gops, point.channel_point, link_options(point), choice.mcs, link_seeds(point, len(gops))
        )
        # A neighbour is measured by the metric that chose: frozen frames would cost the others.
        beside = choice.role == NEIGHBOUR
        metrics = [point.mcs_metric] if beside else self.plan.scenario.metrics
        row = finished_row(point, choice, receptions, video, self.frame_metrics, metrics)
        return {**row, "seconds": round(time.perf_counter() - start, 3)}

    def _finish(self, rows: Sequence[Mapping]) -> None:
        self.store.add(rows)
        self._done += 1
        self._say("row stored")

    def _say(self, stage: str) -> None:
        self.progress(self._done, self._total, stage)
