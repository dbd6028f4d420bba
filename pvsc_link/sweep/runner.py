"""Run a plan into its results folder: encode once, send every point, measure, store each row.

``run_plan`` opens the folder, lets a ``SweepRunner`` walk through the grid, and writes the tables.
The runner goes clip by clip and scheme by scheme, so that what points share is done once. Rows
that are stored already are not run again: a sweep that was stopped goes on where it stopped.

Stages run beside each other in threads of one process (``SweepRunner.run``):

    encode by codec after codec ---+
    encode by networks, and make --+--> choose the MCS, send, decode --> measure
    receivers, scheme by scheme         store rows in order         <----+
"""

import json
import logging
import math
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from rich.console import Console

from pvsc_link._version import __version__
from pvsc_link.intervals import mean_interval
from pvsc_link.link import OuterLoop
from pvsc_link.metrics import METRICS, FrameMetrics
from pvsc_link.scenario import Point, Scenario, Stop, clip_name
from pvsc_link.schemes import Scheme
from pvsc_link.storage import (
    cache_directory,
    digest,
    exclusive,
    num_threads,
    remove_abandoned,
)
from pvsc_link.sweep.kept_frames import KeptFrames
from pvsc_link.sweep.mcs import (
    McsChoice,
    McsPolicy,
    SideMcsPolicy,
    adaptation_of,
    curve_identity,
    forget_choices,
    known_mcs,
    known_rates,
    note_rates,
)
from pvsc_link.sweep.plan import Plan, link_options, load, scheme_label
from pvsc_link.sweep.progress import Progress, shown_progress
from pvsc_link.sweep.rows import failed_row, finished_row, link_seeds, row_id, rows_of
from pvsc_link.sweep.store import (
    GOPS,
    IDENTITIES,
    NEIGHBOUR,
    SweepStore,
    gops_table,
    points_table,
    restore,
)
from pvsc_link.sweep.tables import MADE_ON, made_on, write_tables
from pvsc_link.types import CodecFailure, InputError, Reception, Video

#: Fact with the seconds of every stage.
SECONDS = "seconds_by_stage"
#: Status of the rows of a clip that cannot be sent; they are tried again in every run.
BAD_CLIP = "bad_clip"
#: Fact with the literal options of every codec.
COMMANDS = "codec_commands"
#: Fact with a digest of every bitstream that rows were made of.
STREAMS = IDENTITIES[0]


class StageClock:
    """Adds up wall seconds by stage; the sums live in ``store`` and go on after a restart.

    A second in which n stages run beside each other counts 1/n for each, so that the stages add up
    to the time in which any of them ran. ``save`` stores what was counted since; a kill loses those
    seconds and nothing else.
    """

    def __init__(self, store: SweepStore):
        self._store = store
        self._new: dict[str, float] = {}
        self._running: Counter[str] = Counter()
        self._last = time.perf_counter()
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the block's wall time to ``stage``, also when it raises; of any thread."""
        with self._lock:
            self._count()
            self._running[stage] += 1
        try:
            yield
        finally:
            with self._lock:
                self._count()
                self._running[stage] -= 1

    def _count(self) -> None:
        """Share out the seconds since the last call."""
        now = time.perf_counter()
        number = self._running.total()
        for stage, count in self._running.items():
            if count:
                share = (now - self._last) * count / number
                self._new[stage] = self._new.get(stage, 0.0) + share
        self._last = now

    def save(self) -> None:
        """Store the seconds since the last call."""
        with self._lock:
            new, self._new = self._new, {}
        self._store.count_fact(SECONDS, new)


class Stopping:
    """Decides, from the rows of its earlier seeds, whether a point still has to be sent.

    The seeds that the scenario lists are always sent. Decisions rest on stored rows alone, so that
    a sweep that was interrupted ends with the same rows.
    """

    def __init__(self, scenario: Scenario):
        self._rule, self._listed = scenario.stop, set(scenario.seed)
        self._rows: dict[Point, dict[int, Mapping[str, Any]]] = {}

    def note(self, point: Point, row: Mapping[str, Any]) -> None:
        """A finished row of ``point``."""
        if self._rule is not None:
            self._rows.setdefault(self.group(point), {})[point.seed] = row

    def forget(self, point: Point) -> None:
        """The row of ``point`` counts no more: it is sent again."""
        self._rows.get(self.group(point), {}).pop(point.seed, None)

    def settled(self, point: Point) -> bool:
        """Whether the point may be left out."""
        if self._rule is None or point.seed in self._listed:
            return False
        return is_enough(self._rule, self._rows.get(self.group(point), {}).values())

    @staticmethod
    def group(point: Point) -> Point:
        """What all seeds of a point share."""
        return replace(point, seed=-1)


