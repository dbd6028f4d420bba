"""A codec over the bit link: what losses do, and what they may not do."""

from dataclasses import replace

import numpy as np
import pytest

from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.registry import CODECS
from pvsc_link.codecs.session_facts import gops_as_sent
from pvsc_link.link.mcs import get_mcs
from pvsc_link.media.clips import load_clip
from pvsc_link.metrics.bd import bd_cbr
from pvsc_link.metrics.cbr import channel_bandwidth_ratio
from pvsc_link.metrics.psnr import psnr_db
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.separated import SeparatedScheme, payload_bits
from pvsc_link.types import ChannelPoint, EncodedGop, Video

GOP, NUM_GOPS = 4, 2
LINK = LinkOptions("lmmse", True, "layered", 20)
#: An MCS without block errors at each SNR (dB), from robust to fast.
CLEAN = {4.0: 5, 9.0: 13, 15.0: 20, 30.0: 28}


@pytest.fixture(scope="module")
def video():
    return load_clip("carphone", num_frames=GOP * NUM_GOPS)


@pytest.fixture(scope="module")
def encoded(video):
    """Scheme and encoded GOPs by codec and QP."""
    return {
        name: (scheme := SeparatedScheme(CODECS[name](variant="psy-off")))
        and {rate: scheme.encode(video, GOP, rate) for rate in (22, 27, 32, 37)}
        for name in ("x264", "x265")
    }


def frames_of(*levels):
    """A grey frame of 8x8 pixels per level."""
    return np.ones((len(levels), 8, 8, 3), np.uint8) * np.reshape(levels, (-1, 1, 1, 1)).astype(
        np.uint8
    )


def send(name, gops, mcs, snr_db, channel="awgn"):
    point = ChannelPoint(channel, snr_db, None, None if channel == "awgn" else 1)
    scheme = SeparatedScheme(CODECS[name](variant="psy-off"))
    return scheme.transmit(gops, point, LINK, mcs, seeds=range(len(gops)))


def cbr_of(receptions, video):
    uses = sum(reception.num_channel_uses["source"] for reception in receptions)
    return channel_bandwidth_ratio({"source": uses}, *video.frames.shape[:3])["cbr"]


def quality_of(receptions, video):
    frames_hat = np.concatenate([reception.frames_hat for reception in receptions])
    unit = [frames[None].astype(np.float32) / 255 for frames in (video.frames, frames_hat)]
    return float(np.mean(psnr_db(*unit)))


@pytest.mark.parametrize("snr_db", CLEAN)
def test_without_block_errors_bd_cbr_is_the_bd_rate_of_the_codecs(snr_db, encoded, video):
    """The channel drops out: CBR = bits / (spectral efficiency x 3 H W T) for both codecs."""
    curves, rates = {}, {}
    for name, by_rate in encoded.items():
        receptions = [send(name, gops, CLEAN[snr_db], snr_db) for gops in by_rate.values()]
        assert sum(r.num_block_errors for sent in receptions for r in sent) == 0
        quality = [quality_of(sent, video) for sent in receptions]
        curves[name] = ([cbr_of(sent, video) for sent in receptions], quality)
        bits = [sum(gop.num_bits for gop in gops) for gops in by_rate.values()]
        rates[name] = (bits, quality)
    of_channel_uses = bd_cbr(*curves["x265"], *curves["x264"], higher_is_better=True)
    of_bits = bd_cbr(*rates["x265"], *rates["x264"], higher_is_better=True)
    # What is left is the parity of the last, shortened block of a GOP: under one block in ten.
    assert of_channel_uses.bd_cbr_percent == pytest.approx(of_bits.bd_cbr_percent, abs=4.0)
    assert abs(of_bits.bd_cbr_percent) > 8.0


def test_error_free_reception_is_the_codecs_own_reconstruction(encoded):
    gops = encoded["x265"][32]
    receptions = send("x265", gops, CLEAN[9.0], 9.0)
    assert len(receptions) > 0
    for gop, reception in zip(gops, receptions, strict=True):
        np.testing.assert_array_equal(reception.frames_hat, gop.frames_hat)
        assert (reception.status, reception.frames_lost) == ("ok", 0)


