"""Eq. 25 and 27, term by term, and the optimiser under them."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from pvsc_link.train import step
from pvsc_link.train.config import LossConfig
from pvsc_link.train.objective import (
    Objective,
    PerceptualLoss,
    latent_loss,
    rate_loss,
    reconstruction_loss,
)
from pvsc_link.train.phase import Phase
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


@pytest.mark.parametrize(("poisoned", "skipped"), [(None, 0), (0, 1), (1, 1)])
def test_a_step_is_reported_as_skipped_if_either_group_was(poisoned, skipped):
    groups = [FlatAdam([keras.Variable(np.zeros(2, np.float32))], name) for name in "ab"]
    slopes = [np.array([3.0, 4.0], np.float32), np.array([6.0, 8.0], np.float32)]
    if poisoned is not None:
        slopes[poisoned] = np.full(2, np.nan, np.float32)
    given = [ops.convert_to_tensor(slope) for slope in slopes]
    found = Phase._update(SimpleNamespace(groups=groups), given, 1e-3)
    assert float(found["skipped"]) == skipped
    norm = np.nan if poisoned == 0 else 5.0
    np.testing.assert_allclose(float(found["norm"]), norm, rtol=1e-6)


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


FRAMES = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16, 3), np.uint8)
OMEGA, ETA = [0.5, 3.0], 0.2


class MadeUpModel:
    """Gives the tensors that a model's ``forward`` has, each with errors of its own."""

    config = SimpleNamespace(eta=ETA, rate_set=(0, 4))

    def __init__(self):
        rng = np.random.default_rng(1)
        names = ("frame", "prediction")
        pictures = [f"{n}_{b}" for n in names for b in ("ideal", "tx", "rx")]
        shapes = dict.fromkeys([*pictures, "prediction", "prediction_flow"], (2, 16, 16, 3))
        shapes |= dict.fromkeys(("y_bar", "y_bar_tx", "y_bar_rx"), (2, 1, 1, 8))
        shapes |= {"rate_reals": (2, 1, 1), "num_bits_y": (2, 1, 1), "num_bits_z": (2,)}
        self.output = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
        self.output["rate_index"] = np.array([[[0]], [[1]]], np.int32)

    def forward(self, frame, omega_index, **others):
        return {name: ops.convert_to_tensor(value) for name, value in self.output.items()}

    def error(self, name):
        """L1 error of each clip."""
        return np.abs(FRAMES[:, 0] / 255 - self.output[name]).mean(axis=(1, 2, 3))


class MadeUpDistance:
    """Stands in for ``PerceptualLoss`` on one clip of two."""

    count = 1

    def cut(self, images, rows, place):
        return ops.take(images, rows, axis=0)

    def features(self, images):
        return images

    def distance(self, features, images):
        return ops.mean(ops.square(features - images), axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("stage", "branches"),
    [
        (1, {"ideal": 3.0}),
        (2, {"tx": 1.0, "rx": 1.0}),
        (3, {"ideal": 1.0, "tx": 1.0, "rx": 1.0}),
    ],
)
@pytest.mark.parametrize("clip", [0, 1])
def test_the_loss_is_the_sum_of_its_terms_by_branch_weight_and_omega(stage, branches, clip):
    """Eq. 27 and the terms beyond the paper, of two clips of different quality presets.

    Stage 2 has no rate, because what it would act on is fixed. ``clip`` is the one that the
    perceptual term is computed on.
    """
    weights = LossConfig(rec=2.0, per=0.4, latent=0.3, prediction=0.7, flow=0.9, preset_balance=0.5)
    phase = SimpleNamespace(
        stage=stage, loss=weights, channel=None, quantiser="ste", rate_set="preset"
    )
    model = MadeUpModel()
    batch = {
        "frames": FRAMES,
        "omega_index": np.array([[0], [1]], np.int32),
        **dict.fromkeys(("noise_y", "noise_z"), np.zeros((2, 1))),
        **{"rows": np.array([[clip]], np.int32), "place": np.zeros((1, 2), np.int32)},
        **{"per_weight": np.float32(0.4), "adv_weight": np.float32(0.0)},
    }
    loss, _, _ = Objective(phase, OMEGA, model, None, MadeUpDistance())(batch)
    omega, output = np.array(OMEGA), model.output
    rate = (output["rate_reals"].ravel() + ETA * output["num_bits_z"]) / 256
    by_clip = np.zeros(2) if stage == 2 else rate
    by_clip = by_clip + 0.9 * omega * model.error("prediction_flow")
    of_chosen, of_latents = 0.0, 0.0
    for branch, weight in branches.items():
        prediction = "prediction" if branch == "ideal" else f"prediction_{branch}"
        errors = 2.0 * model.error(f"frame_{branch}") + 0.7 * model.error(prediction)
        by_clip = by_clip + weight * omega * errors
        square = np.square(FRAMES[:, 0] / 255 - output[f"frame_{branch}"]).mean(axis=(1, 2, 3))
        of_chosen += weight * 0.4 * (omega**0.5 * square)[clip]
        if branch != "ideal":
            of_latents += 0.3 * np.square(output["y_bar"] - output[f"y_bar_{branch}"]).mean()
    expected = np.mean(by_clip * omega**-0.5) + of_chosen + of_latents
    assert float(loss) == pytest.approx(expected, rel=1e-5)