def is_enough(rule: Stop, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the rows of one point, a row per seed, meet one of the rule's bounds."""
    rows = list(rows)
    if any(row["status"] in CodecFailure.STATUSES for row in rows):
        return True  # an encoder that failed fails with every seed
    if rule.frame_errors and sum(row["frames_lost"] for row in rows) >= rule.frame_errors:
        return True
    if rule.seconds and sum(row["seconds"] for row in rows) >= rule.seconds:
        return True
    if len(rows) < 2:
        return False
    for metric, width in rule.intervals.items():
        interval = mean_interval([row[METRICS[metric].column] for row in rows])
        if interval.high - interval.low <= width:
            return True
    return False


def _silent(done: int, total: int, stage: str) -> None:
    pass


#: Points of a semantic scheme that are received before they are measured together. Their frames
#: must fit in memory, and are lost when a sweep is killed.
BATCH_SIZE = 8
#: Bytes of received frames that may wait for being measured while further points are sent.
WAITING_BYTES = 500_000_000
#: Seconds after which a thread that traces networks leaves Python's lock to others that wait for
#: it: they want it for a moment before each operation of TensorFlow, thousands of times.
SWITCH_SECONDS = 1e-4


@dataclass(frozen=True)
class Encoded:
    """A clip out of one scheme's encoder: GOPs by rate, and why other rates have none."""

    curve: dict[int, list[Any]]
    failures: dict[int, CodecFailure]


#: Entry and variant of a scheme in the plan.
Key: TypeAlias = tuple[int, str]


class _AtOnce(Executor):
    """Does each job when it is submitted: a stage without a thread of its own."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """A future that is done; what the job raises is raised when its result is asked for."""
        done: Future = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


@dataclass(frozen=True)
class _Waiting:
    """What is measured: then ``store`` gets the result of ``job``.

    ``groups`` : what the seeds share of the points; ``num_bytes`` : frames that are held for it.
    """

    job: Future
    store: Callable[[Any], None]
    groups: frozenset[Point] = frozenset()
    num_bytes: int = 0


@dataclass
class SweepRunner:
    """Walks the grid clip by clip and scheme by scheme, so that what is shared is done once.

    Encoded GOPs come from the encode cache, metrics of error-free frames from the frame cache,
    block error rates from the cache of those. Finished rows in the store are not run again, unless
    their MCS would be chosen otherwise, or ``kept_frames`` has no frame of one: that row is sent
    again, with the same result.
    """

    plan: Plan
    store: SweepStore
    frame_metrics: FrameMetrics
    progress: Progress = _silent
    retry_failed: bool = False
    kept_frames: KeptFrames | None = None
    #: Points that are run, by ``point_id``; None: all. The others of the plan are looked at only
    #: where the choice of an MCS rests on them.
    only: frozenset[str] | None = None
    _measuring: Executor = field(default_factory=_AtOnce, init=False)
    _encoding: Executor | None = field(default=None, init=False)
    _of_networks: Executor | None = field(default=None, init=False)

    def run(self, places: Iterable[tuple[str, int]] | None = None) -> None:
        """Run every point that the store does not have and that the stop rule still wants.

        A row whose MCS was chosen keeps only if the scenario as it is now chooses the same one: a
        rate or a baseline that was added may lead to another choice. Other rows are sent again.

        With two threads or more (``storage.num_threads``), codecs and networks run ahead in one
        thread each and received frames are measured in others, while this thread chooses, sends
        and stores. Rows and their order are the same as with one.

        Parameters: ``places`` : clips with their GOP length that are run; None: all.
        """
        self.prepare()
        with self._overlapped():
            for place in self.plan.places if places is None else places:
                self.run_place(place)
            self._store_measured(most_bytes=-1)
        self._clock.save()

    @contextmanager
    def _overlapped(self) -> Iterator[None]:
        """Stages with threads of their own; on a fault, what is measured is stored."""
        if num_threads() < 2:
            yield
            return
        names = ("measure", "encode", "networks")
        stages = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in names]
        self._measuring, self._encoding, self._of_networks = stages
        seconds = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            yield
        except BaseException:
            self._is_over.set()
            with suppress(Exception):  # the fault may be that of the store
                self._store_measured(most_bytes=math.inf)
            raise
        finally:
            sys.setswitchinterval(seconds)
            self._measuring, self._encoding, self._of_networks = _AtOnce(), None, None
            for wait in (False, True):  # all are told before the first of them is waited for
                for stage in stages:
                    stage.shutdown(wait=wait, cancel_futures=True)

    def prepare(self) -> None:
        """Find out which rows of the store still count; ``run`` begins with it."""
        self._measuring, self._encoding, self._of_networks = _AtOnce(), None, None
        self._waiting: deque[_Waiting] = deque()
        self._is_over = threading.Event()
        self._finished = self._still_good()
        self._clock = StageClock(self.store)
        self._stopping = Stopping(self.plan.scenario)
        points = [point for of_place in self.plan.places.values() for point in self._own(of_place)]
        for point in points:
            if point.point_id in self._finished:
                self._stopping.note(point, self._finished[point.point_id])
        self._done, self._total, self._stage = 0, len(points), "start"

    def is_needed(self, points: Sequence[Point]) -> bool:
        """Whether a point of one scheme is open, or its chosen MCS in doubt (after ``prepare``)."""
        if any(map(self._is_open, points)):
            return True
        if any(self.plan.schemes[p.entry, p.variant].digital for p in points):
            return bool(self._doubtful(points))
        of_side = SideMcsPolicy(self.plan, self.store, self.plan.places[points[0].place])
        chosen = [point for point in points if self._was_chosen(point)]
        return any(self._is_other(point, of_side.mcs(point)) for point in chosen)

    def open_points(self, points: Sequence[Point]) -> list[str]:
        """Ids of those points that are still to be sent (after ``prepare``)."""
        return [point.point_id for point in points if self._is_open(point)]

    def choose(self, points: Sequence[Point]) -> None:
        """Encode a codec's curve and store the MCS that is chosen at each of ``points``.

        ``points`` are of one separated scheme, clip and GOP length; nothing is sent.
        """
        self.prepare()
        place = _Place(self, points[0].place)
        key = points[0].entry, points[0].variant
        curve = place.encoded(key).curve
        with self._clock("MCS choice"):
            for point in points:
                if point.rate in curve:
                    place.policy(key).mcs(point)
        self._clock.save()

    def _own(self, points: Iterable[Point]) -> list[Point]:
        """Those of the points that this runner runs."""
        return [p for p in points if self.only is None or p.point_id in self.only]

    def _still_good(self) -> dict[str, Mapping]:
        rows = self.store.heads(self._head_columns())
        again = {
            point_id
            for point_id, row in rows.items()
            if self.retry_failed and row["status"] in CodecFailure.STATUSES
        }
        again |= {point_id for point_id, row in rows.items() if row["status"] == BAD_CLIP}
        again |= {point_id for point_id, row in rows.items() if self._lacks_a_metric(row)}
        if self.kept_frames is not None:
            here = [point for point in self.plan.points if point.point_id in rows]
            again |= {p.point_id for p in here if self.kept_frames.lacks(p, rows[p.point_id])}
        return {point_id: row for point_id, row in rows.items() if point_id not in again}

    def _head_columns(self) -> list[str]:
        """What decides whether a finished row counts and whether its point has enough seeds."""
        scenario = self.plan.scenario
        columns = ["status", "mcs", "mcs_role", "num_frames"]
        columns += ["frames_lost", "seconds"] if scenario.stop else []
        return columns + [METRICS[name].column for name in scenario.metrics]

    def _lacks_a_metric(self, row: Mapping) -> bool:
        """Whether the scenario asks for a metric that was not measured when the row was made."""
        wanted = (METRICS[name].column for name in self.plan.scenario.metrics)
        failed = row["status"] in CodecFailure.STATUSES
        return not failed and row.get("mcs_role") != NEIGHBOUR and any(c not in row for c in wanted)

    def _is_open(self, point: Point) -> bool:
        return point.point_id not in self._finished and not self._stopping.settled(point)

    def run_place(self, name: tuple[str, int]) -> None:
        """One clip at one GOP length: encode with every scheme, measure, then send.

        Baselines are sent first: a semantic scheme's side information takes their MCS. The clip is
        read and encoded only for what has to be sent, or where the choice of an MCS is in doubt.
        """
        points = self._own(self.plan.places[name])
        clip, _ = name
        self._done += sum(not self._is_open(point) for point in points)
        if clip in self.plan.bad_clips:
            failure = CodecFailure(BAD_CLIP, self.plan.bad_clips[clip][:500])
            for point in filter(self._is_open, points):
                self._fail(point, failure)
            return
        place = _Place(self, name)
        of_key: dict[Key, list[Point]] = {}
        for point in points:
            of_key.setdefault((point.entry, point.variant), []).append(point)
        digital = [key for key in of_key if self.plan.schemes[key].digital]
        doubtful = {key: self._doubtful(of_key[key]) for key in digital}
        begun = [k for k in of_key if doubtful.get(k) or any(map(self._is_open, of_key[k]))]
        place.begin(sorted(begun, key=lambda key: key not in digital))
        coded = [key for key in begun if key in digital]
        for key in coded:
            self._compare_streams(of_key[key], place.encoded(key).curve)
            with self._clock("MCS choice"):
                mcs = place.policy(key).mcs
                self._send_again(self._others(doubtful[key], mcs))
        if sent := [key for key in coded if any(map(self._is_open, of_key[key]))]:
            curves = [place.encoded(key).curve for key in sent]
            clean = self._measuring.submit(self._measure_clean, place.video, curves)
            self._waiting.append(_Waiting(clean, lambda _: None))
        for key in coded:
            self._send_all(place.video, of_key[key], place.encoded(key), place.policy(key))
        of_side = SideMcsPolicy(
            self.plan, self.store, self.plan.places[name], place.mcs_of_baseline
        )
        for key in of_key:
            if key in digital:
                continue
            if key in begun:
                place.encoded(key)  # while the rows of the baselines are measured
            if digital:  # the choice rests on the rows of baselines
                self._store_measured(of=[p for of in digital for p in of_key[of]])
            chosen = [point for point in of_key[key] if self._was_chosen(point)]
            with self._clock("MCS choice"):
                self._send_again(self._others(chosen, of_side.mcs))
            if any(map(self._is_open, of_key[key])):
                place.wait_for_receiver(key)
                self._send_all(place.video, of_key[key], place.encoded(key), of_side)

    def _was_chosen(self, point: Point) -> bool:
        """Whether a finished row has an MCS that was chosen by a rule."""
        row = self._finished.get(point.point_id, {})
        return not isinstance(point.mcs, int) and row.get("mcs") is not None

    def _is_other(self, point: Point, mcs: int) -> bool:
        """Whether a finished row was sent at another MCS than ``mcs``."""
        row = self._finished.get(point.point_id)
        return row is not None and row["mcs"] != mcs

    def _others(self, points: Iterable[Point], mcs: Callable[[Point], int]) -> Iterator[Point]:
        """Finished points whose MCS is chosen otherwise by ``mcs``."""
        for point in points:
            self._say(_mcs_stage(point))
            if self._is_other(point, mcs(point)):
                yield point

    def _doubtful(self, points: Sequence[Point]) -> list[Point]:
        """Finished points of one codec whose choice cannot be confirmed without its curve.

        Rows that another choice is known for are forgotten here, and so become open.
        """
        chosen = [point for point in points if self._was_chosen(point)]
        if not chosen:
            return []
        here = (p for p in points if p.point_id in self._finished and not p.is_packets)
        finished = {p: self._finished[p.point_id] for p in here}
        came = {p.rate for p, row in finished.items() if row.get("mcs") is not None}
        failed = {p.rate for p in finished} - came  # an encoder that fails has no part in a curve
        rates = {point.rate for point in points} - failed
        known = {point: known_mcs(point, rates, self.store) for point in chosen}
        self._send_again(
            p for p, mcs in known.items() if mcs is not None and self._is_other(p, mcs)
        )
        return [point for point, mcs in known.items() if mcs is None]

    def _send_again(self, points: Iterable[Point]) -> None:
        """Forget finished rows, so that their points are open."""
        points = list(points)
        if not points:
            return
        self.store.forget(point.point_id for point in points)
        for point in points:
            del self._finished[point.point_id]
            self._stopping.forget(point)
        self._done -= sum(map(self._is_open, points))

    def _compare_streams(self, points: Sequence[Point], curve: Mapping[int, Sequence]) -> None:
        """Note a digest of every bitstream; rows that were made of others are sent again.

        One table never holds two versions of a codec's curve, such as of two releases of x264.
        """
        known = self.store.fact(STREAMS) or {}
        first = points[0]
        found = {
            json.dumps([*curve_identity(first), rate]): digest(*(gop.payload for gop in gops))[:16]
            for rate, gops in curve.items()
        }
        changed = any(known.get(name, now) != now for name, now in found.items())
        if changed:
            label = scheme_label(first.scheme, first.variant)
            warnings.warn(
                f"{label} gives other bitstreams of {first.clip} than those that its rows were "
                "made of: they are sent again",
                stacklevel=2,
            )
            forget_choices(first, self.store)
            self._send_again(point for point in points if point.point_id in self._finished)
        self.store.merge_fact(STREAMS, found)

    def _send_all(
        self,
        video: Video,
        points: Iterable[Point],
        encoded: Encoded,
        policy: McsPolicy | SideMcsPolicy,
    ) -> None:
        """Every open point of one scheme."""
        todo = [point for point in points if self._is_open(point)]
        for batch in _batches(todo, 1 if isinstance(policy, McsPolicy) else BATCH_SIZE):
            if self.plan.scenario.stop is not None:  # it looks at the rows of earlier seeds
                self._store_measured(of=batch)
            wanted = [point for point in batch if not self._stopping.settled(point)]
            self._done += len(batch) - len(wanted)
            failed = [point for point in wanted if point.rate in encoded.failures]
            for point in failed:
                self._fail(point, encoded.failures[point.rate])
            sent = [point for point in wanted if point not in failed]
            if sent:
                self._send(video, sent, encoded.curve, policy)

    def _measure_clean(self, video: Video, curves: Sequence[Mapping]) -> None:
        """Bring the metrics of every error-free reconstruction into the frame cache."""
        shown = [
            np.concatenate([gop.frames_hat for gop in gops])
            for curve in curves
            for gops in curve.values()
        ]
        with self._clock("metrics"), _no_exit():
            self._measure(video, shown)

    def _measure(self, video: Video, shown: Sequence[np.ndarray]) -> None:
        """Bring the metrics of all versions of a clip into the frame cache, frame by frame.

        The features of a reference frame take as long as a comparison, and those of a whole clip
        may not fit in memory. Metrics of whole clips are measured with the rows.
        """
        names = [name for name in self.plan.scenario.metrics if not METRICS[name].of_clip]
        if not (shown and names):
            return

        def evaluate(pair: tuple[np.ndarray, np.ndarray]) -> None:
            self._go_on()
            self.frame_metrics.evaluate(names, *(frame[None] for frame in pair))

        with ThreadPoolExecutor(num_threads(), thread_name_prefix="frames") as pool:
            for index, frame in enumerate(video.frames):
                self._say(f"measure {video.name}, frame {index + 1} of {len(video.frames)}")
                list(pool.map(evaluate, [(frame, frames_hat[index]) for frames_hat in shown]))

    def _go_on(self) -> None:
        """Raise ``CancelledError`` in a stage of its own thread if the sweep has ended."""
        if self._is_over.is_set():
            raise CancelledError

    def _encode(self, scheme: Scheme, video: Video, gop: int, rates: Sequence[int]) -> Encoded:
        """Encode the clip at every rate, in parallel; failures by rate."""
        curve: dict[int, list[Any]] = {}
        failures: dict[int, CodecFailure] = {}

        def encode(rate: int) -> list[Any]:
            self._go_on()
            return list(scheme.encode(video, gop, rate))

        with self._clock("encode"), ThreadPoolExecutor(num_threads()) as pool:
            jobs = {rate: pool.submit(encode, rate) for rate in rates}
            try:
                for number, (rate, job) in enumerate(jobs.items()):
                    done = f"{number} of {len(jobs)} rates done"
                    self._say(f"{scheme.name}: encode {video.name}, GOP {gop}, {done}")
                    try:
                        curve[rate] = job.result()
                    except (Exception, SystemExit) as error:
                        self._go_on()
                        if isinstance(error, InputError):
                            raise
                        failures[rate] = _as_failure(scheme, error)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return Encoded(curve, failures)

    def _warm_up(self, scheme: Scheme, encoded: Future[Encoded]) -> None:
        """Make the receiver's networks; what is wrong with them is told by the first row."""
        with suppress(Exception, SystemExit):
            for gops in encoded.result().curve.values():
                self._go_on()
                with self._clock("link and decoding"):
                    scheme.warm_up(gops[0])

    def _note_commands(self, scheme: Scheme, curve: Mapping[int, Sequence[Any]]) -> None:
        """Keep the literal codec options of every rate for the manifest."""
        label = scheme_label(scheme.name, scheme.variant)
        commands = {
            f"{label} rate {rate}": f"{gops[0].command}  [{gops[0].version}]"
            for rate, gops in curve.items()
        }
        self.store.merge_fact(COMMANDS, commands)

    def _send(
        self,
        video: Video,
        points: Sequence[Point],
        curve: Mapping[int, Sequence[Any]],
        policy: McsPolicy | SideMcsPolicy,
    ) -> None:
        """Send points at their MCS and at the neighbours of a chosen one, and let them be measured.

        The rows are stored when they are measured, those of a point together.
        """
        sent, arrived = [], []
        for point in points:
            if not isinstance(point.mcs, int) and not point.is_packets:
                self._say(_mcs_stage(point))
            with self._clock("MCS choice"):
                choices = policy.choices(point)
            self._say(f"{point.scheme}: send {video.name} over {point.channel_words}")
            try:
                with self._clock("link and decoding"):
                    trials = [self._transmit(point, curve, choice) for choice in choices]
            except InputError:
                raise
            except (Exception, SystemExit) as error:
                scheme = self.plan.schemes[point.entry, point.variant]
                self._fail(point, _as_failure(scheme, error))
                continue
            sent.append(trials)
            arrived.append(point)
        if not arrived:
            return

        def store(measured: Sequence[Sequence[Mapping]]) -> None:
            for point, trials, rows in zip(arrived, sent, measured, strict=True):
                if self.kept_frames is not None:
                    self.kept_frames.keep(point, video, trials[0][1])
                self._finish(point, rows)

        receptions = [r for trials in sent for _, received, _ in trials for r in received]
        num_bytes = sum(reception.frames_hat.nbytes for reception in receptions)
        self._store_measured(most_bytes=WAITING_BYTES - num_bytes)
        job = self._measuring.submit(self._measured, video, arrived, sent)
        self._waiting.append(_Waiting(job, store, _groups(arrived), num_bytes))
        self._store_measured()

    def _measured(
        self,
        video: Video,
        points: Sequence[Point],
        sent: Sequence[Sequence[tuple[McsChoice, list[Reception], float]]],
    ) -> list[list[dict[str, Any]]]:
        """The rows of each point: what was sent at its MCS, and at the neighbours of that."""
        with self._clock("metrics"), _no_exit():
            start = time.perf_counter()
            if len(points) > 1:
                self._measure(video, [_shown(received) for ((_, received, _), *_) in sent])
            share = (time.perf_counter() - start) / len(points)
            measured = []
            for point, trials in zip(points, sent, strict=True):
                self._go_on()
                self._say(f"{point.scheme}: measure {video.name} over {point.channel_words}")
                rows = [self._row(video, point, *trial) for trial in trials]
                rows[0] |= {"seconds": round(rows[0]["seconds"] + share, 3)}
                measured.append(rows)
            return measured

    def _fail(self, point: Point, failure: CodecFailure) -> None:
        """The row of a point that has no result, behind those that wait."""

        def store(row: Mapping[str, Any]) -> None:
            self._finish(point, [row])

        job = _AtOnce().submit(failed_row, point, failure)
        self._waiting.append(_Waiting(job, store, _groups([point])))
        self._store_measured()

    def _store_measured(
        self, *, most_bytes: float = WAITING_BYTES, of: Sequence[Point] = ()
    ) -> None:
        """Store the rows that are measured, in order; raises what measuring them raised.

        It waits until received frames of at most ``most_bytes`` are held, and until the points
        ``of`` and the other seeds of them have their rows.
        """
        wanted, held = _groups(of), sum(one.num_bytes for one in self._waiting)
        num_wanted = sum(bool(one.groups & wanted) for one in self._waiting)
        while self._waiting:
            first = self._waiting[0]
            if not (first.job.done() or held > most_bytes or num_wanted):
                return
            if not first.job.done():
                self._say("measure what was received")
            first.store(first.job.result())
            self._waiting.popleft()
            held -= first.num_bytes
            num_wanted -= bool(first.groups & wanted)

    def _transmit(
        self, point: Point, curve: Mapping[int, Sequence[Any]], choice: McsChoice
    ) -> tuple[McsChoice, list[Reception], float]:
        """What was received of the point's real bits and symbols, and the seconds it took."""
        start, gops = time.perf_counter(), curve[point.rate]
        scheme, seeds = self.plan.schemes[point.entry, point.variant], link_seeds(point, len(gops))
        options = link_options(point)
        mcs = adaptation_of(point, choice.mcs)
        received = scheme.transmit(gops, point.channel_point, options, mcs, seeds)
        if isinstance(mcs, OuterLoop):
            choice = replace(choice, mean=mcs.mean_mcs)
        return choice, received, time.perf_counter() - start

    def _row(
        self,
        video: Video,
        point: Point,
        choice: McsChoice,
        receptions: Sequence[Reception],
        seconds: float,
    ) -> dict[str, Any]:
        """One row: what was shown at one MCS, measured."""
        start = time.perf_counter()
        # Of a neighbour only the metric that chose is measured, because metrics take time.
        beside = choice.role == NEIGHBOUR
        metrics = [point.mcs_metric] if beside else self.plan.scenario.metrics
        try:
            row = finished_row(point, choice, receptions, video, self.frame_metrics, metrics)
        except CodecFailure as failure:  # of the program of a metric
            row = failed_row(point, failure) | {"point_id": row_id(point, choice)}
        return {**row, "seconds": round(seconds + time.perf_counter() - start, 3)}

    def _finish(self, point: Point, rows: Sequence[Mapping]) -> None:
        if self._is_over.is_set() and rows[0]["status"] in CodecFailure.STATUSES:
            return  # its program may have been ended together with the sweep: it is sent again
        # A row that is made again for a further metric keeps the others that were measured before.
        before = self.store.row(point.point_id) or {}
        kept = {}
        if before.get("mcs") == rows[0].get("mcs"):
            measured = {metric.column for metric in METRICS.values()}
            kept = {name: value for name, value in before.items() if name in measured}
            rows = [_with_earlier_gops(rows[0], before), *rows[1:]]
        elif before:
            self.store.forget([point.point_id])
        rows = [kept | dict(rows[0]), *rows[1:]]
        self.store.add(rows)
        self._clock.save()
        self._stopping.note(point, rows[0])
        self._done += 1
        self._say()

    def _say(self, stage: str | None = None) -> None:
        """Tell how far the sweep is; None: what was being done is not over."""
        self._stage = stage or self._stage
        self.progress(self._done, self._total, self._stage)


class _Place:
    """One clip at one GOP length: what its points share, made when it is first asked for."""

    def __init__(self, runner: SweepRunner, name: tuple[str, int]):
        self._runner, self._plan, self._store = runner, runner.plan, runner.store
        self._clip, self._gop = name
        self._points = runner.plan.places[name]
        self._encoded: dict[Key, Encoded] = {}
        self._coming: dict[Key, Future[Encoded]] = {}
        self._warming: dict[int, Future[None]] = {}  # by the identity of the scheme
        self._policies: dict[Key, McsPolicy] = {}

    @cached_property
    def video(self) -> Video:
        """The frames of the clip."""
        return load(self._clip, self._plan.scenario.media, self._gop)

    def begin(self, keys: Iterable[Key]) -> None:
        """Let codecs one after another, and networks one after another, run beside the rest.

        Behind the encoder of a semantic scheme, its receiver is made. Nothing happens where
        encoders have no threads of their own. An entry whose scheme an earlier one has is encoded
        when it is asked for, because the scheme may be in use then.
        """
        runner, keys = self._runner, list(keys)
        if not keys or runner._encoding is None or runner._of_networks is None:
            return
        video = self.video
        first = {id(self._plan.schemes[key]): key for key in reversed(keys)}
        for key in keys:
            if key in first.values():
                rates, scheme = sorted({p.rate for p in self._of(key)}), self._plan.schemes[key]
                stage = runner._encoding if scheme.digital else runner._of_networks
                coming = stage.submit(runner._encode, scheme, video, self._gop, rates)
                self._coming[key] = coming
                if not scheme.digital:
                    self._warming[id(scheme)] = stage.submit(runner._warm_up, scheme, coming)

    def wait_for_receiver(self, key: Key) -> None:
        """Until the receiver of an entry is made, if that was begun, also for another entry."""
        scheme = self._plan.schemes[key]
        if id(scheme) in self._warming:
            self._warming.pop(id(scheme)).result()

    def encoded(self, key: Key) -> Encoded:
        """The clip out of one entry's encoder, or from an earlier entry with the same scheme.

        All rates are needed, finished or not: the choice of an MCS rests on the whole curve.
        """
        if key not in self._encoded:
            self._encoded[key] = self._encode(key)
        return self._encoded[key]

    def _of(self, key: Key) -> list[Point]:
        return [p for p in self._points if (p.entry, p.variant) == key]

    def _encode(self, key: Key) -> Encoded:
        runner, scheme = self._runner, self._plan.schemes[key]
        of_key = self._of(key)
        rates = {point.rate for point in of_key}
        shared = [
            done for other, done in self._encoded.items() if self._plan.schemes[other] is scheme
        ]
        curve = {rate: gops for done in shared for rate, gops in done.curve.items()}
        failures = {rate: failure for done in shared for rate, failure in done.failures.items()}
        missing = sorted(rates - curve.keys() - failures.keys())
        if missing:
            if key in self._coming:
                new = self._coming.pop(key).result()
            else:
                new = runner._encode(scheme, self.video, self._gop, missing)
            runner._note_commands(scheme, new.curve)
            curve, failures = curve | new.curve, failures | new.failures
        if scheme.digital:
            note_rates(of_key[0], rates & curve.keys(), self._store)
        return Encoded(
            {rate: curve[rate] for rate in sorted(rates & curve.keys())},
            {rate: failures[rate] for rate in sorted(rates & failures.keys())},
        )

    def policy(self, key: Key) -> McsPolicy:
        """Chooses the MCS of one entry's points."""
        if key not in self._policies:
            curve, runner = self.encoded(key).curve, self._runner
            self._policies[key] = McsPolicy(
                curve, self.video.frames, runner.frame_metrics, self._store
            )
        return self._policies[key]

    def mcs_of_baseline(self, point: Point) -> int | None:
        """The MCS of a separated point that is not sent here; None where its encoder fails."""
        if (rates := known_rates(point, self._store)) is not None:
            if point.rate not in rates:
                return None
            known = known_mcs(point, rates, self._store)
            if known is not None:
                return known
        key = point.entry, point.variant
        if point.rate not in self.encoded(key).curve:
            return None
        return self.policy(key).mcs(point)


def _mcs_stage(point: Point) -> str:
    """What is being done while the MCS of a point is chosen."""
    return f"{point.scheme}: block error rates for the MCS over {point.channel_words}"


def _with_earlier_gops(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` whose GOPs keep the metrics that only the row ``before`` has."""
    pairs = zip(before.get(GOPS, ()), row.get(GOPS, ()), strict=False)
    merged = [earlier | gop for earlier, gop in pairs]
    return {**row, **({GOPS: merged} if merged else {})}


@contextmanager
def _no_exit() -> Iterator[None]:
    """A metric whose code calls ``sys.exit`` must not end the sweep as if all were done."""
    try:
        yield
    except SystemExit as end:
        raise RuntimeError(f"a metric has called sys.exit with {end.code!r}") from end


def _as_failure(scheme: Scheme, error: BaseException) -> CodecFailure:
    """The status of rows whose scheme or channel raised ``error``; other rows are not affected.

    What a scheme announces by ``CodecFailure`` is kept. Anything else is a fault of its code
    (``sys.exit`` among them), whose traceback goes to the log.
    """
    if isinstance(error, CodecFailure):
        return error
    label = scheme_label(scheme.name, scheme.variant)
    logging.getLogger(__name__).error("%s failed", label, exc_info=error)
    return CodecFailure("codec_error", f"{label}: {type(error).__name__}: {error}")


def _batches(points: Sequence[Point], size: int) -> Iterator[list[Point]]:
    """Consecutive points, at most ``size``, no two of which differ in the seed alone.

    Whether a further seed is needed is known when the seed before it has its row.
    """
    batch: dict[Point, Point] = {}
    for point in points:
        group = Stopping.group(point)
        if len(batch) == size or group in batch:
            yield list(batch.values())
            batch = {}
        batch[group] = point
    if batch:
        yield list(batch.values())


def _groups(points: Iterable[Point]) -> frozenset[Point]:
    return frozenset(map(Stopping.group, points))


def _shown(receptions: Sequence[Reception]) -> np.ndarray:
    return np.concatenate([reception.frames_hat for reception in receptions])


#: Runs a plan into a store: in this process, or on the workers of a cluster.
Engine: TypeAlias = Callable[[Plan, SweepStore, Progress, bool, KeptFrames | None], None]


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    save_frames: bool = False,
    restored: bool = False,
    console: Console | None = None,
    command: str | None = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Run what ``folder`` does not hold yet, write tables and manifest; returns the points.

    Parameters: ``fresh`` : forget earlier rows; ``retry_failed`` : run rows again whose codec
    failed; ``save_frames`` : keep a frame per point for the report, and send rows again that have
    none; ``restored`` : start with the rows of earlier tables (``sweep.store.restore``);
    ``console`` : where progress is shown; ``command`` : for the manifest, default the command line;
    ``engine`` : what runs the points, given plan, store, progress, ``retry_failed`` and
    what keeps frames (default: this process).
    Raises ``InputError`` if another sweep uses the folder, its rows are of another version, or
    there is nothing to restore.
    """
    start, total = time.perf_counter(), len(plan.points)
    with opened(plan, folder, total=total, fresh=fresh, restored=restored, console=console) as (
        store,
        progress,
    ):
        kept_frames = frames_kept_in(folder, plan.scenario) if save_frames else None
        if engine is not None:
            engine(plan, store, progress, retry_failed, kept_frames)
        else:
            SweepRunner(
                plan,
                store,
                FrameMetrics(),
                progress,
                retry_failed=retry_failed,
                kept_frames=kept_frames,
            ).run()
        seconds = time.perf_counter() - start
        return finish(plan, folder, store, seconds=seconds, command=command)


@contextmanager
def opened(
    plan: Plan,
    folder: Path,
    *,
    total: int,
    fresh: bool = False,
    restored: bool = False,
    console: Console | None = None,
) -> Iterator[tuple[SweepStore, Progress]]:
    """The store of a results folder that no other process uses, and a progress bar.

    Parameters: ``total`` : rows that are to come; the others as in :func:`run_plan`, which has the
    errors too.
    """
    held = InputError(
        "results folder is in use",
        found=str(folder),
        allowed="one sweep at a time",
        remedy="Wait for the other sweep or give --out.",
    )
    for name in {*plan.scenario.metrics, plan.scenario.link.mcs_metric}:
        METRICS[name].measure.require()
    with exclusive(folder / ".lock", if_held=held):
        for used in (folder, cache_directory()):
            remove_abandoned(used)
        if restored:
            restore(folder, version=__version__)
        store = SweepStore(folder, fresh=fresh, version=__version__)
        try:
            _require_same_source(plan, store)
            store.merge_fact(MADE_ON, made_on())
            # Plain text in notebooks, where rich's live display needs further packages.
            # A notebook says that it is a terminal, and keeps every drawing of a bar as output.
            terminal = False if Console().is_jupyter else None
            shown = console or Console(stderr=True, force_jupyter=False, force_terminal=terminal)
            for told in [*bad_clips_text(plan), *filter(None, [store.note])]:
                shown.print(told, markup=False, soft_wrap=True)
            with shown_progress(shown, total) as progress:
                yield store, progress
        finally:
            store.close()


def finish(
    plan: Plan, folder: Path, store: SweepStore, *, seconds: float, command: str | None
) -> pd.DataFrame:
    """Write tables and manifest of the rows in ``store``; returns the points.

    Raises ``InputError`` where the disk is full or cannot be written; the rows are stored.
    """
    rows, beside = rows_of(plan.points, store.finished())
    table = points_table(rows)
    try:
        write_tables(
            folder,
            table,
            points_table(beside),
            gops_table(rows),
            plan,
            store,
            seconds=seconds,
            command=command,
        )
    except OSError as error:
        raise InputError(
            f"the tables in {folder} cannot be written",
            found=str(error),
            allowed="a folder that can be written and has space",
            remedy="Make room; the same command then writes the tables of the stored rows.",
        ) from error
    return table


def frames_kept_in(folder: Path, scenario: Scenario) -> KeptFrames:
    """Keeps frames of the first seed in ``folder``."""
    folder = folder.absolute()  # a worker may run in another place
    return KeptFrames(folder, scenario.seed[0], [clip_name(clip) for clip in scenario.media.clips])


def bad_clips_text(plan: Plan) -> list[str]:
    """A line per clip that cannot be sent: its rows have no result, the other clips are sent."""
    return [f"clip {name} is left out: {why}" for name, why in plan.bad_clips.items()]


def _require_same_source(plan: Plan, store: SweepStore) -> None:
    """Note frames and looked-up bitstreams; refuse those whose rows were made of others.

    What only one of the two runs reads is not compared, so a scenario and an index may grow.
    """
    frames = store.fact("frame_digests") or {}
    for name, digests in plan.frame_digests.items():
        before = frames.get(name, [])
        if any(old != new for old, new in zip(before, digests, strict=False)):
            raise _other_source(f"frames of the clip {name}", "frames", "video")
        frames[name] = max(before, digests, key=len)
    contents = store.fact("contents") or {}
    for name, digests_now in plan.contents.items():
        of_name = contents.setdefault(name, {})
        for stream, now in digests_now.items():
            if of_name.setdefault(stream, now) != now:
                raise _other_source(f"bitstream {stream} of {name}", "bitstreams", "streams")
    store.set_fact("frame_digests", frames)
    store.set_fact("contents", contents)


def _other_source(what: str, kind: str, same: str) -> InputError:
    return InputError(
        what,
        found=f"other {kind} than those that the rows of this folder were made of",
        allowed=f"the same {same}, read in the same way",
        remedy="Give another name to it or to the scenario, or start anew with --fresh.",
    )
