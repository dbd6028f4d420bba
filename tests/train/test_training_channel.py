"""The channel in a training step is the link's: same seeds, same output, under both backends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.channel import make_channel
from pvsc_link.link.registry import CHANNELS, SYMBOL_EQUALIZERS, ChannelType
from pvsc_link.models.layers.rate_adaptive import pack, unpack
from pvsc_link.models.presets import intra_of
from pvsc_link.models.zoo import model_of
from pvsc_link.options import NoOptions
from pvsc_link.train.channel import StepChannel, flat_channel, frame_seeds, of_frame
from pvsc_link.train.config import channel_config
from pvsc_link.types import InputError

RATE_SET = (0, 3, 8)
BATCH, UNITS = 2, (4, 4)
SETTINGS = [
    {"channel": "awgn", "snr_db": [0.0]},
    {"channel": "rayleigh", "snr_db": [6.0], "csi_nmse_db": [-10.0]},
    {"channel": "rayleigh", "snr_db": [6.0], "coherence_length": [5], "csi_aware": True},
    {"channel": "rician", "k_factor_db": [3.0], "csi_nmse_db": [-10.0], "csi_aware": True},
]
IMPAIRED = {"channel": "rayleigh", "snr_db": [6.0], "clip_papr_db": [3.0], "carrier_offset": 0.01}


def symbols(seed=0):
    rng = np.random.default_rng(seed)
    rate_index = rng.integers(0, len(RATE_SET), (BATCH, *UNITS)).astype(np.int32)
    reals = rng.standard_normal((BATCH, *UNITS, max(RATE_SET))).astype(np.float32)
    valid = np.arange(max(RATE_SET)) < np.array(RATE_SET)[rate_index][..., None]
    return np.where(valid, reals, 0) / np.float32(np.sqrt(2)), rate_index


def drawn(channel, num_frames=1, seed=1, step=0):
    rng = np.random.default_rng([seed, step])
    return channel.draw(rng, frame_seeds((seed, 0, step), num_frames), BATCH)


@pytest.mark.parametrize("setting", [*SETTINGS, IMPAIRED], ids=str)
def test_a_step_sends_the_packed_symbols_through_the_channel_of_the_link(setting):
    channel, (x, rate_index) = StepChannel(channel_config(setting)), symbols()
    given = of_frame(drawn(channel), 0)
    x_hat, no_eff = channel.through(given, RATE_SET)(x, rate_index)
    config = channel.config
    condition = {name: values[0] for name, values in config.condition.items()}
    point = channel.kind.point(config.snr_db[0], condition)
    link = make_channel(point, equalizer=config.equalizer, csi_aware=config.csi_aware)
    packed = [pack(x[b], rate_index[b], RATE_SET) for b in range(BATCH)]
    length = max(p.size for p in packed)
    rows = tf.constant(np.stack([np.pad(p, (0, length - p.size)) for p in packed]))
    output = link(rows, snr_db=config.snr_db[0], seed=tf.constant(given["seed"]))
    for b, sent in enumerate(packed):
        for got, part in ((x_hat, output.x_hat), (no_eff, output.no_eff)):
            row = part.numpy()[b, : sent.size]
            row = row if np.iscomplexobj(row) else row * np.complex64(1 + 1j)
            expected = unpack(row, rate_index[b], RATE_SET)
            np.testing.assert_allclose(got.numpy()[b], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("equalizer", SYMBOL_EQUALIZERS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_pure_function_of_jax_gives_the_output_of_the_channel_object(setting, equalizer):
    pytest.importorskip("jax")
    config = channel_config(setting | {"equalizer": equalizer})
    channel = StepChannel(config)
    given = of_frame(drawn(channel), 0)
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((BATCH, 64, 2)) / np.sqrt(2)).astype(np.float32).view(np.complex64)
    point = channel.kind.point(config.snr_db[0], {n: v[0] for n, v in config.condition.items()})
    made = make_channel(point, equalizer=equalizer, csi_aware=config.csi_aware)
    expected = made(x[..., 0], snr_db=given["snr_db"], seed=tf.constant(given["seed"]))
    options = {"equalizer": equalizer, "csi_aware": config.csi_aware}
    got = flat_channel(x[..., 0], given, law=channel.kind.options.get("law"), **options)
    for of_function, of_object in zip(got, (expected.x_hat, expected.no_eff), strict=True):
        np.testing.assert_allclose(of_function, of_object, rtol=1e-4, atol=1e-5)


def test_a_clip_draws_its_snr_and_a_step_its_condition():
    keys = {"channel": "rayleigh", "snr_db": [0, 10], "csi_nmse_db": [-20, None]}
    channel = StepChannel(channel_config(keys))
    steps = [drawn(channel, 3, step=step) for step in range(20)]
    assert {float(s) for step in steps for s in step["snr_db"]} == {0.0, 10.0}
    assert any(len(set(step["snr_db"])) == 2 for step in steps)
    assert {float(step["condition"]["csi_nmse_db"]) for step in steps} == {-20.0, -np.inf}
    assert all(step["condition"]["coherence_length"] == 1 for step in steps)


def test_every_frame_step_and_run_has_a_realisation_of_its_own():
    places = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0), (1, 0, 0, 1), (1, 0, 0, 2)]
    seeds = np.concatenate([frame_seeds(place, 3) for place in places])
    assert len(np.unique(seeds, axis=0)) == len(seeds)
    np.testing.assert_array_equal(frame_seeds((1, 0, 1), 3), seeds[3:6])
    channel, (x, rate_index) = StepChannel(channel_config({"channel": "rayleigh"})), symbols()
    x[1], rate_index[1] = x[0], rate_index[0]
    two = drawn(channel, 2)
    frames = [channel.through(of_frame(two, t), RATE_SET)(x, rate_index)[0] for t in (0, 1, 0)]
    first, second, again = (frame.numpy() for frame in frames)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, second)
    assert not np.allclose(first[0], first[1])  # the clips of a batch


def test_no_value_of_a_training_file_retraces_the_step():
    keys = {"snr_db": [0, 5, 10], "csi_nmse_db": [-20, None, -5], "coherence_length": [1, 7]}
    channel = StepChannel(channel_config({"channel": "rayleigh", **keys}))

    @tf.function(autograph=False)
    def step(x, rate_index, given):
        return channel.through(of_frame(given, 0), RATE_SET)(x, rate_index)

    outputs = []
    for number in range(8):
        x, rate_index = symbols(number)  # each sends another number of symbols
        outputs.append(step(x, rate_index, drawn(channel, step=number))[0].numpy())
    assert step.experimental_get_tracing_count() == 1
    assert not np.allclose(outputs[0], outputs[1])


def test_a_frame_that_sends_nothing_comes_back_as_nothing():
    channel = StepChannel(channel_config({"channel": "rayleigh"}))
    x, rate_index = symbols()
    nothing = channel.through(of_frame(drawn(channel), 0), RATE_SET)(0 * x, 0 * rate_index)
    assert all(not part.numpy().any() for part in nothing)


def test_gradients_stay_finite_in_a_deep_fade():
    channel = StepChannel(channel_config({"channel": "rayleigh", "snr_db": [-30.0]}))
    x, rate_index = (tf.constant(v) for v in symbols())
    with tf.GradientTape() as tape:
        tape.watch(x)
        x_hat, _ = channel.through(of_frame(drawn(channel), 0), RATE_SET)(x, rate_index)
        total = tf.reduce_sum(x_hat**2)
    slope = tape.gradient(total, x).numpy()
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("intra", {"channel": "rayleigh", "equalizer": "zf"}),
        ("inter", {"channel": "rayleigh", "equalizer": "zf"}),
        ("inter", {"channel": "ofdm", "channel_model": "tdl_c", "num_prb": 4}),
    ],
)
def test_every_weight_of_f_tx_learns_from_what_is_received(micro_preset, eager, kind, keys):
    config = intra_of(micro_preset) if kind == "intra" else micro_preset
    model = model_of(config)
    rng = np.random.default_rng(0)
    for variable in model.feature_encoder.trainable_variables:  # zeros would stop a gradient
        variable.assign_add(0.1 * rng.standard_normal(variable.shape))
    frame = rng.random((BATCH, 64, 64, 3), np.float32)
    channel = StepChannel(channel_config(keys))
    through = channel.through(of_frame(drawn(channel), 0), config.rate_set)
    before = () if kind == "intra" else (model.start_buffers(frame[:, ::-1], frame[:, ::-1]),)
    weights = model.feature_encoder.trainable_variables
    y_bar = rng.standard_normal((BATCH, *UNITS, config.channels_y)).astype(np.float32)
    old = rng.standard_normal((BATCH, *UNITS, config.embed_dim)).astype(np.float32)
    with tf.GradientTape() as tape:
        output = model.forward(frame, *before, np.array([0, 1]), channel=through)
        # Besides, any features, states and rates: those of fresh weights are all alike.
        state = () if kind == "intra" else (old,)
        rates = np.arange(32, dtype=np.int32).reshape(2, 4, 4) % len(config.rate_set)
        sent = model.encode_features(y_bar, rates, np.array([0, 1]), *state)
        loss = tf.reduce_sum(model.over_the_air(sent, rates, through)["rx"][0] ** 3)
        loss += tf.reduce_sum(output["frame_rx"] ** 2)
    for variable, slope in zip(weights, tape.gradient(loss, weights), strict=True):
        assert slope is not None, variable.path
        assert np.isfinite(slope).all(), variable.path
        assert np.abs(slope).max() > 0, variable.path


def own_channel(*, equalizer, csi_aware):
    """A channel from outside the package, which only TensorFlow can run."""


def test_jax_trains_over_awgn_and_block_fading_alone(monkeypatch):
    monkeypatch.setitem(CHANNELS, "own", ChannelType("own", "Own", NoOptions, own_channel))
    StepChannel(channel_config({"channel": "own"}))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for setting in SETTINGS:
        StepChannel(channel_config(setting))
    for other in ({"channel": "own"}, {"channel": "ofdm"}, {"channel": "awgn", "clip_papr_db": 6}):
        with pytest.raises(InputError, match="under jax"):
            StepChannel(channel_config(other))
