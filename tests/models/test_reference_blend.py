"""G's picture and the moved previous one: mixed by a mask that the receiver finds by itself."""

import keras
import numpy as np
import pytest
from keras import ops

from pvsc_link.models.presets import PRESETS
from pvsc_link.models.pvsc_mc.model import ReferenceBlend

RNG = np.random.default_rng(0)
OMEGA = np.array([1], np.int32)


def pictures(num, size=64):
    return RNG.random((num, 1, size, size, 3)).astype(np.float32)


@pytest.fixture
def config(micro):
    return PRESETS[micro]


@pytest.fixture
def blend(config):
    layer = ReferenceBlend(config)
    layer.build()
    return layer


def features(config):
    return RNG.standard_normal((1, 8, 8, config.channels_feature)).astype(np.float32)


def test_it_starts_as_the_mean_of_the_two(blend, config):
    generated, reference = pictures(2)
    mixed = blend(generated, reference, features(config), OMEGA)
    np.testing.assert_allclose(mixed, (generated + reference) / 2, atol=1e-6)


@pytest.mark.parametrize(("opening", "shown"), [(-30.0, 1), (30.0, 0)])
def test_a_mask_of_zero_shows_the_previous_picture_and_of_one_what_was_generated(
    blend, config, opening, shown
):
    blend.exit.bias.assign(np.full(blend.exit.bias.shape, opening, np.float32))
    both = pictures(2)
    mixed = blend(*both, features(config), OMEGA)
    np.testing.assert_allclose(mixed, both[shown], atol=1e-6)


def test_the_mask_sees_the_size_of_a_change_and_not_its_sign(blend, config):
    """The two pictures exchanged have the same mask: both mixtures add up to both pictures."""
    kernel = RNG.standard_normal(blend.exit.kernel.shape).astype(np.float32)
    blend.exit.kernel.assign(kernel)
    feature, (one, other) = features(config), pictures(2)
    mixed, exchanged = (blend(*both, feature, OMEGA) for both in ((one, other), (other, one)))
    np.testing.assert_allclose(mixed + exchanged, one + other, atol=1e-5)
    assert np.abs(mixed - (one + other) / 2).max() > 0.1


def test_a_mask_learns_to_trust_large_changes_alone(blend, config):
    """Small differences are G's blur, large ones are news: a few steps tell them apart."""
    reference = pictures(1)[0]
    news = np.zeros((1, 64, 64, 1), np.float32)
    news[:, 16:40, 24:48] = 1.0
    target = np.clip(reference + news * 0.6 * np.sign(0.5 - reference), 0, 1)
    blur = 0.05 * RNG.standard_normal(reference.shape).astype(np.float32)
    generated, feature = target + blur, features(config) * 0

    def loss():
        return ops.mean(ops.square(blend(generated, reference, feature, OMEGA) - target))

    import tensorflow as tf

    before = float(loss())
    optimizer = keras.optimizers.Adam(0.02)
    for _ in range(40):
        with tf.GradientTape() as tape:
            value = loss()
        gradients = tape.gradient(value, blend.trainable_variables)
        optimizer.apply(gradients, blend.trainable_variables)
    both_ends = min(np.mean((generated - target) ** 2), np.mean((reference - target) ** 2))
    assert float(loss()) < 0.1 * before
    assert float(loss()) < 0.8 * both_ends, "better than either picture alone"
