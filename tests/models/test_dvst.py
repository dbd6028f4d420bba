"""DVST: warp, motion, both ends of a stream, training through the channel, backends."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pvsc_link.models.dvst import model as stacking
from pvsc_link.models.dvst.config import DvstConfig, StreamConfig
from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.dvst.networks import MotionEstimator, double_flow, warp
from pvsc_link.models.presets import DVST_PRESETS
from pvsc_link.models.pvsc.config import IntraConfig, LatentConfig
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.models.stream import Receiver, Transmitter
from pvsc_link.models.zoo import load_weights, save_weights
from pvsc_link.types import InputError

STREAM = StreamConfig(
    "stream",
    channels_y=8,
    channels_z=4,
    channels_context=6,
    channels_prior=8,
    depth_hyper=0,
    depth_fusion=1,
    embed_dim=8,
    num_heads=2,
    num_vit=1,
    mlp_ratio=2,
    window_size=2,
    rate_set=(0, 2, 4, 6, 8),
)
SMALL = DvstConfig(
    "small",
    "small_intra",
    motion=replace(STREAM, channels_context=0, channels_y=6, channels_z=3),
    context=STREAM,
    num_levels=3,
    flow_channels=(8, 8),
    flow_kernel=5,
    channels_motion=(6, 8, 8),
    channels_pixel=8,
    channels_context=(10, 12, 12),
    depth_reference=1,
    depth_refine=1,
    depth_encoder=1,
    depth_decoder=1,
)
INTRA = IntraConfig(
    **{f.name: getattr(STREAM, f.name) for f in fields(LatentConfig)} | {"num_omega": 4},
    channels_feature=6,
    spatial_coding=False,
    depth_extractor=1,
    depth_feature=1,
    depth_pixel=1,
)
HEIGHT, WIDTH = 64, 128
RNG = np.random.default_rng(0)


def pan(num_frames, height, width, step=(0, 3), seed=1):
    """A smooth pattern that moves by ``step`` pixels a frame: [num_frames, height, width, 3]."""
    rng = np.random.default_rng(seed)
    margin = 4 * num_frames
    coarse = rng.random((height // 8 + margin, width // 8 + margin, 3))
    large = np.kron(coarse, np.ones((8, 8, 1)))
    for axis in (0, 1):
        large = sum(np.roll(large, shift, axis) for shift in range(-3, 4)) / 7
    cuts = [(8 + t * step[0], 8 + t * step[1]) for t in range(num_frames)]
    return np.stack([large[i : i + height, j : j + width] for i, j in cuts]).astype(np.float32)


def disturb(symbols, rate_index):
    """A fixed disturbance: randomness is never drawn inside a model."""
    wave = ops.sin(37.0 * ops.arange(int(np.prod(symbols.shape)), dtype="float32"))
    return symbols + 0.1 * ops.reshape(wave, symbols.shape)


def stirred(model, seed=3):
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        value = ops.convert_to_numpy(weight)
        scale = 0.5 / np.sqrt(max(np.prod(value.shape[:-1]), 1)) if value.ndim > 1 else 0.2
        weight.assign(value + scale * rng.standard_normal(value.shape).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return stirred(DvstModel(SMALL))


@pytest.fixture(scope="module")
def models(model):
    return stirred(IntraModel(INTRA), 4), model


# Warp


def test_zero_flow_is_the_identity():
    maps = RNG.random((2, 7, 9, 4)).astype(np.float32)
    np.testing.assert_array_equal(warp(maps, np.zeros((2, 7, 9, 2), np.float32)), maps)


def test_whole_flow_is_a_shift_and_repeats_the_border():
    maps = RNG.random((2, 7, 9, 4)).astype(np.float32)
    flow = np.broadcast_to(np.float32([2, -3]), (2, 7, 9, 2))
    padded = np.pad(maps, [(0, 0), (0, 2), (3, 0), (0, 0)], mode="edge")
    np.testing.assert_array_equal(warp(maps, flow), padded[:, 2:, :9])


def test_fractions_of_a_pixel_weigh_the_four_neighbours():
    rows, columns = np.indices((6, 8), np.float32)
    ramp = (3 * rows - 2 * columns)[None, :, :, None]
    flow = np.broadcast_to(np.float32([0.25, -0.5]), (1, 6, 8, 2))
    found = ops.convert_to_numpy(warp(ramp, flow))[0, :-1, 1:, 0]
    np.testing.assert_allclose(found, ramp[0, :-1, 1:, 0] + 0.75 + 1.0, atol=1e-5)


def test_flow_of_a_uniform_motion_stays_uniform_between_scales():
    flow = np.broadcast_to(np.float32([1.5, -2]), (1, 4, 6, 2))
    doubled = ops.convert_to_numpy(double_flow(flow))
    np.testing.assert_allclose(doubled, np.broadcast_to(np.float32([3, -4]), (1, 8, 12, 2)))


# Training


def train(variables, loss, steps, rate):
    """Adam on one batch; the loss at every step."""
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            value = loss()
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    return [float(step()) for _ in range(steps)]


def test_a_few_steps_of_training_find_motion_that_beats_none():
    keras.utils.set_random_seed(0)
    estimator = MotionEstimator(SMALL)
    old, new = pan(2, 32, 48)[:, None]
    estimator(new, old)

    def loss():
        return ops.mean(ops.abs(warp(old, estimator(new, old)) - new))

    still = np.mean(np.abs(old - new))
    errors = train(estimator.trainable_variables, loss, 40, 3e-3)
    assert errors[-1] < 0.5 * still
    flow = ops.convert_to_numpy(estimator(new, old))[0, 8:-8, 8:-8]
    np.testing.assert_allclose(flow.mean(axis=(0, 1)), [0, 3], atol=0.6)


@pytest.mark.slow
def test_training_through_the_channel_lowers_the_loss_and_learns_to_use_motion():
    keras.utils.set_random_seed(0)
    small = DvstModel(SMALL)
    old, new = pan(2, 64, 64)[:, None]
    buffers = small.start_buffers(old, old)

    def errors(prediction):
        return ops.mean(ops.abs(prediction - new))

    def loss():
        output = small(new, buffers, quantiser="ste", channel=disturb)
        parts = [errors(output[f"frame_{end}"]) for end in ("ideal", "tx", "rx")]
        parts += [errors(output[f"prediction_{end}"]) for end in ("tx", "rx")]
        rate = ops.mean(output["rate_reals"]) + ops.mean(output["num_bits_z"])
        return sum(parts) + errors(output["prediction"]) + 1e-4 * rate

    history = train(small.trainable_variables, loss, 40, 5e-3)
    assert history[-1] < 0.8 * history[0]
    output = small(new, buffers, channel=disturb)
    still = float(errors(old))
    assert float(errors(output["prediction_rx"])) < 0.95 * still
    assert float(errors(output["frame_rx"])) < 0.8 * still


@pytest.mark.parametrize(
    ("stage", "quantiser", "channel"),
    [
        pytest.param(1, "noise", None, marks=pytest.mark.slow),
        pytest.param(2, "ste", disturb, marks=pytest.mark.slow),
        (3, "ste", disturb),
    ],
)
def test_gradients_reach_every_trainable_weight_of_the_stage(model, stage, quantiser, channel):
    first, second = pan(2, HEIGHT, WIDTH)[:, None]
    model.select_stage(stage)
    weights = model.trainable_variables
    noise = {
        "y": RNG.random((1, 4, 8, SMALL.channels_y), np.float32) - 0.5,
        "z": RNG.random((1, 1, 2, SMALL.channels_z), np.float32) - 0.5,
    }
    with tf.GradientTape() as tape:
        buffers = model.start_buffers(first, first if channel else None)
        output = model(second, buffers, None, noise, quantiser=quantiser, channel=channel)
        loss = 1e-3 * (ops.mean(output["rate_reals"]) + ops.mean(output["num_bits_z"]))
        for end in ("ideal", "tx", "rx") if channel else ("ideal",):
            loss += ops.mean(ops.square(output[f"frame_{end}"] - second))
    gradients = tape.gradient(loss, [w.value for w in weights])
    model.select_stage(3)
    pairs = list(zip(weights, gradients, strict=True))
    assert [w.path for w, g in pairs if g is None or not np.any(g.numpy())] == []
    assert all(np.isfinite(g.numpy()).all() for g in gradients)


def test_stages_split_the_weights_into_ideal_branch_and_feature_coding(model):
    paths = {}
    for stage in (1, 2, 3):
        model.select_stage(stage)
        paths[stage] = {w.path for w in model.trainable_variables}
    assert paths[1].isdisjoint(paths[2])
    assert paths[1] | paths[2] == paths[3]
    streams = (model.motion_stream, model.context_stream)
    coding = [layer for stream in streams for layer in stream.feature_coding]
    assert paths[2] == {w.path for layer in coding for w in layer.weights}
    with pytest.raises(InputError, match="stage"):
        model.select_stage(4)


# Branches


@pytest.fixture(scope="module")
def noisy(model):
    """One P frame over a disturbed channel."""
    first, second = pan(2, HEIGHT, WIDTH)[:, None]
    return model(second, model.start_buffers(first, first), channel=disturb)


def test_tx_and_rx_branches_are_equal_without_noise_and_apart_with_it(model, noisy):
    first, second = pan(2, HEIGHT, WIDTH)[:, None]
    clean = model(second, model.start_buffers(first, first), channel=lambda s, k: s)
    for output, equal in ((clean, True), (noisy, False)):
        for name in ("frame", "prediction", "y_bar"):
            ends = [ops.convert_to_numpy(output[f"{name}_{end}"]) for end in ("tx", "rx")]
            assert np.array_equal(*ends) == equal


def test_noise_variances_are_apart_like_the_units_that_they_belong_to():
    motion, context = np.zeros((1, 4, 4, 2), np.float32), np.ones((1, 4, 4, 2), np.float32)
    stacked = stacking.stack_units(motion, context)
    for split in (stacking.split_noise, stacking.split_units):
        found = split(stacked)
        np.testing.assert_array_equal(found, [motion, context])
    assert stacking.split_noise(None) == (None, None)


def test_each_end_decodes_from_its_own_buffer(model):
    """Another picture at the receiver changes what it shows, and nothing at the transmitter."""
    first, second = pan(2, HEIGHT, WIDTH)[:, None]
    ends = [
        model(second, model.start_buffers(first, held), channel=lambda symbols, rates: symbols)
        for held in (first, 1 - first)
    ]
    np.testing.assert_array_equal(ends[0]["frame_tx"], ends[1]["frame_tx"])
    assert np.abs(ends[0]["frame_rx"] - ends[1]["frame_rx"]).mean() > 0.05


def test_outputs_hold_both_streams(noisy):
    assert noisy["rate_index"].shape == (1, *SMALL.rate_map_shape(HEIGHT, WIDTH)) == (1, 8, 8)
    assert noisy["symbols"].shape == (1, 8, 8, 8)
    assert noisy["y_bar"].shape == (1, 4, 8, SMALL.channels_y)
    assert noisy["z_hat"].shape == (1, 1, 2, SMALL.channels_z)
    motion, context = stacking.split_units(noisy["rate_index"])
    np.testing.assert_array_equal(stacking.stack_units(motion, context), noisy["rate_index"])


def test_bits_of_hyper_latents_are_told_apart_by_stream(model):
    z_hat = np.zeros((1, 1, 2, SMALL.channels_z), np.float32)
    louder = z_hat.copy()
    louder[..., SMALL.motion.channels_z :] = 9.0
    before, after = (np.ravel(model.num_bits_z_of_streams(z)) for z in (z_hat, louder))
    assert after[0] == before[0], "the motion is as it was"
    assert after[1] > before[1] + 1


def test_the_flow_moves_the_frame_before_and_not_the_frame_itself(model):
    """A flat reference stays flat wherever its pixels are taken from."""
    before, frame = np.full((1, HEIGHT, WIDTH, 3), 0.25, np.float32), pan(2, HEIGHT, WIDTH)[:1]
    output = model(frame, model.start_buffers(before))
    np.testing.assert_allclose(output["prediction_flow"], before, atol=1e-6)


# Streaming


def send(transmitter, receiver, frames):
    for t, frame in enumerate(frames):
        payload = transmitter.encode(frame, intra=t == 0)
        yield payload, receiver.decode(payload.symbols, payload.side_bits, intra=t == 0)


@pytest.mark.parametrize("side_format", ["png", pytest.param("range", marks=pytest.mark.slow)])
def test_noise_free_link_gives_exactly_the_transmitters_frame(models, side_format):
    session = {"height": HEIGHT, "width": WIDTH, "side_format": side_format, "omega_index": 2}
    transmitter, receiver = Transmitter(*models, **session), Receiver(*models, **session)
    for payload, decoded in send(transmitter, receiver, pan(3, HEIGHT, WIDTH)):
        assert decoded.status == "ok"
        assert payload.symbols.size > 0
        assert np.mean(np.abs(payload.symbols) ** 2) == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_array_equal(decoded.frame, transmitter.frame_hat())
        assert decoded.frame.std() > 0.01, "a flat picture would prove nothing"


def test_a_payload_depends_on_the_frame_before_but_not_on_later_ones(models):
    frames, sent = pan(3, HEIGHT, WIDTH), []
    for clip in (frames[:2], frames[[0, 2]], frames[[1, 1]]):
        transmitter = Transmitter(*models, height=HEIGHT, width=WIDTH)
        sent.append([transmitter.encode(x, intra=t == 0) for t, x in enumerate(clip)])
    (first, second), (same, other), (_, after_another) = sent
    np.testing.assert_array_equal(first.symbols, same.symbols)
    assert first.side_bits == same.side_bits
    assert not np.array_equal(second.symbols, other.symbols)
    assert not np.array_equal(second.symbols, after_another.symbols)


def test_noise_moves_the_receivers_frame_but_not_the_transmitters(models):
    session = {"height": HEIGHT, "width": WIDTH}
    transmitter, noisy = Transmitter(*models, **session), Receiver(*models, **session)
    for t, frame in enumerate(pan(2, HEIGHT, WIDTH)):
        payload = transmitter.encode(frame, intra=t == 0)
        symbols = payload.symbols + 0.3 * np.exp(1j * np.arange(payload.symbols.size))
        decoded = noisy.decode(symbols, payload.side_bits, intra=t == 0)
        assert decoded.status == "ok"
    assert not np.array_equal(decoded.frame, transmitter.frame_hat())


def test_a_lost_side_message_is_a_status_and_repeats_the_last_frame(models):
    session = {"height": HEIGHT, "width": WIDTH}
    transmitter, receiver = Transmitter(*models, **session), Receiver(*models, **session)
    first, second = pan(2, HEIGHT, WIDTH)
    payload = transmitter.encode(first, intra=True)
    shown = receiver.decode(payload.symbols, payload.side_bits, intra=True).frame
    payload = transmitter.encode(second, intra=False)
    for part in ("z", "k"):
        lost = {**payload.side_bits, part: None}
        decoded = receiver.decode(payload.symbols, lost, intra=False)
        assert decoded.status == f"side_{part}_lost"
        np.testing.assert_array_equal(decoded.frame, shown)


def test_a_session_has_as_many_rates_as_the_config_and_no_more(models):
    for omega_index, fits in ((SMALL.num_rates - 1, True), (SMALL.num_rates, False)):
        session = {"height": HEIGHT, "width": WIDTH, "omega_index": omega_index}
        if fits:
            Transmitter(*models, **session)
        else:
            with pytest.raises(InputError, match="preset"):
                Transmitter(*models, **session)


# Config and files


@pytest.mark.parametrize("name", sorted(DVST_PRESETS))
def test_configs_survive_json(name):
    config = DVST_PRESETS[name]
    assert DvstConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_streams_share_one_rate_rule():
    with pytest.raises(InputError, match="rate"):
        replace(SMALL, motion=replace(SMALL.motion, rate_set=(0, 4)))


def test_weights_survive_a_file_and_give_the_same_numbers(model, tmp_path):
    path = tmp_path / "small.weights.h5"
    save_weights(model, path)
    other = DvstModel.from_config(model.get_config())
    assert other.config == SMALL
    load_weights(other, path)
    first, second = pan(2, HEIGHT, WIDTH)[:, None]
    outputs = [m(second, m.start_buffers(first))["frame_ideal"] for m in (model, other)]
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, outputs))


SCRIPT = """
import sys
import jax, keras, numpy as np
from keras import ops
from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.dvst.config import DvstConfig
from pvsc_link.models.zoo import load_weights

