"""Probabilities, bits and rates against closed forms and brute force (eq. 8, 12 to 14, 20)."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pvsc_link.models.entropy import quantisation
from pvsc_link.models.entropy import quantisation as rate_control
from pvsc_link.models.entropy.hyper_latent import Z_MAX, FactorizedPrior
from pvsc_link.models.entropy.range_coder import information
from pvsc_link.models.entropy.side_information import encode_hyper_latent, hyper_parts
from pvsc_link.models.presets import PRESETS
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc.hyperprior import checkerboard_masks, quadtree_masks
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.models.pvsc_mc.config import with_eta_factors
from pvsc_link.types import InputError

CONFIG = PvscConfig("small", channels_z=4, rate_set=(0, 4, 8, 12), num_omega=2)


def exact_bits(value, sigma):
    """-log2 of the Gaussian mass of a unit interval, by the tail that does not cancel."""
    near, far = (abs(value) - 0.5) / sigma, (abs(value) + 0.5) / sigma
    mass = 0.5 * (math.erfc(near / math.sqrt(2)) - math.erfc(far / math.sqrt(2)))
    return -math.log2(mass)


@pytest.mark.parametrize("sigma", [0.11, 0.5, 1.0, 8.0, 64.0])
def test_bits_equal_the_gaussian_integral_over_the_whole_float64_range(sigma):
    values = [v for v in (-40, -7, -3, -2, -1, 0, 1, 2, 5, 11, 100) if abs(v) < 30 * sigma + 0.5]
    bits = ops.convert_to_numpy(
        rate_control.symbol_bits(np.float32(values), np.full(len(values), sigma, np.float32))
    )
    np.testing.assert_allclose(bits, [exact_bits(v, sigma) for v in values], rtol=2e-4, atol=1e-4)


def test_bits_and_their_gradient_stay_finite_far_beyond_float32s_smallest_probability():
    y_bar = tf.constant([0.0, 50.0, -3000.0, 1e4, 0.5, -0.5])
    sigma = tf.fill([6], 0.11)
    with tf.GradientTape() as tape:
        tape.watch([y_bar, sigma])
        bits = rate_control.symbol_bits(y_bar, sigma)
    assert np.isfinite(bits).all()
    assert all(np.isfinite(g).all() for g in tape.gradient(bits, [y_bar, sigma]))
    assert bits[1] > 1e5  # (49.5 / 0.11)^2 / 2 nats


def test_probabilities_of_all_integers_sum_to_one():
    values = np.arange(-60, 61, dtype=np.float32)
    for sigma in (0.2, 1.0, 7.0):
        bits = rate_control.symbol_bits(values, np.full_like(values, sigma))
        assert np.sum(2.0 ** -ops.convert_to_numpy(bits)) == pytest.approx(1.0, abs=1e-5)


def test_rate_is_the_nearest_of_the_set_with_ties_upwards():
    rate_set = PRESETS["pvsc_paper"].rate_set
    wanted = np.concatenate([np.linspace(0, 150, 601), [2.0, 6.0, 32.0, 114.0]]).astype(np.float32)
    index, reals = rate_control.allocate(wanted[None, None] / 0.25, rate_set, 0.25)
    for k, i in zip(wanted, ops.convert_to_numpy(index)[0, 0], strict=True):
        distances = np.abs(np.array(rate_set) - k)
        assert i == len(rate_set) - 1 - np.argmin(distances[::-1])
    np.testing.assert_allclose(ops.convert_to_numpy(reals)[0, 0], np.array(rate_set)[index[0, 0]])


def test_half_way_between_an_even_and_an_odd_rate_lies_the_larger_one():
    wanted = np.array([[[0.4, 0.5, 1.4, 1.5, 3.4, 3.5]]], np.float32)
    index, reals = rate_control.allocate(wanted, (0, 1, 2, 5), 1.0)
    assert ops.convert_to_numpy(index).ravel().tolist() == [0, 1, 1, 2, 2, 3]
    np.testing.assert_allclose(ops.convert_to_numpy(reals).ravel(), [0, 1, 1, 2, 2, 5])


def test_gradient_of_the_rate_passes_straight_through():
    bits = tf.Variable([[[3.0, 50.0, 1e4]]])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(rate_control.allocate(bits, (0, 4, 8), 0.2)[1])
    np.testing.assert_allclose(tape.gradient(total, bits), np.full((1, 1, 3), 0.2))


@pytest.mark.parametrize("masks_of", [checkerboard_masks, quadtree_masks])
def test_blocks_tile_the_grid(masks_of):
    np.testing.assert_array_equal(sum(masks_of(6, 8)), np.ones((1, 6, 8, 1)))


def neighbour_prior(w, mu_0, sigma_0, y_before, block=1):
    """A stand-in for E_s that really looks at the earlier blocks."""
    shifted = ops.roll(y_before, 1, axis=1) + ops.roll(y_before, 1, axis=2)
    return mu_0 + block * shifted / w, sigma_0 + ops.abs(shifted)


@pytest.mark.parametrize("masks_of", [checkerboard_masks, quadtree_masks])
def test_dequantisation_inverts_quantisation_to_half_a_step(masks_of):
    rng = np.random.default_rng(0)
    y = 5 * rng.standard_normal((2, 4, 6, 3)).astype(np.float32)
    w = 0.5 + rng.random(y.shape).astype(np.float32)
    mu, sigma = rng.standard_normal((2, *y.shape)).astype(np.float32)
    parameters, masks = (w, mu, np.abs(sigma)), masks_of(4, 6)
    y_bar, _, _ = quantisation.quantise_blocks(y, parameters, neighbour_prior, masks)
    np.testing.assert_array_equal(y_bar, np.rint(y_bar))
    y_tilde = quantisation.dequantise_blocks(y_bar, parameters, neighbour_prior, masks)
    assert np.all(np.abs(ops.convert_to_numpy(y_tilde) - y) <= 0.5 * w + 1e-4)


@pytest.mark.parametrize("masks_of", [checkerboard_masks, quadtree_masks])
def test_every_unit_is_weighed_with_the_mean_and_spread_of_its_own_block(masks_of):
    """mu and sigma of eq. 11: H_dec's on block 0, what E_s said in its step on a later one."""
    rng = np.random.default_rng(1)
    y, w = rng.standard_normal((2, 2, 4, 6, 3)).astype(np.float32)
    mu_0, sigma_0 = rng.random((2, *y.shape)).astype(np.float32)
    said, masks = {0: (mu_0, sigma_0)}, masks_of(4, 6)

    def prior(w, mu_0, sigma_0, y_before, block=1):
        said[block] = mu_0 + block, sigma_0 + 10 * block
        return said[block]

    _, mu, sigma = quantisation.quantise_blocks(y, (1 + w**2, mu_0, sigma_0), prior, masks)
    assert len(said) == len(masks)
    for block, mask in enumerate(masks):
        here = np.broadcast_to(mask > 0, y.shape)
        np.testing.assert_array_equal(ops.convert_to_numpy(mu)[here], said[block][0][here])
        np.testing.assert_array_equal(ops.convert_to_numpy(sigma)[here], said[block][1][here])


