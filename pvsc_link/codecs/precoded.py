"""Bitstreams that were coded beforehand, so that a slow encoder runs once.

A folder holds one file per GOP and rate, ``index.json`` that describes the files, and hashes of the
pictures that were coded. :class:`Precoded` is a codec that looks GOPs up in such a folder;
:func:`export_streams` writes a folder with any codec whose bitstreams libav decodes.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.codecs.libav import decode_frames, decode_rgb, libav_version
from pvsc_link.options import check_name
from pvsc_link.storage import digest, file_digest, json_digest, write_atomically
from pvsc_link.types import CodecFailure, EncodedGop, InputError, Video

INDEX_FILE = "index.json"
#: Beside the index, or one folder up where several codecs coded the same pictures.
HASHES_FILE = "frames_sha256.json"
FORMATS = ("h264", "hevc", "vvc")


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
        if not isinstance(rows, list):
            raise ValueError("no list of streams")
        return [_entry(dict(row)) for row in rows]
    except FileNotFoundError as error:
        raise _bad_index(path, "no such file") from error
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise _bad_index(path, f"{type(error).__name__}: {error}") from error


def _entry(row: dict) -> StreamEntry:
    known = {name: value for name, value in row.items() if name in _FIELDS}
    for name, value in known.items():
        _check_field(name, value)
    entry = StreamEntry(**known | {"frame_bits": tuple(int(bits) for bits in row["frame_bits"])})
    if entry.gop != len(entry.frame_bits) or any(bits % 8 for bits in entry.frame_bits):
        raise ValueError(f"frame_bits of {entry.file} are not {entry.gop} numbers of whole bytes")
    if entry.format not in FORMATS:
        raise ValueError(f"format {entry.format!r} of {entry.file} is not one of {FORMATS}")
    return entry


_TEXTS = ("codec", "clip", "file", "options", "sha256", "format", "pixel_format", "source")
#: Bounds of the whole numbers of an entry.
_WHOLE = {
    **{name: (1, 2**16) for name in ("width", "height", "gop")},
    **{name: (0, 2**31 - 1) for name in ("gop_index", "first_frame")},
    "qp": (-128, 255),
}
_MOST_BITS = 2**32


def _check_field(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless a field has its type and is in its bounds."""
    if name in (*_TEXTS, "slice_types"):
        good = isinstance(value, str) and len(value) <= 10_000
        if name == "file":  # a stream lies in the folder of the index
            good = good and bool(value) and not _leads_out(value)
    elif name in _WHOLE:
        least, most = _WHOLE[name]
        good = type(value) is int and least <= value <= most
    elif name == "fps":
        good = type(value) in (int, float) and 0 < value <= 1000
    else:
        good = isinstance(value, list | tuple) and all(
            type(bits) is int and 0 <= bits <= _MOST_BITS for bits in value
        )
    if not good:
        raise ValueError(f"{name} is {value!r:.60}")


def _leads_out(file: str) -> bool:
    path = PurePath(file)
    return path.is_absolute() or ".." in path.parts or "\0" in file


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
    write_atomically(folder / INDEX_FILE, f"[\n{lines}\n]\n")


def frame_hashes(frames: np.ndarray) -> list[str]:
    """First 16 hexadecimal digits of the SHA-256 of every frame's RGB bytes."""
    return [digest(frame)[:16] for frame in frames]


def read_hashes(folder: Path) -> dict[str, list[str]]:
    """Hashes of the coded pictures by clip, from the folder or the one above; else empty.

    Raises ``InputError`` for a file that holds anything else.
    """
    for path in (folder / HASHES_FILE, folder.parent / HASHES_FILE):
        if not path.exists():
            continue
        try:
            hashes = json.loads(path.read_text(encoding="utf-8"))
            if all(isinstance(h, str) for of_clip in hashes.values() for h in iter(of_clip)):
                return {clip: list(of_clip) for clip, of_clip in hashes.items()}
            reason = "hashes that are no text"
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"hashes of coded pictures {path}",
            found=reason[:200],
            allowed="a mapping of clips to lists of hashes, as the export writes it",
            remedy="Export the streams again, or remove the file: the source is then unchecked.",
        )
    return {}


def write_hashes(folder: Path, hashes: dict[str, list[str]]) -> None:
    """Write ``folder/frames_sha256.json``: per clip, one hash per frame from frame 0 on."""
    write_atomically(folder / HASHES_FILE, json.dumps(hashes, indent=0) + "\n")


#: Streams that come with the package: of the embedded clips, by ``vtm`` and ``hm``.
PACKAGED_STREAMS = Path(__file__).parent / "streams"


class Precoded(Codec):
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
        check_name(f"variant of {self.folder / INDEX_FILE}", self.variant, codecs)
        self.entries = [entry for entry in entries if entry.codec == self.variant]
        self.allowed_rates = sorted({entry.qp for entry in self.entries})
        self.stream_format = self.entries[0].format if self.entries else None
        self._hashes = read_hashes(self.folder)

    @property
    def version(self) -> str:
        stamp = file_digest(self.folder / INDEX_FILE)[:16]
        other = f" (changed files: {json_digest(self._digests)[:16]})" if self._changed else ""
        return f"{self.variant}, index sha256 {stamp}{other}, decoded by {libav_version()}"

    @cached_property
    def content(self) -> dict[str, str]:  # type: ignore[override]
        """Digest of every stream as it lies there and of what the index says of its frames."""
        return {
            f"{e.clip} gop {e.gop} frame {e.first_frame} QP {e.qp}": digest(
                self._digests[e.file], str((e.width, e.height, e.format, e.frame_bits))
            )[:16]
            for e in self.entries
        }

    @cached_property
    def _digests(self) -> dict[str, str]:
        """SHA-256 by file; empty for one that cannot be read."""
        return {entry.file: _digest_or_nothing(self.folder / entry.file) for entry in self.entries}

    @property
    def _changed(self) -> bool:
        """Whether a file is not the one that the index states: no cache may stand for it."""
        return any(self._digests[entry.file] != entry.sha256 for entry in self.entries)

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
        if digest(payload) != entry.sha256:
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


