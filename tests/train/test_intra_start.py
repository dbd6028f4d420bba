"""A P model that starts as the trained intra model codes as that one does, before any step."""

from dataclasses import fields, replace

import numpy as np
import pytest
from keras import ops

from pvsc_link.models.presets import intra_of
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.zoo import model_of
from pvsc_link.train.starts.informed import measure_statistics, start_informed
from pvsc_link.train.starts.intra import copy_feature_coding, start_from_intra


@pytest.fixture(scope="module")
def built(micro_preset):
    """An intra model with arbitrary weights, as after training, a P model, and their weights."""
    same = {f.name: getattr(micro_preset, f.name) for f in fields(PvscConfig)}
    config = PvscConfig(**same | {"predict_latent": False})
    intra, inter = model_of(intra_of(config)), model_of(config)
    rng = np.random.default_rng(1)
    for variable in intra.trainable_variables:
        noise = 0.05 * rng.standard_normal(variable.shape).astype(np.float32)
        variable.assign(variable + noise)
    return [(model, model.get_weights()) for model in (intra, inter)]


@pytest.fixture
def models(built):
    """The two models with the weights that they were built with."""
    for model, weights in built:
        model.set_weights(weights)
    return [model for model, _ in built]


def test_it_sends_and_reads_features_as_the_intra_model_does(models, micro_preset):
    intra, inter = models
    copy_feature_coding(intra, inter)
    rng = np.random.default_rng(0)
    y_bar = np.rint(3 * rng.standard_normal((1, 4, 4, micro_preset.channels_y), np.float32))
    rate_index = rng.integers(0, len(micro_preset.rate_set), (1, 4, 4)).astype(np.int32)
    state = inter.feature_decoder.initial_state(1, 4, 4)
    sent = intra.feature_encoder(y_bar, rate_index)
    np.testing.assert_allclose(inter.feature_encoder(y_bar, rate_index, state), sent, atol=1e-5)
    read, _ = intra.feature_decoder(sent, rate_index)
    again, _ = inter.feature_decoder(sent, rate_index, state)
    np.testing.assert_allclose(again, read, atol=1e-5)


@pytest.fixture
def stills():
    """Pairs of equal frames: a step edge somewhere, on grey."""
    rng = np.random.default_rng(2)
    frames = np.full((12, 64, 64, 3), 0.4, np.float32)
    for frame in frames:
        row, column = rng.integers(8, 56, 2)
        frame[row:, column:] = rng.random(3, np.float32)
    return np.stack([frames, frames], axis=1)


def test_its_latents_steps_and_pictures_are_the_intra_models(models, stills):
    intra, inter = models
    start_from_intra(intra, inter, stills)
    frame, other = stills[0, :1], stills[1, :1]
    omega_index = ops.convert_to_tensor([1], "int32")
    y = intra.feature_extractor(frame, omega_index)
    buffers = inter.start_buffers(other)
    context_e, context_f = inter.context_extractor(buffers["feature_tx"], omega_index)
    np.testing.assert_allclose(inter.feature_extractor(frame, omega_index, context_f), y, atol=1e-5)
    shown = inter.frame_generator(inter.feature_generator(y, omega_index, context_f), omega_index)
    np.testing.assert_allclose(shown, intra.generate(y, omega_index), atol=1e-5)
    z_hat, _ = intra.hyper_latent(y, omega_index)
    w, _, _ = inter.parameters_of(z_hat, context_e)
    np.testing.assert_allclose(w, intra.parameters_of(z_hat)[0], atol=1e-5)


def test_the_previous_frame_tells_the_mean(models, stills):
    """What is left of y of a still is little; behind another frame more than its variance."""
    intra, inter = models
    config = intra.config
    statistics = measure_statistics(stills, config.channels_feature, config.channels_y)
    start_informed(intra, statistics, [0.5, 5.0])  # a codec that works
    start_from_intra(intra, inter, stills)

    def left(before, frame):
        errors = []
        for index in range(2):
            omega_index = ops.convert_to_tensor([index] * len(frame), "int32")
            shown = intra.forward(before, omega_index)["frame_ideal"]
            buffers = inter.start_buffers(ops.clip(shown, 0.0, 1.0))
            context_e, _ = inter.context_extractor(buffers["feature_tx"], omega_index)
            y = intra.feature_extractor(frame, omega_index)
            z_hat, _ = intra.hyper_latent(y, omega_index)
            w, mu, _ = inter.parameters_of(z_hat, context_e)
            spread = np.var(y / w, axis=(0, 1, 2))
            errors.append(np.mean(np.square(y / w - mu)) / np.mean(spread))
        return max(errors)

    frames = stills[:, 0]
    assert left(frames, frames) < 0.2
    assert left(frames[::-1], frames) > 1


def test_with_latent_prediction_what_stands_still_is_a_latent_of_zero(stills, micro_preset):
    config = micro_preset
    intra, inter = model_of(intra_of(config)), model_of(config)
    start_informed(
        intra, measure_statistics(stills, config.channels_feature, config.channels_y), [0.5, 5.0]
    )
    start_from_intra(intra, inter, stills)
    frame, omega_index = stills[:, 0], ops.convert_to_tensor([1] * len(stills), "int32")
    before = intra.forward(frame, omega_index)
    y_tilde = intra.dequantise(before["y_bar"], intra.parameters_of(before["z_hat"]))
    feature = intra.feature_generator(y_tilde, omega_index)
    _, context_f = inter.context_extractor(feature, omega_index)
    sent = inter.feature_extractor(frame, omega_index, context_f)
    whole = intra.feature_extractor(frame, omega_index)
    assert np.mean(np.square(sent)) < 0.05 * np.var(whole)
    # G adds what F_ext took away: the difference alone gives the whole picture.
    shown = inter.frame_generator(
        inter.feature_generator(sent, omega_index, context_f), omega_index
    )
    np.testing.assert_allclose(shown, intra.generate(whole, omega_index), atol=1e-4)


def test_e_s_hands_on_mean_and_spread(models, stills):
    intra, inter = models
    start_from_intra(intra, inter, stills)
    config = inter.config
    rng = np.random.default_rng(3)
    shape = (1, 4, 4, config.channels_y)
    mu_0, y_before = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    z_hat, _ = intra.hyper_latent(
        intra.feature_extractor(stills[:1, 0], ops.convert_to_tensor([0])), ops.zeros(1, "int32")
    )
    context_e, _ = inter.context_extractor(
        inter.start_buffers(stills[:1, 0])["feature_tx"], ops.zeros(1, "int32")
    )
    w, _, sigma_0 = inter.parameters_of(z_hat, context_e)
    mu_1, sigma_1 = inter.spatial_prior(w, mu_0, sigma_0, y_before)
    mask = inter.spatial_prior.masks(4, 4)[1]
    np.testing.assert_allclose(mu_1 * mask, mu_0 * mask, atol=1e-5)
    np.testing.assert_allclose(sigma_1 * mask, sigma_0 * mask, rtol=1e-5)


def test_a_prior_too_narrow_for_both_is_refused(models, stills, micro_preset):
    intra, _ = models
    narrow = model_of(replace(micro_preset, channels_prior=16))
    with pytest.raises(ValueError, match="at least 20"):
        start_from_intra(intra, narrow, stills)


def test_an_intra_phase_cannot_start_from_itself(micro_run):
    with pytest.raises(ValueError, match="intra_start of phase"):
        micro_run({"model": "intra", "intra_start": True})
