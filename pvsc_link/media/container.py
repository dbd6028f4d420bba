"""Video files through libav: which stream is shown, its frames, and whether the file is whole.

A file that is cut or damaged gives every frame before the damage and then raises, so that what was
made from finished GOPs is kept.
"""

import struct
from collections.abc import Generator, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from pvsc_link.media.colour import ColourOptions, colour_notes, shown_rgb
from pvsc_link.types import InputError

#: Most pixels of a picture: 8192 x 8192. Larger ones would fill the memory.
MAX_PIXELS = 2**26
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
#: Flag of an index entry that an edit list hides (``AVINDEX_DISCARD_FRAME``).
_HIDDEN = 2
#: Ratio of the longest to the shortest time between frames from which a rate counts as variable.
_VARIABLE = 1.5


class Notes(list[str]):
    """What was done with a source, each thing once, in the order in which it was met."""

    def add(self, note: str) -> None:
        if note not in self:
            self.append(note)


def container_facts(path: Path, notes: Notes) -> tuple[float | None, int | None]:
    """Frames per second and number of frames that are shown, as far as the header says."""
    with _open(path) as container:
        stream = _shown_stream(container, path)
        rate, seconds = stream.average_rate, container.duration
        length = _num_shown(container, stream)
        _note_stream(container, stream, notes)
    if not length and rate and seconds:
        length = round(seconds / av.time_base * rate)  # an estimate: mkv counts no frames
    return (float(rate) if rate else None), length or None


def iter_container(
    path: Path, first_frame: int, colours: ColourOptions, notes: Notes
) -> Generator[np.ndarray, None, None]:
    """Frames from ``first_frame`` on, uint8 RGB [height, width, 3].

    Decodes from the start and converts only what is asked: exact for every container, unlike seek.
    Several threads decode a sound file. A damaged one is decoded again by one thread, because only
    then the same frames come before the damage every time.
    """
    reason = missing_bytes(path)
    threads = 1 if reason else 0
    done = 0
    frames = _decoded(path, threads, reason, notes)
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except InputError:
            if threads == 1:
                raise
            threads = 1
            frames = islice(_decoded(path, threads, reason, notes), done, None)
            continue
        if done >= first_frame:
            yield _converted(path, frame, colours, notes)
        done += 1


def _converted(
    path: Path, frame: av.VideoFrame, colours: ColourOptions, notes: Notes
) -> np.ndarray:
    try:
        for note in colour_notes(frame, colours):
            notes.add(note)
        return shown_rgb(frame, colours)
    except InputError as error:
        raise InputError(
            f"{error.what} ({path})",
            found=error.found,
            allowed=error.allowed,
            remedy=error.remedy,
        ) from error


def unreadable(path: Path, reason: object) -> InputError:
    """The error of a file that libav cannot read, or not to its end."""
    return InputError(
        f"video {path}",
        found=str(reason),
        allowed="a complete file that libav decodes (mp4, mkv, y4m, ...)",
        remedy="Play the file to check it; copy or convert it again.",
    )


