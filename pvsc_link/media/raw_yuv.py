"""Raw planar YUV files: no header, so size and pixel format come from the caller."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from pvsc_link.media.colour import decoded_source_to_rgb, yuv444_to_rgb
from pvsc_link.types import InputError

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
