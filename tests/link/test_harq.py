"""HARQ of one transport: what is sent again, what combining gains, and where rounds lie."""

import math

import numpy as np
import pytest

from pvsc_link.link.air import Air
from pvsc_link.link.coded_link import CodedLink, get_coded_link
from pvsc_link.link.harq import HarqProcess
from pvsc_link.link.mcs import Mcs
from pvsc_link.link.registry import find_channel
from pvsc_link.link.transport_options import Harq, Transport
from pvsc_link.types import ChannelPoint, InputError

#: Short blocks of 16-QAM at rate 0.6: many of them are quick.
SHORT = Mcs(13, 4, 616 / 1024, n=480)
QPSK = Mcs(7, 2, 526 / 1024, n=480)


def transport(**harq):
    return Transport(harq=Harq(**harq))


def random_bits(num, seed=0):
    return np.random.default_rng(seed).integers(0, 2, num, dtype=np.uint8)


def payload_of(link, num_blocks):
    return random_bits(num_blocks * link.block_payload, num_blocks)


def after_rounds(
    snr_db, num_rounds, combining, num_blocks=400, channel="awgn", seed=3, mcs=SHORT, **more
):
    """Process of short blocks that met ``num_rounds`` rounds far from each other."""
    link, point = CodedLink(mcs, channel), ChannelPoint(channel, snr_db, **more)
    process = HarqProcess(link, payload_of(link, num_blocks), combining)
    for place in range(num_rounds):
        process.send(point, seed, first_symbol=10_000_000 * place)
    return process


def within_chance(a, b):
    """Whether two counts of rare events differ by no more than four standard deviations."""
    return abs(a - b) <= 4 * math.sqrt(a + b)


@pytest.mark.parametrize("combining", ["ir", "chase"])
@pytest.mark.parametrize("snr_db", [8.0, 12.0])
def test_the_first_round_is_what_is_sent_without_harq(combining, snr_db):
    link, point = get_coded_link(13, "rayleigh"), ChannelPoint("rayleigh", snr_db, -20.0, 700)
    bits = random_bits(30_000)
    process = HarqProcess(link, bits, combining)
    process.send(point, 5, first_symbol=44)
    expected, got = link.send(bits, point, 5, first_symbol=44), process.reception()
    assert np.array_equal(got.block_ok, expected.block_ok)
    good = np.repeat(got.block_ok, got.block_num_bits)
    assert np.array_equal(got.bits_hat[good], expected.bits_hat[good])
    assert np.array_equal(got.bits_hat[good], bits[good])
    assert got.num_channel_uses == expected.num_channel_uses
    assert got.stats == expected.stats


