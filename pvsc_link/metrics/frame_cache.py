"""Metric values of frames in an SQLite file, so that no pair of frames is measured twice.

A value of a clip metric depends on the whole clip. Its key is therefore made of the whole clip's
content and the frame's place in it. Every row carries a checksum over key and value: a row that was
damaged is measured again. Rows of earlier versions, in the table ``frame_metric``, have none.
"""

import hashlib
import math
import socket
import sqlite3
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.metrics.base import ClipMetric, Metric
from pvsc_link.metrics.registry import METRICS, MetricType
from pvsc_link.storage import cache_directory, file_system, is_shared
from pvsc_link.types import InputError

#: Bytes of reference features held in memory: LPIPS and DISTS of 20 frames of 416x240.
REFERENCE_BYTES = 2_000_000_000

_BUSY_SECONDS = 60
_TABLE = """CREATE TABLE IF NOT EXISTS {} (
    metric TEXT, version INTEGER, reference BLOB, shown BLOB, value REAL{},
    PRIMARY KEY (metric, version, reference, shown)) WITHOUT ROWID"""
_TABLES = (_TABLE.format("frame_value", ", checksum BLOB"), _TABLE.format("frame_metric", ""))
_WHERE = "WHERE metric = ? AND version = ? AND reference = ? AND shown = ?"
_SELECT = f"SELECT value, checksum FROM frame_value {_WHERE}"
_SELECT_EARLIER = f"SELECT value FROM frame_metric {_WHERE}"
_INSERT = "INSERT OR REPLACE INTO frame_value VALUES (?, ?, ?, ?, ?, ?)"

#: Metric, version, and content of the reference and of the shown frame.
_Key = tuple[str, int, bytes, bytes]


