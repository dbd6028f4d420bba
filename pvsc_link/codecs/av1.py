"""SVT-AV1 through PyAV: low delay, 10-bit 4:2:0, one GOP per call.

The settings keep a GOP as the other codecs have it: one key frame, then frames that refer only to
earlier ones and are coded in the order in which they are shown (``pred-struct=1``), at a constant
quantiser, without temporal filtering and with one thread. SVT-AV1 codes 4:2:0 only, and its RGB
PSNR includes that loss. QPs are those of its command line, 1 to 63.
"""

import os

import av
import numpy as np

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.codecs.libav import decode_rgb, encode_access_units, libav_version
from pvsc_link.media import frame_of_planes, pad_to_multiple, rgb_to_yuv444, yuv444_to_yuv420
from pvsc_link.types import CodecFailure, EncodedGop

#: Smallest width and height that the encoder takes.
_MIN_SIZE = 64
#: OBU types of AV1 (section 6.2.2): sequence header, temporal delimiter.
_SEQUENCE_HEADER, _DELIMITER = 1, 2


class SvtAv1(Codec):
    """libsvtav1, main profile.

    Parameters: ``preset`` : 0 (slowest) to 13; ``timeout_s`` : limit of one GOP, seconds.
    """

    name = "svt-av1"
    allowed_rates = range(1, 64)
    default_rates = (20, 30, 40, 50, 60)

    def __init__(self, *, preset: int = 4, timeout_s: float = 600.0):
        self._preset, self._timeout_s = preset, timeout_s
        self.variant = "4:2:0" if preset == 4 else f"4:2:0, preset {preset}"

    @property
    def version(self) -> str:
        return f"libsvtav1 of {libav_version()}"

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) where PyAV lacks the encoder or the decoder."""
        absent = {"libsvtav1", "libdav1d"} - set(av.codecs_available)
        if absent:
            detail = f"this PyAV has no {' and no '.join(sorted(absent))}; pip install -U av"
            raise CodecFailure("missing_binary", detail)

    def _options(self, rate: int, num_frames: int | str) -> dict[str, str]:
        parameters = (
            f"rc=0:qp={rate}:aq-mode=0:pred-struct=1:keyint={num_frames}:scd=0:enable-tf=0:lp=1"
        )
        return {"preset": str(self._preset), "svtav1-params": parameters}

    def describe(self, rate: int, num_frames: int | str = "GOP") -> str:
        options = " ".join(f"-{k} {v}" for k, v in self._options(rate, num_frames).items())
        return f"-pix_fmt yuv420p10le -c:v libsvtav1 {options}"

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """One GOP; see ``Codec.encode``."""
        self.check()
        check_frames(frames)
        check_rate(self, rate)
        os.environ.setdefault("SVT_LOG", "1")  # errors alone
        small = min(frames.shape[1:3]) < _MIN_SIZE
        padded = pad_to_multiple(frames, _MIN_SIZE if small else 2)
        pictures = (
            frame_of_planes(list(yuv444_to_yuv420(rgb_to_yuv444(frame))), "yuv420p10le")
            for frame in padded
        )
        options = self._options(rate, len(frames))
        units = encode_access_units("libsvtav1", pictures, fps, options, self._timeout_s)
        if len(units) != len(frames):
            raise CodecFailure("codec_error", f"libsvtav1: {len(units)} of {len(frames)} frames")
        payload, sizes = b"".join(units), tuple(map(len, units))
        size = frames.shape[2], frames.shape[1]
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=decode_rgb(payload, sizes, "libdav1d", size=size),
            command=self.describe(rate, len(frames)),
            version=self.version,
        )

    def fact_spans(self, payload: bytes) -> tuple[tuple[int, int], ...]:
        """Delimiter and sequence header at the start, in the low-overhead format (section 5.3)."""
        place = 0
        while place < len(payload):
            header = payload[place]
            if header >> 3 & 15 not in (_SEQUENCE_HEADER, _DELIMITER) or not header & 2:
                break
            start = place + 1 + (header >> 2 & 1)
            size = shift = 0
            while start < len(payload):  # leb128
                byte, start = payload[start], start + 1
                size, shift = size | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
            place = start + size
        return ((0, place),) if 0 < place <= len(payload) else ()
