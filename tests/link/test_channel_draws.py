"""Fading, CSI error and noise: paired between streams, block-wise constant, of the asked NMSE."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import receiver_knowledge
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.types import linear_to_db

SEED = seed_tensor(11)
# Random integers are the same everywhere; logarithm and cosine differ in their last digit between
# eager mode, graph and XLA, and between the vectorised part of a tensor and its remainder.
ROUNDING = 2e-6


def fading(coherence_length=1, csi_nmse=0.1, law="rayleigh"):
    nmse_db = linear_to_db(csi_nmse) if csi_nmse else None
    return BlockFading(law, csi_nmse_db=nmse_db, coherence_length=coherence_length)


def draws(num_symbols, *condition):
    return [t.numpy() for t in fading(*condition).draw(SEED, tf.range(num_symbols))]


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("coherence_length", [1, 7])
def test_a_symbol_meets_the_same_draw_whatever_the_stream_length(mode, coherence_length):
    def drawn(num_symbols):
        return fading(coherence_length).draw(SEED, tf.range(num_symbols))

    run = drawn if mode == "eager" else tf.function(drawn, jit_compile=mode == "xla")
    for short, long in zip(run(100), draws(1001, coherence_length), strict=True):
        np.testing.assert_allclose(short, long[:100], rtol=0, atol=ROUNDING)


def test_a_piece_from_the_middle_is_the_same_as_the_whole():
    whole = draws(500, 3)
    piece = fading(3).draw(SEED, tf.range(123, 456))
    for part, full in zip(piece, whole, strict=True):
        np.testing.assert_allclose(part, full[123:456], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("coherence_length", [1, 4, 96])
def test_fading_and_csi_error_are_constant_inside_a_block_and_noise_is_not(coherence_length):
    h, h_hat, noise = draws(20 * coherence_length, coherence_length)
    for blockwise in (h, h_hat - h):
        blocks = blockwise.reshape(20, coherence_length)
        np.testing.assert_allclose(blocks, blocks[:, :1] * np.ones(coherence_length), atol=1e-6)
        assert len(np.unique(blocks[:, 0])) == 20
    assert len(np.unique(noise)) == 20 * coherence_length


def test_blocks_fade_independently():
    """Correlation between neighbouring blocks: within 4 / sqrt(N) of zero."""
    num_blocks = 20_000
    h, h_hat, _ = draws(num_blocks * 2, 2)
    for blockwise in (h[::2], (h_hat - h)[::2]):
        power = np.mean(np.abs(blockwise) ** 2)
        correlation = np.vdot(blockwise[1:], blockwise[:-1]) / num_blocks / power
        assert abs(correlation) < 4 / np.sqrt(num_blocks)


@pytest.mark.parametrize("nmse_db", [-20.0, -10.0, 0.0])
def test_measured_nmse_equals_the_request(nmse_db):
    """The mean of N exponential variables is normal with a standard deviation of 1 / sqrt(N)."""
    num_blocks = 100_000
    nmse = 10 ** (nmse_db / 10)
    h, h_hat, _ = draws(num_blocks, 1, nmse)
    measured = np.mean(np.abs(h_hat - h) ** 2) / np.mean(np.abs(h) ** 2)
    # Error and fading power both fluctuate: sqrt(2 / N), three standard deviations.
    assert measured == pytest.approx(nmse, rel=3 * np.sqrt(2 / num_blocks))


def test_perfect_csi_is_exact():
    h, h_hat, _ = draws(1000, 1, 0.0)
    np.testing.assert_array_equal(h, h_hat)


@pytest.mark.parametrize("channel", [Awgn(), BlockFading(), BlockFading("rician", k_factor_db=3.0)])
def test_channels_and_noise_have_unit_power(channel):
    h, _, noise = (t.numpy() for t in channel.draw(SEED, tf.range(100_000)))
    for z in (h, noise):
        assert np.mean(np.abs(z) ** 2) == pytest.approx(1, abs=3 / np.sqrt(100_000))


def test_rows_of_a_batch_are_independent_and_the_first_is_the_plain_stream():
    num_symbols = 20_000
    index = tf.tile(tf.range(num_symbols)[None], [3, 1])
    rows = fading().draw(SEED, index, tf.range(3)[:, None])
    for tensor, plain in zip(rows, draws(num_symbols), strict=True):
        np.testing.assert_allclose(tensor[0], plain, rtol=0, atol=ROUNDING)
        correlations = np.abs(np.corrcoef(tensor))[np.triu_indices(3, 1)]
        assert np.all(correlations < 4 / np.sqrt(num_symbols))


def test_a_channel_without_fading_meets_the_same_noise():
    _, _, noise = Awgn().draw(SEED, tf.range(500))
    np.testing.assert_allclose(noise, draws(500)[2], rtol=0, atol=ROUNDING)


def test_the_aware_receiver_has_the_error_variance_that_is_left():
    """E|h - a h_hat|^2 = nmse / (1 + nmse), less than that of h_hat itself; 3 sigma."""
    num_symbols, nmse = 100_000, 0.1
    h, h_hat, _ = draws(num_symbols, 1, nmse)
    estimate, err_var = receiver_knowledge(
        tf.constant(h_hat), tf.constant(nmse, tf.float32), csi_aware=True
    )
    left = np.mean(np.abs(h - estimate.numpy()) ** 2)
    assert left == pytest.approx(float(err_var), rel=3 / np.sqrt(num_symbols))
    assert float(err_var) < nmse


def test_the_unaware_receiver_trusts_its_estimate():
    h_hat = tf.constant([1 + 1j, 2 - 3j], tf.complex64)
    estimate, err_var = receiver_knowledge(h_hat, tf.constant(0.1), csi_aware=False)
    np.testing.assert_array_equal(estimate, h_hat)
    assert float(err_var) == 0.0
