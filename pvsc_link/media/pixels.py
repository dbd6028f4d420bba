"""Pixels of frames: edge padding, and RGB <-> YUV by a stated matrix.

The matrix is always stated, because a wrong one moves PSNR by more than 1 dB. There are two
conversions, and every caller names its own:

* Code values of codecs are BT.709 in limited range and are computed here in floating point. 10-bit
  4:4:4 gives 8-bit RGB back without loss. 4:2:0 takes the mean of 2x2 chroma samples and repeats
  it. This inverts what ``decoded_source_to_rgb`` did to a 4:2:0 source, so that a codec limited to
  4:2:0 loses almost nothing before it starts (68 to 75 dB; the bicubic filter of swscale gives 43
  to 59 dB).
* Sources become RGB by ``decoded_source_to_rgb``. 8-bit 4:2:0 of BT.709 in limited range, which
  nearly every file is, goes through swscale (through PyAV). Everything else goes through 4:4:4 at
  full depth and the formula of ITU-T H.273 with the matrix and the range of the source, because
  swscale's way to 8-bit RGB is off by 2 to 3 levels there. Both repeat the chroma samples of a
  subsampled source.
"""

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import av
import numpy as np
from av.video.reformatter import Colorspace
from numba import njit

from pvsc_link.types import InputError

#: Luma weights of R, G, B (ITU-R BT.709-6, item 3.2).
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)
_CB_SCALE = 2 * (1 - LUMA_WEIGHTS[2])  # 1.8556
_CR_SCALE = 2 * (1 - LUMA_WEIGHTS[0])  # 1.5748

#: Luma weights of R and B by the name of the matrix (ITU-T H.273, Table 4); G has the rest.
MATRICES = {
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
#: The matrix behind the code points of H.273 (``MatrixCoefficients``) that can be converted.
_MATRIX_OF_TAG = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
RANGES = ("limited", "full")


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


def matrix_of(frame: av.VideoFrame) -> str | None:
    """Key of ``MATRICES`` that a frame is tagged with; ``None`` if it has no tag.

    Raises ``InputError`` for a matrix that this package cannot invert (YCgCo, constant luminance,
    ICtCp, ...).
    """
    tag = int(frame.colorspace)
    if frame.format.is_rgb or tag in (0, 2, 3):  # RGB; no tag; reserved
        return None
    if tag not in _MATRIX_OF_TAG:
        raise InputError(
            "colour matrix of the video",
            found=f"code point {tag} of ITU-T H.273",
            allowed=f"the non-constant-luminance matrices {', '.join(MATRICES)}",
            remedy="Convert the video to BT.709, or state another matrix if the tag is wrong.",
        )
    return _MATRIX_OF_TAG[tag]


def range_of(frame: av.VideoFrame) -> str | None:
    """``"limited"`` or ``"full"``, as a frame is tagged; ``None`` if it has no tag."""
    if frame.format.name.startswith("yuvj") or int(frame.color_range) == 2:
        return "full"
    return "limited" if int(frame.color_range) == 1 else None


def decoded_source_to_rgb(
    frame: av.VideoFrame, *, matrix: str | None = None, sample_range: str | None = None
) -> np.ndarray:
    """R'G'B' of a frame of a source video, in its own primaries and transfer, at 8 bits.

    Parameters
        matrix : key of ``MATRICES``; ``None``: the one that the frame is tagged with, or BT.709
        sample_range : ``"limited"`` or ``"full"``; ``None``: by the tag, or limited. A frame
            without chroma that has no tag is full. RGB is always full.

    8-bit 4:2:0 of BT.709 in limited range goes through swscale, whose result lies up to 3 levels
    beside the formula; published results rest on these bytes.

    Output: [height, width, 3], uint8. Raises ``InputError`` for a matrix or pixel format that
    cannot be converted, and for samples above the depth that the format states.
    """
    limited = (sample_range or range_of(frame) or "limited") == "limited"
    matrix = matrix or matrix_of(frame) or "bt709"
    if frame.format.name == "yuv420p" and matrix == "bt709" and limited:
        if range_of(frame) == "full":  # the reader knows better
            frame = frame_of_planes(planes_of_frame(frame), "yuv420p")
        shown = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709, threads=1)
        return shown.to_ndarray()
    if frame.format.name in _EIGHT_BIT_RGB:
        return frame.reformat(format="rgb24", threads=1).to_ndarray()
    planes, convert = _samples(frame, matrix, sample_range)
    rgb = np.empty((*planes[0].shape, 3), np.uint8)
    if len(planes) == 3 and convert.func is _unit_rgb:
        luma, cb, cr = map(np.array, planes)
        terms = _terms(scale=255, offset=0.5, **convert.keywords)
        _fill_rgb(rgb, luma, cb, cr, *terms)
        return rgb
    for row in range(0, len(rgb), _BLOCK_ROWS):
        rows = [plane[row : row + _BLOCK_ROWS] for plane in planes]
        for index, channel in enumerate(convert(rows, scale=255, offset=0.5)):
            np.clip(channel, 0, 255, out=channel)
            rgb[row : row + _BLOCK_ROWS, :, index] = channel  # cut off, hence the offset
    return rgb


