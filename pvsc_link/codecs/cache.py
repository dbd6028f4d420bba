"""Content-addressed store of coded GOPs: encode once per clip, GOP and rate, on this machine.

Size: an entry holds the bitstream and the deflated RGB reconstruction, that is some 60 % of
``3 * num_frames * height * width`` bytes: 0.2 MB for four frames of 176x144, 1.2 MB at 640x272,
15 MB at 1080p. Nothing is ever removed by itself; deleting the folder is always safe.
"""

import hashlib
import json
import os
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.codecs.base import Codec, history_argument
from pvsc_link.storage import cache_directory
from pvsc_link.types import EncodedGop

#: Raised when the meaning of an entry or of the conversion to RGB changes.
_LAYOUT = 1
_TEXTS = ("command", "version", "note")
_DECODABLE = "num_decodable"  # only in entries of codecs that state it
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def cache_folder() -> Path:
    """``encodes`` in the user's cache folder."""
    return cache_directory() / "encodes"


def cached_encode(
    codec: Codec,
    frames: np.ndarray,
    fps: float,
    rate: int,
    *,
    clip: str = "",
    first_frame: int = 0,
    history: np.ndarray | None = None,
    folder: Path | None = None,
) -> EncodedGop:
    """``codec.encode`` through the store; equal input, options and versions encode only once.

    Parameters: as ``Codec.encode``; ``history`` : frames before the GOP, for codecs that look at
    them (``history_argument``); ``folder`` : store (default ``cache_folder()``).
    Output: the ``EncodedGop`` that the codec gives. Failures are raised and never stored; a
    damaged entry is encoded again with a warning.
    """
    seen = history_argument(codec, history)
    where = {"clip": clip, "first_frame": first_frame}
    key = _key(codec, frames, fps, rate, where, seen)
    path = (folder or cache_folder()) / key[:2] / f"{key}.npz"
    gop = _load(path, frames.shape)
    if gop is None:
        gop = codec.encode(frames, fps, rate, clip=clip, first_frame=first_frame, **seen)
        _store(path, gop)
    return gop


def _key(
    codec: Codec,
    frames: np.ndarray,
    fps: float,
    rate: int,
    where: dict[str, object],
    seen: dict[str, np.ndarray],
) -> str:
    stated = {
        "layout": _LAYOUT,
        "codec": codec.name,
        "variant": codec.variant,
        "version": codec.version,
        "options": codec.describe(rate),
        "rate": rate,
        "fps": fps,
        "shape": frames.shape,
        "frames": _digest(frames),
        **where,
        **{name: _digest(earlier) for name, earlier in seen.items()},
    }
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def _digest(frames: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def _load(path: Path, shape: tuple[int, ...]) -> EncodedGop | None:
    """An entry, or None where there is none or it cannot be trusted."""
    try:
        with np.load(path, allow_pickle=False) as entry:
            texts = {name: str(entry[name]) for name in _TEXTS}
            gop = EncodedGop(
                payload=entry["payload"].tobytes(),
                frame_num_bytes=tuple(int(n) for n in entry["frame_num_bytes"]),
                frames_hat=entry["frames_hat"],
                num_decodable=int(entry[_DECODABLE]) if _DECODABLE in entry else None,
                **texts,
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _DAMAGE as error:
        warnings.warn(f"damaged cache entry {path} is encoded again: {error}", stacklevel=3)
        return None
    if sum(gop.frame_num_bytes) != len(gop.payload) or gop.frames_hat.shape != shape:
        warnings.warn(f"inconsistent cache entry {path} is encoded again", stacklevel=3)
        return None
    return gop


def _store(path: Path, gop: EncodedGop) -> None:
    """Write beside the entry, then rename: a reader never sees half an entry."""
    fields: dict[str, Any] = {name: np.asarray(getattr(gop, name)) for name in _TEXTS}
    if gop.num_decodable is not None:
        fields[_DECODABLE] = np.asarray(gop.num_decodable)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(
                file,
                payload=np.frombuffer(gop.payload, np.uint8),
                frame_num_bytes=np.asarray(gop.frame_num_bytes),
                frames_hat=gop.frames_hat,
                **fields,
            )
        os.replace(temporary, path)
    except OSError as error:  # a full or read-only disk costs time later, not this result
        warnings.warn(f"coded GOP not cached in {path.parent}: {error}", stacklevel=3)
