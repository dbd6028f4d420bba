"""The two models as wholes: branches, stages of training, weights files, backends."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pvsc_link.models.layers.rate_adaptive import (
    gain_index,
    gain_of,
    normalise_power,
    pack,
    reals_mask,
    sent_mask,
)
from pvsc_link.models.presets import PRESETS, ablations_of, config_of, intra_of
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.models.pvsc_mc.config import PvscMcConfig
from pvsc_link.models.pvsc_mc.model import PvscMcModel
from pvsc_link.models.zoo import load_weights, save_weights
from pvsc_link.types import InputError

SMALL = PvscMcConfig(
    "small",
    blend_reference=True,
    channels_y=12,
    channels_z=8,
    channels_feature=16,
    channels_pixel=12,
    channels_prior=16,
    depth_context=(1, 1),
    depth_extractor=1,
    depth_hyper=1,
    depth_fusion=1,
    depth_feature=1,
    depth_pixel=1,
    depth_deblock=1,
    embed_dim=16,
    num_heads=2,
    num_vit=2,
    window_size=2,
    rate_set=(0, 2, 4, 6, 8, 12),
    num_omega=2,
)
OMEGA = np.array([0, 1], np.int32)
MOTION = np.random.default_rng(4).integers(-20, 21, (2, 4, 4, 2)).astype(np.int32)
FRAMES = np.random.default_rng(0).random((3, 2, 64, 64, 3)).astype(np.float32)


def disturb(symbols, rate_index):
    """A fixed disturbance: randomness is never drawn inside a model."""
    wave = ops.sin(37.0 * ops.arange(int(np.prod(symbols.shape)), dtype="float32"))
    return symbols + 0.1 * ops.reshape(wave, symbols.shape)


def uniform(model):
    """Quantisation noise for one frame of FRAMES."""
    rng, config = np.random.default_rng(1), model.config
    shapes = {"y": (2, 4, 4, config.channels_y), "z": (2, 1, 1, config.channels_z)}
    return {k: rng.random(s).astype(np.float32) - 0.5 for k, s in shapes.items()}


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(0)
    pair = IntraModel(intra_of(SMALL)), PvscMcModel(SMALL)
    for model in pair:
        # Untrained, z rounds to zero, and a layer fed with zeros has no gradient to show.
        last = model.hyper_encoder.stack.blocks[-1].gate_out
        last.bias.assign(3.0 * np.random.default_rng(2).standard_normal(last.bias.shape))
        # E_s starts as a change of nothing: what leads to it has no gradient yet either.
        heads = model.spatial_prior.heads.kernel
        heads.assign(0.1 * np.random.default_rng(3).standard_normal(heads.shape))
    halves = pair[1].feature_extractor, pair[1].feature_generator
    starting = [half.prediction.down.kernel for half in halves]
    for kernel in (*starting, pair[1].reference_blend.exit.kernel):
        kernel.assign(0.1 * np.random.default_rng(5).standard_normal(kernel.shape))
    return pair


def gop(intra, model, quantiser="ste", channel=None):
    """An I frame and two P frames; the output dict of each."""
    first = intra(FRAMES[0], OMEGA, uniform(intra), quantiser=quantiser, channel=channel)
    frames = ("frame_tx", "frame_rx") if channel else ("frame_ideal",)
    outputs, buffers = [first], model.start_buffers(*(first[name] for name in frames))
    for frame in FRAMES[1:]:
        drawn = uniform(model)
        outputs.append(
            model(frame, buffers, OMEGA, drawn, motion=MOTION, quantiser=quantiser, channel=channel)
        )
        buffers = outputs[-1]["buffers"]
    return outputs


@pytest.fixture(scope="module")
def noisy_gop(models):
    return gop(*models, "round", disturb)


def loss_of(outputs):
    """Distortion on every branch present, plus rate, plus the error of the feature coding."""
    total = 0.0
    for frame, output in zip(FRAMES, outputs, strict=True):
        for end in ("ideal", "tx", "rx"):
            if f"frame_{end}" in output:
                total += ops.mean(ops.square(output[f"frame_{end}"] - frame))
        total += 1e-3 * (ops.mean(output["rate_reals"]) + ops.mean(output["num_bits_z"]))
    return total


@pytest.mark.parametrize(
    ("stage", "quantiser", "channel"),
    [(1, "noise", None), (1, "ste", None), (2, "ste", disturb), (3, "ste", disturb)],
)
def test_gradients_reach_every_trainable_weight_of_the_stage(models, stage, quantiser, channel):
    for model in models:
        model.select_stage(stage)
    weights = [w for model in models for w in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = loss_of(gop(*models, quantiser, channel))
    gradients = tape.gradient(loss, [w.value for w in weights])
    silent = [
        w.path
        for w, g in zip(weights, gradients, strict=True)
        if g is None or not np.any(g.numpy())
    ]
    assert silent == []
    assert all(np.isfinite(g.numpy()).all() for g in gradients)


def test_stages_split_the_weights_into_ideal_branch_and_feature_coding(models):
    for model in models:
        paths = {}
        for stage in (1, 2, 3):
            model.select_stage(stage)
            paths[stage] = {w.path for w in model.trainable_variables}
        assert paths[1].isdisjoint(paths[2])
        assert paths[1] | paths[2] == paths[3]
        layers = model.coding_layers
        coding = {w.path for layer in layers for w in layer.weights}
        assert paths[2] == coding
        assert not any("rate_map_prior" in p for p in paths[3])
        with pytest.raises(InputError, match="stage"):
            model.select_stage(4)


def test_tx_and_rx_branches_are_equal_without_noise_and_apart_with_it(models):
    for channel, equal in ((lambda s, k: s, True), (disturb, False)):
        outputs = gop(*models, "round", channel)
        for output in outputs:
            frames = [ops.convert_to_numpy(output[f"frame_{end}"]) for end in ("tx", "rx")]
            assert np.array_equal(*frames) == equal
        buffers = {k: ops.convert_to_numpy(v) for k, v in outputs[-1]["buffers"].items()}
        for name in ("feature", "state"):
            assert np.array_equal(buffers[f"{name}_tx"], buffers[f"{name}_rx"]) == equal


@pytest.mark.parametrize("name", ["feature", "state"])
def test_each_end_decodes_from_its_own_buffers(models, name):
    """Another F or C_s at the receiver changes what it shows, and nothing at the transmitter."""
    _, model = models
    equal = model.start_buffers(FRAMES[0], FRAMES[0])
    other = equal | {f"{name}_rx": 1.0 - equal[f"{name}_rx"]}
    given = {"motion": MOTION, "channel": lambda symbols, rates: symbols}
    before, after = (model(FRAMES[1], buffers, OMEGA, **given) for buffers in (equal, other))
    np.testing.assert_array_equal(before["frame_rx"], before["frame_tx"])
    np.testing.assert_array_equal(after["frame_tx"], before["frame_tx"])
    assert np.abs(after["frame_rx"] - before["frame_rx"]).max() > 1e-4


def test_without_a_channel_only_the_ideal_branch_runs(models):
    for output in gop(*models, "round"):
        assert not {"symbols", "frame_tx", "frame_rx"} & set(output)
        assert output["frame_ideal"].shape == FRAMES[0].shape


def test_each_clip_of_a_batch_is_coded_by_itself(models, noisy_gop):
    _, model = models
    first, both, _ = noisy_gop
    buffers = model.start_buffers(first["frame_tx"], first["frame_rx"])
    alone = {k: v[1:] for k, v in buffers.items()}
    output = model(FRAMES[1, 1:], alone, OMEGA[1:], motion=MOTION[1:], channel=lambda s, k: s)
    for name in ("rate_index", "frame_ideal", "frame_tx"):
        np.testing.assert_allclose(output[name][0], both[name][1], atol=1e-4)


def test_a_rate_map_of_zeros_sends_no_symbol_and_still_decodes(models):
    for model in models:
        y_bar = np.random.default_rng(0).standard_normal((1, 4, 4, 12)).astype(np.float32)
        silence = np.zeros((1, 4, 4), np.int32)
        state = model.feature_decoder.initial_state(1, 4, 4)
        symbols = model.feature_encoder(y_bar, silence, state)
        assert not np.any(ops.convert_to_numpy(symbols))
        assert pack(ops.convert_to_numpy(symbols), silence, SMALL.rate_set).size == 0
        assert np.isfinite(model.feature_decoder(symbols, silence, state)[0]).all()


def test_sent_symbols_of_every_clip_have_unit_mean_power(noisy_gop):
    for output in noisy_gop:
        energy = np.sum(ops.convert_to_numpy(output["symbols"]) ** 2, axis=(1, 2, 3))
        count = np.sum(sent_mask(output["rate_index"], SMALL.rate_set), axis=(1, 2, 3))
        np.testing.assert_allclose(energy, count, rtol=1e-5)


def test_quality_presets_change_the_picture_through_their_vectors_alone(models):
    intra, _ = models
    rows = [w for w in intra.trainable_variables if w.path.endswith("/rows")]
    assert len(rows) == 5  # q_ext^f, q_G^0, q_G^1, q_tx, q_rx; I frames have no C_ext
    same = np.array([1, 1], np.int32)
    before = intra(FRAMES[0], same)["frame_ideal"]
    saved = [ops.convert_to_numpy(r) for r in rows]
    for row in rows:
        row.assign(np.concatenate([row[:1], 2.0 * row[1:]]))
    after = intra(FRAMES[0], np.array([0, 1], np.int32))["frame_ideal"]
    for row, value in zip(rows, saved, strict=True):
        row.assign(value)
    np.testing.assert_allclose(after[0], before[0], atol=1e-5)
    assert np.abs(after[1] - before[1]).max() > 1e-3


def test_weights_survive_a_file_and_do_not_fit_another_preset(models, tmp_path):
    intra, model = models
    path = tmp_path / "small.weights.h5"
    save_weights(model, path)
    other = PvscMcModel(SMALL)
    load_weights(other, path)
    for first, second in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(first, second)
    wide = PvscMcModel(replace(SMALL, name="wide", channels_feature=24))
    kept = wide.get_weights()
    for stranger in (wide, intra):
        with pytest.raises(InputError, match="do not fit"):
            load_weights(stranger, path)
    for first, second in zip(kept, wide.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_weights_that_are_missing_misnamed_or_not_finite_are_refused(models, tmp_path):
    model = PvscMcModel(SMALL)
    with pytest.raises(InputError, match="missing"):
        load_weights(model, tmp_path / "none.weights.h5")
    with pytest.raises(InputError, match="file name"):
        save_weights(model, tmp_path / "model.h5")
    path = tmp_path / "nan.weights.h5"
    model.trainable_variables[0].assign(np.nan * model.trainable_variables[0])
    save_weights(model, path)
    with pytest.raises(InputError, match="NaN"):
        load_weights(models[1], path)
    assert np.isfinite(models[1].get_weights()[0]).all()


def test_models_refuse_the_other_kind_of_config():
    with pytest.raises(InputError, match="kind of frame"):
        PvscMcModel(intra_of(SMALL))
    with pytest.raises(InputError, match="kind of frame"):
        IntraModel(SMALL)


def test_presets_survive_json_and_name_their_ablations():
    for config in PRESETS.values():
        assert config_of(json.loads(json.dumps(config.to_dict()))) == config
        assert config.rate_set[0] == 0
        assert list(config.rate_set) == sorted(set(config.rate_set))
    assert len(PRESETS["pvsc_paper"].rate_set) == 16
    assert [len(c.rate_set) for c in ablations_of(PRESETS["pvsc_paper"])] == [16, 16, 16, 129, 16]
    assert {f"{name}_intra" for name in PRESETS if not name.endswith("_intra")} <= set(PRESETS)


SCRIPT = """
import sys
import jax, keras, numpy as np
from keras import ops
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.models.pvsc.model import PvscModel
from pvsc_link.models.presets import config_of, intra_of
from pvsc_link.models.pvsc_mc.model import PvscMcModel
from pvsc_link.models.zoo import load_weights