def test_later_blocks_see_earlier_ones_and_never_themselves():
    """Each step's prior input is zero exactly where its own and later blocks lie."""
    seen, masks = [], quadtree_masks(4, 4)

    def spy(w, mu_0, sigma_0, y_before, block=1):
        seen.append(ops.convert_to_numpy(y_before)[0, :, :, 0] != 0)
        return mu_0, sigma_0

    ones = np.ones((1, 4, 4, 1), np.float32)
    quantisation.quantise_blocks(7 * ones, (ones, 0.2 * ones, ones), spy, masks)
    assert len(seen) == len(masks) - 1
    for step, known in enumerate(seen, start=1):
        np.testing.assert_array_equal(known, sum(masks[:step])[0, :, :, 0] > 0)


def test_quantisers_round_add_noise_or_keep_the_gradient():
    values = tf.Variable([0.2, 0.7, -1.6])
    with tf.GradientTape() as tape:
        rounded = quantisation.quantise(values, "ste")
        total = tf.reduce_sum(rounded * [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(rounded, [0, 1, -2])
    np.testing.assert_array_equal(tape.gradient(total, values), [1, 2, 3])
    noisy = quantisation.quantise(values, "noise", np.float32([0.1, -0.2, 0.3]))
    np.testing.assert_allclose(noisy, [0.3, 0.5, -1.3], rtol=1e-6)
    for bad in ("noise", "floor"):
        with pytest.raises(InputError):
            quantisation.quantise(values, bad)


@pytest.fixture(scope="module")
def prior():
    layer = FactorizedPrior(CONFIG)
    layer.build()
    rng = np.random.default_rng(3)
    for weight in layer.weights:
        weight.assign(weight + 0.5 * rng.standard_normal(weight.shape))
    return layer


def test_prior_of_z_is_a_distribution_per_channel_and_preset(prior):
    values = np.arange(-400, 401, dtype=np.float32)[None, :, None, None]
    for preset in range(CONFIG.num_omega):
        bits = prior(np.broadcast_to(values, (1, 801, 1, 4)), np.array([preset]))
        mass = np.sum(2.0 ** -ops.convert_to_numpy(bits), axis=(0, 1, 2))
        np.testing.assert_allclose(mass, 1.0, atol=1e-3)


def test_pmf_tables_agree_with_the_training_likelihood(prior):
    offset, counts = prior.pmf_table(1)
    values = np.arange(-20, 21)
    bits = prior(
        np.broadcast_to(values.astype(np.float32)[None, :, None, None], (1, 41, 1, 4)),
        np.array([1]),
    )
    coded = -np.log2(counts[:, values - offset] / 2**16).T
    likely = ops.convert_to_numpy(bits)[0, :, 0]
    # 255 of 65,536 counts are reserved, and a count is a whole number.
    np.testing.assert_allclose(coded[likely < 8], likely[likely < 8], atol=0.2)
    assert offset == -Z_MAX
    assert (counts >= 1).all()
    np.testing.assert_array_equal(counts.sum(axis=1), 2**16)


def test_coded_hyper_latents_cost_what_training_estimates(prior):
    """Drawn from the prior itself: estimate <= coded, and within 2 % plus two bytes of it."""
    offset, counts = prior.pmf_table(0)
    rng = np.random.default_rng(0)
    chances = (counts - 1) / (counts - 1).sum(axis=1, keepdims=True)  # less the reserved counts
    draws = [rng.choice(len(row), 256, p=row) + offset for row in chances]
    z = np.stack(draws, axis=-1).reshape(16, 16, 4).astype(np.int32)
    estimate = float(ops.sum(prior(z[None].astype(np.float32), np.array([0]))))
    coded = 8 * len(encode_hyper_latent(z, prior.pmf_table(0)))
    assert information(hyper_parts(z, prior.pmf_table(0))) <= coded
    assert abs(coded - estimate) <= 0.02 * estimate + 16


def test_a_missing_preset_is_refused(prior):
    with pytest.raises(InputError, match="preset"):
        prior.pmf_table(2)


def test_eta_factors_scale_the_reals_of_their_quality_preset():
    config = replace(PRESETS["pvsc_mc_small_intra"], eta_factors=(1.0, 1.0, 1.0, 1.0, 2.5))
    model = IntraModel(config)
    eta = ops.convert_to_numpy(model.eta_of(np.array([0, 4], np.int32)))
    np.testing.assert_allclose(eta.ravel(), [0.2, 0.5], rtol=1e-6)
    bits = np.full((2, 4, 4), 64.0, np.float32)
    index, _ = rate_control.allocate(bits, config.rate_set, eta)
    reals = np.array(config.rate_set)[ops.convert_to_numpy(index)]
    assert (reals[0] == 16).all()  # 12.8
    assert (reals[1] == 32).all()
    with pytest.raises(InputError, match="eta_factors of pvsc_mc_small_intra"):
        replace(config, eta_factors=(1.0, 2.0))


def test_the_papers_models_have_one_eta():
    with pytest.raises(InputError, match="eta_factors of pvsc_tiny"):
        with_eta_factors(PRESETS["pvsc_tiny_intra"], (1.0,) * 5)
    assert with_eta_factors(PRESETS["pvsc_tiny_intra"], ()) is PRESETS["pvsc_tiny_intra"]
