"""Codecs of still images: x265 intra, AVIF and JPEG XL."""

import importlib.util
import sys

import numpy as np
import pytest

from pvsc_link.codecs.registry import CODECS
from pvsc_link.media import load_clip
from pvsc_link.types import CodecFailure, InputError

STILLS = {"bpg-like": (22, 37), "avif": (85, 30), "jpegxl": (85, 30)}


@pytest.fixture(scope="module")
def frames():
    return load_clip("carphone", num_frames=2).frames[:, :141, :173]


def coded(name, frames, rate):
    if name == "jpegxl" and importlib.util.find_spec("imagecodecs") is None:
        pytest.skip("imagecodecs is not installed (extra images)")
    return CODECS[name]().encode(frames, 30.0, rate)


@pytest.mark.parametrize("name", STILLS)
def test_every_frame_is_a_picture_of_its_own_and_a_finer_rate_is_nearer(name, frames):
    errors, sizes = [], []
    for rate in STILLS[name]:
        gop = coded(name, frames, rate)
        again = coded(name, frames[1:], rate)
        start = gop.frame_num_bytes[0]
        if name != "bpg-like":  # whose parameter sets stand in the first frame alone
            assert gop.payload[start:] == again.payload
        np.testing.assert_array_equal(gop.frames_hat[1], again.frames_hat[0])
        assert sum(gop.frame_num_bytes) == len(gop.payload)
        errors.append(np.mean((gop.frames_hat.astype(float) - frames) ** 2))
        sizes.append(len(gop.payload))
    assert errors[0] < errors[1] < 200
    assert sizes[0] > sizes[1] > 200


def test_boxes_of_avif_are_session_facts(frames):
    gop = coded("avif", frames[:1], 30)
    ((start, end),) = CODECS["avif"]().fact_spans(gop.payload)
    assert start == 0
    assert gop.payload[end - 4 : end] == b"mdat"
    assert 150 < end < 400
    assert CODECS["avif"]().fact_spans(b"") == ()


def test_bad_rates_and_options_are_refused(frames):
    for name in STILLS:
        with pytest.raises((InputError, CodecFailure)):
            coded(name, frames, 200)
    with pytest.raises(InputError):
        CODECS["avif"](speed=11)


def test_without_its_library_jpegxl_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(CodecFailure, match="pip install") as failure:
        CODECS["jpegxl"]().check()
    assert failure.value.status == "missing_binary"
    assert CODECS["jpegxl"]().version == "absent"


def test_svt_av1_keeps_the_order_of_frames_and_its_sequence_header_is_a_session_fact(frames):
    """Every frame is decodable when its own bytes are there: low delay."""
    codec = CODECS["svt-av1"](preset=8)
    fine, coarse = (codec.encode(frames, 30.0, rate) for rate in (20, 55))
    for gop in (fine, coarse):
        assert len(gop.frame_num_bytes) == 2
        ((start, end),) = codec.fact_spans(gop.payload)
        assert start == 0
        assert 8 < end < 40
    errors = [np.mean((gop.frames_hat.astype(float) - frames) ** 2) for gop in (fine, coarse)]
    assert errors[0] < errors[1] < 400
    assert len(fine.payload) > len(coarse.payload)
    assert codec.fact_spans(b"") == codec.fact_spans(b"\xff") == ()
    with pytest.raises(InputError):
        codec.encode(frames, 30.0, 64)