def decoded_source_to_unit_rgb(
    frame: av.VideoFrame, *, matrix: str | None = None, sample_range: str | None = None
) -> np.ndarray:
    """As :func:`decoded_source_to_rgb`, but by the formula alone, not rounded and not clipped.

    Output: [height, width, 3], float32; 0 is black and 1 is white.
    """
    planes, convert = _samples(frame, matrix, sample_range)
    return np.stack(convert(planes), axis=-1)


def to_8_bits(unit_rgb: np.ndarray) -> np.ndarray:
    """R'G'B' with 0 as black and 1 as white to uint8; what lies outside is clipped."""
    return np.clip(np.rint(unit_rgb * 255.0), 0, 255).astype(np.uint8)


#: Rows that are converted at once, so that they stay in the processor's cache.
_BLOCK_ROWS = 64
_Planes: TypeAlias = Sequence[np.ndarray]


def _samples(
    frame: av.VideoFrame, matrix: str | None, sample_range: str | None
) -> tuple[_Planes, "partial[list[np.ndarray]]"]:
    """Planes of a frame, and what makes red, green and blue of some rows of them.

    That function returns float32, ``scale`` being white, plus ``offset``.
    """
    stated_range = sample_range or range_of(frame)
    weights = MATRICES[matrix or matrix_of(frame) or "bt709"]
    is_rgb = frame.format.is_rgb or frame.format.name in _EIGHT_BIT_RGB
    frame = frame.reformat(format=_planar(frame), threads=1)
    bits, planes = _depth(frame), planes_of_frame(frame)
    has_chroma = len(planes) >= 3
    planes = planes[:3] if has_chroma else planes[:1]
    _check_depth(planes, bits)
    if is_rgb:
        return planes, partial(_unit_of_gbr, bits=bits)
    full = (stated_range or ("limited" if has_chroma else "full")) == "full"
    return planes, partial(_unit_rgb, bits=bits, weights=weights, full=full)


def _unit_of_gbr(
    planes: _Planes, *, bits: int, scale: float = 1, offset: float = 0
) -> list[np.ndarray]:
    factor = np.float32(scale / (2**bits - 1))
    return [planes[i].astype(np.float32) * factor + np.float32(offset) for i in (2, 0, 1)]


def _unit_rgb(
    planes: _Planes,
    *,
    bits: int,
    weights: tuple[float, float],
    full: bool,
    scale: float = 1,
    offset: float = 0,
) -> list[np.ndarray]:
    """Red, green and blue, float32 [height, width], of Y and perhaps Cb, Cr (H.273, 8.3)."""
    gain, shift, middle, red_of_cr, blue_of_cb, green_of = _terms(
        bits=bits, weights=weights, full=full, scale=scale, offset=offset
    )
    luma = planes[0].astype(np.float32) * gain + shift
    if len(planes) == 1:
        return [luma, luma.copy(), luma.copy()]
    cb, cr = (c.astype(np.float32) - middle for c in planes[1:])
    to_red, to_blue = red_of_cr * cr, blue_of_cb * cb
    to_green = green_of[0] * to_red + green_of[1] * to_blue
    return [_with_chroma(luma, part) for part in (to_red, to_green, to_blue)]


