"""Metric values of single frames in an SQLite file, so that no pair of frames is measured twice."""

import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.metrics.registry import METRICS, MetricType
from pvsc_link.storage import cache_directory
from pvsc_link.types import InputError

#: Bytes of reference features held in memory: LPIPS and DISTS of 20 frames of 416x240.
REFERENCE_BYTES = 2_000_000_000

_BUSY_SECONDS = 60
_TABLE = """CREATE TABLE IF NOT EXISTS frame_metric (
    metric TEXT, version INTEGER, reference BLOB, shown BLOB, value REAL,
    PRIMARY KEY (metric, version, reference, shown)) WITHOUT ROWID"""
_SELECT = """SELECT value FROM frame_metric
    WHERE metric = ? AND version = ? AND reference = ? AND shown = ?"""
_INSERT = "INSERT OR REPLACE INTO frame_metric VALUES (?, ?, ?, ?, ?)"


class FrameMetrics:
    """Measures 8-bit frames through a cache keyed by content, metric and metric version.

    Each value is an SQLite transaction of its own. An interrupted process loses at most the value
    in progress, and several processes may share the file. Features of reference frames stay in
    memory until others need the space: who measures all received versions of one GOP before the
    next GOP has them computed once.

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
        self._path = Path(path) if path is not None else cache_directory() / "frame_metrics.sqlite"
        self._references = _ReferenceCache(reference_bytes)
        with closing(self._connect()) as database, database:
            database.execute(_TABLE)

    def evaluate(
        self, metric_names: Iterable[str], frames: np.ndarray, frames_hat: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Values per frame by column name (``psnr_db``, ``lpips``, ``dists``).

        Input: ``frames``, ``frames_hat`` : uint8 RGB [num_frames, height, width, 3].
        Output: ``{column: [num_frames], float32}``.
        Raises ``InputError`` for another type or shape, or an unknown metric.
        """
        _require_same_frames(frames, frames_hat)
        metrics = [self._metric(name) for name in metric_names]
        keys = [(_digest(a), _digest(b)) for a, b in zip(frames, frames_hat, strict=True)]
        with closing(self._connect()) as database:
            return {
                metric.column: np.array(
                    [
                        self._value(database, metric, key, frame, frame_hat)
                        for key, frame, frame_hat in zip(keys, frames, frames_hat, strict=True)
                    ],
                    np.float32,
                )
                for metric in metrics
            }

    def _value(
        self,
        database: sqlite3.Connection,
        metric: MetricType,
        key: tuple[bytes, bytes],
        frame: np.ndarray,
        frame_hat: np.ndarray,
    ) -> float:
        row = (metric.name, metric.measure.version, *key)
        found = database.execute(_SELECT, row).fetchone()
        if found is not None:
            return found[0]
        reference = self._references.get(metric, key[0], frame)
        value = float(metric.measure.compare([reference], _unit(frame_hat))[0])
        with database:
            database.execute(_INSERT, (*row, value))
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

    def _connect(self) -> sqlite3.Connection:
        # A connection per call: SQLite's must not be carried across a fork or into a thread.
        try:
            database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise InputError(
                "the cache of metric values cannot be used",
                found=f"{self._path} ({error})",
                allowed="an SQLite file in a folder that can be written",
                remedy="Delete the file, or set PVSC_LINK_CACHE to another folder.",
            ) from error
        return database


class _ReferenceCache:
    """Least recently used reference features, bounded in bytes."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._entries: OrderedDict[tuple[str, bytes], tuple[Any, int]] = OrderedDict()

    def get(self, metric: MetricType, digest: bytes, frame: np.ndarray) -> Any:
        key = (metric.name, digest)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][0]
        (reference,) = metric.measure.reference(_unit(frame))
        size = metric.measure.reference_num_bytes(reference)
        while self._entries and self._num_bytes + size > self._max_bytes:
            self._num_bytes -= self._entries.popitem(last=False)[1][1]
        self._entries[key] = (reference, size)
        self._num_bytes += size
        return reference


def _unit(frame: np.ndarray) -> np.ndarray:
    """uint8 [height, width, 3] as float32 [1, height, width, 3] in [0, 1]."""
    return frame[None].astype(np.float32) / np.float32(255)


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
