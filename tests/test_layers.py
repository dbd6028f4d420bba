"""The public Keras models: the sweep's pictures, gradients, training, saving, and bad input."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import pvsc_link
from pvsc_link.layers import Dvst, Pvsc
from pvsc_link.link import DEFAULT_TRANSPORT, Awgn, BlockFading, ChannelOutput, get_coded_link
from pvsc_link.models import PRESETS, PvscConfig, PvscMcConfig, fresh_models, intra_of
from pvsc_link.models.zoo import find_dvst_weights, find_weights
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic import DvstScheme, PvscMcScheme, SemanticScheme
from pvsc_link.types import ChannelPoint, InputError, Video

RAYLEIGH = BlockFading("rayleigh", csi_nmse_db=-20.0)
#: Kinds of models beside the paper's: building their graphs takes long.
LONG = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("motion", "dvst")]
ROBUST_MCS = 0  # side information arrives


def moving_frames(num_frames=3, size=(64, 64)):
    """A picture of edges that moves: uint8 [num_frames, height, width, 3]."""
    coarse = np.random.default_rng(3).integers(0, 256, (30, 30, 3))
    picture = np.kron(coarse, np.ones((8, 8, 1)))
    moved = [np.roll(picture, (2 * t, 3 * t), (0, 1)) for t in range(num_frames)]
    return np.stack(moved)[:, : size[0], : size[1]].astype(np.uint8)


def as_batch(frames):
    return frames[None].astype(np.float32) / np.float32(255)


FRAMES = as_batch(moving_frames())


@pytest.fixture(scope="module")
def plain(micro):
    """The preset ``micro`` without the extension: the paper's networks, no motion vectors."""
    fields = {f.name: getattr(PRESETS[micro], f.name) for f in dataclasses.fields(PvscConfig)}
    config = PvscConfig(**fields | {"name": "micro_plain"})
    with pytest.MonkeyPatch.context() as patch:
        for one in (config, intra_of(config)):
            patch.setitem(PRESETS, one.name, one)
        yield config.name


@pytest.fixture(scope="module")
def kinds(micro, plain, micro_dvst, stirred):
    """Models away from their start, by kind; whoever changes weights takes others."""

    def made(preset, files):
        return tuple(stirred(one, seed) for seed, one in enumerate(fresh_models(preset, files)))

    return {
        "plain": made(plain, find_weights(plain)),
        "motion": made(micro, find_weights(micro)),
        "dvst": made(micro_dvst, find_dvst_weights(micro_dvst)[1]),
    }


@pytest.fixture(scope="module")
def built(kinds):
    """Models over a channel, each made once, so that it is traced once."""
    kept = {}

    def build(kind, channel=RAYLEIGH, **options):
        key = kind, id(channel), tuple(options.items())
        if key not in kept:
            own = {"rate": 1} if kind == "dvst" else {"quality": 1}
            maker = Dvst if kind == "dvst" else Pvsc
            kept[key] = maker(*kinds[kind], channel, **{**own, **options})
        return kept[key]

    return build


def shown_by_the_sweep(models, preset, frames, rate, point, seed):
    """(reception, sent GOP) of the sweep's engine with these models."""
    of_pvsc = PvscMcScheme if isinstance(models[1].config, PvscMcConfig) else SemanticScheme
    scheme = (DvstScheme if "dvst" in preset else of_pvsc)(preset)
    with pytest.MonkeyPatch.context() as patch:
        for load in ("load_models", "load_dvst_models"):
            patch.setattr(pvsc_link.models, load, lambda *_: models)
        gops = scheme.encode(Video("v", frames, 30.0, "made here"), len(frames), rate)
        link = LinkOptions("zf", False, "layered", 20)
        (reception,) = scheme.transmit(gops, point, link, ROBUST_MCS, [seed])
    assert reception.frames_lost == 0, "the test needs side information that arrives"
    return reception, gops[0]