assert keras.backend.backend() == "jax"
folder = sys.argv[1]
data = np.load(folder + "/in.npz", allow_pickle=True)
config = config_of(data["config"].item())
intra, model = IntraModel(intra_of(config)), PvscMcModel(config)
load_weights(intra, folder + "/intra.weights.h5")
load_weights(model, folder + "/model.weights.h5")

def channel(symbols, rate_index):
    wave = ops.sin(37.0 * ops.arange(int(np.prod(symbols.shape)), dtype="float32"))
    return symbols + 0.1 * ops.reshape(wave, symbols.shape)

@jax.jit
def run(frames, omega):
    first = intra(frames[0], omega, channel=channel)
    buffers = model.start_buffers(first["frame_tx"], first["frame_rx"])
    return first, model(frames[1], buffers, omega, motion=data["motion"], channel=channel)

flat = {}
for t, output in enumerate(run(data["frames"], data["omega"])):
    output |= output.pop("buffers", {})
    flat |= {f"{t}_{k}": np.asarray(v) for k, v in output.items()}
np.savez(folder + "/out.npz", **flat)
"""


@pytest.mark.slow
def test_the_same_weights_file_gives_the_same_numbers_under_jax(models, noisy_gop, tmp_path):
    pytest.importorskip("jax")
    save_weights(models[0], tmp_path / "intra.weights.h5")
    save_weights(models[1], tmp_path / "model.weights.h5")
    np.savez(tmp_path / "in.npz", frames=FRAMES, omega=OMEGA, motion=MOTION, config=SMALL.to_dict())
    (tmp_path / "run.py").write_text(SCRIPT)
    subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=600,
    )
    theirs = np.load(tmp_path / "out.npz")
    for t, output in enumerate(noisy_gop[:2]):
        ours = {**output, **output.get("buffers", {})}
        ours.pop("buffers", None)
        for name, value in ours.items():
            if name in ("num_bits_y", "num_bits_z"):
                np.testing.assert_allclose(value, theirs[f"{t}_{name}"], rtol=1e-4, atol=1e-3)
            else:
                np.testing.assert_allclose(
                    value, theirs[f"{t}_{name}"], rtol=0, atol=1e-4, err_msg=f"{t} {name}"
                )


def test_a_frame_twice_as_strong_is_read_twice_as_strong_although_its_power_on_the_air_is_one(
    models,
):
    intra, _ = models
    rate_index = np.full((1, 4, 4), 2, np.int32)
    reals = np.random.default_rng(5).standard_normal((1, 4, 4, max(SMALL.rate_set)))
    reals = reals.astype(np.float32) * np.asarray(reals_mask(rate_index, SMALL.rate_set))
    sent = []
    for strength in (1.0, 2.0):
        symbols, gain = normalise_power(strength * reals, rate_index, SMALL.rate_set)
        known = gain_of(gain_index(gain))
        sent.append(intra.over_the_air((symbols, known), rate_index, lambda s, k: s)["rx"][0])
        energy = np.sum(np.square(symbols)) / np.sum(sent_mask(rate_index, SMALL.rate_set))
        assert energy == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(sent[1], 2.0 * np.asarray(sent[0]), rtol=1e-4)
