"""Video out: frames to an mp4 that every player shows, one frame at a time."""

import uuid
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import numpy as np
from av.video.reformatter import Colorspace

from pvsc_link.media.pixels import pad_to_multiple

#: Constant rate factor of x264, near 50 dB. Metrics are measured on the frames before coding.
QUALITY = 10
_BT709 = 1  # ITU-T H.273 code point of primaries, transfer and matrix


def frame_rate(fps: float) -> Fraction:
    """Exact frame rate behind a rounded number of frames per second, such as 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


class Mp4Writer:
    """Writes H.264 4:2:0, 8 bits, BT.709; odd sizes get their last row or column repeated.

    Use it as a context manager. The file gets its name at the end, when it is complete; after an
    error there is none.

    Parameters: ``path`` : ends in ``.mp4``; ``fps`` : frames per second; ``quality`` : constant
    rate factor, 0 (without loss) to 51.
    """

    def __init__(self, path: Path, fps: float, *, quality: int = QUALITY):
        self._quality = quality
        self._path, self._part = path, path.with_name(f".{uuid.uuid4().hex}.part")
        self._rate = frame_rate(fps)
        self._container = av.open(
            str(self._part), "w", format="mp4", options={"movflags": "+faststart"}
        )
        self._stream: av.VideoStream | None = None
        self._count = 0

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 RGB [height, width, 3]; all of one size."""
        even = np.ascontiguousarray(pad_to_multiple(frame, 2))
        self._stream = self._stream or self._open_stream(*even.shape[:2])
        rgb = av.VideoFrame.from_ndarray(even, format="rgb24")
        yuv = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        yuv.pts, yuv.time_base = self._count, 1 / self._rate
        self._container.mux(self._stream.encode(yuv))
        self._count += 1

    def _open_stream(self, height: int, width: int) -> av.VideoStream:
        options: dict[str, object] = {"crf": str(self._quality), "preset": "fast"}
        stream = cast(av.VideoStream, self._container.add_stream("libx264", rate=self._rate))
        stream.options = options
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = 1  # limited
        return stream

    def __enter__(self) -> "Mp4Writer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        whole = error is None and self._stream is not None
        try:
            if whole:
                self._container.mux(cast(av.VideoStream, self._stream).encode(None))
            self._container.close()
            if whole:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)
