"""PatchGAN discriminator and hinge losses."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.pvsc.discriminator import Discriminator, discriminator_loss, generator_loss
from pvsc_link.types import InputError


def tiny(**kwargs):
    layer = Discriminator(num_filters=8, num_layers=2, num_groups=4, **kwargs)
    layer.build((None, None, None, 3))
    return layer


def frames(batch=2, height=32, width=48, seed=0):
    return np.random.default_rng(seed).random((batch, height, width, 3), np.float32)


def test_the_default_has_the_weights_of_a_64_filter_patchgan():
    layer = Discriminator()
    layer.build((None, None, None, 3))
    assert layer.count_params() == pytest.approx(2.77e6, rel=0.01)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47)])
def test_one_score_per_patch_for_any_frame_size(height, width):
    scores = tiny()(frames(height=height, width=width))
    assert scores.shape == (2, -(-height // 4), -(-width // 4), 1)
    assert tiny().compute_output_shape((2, height, width, 3)) == tuple(scores.shape)


def test_a_score_depends_on_its_own_frame_alone_and_running_assigns_nothing():
    layer = tiny()
    before = layer.get_weights()
    together = np.asarray(layer(frames(), training=True))
    alone = np.asarray(layer(frames()[:1], training=True))
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)
    assert layer.non_trainable_weights == []
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_patch_score_ignores_pixels_far_away_but_for_the_normalisation():
    """Stride and kernels bound the receptive field: 4 + 3*2 + (3+3)*4 = 34 pixels at 2 layers."""
    layer = tiny()
    layer.norms = [lambda features: features for _ in layer.norms]
    changed = frames(width=96)
    changed[:, :, 60:] = 0.0
    moved = np.abs(np.asarray(layer(changed)) - np.asarray(layer(frames(width=96))))
    assert moved[:, :, : (60 - 34) // 4].max() == 0.0
    assert moved[:, :, -4:].min() > 0.0


def test_hinge_losses_at_hand_made_scores():
    real, fake = np.float32([2.0, 0.5]), np.float32([-3.0, 0.0])
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.5 * (0.25 + 0.5))
    assert float(generator_loss(fake)) == pytest.approx(1.5)


def test_training_separates_two_kinds_of_frames():
    layer = tiny()
    smooth, rough = np.full_like(frames(4), 0.8), frames(4)
    optimizer = tf.keras.optimizers.Adam(1e-2)
    losses = []
    for _ in range(40):
        with tf.GradientTape() as tape:
            loss = discriminator_loss(layer(smooth), layer(rough))
        gradients = tape.gradient(loss, layer.trainable_variables)
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        losses.append(float(loss))
    assert losses[0] > 0.8
    assert losses[-1] < 0.4


def test_gradients_reach_every_weight():
    layer = tiny()
    with tf.GradientTape() as tape:
        loss = generator_loss(layer(frames()))
    for weight, gradient in zip(
        layer.trainable_variables, tape.gradient(loss, layer.trainable_variables), strict=True
    ):
        assert np.abs(np.asarray(gradient)).max() > 0, weight.path


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_gives_float32_scores_close_to_the_exact_ones(policy):
    exact, half = tiny(), tiny(dtype=policy)
    half.set_weights(exact.get_weights())
    scores = half(frames())
    assert scores.dtype == "float32"
    np.testing.assert_allclose(scores, exact(frames()), atol=0.02)


def test_config_round_trip_and_graph_equals_eager():
    layer = tiny()
    copy = Discriminator.from_config(layer.get_config())
    copy.build((None, None, None, 3))
    copy.set_weights(layer.get_weights())
    assert copy.get_config() == layer.get_config()
    graph = tf.function(copy, input_signature=[tf.TensorSpec((None, 32, 48, 3))])
    np.testing.assert_allclose(graph(frames()), layer(frames()), atol=1e-5)


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="multiple of num_groups"):
        Discriminator(num_filters=10, num_groups=4)
