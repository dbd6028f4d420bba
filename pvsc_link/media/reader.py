"""Video in: containers through PyAV, raw planar YUV and folders of PNG images, as 8-bit RGB."""

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, UnidentifiedImageError

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


def read_video(
    source: str | Path,
    *,
    first_frame: int = 0,
    num_frames: int | None = None,
    size: tuple[int, int] | None = None,
    pixel_format: str | None = None,
    fps: float | None = None,
) -> Video:
    """Frames ``first_frame`` .. ``first_frame + num_frames - 1`` of a video, nothing else kept.

    Parameters
        source : path of an mp4, mkv, y4m (or anything that libav opens), a raw ``.yuv`` file,
            or a folder of PNG images in the order of the numbers in their names
        num_frames : frames asked; ``None`` reads to the end
        size, pixel_format : (width, height) in pixels and one of ``RAW_FORMATS``, for a raw file
        fps : frames per second; needed where the source has none (default 30)

    Output: ``Video`` with frames [num_frames, height, width, 3], uint8 RGB (BT.709).

    Raises ``InputError`` for a missing, unreadable or truncated source, for fewer frames than
    asked, and for a raw file without a size.
    """
    path = Path(source).expanduser()
    _check_request(path, first_frame, num_frames)
    stream = stream_video(
        path, first_frame=first_frame, size=size, pixel_format=pixel_format, fps=fps
    )
    with closing(stream.frames):
        stack = list(islice(stream.frames, num_frames))
    _check_count(path, len(stack), first_frame, num_frames)
    return Video(path.stem, np.stack(stack), stream.fps, str(path), first_frame)


def stream_video(
    source: str | Path,
    *,
    first_frame: int = 0,
    size: tuple[int, int] | None = None,
    pixel_format: str | None = None,
    fps: float | None = None,
) -> FrameStream:
    """The frames from ``first_frame`` on, one after the other, none of them kept.

    Parameters as in :func:`read_video`. Raises ``InputError`` for a missing or unreadable source
    here, for a truncated one when its frames are read.
    """
    path = Path(source).expanduser()
    _check_request(path, first_frame, None)
    length: int | None
    if path.is_dir():
        frames, length = _iter_images(path, first_frame), len(_images(path))
    elif path.suffix.lower() in RAW_SUFFIXES:
        layout = _raw_layout(path, size, pixel_format)
        frames, length = _iter_raw(path, layout, first_frame), _num_raw_frames(path, layout)
    else:
        frames = _iter_container(path, first_frame)
        source_fps, length = _container_facts(path)
        fps = fps or source_fps
    remaining = max(length - first_frame, 0) if length else None
    return FrameStream(path.stem, frames, float(fps or DEFAULT_FPS), remaining)


def _check_request(path: Path, first_frame: int, num_frames: int | None) -> None:
    if not path.exists():
        raise InputError(
            "video", found=str(path), allowed="an existing file or folder", remedy="Check the path."
        )
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


def _container_facts(path: Path) -> tuple[float | None, int | None]:
    """Frames per second and number of frames, as far as the header says."""
    with _open(path) as container:
        stream = container.streams.video[0]
        rate, length, seconds = stream.average_rate, stream.frames, container.duration
    if not length and rate and seconds:
        length = round(seconds / av.time_base * rate)  # an estimate: mkv counts no frames
    return (float(rate) if rate else None), length or None


def _open(path: Path) -> av.container.InputContainer:
    try:
        container = av.open(str(path))
    except (FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not container.streams.video:
        container.close()
        raise _unreadable(path, "no video stream")
    return container


def _unreadable(path: Path, reason: object) -> InputError:
    return InputError(
        f"video {path}",
        found=str(reason),
        allowed="a complete file that libav decodes (mp4, mkv, y4m, ...)",
        remedy="Play the file to check it; copy or convert it again.",
    )


def _iter_container(path: Path, first_frame: int) -> Generator[np.ndarray, None, None]:
    """Decode from the start, convert only what is asked: exact for every container, unlike seek."""
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1  # damaged files decode repeatably with one thread only
        count = 0
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise _unreadable(path, f"frame {count} is damaged")
                if count >= first_frame:
                    yield decoded_source_to_rgb(frame)
                count += 1
        except FFmpegError as error:
            raise _unreadable(path, f"{error} after frame {count - 1}") from error
        if count < stream.frames:
            raise _unreadable(path, f"{count} of the {stream.frames} frames that its header names")


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

    def frame_to_rgb(self, data: bytes) -> np.ndarray:
        """One frame's bytes as uint8 RGB [height, width, 3]."""
        samples = np.frombuffer(data, "u1" if self.bits == 8 else "<u2")
        ends = np.cumsum([rows * columns for rows, columns in self.plane_shapes])
        parts = np.split(samples, ends[:-1])
        planes = [p.reshape(shape) for p, shape in zip(parts, self.plane_shapes, strict=True)]
        if self.pixel_format.startswith("yuv444p"):
            return yuv444_to_rgb(np.stack(planes), bits=self.bits)
        return decoded_source_to_rgb(frame_of_planes(planes, self.pixel_format))


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
    path: Path, layout: _RawLayout, first_frame: int
) -> Generator[np.ndarray, None, None]:
    with path.open("rb") as file:
        file.seek(first_frame * layout.frame_num_bytes)
        while len(data := file.read(layout.frame_num_bytes)) == layout.frame_num_bytes:
            yield layout.frame_to_rgb(data)


def write_raw_yuv444(path: Path, yuv: np.ndarray) -> None:
    """Write 4:4:4 code values as planar 16-bit little endian words, for external encoders.

    Input: ``yuv`` : [num_frames, 3, height, width], uint16.
    """
    Path(path).write_bytes(np.ascontiguousarray(yuv, "<u2").tobytes())


def _iter_images(folder: Path, first_frame: int) -> Generator[np.ndarray, None, None]:
    shape: tuple[int, ...] | None = None
    for path in _images(folder)[first_frame:]:
        image = _read_png(path)
        shape = shape or image.shape
        if image.shape != shape:
            raise InputError(
                f"image {path}",
                found=f"{image.shape[1]}x{image.shape[0]}",
                allowed=f"the size of the first image, {shape[1]}x{shape[0]}",
                remedy="Keep one sequence per folder.",
            )
        yield image


def _images(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.suffix.lower() == ".png"]
    return sorted(files, key=_natural_order)


def _read_png(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(
            f"image {path}", found=str(error), allowed="a readable PNG", remedy="Export it again."
        ) from error


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort ``2.png`` before ``10.png``."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
