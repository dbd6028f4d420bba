"""Rician fading: its moments, its two limits, and what a receiver knows that has an estimate."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.channel import get_channel_function
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import receiver_knowledge
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.link.registry import find_channel
from pvsc_link.types import ChannelPoint, InputError

SEED, NUM = seed_tensor(3), 200_000
#: Standard error of the mean of NUM variables of unit variance, four times.
MARGIN = 4 / np.sqrt(NUM)


def rician(k_factor_db, **condition):
    return BlockFading("rician", k_factor_db=k_factor_db, **condition)


def drawn(k_factor_db, **condition):
    return [t.numpy() for t in rician(k_factor_db, **condition).draw(SEED, tf.range(NUM))]


@pytest.mark.parametrize("k_factor_db", [-5.0, 0.0, 6.0, 20.0])
def test_moments_follow_from_k(k_factor_db):
    """E h = sqrt(K/(K+1)), E|h|^2 = 1, E|h|^4 = 2 - (K/(K+1))^2."""
    k = 10 ** (k_factor_db / 10)
    h = drawn(k_factor_db)[0]
    assert np.mean(h) == pytest.approx(np.sqrt(k / (k + 1)), abs=MARGIN)
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1, abs=MARGIN)
    assert np.mean(np.abs(h) ** 4) == pytest.approx(2 - (k / (k + 1)) ** 2, abs=5 * MARGIN)


def test_without_a_line_of_sight_it_is_rayleigh_fading():
    x, call = tf.ones([2, 300], tf.complex64), {"snr_db": 5.0, "seed": 8}
    for aware in (False, True):
        condition = {"csi_nmse_db": -10.0, "coherence_length": 3, "csi_aware": aware}
        out = rician(-np.inf, **condition)(x, **call)
        expected = BlockFading("rayleigh", **condition)(x, **call)
        np.testing.assert_allclose(out.x_hat, expected.x_hat, rtol=1e-5)
        np.testing.assert_allclose(out.no_eff, expected.no_eff, rtol=1e-5)


@pytest.mark.parametrize("csi_aware", [False, True])
def test_with_a_line_of_sight_alone_it_is_awgn(csi_aware):
    x, call = tf.ones([2, 300], tf.complex64), {"snr_db": 5.0, "seed": 8}
    out, expected = rician(np.inf, csi_aware=csi_aware)(x, **call), Awgn()(x, **call)
    np.testing.assert_allclose(out.x_hat, expected.x_hat, rtol=1e-5)
    np.testing.assert_allclose(out.no_eff, expected.no_eff, rtol=1e-5)


@pytest.mark.parametrize("nmse", [0.05, 0.5])
@pytest.mark.parametrize("k_factor_db", [-np.inf, 0.0, 8.0])
def test_the_aware_receiver_knows_the_conditional_mean_and_variance(k_factor_db, nmse):
    """Against a linear regression of h on h_hat over samples, whose residual is Gaussian."""
    h, h_hat, _ = drawn(k_factor_db, csi_nmse_db=10 * np.log10(nmse))
    k = 10 ** (k_factor_db / 10)
    estimate, err_var = receiver_knowledge(
        tf.constant(h_hat),
        tf.constant(nmse, tf.float32),
        csi_aware=True,
        mean=np.sqrt(k / (k + 1)),
        variance=1 / (k + 1),
    )
    design = np.stack([np.ones_like(h_hat), h_hat], axis=1)
    fitted = design @ np.linalg.lstsq(design, h, rcond=None)[0]
    assert np.mean(np.abs(estimate.numpy() - fitted) ** 2) < 1e-4
    error = h - estimate.numpy()
    assert np.mean(np.abs(error) ** 2) == pytest.approx(float(err_var), rel=2 * MARGIN)
    # The error says nothing about the estimate, and its size is the same for all estimates.
    far = np.abs(h_hat - h_hat.mean()) > np.median(np.abs(h_hat - h_hat.mean()))
    for part in (far, ~far):
        assert np.mean(np.abs(error[part]) ** 2) == pytest.approx(float(err_var), rel=0.02)


@pytest.mark.parametrize("k_factor_db", [-5.0, 4.0])
def test_the_channel_equalises_with_what_the_aware_receiver_knows(k_factor_db):
    """Zero forcing by the conditional mean of h, with its variance as further noise."""
    nmse, k, num = 10**-0.6, 10 ** (k_factor_db / 10), 500
    h, h_hat, noise = (part[:num] for part in drawn(k_factor_db, csi_nmse_db=-6.0))
    mean, shrink = np.sqrt(k / (k + 1)), 1 / (1 + (k + 1) * nmse)
    known = mean + shrink * (h_hat - mean)
    channel = rician(k_factor_db, csi_nmse_db=-6.0, csi_aware=True)
    out = channel(tf.ones([1, num], tf.complex64), snr_db=8.0, seed=SEED)
    np.testing.assert_allclose(out.x_hat[0], (h + 10**-0.4 * noise) / known, rtol=1e-3)
    expected = (10**-0.8 + shrink * nmse) / np.abs(known) ** 2
    np.testing.assert_allclose(out.no_eff[0], expected, rtol=1e-3)


def test_stated_variances_of_the_aware_receiver_are_the_errors_made():
    """Biased LMMSE over a Rician channel with a bad estimate; an unaware receiver errs more."""
    x = tf.complex(*tf.random.stateless_normal([2, 1, NUM], [1, 2])) * tf.cast(
        np.sqrt(0.5), tf.complex64
    )
    error, stated = {}, {}
    for aware in (False, True):
        channel = rician(4.0, csi_nmse_db=-6.0, equalizer="biased_lmmse", csi_aware=aware)
        out = channel(x, snr_db=8.0, seed=2)
        error[aware] = float(np.mean(np.abs(out.x_hat - x) ** 2))
        stated[aware] = float(np.mean(out.no_eff))
    assert error[True] == pytest.approx(stated[True], rel=0.02)
    assert error[True] < 0.9 * error[False]
    # What the receiver knew of Rayleigh fading, with mean 0, would be worse here.
    h, h_hat, noise = drawn(4.0, csi_nmse_db=-6.0)
    known = h_hat / (1 + 10**-0.6)
    err_var = 10**-0.6 / (1 + 10**-0.6)
    y = h * x.numpy()[0] + 10**-0.4 * noise
    of_mean_0 = np.conj(known) * y / (np.abs(known) ** 2 + 10**-0.8 + err_var)
    assert error[True] < 0.97 * np.mean(np.abs(of_mean_0 - x.numpy()[0]) ** 2)


def test_a_sweep_over_k_is_one_trace():
    channel = get_channel_function("rician", "zf", True)
    before = channel.trace_count
    for k_factor_db in (-3.0, 0.0, 10.0):
        point = ChannelPoint("rician", 6.0, -10.0, 4, (("k_factor_db", k_factor_db),))
        channel(np.ones(50, np.complex64), point, 1)
    assert channel.trace_count - before <= 1


@pytest.mark.parametrize("k_factor_db", [None, np.nan, "strong"])
def test_a_bad_k_is_refused(k_factor_db):
    with pytest.raises(InputError, match="k_factor_db"):
        rician(k_factor_db)


def test_k_belongs_to_rician_fading_alone_and_is_needed_there():
    with pytest.raises(InputError, match="another law"):
        BlockFading("rayleigh", k_factor_db=3.0)
    for values in ({}, {"k_factor_db": 101.0}):
        with pytest.raises(InputError, match="k_factor_db"):
            find_channel("rician").point(3.0, values)
