"""Store of coded GOPs by content: each clip, GOP and rate is encoded once on a machine.

An entry holds the bitstream and the compressed RGB reconstruction, together some 60 % of
``3 * num_frames * height * width`` bytes: 0.2 MB for four frames of 176x144, 15 MB at 1920x1080.
Entries stay until somebody deletes the folder, which is always safe.

An entry holds what it was made of (its key) and a checksum over all of it. An entry that was
damaged, renamed or put in the place of another is encoded again with a warning. So is an entry of
an earlier version of this package, which has no key: nothing in it says which clip it is of.
"""

import json
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.codecs.base import Codec
from pvsc_link.storage import atomic_file, cache_directory, digest, json_digest, read_arrays
from pvsc_link.types import EncodedGop

#: To be raised when the meaning of an entry or the conversion to RGB changes.
_LAYOUT = 1
_TEXTS = ("command", "version", "note")
_DECODABLE = "num_decodable"  # only in entries of codecs that state it
_KEY, _CHECKSUM = "key", "checksum"
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
    Output: the ``EncodedGop`` that the codec gives. Failures are raised and never stored; an entry
    that is damaged, of another key or without one is encoded again with a warning.
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
        **_class_of(codec),
    }
    key = json_digest(stated)
    path = (folder or cache_folder()) / key[:2] / f"{key}.npz"
    gop = _load(path, stated)
    if gop is None:
        gop = codec.encode(frames, fps, rate, **place, **seen)
        _store(path, stated, gop)
    return gop


def history_argument(codec: Codec, history: np.ndarray | None) -> dict[str, Any]:
    """Keyword ``history`` of ``encode`` for a codec with ``history_frames``, else nothing."""
    if not codec.history_frames or history is None or not len(history):
        return {}
    return {"history": history[-codec.history_frames :]}


def _class_of(codec: Codec) -> dict[str, str]:
    """Where a codec from outside the package is defined: two may have the name of one another."""
    kind = type(codec)
    outside = kind.__module__.split(".")[0] != __package__.split(".")[0]
    return {"class": f"{kind.__module__}:{kind.__qualname__}"} if outside else {}


def _load(path: Path, stated: dict[str, Any]) -> EncodedGop | None:
    """The entry of what is ``stated``, or None where there is none or it cannot be trusted."""
    try:
        entry = read_arrays(path)
        key = str(entry[_KEY]) if _KEY in entry else None
        checksum = str(entry[_CHECKSUM]) if _CHECKSUM in entry else None
        texts: dict[str, Any] = {name: str(entry[name]) for name in _TEXTS}
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
    if key is None:
        reason = "of an earlier version, which does not say what it is of,"
    elif key != _key_text(stated):
        reason = "of another clip, rate or codec"
    elif checksum != _checksum(key, gop):
        reason = "that does not match its checksum"
    elif sum(gop.frame_num_bytes) != len(gop.payload) or gop.frames_hat.shape != stated["shape"]:
        reason = "whose parts do not fit together"
    else:
        return gop
    warnings.warn(f"cache entry {path} {reason} is encoded again", stacklevel=3)
    return None


def _key_text(stated: dict[str, Any]) -> str:
    return json.dumps(stated, sort_keys=True)


def _checksum(key: str, gop: EncodedGop) -> str:
    """Digest of everything in an entry."""
    texts = [getattr(gop, name) for name in _TEXTS]
    frames = gop.frames_hat
    about = json.dumps(
        [key, *texts, gop.frame_num_bytes, gop.num_decodable, str(frames.dtype), frames.shape]
    )
    return digest(f"{len(about)} {about}", gop.payload, frames)


def _store(path: Path, stated: dict[str, Any], gop: EncodedGop) -> None:
    key = _key_text(stated)
    fields: dict[str, Any] = {name: np.asarray(getattr(gop, name)) for name in _TEXTS}
    fields |= {_KEY: np.asarray(key), _CHECKSUM: np.asarray(_checksum(key, gop))}
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
