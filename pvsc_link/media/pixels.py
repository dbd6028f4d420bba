"""Pixels of frames: edge padding, and RGB <-> YUV by ITU-R BT.709.

The matrix is always stated, because a wrong one moves PSNR by more than 1 dB. There are two
conversions, and every caller names its own:

* Code values of codecs are computed here in floating point. 10-bit 4:4:4 gives 8-bit RGB back
  without loss. 4:2:0 takes the mean of 2x2 chroma samples and repeats it. This inverts what
  ``decoded_source_to_rgb`` did to a 4:2:0 source, so that a codec limited to 4:2:0 loses almost
  nothing before it starts (68 to 75 dB; the bicubic filter of swscale gives 43 to 59 dB).
* Sources in 4:2:0 become RGB by swscale (through PyAV), always with BT.709, because swscale takes
  untagged frames for BT.601.
"""

from collections.abc import Sequence

import av
import numpy as np
from av.video.reformatter import Colorspace

#: Luma weights of R, G, B (ITU-R BT.709-6, item 3.2).
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)
_CB_SCALE = 2 * (1 - LUMA_WEIGHTS[2])  # 1.8556
_CR_SCALE = 2 * (1 - LUMA_WEIGHTS[0])  # 1.5748


def pad_to_multiple(frames: np.ndarray, multiple: int = 128) -> np.ndarray:
    """Repeat the last row and column until height and width are multiples of ``multiple``.

    Input: ``frames`` : [..., height, width, 3], any dtype.
    Output: [..., ceil(height / multiple) * multiple, ceil(width / multiple) * multiple, 3].
    """
    height, width = frames.shape[-3:-1]
    if height % multiple == 0 and width % multiple == 0:
        return frames
    margins = [(0, 0)] * (frames.ndim - 3) + [(0, -height % multiple), (0, -width % multiple)]
    return np.pad(frames, [*margins, (0, 0)], mode="edge")


def crop(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Upper left ``height`` x ``width`` area of ``frames`` [..., height', width', 3]."""
    return frames[..., :height, :width, :]


def rgb_to_yuv444(frames: np.ndarray, *, bits: int = 10) -> np.ndarray:
    """8-bit RGB to BT.709 4:4:4 code values in limited range (BT.709-6, items 3.2 to 3.5).

    Input: ``frames`` : [..., height, width, 3], uint8.
    Output: [..., 3, height, width], uint16 codes of ``bits`` (8 to 16) bits, planes Y, Cb, Cr.
    """
    red, green, blue = np.moveaxis(frames.astype(np.float64) / 255.0, -1, 0)
    luma = LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
    chroma = (blue - luma) / _CB_SCALE, (red - luma) / _CR_SCALE
    unit = 2.0 ** (bits - 8)
    planes = [16 * unit + 219 * unit * luma, *(128 * unit + 224 * unit * c for c in chroma)]
    codes = np.rint(np.stack(planes, axis=-3))
    return np.clip(codes, 0, 2**bits - 1).astype(np.uint16)


def yuv444_to_rgb(yuv: np.ndarray, *, bits: int = 10) -> np.ndarray:
    """BT.709 4:4:4 code values to 8-bit RGB; inverse of :func:`rgb_to_yuv444`.

    Input: ``yuv`` : [..., 3, height, width], unsigned integers of ``bits`` bits.
    Output: [..., height, width, 3], uint8.
    """
    unit = 2.0 ** (bits - 8)
    codes = np.moveaxis(yuv.astype(np.float64), -3, 0)
    luma = (codes[0] - 16 * unit) / (219 * unit)
    chroma_b, chroma_r = (codes[1:] - 128 * unit) / (224 * unit)
    red, blue = luma + _CR_SCALE * chroma_r, luma + _CB_SCALE * chroma_b
    green = (luma - LUMA_WEIGHTS[0] * red - LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
    rgb = np.rint(255.0 * np.stack([red, green, blue], axis=-1))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def yuv444_to_yuv420(yuv: np.ndarray) -> list[np.ndarray]:
    """Halve both chroma sizes by the mean of 2x2 samples.

    Input: ``yuv`` : [3, height, width], unsigned integers, even sizes.
    Output: planes Y [height, width], Cb and Cr [height / 2, width / 2], dtype of the input.
    """
    _, height, width = yuv.shape
    blocks = yuv[1:].reshape(2, height // 2, 2, width // 2, 2).astype(np.float64)
    chroma = np.rint(blocks.mean(axis=(2, 4))).astype(yuv.dtype)
    return [yuv[0], chroma[0], chroma[1]]


def yuv420_to_yuv444(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Repeat every chroma sample 2x2: [3, height, width], dtype of the planes."""
    luma, *chroma = planes
    height, width = luma.shape
    large = (c.repeat(2, axis=0).repeat(2, axis=1)[:height, :width] for c in chroma)
    return np.stack([luma, *large])


def frame_of_planes(planes: Sequence[np.ndarray], pixel_format: str) -> av.VideoFrame:
    """PyAV frame of planes in a planar ``pixel_format``, such as ``yuv420p10le``.

    Input: ``planes`` : Y, Cb, Cr, each [plane height, plane width], uint8 or little endian uint16.
    """
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, samples in zip(frame.planes, planes, strict=True):
        padded = np.zeros((samples.shape[0], plane.line_size // samples.itemsize), samples.dtype)
        padded[:, : samples.shape[1]] = samples
        plane.update(padded.tobytes())
    return frame


def planes_of_frame(frame: av.VideoFrame) -> list[np.ndarray]:
    """Planes Y, Cb, Cr of a planar frame, each [plane height, plane width], uint8 or uint16."""
    dtype = np.dtype("u1" if _depth(frame) == 8 else "<u2")
    planes = []
    for plane in frame.planes:
        samples = np.frombuffer(memoryview(plane), dtype)
        lines = samples.reshape(-1, plane.line_size // dtype.itemsize)
        planes.append(lines[: plane.height, : plane.width])
    return planes


def _depth(frame: av.VideoFrame) -> int:
    return frame.format.components[0].bits


def decoded_frame_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """RGB of a decoded codec frame: planar 4:4:4 or 4:2:0 of any depth, BT.709 limited range.

    Output: [height, width, 3], uint8. Raises ``ValueError`` for another pixel format.
    """
    planes = planes_of_frame(frame)
    if frame.format.name.startswith("yuv444p"):
        return yuv444_to_rgb(np.stack(planes), bits=_depth(frame))
    if frame.format.name.startswith("yuv420p"):
        return yuv444_to_rgb(yuv420_to_yuv444(planes), bits=_depth(frame))
    raise ValueError(f"decoded pixel format {frame.format.name}, wanted yuv444p* or yuv420p*")


def decoded_source_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """RGB of a frame of a source video: swscale's default filter, BT.709 whatever the file says.

    BT.709 is the matrix of the usual test conditions of neural video coding. The range (limited or
    full) is the one that the file states, and limited where it states none.
    Output: [height, width, 3], uint8.
    """
    rgb = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709, threads=1)
    return rgb.to_ndarray()
