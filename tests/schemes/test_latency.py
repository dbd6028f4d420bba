"""Latency of frames: a clock of channel uses, its budget, and what late frames do to a scheme."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from pvsc_link.codecs.registry import CODECS
from pvsc_link.link.adaptation import as_adaptation
from pvsc_link.link.air import Air
from pvsc_link.link.channel import SymbolReception, get_channel_function
from pvsc_link.link.coded_link import BitReception
from pvsc_link.link.transport_options import Transport
from pvsc_link.media.clips import load_clip
from pvsc_link.schemes import analog
from pvsc_link.schemes.analog import send_symbols
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.latency import Clock, latency_columns
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.types import ChannelPoint, LinkStats, Payload

CLEAR = ChannelPoint("awgn", 60.0)
MCS = 5


def slow(**given):
    """1000 channel uses a second: one each millisecond."""
    return Transport(symbol_rate_hz=1000.0, **given)


def test_a_frame_takes_its_channel_uses():
    clock = Clock(slow(transport_unit="frame"), fps=10.0)
    assert [clock.sent(1, uses)[0] for uses in (30, 50, 1)] == pytest.approx([30, 50, 1])


def test_frames_wait_for_the_channel_and_catch_up():
    """250 ms on the air at one frame every 100 ms: each waits 150 ms longer than the one before."""
    clock = Clock(slow(transport_unit="frame"), fps=10.0)
    assert [clock.sent(1, 250)[0] for _ in range(3)] == pytest.approx([250, 400, 550])
    assert [clock.sent(1, 10)[0] for _ in range(6)] == pytest.approx([460, 370, 280, 190, 100, 10])


def test_a_gop_waits_for_its_last_frame():
    clock = Clock(slow(), fps=10.0)
    np.testing.assert_allclose(clock.sent(3, 40), [240, 140, 40])
    np.testing.assert_allclose(clock.sent(3, 40), [240, 140, 40])


def test_every_further_round_adds_a_round_trip():
    clock = Clock(slow(harq={"round_trip_ms": 7.0}), fps=10.0)
    assert clock.sent(1, 30, rounds=3)[0] == pytest.approx(30 + 2 * 7)


def test_what_is_left_of_a_budget_is_counted_in_channel_uses():
    assert Clock(slow(), fps=10.0).uses_left(1) is None
    clock = Clock(slow(transport_unit="frame", latency_budget_ms=40.0), fps=10.0)
    assert clock.uses_left(1) == pytest.approx(40)
    clock.sent(1, 130)  # the next frame is complete 30 ms before the channel is free
    assert clock.uses_left(1) == pytest.approx(10)
    of_gop = Clock(slow(latency_budget_ms=250.0), fps=10.0)
    assert of_gop.uses_left(3) == pytest.approx(50), "its first frame waits for the last one"


def test_columns_are_order_statistics_and_misses():
    columns = latency_columns(list(range(101)), 90.0)
    assert columns == {
        "latency_ms_p50": 50,
        "latency_ms_p95": 95,
        "latency_ms_max": 100,
        "deadline_misses": 10,
    }
    assert latency_columns([5.0], None)["deadline_misses"] == 0
    assert latency_columns([], 10.0) == {}


def link_with(**given):
    return LinkOptions("lmmse", True, "layered", 20, Transport(**given))


@pytest.fixture(scope="module")
def sent():
    scheme = SeparatedScheme(CODECS["x264"](preset="ultrafast"))
    return scheme, scheme.encode(load_clip("carphone", num_frames=4), 4, 32)


def test_a_codec_freezes_from_the_first_late_frame_on(sent):
    """The I frame is large: at this symbol rate it alone takes longer than the budget."""
    scheme, gops = sent
    given = {"transport_unit": "frame", "symbol_rate_hz": 1_000_000.0}
    free = scheme.transmit(gops, CLEAR, link_with(**given), MCS, [1])[0]
    assert free.frames_lost == 0
    assert free.latency_ms[0] > 1.5 * max(free.latency_ms[1:])
    budget = 0.9 * free.latency_ms[0]
    (late,) = scheme.transmit(gops, CLEAR, link_with(**given, latency_budget_ms=budget), MCS, [1])
    assert late.latency_ms == free.latency_ms
    assert (late.frames_lost, late.freeze_events, late.num_block_errors) == (4, 1, 0)


def test_by_gop_no_frame_arrives_before_the_gop_is_complete(sent):
    scheme, gops = sent
    (reception,) = scheme.transmit(gops, CLEAR, link_with(), MCS, [1])
    steps = -np.diff(reception.latency_ms)
    np.testing.assert_allclose(steps, 1000 / gops[0].fps)
    assert reception.latency_ms[-1] > 0


def test_frames_as_transports_lose_what_lies_behind_a_failed_block(sent):
    """At this SNR the large I frame fails now and then; a later transport may be clean."""
    scheme, gops = sent
    link = link_with(transport_unit="frame")
    (clear,) = scheme.transmit(gops, CLEAR, link, MCS, [1])
    np.testing.assert_array_equal(clear.frames_hat, gops[0].frames_hat)
    fading = ChannelPoint("rayleigh", 3.0, None, coherence_length=2000)
    lost = [scheme.transmit(gops, fading, link, MCS, [seed])[0] for seed in range(12)]
    partial = [one for one in lost if one.num_block_errors]
    assert partial
    for one in partial:
        good = 4 - one.frames_lost
        np.testing.assert_array_equal(one.frames_hat[:good], gops[0].frames_hat[:good])
        assert one.frames_concealed == one.frames_lost


class LinkWithPilots:
    """Carries any bits in 40 channel uses and 7 pilots, free of errors."""

    transport = Transport()

    def num_channel_uses(self, num_bits):
        return 40

    def send(self, bits, *place):
        one = np.ones(1, np.int64)
        return BitReception(bits, one > 0, one * len(bits), one, 47, 7)


def test_pilots_are_counted_and_take_no_time(sent, monkeypatch):
    monkeypatch.setattr("pvsc_link.link.open_link", lambda *_, **__: LinkWithPilots())
    scheme, gops = sent
    (reception,) = scheme.transmit(gops, CLEAR, link_with(symbol_rate_hz=1000.0), MCS, [1])
    assert reception.latency_ms[-1] == pytest.approx(40)
    assert reception.num_channel_uses == {"source": 40, "pilot": 7}

    monkeypatch.setattr(analog, "open_link", lambda *_, **__: LinkWithPilots())
    reception = send_frames(1, slow(), as_adaptation(MCS))
    assert reception.latency_ms == pytest.approx((40 + 30,))
    assert reception.num_channel_uses == {"source": 30, "side": 40, "pilot": 7}


def send_frames(num_frames, transport, adaptation):
    """``send_gop`` of frames of 30 symbols to a receiver that shows black pictures."""
    pictures = np.zeros((num_frames, 8, 8, 3), np.uint8)
    shown = SimpleNamespace(
        frames_uint8=pictures,
        is_lost=np.zeros(num_frames, bool),
        **dict.fromkeys(("frames_concealed", "freeze_events", "side_lost"), 0),
    )
    payload = Payload(np.ones(30, np.complex64), {"z": b"z", "k": b"k"})
    return analog.send_gop(
        [analog.Outgoing(0, (payload,), b"")] * num_frames,
        CLEAR,
        LinkOptions("zf", False, "layered", 20, transport),
        adaptation,
        1,
        SimpleNamespace(receive=lambda transports: shown),
        Clock(transport, fps=10.0),
        num_symbols={"y": 30 * num_frames - 30, "intra": 30},
    )


class ThirdTime:
    """An air on which bits take 40 channel uses and arrive in round 3; symbols have 5 pilots."""

    def __init__(self):
        self.deadlines, self.reports, self.mcs = [], [], MCS

    def send_bits(self, link, bits, deadline):
        self.deadlines.append(deadline)
        one = np.ones(1, np.int64)
        return BitReception(bits, one > 0, one * len(bits), 3 * one, 40)

    def send_symbols(self, channel, symbols):
        return SymbolReception(symbols, np.ones(len(symbols)), len(symbols) + 5, LinkStats())

    def report(self, ok):
        self.reports.append(list(ok))


def test_rounds_take_their_time_and_the_outer_loop_hears_of_the_first_one(sent, monkeypatch):
    """A budget of 500 ms less 30 ms for symbols is left for the rounds of side information."""
    given = {"harq": {"round_trip_ms": 7.0}, "latency_budget_ms": 500.0, "symbol_rate_hz": 1000.0}
    air = ThirdTime()
    monkeypatch.setattr(analog, "open_air", lambda *_: air)
    monkeypatch.setattr(analog, "open_link", lambda *_, **__: LinkWithPilots())
    reception = send_frames(2, Transport(**given), air)
    assert reception.latency_ms == pytest.approx((40 + 30 + 2 * 7,) * 2)
    assert reception.num_channel_uses == {"source": 60, "side": 80, "pilot": 10}
    assert air.deadlines == pytest.approx([470, 470])
    assert air.reports == [[False]] * 2

    air = ThirdTime()
    monkeypatch.setattr("pvsc_link.link.open_air", lambda *_: air)
    monkeypatch.setattr("pvsc_link.link.open_link", lambda *_, **__: LinkWithPilots())
    scheme, gops = sent
    (reception,) = scheme.transmit(gops, CLEAR, link_with(**given), air, [1])
    assert reception.latency_ms[0] == pytest.approx(40 + 2 * 7)
    assert air.deadlines[0] == pytest.approx(500)
    assert air.reports == [[False]] * 4


def test_late_frames_of_a_semantic_scheme_are_lost_alone(scheme, video):
    gops = scheme.encode(video, 4, 1)
    given = {"transport_unit": "frame", "symbol_rate_hz": 50_000.0}
    link = dataclasses.replace(link_with(**given), equalizer="zf", csi_aware=False)
    (free,) = scheme.transmit(gops, CLEAR, link, MCS, [1])
    assert free.frames_lost == 0
    budget = sorted(free.latency_ms)[-1] - 1e-6
    link = dataclasses.replace(link, transport=Transport(**given, latency_budget_ms=budget))
    (late,) = scheme.transmit(gops, CLEAR, link, MCS, [1])
    index = int(np.argmax(free.latency_ms))
    np.testing.assert_array_equal(late.frames_hat[:index], free.frames_hat[:index])
    assert late.frames_concealed == 4 - index
    assert late.details == {"side_lost": 0}
    assert late.frames_lost == (4 if index == 0 else 1)


def test_symbols_that_are_sent_twice_gain_3_db():
    symbols = np.exp(2j * np.pi * np.random.default_rng(0).random(40_000)).astype(np.complex64)
    channel = get_channel_function("awgn", "zf", False)
    once, twice = (
        send_symbols(Air(ChannelPoint("awgn", 6.0), seed=1), channel, symbols, times)
        for times in (1, 2)
    )
    errors = [np.mean(np.abs(one.symbols_hat - symbols) ** 2) for one in (once, twice)]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.03)
    np.testing.assert_allclose(twice.no_eff, once.no_eff / 2, rtol=1e-5)


@pytest.mark.parametrize("times", [1, 2])
def test_a_frame_without_symbols_takes_no_channel_use(times):
    air = Air(ChannelPoint("awgn", 6.0), seed=1)
    channel = get_channel_function("awgn", "zf", False)
    sent = send_symbols(air, channel, np.zeros(0, np.complex64), times)
    assert (len(sent.symbols_hat), sent.num_channel_uses, air.place) == (0, 0, 0)
    assert sent.stats.num_symbols == 0


def test_a_faded_reception_counts_little_beside_a_good_one():
    symbols = np.ones(20_000, np.complex64)
    channel = get_channel_function("rayleigh", "zf", False)
    point = ChannelPoint("rayleigh", 10.0, None, coherence_length=1)
    once, twice = (send_symbols(Air(point, 1), channel, symbols, times) for times in (1, 2))
    alone = np.abs(once.symbols_hat - symbols) ** 2
    combined = np.abs(twice.symbols_hat - symbols) ** 2
    assert np.mean(combined) < np.mean(alone) / 4  # diversity: more than the 3 dB of two times
    assert np.mean(combined) == pytest.approx(np.mean(twice.no_eff), rel=0.1)


def test_symbols_that_are_sent_twice_are_counted_twice(scheme, video):
    gops = scheme.encode(video, 2, 1)[:1]
    once, twice = (
        scheme.transmit(gops, CLEAR, link_with(symbol_retransmission=policy), 0, [3])[0]
        for policy in ("none", "mrc")
    )
    assert twice.num_channel_uses["source"] == 2 * once.num_channel_uses["source"]
    assert twice.num_channel_uses["side"] == once.num_channel_uses["side"]
    assert twice.finer_channel_uses["intra"] == 2 * once.finer_channel_uses["intra"]
    assert twice.frames_lost == 0
