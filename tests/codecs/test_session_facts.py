"""Session facts: found in real bitstreams of every format, known to both ends, and still needed."""

from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np
import pytest

from pvsc_link.codecs.libav import decode_rgb, nal_units
from pvsc_link.codecs.precoded import PACKAGED_STREAMS, Precoded
from pvsc_link.codecs.registry import CODECS
from pvsc_link.codecs.session_facts import gops_as_sent, parameter_sets, without_facts
from pvsc_link.media.clips import load_clip
from pvsc_link.types import CodecFailure, EncodedGop

GOP = 2


def gops_of(codec, video, rate, gop):
    made = []
    for start in range(0, len(video.frames), gop):
        frames = video.frames[start : start + gop]
        coded = codec.encode(frames, video.fps, rate, clip=video.name, first_frame=start)
        made.append(replace(coded, fact_spans=codec.fact_spans(coded.payload)))
    return made


@pytest.fixture(scope="module")
def video():
    clip = load_clip("carphone", num_frames=2 * GOP)
    return replace(clip, frames=clip.frames[:, :64, :96])


@pytest.mark.parametrize(("name", "largest"), [("x264", 60), ("x265", 110), ("vvenc", 160)])
def test_sets_of_the_first_gop_and_the_rest_of_the_second_give_its_frames(video, name, largest):
    preset = {"vvenc": "faster"}.get(name, "ultrafast")
    codec = CODECS[name](preset=preset)
    try:
        first, second = gops_of(codec, video, 32, GOP)
    except CodecFailure as error:
        pytest.skip(str(error))
    (_, num_bits), (sent, again) = gops_as_sent([first, second])
    assert num_bits == again
    assert 20 <= again // 8 <= largest
    assert len(sent.payload) == len(second.payload) - again // 8
    assert sum(sent.frame_num_bytes) == len(sent.payload)
    facts = b"".join(first.payload[start:end] for start, end in first.fact_spans)
    frame_num_bytes = (sent.frame_num_bytes[0] + len(facts), *sent.frame_num_bytes[1:])
    size = video.frames.shape[2], video.frames.shape[1]
    decoded = decode_rgb(facts + sent.payload, frame_num_bytes, codec.stream_format, size=size)
    np.testing.assert_array_equal(decoded, second.frames_hat)
    with pytest.raises(CodecFailure):  # what was left out is needed: the receiver must know it
        decode_rgb(sent.payload, sent.frame_num_bytes, codec.stream_format, size=size)


@pytest.mark.parametrize(
    ("name", "least", "most"), [("hm", 95, 110), ("vtm", 120, 150)], ids=["hm", "vtm"]
)
def test_packaged_streams_have_equal_sets_in_every_gop(name, least, most):
    codec = Precoded(index=PACKAGED_STREAMS / name)
    assert codec.entries
    found = {}
    for entry in codec.entries:
        payload = (codec.folder / entry.file).read_bytes()
        (span,) = codec.fact_spans(payload)
        assert span[0] == 0
        assert least <= span[1] <= most
        assert span[1] < entry.frame_num_bytes[0]
        key = entry.clip, entry.qp, entry.gop
        assert found.setdefault(key, payload[: span[1]]) == payload[: span[1]]


@pytest.mark.parametrize("name", ["hm", "vtm"])
def test_a_packaged_gop_is_decoded_with_the_sets_of_the_gop_before(name):
    codec = Precoded(index=PACKAGED_STREAMS / name)
    gops = []
    for first in (0, 4):
        entry = codec.find("carphone", first, 4, 37)
        payload = (codec.folder / entry.file).read_bytes()
        ((_, end),) = codec.fact_spans(payload)
        gops.append((payload[:end], payload[end:], entry.frame_num_bytes))
    (sets, _, _), (_, rest, frame_num_bytes) = gops
    size = entry.width, entry.height
    decoded, expected = (
        decode_rgb(stream, frame_num_bytes, codec.stream_format, size=size)
        for stream in (sets + rest, payload)
    )
    np.testing.assert_array_equal(decoded, expected)
    bare = (frame_num_bytes[0] - len(sets), *frame_num_bytes[1:])
    with pytest.raises(CodecFailure):
        decode_rgb(rest, bare, codec.stream_format, size=size)


