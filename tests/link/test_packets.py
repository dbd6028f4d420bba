"""A lossy packet network: what a packet holds, which ones are lost, what bad input is told."""

import numpy as np
import pytest

from pvsc_link.link import CHANNELS, PacketAir, PacketLink, nominal_snr_db
from pvsc_link.link.impairments import ERASED_NO_EFF
from pvsc_link.link.packets import PEAK_BYTES, open_air, quantised
from pvsc_link.link.registry import loss_trace
from pvsc_link.types import ChannelPoint, InputError

PACKETS = CHANNELS["packets"]


def air(seed=1, **condition):
    return PacketAir(PACKETS.point(float("inf"), condition), seed)


def lost(num=400, seed=1, **condition):
    """Which of so many packets of one byte are lost."""
    made = air(seed, mtu=64, header_bytes=40, **condition)
    return ~made.send_bits(PacketLink(made.condition), np.ones(num * 24 * 8, np.uint8)).block_ok


def test_a_packet_is_lost_by_seed_and_place_alone():
    """In whatever pieces a GOP is sent, and whatever the packets carry."""
    whole, pieces = air(loss_rate=0.3), air(loss_rate=0.3)
    once = whole.send_bits(PacketLink(whole.condition), np.ones(9280 * 20, np.uint8)).block_ok
    parts = [pieces.send_symbols(None, np.ones(578, np.complex64)).arrived[:1] for _ in range(7)]
    parts.append(
        pieces.send_bits(PacketLink(pieces.condition), np.ones(9280 * 13, np.uint8)).block_ok
    )
    np.testing.assert_array_equal(once, np.concatenate(parts))
    assert whole.num_packets == pieces.num_packets == 20
    assert whole.num_lost == pieces.num_lost == np.sum(~once)
    assert not np.array_equal(lost(loss_rate=0.3), lost(loss_rate=0.3, seed=2))


def test_a_packet_that_is_lost_at_a_low_rate_is_lost_at_a_higher_one():
    few, many = lost(loss_rate=0.05), lost(loss_rate=0.2)
    assert 0 < few.sum() < many.sum()
    assert not np.any(few & ~many)
    assert not lost(loss_rate=0).any()
    assert lost(loss_rate=1).all()


@pytest.mark.parametrize("burst", [1.0, 5.0])
def test_bursts_have_their_rate_and_mean_length(burst):
    bad = lost(40_000, loss="gilbert", loss_rate=0.1, loss_burst=burst)
    starts = np.sum(bad & ~np.concatenate([[False], bad[:-1]]))
    assert bad.mean() == pytest.approx(0.1, rel=0.1)
    assert bad.sum() / starts == pytest.approx(burst, rel=0.1)


def test_a_trace_is_read_from_a_place_of_the_seed_and_from_its_end_on(tmp_path):
    trace = np.random.default_rng(0).integers(0, 2, 31)
    file = tmp_path / "losses.csv"
    file.write_text("\n".join(map(str, trace)))
    assert loss_trace(str(file)) == tuple(trace.astype(bool))
    turns = [tuple(np.roll(trace, -k).astype(bool)) for k in range(31)]
    starts = set()
    for seed in range(6):
        found = lost(62, seed=seed, loss=str(file))
        np.testing.assert_array_equal(found[:31], found[31:])
        starts.add(turns.index(tuple(found[:31])))
    assert len(starts) > 2


@pytest.mark.parametrize("num_bits", [2, 8, 12])
def test_symbols_arrive_with_the_error_that_is_stated(num_bits):
    rng = np.random.default_rng(1)
    x = (rng.normal(size=5000) + 1j * rng.normal(size=5000)).astype(np.complex64)
    x_hat, variance = quantised(x, num_bits)
    peak, step = np.abs([x.real, x.imag]).max(), 0.0
    assert len(np.unique(x_hat.real)) <= 2**num_bits - 1
    step = peak / (2 ** (num_bits - 1) - 1)
    assert np.abs([(x_hat - x).real, (x_hat - x).imag]).max() <= 0.5001 * step
    assert variance == pytest.approx(step**2 / 6)
    if num_bits > 2:
        assert np.mean(np.abs(x_hat - x) ** 2) == pytest.approx(variance, rel=0.05)


def test_what_is_counted_are_all_bytes():
    made = air(mtu=100, header_bytes=20, symbol_bits=5)
    bits = made.send_bits(PacketLink(made.condition), np.ones(8 * 161, np.uint8))
    assert bits.block_num_bits.tolist() == [640, 640, 8]
    assert bits.num_channel_uses == 161 + 3 * 20
    symbols = made.send_symbols(None, np.ones(61, np.complex64))
    # 76 bytes hold 60 symbols of 10 bits; the last packet holds one in two bytes.
    assert symbols.num_channel_uses == 2 * (20 + PEAK_BYTES) + 75 + 2
    assert made.num_packets == 5


def test_lost_symbols_are_erased_and_a_packet_of_zeros_stays_finite():
    made = air(loss_rate=0.5)
    got = made.send_symbols(None, np.ones(5780, np.complex64))
    assert 0 < got.arrived.mean() < 1
    np.testing.assert_allclose(got.symbols_hat, got.arrived.astype(np.complex64))
    assert np.all(got.no_eff[~got.arrived] == ERASED_NO_EFF)
    assert np.all(got.no_eff[got.arrived] < 1e-4)
    nothing = air().send_symbols(None, np.zeros(10, np.complex64))
    assert np.all(nothing.symbols_hat == 0)
    assert np.all((nothing.no_eff > 0) & (nothing.no_eff < 1e-6))


def test_other_channels_have_an_air_and_their_own_snr():
    point = ChannelPoint("awgn", 7.0)
    assert not isinstance(open_air(point, 1), PacketAir)
    assert nominal_snr_db(point) == 7.0
    assert nominal_snr_db(PACKETS.point(float("inf"), {})) == pytest.approx(40.89)


def test_a_law_has_no_value_of_another_law(tmp_path):
    (tmp_path / "a.csv").write_text("0,1;0 1\n")
    assert PACKETS.condition({"loss_burst": 3}).loss_burst is None
    of_file = PACKETS.condition({"loss": str(tmp_path / "a.csv"), "loss_rate": 0.1})
    assert (of_file.loss_rate, of_file.loss_burst) == (None, None)
    assert of_file.loss_digest


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ({"loss": "gilbert", "loss_rate": 0.1}, "loss_burst"),
        ({"loss": "gilbert", "loss_rate": 0.9, "loss_burst": 2}, "at most 0.666667"),
        ({"loss": "bursty"}, "whose name ends in .csv"),
        ({"loss": "no/such.csv"}, "trace of losses"),
        ({"loss": "bad.csv"}, "'2'"),
        ({"loss": "empty.csv"}, "no number"),
        ({"loss": "good.csv", "loss_digest": "0"}, "has changed"),
        ({"loss_rate": 1.5}, "loss_rate"),
        ({"loss_rate": None}, "loss_rate"),
        ({"mtu": 64, "header_bytes": 60}, "mtu with header_bytes"),
        ({"symbol_bits": 1}, "symbol_bits"),
        ({"loss": 3}, "loss"),
    ],
)
def test_bad_input_is_told(condition, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("0,1,2")
    (tmp_path / "good.csv").write_text("0,1")
    (tmp_path / "empty.csv").write_text("")
    loss_trace.cache_clear()
    with pytest.raises(InputError, match=said):
        PACKETS.condition(condition)


def test_it_is_no_channel_of_symbols():
    with pytest.raises(InputError, match="carries bytes"):
        PACKETS.make(equalizer="zf", csi_aware=False)