class FrameMetrics:
    """Measures 8-bit frames through a cache keyed by content, metric and metric version.

    Each value is an SQLite transaction of its own, and so are the values of a clip by a clip metric
    (``ClipMetric``). An interrupted process loses at most the value in progress, and several
    processes may share the file. Features of reference frames stay in memory until others need the
    space: who measures all received versions of one GOP before the next GOP has them computed once.
    Threads may share an object; of single frames, a metric is measured by one thread at a time
    unless it says otherwise (``Metric.in_threads``).

    Parameters
        path : the SQLite file; None: ``frame_metrics.sqlite`` in the cache folder
        metrics : metrics by name; None: ``METRICS``
        reference_bytes : bound on the reference features in memory; one frame's are always kept
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        metrics: Mapping[str, MetricType] | None = None,
        reference_bytes: int = REFERENCE_BYTES,
    ):
        self._metrics = METRICS if metrics is None else metrics
        self._path = Path(path) if path is not None else _file_in(cache_directory())
        self._references = _ReferenceCache(reference_bytes)
        self._locks: dict[str, threading.Lock] = {}
        self._turning = threading.Lock()
        self._journal = "DELETE" if is_shared(file_system(self._path.parent)) else "WAL"
        self._read_only = self._is_absent = False
        try:
            with self._opened() as database, database:
                for table in _TABLES:
                    database.execute(table)
        except sqlite3.OperationalError as error:
            self._go_on_read_only(error)
        except sqlite3.DatabaseError as error:
            raise self._unusable(error) from error

    def evaluate(
        self,
        metric_names: Iterable[str],
        frames: np.ndarray,
        frames_hat: np.ndarray,
        *,
        fps: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Values per frame by column name (``psnr_db``, ``lpips``, ``dists``).

        Input: ``frames``, ``frames_hat`` : uint8 RGB [num_frames, height, width, 3]; for a clip
        metric (``MetricType.of_clip``) they are one clip, and parts of it have other values;
        ``fps`` : frames per second of the clip, which XPSNR depends on (None: 25).
        Output: ``{column: [num_frames], float32}``. Clip metrics of one program (VMAF and VMAF-NEG)
        that are asked for together are measured by one run of it.
        Raises ``InputError`` for another type or shape, an unknown metric, a program that a metric
        lacks, or a cache file that cannot be used; ``CodecFailure`` if such a program fails.
        """
        _require_same_frames(frames, frames_hat)
        metrics = [self._metric(name) for name in metric_names]
        keys = [(_digest(a), _digest(b)) for a, b in zip(frames, frames_hat, strict=True)]
        clip_metrics = {
            metric.name: measure if fps is None else measure.at_frame_rate(fps)
            for metric in metrics
            if isinstance(measure := metric.measure, ClipMetric)
        }
        with self._database() as database:
            values = self._values_of_clip(database, clip_metrics, keys, frames, frames_hat)
            of_frames = [metric for metric in metrics if metric.name not in values]
            values.update({metric.name: [] for metric in of_frames})
            # Frame by frame, because metrics share parts of what they compute of a frame.
            for key, frame, frame_hat in zip(keys, frames, frames_hat, strict=True):
                for metric in of_frames:
                    value = self._value(database, metric, key, frame, frame_hat)
                    values[metric.name].append(value)
        return {metric.column: np.array(values[metric.name], np.float32) for metric in metrics}

    def _values_of_clip(
        self,
        database: sqlite3.Connection,
        measures: Mapping[str, ClipMetric],
        keys: Sequence[tuple[bytes, bytes]],
        frames: np.ndarray,
        frames_hat: np.ndarray,
    ) -> dict[str, list[float | None]]:
        """Values of a clip by clip metric, found or measured; SQLite keeps NaN as nothing."""
        values: dict[str, list[float | None]] = {}
        missing: dict[tuple[str, bytes], dict[str, list[_Key]]] = {}
        for name, measure in measures.items():
            clip, clip_hat = (
                _clip_digest(measure.build(), of_frames) for of_frames in zip(*keys, strict=True)
            )
            rows = [
                (name, measure.version, _place(clip, index), _place(clip_hat, index))
                for index in range(len(frames))
            ]
            found = [_found(database, row) for row in rows]
            if all(row is not None for row in found):
                values[name] = [row[0] for row in found if row is not None]
            else:
                missing.setdefault((measure.shared_run or name, clip), {})[name] = rows
        for (run, clip), rows_of in missing.items():
            group = [measures[name] for name in rows_of]
            reference = self._references.get(run, clip, group[0], _UnitFrames(frames))
            shown = _UnitFrames(frames_hat)
            if len(group) == 1:
                measured = [group[0].compare([reference], shown)]
            else:
                measured = group[0].compare_together(group, [reference], shown)
            for (name, rows), of_frames in zip(rows_of.items(), measured, strict=True):
                values[name] = of_frames.tolist()
                self._keep(database, rows, values[name])
        return values

    def _value(
        self,
        database: sqlite3.Connection,
        metric: MetricType,
        key: tuple[bytes, bytes],
        frame: np.ndarray,
        frame_hat: np.ndarray,
    ) -> float | None:
        measure = metric.measure
        row = (metric.name, measure.version, *key)
        found = _found(database, row)
        if found is not None:
            return found[0]
        with self._locks.setdefault(metric.name, threading.Lock()):
            reference = self._references.get(metric.name, key[0], measure, _unit(frame))
            if not measure.in_threads:
                value = float(measure.compare([reference], _unit(frame_hat))[0])
        if measure.in_threads:
            value = float(measure.compare([reference], _unit(frame_hat))[0])
        self._keep(database, [row], [value])
        return value

    def _metric(self, name: str) -> MetricType:
        if name not in self._metrics:
            raise InputError(
                "unknown metric",
                found=name,
                allowed=", ".join(self._metrics),
                remedy="Name one of these under metrics.",
            )
        return self._metrics[name]

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            with ExitStack() as stack:
                was_read_only = self._read_only  # another thread may find the disk full meanwhile
                try:
                    database = stack.enter_context(self._opened())
                except sqlite3.OperationalError as error:  # of a disk that has become full
                    if was_read_only or not _is_of_disk(error):
                        raise
                    with self._turning:
                        if not self._read_only:
                            self._go_on_read_only(error)
                    database = stack.enter_context(self._opened())
                yield database
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        # A connection per call: SQLite's must not be carried across a fork or into a thread.
        if self._read_only and self._is_absent:
            with closing(sqlite3.connect(":memory:")) as database:
                for table in _TABLES:
                    database.execute(table)
                yield database
            return
        if self._read_only:
            with self._opened_read_only() as database:
                yield database
            return
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as database:
            database.execute(f"PRAGMA journal_mode={self._journal}")
            database.execute("PRAGMA synchronous=NORMAL")
            yield database

    @contextmanager
    def _opened_read_only(self) -> Iterator[sqlite3.Connection]:
        place = f"{self._path.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(place, uri=True)) as database:
            yield database

    def _go_on_read_only(self, error: sqlite3.Error) -> None:
        """Only read a cache that cannot be written.

        One that could not even be made, because the disk is full or read-only, counts as empty.
        Raises ``InputError`` for what is no cache.
        """
        found = []
        if self._path.exists() and (self._path.is_dir() or self._path.stat().st_size):
            try:
                with self._opened_read_only() as database:
                    found = database.execute("SELECT name FROM sqlite_master").fetchall()
            except sqlite3.Error:
                raise self._unusable(error) from error
        self._is_absent = not {("frame_value",), ("frame_metric",)} <= set(found)
        if self._is_absent and not (self._path.parent.is_dir() and _is_of_disk(error)):
            raise self._unusable(error) from error
        self._read_only = True  # last, because other threads read what was found behind it
        warnings.warn(f"new metric values are not kept in {self._path}: {error}", stacklevel=3)

    def _unusable(self, error: sqlite3.Error) -> InputError:
        return InputError(
            "the cache of metric values cannot be used",
            found=f"{self._path} ({error})",
            allowed="an SQLite file in a folder that can be written",
            remedy="Delete the file, or set PVSC_LINK_CACHE to another folder.",
        )

    def _keep(
        self,
        database: sqlite3.Connection,
        keys: Sequence[_Key],
        values: Sequence[float | None],
    ) -> None:
        """Store values in one transaction; a full disk costs time later, but not this result."""
        if self._read_only:
            return
        try:
            _keep(database, keys, values)
        except sqlite3.OperationalError as error:
            warnings.warn(f"metric values not kept in {self._path}: {error}", stacklevel=2)


