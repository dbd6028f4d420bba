"""Raw planar YUV files: no header, so size and pixel format come from the caller.

Video in: containers through PyAV, raw planar YUV, and folders of PNG images, as 8-bit RGB.
"""

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

from pvsc_link.media.colour import decoded_source_to_rgb, yuv444_to_rgb
from pvsc_link.types import InputError, Video

RAW_SUFFIXES = (".yuv", ".raw")


@dataclass(frozen=True)
class RawFormat:
    """Layout of one planar frame; 10 bits are stored as 16-bit little endian words."""

    chroma: str  # "420" or "444"
    bits: int  # 8 or 10

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("u1" if self.bits == 8 else "<u2")

    def frame_num_bytes(self, width: int, height: int) -> int:
        """Bytes of the three planes of one frame."""
        halves = 6 if self.chroma == "444" else 3
        return halves * width * height // 2 * self.dtype.itemsize


RAW_FORMATS = {
    "yuv420p": RawFormat("420", 8),
    "yuv420p10le": RawFormat("420", 10),
    "yuv444p": RawFormat("444", 8),
    "yuv444p10le": RawFormat("444", 10),
}


def iter_raw_yuv(
    path: Path, *, size: tuple[int, int] | None, pixel_format: str | None, first_frame: int = 0
) -> Generator[np.ndarray, None, None]:
    """Frames of a raw planar file from ``first_frame`` on, each [height, width, 3], uint8 RGB.

    Parameters: ``size`` : (width, height), pixels; ``pixel_format`` : key of ``RAW_FORMATS``.
    Raises ``InputError`` for a missing or odd size, an unknown format, or a file that does not
    hold a whole number of frames.
    """
    layout = _layout(path, pixel_format)
    width, height = _checked_size(path, size, layout)
    num_bytes = layout.frame_num_bytes(width, height)
    num_raw_frames(path, size=size, pixel_format=pixel_format)
    with path.open("rb") as file:
        file.seek(first_frame * num_bytes)
        while len(data := file.read(num_bytes)) == num_bytes:
            yield _frame_to_rgb(np.frombuffer(data, layout.dtype), width, height, layout)


def num_raw_frames(path: Path, *, size: tuple[int, int] | None, pixel_format: str | None) -> int:
    """Frames that a raw planar file holds; parameters and errors of :func:`iter_raw_yuv`."""
    layout = _layout(path, pixel_format)
    width, height = _checked_size(path, size, layout)
    num_bytes = layout.frame_num_bytes(width, height)
    _check_whole_frames(path, num_bytes, (width, height))
    return path.stat().st_size // num_bytes


def _layout(path: Path, pixel_format: str | None) -> RawFormat:
    name = pixel_format or "yuv420p"
    if name not in RAW_FORMATS:
        raise InputError(
            f"pixel format of raw video {path}",
            found=name,
            allowed=", ".join(RAW_FORMATS),
            remedy="Convert the file, or state the format that it really has.",
        )
    return RAW_FORMATS[name]


def _checked_size(path: Path, size: tuple[int, int] | None, layout: RawFormat) -> tuple[int, int]:
    step = 2 if layout.chroma == "420" else 1
    if size is None or len(size) != 2 or any(n < step or n % step for n in size):
        raise InputError(
            f"size of raw video {path}",
            found=size,
            allowed=f"(width, height), positive multiples of {step}",
            remedy="A raw file has no header: pass size=(width, height).",
        )
    return size


def _check_whole_frames(path: Path, num_bytes: int, size: tuple[int, int]) -> None:
    total = path.stat().st_size
    if total == 0 or total % num_bytes:
        raise InputError(
            f"length of raw video {path}",
            found=f"{total} bytes",
            allowed=f"a multiple of {num_bytes} bytes (one frame of {size[0]}x{size[1]})",
            remedy="Check size and pixel_format, or copy the file again if it was cut.",
        )


def _frame_to_rgb(samples: np.ndarray, width: int, height: int, layout: RawFormat) -> np.ndarray:
    if layout.chroma == "444":
        return yuv444_to_rgb(samples.reshape(3, height, width), bits=layout.bits)
    frame = av.VideoFrame(width, height, "yuv420p" if layout.bits == 8 else "yuv420p10le")
    luma, chroma = width * height, width * height // 4
    planes = np.split(samples, [luma, luma + chroma])
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((plane.height, plane.line_size // layout.dtype.itemsize), layout.dtype)
        padded[:, : plane.width] = values.reshape(plane.height, plane.width)
        plane.update(padded.tobytes())
    return decoded_source_to_rgb(frame)


def write_raw_yuv444(path: Path, yuv: np.ndarray) -> None:
    """Write 4:4:4 code values as planar 16-bit little endian words, for external encoders.

    Input: ``yuv`` : [num_frames, 3, height, width], uint16.
    """
    Path(path).write_bytes(np.ascontiguousarray(yuv, "<u2").tobytes())


#: Frame rate of sources that carry none (raw files, image folders).
DEFAULT_FPS = 30.0
IMAGE_SUFFIX = ".png"


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
        size, pixel_format : (width, height) and ``RAW_FORMATS`` key of a raw file
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
        frames = iter_raw_yuv(path, size=size, pixel_format=pixel_format, first_frame=first_frame)
        length = num_raw_frames(path, size=size, pixel_format=pixel_format)
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
    files = [p for p in folder.iterdir() if p.suffix.lower() == IMAGE_SUFFIX]
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