def _terms(
    *, bits: int, weights: tuple[float, float], full: bool, scale: float, offset: float
) -> tuple[np.float32, np.float32, np.float32, np.float32, np.float32, np.ndarray]:
    """Factors of H.273, 8.3, float32: luma = gain Y + shift, red = luma + red_of_cr (Cr - middle)
    and so on; green is luma plus ``green_of`` times the parts of red and blue."""
    unit, top = 2 ** (bits - 8), 2**bits - 1
    black, luma_span, chroma_span = (0, top, top) if full else (16 * unit, 219 * unit, 224 * unit)
    weight_r, weight_b = weights
    gain, shift = scale / luma_span, offset - scale * black / luma_span
    red_of_cr, blue_of_cb = (2 * (1 - w) * scale / chroma_span for w in weights)
    green_of = np.array([weight_r, weight_b]) / (weight_r + weight_b - 1)
    terms = map(np.float32, (gain, shift, 128 * unit, red_of_cr, blue_of_cb))
    return *terms, green_of.astype(np.float32)  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def _fill_rgb(rgb, luma, cb, cr, gain, shift, middle, red_of_cr, blue_of_cb, green_of):
    """Write the rounded RGB of whole planes, in one pass; ``shift`` holds the 0.5 of rounding.

    Parameters
        rgb : [height, width, 3], uint8, written
        luma, cb, cr : planes, uint8 or uint16, the smaller ones repeated; terms of ``_terms``
    """
    height, width = luma.shape
    down, across = -(-height // cb.shape[0]), -(-width // cb.shape[1])
    parts = np.empty((3, cb.shape[1] * across), np.float32)
    row_rgb = np.empty((3, width), np.uint8)  # plane by plane, which the processor does at once
    for i in range(height):
        if i % down == 0:
            to_red = red_of_cr * (cr[i // down].astype(np.float32) - middle)
            to_blue = blue_of_cb * (cb[i // down].astype(np.float32) - middle)
            to_green = green_of[0] * to_red + green_of[1] * to_blue
            for start in range(across):
                parts[0, start::across] = to_red
                parts[1, start::across] = to_green
                parts[2, start::across] = to_blue
        for k in range(3):
            for j in range(width):
                value = np.float32(luma[i, j]) * gain + shift + parts[k, j]
                value = np.float32(0) if value < np.float32(0) else value
                value = np.float32(255) if value > np.float32(255) else value
                row_rgb[k, j] = np.int32(value)
        for j in range(width):
            for k in range(3):
                rgb[i, j, k] = row_rgb[k, j]


def is_transparent(frame: av.VideoFrame) -> bool | None:
    """Whether any pixel of a frame is not opaque; ``None`` for a frame without alpha."""
    name = frame.format.name
    if name == "pal8" or name in ("ya8", *_EIGHT_BIT_RGB[2:6]):
        alpha, bits = frame.reformat(format="rgba", threads=1).to_ndarray()[..., 3], 8
    elif name.startswith(("ya16", "rgba64", "bgra64")):
        alpha, bits = frame.reformat(format="rgba64le", threads=1).to_ndarray()[..., 3], 16
    elif any(component.is_alpha for component in frame.format.components):
        frame = frame.reformat(format=_planar(frame), threads=1)
        alpha, bits = planes_of_frame(frame)[3], _depth(frame)
    else:
        return None
    return bool(alpha.min() < 2**bits - 1)


def _with_chroma(luma: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Luma plus a subsampled part, repeated (the sizes of chroma are rounded up)."""
    height, width = luma.shape
    across, down = -(-width // part.shape[1]), -(-height // part.shape[0])
    if across > 1:
        part = part.repeat(across, axis=1)[:, :width]
    if down * len(part) == height:
        return (luma.reshape(-1, down, width) + part[:, None]).reshape(height, width)
    return luma + part.repeat(down, axis=0)[:height]


def _check_depth(planes: Sequence[np.ndarray], bits: int) -> None:
    top = max(int(plane.max(initial=0)) for plane in planes) if bits % 8 else 0
    if top >= 2**bits:
        raise InputError(
            "samples of the video",
            found=f"a value of {top}",
            allowed=f"0 to {2**bits - 1}, as its pixel format of {bits} bits states",
            remedy="The samples may be shifted to the upper bits of their words (MSB-aligned, as "
            "in P010), big endian, or deeper than stated: convert the file with ffmpeg.",
        )


_EIGHT_BIT_RGB = (
    "rgb24 bgr24 rgba bgra argb abgr rgb0 bgr0 0rgb 0bgr pal8 gbrp gbrap rgb565le rgb555le "
    "rgb8 bgr8 monob monow"
).split()
#: Layouts in which the same samples lie in planes, by names of layouts that are not planar.
_PLANAR_OF = {
    "nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p",
    "yuyv422": "yuv422p", "uyvy422": "yuv422p", "yvyu422": "yuv422p", "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le",
    "p210le": "yuv422p10le", "p212le": "yuv422p12le", "p216le": "yuv422p16le",
    "p410le": "yuv444p10le", "p412le": "yuv444p12le", "p416le": "yuv444p16le",
    "y210le": "yuv422p10le", "y212le": "yuv422p12le", "xv30le": "yuv444p10le",
    "xv36le": "yuv444p12le", "vuyx": "yuv444p", "vuya": "yuva444p", "ayuv64le": "yuva444p16le",
    "rgb48le": "gbrp16le", "rgb48be": "gbrp16le", "bgr48le": "gbrp16le", "bgr48be": "gbrp16le",
    "rgba64le": "gbrap16le", "rgba64be": "gbrap16le", "bgra64le": "gbrap16le",
    "bgra64be": "gbrap16le", "x2rgb10le": "gbrp10le", "x2bgr10le": "gbrp10le",
    "ya8": "gray", "ya16le": "gray16le", "ya16be": "gray16le", "gray8": "gray",
}  # fmt: skip


def _planar(frame: av.VideoFrame) -> str:
    """The planar, little endian layout of the samples of a frame; ``InputError`` if none is."""
    name = _PLANAR_OF.get(frame.format.name, frame.format.name)
    name = "gbrp" if name in _EIGHT_BIT_RGB and name != "gbrap" else name
    if name.endswith("be"):
        name = name.removesuffix("be") + "le"
    if not name.startswith(("yuv", "gbr", "gray")) or name.endswith(("f16le", "f32le")):
        raise InputError(
            "pixel format of the video",
            found=frame.format.name,
            allowed="YUV, grey or RGB with integer samples",
            remedy="Convert it, for instance with ffmpeg -pix_fmt yuv444p10le.",
        )
    return name
