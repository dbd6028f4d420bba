"""Encoding and decoding of one GOP inside this process through PyAV (libav), and NAL units.

NAL units are those of H.264, H.265 and H.266 byte streams (start codes, Annex B of each standard).
"""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import cast

import av
import numpy as np
from av.error import FFmpegError

from pvsc_link.media import crop, decoded_frame_to_rgb, frame_rate
from pvsc_link.types import CodecFailure


def libav_version() -> str:
    """Versions of PyAV and libavcodec, as manifests and cache keys state them."""
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__}, libavcodec {codec}"


def encode_access_units(
    encoder: str,
    frames: Iterable[av.VideoFrame],
    fps: float,
    options: dict[str, str],
    timeout_s: float,
) -> list[bytes]:
    """One access unit (bytes) per frame from a zero-latency libav encoder.

    Parameters: ``encoder`` : libav name; ``options`` : its private options; ``timeout_s`` : limit
    in seconds, checked after every frame.
    Raises ``CodecFailure``: ``codec_error`` with libav's message, ``codec_timeout``.
    """
    start = time.monotonic()
    units: list[bytes] = []
    try:
        context = None
        for index, frame in enumerate(frames):
            context = context or _encoder_context(encoder, frame, frame_rate(fps), options)
            frame.pts, frame.time_base = index, context.time_base
            units += [bytes(packet) for packet in context.encode(frame)]
            if time.monotonic() - start > timeout_s:
                raise CodecFailure("codec_timeout", f"{encoder}: {timeout_s} s at frame {index}")
        if context is not None:
            units += [bytes(packet) for packet in context.encode(None)]
    except (FFmpegError, ValueError) as error:
        raise CodecFailure("codec_error", f"{encoder}: {error}") from error
    return units


def _encoder_context(
    encoder: str, frame: av.VideoFrame, rate: Fraction, options: dict[str, str]
) -> av.VideoCodecContext:
    context = cast(av.VideoCodecContext, av.CodecContext.create(encoder, "w"))
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = frame.format.name
    context.framerate, context.time_base = rate, 1 / rate
    context.thread_count = 1  # more threads make more slices, hence more bits
    context.options = options
    return context


def access_units(stream: bytes, stream_format: str) -> tuple[int, ...]:
    """Bytes of every access unit of a byte stream, in coding order; they sum to its length.

    Parameters: ``stream_format`` : ``h264``, ``hevc`` or ``vvc``.
    Raises ``CodecFailure`` (codec_error) where bytes belong to no access unit.
    """
    context = av.CodecContext.create(stream_format, "r")
    packets = context.parse(stream) + context.parse(None)
    sizes = tuple(packet.size for packet in packets)
    if sum(sizes) != len(stream):
        detail = f"{stream_format}: access units of {sum(sizes)} bytes in {len(stream)} bytes"
        raise CodecFailure("codec_error", detail)
    return sizes


def decode_rgb(
    payload: bytes,
    frame_num_bytes: Sequence[int],
    stream_format: str,
    *,
    size: tuple[int, int],
) -> np.ndarray:
    """Error-free reconstruction of a GOP, cropped to ``size`` = (width, height).

    Parameters: ``stream_format`` : ``h264``, ``hevc`` or ``vvc``.
    Input: ``payload`` whose t-th run of ``frame_num_bytes`` is the access unit of frame t.
    Output: [num_frames, height, width, 3], uint8 RGB.
    Raises ``CodecFailure`` (codec_error) when libav does not return every frame.
    """
    frames = decode_frames(payload, frame_num_bytes, stream_format)
    width, height = size
    try:
        return np.stack([crop(decoded_frame_to_rgb(frame), height, width) for frame in frames])
    except ValueError as error:
        raise CodecFailure("codec_error", f"decoder {stream_format}: {error}") from error


def decode_frames(
    payload: bytes, frame_num_bytes: Sequence[int], stream_format: str
) -> list[av.VideoFrame]:
    """Decoded frames in display order; one thread, so that the result is always repeatable."""
    context = cast(av.VideoCodecContext, av.CodecContext.create(stream_format, "r"))
    context.thread_count = 1
    frames: list[av.VideoFrame] = []
    try:
        for index, (start, end) in enumerate(pairwise(accumulate(frame_num_bytes, initial=0))):
            packet = av.Packet(payload[start:end])
            packet.pts = packet.dts = index
            frames += context.decode(packet)
        frames += context.decode(None)
    except FFmpegError as error:
        raise CodecFailure("codec_error", f"decoder {stream_format}: {error}") from error
    if len(frames) != len(frame_num_bytes):
        detail = f"decoder {stream_format}: {len(frames)} of {len(frame_num_bytes)} frames"
        raise CodecFailure("codec_error", detail)
    return sorted(frames, key=lambda frame: frame.pts or 0)


_START_CODE = re.compile(rb"\x00\x00\x00\x01|\x00\x00\x01")

_H264_SEI = 6  # NAL unit type


def nal_units(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs (start code, NAL unit) of a byte stream; joined together they are the stream.

    Bytes before the first start code, which no encoder writes, are left out.
    """
    codes = list(_START_CODE.finditer(stream))
    ends = [code.start() for code in codes[1:]] + [len(stream)]
    for code, end in zip(codes, ends, strict=False):
        yield code.group(), stream[code.end() : end]


def without_h264_sei(access_unit: bytes) -> bytes:
    """Drop SEI messages, which x264 puts into the first access unit (some 600 bytes of text)."""
    kept = (code + nal for code, nal in nal_units(access_unit) if nal[0] & 31 != _H264_SEI)
    return b"".join(kept)
