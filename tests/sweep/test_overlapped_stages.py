"""Encoders and metrics in threads of their own: the same rows in the same order, none lost."""

import json
import sqlite3
import sys
import threading
from concurrent.futures import CancelledError
from contextlib import closing

import made_up
import numpy as np
import pytest

from pvsc_link.metrics import FrameMetrics
from pvsc_link.scenario import parse_scenario
from pvsc_link.sweep import SweepRunner, SweepStore, build
from pvsc_link.sweep.plan import load
from pvsc_link.sweep.runner import SECONDS, StageClock
from pvsc_link.types import CodecFailure

#: Seconds after which a stage that waits for another one gives up.
PATIENCE = 20


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The made-up schemes on two clips, with caches of their own."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    made_up.register(monkeypatch)
    return [made_up.write_clip(tmp_path / name, start) for name, start in (("a", 0), ("b", 9))]


def swept(clips, folder, **changes):
    """Rows as they lie in the store, in their order, without the seconds that they took."""
    plan = build(parse_scenario(made_up.described(clips, **changes)))
    store = SweepStore(folder, version="test")
    metrics = FrameMetrics(folder / "metrics.sqlite")
    try:
        SweepRunner(plan, store, metrics).run()
    finally:
        store.close()
    return stored(folder)


def stored(folder):
    with closing(sqlite3.connect(folder / "points.sqlite")) as database:
        rows = [
            json.loads(row) for (row,) in database.execute("SELECT row FROM points ORDER BY rowid")
        ]
    return [{name: v for name, v in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize(
    "changes", [{}, {"seed": 1, "stop": {"max_seeds": 4, "psnr_interval": 0.02}}]
)
def test_rows_and_their_order_do_not_depend_on_the_threads(made, tmp_path, monkeypatch, changes):
    found = {}
    for threads in (1, 2):
        monkeypatch.setenv("PVSC_LINK_THREADS", str(threads))
        monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / f"cache{threads}"))
        found[threads] = swept(made, tmp_path / f"out{threads}", **changes)
    assert len(found[1]) > 20
    assert found[1] == found[2]


def test_rows_do_not_depend_on_how_many_frames_may_wait(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    many = swept(made, tmp_path / "many")
    monkeypatch.setattr("pvsc_link.sweep.runner.WAITING_BYTES", 0)
    assert swept(made, tmp_path / "none") == many


def test_points_are_sent_and_the_next_scheme_is_encoded_while_frames_are_measured(
    made, tmp_path, monkeypatch
):
    """The first measurement waits for both; without threads of their own nothing would go on."""
    encoded, sent, waited = threading.Event(), threading.Event(), []
    measure, encode = FrameMetrics.evaluate, made_up.Noisy.encode_gop
    transmit = SweepRunner._transmit

    def slow(self, *given, **more):
        if threading.current_thread() is not threading.main_thread() and not waited:
            waited.append(encoded.wait(PATIENCE) and sent.wait(PATIENCE))
        return measure(self, *given, **more)

    def told(self, *given):
        encoded.set()
        return encode(self, *given)

    def sending(self, *given):
        sent.set()
        return transmit(self, *given)

    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    monkeypatch.setattr(FrameMetrics, "evaluate", slow)
    monkeypatch.setattr(made_up.Noisy, "encode_gop", told)
    monkeypatch.setattr(SweepRunner, "_transmit", sending)
    swept(made[:1], tmp_path / "out")
    assert waited
    assert all(waited)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError])
