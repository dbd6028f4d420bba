"""The channel in the training graph is the Sionna link's: same draws, same output."""

from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.channel import make_channel
from pvsc_link.link.equalizers import receiver_knowledge, zf
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.models.layers.rate_adaptive import pack
from pvsc_link.train.channel import draw, transmit
from pvsc_link.train.config import ChannelConfig
from pvsc_link.types import ChannelPoint, db_to_linear, noise_variance

SHAPE = (2, 4, 4, 8)  # batch, Hy, Wy, Kmax: four complex symbols per unit


def symbols(seed=0):
    reals = np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)
    return reals / np.sqrt(2 * np.mean(reals**2))


def as_pairs(values):
    pairs = np.stack([values.numpy().real, values.numpy().imag], axis=-1)
    return pairs.reshape(*SHAPE[:3], -1, 2)


def draws_of_the_link(channel, snr_db, nmse_db):
    """Fading, CSI error and noise of the link, in the layout of the training channel."""
    index = tf.tile(tf.range(4 * 4 * 4)[None], [SHAPE[0], 1])
    source = Awgn() if channel == "awgn" else BlockFading(csi_nmse_db=nmse_db)
    h, h_hat, noise = source.draw(7, index, tf.range(SHAPE[0])[:, None])
    nmse = 0.0 if nmse_db is None else db_to_linear(nmse_db)
    error = (h_hat - h) / tf.cast(tf.sqrt(max(nmse, 1e-30)), tf.complex64)
    draws = {
        "noise": as_pairs(noise),
        "noise_power": np.full(SHAPE[0], noise_variance(snr_db), np.float32),
        "csi_nmse": np.full(SHAPE[0], nmse, np.float32),
        "shrink": np.ones(SHAPE[0], np.float32),
    }
    if channel == "rayleigh":
        draws |= {"fading": as_pairs(h), "csi_error": as_pairs(error)}
    return draws


@pytest.mark.parametrize("csi_aware", [False, True])
@pytest.mark.parametrize("equalizer", get_args(ChannelConfig.model_fields["equalizer"].annotation))
@pytest.mark.parametrize(
    ("channel", "snr_db", "nmse_db"),
    [("awgn", 0.0, None), ("awgn", 10.0, None), ("rayleigh", 6.0, None), ("rayleigh", 6.0, -10.0)],
)
def test_equal_draws_give_the_output_of_the_sionna_link(
    channel, snr_db, nmse_db, equalizer, csi_aware
):
    x = symbols()
    sent = tf.constant(np.stack([pack(frame, np.zeros(SHAPE[1:3], int), (8,)) for frame in x]))
    point = ChannelPoint(channel, snr_db, nmse_db, None if channel == "awgn" else 1)
    link = make_channel(point, equalizer=equalizer, csi_aware=csi_aware)
    expected = link(sent, snr_db=snr_db, seed=7).x_hat
    draws = draws_of_the_link(channel, snr_db, nmse_db)
    config = ChannelConfig(
        channel=channel,
        snr_db=[snr_db],
        csi_nmse_db=[nmse_db],
        equalizer=equalizer,
        csi_aware=csi_aware,
    )
    of_training = draw(config, (SHAPE[0], 1, 1, 1, 1), np.random.default_rng(0))
    for name in {"shrink", "loading"} & set(of_training):
        draws[name] = of_training[name][:, 0]
    got = transmit(x, draws).numpy()
    np.testing.assert_allclose(
        got.reshape(SHAPE[0], -1, 2),
        as_pairs(expected).reshape(SHAPE[0], -1, 2),
        rtol=2e-4,
        atol=2e-4,
    )


def test_the_equaliser_divides_by_the_floor_in_a_deep_fade_like_the_links():
    fade = np.zeros((1, 1, 1, 1, 2), np.float32)
    draws = {
        "noise": np.ones((1, 1, 1, 1, 2), np.float32),
        "fading": fade + np.float32(1e-4),
        "csi_error": fade,
        "noise_power": np.ones(1, np.float32),
        "csi_nmse": np.zeros(1, np.float32),
        "shrink": np.ones(1, np.float32),
    }
    x = np.array([0.6, -0.2], np.float32).reshape(1, 1, 1, 2)
    h = tf.constant([1e-4 + 1e-4j], tf.complex64)
    y = h * tf.constant([0.6 - 0.2j], tf.complex64) + tf.constant([1 + 1j], tf.complex64)
    estimate, err_var = receiver_knowledge(h, tf.constant(0.0), csi_aware=False)
    expected, _ = zf(y, estimate, tf.constant(1.0), err_var)
    got = transmit(x, draws).numpy().ravel()
    np.testing.assert_allclose(got, [expected[0].numpy().real, expected[0].numpy().imag], rtol=1e-4)


def test_draws_have_the_variances_asked_for():
    config = ChannelConfig(channel="rayleigh", snr_db=[6.0], csi_nmse_db=[-10.0])
    draws = draw(config, (8, 2, 8, 8, 16), np.random.default_rng(0))
    for name in ("noise", "fading", "csi_error"):
        assert np.mean(np.sum(draws[name] ** 2, -1)) == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(draws["noise_power"], noise_variance(6.0), rtol=1e-6)
    np.testing.assert_allclose(draws["csi_nmse"], 0.1, rtol=1e-6)


def test_a_clip_keeps_its_condition_and_the_batch_meets_them_all():
    config = ChannelConfig(snr_db=[0.0, 10.0])
    draws = draw(config, (32, 3, 1, 1, 1), np.random.default_rng(0))
    power = draws["noise_power"]
    assert (power == power[:, :1]).all()
    assert len(np.unique(power)) == 2
    assert "fading" not in draws


def test_without_noise_zero_forcing_returns_an_odd_number_of_reals_untouched():
    x = symbols()[..., :7]
    draws = draw(ChannelConfig(channel="rayleigh"), (2, 1, 4, 4, 4), np.random.default_rng(1))
    draws = {key: value[:, 0] for key, value in draws.items()}
    draws["noise_power"] = np.zeros(2, np.float32)
    np.testing.assert_allclose(transmit(x, draws), x, rtol=1e-3, atol=1e-4)


def test_gradients_pass_to_the_symbols_and_stay_finite_in_a_deep_fade():
    draws = draw(
        ChannelConfig(channel="rayleigh", snr_db=[0.0]), (2, 1, 4, 4, 4), np.random.default_rng(2)
    )
    draws = {key: tf.constant(value[:, 0]) for key, value in draws.items()}
    draws["fading"] = draws["fading"] * 1e-6
    x = tf.constant(symbols())
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(transmit(x, draws) ** 2)
    slope = tape.gradient(total, x).numpy()
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0
