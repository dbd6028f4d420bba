"""Video in: containers through libav, raw planar YUV and pictures, as 8-bit RGB of BT.709.

What is converted, refused and noted is told in ``docs/own_video.md``.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pvsc_link.media.colour import ColourOptions, colour_notes
from pvsc_link.media.container import Notes, container_facts, iter_container
from pvsc_link.media.images import READABLE, image_files, iter_images
from pvsc_link.media.pixels import decoded_source_to_rgb, frame_of_planes, yuv444_to_rgb
from pvsc_link.types import InputError, Video

#: Frame rate of sources that carry none (raw files, image folders).
DEFAULT_FPS = 30.0
RAW_SUFFIXES = (".yuv", ".raw")
#: Planar formats of raw files; 10 bits are stored as 16-bit little endian words.
RAW_FORMATS = ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le")


@dataclass(frozen=True)
class FrameStream:
    """A video that is read frame by frame; close ``frames`` when done."""

    name: str
    frames: Generator[np.ndarray, None, None]  # uint8 RGB [height, width, 3], BT.709
    fps: float
    num_frames: int | None  # frames to come, as far as the source says
    #: What was converted or left out; complete when all frames have been read.
    notes: list[str] = field(default_factory=list)


def read_video(
    source: str | Path,
    *,
    first_frame: int = 0,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    pixel_format: str | None = None,
    fps: float | None = None,
    matrix: str | None = None,
    sample_range: str | None = None,
    hdr: Literal["refuse", "tone_map"] = "refuse",
) -> Video:
    """Frames ``first_frame`` .. ``first_frame + num_frames - 1`` of a video, nothing else kept.

    Parameters
        source : path of an mp4, mkv, y4m (or anything that libav opens), a raw ``.yuv`` file,
            a picture, or a folder of pictures in the order of the numbers in their names
        num_frames : frames asked; ``None`` reads to the end
        size, pixel_format : (width, height) in pixels and one of ``RAW_FORMATS``, for a raw file
        fps : frames per second; needed where the source has none (default 30)
        matrix : ``"bt709"``, ``"bt601"`` or another of ``pixels.MATRICES``, in place of the tag of
            the file; an untagged file is BT.709
        sample_range : ``"limited"`` or ``"full"``, in place of the tag; an untagged file is limited
        hdr : ``"tone_map"`` makes SDR of PQ and HLG (``colour.tone_mapped``)

    Output: ``Video`` with frames [num_frames, height, width, 3], uint8 RGB (BT.709).

    Raises ``InputError`` for a missing, unreadable or truncated source, for fewer frames than
    asked, for a raw file without a size, and for colours that are not converted (HDR unless
    ``hdr`` asks for it, transparent pixels, ...).
    """
    path = _existing(source)
    _check_request(path, first_frame, num_frames)
    stream = stream_video(
        path,
        first_frame=first_frame,
        size=size,
        pixel_format=pixel_format,
        fps=fps,
        matrix=matrix,
        sample_range=sample_range,
        hdr=hdr,
    )
    with closing(stream.frames):
        stack = list(islice(stream.frames, num_frames))
    _check_count(path, len(stack), first_frame, num_frames)
    for index, frame in enumerate(stack):
        if frame.shape != stack[0].shape:
            raise InputError(
                f"size of video {path}",
                found=f"{frame.shape[1]}x{frame.shape[0]} at frame {first_frame + index}",
                allowed=f"{stack[0].shape[1]}x{stack[0].shape[0]}, the size of its first frame",
                remedy="Cut the video where its size changes, or scale it.",
            )
    frames = np.stack(stack)
    return Video(path.stem, frames, stream.fps, str(path), first_frame, tuple(stream.notes))


def stream_video(
    source: str | Path,
    *,
    first_frame: int = 0,
    size: tuple[int, int] | None = None,
    pixel_format: str | None = None,
    fps: float | None = None,
    matrix: str | None = None,
    sample_range: str | None = None,
    hdr: Literal["refuse", "tone_map"] = "refuse",
) -> FrameStream:
    """The frames from ``first_frame`` on, one after the other, none of them kept.

    Parameters as in :func:`read_video`. Raises ``InputError`` for a missing or unreadable source
    here. For a truncated or damaged one every frame before the damage comes first.
    """
    path = _existing(source)
    _check_request(path, first_frame, None)
    colours, notes = ColourOptions(matrix, sample_range, hdr), Notes()
    length: int | None
    if path.is_dir() or path.suffix.lower() in READABLE:
        files = image_files(path) if path.is_dir() else [path]
        frames, length = iter_images(files[first_frame:], colours, notes), len(files)
    elif path.suffix.lower() in RAW_SUFFIXES:
        layout = _raw_layout(path, size, pixel_format)
        length = _num_raw_frames(path, layout)
        frames = _iter_raw(path, layout, first_frame, colours, notes)
    else:
        source_fps, length = container_facts(path, notes)
        frames = iter_container(path, first_frame, colours, notes)
        fps = fps or source_fps
    remaining = max(length - first_frame, 0) if length else None
    return FrameStream(path.stem, frames, float(fps or DEFAULT_FPS), remaining, notes)


def _existing(source: str | Path) -> Path:
    """The path of a source that is a file or a folder; ``InputError`` for anything else."""
    found = str(source) if len(str(source)) < 200 else f"{str(source)[:200]}..."
    try:
        path = Path(source).expanduser()
        if path.is_file() or path.is_dir():
            return path
        what = "neither a file nor a folder" if path.exists() else ""
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, an unknown user
        what = str(error)[:200]
    raise InputError(
        "video",
        found=f"{found} ({what})" if what else found,
        allowed="an existing file or folder",
        remedy="Check the path.",
    )


def _check_request(path: Path, first_frame: int, num_frames: int | None) -> None:
    if first_frame < 0 or (num_frames is not None and num_frames < 1):
        raise InputError(
            f"frames asked of {path}",
            found=f"first_frame={first_frame}, num_frames={num_frames}",
            allowed="first_frame >= 0 and num_frames >= 1",
            remedy="Correct the two numbers.",
        )


def _check_count(path: Path, got: int, first_frame: int, num_frames: int | None) -> None:
    wanted = 1 if num_frames is None else num_frames
    if got < wanted:
        raise InputError(
            f"frames asked of {path}",
            found=f"{got} frames from frame {first_frame} on",
            allowed=f"at least {wanted}",
            remedy="Ask for fewer frames (GOPs), or give a longer video.",
        )


@dataclass(frozen=True)
class _RawLayout:
    """Size and format of the frames of a raw planar file, which has no header."""

    width: int
    height: int
    pixel_format: str

    @property
    def bits(self) -> int:
        return 10 if self.pixel_format.endswith("10le") else 8

    @property
    def plane_shapes(self) -> list[tuple[int, int]]:
        step = 2 if self.pixel_format.startswith("yuv420p") else 1
        return [(self.height, self.width), *[(self.height // step, self.width // step)] * 2]

    @property
    def frame_num_bytes(self) -> int:
        return sum(rows * columns for rows, columns in self.plane_shapes) * (1 + (self.bits > 8))

    def frame_to_rgb(self, data: bytes, colours: ColourOptions, notes: Notes) -> np.ndarray:
        """One frame's bytes as uint8 RGB [height, width, 3]."""
        samples = np.frombuffer(data, "u1" if self.bits == 8 else "<u2")
        if (top := int(samples.max())) >= 2**self.bits:
            shifted = " in the upper bits of its word" if not np.any(samples & 63) else ""
            raise InputError(
                f"samples of a raw video of {self.pixel_format}",
                found=f"a value of {top}{shifted}",
                allowed=f"0 to {2**self.bits - 1}: {self.bits} bits in the lower bits of a word",
                remedy="Samples that are shifted to the upper bits (MSB-aligned, as in P010), or "
                "big endian, have to be converted first, for instance by ffmpeg -pix_fmt.",
            )
        ends = np.cumsum([rows * columns for rows, columns in self.plane_shapes])
        parts = np.split(samples, ends[:-1])
        planes = [p.reshape(shape) for p, shape in zip(parts, self.plane_shapes, strict=True)]
        stated: dict[str, Any] = {"matrix": colours.matrix, "sample_range": colours.sample_range}
        frame = frame_of_planes(planes, self.pixel_format)
        for note in colour_notes(frame, colours):
            notes.add(note)
        if self.pixel_format.startswith("yuv444p") and not any(stated.values()):
            return yuv444_to_rgb(np.stack(planes), bits=self.bits)
        return decoded_source_to_rgb(frame, **stated)