def _digest_or_nothing(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return ""


@dataclass(frozen=True)
class _Job:
    """One GOP at one rate that is to be coded."""

    gop_index: int
    first_frame: int
    rate: int


def export_streams(
    codec: Codec,
    video: Video,
    *,
    gop: int,
    rates: Sequence[int],
    folder: Path,
    workers: int = 1,
    on_done: Callable[[StreamEntry], None] = lambda entry: None,
) -> list[StreamEntry]:
    """Encode every whole GOP of ``video`` at every rate into ``folder`` and its ``index.json``.

    Parameters: ``gop`` : frames per GOP; ``workers`` : encoders at a time; ``on_done`` : called
    after each stream. Streams that the folder already holds (same codec, clip, GOP and QP, with
    an intact file) are kept, so that a stopped export can be continued.
    Output: the entries of this video, in order of GOP and rate.
    Raises ``InputError`` for a video shorter than a GOP, for pictures other than those of the
    folder, and for a codec whose bitstreams libav cannot decode; ``CodecFailure`` of the first
    encode that fails, with everything before it kept.
    """
    _require_exportable(codec, video, gop)
    codec.check()
    for rate in rates:
        check_rate(codec, rate)
    folder.mkdir(parents=True, exist_ok=True)
    _add_hashes(folder, video)
    held = read_index(folder) if (folder / INDEX_FILE).exists() else []
    index = {_key(entry): entry for entry in held if _is_intact(folder / entry.file, entry)}
    jobs = [
        _Job(start // gop, video.first_frame + start, rate)
        for start in range(0, len(video.frames) - gop + 1, gop)
        for rate in rates
    ]
    keys = {job: (_label(codec), video.name, gop, job.first_frame, job.rate) for job in jobs}
    missing = [job for job in jobs if keys[job] not in index]
    for entry in _encode_all(codec, video, gop, missing, folder, workers):
        index[_key(entry)] = entry
        write_index(folder, index.values())
        on_done(entry)
    return [index[keys[job]] for job in jobs]


def _require_exportable(codec: Codec, video: Video, gop: int) -> None:
    if codec.stream_format is None:
        raise InputError(
            "codec to export",
            found=codec.name,
            allowed=f"codecs of the formats that libav decodes: {', '.join(FORMATS)}",
            remedy="Run the sweep where this codec is; its GOPs are kept in the cache.",
        )
    if gop < 1 or len(video.frames) < gop:
        raise InputError(
            f"GOP of {video.name}",
            found=gop,
            allowed=f"1 to {len(video.frames)} frames",
            remedy="Choose a shorter GOP, or read more frames.",
        )


def _key(entry: StreamEntry) -> tuple:
    return entry.codec, entry.clip, entry.gop, entry.first_frame, entry.qp


def _label(codec: Codec) -> str:
    """What rows of the exported streams carry as their variant."""
    return f"{codec.name} ({codec.variant})" if codec.variant else codec.name


def _is_intact(path: Path, entry: StreamEntry) -> bool:
    return path.is_file() and file_digest(path) == entry.sha256


def _encode_all(
    codec: Codec, video: Video, gop: int, jobs: Sequence[_Job], folder: Path, workers: int
) -> Iterator[StreamEntry]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(_encode_into, folder, codec, video, gop, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _encode_into(folder: Path, codec: Codec, video: Video, gop: int, job: _Job) -> StreamEntry:
    start = job.first_frame - video.first_frame
    frames = video.frames[start : start + gop]
    coded = codec.encode(frames, video.fps, job.rate, clip=video.name, first_frame=job.first_frame)
    stream_format = str(codec.stream_format)
    decoded = decode_frames(coded.payload, coded.frame_num_bytes, stream_format)
    slices = {1: "I", 2: "P", 3: "B"}  # libav's AVPictureType
    file = f"{video.name}_gop{gop}/qp{job.rate}_f{job.first_frame}.bin"
    write_atomically(folder / file, coded.payload)
    return StreamEntry(
        codec=_label(codec),
        clip=video.name,
        width=frames.shape[2],
        height=frames.shape[1],
        fps=video.fps,
        gop=gop,
        gop_index=job.gop_index,
        first_frame=job.first_frame,
        qp=job.rate,
        file=file,
        frame_bits=tuple(8 * n for n in coded.frame_num_bytes),
        options=coded.command,
        sha256=digest(coded.payload),
        format=stream_format,
        pixel_format=f"{decoded[0].format.name}, BT.709 limited range, from 8-bit RGB",
        source=f"{Path(video.source).name}; {coded.version}",
        slice_types="".join(slices.get(int(frame.pict_type), "?") for frame in decoded),
    )


def _add_hashes(folder: Path, video: Video) -> None:
    """Hashes of the clip's pictures from frame 0 on; unknown ones before the first stay empty."""
    hashes = read_hashes(folder)
    own = frame_hashes(video.frames)
    known = list(hashes.get(video.name, []))
    known += [""] * (video.first_frame + len(own) - len(known))
    span = slice(video.first_frame, video.first_frame + len(own))
    if any(old and old != new for old, new in zip(known[span], own, strict=True)):
        raise InputError(
            f"pictures of {video.name}",
            found="other pictures than those already coded",
            allowed=f"the source of the streams in {folder}",
            remedy="Export into a folder of its own.",
        )
    known[span] = own
    write_hashes(folder, hashes | {video.name: known})
