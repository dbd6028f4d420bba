"""x264 and x265 through PyAV: zero latency, veryslow, 10-bit 4:4:4, one GOP per call.

The settings are those of the paper's baselines. These choices change the number of bits:

* 10-bit x264 counts QP from -12, so that ``QP + 12`` gives H.264's QP. x265 does not shift.
* One thread, because zero latency cuts a frame into as many slices as there are threads.
* ``info=0`` of x265 and the removal of x264's SEI messages omit a text of 0.6 to 2.2 kB per GOP
  that names the encoder.
* ``psy``, the encoders' default, costs about 1.1 dB of RGB PSNR at equal QP in 4:4:4, because the
  encoders then change the QP of chroma. The variant ``psy-off`` is without it.

x265 gives other bits in some runs where one coding tree unit (CTU) of 64 columns spans the frame.
Frames of up to 64 columns therefore have CTUs of 32x32 samples, whose bits are repeatable.

Frames that are smaller than the encoder allows are padded by repeating edges and cropped again
after decoding. All bits of the larger frame count.
"""

import av
import numpy as np

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.codecs.libav import decode_rgb, encode_access_units, libav_version, without_h264_sei
from pvsc_link.media import frame_of_planes, pad_to_multiple, rgb_to_yuv444
from pvsc_link.options import check_name
from pvsc_link.types import CodecFailure, EncodedGop

PRESETS = "ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split()
VARIANTS = ("psy", "psy-off")
#: Offset of x264's QP scale at 10 bits: 6 * (10 - 8).
X264_QP_SHIFT = 12
#: Side of a coding tree unit of x265, samples.
_CTU = 64


class _LibavCodec(Codec):
    """What x264 and x265 share; a subclass names the library and its options."""

    allowed_rates = range(0, 52)
    stream_format: str
    _encoder: str
    _min_size: int  # smallest width and height that the library codes
    _epilogue = ""  # what the command line needs after the options

    def __init__(self, *, variant: str = "psy", preset: str = "veryslow", timeout_s: float = 600.0):
        check_name(f"variant of {self.name}", variant, VARIANTS)
        check_name(f"preset of {self.name}", preset, PRESETS)
        self._psy = variant == "psy"
        self._preset, self._timeout_s = preset, timeout_s
        self.variant = variant if preset == "veryslow" else f"{variant}, {preset}"

    @property
    def version(self) -> str:
        return f"{self._encoder} of {libav_version()}"

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) where PyAV was built without the encoder."""
        if self._encoder not in av.codecs_available:
            detail = f"this PyAV has no {self._encoder}; pip install --force-reinstall av"
            raise CodecFailure("missing_binary", detail)

    def describe(self, rate: int, num_frames: int | str = "GOP") -> str:
        return self._command(self._options(rate, num_frames))

    def _command(self, options: dict[str, str]) -> str:
        text = " ".join(f"-{k} {v}" for k, v in options.items())
        return f"-pix_fmt yuv444p10le -c:v {self._encoder} -threads 1 {text}{self._epilogue}"

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        raise NotImplementedError

    def _for_width(self, options: dict[str, str], width: int) -> dict[str, str]:
        """The options for frames of so many columns, padding not counted."""
        return options

    def _clean(self, access_unit: bytes) -> bytes:
        return access_unit

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """One GOP of IPPP; see ``Codec.encode``."""
        self.check()
        check_frames(frames)
        check_rate(self, rate)
        options = self._for_width(self._options(rate, len(frames)), frames.shape[2])
        pictures = (_picture(frame, self._min_size) for frame in frames)
        raw = encode_access_units(self._encoder, pictures, fps, options, self._timeout_s)
        units = [self._clean(unit) for unit in raw]
        sizes = tuple(len(unit) for unit in units)
        payload = b"".join(units)
        size = frames.shape[2], frames.shape[1]
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=decode_rgb(payload, sizes, self.stream_format, size=size),
            command=self._command(options),
            version=self.version,
        )


def _picture(frame: np.ndarray, min_size: int) -> av.VideoFrame:
    """10-bit 4:4:4 picture of an RGB frame [height, width, 3], padded if it is too small."""
    if min(frame.shape[:2]) < min_size:
        frame = pad_to_multiple(frame, min_size)
    return frame_of_planes(list(rgb_to_yuv444(frame)), "yuv444p10le")


class X264(_LibavCodec):
    """libx264, High 4:4:4 Predictive at 10 bits (H.264)."""

    name = "x264"
    stream_format, _encoder, _min_size = "h264", "libx264", 16
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
    stream_format, _encoder, _min_size = "hevc", "libx265", 64

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        params = (
            f"qp={rate}:keyint={num_frames}:min-keyint={num_frames}:scenecut=0:open-gop=0:info=0"
            ":pools=none:frame-threads=1:log-level=none"
        )
        if not self._psy:
            params += ":psy-rd=0:psy-rdoq=0"
        return {"preset": self._preset, "tune": "zerolatency", "x265-params": params}

    def _for_width(self, options: dict[str, str], width: int) -> dict[str, str]:
        if width > _CTU:
            return options
        return options | {"x265-params": f"{options['x265-params']}:ctu={_CTU // 2}"}


class BpgLike(X265):
    """x265 intra, 10-bit 4:4:4: every frame is a picture of its own, as BPG codes one.

    BPG wraps an H.265 intra picture in a header of a few bytes. Here that header is left out, and
    the parameter sets are session facts, so it is a bound for BPG at equal tools. It is not the
    program bpgenc, which codes 4:2:0 at 8 bits by default.
    """

    name = "bpg-like"

    def __init__(
        self, *, variant: str = "psy-off", preset: str = "veryslow", timeout_s: float = 600.0
    ):
        super().__init__(variant=variant, preset=preset, timeout_s=timeout_s)

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        return super()._options(rate, 1)
