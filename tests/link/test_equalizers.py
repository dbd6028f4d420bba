"""Closed-form equalizers against Sionna's matrix functions on one antenna."""

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.mimo import lmmse_equalizer, zf_equalizer

from pvsc_link.link.registry import EQUALIZERS, SYMBOL_EQUALIZERS, find_equalizer

SIONNA = {"zf": zf_equalizer, "lmmse": lmmse_equalizer}


def received(num_symbols=2000, seed=3):
    rng = np.random.default_rng(seed)
    y, h = rng.normal(size=(2, num_symbols)) + 1j * rng.normal(size=(2, num_symbols))
    return tf.constant(y, tf.complex64), tf.constant(h, tf.complex64)


@pytest.mark.parametrize("name", EQUALIZERS)
@pytest.mark.parametrize(("no", "err_var"), [(0.5, 0.0), (0.1, 0.09), (0.01, 0.01)])
def test_equalizer_equals_sionnas_on_a_single_antenna(name, no, err_var):
    y, h = received()
    s = (no + err_var) * tf.ones([*h.shape, 1, 1], tf.complex64)
    x_hat, no_eff = SIONNA[name](y[:, None], h[:, None, None], s)
    ours_x, ours_no = find_equalizer(name)(y, h, tf.constant(no), tf.constant(err_var))
    np.testing.assert_allclose(ours_x, x_hat[:, 0], rtol=1e-3)
    np.testing.assert_allclose(ours_no, no_eff[:, 0], rtol=1e-3)


@pytest.mark.parametrize("name", SYMBOL_EQUALIZERS)
def test_a_dark_channel_and_no_noise_stay_finite(name):
    y, _ = received(3)
    h = tf.constant([0.0, 1e-20, 1e-4], tf.complex64)
    x_hat, no_eff = find_equalizer(name)(y, h, tf.constant(0.0), tf.constant(0.0))
    assert np.isfinite(x_hat).all()
    assert np.isfinite(no_eff).all()
    assert np.all(no_eff.numpy() > 0)


@pytest.mark.parametrize("name", EQUALIZERS)
def test_stated_noise_variance_is_the_error_that_symbols_have(name):
    """Mean of |x_hat - x|^2 / no_eff is 1 within 3 / sqrt(N)."""
    num_symbols, no = 50_000, 0.2
    noise, h = received(num_symbols)
    scale = tf.cast(np.sqrt(no / 2), tf.complex64)
    x_hat, no_eff = find_equalizer(name)(h + scale * noise, h, tf.constant(no), tf.constant(0.0))
    ratio = np.abs(x_hat.numpy() - 1) ** 2 / no_eff.numpy()
    assert ratio.mean() == pytest.approx(1, abs=3 / np.sqrt(num_symbols))


def test_biased_lmmse_errs_least_and_states_it():
    """Over fading of unit power, for symbols and noise as stated: MSE is E[s / (|h|^2 + s)]."""
    num_symbols, no = 100_000, 0.25
    rng = np.random.default_rng(5)
    x, h, noise = np.sqrt(0.5) * (
        rng.normal(size=(3, num_symbols)) + 1j * rng.normal(size=(3, num_symbols))
    )
    y = tf.constant(h * x + np.sqrt(no) * noise, tf.complex64)
    h = tf.constant(h, tf.complex64)
    errors = {}
    for name in SYMBOL_EQUALIZERS:
        x_hat, stated = find_equalizer(name)(y, h, tf.constant(no), tf.constant(0.0))
        errors[name] = np.mean(np.abs(x_hat.numpy() - x) ** 2)
    assert errors["biased_lmmse"] == pytest.approx(np.mean(stated), rel=0.02)
    assert errors["biased_lmmse"] < 0.5 * errors["zf"]