def test_blocks_that_fail_are_sent_again_and_no_others():
    link, point = get_coded_link(13, "rayleigh"), ChannelPoint("rayleigh", 9.0, None, 3000)
    bits = random_bits(60_000)
    process = HarqProcess(link, bits)
    failed, uses = [], []
    for place in range(4):
        failed.append(process.num_failed)
        uses.append(process.next_uses)
        process.send(point, 1, first_symbol=500_000 * place)
    got = process.reception()
    assert len(got.block_ok) == failed[0] > failed[1] > failed[2] > 0
    assert [np.count_nonzero(got.rounds > r) for r in range(4)] == failed
    assert uses == [f * uses[0] // failed[0] for f in failed]
    assert got.num_channel_uses == sum(uses)
    assert uses[0] == link.num_channel_uses(len(bits))
    assert got.stats.num_symbols == sum(uses)
    assert np.array_equal(got.bits_hat, bits)
    assert got.block_ok.all()
    assert np.array_equal(got.first_ok, got.rounds == 1)


@pytest.mark.parametrize(("num_rounds", "gain_db"), [(2, 3.0103), (4, 6.0206)])
def test_chase_combining_gains_3_db_per_doubling(num_rounds, gain_db):
    """The LLR of a bit of QPSK is linear in what is received, so that the sum of equal receptions
    is that of one with the sum of their SNRs. (With 16-QAM LLRs lose a little by it.)
    """
    for snr_db in (0.9, 1.3, 1.7):
        once = after_rounds(snr_db, 1, "chase", 800, seed=8, mcs=QPSK).num_failed
        combined = after_rounds(snr_db - gain_db, num_rounds, "chase", 800, mcs=QPSK).num_failed
        assert 20 < once < 780
        assert within_chance(once, combined), (snr_db, once, combined)


@pytest.mark.parametrize("num_rounds", [2, 3])
def test_incremental_redundancy_loses_no_more_blocks_than_chase(num_rounds):
    """At rate 0.6 new parity bits are worth more than repeated ones."""
    counts = np.array(
        [
            [after_rounds(snr_db, num_rounds, c).num_failed for c in ("ir", "chase")]
            for snr_db in np.arange(6.2, 2.6, -0.4) - (2.2 if num_rounds == 3 else 0.0)
        ]
    )
    assert counts[0].max() < 400, "from hardly any loss"
    assert counts[-1].min() > 0, "to many"
    ir, chase = counts.T
    assert np.all(ir <= chase + 4 * np.sqrt(ir + chase))
    assert ir.sum() < 0.9 * chase.sum()


@pytest.mark.parametrize("combining", ["ir", "chase"])
@pytest.mark.parametrize(("channel", "snrs"), [("awgn", (5, 9, 9.6, 12)), ("rayleigh", (9, 15))])
def test_throughput_with_harq_is_never_below_that_without(combining, channel, snrs):
    more = {} if channel == "awgn" else {"coherence_length": 40}
    gained = []
    for snr_db in snrs:
        without, with_harq = [], []
        for num_rounds, throughput in ((1, without), (4, with_harq)):
            process = after_rounds(snr_db, num_rounds, combining, 300, channel, **more)
            received = process.reception()
            good = received.block_num_bits[received.block_ok].sum()
            throughput.append(good / received.num_channel_uses)
        assert with_harq[0] >= without[0] * 0.98
        gained.append(with_harq[0] - without[0])
    assert max(gained) > 0.1, "bits per channel use where the MCS is too fast"


def rounds_on_air(monkeypatch, harq_transport, snr_db=-20.0, num_bits=5000, deadline=None):
    """(place, symbols) of every round of a transport that lies behind another one."""
    link = get_coded_link(5, "awgn", transport=harq_transport)
    seen, original = [], CodedLink.pass_blocks

    def spy(self, coded, point, seed, first_symbol=0, places=None):
        seen.append((first_symbol, coded.size // self.mcs.num_bits_per_symbol))
        return original(self, coded, point, seed, first_symbol, places)

    monkeypatch.setattr(CodedLink, "pass_blocks", spy)
    air = Air(ChannelPoint("awgn", snr_db), 1)
    air.place = 100
    return air, link, air.send_bits(link, random_bits(num_bits), deadline), seen


def test_a_round_begins_a_round_trip_after_the_end_of_the_one_before(monkeypatch):
    given = transport(max_retransmissions=2, round_trip_ms=2.0)
    air, _, received, seen = rounds_on_air(monkeypatch, given)
    size = seen[0][1]
    step = size + 2 * 14_976
    assert seen == [(100, size), (100 + step, size), (100 + 2 * step, size)]
    assert received.num_channel_uses == 3 * size
    assert not received.block_ok.any()
    assert np.array_equal(received.rounds, np.full(len(received.block_ok), 3))
    assert air.place == 100 + size, "what follows does not wait for the round trips"


def test_no_channel_use_is_taken_twice(monkeypatch):
    given = transport(max_retransmissions=2, round_trip_ms=0.5)  # shorter than the stream
    air, link, _, seen = rounds_on_air(monkeypatch, given)
    for size in (3000, 3000, 9000):
        air.send_bits(link, random_bits(size))
    taken = np.concatenate([np.arange(first, first + size) for first, size in seen])
    assert len(seen) == 12
    assert len(np.unique(taken)) == len(taken)


def test_no_round_is_sent_that_would_arrive_too_late(monkeypatch):
    given = transport(max_retransmissions=3, round_trip_ms=1.0)
    size = rounds_on_air(monkeypatch, given)[3][0][1]
    two = 2 * size + 14_976
    for deadline, num_rounds in ((0, 1), (two - 1, 1), (two, 2), (two + 14_976 + size, 3)):
        seen = rounds_on_air(monkeypatch, given, deadline=deadline)[3]
        assert len(seen) == num_rounds, deadline


def test_nothing_is_sent_again_that_arrived(monkeypatch):
    _, _, received, seen = rounds_on_air(monkeypatch, transport(), snr_db=20.0)
    assert received.block_ok.all()
    assert np.all(received.rounds == 1)
    assert len(seen) == 1


@pytest.mark.parametrize("num_bits", [0, 1, 24])
def test_streams_of_no_or_few_bits(num_bits):
    link = get_coded_link(5, "awgn", transport=transport())
    bits = random_bits(num_bits, 7)
    received = Air(ChannelPoint("awgn", 20.0), 1).send_bits(link, bits)
    assert np.array_equal(received.bits_hat, bits)
    assert len(received.block_ok) == min(num_bits, 1)
    assert received.block_ok.all()
    assert received.num_channel_uses == link.num_channel_uses(num_bits)


def test_retransmissions_of_an_interleaved_gop_lie_behind_it(monkeypatch):
    given = transport(max_retransmissions=1, round_trip_ms=0.001)
    link = get_coded_link(5, "awgn", transport=given)
    seen, original = [], CodedLink.pass_blocks

    def spy(self, coded, point, seed, first_symbol=0, places=None):
        seen.append((first_symbol, places))
        return original(self, coded, point, seed, first_symbol, places)

    monkeypatch.setattr(CodedLink, "pass_blocks", spy)
    uses = link.num_channel_uses(2000)
    air = Air(ChannelPoint("awgn", -20.0), 1, "gop", 2 * uses)
    for _ in range(2):
        air.send_bits(link, random_bits(2000))
    assert seen[0][1] is not None
    assert seen[2][1] is not None
    assert [(first, places) for first, places in seen[1::2]] == [(2 * uses, None), (3 * uses, None)]
    assert not np.intersect1d(seen[0][1], seen[2][1]).size


def received_power(point, channel, first_symbol):
    """Power of the fade over what a block meets, from the error that zero forcing leaves."""
    link = CodedLink(Mcs(0, 2, 120 / 1024, n=480), channel, equalizer="zf")
    coded = random_bits(480 * 20).reshape(20, 480)
    powers = []
    for seed in range(60):
        stats = link.pass_blocks(coded, point, seed, first_symbol)[2]
        powers.append(stats.snr * 10 ** (-point.snr_db / 10))
    return np.log(powers)


@pytest.mark.parametrize(("coherence_length", "is_same"), [(1_000_000, True), (6000, False)])
def test_a_round_trip_later_slow_fading_is_the_same_and_fast_fading_another(
    coherence_length, is_same
):
    point = ChannelPoint("rayleigh", 30.0, None, coherence_length)
    round_trip = transport().round_trip_uses
    now, later = (received_power(point, "rayleigh", first) for first in (0, 4800 + round_trip))
    correlation = np.corrcoef(now, later)[0, 1]
    assert correlation > 0.98 if is_same else abs(correlation) < 0.5


def test_retransmissions_in_a_long_fade_help_less_than_in_another():
    """Four rounds rescue what combining alone cannot only where they meet other fades."""
    failed = {
        coherence: sum(
            after_rounds(
                4.0, 4, "chase", 1, "rayleigh", seed, coherence_length=coherence
            ).num_failed
            for seed in range(60)
        )
        for coherence in (2_000_000_000, 6000)
    }
    assert failed[6000] + 5 < failed[2_000_000_000] < 60


def test_a_link_with_harq_does_not_send_once_without_saying_so():
    link, point = get_coded_link(5, "awgn", transport=transport()), ChannelPoint("awgn", 20.0)
    for send in (lambda b: link(b, snr_db=20.0, seed=1), lambda b: link.send(b, point, 1)):
        with pytest.raises(InputError, match=r"sends once.*send_bits"):
            send(random_bits(100))


def test_another_combining_is_refused():
    with pytest.raises(InputError, match="combining of harq"):
        HarqProcess(CodedLink(SHORT, "awgn"), random_bits(100), "sum")


@pytest.mark.slow
@pytest.mark.parametrize(("speed_kmh", "is_same"), [(3, True), (300, False)])
def test_a_round_trip_later_a_pedestrian_meets_the_same_fade_and_a_train_another(
    speed_kmh, is_same
):
    """Clarke's correlation at 4 ms and 3.5 GHz: 0.985 at 3 km/h, near 0 at 300 km/h."""
    keys = {"channel_model": "tdl_c", "delay_spread_ns": 10, "speed_kmh": speed_kmh}
    keys |= {"channel_estimation": "perfect", "normalize_channel": False}
    point = find_channel("ofdm").point(0.0, keys)
    link = CodedLink(Mcs(0, 2, 120 / 1024, n=480), "ofdm")
    coded = random_bits(480 * 10).reshape(10, 480)
    later = 2400 + transport().round_trip_uses
    gains = np.array(
        [
            [np.log(link.pass_blocks(coded, point, seed, at)[2].snr) for at in (0, later)]
            for seed in range(40)
        ]
    )
    correlation = np.corrcoef(gains.T)[0, 1]
    assert correlation > 0.85 if is_same else abs(correlation) < 0.5
