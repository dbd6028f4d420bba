"""Store of what a semantic transmitter sent: each clip, GOP and rate is encoded once on a machine.

It is to the networks of a semantic scheme what ``codecs.cache`` is to a codec, in the same folder.
An entry holds the symbols and side bits of the frames of one GOP, what they were made of (its key),
and a checksum over all of it. An entry that was damaged, renamed or put in the place of another is
made again with a warning.

The key also has the source text of the models, the versions of TensorFlow and Keras, the processor
and the threads: a change of any of them may move a symbol by float32 rounding.
"""

import functools
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.storage import (
    atomic_file,
    cache_directory,
    digest,
    json_digest,
    num_threads,
    processor,
    read_arrays,
)
from pvsc_link.types import Payload

#: To be raised when the meaning of an entry changes.
_LAYOUT = 1
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
#: Rooms whose source text decides what is sent.
_ROOMS = ("models", "schemes")


def kept_payloads(
    stated: Mapping[str, Any], make: Callable[[], tuple[Payload, ...]], folder: Path | None = None
) -> tuple[Payload, ...]:
    """The payloads of a GOP through the store; equal input on an equal machine is coded only once.

    Parameters: ``stated`` : all that they depend on besides code and machine, as JSON; ``make`` :
    codes the GOP; ``folder`` : the store (default ``encodes`` in the user's cache folder).
    """
    key = json.dumps({"layout": _LAYOUT, **stated, **_code_and_machine()}, sort_keys=True)
    name = json_digest(json.loads(key))
    path = (folder or cache_directory() / "encodes") / name[:2] / f"{name}.npz"
    payloads = _load(path, key)
    if payloads is None:
        payloads = make()
        _store(path, key, payloads)
    return payloads


@functools.cache
def _code_and_machine() -> dict[str, Any]:
    import keras
    import tensorflow as tf

    root = Path(__file__).parents[1]
    files = sorted(file for room in _ROOMS for file in (root / room).rglob("*.py"))
    return {
        "code": digest(*(file.read_bytes() for file in files))[:16],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "processor": processor(),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": num_threads(),
    }


def _load(path: Path, key: str) -> tuple[Payload, ...] | None:
    """The entry, or None where there is none or it cannot be trusted."""
    try:
        found = read_arrays(path)
        if str(found["key"]) == key and str(found["checksum"]) == _checksum(found):
            return _unpacked(found)
        reason = "is of something else, or does not match its checksum"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except _DAMAGE as error:
        reason = f"is damaged ({error})"
    warnings.warn(f"cache entry {path} {reason}: the GOP is coded again", stacklevel=3)
    return None


def _store(path: Path, key: str, payloads: tuple[Payload, ...]) -> None:
    fields = _packed(payloads) | {"key": np.asarray(key)}
    fields["checksum"] = np.asarray(_checksum(fields))
    try:
        with atomic_file(path) as file:
            np.savez(file, **fields)  # type: ignore[arg-type]
    except OSError as error:  # a full or read-only disk costs time later, but not this result
        warnings.warn(f"coded GOP not cached in {path.parent}: {error}", stacklevel=3)


def _packed(payloads: tuple[Payload, ...]) -> dict[str, np.ndarray]:
    """Payloads as arrays; messages stand one after another, frame by frame."""
    parts = list(payloads[0].side_bits)
    messages = [payload.side_bits[part] for payload in payloads for part in parts]
    return {
        "parts": np.asarray(parts),
        "messages": np.frombuffer(b"".join(messages), np.uint8),
        "message_bytes": np.asarray([len(message) for message in messages], np.int64),
        "symbols": np.concatenate([payload.symbols for payload in payloads]),
        "num_symbols": np.asarray([payload.symbols.size for payload in payloads], np.int64),
        "motion_bits": np.asarray([payload.num_motion_bits for payload in payloads], np.float64),
    }


def _unpacked(found: Mapping[str, np.ndarray]) -> tuple[Payload, ...]:
    parts, sizes = [str(part) for part in found["parts"]], found["num_symbols"]
    ends = np.cumsum(found["message_bytes"])
    messages = [piece.tobytes() for piece in np.split(found["messages"], ends[:-1])]
    symbols = np.split(found["symbols"], np.cumsum(sizes)[:-1])
    return tuple(
        Payload(
            symbols[index],
            dict(zip(parts, messages[index * len(parts) :], strict=False)),
            float(found["motion_bits"][index]),
        )
        for index in range(len(sizes))
    )


def _checksum(fields: Mapping[str, np.ndarray]) -> str:
    """Digest of everything in an entry but the checksum."""
    names = sorted(set(fields) - {"checksum"})
    about = json.dumps([[name, str(fields[name].dtype), fields[name].shape] for name in names])
    return digest(about, *(np.ascontiguousarray(fields[name]).tobytes() for name in names))