def uses_of_side_bits(gop, point):
    """Channel uses of the side information, behind which the symbols follow."""
    (outgoing,) = gop.transports(DEFAULT_TRANSPORT)
    return get_coded_link(ROBUST_MCS, point.channel).num_channel_uses(outgoing.side_bits.size)


CHANNELS = [
    (Awgn(), ChannelPoint("awgn", 10.0)),
    (RAYLEIGH, ChannelPoint("rayleigh", 10.0, -20.0, 1)),
]


@pytest.mark.parametrize("kind", ["plain", *LONG])
@pytest.mark.parametrize(
    ("channel", "point"),
    [
        pytest.param(*CHANNELS[0], marks=pytest.mark.slow, id="awgn"),
        pytest.param(*CHANNELS[1], marks=pytest.mark.ci, id="rayleigh"),
    ],
)
def test_the_model_shows_what_the_sweep_shows(kinds, built, kind, channel, point):
    frames = moving_frames()
    preset = kinds[kind][1].config.name
    reception, gop = shown_by_the_sweep(kinds[kind], preset, frames, 1, point, 7)
    model = built(kind, channel)
    behind = uses_of_side_bits(gop, point)
    output = model(as_batch(frames), snr_db=point.snr_db, seed=7, first_symbol=behind)
    sent = np.concatenate([frame.symbols for frame in gop.frames])
    np.testing.assert_allclose(output.symbols[0], sent, atol=1e-4)
    counts = [frame.symbols.size for frame in gop.frames]
    np.testing.assert_array_equal(output.num_symbols[0], counts)
    assert model.side_bits(output)[0] == [frame.side_bits for frame in gop.frames]
    assert reception.frames_hat.std() > 5, "a flat picture would prove nothing"
    found = np.rint(255 * output.frames_hat[0].numpy()).astype(int)
    assert np.abs(found - reception.frames_hat).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["pvsc_tiny", "pvsc_mc_small"])
@pytest.mark.parametrize(("channel", "point"), CHANNELS, ids=["awgn", "rayleigh"])
def test_presets_show_what_the_sweep_shows(preset, channel, point):
    frames = moving_frames(4, (128, 192))
    model = Pvsc.from_preset(preset, channel=channel)
    models = model.intra, model.model
    reception, gop = shown_by_the_sweep(models, preset, frames, 2, point, 7)
    behind = uses_of_side_bits(gop, point)
    given = {"snr_db": point.snr_db, "seed": 7, "first_symbol": behind}
    output = model(as_batch(frames), quality=2, **given)
    found = np.rint(255 * output.frames_hat[0].numpy()).astype(int)
    assert np.abs(found - reception.frames_hat).max() <= 1


def gradients(model, frames, **given):
    with tf.GradientTape() as tape:
        output = model(frames, training=True, **given)
        loss = tf.reduce_mean(tf.square(output.frames_hat - frames)) + tf.add_n(model.losses)
    return loss, tape.gradient(loss, model.trainable_weights)


