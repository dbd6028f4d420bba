"""Codecs of still images: AVIF (Pillow) and JPEG XL (imagecodecs). Every frame is a picture.

Both code 8-bit RGB in 4:4:4 at the quality that a rate names, 0 to 100. An AVIF file wraps its AV1
image in boxes of about 270 bytes, which state size and colour: they are session facts, as parameter
sets of a video are. JPEG XL is written without a container, and all its bytes count.
"""

import importlib
import io
import struct
from typing import Any

import numpy as np
import PIL
from PIL import Image, features

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.types import CodecFailure, EncodedGop


class _StillCodec(Codec):
    """What both share; a subclass codes and decodes one picture."""

    allowed_rates = range(0, 101)
    default_rates = (10, 30, 50, 70, 85)
    variant = ""

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """Every frame by itself; see ``Codec.encode``."""
        self.check()
        check_frames(frames)
        check_rate(self, rate)
        try:
            files = [self._coded(frame, rate) for frame in frames]
            shown = np.stack([self._decoded(file) for file in files])
        except (OSError, ValueError, RuntimeError) as error:
            raise CodecFailure("codec_error", f"{self.name}: {error}") from error
        if shown.shape != frames.shape:
            raise CodecFailure("codec_error", f"{self.name}: decoded {shown.shape}")
        return EncodedGop(
            payload=b"".join(files),
            frame_num_bytes=tuple(map(len, files)),
            frames_hat=shown,
            command=self.describe(rate),
            version=self.version,
        )

    def _coded(self, frame: np.ndarray, rate: int) -> bytes:
        raise NotImplementedError

    def _decoded(self, file: bytes) -> np.ndarray:
        raise NotImplementedError


class Avif(_StillCodec):
    """AV1 still images by the libavif of Pillow, 8-bit 4:4:4.

    Parameters: ``speed`` : of libavif, 0 (slowest) to 10.
    """

    name = "avif"

    def __init__(self, *, speed: int = 4):
        self._speed = speed
        self.variant = "" if speed == 4 else f"speed {speed}"

    @property
    def version(self) -> str:
        return f"Pillow {PIL.__version__}, libavif {features.version('avif')}"

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) where Pillow was built without AVIF."""
        if not features.check("avif"):
            detail = f"this Pillow ({PIL.__version__}) has no AVIF; pip install 'pillow>=11.3'"
            raise CodecFailure("missing_binary", detail)

    def describe(self, rate: int) -> str:
        return f"AVIF quality {rate}, 4:4:4, speed {self._speed}, one thread"

    def _coded(self, frame: np.ndarray, rate: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(frame).save(
            file, "AVIF", quality=rate, subsampling="4:4:4", speed=self._speed, max_threads=1
        )
        return file.getvalue()

    def _decoded(self, file: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(file), formats=["AVIF"]) as image:
            return np.asarray(image.convert("RGB"))

    def fact_spans(self, payload: bytes) -> tuple[tuple[int, int], ...]:
        """The boxes of the first picture up to the AV1 data (ISO/IEC 14496-12)."""
        place = 0
        while place + 8 <= len(payload):
            size, kind = struct.unpack_from(">I4s", payload, place)
            if kind == b"mdat" or size < 8:
                break
            place += size
        return ((0, place + 8),) if place else ()


class JpegXl(_StillCodec):
    """JPEG XL by the libjxl of imagecodecs, lossy.

    Parameters: ``effort`` : of libjxl, 1 to 9.
    """

    name = "jpegxl"

    def __init__(self, *, effort: int = 7):
        self._effort = effort
        self.variant = "" if effort == 7 else f"effort {effort}"

    @property
    def _library(self) -> Any:
        try:
            return importlib.import_module("imagecodecs")
        except ImportError as error:
            detail = f"no imagecodecs ({error}); pip install 'pvsc-link[images]'"
            raise CodecFailure("missing_binary", detail) from error

    @property
    def version(self) -> str:
        try:
            library = self._library
            return f"imagecodecs {library.__version__}, {library.jpegxl_version()}"
        except CodecFailure:
            return "absent"

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) without imagecodecs that has JPEG XL."""
        if not self._library.JPEGXL.available:
            raise CodecFailure("missing_binary", "this imagecodecs was built without JPEG XL")

    def describe(self, rate: int) -> str:
        return f"JPEG XL quality {rate}, effort {self._effort}, one thread"

    def _coded(self, frame: np.ndarray, rate: int) -> bytes:
        coded = self._library.jpegxl_encode(
            np.ascontiguousarray(frame),
            level=rate,
            effort=self._effort,
            usecontainer=False,
            numthreads=1,
        )
        return bytes(coded)

    def _decoded(self, file: bytes) -> np.ndarray:
        return np.asarray(self._library.jpegxl_decode(file, numthreads=1))
