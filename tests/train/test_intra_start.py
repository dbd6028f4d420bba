"""A P model that starts as the trained intra model codes as that one does, before any step."""

import numpy as np
import pytest
from keras import ops

from pvsc_link.semantic.presets import intra_of
from pvsc_link.train.distillation import build_model
from pvsc_link.train.intra_start import copy_feature_coding, start_from_intra


@pytest.fixture
def models(micro_preset):
    """An intra model with arbitrary weights, as after training, and a fresh P model."""
    intra, inter = build_model(intra_of(micro_preset)), build_model(micro_preset)
    rng = np.random.default_rng(1)
    for variable in intra.trainable_variables:
        noise = 0.05 * rng.standard_normal(variable.shape).astype(np.float32)
        variable.assign(variable + noise)
    return intra, inter


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


def test_its_latents_and_pictures_are_the_intra_models_whatever_the_previous_frame(models):
    intra, inter = models
    start_from_intra(intra, inter)
    rng = np.random.default_rng(2)
    frame, other = (rng.random((1, 64, 64, 3), np.float32) for _ in range(2))
    omega_index = ops.convert_to_tensor([1], "int32")
    y = intra.feature_extractor(frame, omega_index)
    buffers = inter.start_buffers(other)
    context_e, context_f = inter.context_extractor(buffers["feature_tx"], omega_index)
    np.testing.assert_allclose(inter.feature_extractor(frame, omega_index, context_f), y, atol=1e-5)
    shown = inter.frame_generator(inter.feature_generator(y, omega_index, context_f), omega_index)
    np.testing.assert_allclose(shown, intra.generate(y, omega_index), atol=1e-5)
    z_hat, _ = intra.hyper_latent(y, omega_index)
    for own, expected in zip(
        inter.parameters_of(z_hat, context_e), intra.parameters_of(z_hat), strict=True
    ):
        np.testing.assert_allclose(own, expected, atol=1e-5)


def test_an_intra_phase_cannot_start_from_itself(micro_run):
    with pytest.raises(ValueError, match="intra_start of phase"):
        micro_run({"model": "intra", "intra_start": True})
