"""One process of the channel for all that a GOP sends: places decide, order and pieces do not."""

import numpy as np
import pytest

from pvsc_link.link.air import Air
from pvsc_link.link.channel import get_channel_function
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.types import ChannelPoint, InputError

POINT = ChannelPoint("rayleigh", 6.0, -10.0, 100)


def symbols(num, seed=0):
    draws = np.random.default_rng(seed).normal(size=(num, 2)) / np.sqrt(2)
    return draws.astype(np.float32).view(np.complex64)[:, 0]


def channel():
    return get_channel_function("rayleigh", "zf", csi_aware=False)


def test_symbols_behind_each_other_meet_what_one_stream_meets():
    x = symbols(500)
    whole = channel()(x, POINT, seed=3)
    air = Air(POINT, seed=3)
    parts = [air.send_symbols(channel(), part) for part in np.split(x, [120, 121, 410])]
    assert air.place == 500
    joined = np.concatenate([part.symbols_hat for part in parts])
    np.testing.assert_allclose(joined, whole.symbols_hat, rtol=1e-5)


def test_symbols_behind_bits_meet_the_process_where_the_bits_end():
    link, x = get_coded_link(5, "rayleigh"), symbols(300)
    air = Air(POINT, seed=3)
    bits = air.send_bits(link, np.ones(200, np.uint8))
    assert air.place == bits.num_channel_uses == link.num_channel_uses(200) > 0
    behind = air.send_symbols(channel(), x)
    expected = channel()(np.r_[symbols(bits.num_channel_uses, 1), x], POINT, seed=3)
    np.testing.assert_allclose(behind.symbols_hat, expected.symbols_hat[-300:], rtol=1e-5)


@pytest.mark.parametrize("first", [0, 37, 5000])
def test_bits_meet_the_process_from_the_place_where_they_begin(first):
    """Zero forcing of perfectly known fading leaves an error that the symbols do not change."""
    point = ChannelPoint("rayleigh", 8.0, None, 300)
    link = get_coded_link(5, "rayleigh", equalizer="zf")  # QPSK: constant modulus
    bits = link.send(np.ones(700, np.uint8), point, 11, first_symbol=first)
    ones = np.ones(bits.num_channel_uses, np.complex64)
    same = channel()(ones, point, 11, first_symbol=first)
    assert bits.stats.snr == pytest.approx(same.stats.snr, rel=1e-4)
    other = channel()(ones, point, 11, first_symbol=first + 1500)
    assert bits.stats.snr != pytest.approx(other.stats.snr, rel=1e-3)


def test_another_interleaving_is_refused():
    with pytest.raises(InputError, match="interleaving of the air"):
        Air(ChannelPoint("awgn", 6.0), seed=1, interleaving="frame", num_symbols=10)
