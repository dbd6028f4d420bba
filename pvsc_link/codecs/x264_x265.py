"""x264 and x265 through PyAV: zero latency, veryslow, 10-bit 4:4:4, one GOP per call.

The settings are those of the paper's baselines; each choice that moves the bit count is named:

* 10-bit x264 counts QP from -12, so ``QP + 12`` gives H.264's QP; x265 does not shift.
* One thread: zero latency cuts a frame into as many slices as there are threads.
* x265's ``info=0`` and the removal of x264's SEI: a banner of 0.6 to 2.2 kB in every GOP.
* ``psy`` (the encoders' default) costs about 1.1 dB RGB PSNR at equal QP with 4:4:4 chroma, since
  the encoders then change the chroma QP; ``psy-off`` is the variant without.

Frames of any size go in: where the encoder wants more, edges are repeated and cropped again, and
every bit of the larger frame counts.
"""

from collections.abc import Iterator

import av
import numpy as np

from pvsc_link.codecs.base import check_frames, check_option, check_rate
from pvsc_link.codecs.libav import decode_rgb, encode_access_units, libav_version, without_h264_sei
from pvsc_link.media.pixels import frame_of_planes, pad_to_multiple, rgb_to_yuv444
from pvsc_link.types import CodecFailure, EncodedGop

PRESETS = "ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split()
VARIANTS = ("psy", "psy-off")
#: Offset of x264's QP scale at 10 bits: 6 * (10 - 8).
X264_QP_SHIFT = 12


class _LibavCodec:
    """What x264 and x265 share; a subclass names the library and its options."""

    name: str
    _encoder: str
    _stream_format: str
    _min_size: int  # smallest width and height that the library codes

    def __init__(self, *, variant: str = "psy", preset: str = "veryslow", timeout_s: float = 600.0):
        check_option(f"variant of {self.name}", variant, VARIANTS)
        check_option(f"preset of {self.name}", preset, PRESETS)
        self._psy = variant == "psy"
        self._preset, self._timeout_s = preset, timeout_s
        self.variant = variant if preset == "veryslow" else f"{variant}, {preset}"

    allowed_rates = range(0, 52)

    @property
    def version(self) -> str:
        return f"{self._encoder} of {libav_version()}"

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) where PyAV was built without the encoder."""
        if self._encoder not in av.codecs_available:
            detail = f"this PyAV has no {self._encoder}; pip install --force-reinstall av"
            raise CodecFailure("missing_binary", detail)

    def describe(self, rate: int, num_frames: int | str = "GOP") -> str:
        options = " ".join(f"-{k} {v}" for k, v in self._options(rate, num_frames).items())
        return f"-pix_fmt yuv444p10le -c:v {self._encoder} -threads 1 {options}{self._epilogue}"

    _epilogue = ""

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        raise NotImplementedError

    def _clean(self, access_unit: bytes) -> bytes:
        return access_unit

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """One GOP of IPPP; see ``Codec.encode``."""
        self.check()
        check_frames(frames)
        check_rate(self, rate)
        options = self._options(rate, len(frames))
        pictures = _pictures(frames, self._min_size)
        raw = encode_access_units(self._encoder, pictures, fps, options, self._timeout_s)
        units = [self._clean(unit) for unit in raw]
        sizes = tuple(len(unit) for unit in units)
        payload = b"".join(units)
        size = frames.shape[2], frames.shape[1]
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=decode_rgb(payload, sizes, self._stream_format, size=size),
            command=self.describe(rate, len(frames)),
            version=self.version,
        )


def _pictures(frames: np.ndarray, min_size: int) -> Iterator[av.VideoFrame]:
    for frame in frames:
        yield frame_of_planes(list(rgb_to_yuv444(_at_least(frame, min_size))), "yuv444p10le")


def _at_least(frame: np.ndarray, min_size: int) -> np.ndarray:
    """Repeat the edges of a frame that is smaller than the encoder codes."""
    return frame if min(frame.shape[:2]) >= min_size else pad_to_multiple(frame, min_size)


class X264(_LibavCodec):
    """libx264, High 4:4:4 Predictive at 10 bits (H.264)."""

    name = "x264"
    _encoder, _stream_format, _min_size = "libx264", "h264", 16
    _epilogue = " -bsf:v filter_units=remove_types=6"

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        options = {
            "preset": self._preset,
            "tune": "zerolatency",
            "qp": str(rate + X264_QP_SHIFT),
            "g": str(num_frames),
            "keyint_min": str(num_frames),
            "sc_threshold": "0",
        }
        return options if self._psy else options | {"x264-params": "psy=0"}

    def _clean(self, access_unit: bytes) -> bytes:
        return without_h264_sei(access_unit)


class X265(_LibavCodec):
    """libx265, Main 4:4:4 10 (H.265)."""

    name = "x265"
    _encoder, _stream_format, _min_size = "libx265", "hevc", 64

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        params = (
            f"qp={rate}:keyint={num_frames}:min-keyint={num_frames}:scenecut=0:open-gop=0:info=0"
            ":pools=none:frame-threads=1:log-level=none"
        )
        if not self._psy:
            params += ":psy-rd=0:psy-rdoq=0"
        return {"preset": self._preset, "tune": "zerolatency", "x265-params": params}
