"""Eq. 25 and 27, term by term, and the optimiser under them."""

import keras
import numpy as np
import pytest
from keras import ops

from pvsc_link.train import step
from pvsc_link.train.config import LossConfig
from pvsc_link.train.objective import PerceptualLoss, latent_loss, rate_loss, reconstruction_loss
from pvsc_link.train.step import FlatAdam


@pytest.fixture(autouse=True)
def _no_clipping_and_a_fast_average(monkeypatch):
    monkeypatch.setattr(step, "CLIP_NORM", 1e9)
    monkeypatch.setattr(step, "EMA_DECAY", 0.5)


def variables(seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((3, 4), (5,), ())
    return [keras.Variable(np.asarray(rng.standard_normal(s), np.float32)) for s in shapes]


def gradients(variables, seed):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(tuple(v.shape)), np.float32) for v in variables]


def test_the_rate_is_reals_per_pixel_and_counts_the_side_information_by_eta():
    reals = np.full((2, 4, 4), 6.0, np.float32)
    bits_z = np.array([0.0, 100.0], np.float32)
    both = np.array(rate_loss(reals, bits_z, 0.2, 64 * 64))
    np.testing.assert_allclose(both, [96 / 4096, (96 + 20) / 4096], rtol=1e-6)


def test_the_reconstruction_loss_is_the_mean_absolute_difference_per_clip():
    frame = np.zeros((2, 4, 4, 3), np.float32)
    shown = np.stack([np.full((4, 4, 3), 0.25), np.full((4, 4, 3), -0.5)]).astype(np.float32)
    np.testing.assert_allclose(reconstruction_loss(frame, shown), [0.25, 0.5], rtol=1e-6)


def test_the_latent_loss_is_a_mean_square():
    a, b = np.zeros((1, 2, 2, 3), np.float32), np.full((1, 2, 2, 3), 2.0, np.float32)
    np.testing.assert_allclose(latent_loss(a, b), [4.0])


def test_the_perceptual_loss_sees_the_crop_and_the_clips_it_is_told():
    loss = PerceptualLoss(LossConfig(per_crop=16, per_share=0.5), batch=4)
    images = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    rows, place = np.array([3, 1], np.int32), np.array([5, 9], np.int32)
    cut = np.array(loss.cut(images, rows, place))
    np.testing.assert_array_equal(cut, images[[3, 1], 5:21, 9:25])
    same = loss.distance(loss.features(cut), cut)
    other = loss.distance(loss.features(cut), cut[::-1])
    np.testing.assert_allclose(same, 0.0, atol=1e-6)
    assert (np.array(other) > 0.05).all()


def test_flat_adam_takes_the_steps_of_keras_adam():
    ours, theirs = variables(), variables()
    flat = FlatAdam(ours, "a")
    reference = keras.optimizers.Adam(1e-2, epsilon=1e-8)
    reference.build(theirs)
    for seed in range(5):
        slopes = gradients(ours, seed)
        flat.apply([ops.convert_to_tensor(g) for g in slopes], 1e-2)
        reference.apply([ops.convert_to_tensor(g) for g in slopes], theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-4, atol=1e-6)


def test_the_norm_of_a_step_is_bounded_but_reported_as_it_was(monkeypatch):
    monkeypatch.setattr(step, "CLIP_NORM", 0.5)
    ours = variables()
    flat = FlatAdam(ours, "a")
    slopes = [10 * g for g in gradients(ours, 0)]
    norm, _ = flat.apply([ops.convert_to_tensor(g) for g in slopes], 1e-3)
    true = np.sqrt(sum(np.sum(g**2) for g in slopes))
    assert float(norm) == pytest.approx(true, rel=1e-5)
    assert np.linalg.norm(np.array(flat.first)) == pytest.approx(0.1 * 0.5, rel=1e-4)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(poison):
    ours = variables()
    flat = FlatAdam(ours, "a")
    flat.apply([ops.convert_to_tensor(g) for g in gradients(ours, 0)], 1e-2)
    before = [np.array(v) for v in (*ours, *flat.state)]
    bad = gradients(ours, 1)
    bad[1][2] = poison
    _, skipped = flat.apply([ops.convert_to_tensor(g) for g in bad], 1e-2)
    assert float(skipped) == 1.0
    for value, variable in zip(before, (*ours, *flat.state), strict=True):
        np.testing.assert_array_equal(value, np.array(variable))


def test_the_average_follows_the_weights_and_can_stand_in_for_them():
    ours = variables()
    flat = FlatAdam(ours, "a")
    for _ in range(30):
        flat.apply([ops.convert_to_tensor(np.ones(v.shape, np.float32)) for v in ours], 1e-2)
    raw = np.array(ours[1])
    with flat.averaged():
        inside = np.array(ours[1])
    np.testing.assert_allclose(inside - raw, 1e-2, rtol=0.05)  # decay 0.5: one step behind
    np.testing.assert_array_equal(np.array(ours[1]), raw)
    flat.settle()
    np.testing.assert_array_equal(np.array(ours[1]), inside)


def test_the_average_of_the_first_steps_forgets_the_start_fast(monkeypatch):
    monkeypatch.setattr(step, "EMA_DECAY", 0.999)
    ours = variables()
    flat = FlatAdam(ours, "a")
    expected = start = np.array(ours[0])
    for count in (1, 2):
        flat.apply([ops.convert_to_tensor(g) for g in gradients(ours, count)], 1e-1)
        decay = (1 + count) / (10 + count)
        expected = decay * expected + (1 - decay) * np.array(ours[0])
    with flat.averaged():
        np.testing.assert_allclose(np.array(ours[0]), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected - start).min() > 0.05


def test_a_factor_speeds_up_the_weights_it_names_alone():
    ours = [keras.Variable(np.zeros(3, np.float32), name=n) for n in ("slow", "prior_fast")]
    flat = FlatAdam(ours, "a", factors={"prior": 10.0})
    flat.apply([ops.ones(3), ops.ones(3)], 1e-3)
    np.testing.assert_allclose(np.array(ours[0]), -1e-3, rtol=1e-4)
    np.testing.assert_allclose(np.array(ours[1]), -1e-2, rtol=1e-4)