@pytest.mark.parametrize(
    "num_frames",
    [pytest.param(2, marks=pytest.mark.ci), pytest.param(3, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("kind", ["plain", *LONG])
def test_gradients_reach_every_weight_through_the_channel(built, kind, num_frames):
    model = built(kind)
    _, found = gradients(model, FRAMES[:, :num_frames], snr_db=10.0, seed=1)
    weights = model.trainable_weights
    assert len(weights) == len(model.intra.trainable_weights) + len(model.model.trainable_weights)
    # A first P frame has no state of a P frame before it, and none reads the state that it leaves.
    unread = ("decoded_state", "/temporal/") if num_frames == 2 else ()
    pairs = [
        (weight, gradient)
        for weight, gradient in zip(weights, found, strict=True)
        if not any(part in weight.path for part in unread)
    ]
    assert all(gradient is not None and np.all(np.isfinite(gradient)) for _, gradient in pairs)
    silent = [weight.path for weight, gradient in pairs if not np.any(gradient)]
    # The kernel that reads z_hat has a gradient of zero where z_hat of these frames is zero.
    assert all("hyper_decoder/up_32/up/" in path for path in silent), silent


@pytest.mark.slow
def test_without_training_the_transforms_before_rounding_have_no_gradient(built):
    model = built("plain")
    with tf.GradientTape() as tape:
        output = model(FRAMES, snr_db=10.0, seed=1)
        loss = tf.reduce_mean(output.frames_hat)
    extractor = model.intra.feature_extractor.trainable_weights
    encoder = model.intra.feature_encoder.trainable_weights
    before, behind = tape.gradient(loss, [extractor, encoder])
    assert all(gradient is None or not np.any(gradient) for gradient in before)
    assert any(np.any(gradient) for gradient in behind)


@pytest.mark.slow
def test_training_shows_the_same_pictures_up_to_float_rounding(built):
    model = built("plain")
    given = {"snr_db": 10.0, "seed": 1}
    shown = [model(FRAMES, training=training, **given) for training in (False, True)]
    np.testing.assert_allclose(shown[0].frames_hat, shown[1].frames_hat, atol=2e-3)
    np.testing.assert_array_equal(shown[0].num_symbols, shown[1].num_symbols)


def test_sent_symbols_cbr_and_side_bits_agree(built):
    model = built("plain")
    output = model(FRAMES, snr_db=10.0, seed=1)
    count = int(np.sum(output.num_symbols))
    assert output.symbols.shape == output.symbols_hat.shape == (1, count)
    first = int(output.num_symbols[0, 0])
    assert np.mean(np.abs(output.symbols[0, :first]) ** 2) == pytest.approx(1.0, abs=1e-4)
    side = np.sum(output.num_bits_side) / model.side_efficiency
    assert float(output.cbr[0]) == pytest.approx((count + side) / (3 * 64 * 64 * 3), rel=1e-5)
    error = np.mean(np.abs(output.symbols_hat - output.symbols) ** 2)
    power = np.mean(np.abs(output.symbols) ** 2)
    assert float(output.stats["snr"]) == pytest.approx(power / error, rel=1e-4)
    exact = [8 * (len(one["z"]) + len(one["k"])) for one in model.side_bits(output, "payload")[0]]
    np.testing.assert_allclose(output.num_bits_side[0], exact, rtol=0.5, atol=150)


@pytest.mark.slow
def test_the_gradient_of_cbr_is_that_of_the_rates_and_side_bits(built):
    model = built("plain")
    with tf.GradientTape(persistent=True) as tape:
        output = model(FRAMES, snr_db=10.0, seed=1, training=True)
        cbr = tf.reduce_sum(output.cbr)
        side = tf.reduce_sum(output.num_bits_side) / model.side_efficiency
        uses = (0.5 * tf.reduce_sum(output.num_reals) + side) / FRAMES[0].size
    weight = model.intra.hyper_encoder.trainable_weights[0]
    ours, expected = tape.gradient(cbr, weight), tape.gradient(uses, weight)
    assert np.any(expected)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.slow
def test_a_batch_holds_the_clips_as_they_are_alone_and_traces_nothing_new(built):
    model = built("plain")
    alone = model(FRAMES, snr_db=10.0, seed=1)
    traces = sum(graph.experimental_get_tracing_count() for graph in model._graphs)
    other = as_batch(255 - moving_frames())
    batch = np.concatenate([FRAMES, other])
    output = model(batch, quality=np.array([1, 0]), snr_db=10.0, seed=1)
    assert sum(graph.experimental_get_tracing_count() for graph in model._graphs) == traces
    np.testing.assert_array_equal(output.num_symbols[0], alone.num_symbols[0])
    np.testing.assert_allclose(output.frames_hat[0], alone.frames_hat[0], atol=1e-4)
    sent = np.sum(output.num_symbols, axis=1)
    assert sent[0] != sent[1], "the clips must differ in length"
    shorter = int(np.argmin(sent))
    assert not np.any(output.symbols[shorter, sent[shorter] :])


@pytest.mark.slow
def test_snr_of_each_clip_is_its_own(built):
    model = built("plain", Awgn())
    batch = np.concatenate([FRAMES, FRAMES])
    output = model(batch, snr_db=np.array([0.0, 30.0], np.float32), seed=1)
    error = np.mean(np.abs(output.symbols_hat - output.symbols) ** 2, axis=1)
    np.testing.assert_allclose(error, [1.0, 1e-3], rtol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", LONG[0]])
def test_lost_side_information_is_concealed_as_the_receiver_does(built, kind):
    model = built(kind)
    given = {"snr_db": 10.0, "seed": 1}
    clean = model(FRAMES, **given).frames_hat
    batch = np.concatenate([FRAMES] * 2)
    side_ok = np.array([[True, False, True], [False, True, True]])
    output = model(batch, side_ok=side_ok, **given).frames_hat
    np.testing.assert_allclose(output[0, 0], clean[0, 0], atol=1e-4)
    np.testing.assert_array_equal(output[0, 1], output[0, 0])
    assert np.abs(output[0, 2] - output[0, 1]).mean() > 1e-3, "the frame after is decoded"
    np.testing.assert_array_equal(output[1], np.full_like(output[1], 0.5))
    whole = model(FRAMES, side_ok=np.ones((1, 3), bool), **given).frames_hat
    np.testing.assert_allclose(whole, clean, atol=1e-6)


class PilotChannel:
    """An ideal channel with a pilot for every ten symbols."""

    def __call__(self, x, *, snr_db, seed, first_symbol=0):
        no_eff = tf.zeros(tf.shape(x))
        return ChannelOutput(x, no_eff, (tf.shape(x)[1] + 9) // 10, {})


@pytest.mark.slow
def test_pilots_count_in_proportion_to_what_a_clip_sends(built):
    model = built("plain", PilotChannel())
    output = model(FRAMES, snr_db=10.0)
    count = int(np.sum(output.num_symbols))
    assert int(output.overhead[0]) == (count + 9) // 10
    uses = count + (count + 9) // 10 + np.sum(output.num_bits_side) / model.side_efficiency
    assert float(output.cbr[0]) == pytest.approx(uses / FRAMES[0].size, rel=1e-5)


def test_one_frame_is_a_gop(built):
    output = built("plain")(FRAMES[:, :1], snr_db=10.0, seed=1)
    assert output.frames_hat.shape == (1, 1, 64, 64, 3)


@pytest.mark.slow
@pytest.mark.parametrize("channel", [Awgn(), RAYLEIGH], ids=["awgn", "rayleigh"])
@pytest.mark.parametrize("preset", ["plain", "pvsc_tiny"])
def test_xla_compiles_pictures_and_gradients(kinds, preset, channel):
    options = {"quality": 1, "channel": channel}
    plain = Pvsc(*kinds["plain"], **options) if preset == "plain" else None
    plain = plain or Pvsc.from_preset(preset, **options)
    compiled = Pvsc(plain.intra, plain.model, jit_compile=True, **options)
    given = {"snr_db": 10.0, "seed": 1}
    ours, theirs = (one(FRAMES, **given) for one in (compiled, plain))
    np.testing.assert_array_equal(ours.num_symbols, theirs.num_symbols)
    assert np.abs(ours.frames_hat - theirs.frames_hat).max() < 1.5 / 255
    assert float(ours.cbr[0]) == pytest.approx(float(theirs.cbr[0]), rel=1e-5)
    whole = tf.function(lambda x: gradients(compiled, x, **given), jit_compile=True)
    loss, found = whole(tf.constant(FRAMES))
    expected_loss, expected = gradients(plain, FRAMES, **given)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-2)
    norms = [float(tf.linalg.global_norm(one)) for one in (found, expected)]
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "dvst"])
def test_fit_lowers_the_loss_over_a_fixed_batch(plain, micro_dvst, kind):
    keras.utils.set_random_seed(1)
    if kind == "dvst":
        model = Dvst.from_preset(micro_dvst, channel=RAYLEIGH, rate=1, snr_db=10.0)
    else:
        model = Pvsc.from_preset(plain, channel=RAYLEIGH, quality=1, snr_db=10.0)
    model.compile(keras.optimizers.Adam(3e-3), loss="mae")
    frames = FRAMES[:, :2]
    history = model.fit(frames, epochs=12, verbose=0).history["loss"]
    assert np.mean(history[-3:]) < 0.95 * np.mean(history[:3])
    assert model.predict(frames, verbose=0).shape == frames.shape
    assert np.isfinite(model.evaluate(frames, verbose=0))


@pytest.mark.slow
def test_fit_takes_the_arguments_of_a_call_by_name(plain):
    model = Pvsc.from_preset(plain, channel=RAYLEIGH)
    model.compile("sgd", loss="mse")
    frames = np.concatenate([FRAMES[:, :2]] * 2)
    given = {"frames": frames, "quality": np.array([0, 2]), "snr_db": np.float32([0.0, 20.0])}
    before = [weight.numpy() for weight in model.trainable_weights]
    model.fit(given, frames, batch_size=2, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, model.trainable_weights, strict=True))


@pytest.mark.slow
def test_weights_make_the_round_trip_by_keras_and_by_folder(built, plain, kinds, tmp_path):
    model = built("plain")
    given = {"snr_db": 10.0, "seed": 1}
    expected = model(FRAMES, **given).frames_hat
    model.save_weights(tmp_path / "whole.weights.h5")
    model.save_preset(tmp_path / "folder")
    by_keras = Pvsc.from_preset(plain, channel=RAYLEIGH, quality=1)
    by_keras.load_weights(tmp_path / "whole.weights.h5")
    by_folder = Pvsc.from_preset(weights=tmp_path / "folder", channel=RAYLEIGH, quality=1)
    by_name = Pvsc.from_preset(str(tmp_path / "folder"), channel=RAYLEIGH, quality=1)
    for other in (by_keras, by_folder, by_name):
        for ours, theirs in zip(model.weights, other.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(by_keras(FRAMES, **given).frames_hat, expected)
    assert SemanticScheme(plain, weights=str(tmp_path / "folder")).weights_id != "untrained"


@pytest.mark.slow
def test_dvst_weights_make_the_round_trip_by_folder(built, micro_dvst, tmp_path):
    model = built("dvst")
    model.save_preset(tmp_path)
    other = Dvst.from_preset(micro_dvst, weights=tmp_path, rate=1, channel=RAYLEIGH)
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_training_one_model_leaves_the_sweeps_models_alone():
    files = find_weights("pvsc_tiny")
    pair = fresh_models("pvsc_tiny", files), fresh_models("pvsc_tiny", files)
    assert pair[0][0] is not pair[1][0]


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (FRAMES[0], "shape of frames"),
        (FRAMES[:, :, :48], "multiples of 64"),
        (FRAMES[..., :1], "shape of frames"),
        (FRAMES[:, :0], "shape of frames"),
        (FRAMES[:0], "shape of frames"),
        (moving_frames()[None], "type of frames.*255"),
        ("a picture", "frames"),
        (None, "frames"),
        ([[1.0], [1.0, 2.0]], "frames"),
        ({"quality": 1}, "names of the input"),
        ({"frames": FRAMES, "snr": np.ones(1)}, "names of the input"),
        (255 * FRAMES, "values of frames"),
        (FRAMES * np.float32(np.nan), "values of frames"),
    ],
)
def test_bad_frames_are_refused(built, frames, said):
    with pytest.raises(InputError, match=said):
        built("plain")(frames, snr_db=10.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"quality": 3}, "0 to 2"),
        ({"quality": -1}, "0 to 2"),
        ({"quality": 0.5}, "integers"),
        ({"snr_db": None}, "Pass snr_db"),
        ({"snr_db": float("nan")}, "finite"),
        ({"seed": -1}, "seed"),
        ({"seed": tf.constant(1.5)}, "seed"),
        ({"seed": "one"}, "seed"),
        ({"quality": "best"}, "quality"),
        ({"quality": [0, 1]}, "quality"),
        ({"quality": {"a": 1}}, "quality"),
        ({"snr_db": "high"}, "snr_db"),
        ({"snr_db": True}, "snr_db"),
        ({"snr_db": [1.0, 2.0]}, "snr_db"),
        ({"snr_db": [[1.0]]}, "snr_db"),
        ({"side_ok": [[True] * 4]}, "side_ok"),
        ({"side_ok": object()}, "side_ok"),
    ],
)
def test_bad_arguments_are_refused(built, given, said):
    with pytest.raises(InputError, match=said):
        built("plain")(FRAMES, **{"snr_db": 10.0, **given})