def _open(path: Path) -> av.container.InputContainer:
    # "file:" and the whitelist keep libav off the network, whatever the name or a playlist says.
    try:
        container = av.open(
            f"file:{path.absolute()}",
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except (FFmpegError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        _shown_stream(container, path)
    except InputError:
        container.close()
        raise
    return container


def _shown_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The stream that a player shows: the default one, then the largest, and never a cover."""
    videos = [s for s in container.streams.video if not s.disposition & _PICTURES]
    if videos:
        best = max(videos, key=_rank)
        if best.codec_context is None:
            raise unreadable(path, "a video stream of an unknown codec")
        if best.width * best.height > MAX_PIXELS:
            raise unreadable(path, f"pictures of {best.width}x{best.height}: too large")
        return best
    if not container.streams.video:
        raise unreadable(path, "no video stream")
    raise unreadable(path, "no video stream, only a cover picture")


def _rank(stream: av.VideoStream) -> tuple[bool, int, int]:
    known = stream.codec_context is not None  # else libav has no decoder, and there is no size
    size = (stream.width or 0) * (stream.height or 0) if known else 0
    return bool(stream.disposition & Disposition.default), size, -stream.index


def _num_shown(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Frames that the header promises, without those that an edit list hides; 0: not told."""
    if "mp4" in container.format.name and stream.frames:
        entries = stream.index_entries
        if len(entries) >= stream.frames:
            return sum(not entry.flags & _HIDDEN for entry in entries)
        return len(entries) and min(stream.frames, len(entries))
    return stream.frames


def _note_stream(
    container: av.container.InputContainer, stream: av.VideoStream, notes: Notes
) -> None:
    others = len(container.streams.video) - 1
    if others:
        notes.add(f"video stream {stream.index} is read; {others} more, or covers, are left out")
    shown = _num_shown(container, stream)
    if stream.frames and shown != stream.frames:
        notes.add(f"edit list: {shown} of {stream.frames} stored frames are shown")
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        notes.add(
            f"samples are not square ({aspect.numerator}:{aspect.denominator}): frames are read "
            f"as stored, {stream.width}x{stream.height}"
        )
    if stream.metadata.get("alpha_mode") == "1":
        notes.add("alpha channel of the file dropped; colours are read as stored")


def _decoded(
    path: Path, threads: int, missing: str | None, notes: Notes
) -> Iterator[av.VideoFrame]:
    """Every shown frame; raises ``InputError`` at the first damage or a missing end.

    Parameters: ``threads`` : 0 for as many as libav likes; ``missing`` : why the file is known to
    be cut, if it is.
    """
    with _open(path) as container:
        stream = _shown_stream(container, path)
        stream.codec_context.thread_count = threads
        stream.codec_context.thread_type = "AUTO" if threads != 1 else "SLICE"
        promised = _num_shown(container, stream)
        times, count, end = _Times(stream, notes), 0, 0
        flushed = False
        packets = container.demux(stream)
        try:
            for packet in packets:
                flushed = packet.size == 0
                if packet.is_corrupt:
                    raise unreadable(path, f"a damaged packet after frame {count - 1}")
                end = max(end, (packet.pos or 0) + packet.size)
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise unreadable(path, f"frame {count} is damaged")
                    if missing and flushed and times.gap_before(frame):
                        break  # a frame that should come in between lies behind the cut
                    times.add(frame)
                    yield frame
                    count += 1
        except FFmpegError as error:
            if not flushed:
                for frame in _held_back(stream, times):
                    yield frame
                    count += 1
            reason = missing or error
            raise unreadable(path, f"{reason} after frame {count - 1}") from error
        is_y4m = container.format.name == "yuv4mpegpipe"
    if not missing and is_y4m and end < path.stat().st_size:
        missing = f"it ends inside a frame ({path.stat().st_size - end} bytes are left)"
    if missing:
        raise unreadable(path, f"{missing}, after frame {count - 1}")
    if count < promised:
        raise unreadable(path, f"{count} of the {promised} frames that its header names")


def _held_back(stream: av.VideoStream, times: "_Times") -> Iterator[av.VideoFrame]:
    """Frames that the decoder still held when the file broke off, up to the first gap."""
    try:
        frames = stream.codec_context.decode(None)
    except FFmpegError:
        return
    for frame in frames:
        if frame.is_corrupt or times.gap_before(frame):
            return
        times.add(frame)
        yield frame


class _Times:
    """Watches the times of frames, for gaps and for a variable rate."""

    def __init__(self, stream: av.VideoStream, notes: Notes):
        self._unit = stream.time_base or Fraction(1)
        self._notes = notes
        self._last: int | None = None
        self._shortest: int | None = None
        self._longest = 0

    def add(self, frame: av.VideoFrame) -> None:
        if frame.pts is None:
            return
        step = frame.pts - self._last if self._last is not None else 0
        self._last = frame.pts
        if step <= 0:
            return
        self._shortest = min(step, self._shortest or step)
        self._longest = max(step, self._longest)
        if self._longest > _VARIABLE * self._shortest and self._shortest * self._unit > 0.002:
            self._notes.add(
                "variable frame rate, or gaps between frames: frames are read one after the other, "
                "none repeated or dropped, and the mean rate is used"
            )

    def gap_before(self, frame: av.VideoFrame) -> bool:
        """Whether a frame is missing between the last one and this, as far as the times tell."""
        if frame.pts is None or self._last is None or self._shortest is None:
            return False
        return frame.pts - self._last > _VARIABLE * self._shortest


def missing_bytes(path: Path) -> str | None:
    """That a file is shorter than its own structure says; ``None`` if it is not, or says nothing.

    Lengths are stated by mp4 and mov, mkv and webm, avi, and flv. An ogg file marks its last page,
    and a transport stream consists of whole packets. A recording that never ended tells nothing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            end = _end_of_boxes(file, size)
        elif head[:4] == b"RIFF":
            end = 8 + struct.unpack("<I", head[4:8])[0] if head[4:8] != b"\xff" * 4 else 0
        elif head[:4] == b"\x1a\x45\xdf\xa3":
            end = _end_of_segment(head)
        elif head[:3] == b"FLV":
            end = _end_of_tags(file, size)
        elif head[:1] == b"G" and head[188:189] == b"G":
            end = -(-size // 188) * 188
        elif head[:4] == b"OggS":
            file.seek(max(size - 2**17, 0))
            return None if _is_last_page(file.read().rpartition(b"OggS")[2]) else "the file is cut"
        else:
            return None
    if end > size:
        return f"the file is cut: {size} of {end} bytes are there"
    return None


def _is_last_page(page: bytes) -> bool:
    """Whether an ogg page, from behind its mark on, is whole and ends its stream (RFC 3533)."""
    if len(page) < 23 or not page[1] & 4:
        return False
    table = page[23 : 23 + page[22]]
    return len(page) >= 23 + page[22] + sum(table)


def _end_of_tags(file: BinaryIO, size: int) -> int:
    """Where the last tag of a Flash video ends."""
    start = 13
    while start < size:
        file.seek(start)
        start += 15 + int.from_bytes(file.read(4)[1:], "big")
    return start


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Where the last box of an ISO base media file ends (ISO/IEC 14496-12, 4.2)."""
    start = 0
    while start < size:
        file.seek(start)
        head = file.read(16)
        if len(head) < 8 or not head[4:8].isascii() or not head[4:8].strip(b"\0"):
            return start  # bytes after the last box, which are no box
        length = struct.unpack(">I", head[:4])[0]
        if length == 1 and len(head) == 16:
            length = struct.unpack(">Q", head[8:])[0]
        elif length == 0:  # up to the end of the file
            return size
        if length < 8:
            return start
        start += length
    return start


def _end_of_segment(head: bytes) -> int:
    """Where the segment of a Matroska file ends; 0 where its size is not stated (RFC 8794)."""

    def number(at: int) -> tuple[int, int]:
        length = 9 - head[at].bit_length()
        value = int.from_bytes(head[at : at + length], "big") - (1 << (7 * length))
        return at + length, (0 if value == (1 << (7 * length)) - 1 else value)

    start, header = number(4)
    segment = start + header
    if head[segment : segment + 4] != b"\x18\x53\x80\x67" or segment + 12 > len(head):
        return 0
    start, length = number(segment + 4)
    return start + length if length else 0
