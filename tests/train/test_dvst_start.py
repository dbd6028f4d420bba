"""DVST that starts as two linear transform codecs sends motion and differences before any step."""

import numpy as np
import pytest
from keras import ops

from pvsc_link.models.presets import DVST_PRESETS
from pvsc_link.models.zoo import model_of
from pvsc_link.train.starts.dvst import change_rate, start_dvst
from pvsc_link.train.starts.informed import quantisation_steps
from tests.train.test_informed_start import psnr, textured_pairs


@pytest.fixture(scope="module")
def pairs():
    """Frames that differ by noise of low frequency, which no motion explains."""
    frames = textured_pairs(6, 128, 0)
    frames[:, 1] = 0.7 * frames[:, 0] + 0.3 * textured_pairs(6, 128, 1)[:, 0]
    return frames


def started(pairs, omega):
    model = model_of(DVST_PRESETS["dvst_tiny"])
    start_dvst(model, pairs, omega)
    return model


@pytest.fixture(scope="module")
def fine(pairs):
    return started(pairs, 18.0)


def test_the_context_stream_sends_what_the_prediction_lacks(fine, pairs):
    before, frame = pairs[0, :1], pairs[0, 1:]
    output = fine.forward(frame, fine.start_buffers(before))
    predicted, shown = (psnr(frame, output[name]) for name in ("prediction", "frame_ideal"))
    assert shown > predicted + 6
    motion, context = np.split(np.array(output["rate_index"]), 2, axis=1)
    assert context.max() > 0
    assert motion.mean() < context.mean()


def test_a_coarser_rate_takes_larger_steps_and_fewer_bits(fine, pairs):
    coarse = started(pairs, 0.7)
    bits, quality = [], []
    for model in (coarse, fine):
        output = model.forward(pairs[0, 1:], model.start_buffers(pairs[0, :1]))
        bits.append(float(ops.sum(output["num_bits_y"])))
        quality.append(psnr(pairs[0, 1:], output["frame_ideal"]))
    assert bits[0] < 0.8 * bits[1]
    assert quality[0] < quality[1]
    assert quantisation_steps([0.7])[0] > quantisation_steps([18.0])[0]


def test_the_motion_stream_carries_the_mean_flow_of_blocks(fine):
    flow = np.zeros((1, 64, 64, 2), np.float32)
    flow[:, :, :32] = (1.5, -0.75)
    flow[:, 32:, 32:] = (0.0, 3.0)
    y = fine.motion_encoder(flow)
    np.testing.assert_allclose(fine.motion_decoder(y), flow, atol=0.05)
    rounded = fine.motion_decoder(np.round(np.array(y)))
    assert np.max(np.abs(np.array(rounded) - flow)) < 0.5


def test_another_rate_starts_with_its_own_steps_and_the_same_pictures(pairs, fine):
    model = model_of(fine.config)
    model.set_weights([np.array(v) for v in fine.get_weights()])
    change_rate(model, 2.0, 18.0)
    before, frame = pairs[0, :1], pairs[0, 1:]
    outputs = [m.forward(frame, m.start_buffers(before)) for m in (fine, model)]
    bits = [float(ops.sum(output["num_bits_y"])) for output in outputs]
    assert bits[1] < 0.7 * bits[0]
    quality = [psnr(frame, output["frame_ideal"]) for output in outputs]
    assert quality[0] - 9 < quality[1] < quality[0]
    # Without rounding, latents of the two differ by the ratio of their steps alone.
    known = fine.compensate(np.zeros((1, 8, 8, 64), np.float32), before)
    inputs = frame, known.prediction, known.context_f
    y, scaled = (np.array(m.context_encoder(*inputs)) for m in (fine, model))
    np.testing.assert_allclose(scaled, y / 3.0, atol=1e-4)
    shown = [
        np.array(m.context_decoder(latent, *inputs[1:]))
        for m, latent in ((fine, y), (model, scaled))
    ]
    np.testing.assert_allclose(shown[1], shown[0], atol=1e-4)


def test_another_rate_sends_equal_symbols_and_reads_a_latent_in_its_own_steps(micro_dvst, stirred):
    """H_dec gives mean and deviation in the new step, F_tx and F_rx see the latent as before."""
    old, new = (model_of(DVST_PRESETS[micro_dvst]) for _ in range(2))
    stirred(old)
    before, channels = old.context_stream, old.config.context.channels_y
    heads = before.hyper_decoder.heads
    kernel, bias = 0.3 * np.array(heads.kernel), np.array(heads.bias)
    bias[2 * channels :] = np.linspace(2.0, 3.0, channels)  # deviations that no bound touches
    heads.kernel.assign(kernel)
    heads.bias.assign(bias)
    for variable in before.feature_decoder.to_features.weights:
        variable.assign(np.array(variable) + 0.3)
    new.set_weights([np.array(v) for v in old.get_weights()])
    change_rate(new, 2.0, 18.0)
    after, ratio = new.context_stream, 1 / 3
    rng = np.random.default_rng(0)
    z_hat = rng.integers(-1, 2, (1, 1, 1, old.config.context.channels_z)).astype(np.float32)
    context_e = rng.standard_normal((1, 8, 8, old.config.context.channels_context), np.float32)
    frame, held = rng.random((2, 1, 64, 64, 3), np.float32)
    nothing = np.zeros((1, 4, 4, old.config.motion.channels_y), np.float32)
    known = old.compensate(nothing, held)
    y, of_new = (
        np.array(m.context_encoder(frame, known.prediction, known.context_f)) for m in (old, new)
    )
    np.testing.assert_allclose(of_new, ratio * y, rtol=1e-3, atol=1e-5)
    rates = rng.integers(1, len(old.config.rate_set), (1, 4, 4)).astype(np.int32)
    given, scaled = (s.parameters_of(z_hat, context_e) for s in (before, after))
    np.testing.assert_allclose(scaled[0], given[0], rtol=1e-5)
    np.testing.assert_allclose(scaled[1], ratio * np.array(given[1]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scaled[2], ratio * np.array(given[2]), rtol=0.015)
    spread = np.std(np.array(given[2]), axis=(1, 2)) / np.mean(np.array(given[2]), axis=(1, 2))
    assert spread.max() > 0.05, "deviations depend on the place"
    sent = before.transmit(y, given, rates)
    np.testing.assert_allclose(after.transmit(ratio * y, scaled, rates), sent, atol=1e-4)
    both = after.receive(sent, rates, scaled), before.receive(sent, rates, given)
    for read, known in zip(*both, strict=True):
        np.testing.assert_allclose(read, ratio * np.array(known), rtol=1e-3, atol=1e-5)
