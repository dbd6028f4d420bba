"""NAL units of H.264, H.265 and H.266 byte streams (start codes, Annex B of each standard)."""

import re
from collections.abc import Iterator

_START_CODE = re.compile(rb"\x00\x00\x00\x01|\x00\x00\x01")

#: NAL unit type from the first bytes after the start code.
NAL_TYPE = {
    "h264": lambda nal: nal[0] & 31,
    "hevc": lambda nal: (nal[0] >> 1) & 63,
    "vvc": lambda nal: nal[1] >> 3,
}
H264_SEI = 6


def nal_units(stream: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Pairs (start code, NAL unit) of a byte stream; joined together they are the stream."""
    codes = list(_START_CODE.finditer(stream))
    ends = [code.start() for code in codes[1:]] + [len(stream)]
    for code, end in zip(codes, ends, strict=True):
        yield code.group(), stream[code.end() : end]


def nal_types(stream: bytes, stream_format: str) -> list[int]:
    """NAL unit types in order; ``stream_format`` : ``h264``, ``hevc`` or ``vvc``."""
    return [NAL_TYPE[stream_format](nal) for _, nal in nal_units(stream)]


def without_h264_sei(access_unit: bytes) -> bytes:
    """Drop SEI messages, which x264 puts into the first access unit (some 600 bytes of text)."""
    kept = (code + nal for code, nal in nal_units(access_unit) if NAL_TYPE["h264"](nal) != H264_SEI)
    return b"".join(kept)