def nal(kind, stream_format, body=b"\x55\x66"):
    head = {"h264": [kind], "hevc": [kind << 1 & 255, 1], "vvc": [0, kind << 3 & 255 | 1]}
    return b"\x00\x00\x01" + bytes(head[stream_format]) + body


#: By format: a delimiter, two sets, an SEI message, a slice.
TYPES = {
    "h264": (9, (7, 8), 6, 5),
    "hevc": (35, (32, 34), 39, 19),
    "vvc": (20, (12, 16), 23, 8),
}


@pytest.mark.parametrize("stream_format", TYPES)
def test_only_sets_before_the_first_slice_are_session_facts(stream_format):
    delimiter, sets, sei, picture = TYPES[stream_format]
    order = (delimiter, *sets, sei, sets[0], picture, sets[1], picture)
    units = [nal(kind, stream_format) for kind in order]
    places = list(pairwise(accumulate(map(len, units), initial=0)))
    found = parameter_sets(b"".join(units), stream_format)
    assert found == ((places[1][0], places[2][1]), places[4])


def test_adaptation_parameter_sets_of_h266_are_sent():
    units = [nal(kind, "vvc") for kind in (15, 17, 8)]
    assert parameter_sets(b"".join(units), "vvc") == ((0, len(units[0])),)


@pytest.mark.parametrize("payload", [b"", b"\x00\x00\x01", b"\x00\x00\x01\x40", b"no start code"])
def test_bytes_that_are_no_stream_have_no_sets(payload):
    assert parameter_sets(payload, "hevc") == ()
    assert parameter_sets(payload, None) == ()


def made_up(facts, data=b"abcdef"):
    spans = ((0, len(facts)),) if facts else ()
    sizes = (len(facts) + 4, len(data) - 4)
    return EncodedGop(
        facts + data, sizes, np.zeros((2, 8, 8, 3), np.uint8), "", "", "", None, spans
    )


def test_facts_that_change_are_sent_and_count_as_picture_data():
    gops = [made_up(b"ss"), made_up(b"tt"), made_up(b"ss"), made_up(b"")]
    sent = list(gops_as_sent(gops))
    assert [gop.payload for gop, _ in sent] == [b"abcdef", b"ttabcdef", b"abcdef", b"abcdef"]
    assert [bits for _, bits in sent] == [16, 0, 16, 0]
    assert [gop.frame_num_bytes for gop, _ in sent][:2] == [(4, 2), (6, 2)]


def test_counted_facts_stay_in_the_payload():
    gops = [made_up(b"ss"), made_up(b"ss")]
    sent = list(gops_as_sent(gops, count_headers=True))
    assert [(gop.payload, bits) for gop, bits in sent] == [(b"ssabcdef", 16)] * 2


def test_facts_in_two_pieces_are_cut_out_of_the_first_frame():
    gop = replace(made_up(b""), payload=b"DssDtabcdef", frame_num_bytes=(9, 2))
    left = without_facts(replace(gop, fact_spans=((1, 3), (4, 5))))
    assert (left.payload, left.frame_num_bytes, left.fact_spans) == (b"DDabcdef", (6, 2), ())


def test_the_size_in_the_header_of_lvc_is_a_session_fact(micro):
    codec = CODECS["lvc"](preset=micro)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    gop = codec.encode(frames, 30.0, 0)
    ((start, end),) = codec.fact_spans(gop.payload)
    assert gop.payload[start:end] == bytes([0, 64, 0, 64])


def test_units_joined_are_the_stream():
    stream = b"".join(nal(kind, "hevc") for kind in (32, 19))
    assert b"".join(code + unit for code, unit in nal_units(stream)) == stream
