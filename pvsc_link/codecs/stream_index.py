"""The index of a folder of coded GOPs: ``index.json``, and the hashes of the coded pictures."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from pvsc_link.types import InputError

INDEX_FILE = "index.json"
#: Beside the index, or one folder up where several codecs coded the same pictures.
HASHES_FILE = "frames_sha256.json"
FORMATS = ("h264", "hevc", "vvc")
_HASH_DIGITS = 16


@dataclass(frozen=True)
class StreamEntry:
    """One GOP in a file of its own."""

    codec: str  # e.g. "VTM-17.0"; rows carry it as their variant
    clip: str
    width: int
    height: int
    fps: float
    gop: int  # number of frames
    gop_index: int
    first_frame: int  # index of the first frame in the clip
    qp: int
    file: str  # relative to the index
    frame_bits: tuple[int, ...]  # per frame, in coding order; all bits of the file
    options: str  # literal command
    sha256: str  # of the file
    format: str  # libav's name: h264, hevc or vvc
    pixel_format: str = ""
    source: str = ""
    slice_types: str = ""

    @property
    def frame_num_bytes(self) -> tuple[int, ...]:
        return tuple(bits // 8 for bits in self.frame_bits)

    def is_of(self, clip: str) -> bool:
        """Whether ``clip``, a name or a file such as ``a/name_416x240.mkv``, is this one."""
        own = self.clip.lower()
        names = {clip.lower(), Path(clip).stem.lower()}
        return any(name == own or name.startswith(own + "_") for name in names)


_FIELDS = {field.name for field in fields(StreamEntry)}


def read_index(folder: Path) -> list[StreamEntry]:
    """Entries of ``folder/index.json``; raises ``InputError`` for an absent or malformed one."""
    path = folder / INDEX_FILE
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [_entry(dict(row)) for row in rows]
    except FileNotFoundError as error:
        raise _bad_index(path, "no such file") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _bad_index(path, f"{type(error).__name__}: {error}") from error


def _entry(row: dict) -> StreamEntry:
    known = {name: value for name, value in row.items() if name in _FIELDS}
    entry = StreamEntry(**known | {"frame_bits": tuple(int(bits) for bits in row["frame_bits"])})
    if entry.gop != len(entry.frame_bits) or any(bits % 8 for bits in entry.frame_bits):
        raise ValueError(f"frame_bits of {entry.file} are not {entry.gop} numbers of whole bytes")
    if entry.format not in FORMATS:
        raise ValueError(f"format {entry.format!r} of {entry.file} is not one of {FORMATS}")
    return entry


def _bad_index(path: Path, reason: str) -> InputError:
    return InputError(
        f"index of precoded streams {path}",
        found=reason,
        allowed="a list of streams as `python -m pvsc_link.codecs export` writes it",
        remedy="Give the folder that holds index.json, or export it again.",
    )


def write_index(folder: Path, entries: Iterable[StreamEntry]) -> None:
    """Write ``folder/index.json``, one stream a line."""
    lines = ",\n".join(json.dumps(asdict(entry)) for entry in entries)
    (folder / INDEX_FILE).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def frame_hashes(frames: np.ndarray) -> list[str]:
    """First 16 hexadecimal digits of the SHA-256 of every frame's RGB bytes."""
    return [
        hashlib.sha256(np.ascontiguousarray(frame).tobytes()).hexdigest()[:_HASH_DIGITS]
        for frame in frames
    ]


def read_hashes(folder: Path) -> dict[str, list[str]]:
    """Hashes of the coded pictures by clip, from the folder or the one above; else empty."""
    for path in (folder / HASHES_FILE, folder.parent / HASHES_FILE):
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    return {}


def write_hashes(folder: Path, hashes: dict[str, list[str]]) -> None:
    """Write ``folder/frames_sha256.json``: per clip, one hash per frame from frame 0 on."""
    text = json.dumps(hashes, indent=0)
    (folder / HASHES_FILE).write_text(text + "\n", encoding="utf-8")
