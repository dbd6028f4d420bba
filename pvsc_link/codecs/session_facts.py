"""Session facts of a bitstream: what both ends know before the first frame, such as parameter sets.

Every GOP of H.264, H.265 and H.266 begins with parameter sets, so that it can be decoded alone. Of
a session they are the same in every GOP: the receiver got them before the first frame, as it got
the picture size and a semantic scheme's weights. They are not sent then, unless ``count_headers``
has them counted for every scheme.

Session facts are the parameter sets before the first slice of a GOP: types 7 and 8 of H.264 (7.4.1
of that standard), 32 to 34 of H.265 (7.4.2.2), 12 to 16 of H.266 (7.4.2.2). Everything else is
sent and counted: access unit delimiters, SEI messages and adaptation parameter sets, also where
they stand among the sets, and sets that stand behind a slice.

A GOP whose sets are not those of the first GOP of its stream changes the session. Its sets are
sent, and count as part of its first frame. A receiver decodes a GOP that comes without sets with
those of the session.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pvsc_link.codecs.libav import nal_units
from pvsc_link.types import EncodedGop

#: By format: types of the parameter sets, and the types of slices.
_SETS = {"h264": range(7, 9), "hevc": range(32, 35), "vvc": range(12, 17)}
_SLICES = {"h264": range(1, 6), "hevc": range(32), "vvc": range(12)}


def _nal_type(nal: bytes, stream_format: str) -> int:
    """Type of a NAL unit, -1 for one without a whole header."""
    if len(nal) < (1 if stream_format == "h264" else 2):
        return -1
    if stream_format == "h264":
        return nal[0] & 31
    return nal[1] >> 3 if stream_format == "vvc" else nal[0] >> 1 & 63


def parameter_sets(payload: bytes, stream_format: str | None) -> tuple[tuple[int, int], ...]:
    """Where the parameter sets before the first slice lie, start codes included.

    Parameters: ``stream_format`` : ``h264``, ``hevc`` or ``vvc``; anything else has no sets.
    Output: pairs of first byte and end, in order; neighbours are joined.
    """
    if stream_format not in _SETS:
        return ()
    spans: list[tuple[int, int]] = []
    units = list(nal_units(payload))
    place = len(payload) - sum(len(code) + len(nal) for code, nal in units)
    for code, nal in units:
        start, place = place, place + len(code) + len(nal)
        kind = _nal_type(nal, stream_format)
        if kind in _SLICES[stream_format]:
            break
        if kind in _SETS[stream_format]:
            joined = bool(spans) and spans[-1][1] == start
            spans[-1:] = [(spans[-1][0], place)] if joined else [*spans[-1:], (start, place)]
    return tuple(spans)


def gops_as_sent(
    gops: Iterable[EncodedGop], count_headers: bool = False
) -> Iterator[tuple[EncodedGop, int]]:
    """The GOPs of one stream as they go on the air, and the bits of session facts of each.

    Parameters: ``count_headers`` : whether session facts are sent, and so counted.
    Input: ``gops`` : of one stream in order; ``EncodedGop.fact_spans`` says what is a session fact.
    Output: pairs of a GOP, without its session facts if they are not sent, and the number of
    their bits, sent or not. A GOP whose facts are not those of the first is whole, with 0 bits.
    """
    known: bytes | None = None
    for gop in gops:
        facts = b"".join(gop.payload[start:end] for start, end in gop.fact_spans)
        known = facts if known is None else known
        if facts != known:
            yield gop, 0
        else:
            yield gop if count_headers else without_facts(gop), 8 * len(facts)


def without_facts(gop: EncodedGop) -> EncodedGop:
    """The GOP without the bytes of its ``fact_spans``, which all belong to its first frame."""
    if not gop.fact_spans:
        return gop
    ends = [0, *(place for span in gop.fact_spans for place in span), len(gop.payload)]
    kept = b"".join(gop.payload[a:b] for a, b in zip(ends[::2], ends[1::2], strict=True))
    first, *others = gop.frame_num_bytes
    first -= len(gop.payload) - len(kept)
    return replace(gop, payload=kept, frame_num_bytes=(first, *others), fact_spans=())