def test_what_is_measured_is_stored_when_the_sweep_is_interrupted(
    made, tmp_path, monkeypatch, fault
):
    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    whole = swept(made[:1], tmp_path / "whole")
    send, measured = SweepRunner._send, SweepRunner._measured
    calls, done = [], threading.Event()

    def first_only(self, video, points, *more):
        calls.append(points)
        if len(calls) == 2:
            assert done.wait(PATIENCE)
            raise fault
        send(self, video, points, *more)

    def told(self, *given):
        try:
            return measured(self, *given)
        finally:
            threading.Timer(0.2, done.set).start()

    monkeypatch.setattr(SweepRunner, "_send", first_only)
    monkeypatch.setattr(SweepRunner, "_measured", told)
    with pytest.raises(fault):
        swept(made[:1], tmp_path / "cut")
    before = stored(tmp_path / "cut")
    (point,) = calls[0]
    assert before[0]["point_id"] == point.point_id
    assert {row["point_id"].split("-")[0] for row in before} == {point.point_id}
    monkeypatch.undo()
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        made_up.register(patch)
        assert swept(made[:1], tmp_path / "cut") == whole


def test_a_fault_of_a_metric_ends_the_sweep_after_the_rows_before_it(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    whole = swept(made[:1], tmp_path / "whole")
    row = SweepRunner._row
    number = []

    def failing(self, *given):
        number.append(1)
        if len(number) == 4:
            raise ZeroDivisionError("a metric")
        return row(self, *given)

    monkeypatch.setattr(SweepRunner, "_row", failing)
    with pytest.raises(ZeroDivisionError, match="a metric"):
        swept(made[:1], tmp_path / "cut")
    assert stored(tmp_path / "cut") == whole[: len(stored(tmp_path / "cut"))]
    assert stored(tmp_path / "cut")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_scheme_that_calls_exit_does_not_end_the_sweep(made, tmp_path, monkeypatch, threads):
    """It would end with status 0, without tables."""
    encode = made_up.Coarse.encode

    def exiting(self, frames, fps, rate, **more):
        if rate == 8:
            sys.exit(0)
        return encode(self, frames, fps, rate, **more)

    monkeypatch.setenv("PVSC_LINK_THREADS", str(threads))
    monkeypatch.setattr(made_up.Coarse, "encode", exiting)
    monkeypatch.setattr(made_up.Noisy, "warm_up", lambda self, gop: sys.exit(0))
    monkeypatch.setattr(made_up.Noisy, "transmit", lambda *given: sys.exit(0))
    rows = swept(made[:1], tmp_path / "out")
    failed = [row for row in rows if row["status"] == "codec_error"]
    assert {(row["scheme"], row["rate"]) for row in failed} == {
        *(("coarse", 8), ("noisy", 1), ("noisy", 2)),
    }
    assert {row["rate"] for row in rows if row["status"] == "ok"} == {64}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_metric_that_calls_exit_is_a_fault(made, tmp_path, monkeypatch, threads):
    monkeypatch.setenv("PVSC_LINK_THREADS", str(threads))
    monkeypatch.setattr(SweepRunner, "_row", lambda *given: sys.exit(0))
    with pytest.raises(RuntimeError, match=r"a metric has called sys\.exit"):
        swept(made[:1], tmp_path / "out")


def test_no_further_rate_is_encoded_when_the_sweep_has_ended(made, tmp_path, monkeypatch):
    plan = build(parse_scenario(made_up.described(made[:1])))
    store = SweepStore(None, version="test")
    runner = SweepRunner(plan, store, FrameMetrics(tmp_path / "metrics.sqlite"))
    runner.prepare()
    video, scheme = load(made[0], plan.scenario.media, 2), plan.schemes[plan.points[0].entry, ""]
    monkeypatch.setattr(made_up.Coarse, "encoded", encoded := [])
    runner._is_over.set()
    with pytest.raises(CancelledError):
        runner._encode(scheme, video, 2, [8, 16, 32, 64])
    assert not encoded
    store.close()


def test_a_metric_that_fails_while_the_sweep_ends_leaves_its_point_open(
    made, tmp_path, monkeypatch
):
    """Ctrl-C on a terminal, and SIGTERM of a cluster, also reach the programs of metrics."""
    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    whole = swept(made[:1], tmp_path / "whole")
    with monkeypatch.context() as patch:
        send, failed = SweepRunner._send, threading.Event()

        def once(self, *given):
            if failed.is_set():
                raise KeyboardInterrupt
            send(self, *given)
            self._waiting[-1].job.exception(PATIENCE)

        def failing(*given):
            failed.set()
            raise CodecFailure("codec_error", "its program was killed")

        patch.setattr(SweepRunner, "_send", once)
        patch.setattr(SweepRunner, "_store_measured", _after_the_end)
        patch.setattr("pvsc_link.sweep.runner.finished_row", failing)
        with pytest.raises(KeyboardInterrupt):
            swept(made[:1], tmp_path / "cut")
    assert not stored(tmp_path / "cut")
    assert swept(made[:1], tmp_path / "cut") == whole


_store_measured = SweepRunner._store_measured


def _after_the_end(self, **given):
    """Store what was measured only where the sweep has ended."""
    if self._is_over.is_set():
        _store_measured(self, **given)


def test_seconds_of_stages_that_overlap_add_up_to_the_time_in_which_any_ran(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pvsc_link.sweep.runner.time.perf_counter", lambda: now[0])
    store = SweepStore(tmp_path, version="test")
    clock = StageClock(store)
    with clock("encode"):
        now[0] += 1.0
        with clock("metrics"):
            now[0] += 4.0
        now[0] += 0.5
    now[0] += 7.0  # no stage runs
    with clock("metrics"):
        now[0] += 2.0
    clock.save()
    seconds = store.fact(SECONDS)
    store.close()
    assert seconds == {"encode": pytest.approx(3.5), "metrics": pytest.approx(4.0)}
    assert np.isclose(sum(seconds.values()), 7.5)


def test_networks_encode_while_codecs_do(made, tmp_path, monkeypatch):
    """The encoder of the codec waits for the networks, which are behind it in the scenario."""
    begun, waited = threading.Event(), []
    encode, encode_gop = made_up.Coarse.encode, made_up.Noisy.encode_gop

    def codec(self, *given, **more):
        waited.append(begun.wait(PATIENCE))
        return encode(self, *given, **more)

    def networks(self, *given):
        begun.set()
        return encode_gop(self, *given)

    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    monkeypatch.setattr(made_up.Coarse, "encode", codec)
    monkeypatch.setattr(made_up.Noisy, "encode_gop", networks)
    before = sys.getswitchinterval()
    swept(made[:1], tmp_path / "out")
    assert waited
    assert all(waited)
    assert sys.getswitchinterval() == before


def test_frames_are_measured_by_two_threads_at_once(made, tmp_path, monkeypatch):
    together, waited = threading.Barrier(2), []
    measure = FrameMetrics.evaluate

    def slow(self, *given, **more):
        if threading.current_thread().name.startswith("frames") and not waited:
            together.wait(PATIENCE)
            waited.append(True)
        return measure(self, *given, **more)

    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    monkeypatch.setattr(FrameMetrics, "evaluate", slow)
    swept(made[:1], tmp_path / "out")
    assert waited


def test_a_receiver_is_made_while_rows_of_codecs_are_sent(made, tmp_path, monkeypatch):
    """The first row of a codec waits for it, and the first row of its own scheme finds it made."""
    begun, order, lock = threading.Event(), [], threading.Lock()
    transmit = SweepRunner._transmit

    def warm_up(self, gop):
        begun.set()
        with lock:
            order.append("receiver")
        raise ZeroDivisionError("told by the rows, if they meet it too")

    def sending(self, point, *given):
        if point.scheme == "coarse":
            assert begun.wait(PATIENCE)
        with lock:
            order.append(point.scheme)
        return transmit(self, point, *given)

    monkeypatch.setattr(made_up.Noisy, "warm_up", warm_up)
    monkeypatch.setattr(SweepRunner, "_transmit", sending)
    monkeypatch.setenv("PVSC_LINK_THREADS", "2")
    rows = swept(made[:1], tmp_path / "out")
    assert {row["status"] for row in rows} == {"ok"}
    assert order.index("receiver") < order.index("noisy")
    order.clear()
    monkeypatch.setattr(SweepRunner, "_transmit", transmit)
    monkeypatch.setenv("PVSC_LINK_THREADS", "1")
    assert swept(made[:1], tmp_path / "alone") == rows
    assert not order
