"""VVenC (H.266) through a ffmpeg binary with libvvenc: low delay P, 10 bits, 4:2:0.

It is faster than VTM and always labelled as VVenC. libvvenc codes 4:2:0 only, and its RGB PSNR
includes that loss. The options that change the number of bits:

* The low-delay P structure and the QP offsets are those of VTM's ``encoder_lowdelay_P_vtm.cfg``.
* ``-qpa 0`` switches off the adaptation of QP to perception, which no metric here rewards.
* ``accessunitdelimiter=0`` omits delimiters of six bytes per frame.
* ``numrefpics=0`` keeps all four reference pictures, where the presets keep one or two.
"""

import re
import shlex
import tempfile
from functools import lru_cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from pvsc_link.codecs.base import Codec, check_frames, check_rate, run_program
from pvsc_link.codecs.libav import access_units, decode_rgb, libav_version
from pvsc_link.media import frame_rate, pad_to_multiple, rgb_to_yuv444, yuv444_to_yuv420
from pvsc_link.options import check_name
from pvsc_link.types import CodecFailure, EncodedGop

PRESETS = ("faster", "fast", "medium", "slow", "slower")
#: Smallest coding unit and picture. Frames are padded to them and cropped after decoding.
_MIN_UNIT, _MIN_SIZE = 8, 16
_QUERY_TIMEOUT_S = 60.0
#: The bitstream goes to a file, because libvvenc prints remarks to the standard output.
_OUTPUT = "out.266"

_PARAMS = (
    "picreordering=0:gopsize=8:decodingrefreshtype=none:poc0idr=1:intraperiod=-1:lookahead=0"
    ":internalbitdepth=10:numrefpics=0:accessunitdelimiter=0"
)


def _frame_rows() -> str:
    """Eight P frames: QP offset, its model (-6.5 + 0.259 QP), distances to four past references."""
    rows = []
    for poc, offset in enumerate((5, 4, 5, 4, 5, 4, 5, 1), start=1):
        model = "-6.5 0.2590" if poc < 8 else "0.0 0.0"  # the key frame keeps its offset
        references = "1 9 17 25" if poc == 1 else f"1 {poc} {poc + 8} {poc + 16}"
        rows.append(
            f"Frame{poc}=P {poc} {offset} {model} 0 0 1.0 0 0 0 0 0 0 0 4 4 {references} 0 0"
        )
    return ":".join(rows)


class VVenC(Codec):
    """libvvenc, Main 10, one closed GOP of IPPP per call.

    Parameters: ``preset`` : one of ``PRESETS``; ``binary`` : a ffmpeg with libvvenc (default: that
    of imageio-ffmpeg, or ``IMAGEIO_FFMPEG_EXE``); ``timeout_s`` : limit of one GOP, seconds.
    """

    name, stream_format = "vvenc", "vvc"
    allowed_rates = range(0, 64)

    def __init__(
        self, *, preset: str = "medium", binary: str | None = None, timeout_s: float = 1800.0
    ):
        check_name("preset of vvenc", preset, PRESETS)
        self._preset, self._binary, self._timeout_s = preset, binary, timeout_s
        self.variant = "VVenC, 4:2:0" if preset == "medium" else f"VVenC, 4:2:0, {preset}"

    @property
    def version(self) -> str:
        return f"{ffmpeg_version(self._ffmpeg())}, decoded by {libav_version()}"

    def _ffmpeg(self) -> str:
        return str(Path(self._binary).expanduser()) if self._binary else ffmpeg_binary()

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) without a ffmpeg that has libvvenc."""
        binary = self._ffmpeg()
        if not _has_libvvenc(binary):
            detail = f"{binary} has no libvvenc; point IMAGEIO_FFMPEG_EXE at a ffmpeg that has it"
            raise CodecFailure("missing_binary", detail)

    def describe(self, rate: int) -> str:
        return "ffmpeg " + shlex.join(self._arguments(rate, "WxH", "FPS"))

    def _arguments(self, rate: int, size: str, fps: str) -> list[str]:
        source = f"-f rawvideo -pix_fmt yuv420p10le -s {size} -r {fps} -i -"
        options = f"-c:v libvvenc -preset {self._preset} -qp {rate} -qpa 0 -threads 1"
        params = f"{_PARAMS}:{_frame_rows()}"
        return [*source.split(), *options.split(), "-vvenc-params", params, "-f", "vvc", _OUTPUT]

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """One GOP; see ``Codec.encode``."""
        self.check()
        check_frames(frames)
        check_rate(self, rate)
        small = min(frames.shape[1:3]) < _MIN_SIZE
        padded = pad_to_multiple(frames, _MIN_SIZE if small else _MIN_UNIT)
        arguments = self._arguments(
            rate, f"{padded.shape[2]}x{padded.shape[1]}", str(frame_rate(fps))
        )
        argv = [self._ffmpeg(), "-hide_banner", "-nostats", *arguments]
        payload, log = _run(argv, self._timeout_s, _planar_420(padded))
        sizes = access_units(payload, self.stream_format)
        if len(sizes) != len(frames):
            raise CodecFailure("codec_error", f"libvvenc: {len(sizes)} of {len(frames)} frames")
        size = frames.shape[2], frames.shape[1]
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=decode_rgb(payload, sizes, self.stream_format, size=size),
            command="ffmpeg " + shlex.join(arguments),
            version=f"libvvenc {_libvvenc_version(log)}, {self.version}",
        )


def _run(argv: list[str], timeout_s: float, stdin: bytes) -> tuple[bytes, str]:
    """Bitstream and log of one run in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
        stdout, stderr = run_program(argv, timeout_s=timeout_s, stdin=stdin, cwd=Path(folder))
        output = Path(folder) / _OUTPUT
        payload = output.read_bytes() if output.exists() else b""
    return payload, stdout.decode(errors="replace") + stderr


def _planar_420(frames: np.ndarray) -> bytes:
    planes = (p for frame in frames for p in yuv444_to_yuv420(rgb_to_yuv444(frame)))
    return b"".join(plane.astype("<u2").tobytes() for plane in planes)


def _libvvenc_version(log: str) -> str:
    found = re.search(r"libvvenc version: (\S+)", log)
    return found.group(1) if found else "unknown"


def ffmpeg_binary() -> str:
    """The ffmpeg of imageio-ffmpeg, or the one that ``IMAGEIO_FFMPEG_EXE`` names."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        detail = f"no ffmpeg: {error}; pip install imageio-ffmpeg or set IMAGEIO_FFMPEG_EXE"
        raise CodecFailure("missing_binary", detail) from error


@lru_cache
def ffmpeg_version(binary: str) -> str:
    """``ffmpeg n9.0.2`` and the like."""
    stdout, _ = run_program([binary, "-version"], timeout_s=_QUERY_TIMEOUT_S)
    words = stdout.decode(errors="replace").split()
    return f"ffmpeg {words[2] if len(words) > 2 else 'of an unknown version'}"


@lru_cache
def _has_libvvenc(binary: str) -> bool:
    stdout, _ = run_program([binary, "-hide_banner", "-encoders"], timeout_s=_QUERY_TIMEOUT_S)
    return b" libvvenc " in stdout
