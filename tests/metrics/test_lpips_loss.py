"""LPIPS as a training loss: finite gradients where the official form has none."""

import numpy as np
import tensorflow as tf

from pvsc_link.metrics.perceptual import Lpips


def gradient(layer, images, images_hat):
    with tf.GradientTape() as tape:
        tape.watch(images_hat)
        value = tf.reduce_sum(layer(images, images_hat))
    return tape.gradient(value, images_hat).numpy()


def images(seed):
    return tf.constant(np.random.default_rng(seed).random((1, 32, 32, 3), np.float32))


def test_the_normalisation_of_the_loss_has_a_bounded_gradient_where_all_features_are_zero():
    features = tf.constant([[[[0.0, 0.0]]], [[[1e-9, 0.0]]]])

    def slope(layer):
        with tf.GradientTape() as tape:
            tape.watch(features)
            value = layer._unit(features)
        return np.abs(tape.gradient(value, features).numpy()).ravel()

    assert not slope(Lpips()).max() < 1e7  # NaN under some backends
    assert slope(Lpips(finite_gradient=True)).max() <= 1.001e4


def test_the_loss_of_a_black_frame_has_a_finite_gradient():
    loss = Lpips(finite_gradient=True)
    assert np.isfinite(gradient(loss, images(0), tf.zeros((1, 32, 32, 3)))).all()


def test_a_step_against_the_gradient_lowers_the_loss():
    loss = Lpips(finite_gradient=True)
    target, shown = images(2), images(3)
    slope = gradient(loss, target, shown)
    before = float(loss(target, shown)[0])
    after = float(loss(target, shown - 0.01 * slope / np.abs(slope).max())[0])
    assert after < before - 1e-5


def test_the_bfloat16_trunk_stays_close_and_gives_a_float32_value():
    exact = Lpips(finite_gradient=True)
    fast = Lpips(finite_gradient=True, dtype="mixed_bfloat16")
    value = fast(images(4), images(5))
    assert value.dtype == tf.float32
    np.testing.assert_allclose(value, exact(images(4), images(5)), rtol=0.02)


def test_the_network_is_frozen():
    assert Lpips(finite_gradient=True).trainable_weights == []
