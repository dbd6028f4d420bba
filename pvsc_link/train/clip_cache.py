"""Decoded once: every training clip as raw uint8 RGB in one memory-mapped file.

The cache is a folder ``<root>/clips_<key>/`` with ``frames.bin`` (frames end to end) and
``index.json``. The key is a digest of the sources' names, sizes and dates and of the limits, so
that changed data make another cache and equal data share one. Memory is the page cache's: many
runs on one machine share it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pvsc_link.cache_directory import cache_directory, exclusive
from pvsc_link.train.clip_sources import ClipSource, find_clips, iter_stills
from pvsc_link.train.config import DataConfig
from pvsc_link.types import InputError

_FORMAT = 1


@dataclass(frozen=True)
class CachedClip:
    """Where one clip lies: offset in bytes, and shape [num_frames, height, width, 3]."""

    name: str
    offset: int
    shape: tuple[int, int, int, int]


class ClipCache:
    """Read access to a cache folder: ``clips`` (moving) and ``stills`` (one frame each)."""

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text())
        self.folder, self.digest = folder, index["sha256"]
        self._frames = np.memmap(folder / "frames.bin", np.uint8, mode="r")
        entries = [CachedClip(e["name"], e["offset"], tuple(e["shape"])) for e in index["clips"]]
        self.clips = [e for e in entries if e.shape[0] > 1]
        self.stills = [e for e in entries if e.shape[0] == 1]

    def frames(self, clip: CachedClip) -> np.ndarray:
        """uint8 RGB [num_frames, height, width, 3], a view of the file: nothing is read yet."""
        size = int(np.prod(clip.shape))
        return self._frames[clip.offset : clip.offset + size].reshape(clip.shape)


def open_cache(config: DataConfig) -> ClipCache:
    """The cache of these sources, decoded now if it does not exist yet.

    Two processes that start together decode once: the second waits. An interrupted decode
    leaves nothing that could be mistaken for a cache.
    Raises ``InputError`` for missing or unreadable sources.
    """
    clips = _selected(find_clips(config.clips), config) if config.clips else []
    key = _key(clips, config)
    root = cache_directory()
    folder = root / f"clips_{key}"
    with exclusive(root / f"clips_{key}.lock"):
        if not (folder / "index.json").exists():
            _build(folder, clips, config)
    return ClipCache(folder)


def _selected(clips: list[ClipSource], config: DataConfig) -> list[ClipSource]:
    clips = [c for c in clips if not any(word in c.name for word in config.exclude)]
    if config.max_clips is not None and len(clips) > config.max_clips:
        chosen = np.random.default_rng(0).permutation(len(clips))[: config.max_clips]
        clips = [clips[i] for i in sorted(chosen)]
    if not clips:
        raise InputError(
            "training clips",
            found="none left",
            allowed="at least one",
            remedy="Relax data.exclude or data.max_clips.",
        )
    return clips


def _key(clips: list[ClipSource], config: DataConfig) -> str:
    stills = [(p, os.stat(Path(p).expanduser()).st_mtime_ns) for p in config.stills]
    identity = [_FORMAT, [c.identity() for c in clips], stills, config.max_frames, config.max_size]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _build(folder: Path, clips: list[ClipSource], config: DataConfig) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (partial / "frames.bin").open("wb") as file:
        entries, digest = _write_all(file, _pictures(clips, config))
        file.flush()
        os.fsync(file.fileno())
    index = {"sha256": digest, "clips": entries}
    (partial / "index.json").write_text(json.dumps(index, indent=0))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _pictures(clips: list[ClipSource], config: DataConfig) -> Iterator[tuple[str, np.ndarray]]:
    for clip in clips:
        yield clip.name, window(clip.decode(config.max_frames), config.max_size)
    for name, image in iter_stills(config.stills):
        yield name, window(image[None], config.max_size)


def _write_all(
    file: BinaryIO, pictures: Iterator[tuple[str, np.ndarray]]
) -> tuple[list[dict], str]:
    entries, digest, offset = [], hashlib.sha256(), 0
    for name, frames in pictures:
        data = np.ascontiguousarray(frames).tobytes()
        file.write(data)
        digest.update(name.encode() + data)
        entries.append({"name": name, "offset": offset, "shape": frames.shape})
        offset += len(data)
    return entries, digest.hexdigest()


def window(frames: np.ndarray, max_size: int) -> np.ndarray:
    """The middle of frames larger than ``max_size``: a training crop never needs more."""
    top = max(0, (frames.shape[1] - max_size) // 2)
    left = max(0, (frames.shape[2] - max_size) // 2)
    return frames[:, top : top + max_size, left : left + max_size]
