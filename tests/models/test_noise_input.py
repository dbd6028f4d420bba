"""F_rx that is told the noise variance of every symbol."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.layers.rate_adaptive import unpack
from pvsc_link.models.presets import DVST_PRESETS, PRESETS, PVSC_MC_SMALL, config_of, intra_of
from pvsc_link.models.pvsc.feature_codec import NoiseInput
from pvsc_link.models.pvsc_mc.config import PvscMcConfig
from pvsc_link.models.stream import Receiver, Transmitter
from pvsc_link.models.zoo import find_weights, load_model, model_of
from pvsc_link.train.weights import load_by_path, weights_by_path
from pvsc_link.types import InputError

MICRO = PvscMcConfig(
    "micro",
    channels_y=8,
    channels_z=4,
    channels_feature=12,
    channels_pixel=12,
    channels_prior=24,
    depth_context=(1, 1),
    depth_extractor=1,
    depth_hyper=0,
    depth_fusion=1,
    kernel_up=1,
    depth_feature=1,
    depth_pixel=1,
    embed_dim=8,
    num_heads=2,
    num_vit=1,
    mlp_ratio=1,
    window_size=4,
    rate_set=(0, 3, 4, 8),
    num_omega=2,
)
TOLD = replace(MICRO, noise_input=True)
OMEGA = np.array([0, 1])


def pair(config, told):
    """A model without the input, and one with it that has all its weights."""
    plain, other = model_of(config), model_of(told)
    load_by_path(other, weights_by_path(plain), config.rate_set, told.rate_set)
    return plain, other


@pytest.fixture(scope="module")
def models():
    return {"intra": pair(intra_of(MICRO), intra_of(TOLD)), "inter": pair(MICRO, TOLD)}


def noisy_channel(variance=0.5):
    rng = np.random.default_rng(3)

    def channel(symbols, rate_index):
        noise = rng.standard_normal(symbols.shape).astype(np.float32)
        no_eff = np.float32(variance) * rng.random(symbols.shape).astype(np.float32)
        return symbols + np.sqrt(no_eff / 2) * noise, no_eff

    return channel


def forward(model, kind, channel):
    frames = np.random.default_rng(1).random((2, 2, 64, 64, 3), np.float32)
    before = () if kind == "intra" else (model.start_buffers(frames[0], frames[0]),)
    return model.forward(frames[1], *before, OMEGA, channel=channel)


def randomise(model):
    layer, rng = model.feature_decoder.noise_input, np.random.default_rng(2)
    kept = layer.get_weights()
    layer.set_weights([rng.standard_normal(w.shape) for w in kept])
    return lambda: layer.set_weights(kept)


@pytest.mark.parametrize("kind", ["intra", "inter"])
def test_switched_on_with_old_weights_it_gives_the_old_output_exactly(models, kind):
    plain, told = models[kind]
    expected, got = (forward(m, kind, noisy_channel()) for m in (plain, told))
    for name in ("frame_tx", "frame_rx", "y_bar_rx"):
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


@pytest.mark.parametrize("kind", ["intra", "inter"])
def test_symbols_without_noise_are_decoded_as_without_the_input(models, kind):
    plain, told = models[kind]
    back = randomise(told)
    try:
        expected, got = (forward(m, kind, noisy_channel(0.0)) for m in (plain, told))
        noisy = forward(told, kind, noisy_channel())
    finally:
        back()
    for name in ("frame_tx", "frame_rx"):
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)
    assert np.abs(noisy["frame_rx"] - forward(plain, kind, noisy_channel())["frame_rx"]).max() > 0
    np.testing.assert_array_equal(noisy["frame_tx"], expected["frame_tx"])


def test_with_an_exponent_of_one_a_real_has_the_weight_of_the_wiener_filter():
    layer = NoiseInput(TOLD)
    layer.build()
    layer.exponent.assign(np.ones(layer.exponent.shape))
    offsets = np.arange(4)[:, None] + np.zeros(8)
    layer.offset.assign(offsets)
    rng = np.random.default_rng(0)
    reals = rng.standard_normal((1, 2, 2, 8)).astype(np.float32)
    no_eff = rng.exponential(2.0, reals.shape).astype(np.float32)
    rate_index = np.array([[[1, 2], [3, 3]]], np.int32)
    weighted, offset = layer(reals, rate_index, no_eff)
    valid = np.arange(8) < np.array(TOLD.rate_set)[rate_index][..., None]
    expected = np.where(valid, reals / (1 + no_eff), reals)
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)
    mean = (np.log1p(no_eff) * valid).sum(-1) / valid.sum(-1)
    np.testing.assert_allclose(offset, (mean * rate_index)[..., None] + np.zeros(8), rtol=1e-5)


def test_what_lies_beyond_the_reals_of_a_unit_is_ignored(models):
    _, told = models["intra"]
    back, rng = randomise(told), np.random.default_rng(0)
    symbols = rng.standard_normal((1, 4, 4, 8)).astype(np.float32)
    no_eff = rng.random(symbols.shape).astype(np.float32)
    rates = rng.integers(0, 4, (1, 4, 4), np.int32)
    beyond = np.arange(8) >= np.array(TOLD.rate_set)[rates][..., None]
    try:
        outputs = [
            told.decode_features(symbols, rates, OMEGA[:1], no_eff=np.where(beyond, other, no_eff))
            for other in (0.0, np.nan, np.inf)
        ]
    finally:
        back()
    for y_bar, _ in outputs[1:]:
        np.testing.assert_array_equal(y_bar, outputs[0][0])
    assert np.isfinite(outputs[0][0]).all()


def test_a_channel_without_noise_variances_is_refused(models):
    for kind, (plain, told) in models.items():
        forward(plain, kind, lambda symbols, rate_index: symbols)
        with pytest.raises(InputError, match="noise variances"):
            forward(told, kind, lambda symbols, rate_index: symbols)


def test_a_receiver_hands_the_noise_variances_on(models):
    intra, inter = models["intra"][1], models["inter"][1]
    back = [randomise(model) for model in (intra, inter)]
    session = {"height": 64, "width": 64, "omega_index": 1}
    transmitter, rng = Transmitter(intra, inter, **session), np.random.default_rng(4)
    shown = {}
    try:
        frames = rng.random((2, 64, 64, 3), np.float32)
        sent = [transmitter.encode(frame, intra=t == 0) for t, frame in enumerate(frames)]
        variances = [rng.random(one.symbols.size) for one in sent]
        for scale in (0.0, 1.0):
            receiver = Receiver(intra, inter, **session)
            shown[scale] = [
                receiver.decode(
                    one.symbols, one.side_bits, intra=t == 0, no_eff=scale * variances[t]
                ).frame
                for t, one in enumerate(sent)
            ]
        side = transmitter.read_side(sent[0].side_bits, 0)
        no_eff = unpack(variances[0] * (1 + 1j), side.rate_index, intra.config.rate_set)
        reals = side.gain * unpack(sent[0].symbols, side.rate_index, intra.config.rate_set)
        parameters = intra.parameters_of(side.z_hat)
        _, frame = intra.receive(reals, side.rate_index, parameters, OMEGA[1:], no_eff)
        with pytest.raises(InputError, match="noise variances"):
            Receiver(intra, inter, **session).decode(sent[0].symbols, sent[0].side_bits, intra=True)
    finally:
        for restore in back:
            restore()
    np.testing.assert_allclose(shown[1.0][0], np.clip(frame[0], 0, 1), atol=1e-6)
    for silent, noisy in zip(shown[0.0], shown[1.0], strict=True):
        assert np.abs(silent - noisy).max() > 1e-4


def test_released_weights_start_the_preset_that_has_the_input():
    plain = load_model(PRESETS["pvsc_mc_small_intra"], find_weights("pvsc_mc_small").intra)
    assert not plain.config.noise_input
    told = model_of(replace(plain.config, noise_input=True))
    load_by_path(told, weights_by_path(plain), plain.config.rate_set, plain.config.rate_set)
    new = set(weights_by_path(told)) - set(weights_by_path(plain))
    assert new == {f"feature_decoder/noise_input/{name}" for name in ("exponent", "offset")}
    assert not any(weights_by_path(told)[name].any() for name in new)
    assert PRESETS["pvsc_mc_small_noise"] == replace(
        PVSC_MC_SMALL, name="pvsc_mc_small_noise", noise_input=True
    )
    assert PRESETS["pvsc_mc_small_noise_intra"].noise_input


def test_the_weights_of_the_input_follow_their_rates_into_another_rate_set():
    source, target = model_of(intra_of(TOLD)), model_of(replace(intra_of(TOLD), rate_set=(0, 4, 6)))
    randomise(source)
    load_by_path(target, weights_by_path(source), TOLD.rate_set, (0, 4, 6))
    old, new = (m.feature_decoder.noise_input for m in (source, target))
    np.testing.assert_array_equal(new.exponent[:4], old.exponent[3:7])
    np.testing.assert_array_equal(new.offset[1], old.offset[2])
    # The rate 6 starts as the next larger one, 8, cut to its first reals.
    np.testing.assert_array_equal(new.exponent[4:], old.exponent[7:13])
    np.testing.assert_array_equal(new.offset[2], old.offset[3])


def test_the_switch_is_kept_in_config_files():
    for config in (TOLD, MICRO, intra_of(TOLD)):
        assert config_of(json.loads(json.dumps(config.to_dict()))) == config
    old = {name: value for name, value in MICRO.to_dict().items() if name != "noise_input"}
    assert not config_of(old).noise_input


def test_both_streams_of_dvst_can_have_the_input():
    config = DVST_PRESETS["dvst_tiny"]
    streams = {s: replace(getattr(config, s), noise_input=True) for s in ("motion", "context")}
    with pytest.raises(InputError, match="noise_input"):
        replace(config, motion=streams["motion"])
    model = DvstModel(replace(config, **streams))
    assert model.config.noise_input
    for stream in (model.motion_stream, model.context_stream):
        randomise(stream)
    frames = np.random.default_rng(1).random((2, 1, 64, 64, 3), np.float32)
    buffers = model.start_buffers(frames[0], frames[0])
    silent, noisy = (model.forward(frames[1], buffers, channel=noisy_channel(v)) for v in (0, 9.0))
    assert np.abs(silent["frame_rx"] - noisy["frame_rx"]).max() > 0
    np.testing.assert_allclose(silent["frame_rx"], silent["frame_tx"], atol=1e-5)
    with pytest.raises(InputError, match="noise variances"):
        model.forward(frames[1], buffers, channel=lambda symbols, rate_index: symbols)
