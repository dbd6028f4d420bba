"""The index of a folder of coded GOPs: ``index.json``, and the hashes of the coded pictures.

Bitstreams coded beforehand: a codec like any other, of which only the encoding is skipped.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from pvsc_link.codecs.base import check_frames, check_option
from pvsc_link.codecs.libav import decode_rgb, libav_version
from pvsc_link.types import CodecFailure, EncodedGop, InputError

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


#: Streams that come with the package: ``vtm`` and ``hm`` of the embedded clips.
PACKAGED_STREAMS = Path(__file__).parent / "streams"


class Precoded:
    """Looks a GOP up by clip, first frame, length and QP, and decodes it with libav.

    Parameters
        index : folder with ``index.json``
        variant : codec of the index to take; needed where it holds streams of several

    Raises ``InputError`` for a folder without a usable index, or an unknown variant.
    """

    name = "precoded"

    def __init__(self, *, index: str | Path, variant: str | None = None):
        self.folder = Path(index).expanduser()
        entries = read_index(self.folder)
        codecs = sorted({entry.codec for entry in entries})
        if variant is None and len(codecs) != 1:
            raise InputError(
                f"variant of {self.folder / INDEX_FILE}",
                found=variant,
                allowed=", ".join(codecs) or "(the index is empty)",
                remedy="State the variant.",
            )
        self.variant = codecs[0] if variant is None else variant
        check_option(f"variant of {self.folder / INDEX_FILE}", self.variant, codecs)
        self.entries = [entry for entry in entries if entry.codec == self.variant]
        self._hashes = read_hashes(self.folder)

    @property
    def allowed_rates(self) -> list[int]:
        return sorted({entry.qp for entry in self.entries})

    @property
    def version(self) -> str:
        digest = hashlib.sha256((self.folder / INDEX_FILE).read_bytes()).hexdigest()[:16]
        return f"{self.variant}, index sha256 {digest}, decoded by {libav_version()}"

    def check(self) -> None:
        """Raise ``InputError`` when the index names files that are not there."""
        missing = [e.file for e in self.entries if not (self.folder / e.file).is_file()]
        if missing:
            raise InputError(
                f"streams of {self.folder / INDEX_FILE}",
                found=f"{len(missing)} files absent, first {missing[0]}",
                allowed="every file that the index names",
                remedy="Copy the whole folder.",
            )

    def describe(self, rate: int) -> str:
        """Command that coded the first GOP at ``rate``."""
        found = [entry.options for entry in self.entries if entry.qp == rate]
        return found[0] if found else f"no stream at QP {rate} in {self.folder}"

    def find(self, clip: str, first_frame: int, num_frames: int, rate: int) -> StreamEntry | None:
        """The stream of one GOP, or None."""
        for entry in self.entries:
            wanted = (entry.first_frame, entry.gop, entry.qp) == (first_frame, num_frames, rate)
            if wanted and entry.is_of(clip):
                return entry
        return None

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """Look one GOP up; see ``Codec.encode``.

        ``EncodedGop.note`` says when ``frames`` are not the pictures that were coded.
        Raises ``CodecFailure``: ``missing_stream`` where the index has no such GOP, ``codec_error``
        for a file that is damaged or of another size.
        """
        check_frames(frames)
        entry = self.find(clip, first_frame, len(frames), rate)
        if entry is None:
            raise CodecFailure("missing_stream", self._absent(clip, first_frame, len(frames), rate))
        payload = self._payload(entry)
        if (entry.height, entry.width) != frames.shape[1:3]:
            size = f"{frames.shape[2]}x{frames.shape[1]}"
            detail = f"{entry.file} is {entry.width}x{entry.height}, the clip {size}"
            raise CodecFailure("codec_error", detail)
        sizes = entry.frame_num_bytes
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=decode_rgb(payload, sizes, entry.format, size=(entry.width, entry.height)),
            command=entry.options,
            version=self.version,
            note=self._source_note(entry, frames),
        )

    def _payload(self, entry: StreamEntry) -> bytes:
        try:
            payload = (self.folder / entry.file).read_bytes()
        except OSError as error:
            raise CodecFailure("codec_error", f"{entry.file}: {error}") from error
        if hashlib.sha256(payload).hexdigest() != entry.sha256:
            raise CodecFailure("codec_error", f"{entry.file} differs from its sha256 in the index")
        if sum(entry.frame_num_bytes) != len(payload):
            detail = (
                f"{entry.file}: {len(payload)} bytes, {sum(entry.frame_bits)} bits in the index"
            )
            raise CodecFailure("codec_error", detail)
        return payload

    def _source_note(self, entry: StreamEntry, frames: np.ndarray) -> str:
        known = self._hashes.get(entry.clip, [])[entry.first_frame :][: entry.gop]
        if len(known) < entry.gop:
            return "precoded: the coded pictures have no hashes, the source is unchecked"
        pairs = zip(known, frame_hashes(frames), strict=True)
        changed = sum(coded != own for coded, own in pairs)
        if not changed:
            return ""
        return f"precoded: {changed} of {entry.gop} source frames differ from the coded pictures"

    def _absent(self, clip: str, first_frame: int, num_frames: int, rate: int) -> str:
        held = sorted({(e.clip, e.gop, e.qp) for e in self.entries if e.is_of(clip)})
        others = sorted({entry.clip for entry in self.entries})
        has = f"GOP lengths and QPs {[h[1:] for h in held]}" if held else f"clips {others}"
        return (
            f"no {self.variant} stream of {clip or 'an unnamed clip'}, frames {first_frame} to "
            f"{first_frame + num_frames - 1}, QP {rate} in {self.folder}; it holds {has}"
        )