def test_dvst_has_one_quality_and_the_rates_of_its_models(built, micro_dvst):
    with pytest.raises(InputError, match="one rate"):
        built("dvst")(FRAMES, quality=0, snr_db=10.0)
    with pytest.raises(InputError, match="rate"):
        Dvst.from_preset(micro_dvst, rate=9, channel=RAYLEIGH)


def bad_channel(**parts):
    def send(x, *, snr_db, seed, first_symbol=0):
        good = {"x_hat": x, "no_eff": tf.zeros(tf.shape(x)), "overhead": 0, "stats": {}}
        return SimpleNamespace(**{**good, **{name: make(x) for name, make in parts.items()}})

    return send


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (None, "found None"),
        (lambda x, no: x, "first_symbol=0"),
        (lambda x, *, snr_db, seed: x, "without x_hat"),
        (bad_channel(x_hat=lambda x: x[:, :-1]), "x_hat of complex64"),
        (bad_channel(x_hat=tf.math.real), "x_hat of float32"),
        (bad_channel(no_eff=lambda x: 0.0), "no_eff"),
        (bad_channel(stats=lambda x: None), "stats"),
    ],
)
def test_a_channel_that_breaks_the_contract_is_refused(kinds, channel, said):
    with pytest.raises(InputError, match=said):
        Pvsc(*kinds["plain"], channel)