def _raw_layout(path: Path, size: tuple[int, int] | None, pixel_format: str | None) -> _RawLayout:
    name = pixel_format or "yuv420p"
    if name not in RAW_FORMATS:
        raise InputError(
            f"pixel format of raw video {path}",
            found=name,
            allowed=", ".join(RAW_FORMATS),
            remedy="Convert the file, or state the format that it really has.",
        )
    step = 2 if name.startswith("yuv420p") else 1
    if size is None or len(size) != 2 or any(n < step or n % step for n in size):
        raise InputError(
            f"size of raw video {path}",
            found=size,
            allowed=f"(width, height), positive multiples of {step}",
            remedy="A raw file has no header: pass size=(width, height).",
        )
    return _RawLayout(*size, name)


def _num_raw_frames(path: Path, layout: _RawLayout) -> int:
    total, frame = path.stat().st_size, layout.frame_num_bytes
    if total == 0 or total % frame:
        raise InputError(
            f"length of raw video {path}",
            found=f"{total} bytes",
            allowed=f"a multiple of {frame} bytes (one frame of {layout.width}x{layout.height})",
            remedy="Check size and pixel_format, or copy the file again if it was cut.",
        )
    return total // frame


def _iter_raw(
    path: Path, layout: _RawLayout, first_frame: int, colours: ColourOptions, notes: Notes
) -> Generator[np.ndarray, None, None]:
    with path.open("rb") as file:
        file.seek(first_frame * layout.frame_num_bytes)
        while len(data := file.read(layout.frame_num_bytes)) == layout.frame_num_bytes:
            yield layout.frame_to_rgb(data, colours, notes)


def write_raw_yuv444(path: Path, yuv: np.ndarray) -> None:
    """Write 4:4:4 code values as planar 16-bit little endian words, for external encoders.

    Input: ``yuv`` : [num_frames, 3, height, width], uint16.
    """
    Path(path).write_bytes(np.ascontiguousarray(yuv, "<u2").tobytes())
