"""RGB <-> YUV by ITU-R BT.709, always stated: a wrong matrix moves PSNR by more than 1 dB.

Two ways exist, and every caller names its own:

* 4:4:4 is computed here in floating point; at 10 bits the round trip of 8-bit RGB is lossless.
* 4:2:0 needs a chroma filter, which is swscale's (through PyAV) with BT.709 set explicitly,
  because swscale takes untagged frames for BT.601.
"""

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation

#: Luma weights of R, G, B (ITU-R BT.709-6, item 3.2).
LUMA_WEIGHTS = (0.2126, 0.7152, 0.0722)
_CB_SCALE = 2 * (1 - LUMA_WEIGHTS[2])  # 1.8556
_CR_SCALE = 2 * (1 - LUMA_WEIGHTS[0])  # 1.5748

#: swscale without the short cuts that make its result depend on the processor.
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_EXACT_RGB = _EXACT | Interpolation.FULL_CHR_H_INT


def rgb_to_yuv444(frames: np.ndarray, *, bits: int = 10, full_range: bool = False) -> np.ndarray:
    """8-bit RGB to BT.709 4:4:4 code values (BT.709-6, items 3.2 to 3.5).

    Parameters: ``bits`` : 8 to 16; ``full_range`` : whole code range instead of 64..940 (10 bits).
    Input: ``frames`` : [..., height, width, 3], uint8.
    Output: [..., 3, height, width], uint16, planes Y, Cb, Cr.
    """
    red, green, blue = np.moveaxis(frames.astype(np.float64) / 255.0, -1, 0)
    luma = LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue
    chroma = (blue - luma) / _CB_SCALE, (red - luma) / _CR_SCALE
    luma_offset, luma_span, chroma_offset, chroma_span = _code_range(bits, full_range)
    planes = [luma_offset + luma_span * luma, *(chroma_offset + chroma_span * c for c in chroma)]
    codes = np.rint(np.stack(planes, axis=-3))
    return np.clip(codes, 0, 2**bits - 1).astype(np.uint16)


def yuv444_to_rgb(yuv: np.ndarray, *, bits: int = 10, full_range: bool = False) -> np.ndarray:
    """BT.709 4:4:4 code values to 8-bit RGB; inverse of :func:`rgb_to_yuv444`.

    Input: ``yuv`` : [..., 3, height, width], unsigned integers of ``bits`` bits.
    Output: [..., height, width, 3], uint8.
    """
    luma_offset, luma_span, chroma_offset, chroma_span = _code_range(bits, full_range)
    codes = np.moveaxis(yuv.astype(np.float64), -3, 0)
    luma = (codes[0] - luma_offset) / luma_span
    chroma_b, chroma_r = (codes[1:] - chroma_offset) / chroma_span
    red, blue = luma + _CR_SCALE * chroma_r, luma + _CB_SCALE * chroma_b
    green = (luma - LUMA_WEIGHTS[0] * red - LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
    rgb = np.rint(255.0 * np.stack([red, green, blue], axis=-1))
    return np.clip(rgb, 0, 255).astype(np.uint8)


def _code_range(bits: int, full_range: bool) -> tuple[float, float, float, float]:
    """Offset and span of luma, then of chroma, in code values."""
    if full_range:
        top = float(2**bits - 1)
        return 0.0, top, 2.0 ** (bits - 1), top
    unit = 2.0 ** (bits - 8)
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def decoded_source_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """RGB of a frame of a source video: swscale's default filter, BT.709 whatever the file says.

    The matrix is the one of the usual test conditions of neural video coding; the range (limited
    or full) is the file's own, limited where it says none.
    Output: [height, width, 3], uint8.
    """
    rgb = frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709, threads=1)
    return rgb.to_ndarray()


def yuv444_frame(planes: np.ndarray) -> av.VideoFrame:
    """PyAV frame ``yuv444p10le``, tagged BT.709 limited range.

    Input: ``planes`` : [3, height, width], uint16, 10-bit code values.
    """
    _, height, width = planes.shape
    frame = av.VideoFrame(width, height, "yuv444p10le")
    for plane, samples in zip(frame.planes, planes, strict=True):
        padded = np.zeros((height, plane.line_size // 2), "<u2")
        padded[:, :width] = samples
        plane.update(padded.tobytes())
    return frame


def planes_of_frame(frame: av.VideoFrame) -> np.ndarray:
    """Code values of a 4:4:4 frame of more than 8 bits: [3, height, width], uint16."""
    return np.stack([_samples(plane, frame.height, frame.width) for plane in frame.planes])


def _samples(plane: VideoPlane, height: int, width: int) -> np.ndarray:
    lines = np.frombuffer(memoryview(plane), "<u2").reshape(-1, plane.line_size // 2)
    return lines[:height, :width]


def rgb_to_yuv420_frame(rgb: np.ndarray, pixel_format: str = "yuv420p10le") -> av.VideoFrame:
    """4:2:0 frame, BT.709 limited range, chroma by swscale's bicubic filter.

    Input: ``rgb`` : [height, width, 3], uint8, even sizes.
    """
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(
        format=pixel_format,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=_EXACT_RGB,
        threads=1,
    )


def decoded_frame_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """RGB of a decoded codec frame: exact formula for 10-bit 4:4:4, bicubic chroma for 4:2:0.

    Output: [height, width, 3], uint8. BT.709 limited range in both cases.
    """
    if frame.format.name == "yuv444p10le":
        return yuv444_to_rgb(planes_of_frame(frame))
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        interpolation=_EXACT_RGB,
        threads=1,
    )
    return rgb.to_ndarray()
