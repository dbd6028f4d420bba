"""Store of coded GOPs by content: each clip, GOP and rate is encoded once on a machine.

An entry holds the bitstream and the compressed RGB reconstruction, together some 60 % of
``3 * num_frames * height * width`` bytes: 0.2 MB for four frames of 176x144, 15 MB at 1920x1080.
Entries stay until somebody deletes the folder, which is always safe.
"""

import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.codecs.base import Codec
from pvsc_link.storage import atomic_file, cache_directory, digest, json_digest
from pvsc_link.types import EncodedGop

#: To be raised when the meaning of an entry or the conversion to RGB changes.
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

    Parameters: as ``Codec.encode``; ``folder`` : the store (default ``cache_folder()``).
    Input: ``history`` : [any, height, width, 3], uint8, all frames known before the GOP, of which
    a codec gets its ``history_frames`` last ones.
    Output: the ``EncodedGop`` that the codec gives. Failures are raised and never stored; a
    damaged entry is encoded again with a warning.
    """
    place: dict[str, Any] = {"clip": clip, "first_frame": first_frame}
    seen = history_argument(codec, history)
    stated = {
        "layout": _LAYOUT,
        "codec": codec.name,
        "variant": codec.variant,
        "version": codec.version,
        "options": codec.describe(rate),
        "rate": rate,
        "fps": fps,
        "shape": frames.shape,
        "frames": digest(frames),
        **place,
        **{name: digest(earlier) for name, earlier in seen.items()},
    }
    key = json_digest(stated)
    path = (folder or cache_folder()) / key[:2] / f"{key}.npz"
    gop = _load(path, frames.shape)
    if gop is None:
        gop = codec.encode(frames, fps, rate, **place, **seen)
        _store(path, gop)
    return gop


def history_argument(codec: Codec, history: np.ndarray | None) -> dict[str, Any]:
    """Keyword ``history`` of ``encode`` for a codec with ``history_frames``, else nothing."""
    if not codec.history_frames or history is None or not len(history):
        return {}
    return {"history": history[-codec.history_frames :]}


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
    fields: dict[str, Any] = {name: np.asarray(getattr(gop, name)) for name in _TEXTS}
    if gop.num_decodable is not None:
        fields[_DECODABLE] = np.asarray(gop.num_decodable)
    try:
        with atomic_file(path) as file:
            np.savez_compressed(
                file,
                payload=np.frombuffer(gop.payload, np.uint8),
                frame_num_bytes=np.asarray(gop.frame_num_bytes),
                frames_hat=gop.frames_hat,
                **fields,
            )
    except OSError as error:  # a full or read-only disk costs time later, but not this result
        warnings.warn(f"coded GOP not cached in {path.parent}: {error}", stacklevel=3)