def test_cbr_is_never_below_what_the_code_rate_allows(encoded, video):
    for mcs in (2, 9, 20, 28):
        gops = encoded["x264"][27]
        uses = sum(r.num_channel_uses["source"] for r in send("x264", gops, mcs, 40.0))
        bits = sum(gop.num_bits for gop, _ in gops_as_sent(gops))
        efficiency = get_mcs(mcs).spectral_efficiency
        assert uses > bits / efficiency
        # Per GOP at most one block of 6144 coded bits more, plus 24 bits of CRC a block.
        assert uses < 1.04 * bits / efficiency + len(gops) * 6144 / 2


def test_a_lost_gop_shows_the_last_frame_of_the_gop_before(encoded):
    """At an SNR far below the threshold nothing arrives: grey first, and grey for ever."""
    gops = encoded["x265"][37]
    first, second = send("x265", gops, 28, -5.0)
    assert first.frames_lost == second.frames_lost == GOP
    assert (first.freeze_events, second.freeze_events) == (1, 0), "one run of repeated frames"
    assert np.unique(first.frames_hat).tolist() == [128]
    np.testing.assert_array_equal(second.frames_hat, first.frames_hat)


def test_frames_behind_an_entropy_decoder_out_of_step_are_lost(encoded):
    gop = replace(encoded["x264"][37][0], num_decodable=1)
    (reception,) = send("x264", [gop], 5, 20.0)
    assert reception.num_block_errors == 0
    assert (reception.frames_lost, reception.details["out_of_step"]) == (GOP - 1, GOP - 1)
    np.testing.assert_array_equal(reception.frames_hat, gop.frames_hat[[0] * GOP])


class Noting(Codec):
    """Notes the place of each GOP in its video and the two frames before it."""

    name, variant, version, allowed_rates, history_frames = "noting", "plain", "1", (0,), 2

    def __init__(self):
        self.noted = []

    def describe(self, rate):
        return ""

    def check(self):
        pass

    def encode(self, frames, fps, rate, *, clip="", first_frame=0, history=()):
        before = [int(frame[0, 0, 0]) for frame in history]
        self.noted.append((first_frame, before, frames[:, 0, 0, 0].tolist()))
        return EncodedGop(bytes(len(frames)), (1,) * len(frames), frames, "", "")


def test_a_codec_is_given_the_place_of_its_gop_and_the_frames_before(tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path))
    codec, video = Noting(), Video("made_up", frames_of(*range(7)), 30.0, "made here", 10)
    SeparatedScheme(codec).encode(video, 3, 0)
    assert codec.noted == [(10, [], [0, 1, 2]), (13, [1, 2], [3, 4, 5]), (16, [4, 5], [6])]


def test_from_the_first_lost_frame_on_the_last_good_one_is_shown(encoded):
    """With a fade per block some GOP loses one in its middle; frames before it stay intact."""
    gops = encoded["x264"][22]
    scheme = SeparatedScheme(CODECS["x264"](variant="psy-off"))
    for seed in range(40):
        point = ChannelPoint("rayleigh", 12.0, None, coherence_length=6144)
        (reception,) = scheme.transmit(gops[:1], point, LINK, 9, [seed])
        if 0 < reception.frames_lost < GOP:
            break
    else:
        pytest.fail("no GOP was hit in its middle")
    good = GOP - reception.frames_lost
    np.testing.assert_array_equal(reception.frames_hat[:good], gops[0].frames_hat[:good])
    for frame in reception.frames_hat[good:]:
        np.testing.assert_array_equal(frame, gops[0].frames_hat[good - 1])
    assert reception.num_block_errors > 0


def test_the_same_seed_gives_the_same_reception(encoded):
    gops = encoded["x264"][27]
    once, again = (send("x264", gops, 12, 6.0, "rayleigh") for _ in range(2))
    assert len(once) > 0
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.frames_hat, b.frames_hat)
        assert a.num_block_errors == b.num_block_errors


def test_payload_bits_are_the_bytes_most_significant_bit_first(encoded):
    gop = encoded["x264"][37][0]
    assert np.packbits(payload_bits(gop)).tobytes() == gop.payload