def _file_in(folder: Path) -> Path:
    """The cache's file; on a file system of several machines each machine has its own."""
    if is_shared(file_system(folder)):
        return folder / f"frame_metrics.{socket.gethostname()}.sqlite"
    return folder / "frame_metrics.sqlite"


def _is_of_disk(error: sqlite3.Error) -> bool:
    """Whether SQLite met a disk that is full, read-only or damaged, or a file it cannot make."""
    kinds = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (*kinds, sqlite3.SQLITE_CANTOPEN)


def _found(database: sqlite3.Connection, key: _Key) -> tuple[float | None] | None:
    """The value of a key (None stands for NaN), or None where there is no sound row."""
    row = database.execute(_SELECT, key).fetchone()
    if row is None:
        return database.execute(_SELECT_EARLIER, key).fetchone()
    value, checksum = row
    if checksum == _checksum(key, value):
        return (value,)
    warnings.warn(f"a cached value of {key[0]} is damaged and measured again", stacklevel=2)
    return None


def _keep(
    database: sqlite3.Connection, keys: Sequence[_Key], values: Sequence[float | None]
) -> None:
    """Store values in one transaction."""
    kept = [None if value is None or math.isnan(value) else value for value in values]
    rows = [(*key, value, _checksum(key, value)) for key, value in zip(keys, kept, strict=True)]
    with database:
        database.executemany(_INSERT, rows)


def _checksum(key: _Key, value: object) -> bytes:
    metric, version, reference, shown = key
    content = f"{metric} {version} {reference.hex()} {shown.hex()} {value!r}"
    return hashlib.blake2b(content.encode(), digest_size=8).digest()


class _ReferenceCache:
    """Least recently used reference features, bounded in bytes."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, digest: bytes, measure: Metric, frames: Any) -> Any:
        key = (name, digest)
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key][0]
        (reference,) = measure.reference(frames)
        size = measure.reference_num_bytes(reference)
        with self._lock:
            if key in self._entries:  # of another thread, meanwhile
                return self._entries[key][0]
            while self._entries and self._num_bytes + size > self._max_bytes:
                self._num_bytes -= self._entries.popitem(last=False)[1][1]
            self._entries[key] = (reference, size)
            self._num_bytes += size
        return reference


def _unit(frame: np.ndarray) -> np.ndarray:
    """uint8 [height, width, 3] as float32 [1, height, width, 3] in [0, 1]."""
    return frame[None].astype(np.float32) / np.float32(255)


class _UnitFrames(Sequence[np.ndarray]):
    """A clip whose frames become floating point numbers in [0, 1] one by one."""

    def __init__(self, frames: np.ndarray):
        self._frames = frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return _unit(self._frames[index])[0]


def _clip_digest(build: str, of_frames: Iterable[bytes]) -> bytes:
    """Content hash of a clip out of those of its frames, and of what else values depend on."""
    content = b"\0".join([build.encode(), *of_frames])
    return hashlib.blake2b(content, digest_size=16).digest()


def _place(clip: bytes, index: int) -> bytes:
    """Key of one frame of a clip; longer than a frame's own digest, so that they never meet."""
    return clip + index.to_bytes(4, "big")


def _digest(frame: np.ndarray) -> bytes:
    """Content hash of one frame; the shape is part of it."""
    digest = hashlib.blake2b(str(frame.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(frame).data)
    return digest.digest()


def _require_same_frames(frames: np.ndarray, frames_hat: np.ndarray) -> None:
    for name, array in (("frames", frames), ("frames_hat", frames_hat)):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
            raise InputError(
                f"{name} is no 8-bit video",
                found=(str(array.dtype), array.shape),
                allowed="uint8 [num_frames, height, width, 3]",
                remedy="Round frames in [0, 1] to 8 bits: frames = np.rint(255 * frames).",
            )
    if frames.shape != frames_hat.shape:
        raise InputError(
            "frames and frames_hat differ in shape",
            found=frames_hat.shape,
            allowed=frames.shape,
            remedy="Crop the padding, and give every frame a shown frame.",
        )
