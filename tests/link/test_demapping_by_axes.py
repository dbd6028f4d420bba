"""The axis-wise demapper against Sionna's over all points, and scrambling."""

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.fec.scrambling import TB5GScrambler
from sionna.phy.mapping import Demapper, Mapper

from pvsc_link.link.qam import QamDemapper, descramble, scramble


@pytest.mark.parametrize("num_bits_per_symbol", [2, 4, 6])
def test_llrs_equal_sionnas_exact_demapper(num_bits_per_symbol):
    rng = np.random.default_rng(0)
    shape = (3, 400)
    y = tf.constant(rng.normal(size=shape) + 1j * rng.normal(size=shape), tf.complex64)
    no = tf.constant(rng.exponential(size=shape) + 0.02, tf.float32)
    expected = Demapper("app", "qam", num_bits_per_symbol)(y, no)
    np.testing.assert_allclose(
        QamDemapper(num_bits_per_symbol)(y, no), expected, rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("num_bits_per_symbol", [2, 4, 6])
def test_the_sign_of_an_llr_is_the_bit_that_was_mapped(num_bits_per_symbol):
    bits = np.random.default_rng(1).integers(0, 2, (2, 600)).astype(np.float32)
    x = Mapper("qam", num_bits_per_symbol)(bits)
    llr = QamDemapper(num_bits_per_symbol)(x, 0.01 * tf.ones(x.shape))
    np.testing.assert_array_equal(llr.numpy() > 0, bits == 1)


def test_scrambling_is_sionnas_and_descrambling_undoes_it():
    bits = np.random.default_rng(2).integers(0, 2, (2, 600), np.uint8)
    scrambled = scramble(tf.constant(bits))
    sionnas = TB5GScrambler(channel_type="PDSCH")(tf.constant(bits, tf.float32))
    np.testing.assert_array_equal(scrambled, sionnas)
    np.testing.assert_array_equal(descramble(2.0 * sionnas - 1.0) > 0, bits == 1)


def test_a_payload_of_zeros_has_unit_power_after_scrambling():
    """Mean power of 1024 64-QAM symbols: 1 within 3 standard deviations (0.62 / 32 each)."""
    x = Mapper("qam", 6)(tf.cast(scramble(tf.zeros([1, 6144], tf.uint8)), tf.float32))
    assert np.mean(np.abs(x) ** 2) == pytest.approx(1, abs=3 * 0.62 / 32)