assert keras.backend.backend() == "jax"
folder = sys.argv[1]
data = np.load(folder + "/in.npz", allow_pickle=True)
model = DvstModel(DvstConfig.from_dict(data["config"].item()))
load_weights(model, folder + "/model.weights.h5")

def channel(symbols, rate_index):
    wave = ops.sin(37.0 * ops.arange(int(np.prod(symbols.shape)), dtype="float32"))
    return symbols + 0.1 * ops.reshape(wave, symbols.shape)

@jax.jit
def run(first, second):
    return model(second, model.start_buffers(first, first), channel=channel)

output = run(data["first"], data["second"])
output.pop("buffers")
np.savez(folder + "/out.npz", **{k: np.asarray(v) for k, v in output.items()})
"""


@pytest.mark.slow
def test_the_same_weights_file_gives_the_same_numbers_under_jax(model, tmp_path):
    pytest.importorskip("jax")
    first, second = pan(2, HEIGHT, WIDTH)[:, None]
    save_weights(model, tmp_path / "model.weights.h5")
    np.savez(tmp_path / "in.npz", first=first, second=second, config=SMALL.to_dict())
    (tmp_path / "run.py").write_text(SCRIPT)
    subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=600,
    )
    theirs = np.load(tmp_path / "out.npz")
    ours = model(second, model.start_buffers(first, first), channel=disturb)
    ours.pop("buffers")
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-3, err_msg=name)