class Spoils:
    """An ideal channel that breaks one promise, by the SNR that it is given."""

    def __call__(self, x, *, snr_db, seed, first_symbol=0):
        bad = tf.where(snr_db == 1.0, np.nan, 0.0)
        x_hat = x + tf.complex(bad, bad)
        no_eff = tf.where(snr_db == 2.0, -1.0, tf.where(snr_db == 3.0, np.inf, 0.1))
        return ChannelOutput(x_hat, no_eff + 0.0 * tf.abs(x), tf.where(snr_db == 4.0, -5, 0), {})


def test_impossible_values_of_a_channel_are_refused(kinds):
    model = Pvsc(*kinds["plain"], Spoils(), quality=1)
    frames = FRAMES[:, :1]
    assert np.isfinite(model(frames, snr_db=0.0).frames_hat).all()
    for snr_db, said in ((1.0, "x_hat"), (2.0, "no_eff"), (3.0, "no_eff"), (4.0, "overhead")):
        with pytest.raises(InputError, match=f"{said} of the channel"):
            model(frames, snr_db=snr_db)


def test_half_precision_is_refused(plain):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(InputError, match="float32"):
            Pvsc.from_preset(plain, channel=RAYLEIGH)
    finally:
        keras.config.set_dtype_policy("float32")


def test_saving_the_whole_model_is_refused_with_what_to_do(kinds, tmp_path):
    model = Pvsc(*kinds["plain"], RAYLEIGH)
    with pytest.raises(InputError, match="save_preset"):
        model.save(tmp_path / "whole.keras")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="save_preset"):
        keras.saving.save_model(model, tmp_path / "whole.keras")


def test_unknown_names_are_refused(tmp_path):
    for given in ({"preset": "pvsc_huge"}, {"preset": "pvsc_tiny", "weights": tmp_path}):
        with pytest.raises(InputError):
            Pvsc.from_preset(channel=RAYLEIGH, **given)
    with pytest.raises(InputError, match="side_format"):
        Pvsc.side_bits(None, None, "gif")


def test_public_names_are_there():
    assert pvsc_link.Pvsc is Pvsc
    assert pvsc_link.Dvst is Dvst
