"""Symbols at their places in a tensor meet what they would meet in the packed stream."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.equalizers import SYMBOL_EQUALIZERS
from pvsc_link.link.symbol_link import SymbolLink, link_tensors, transmit_placed
from pvsc_link.types import ChannelPoint


@pytest.mark.parametrize("csi_aware", [False, True])
@pytest.mark.parametrize("equalizer", SYMBOL_EQUALIZERS)
def test_every_equalizer_is_that_of_the_symbol_link(equalizer, csi_aware):
    rng = np.random.default_rng(0)
    symbols = np.sqrt(0.5) * (rng.normal(size=(1, 60)) + 1j * rng.normal(size=(1, 60)))
    symbols = tf.constant(symbols, tf.complex64)
    point = ChannelPoint("rayleigh", 6.0, -10.0, 4)
    link = SymbolLink("rayleigh", equalizer, csi_aware)
    expected, _ = link(symbols, snr_db=6.0, csi_nmse_db=-10.0, coherence_length=4, seed=9)
    order = rng.permutation(60)
    tensors = link_tensors(point, equalizer, csi_aware, seed=9)
    placed = transmit_placed(
        tf.gather(symbols[0], order), tf.constant(order, tf.int32), tensors
    ).numpy()
    np.testing.assert_allclose(placed, expected.numpy()[0, order], rtol=1e-4, atol=1e-5)
