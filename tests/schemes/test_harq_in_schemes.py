"""HARQ and the outer loop where codecs and semantic schemes send: losses, channel uses, delay."""

import dataclasses

import numpy as np
import pytest

from pvsc_link.codecs.registry import CODECS
from pvsc_link.link.adaptation import OuterLoop
from pvsc_link.link.transport_options import Transport
from pvsc_link.media.clips import load_clip
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.types import ChannelPoint

MCS, ROUND_TRIP_MS = 5, 4.0
#: Where about one block in three of MCS 5 fails, each in a fade of its own.
POINT = ChannelPoint("rayleigh", 1.2, None, 300)


def link_with(harq=True, **given):
    if harq:
        given["harq"] = {"round_trip_ms": ROUND_TRIP_MS}
    transport = Transport(**{"transport_unit": "frame"} | given)
    return LinkOptions("lmmse", True, "layered", 20, transport)


@pytest.fixture(scope="module")
def sent():
    scheme = SeparatedScheme(CODECS["x264"](preset="ultrafast"))
    return scheme, scheme.encode(load_clip("carphone", num_frames=4), 4, 37)


def receptions(sent, link, point=POINT, mcs=MCS, num_seeds=8):
    scheme, gops = sent
    return [scheme.transmit(gops, point, link, mcs, [seed])[0] for seed in range(num_seeds)]


def test_what_is_sent_again_arrives_costs_channel_uses_and_comes_later(sent):
    without, with_harq = receptions(sent, link_with(False)), receptions(sent, link_with())
    assert sum(one.frames_lost for one in without) > 8
    assert sum(one.frames_lost for one in with_harq) == 0
    for before, after in zip(without, with_harq, strict=True):
        more = after.num_channel_uses["source"] - before.num_channel_uses["source"]
        assert (more > 0) == (before.num_block_errors > 0)
        again = after.details["num_retransmissions"]
        assert again >= before.num_block_errors
        assert (again > 0) == (more > 0)
        assert "num_retransmissions" not in before.details
        later = np.subtract(after.latency_ms, before.latency_ms)
        assert (later.max() >= ROUND_TRIP_MS) == (before.num_block_errors > 0)
        np.testing.assert_array_equal(after.frames_hat, sent[1][0].frames_hat)


def test_a_budget_allows_the_rounds_that_arrive_in_time(sent):
    """On the air a frame takes well below a millisecond: delay is a matter of round trips."""
    worse = dataclasses.replace(POINT, snr_db=-1.5)
    free = receptions(sent, link_with(), worse)
    rounds = max(max(one.latency_ms) for one in free) // ROUND_TRIP_MS
    assert rounds >= 2, "some block needs two retransmissions"
    budget = 1.9 * ROUND_TRIP_MS
    limited = receptions(sent, link_with(latency_budget_ms=budget), worse)
    for one, unlimited in zip(limited, free, strict=True):
        assert max(one.latency_ms) <= budget
        late = np.array(unlimited.latency_ms) > budget
        assert (one.frames_lost > 0) == late.any()
        assert one.num_channel_uses["source"] <= unlimited.num_channel_uses["source"]
    limited_lost = sum(one.frames_lost for one in limited)
    without = receptions(sent, link_with(False), worse)
    assert 0 < limited_lost < sum(one.frames_lost for one in without)


def test_the_outer_loop_of_a_codec_slows_down_and_speeds_up(sent):
    ladder = list(range(29))
    slow, fast = OuterLoop(ladder, 1), OuterLoop(ladder, 20)
    clear, bad = ChannelPoint("awgn", 25.0), ChannelPoint("awgn", 5.0)
    scheme, gops = sent
    seeds = range(60)
    first = list(scheme.stream(gops * 60, clear, link_with(False), slow, seeds))
    assert slow.mcs > 5
    uses = [one.num_channel_uses["source"] for one in first]
    assert uses[-1] < 0.7 * uses[0]
    list(scheme.stream(gops * 60, bad, link_with(), fast, seeds))
    assert fast.mcs < 16
    assert 1 < slow.mean_mcs < slow.mcs
    assert fast.mcs < fast.mean_mcs < 20


def test_side_information_is_sent_again_and_symbols_are_not(scheme, video):
    gops, point = scheme.encode(video, 4, 1), ChannelPoint("rayleigh", 2.0, None, 300)
    without, with_harq = (
        [
            scheme.transmit(
                gops,
                point,
                dataclasses.replace(link_with(harq), equalizer="zf", csi_aware=False),
                12,
                [seed],
            )[0]
            for seed in range(6)
        ]
        for harq in (False, True)
    )
    assert sum(one.details["side_lost"] for one in without) > 6
    assert sum(one.details["side_lost"] for one in with_harq) < 3
    for before, after in zip(without, with_harq, strict=True):
        assert after.num_channel_uses["source"] == before.num_channel_uses["source"]
        assert after.num_channel_uses["side"] >= before.num_channel_uses["side"]
        more = after.num_channel_uses["side"] > before.num_channel_uses["side"]
        assert more == (after.details["num_retransmissions"] > 0)
        assert (max(after.latency_ms) >= ROUND_TRIP_MS) == more
