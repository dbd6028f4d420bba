"""F_tx and F_rx: what is sent, who depends on whom, and the budget of the paper's Table V."""

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.layers.rate_adaptive import num_symbols, pack, unpack
from pvsc_link.models.presets import PVSC_PAPER, ablations_of
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc.feature_codec import DecodedState, FeatureDecoder, FeatureEncoder
from pvsc_link.types import InputError

SMALL = PvscConfig(
    "small",
    channels_y=8,
    embed_dim=16,
    num_heads=2,
    num_vit=2,
    mlp_ratio=2,
    window_size=4,
    rate_set=(0, 1, 2, 4, 7, 8),
)
VARIANTS = {c.name.removeprefix("small_"): c for c in ablations_of(SMALL)}
SIZES = [(4, 8), (5, 7)]


def codec(config, seed=0, **kwargs):
    encoder, decoder = FeatureEncoder(config, **kwargs), FeatureDecoder(config, **kwargs)
    rng = np.random.default_rng(seed)
    for layer in (encoder, decoder):
        layer.build(None)
        layer.set_weights(
            [w + 0.1 * rng.normal(size=w.shape).astype(np.float32) for w in layer.get_weights()]
        )
    return encoder, decoder


def frame(config=SMALL, height=5, width=7, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    y_bar = np.round(3 * rng.normal(size=(batch, height, width, config.channels_y)))
    rate_index = rng.integers(0, len(config.rate_set), (batch, height, width))
    return y_bar.astype(np.float32), rate_index.astype(np.int32)


def random_state(config=SMALL, height=5, width=7, batch=2, seed=9):
    if not config.temporal_coding:
        return None
    shape = (batch, height, width, config.embed_dim)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parity(height, width):
    row, column = np.indices((height, width))
    return (row + column) % 2


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_reals_stop_after_k_and_pack_into_the_symbols_of_the_rate_map(variant, height, width):
    config = VARIANTS[variant]
    encoder, decoder = codec(config)
    y_bar, rate_index = frame(config, height, width)
    state = random_state(config, height, width)
    padded = np.asarray(encoder(y_bar, rate_index, state))
    assert padded.shape == (2, height, width, max(config.rate_set))
    assert padded.dtype == np.float32
    k = np.asarray(config.rate_set)[rate_index]
    assert not padded[np.arange(max(config.rate_set)) >= k[..., None]].any()
    for one, index in zip(padded, rate_index, strict=True):
        symbols = pack(one, index, config.rate_set)
        assert len(symbols) == num_symbols(index, config.rate_set)
        assert np.count_nonzero(symbols) == len(symbols)
    y_bar_rx, state_next = decoder(padded, rate_index, state)
    assert y_bar_rx.shape == y_bar.shape
    if config.temporal_coding:
        assert state_next.shape == state.shape
    else:
        assert state_next is None
        assert decoder.initial_state(2, height, width) is None


def test_a_rate_map_of_zeros_sends_nothing_and_still_decodes_and_learns():
    encoder, decoder = codec(SMALL)
    y_bar, rate_index = frame()
    silent, state = np.zeros_like(rate_index), decoder.initial_state(2, 5, 7)
    with tf.GradientTape() as tape:
        padded = encoder(y_bar, silent, state)
        y_bar_rx, state_next = decoder(padded, silent, state)
        loss = tf.reduce_sum(tf.square(y_bar_rx)) + tf.reduce_sum(state_next)
    assert num_symbols(silent, SMALL.rate_set) == 0
    assert not np.asarray(padded).any()
    weights = [w.value for w in (*encoder.trainable_variables, *decoder.trainable_variables)]
    gradients = [g for g in tape.gradient(loss, weights) if g is not None]
    assert all(np.isfinite(g).all() for g in gradients)
    other = np.asarray(decoder(np.ones_like(padded), silent, state)[0])
    np.testing.assert_array_equal(y_bar_rx, other)


def test_a_unit_depends_on_nothing_beyond_its_k_reals():
    encoder, decoder = codec(SMALL)
    y_bar, rate_index = frame()
    state = random_state()
    padded = np.asarray(encoder(y_bar, rate_index, state))
    beyond = np.arange(8) >= np.asarray(SMALL.rate_set)[rate_index][..., None]
    dirty = np.where(beyond, np.float32(np.inf), padded)
    for clean, other in zip(
        decoder(padded, rate_index, state), decoder(dirty, rate_index, state), strict=True
    ):
        np.testing.assert_array_equal(clean, other)


def test_a_noise_free_link_gives_both_ends_the_same_state_to_the_last_bit():
    encoder, decoder = codec(SMALL)
    state_tx = state_rx = decoder.initial_state(1, 5, 7)
    for t in range(3):
        y_bar, rate_index = frame(batch=1, seed=t)
        padded = np.asarray(encoder(y_bar, rate_index, state_tx))
        received = unpack(pack(padded, rate_index, SMALL.rate_set), rate_index, SMALL.rate_set)
        y_bar_tx, state_tx = decoder(padded, rate_index, state_tx)
        y_bar_rx, state_rx = decoder(received, rate_index, state_rx)
        np.testing.assert_array_equal(y_bar_tx, y_bar_rx)
        np.testing.assert_array_equal(state_tx, state_rx)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_block_0_never_looks_at_block_1_but_block_1_looks_at_block_0(height, width):
    _, decoder = codec(SMALL)
    _, rate_index = frame(height=height, width=width)
    rate_index = np.maximum(rate_index, 1)
    state = random_state(height=height, width=width)
    rng = np.random.default_rng(4)
    symbols = rng.normal(size=(2, height, width, 8)).astype(np.float32)
    block = parity(height, width)
    base = np.asarray(decoder(symbols, rate_index, state)[0])
    for touched in (0, 1):
        changed = np.where((block == touched)[..., None], rng.normal(size=symbols.shape), symbols)
        result = np.asarray(decoder(changed.astype(np.float32), rate_index, state)[0])
        moved = np.abs(result - base).max(axis=(0, 3))
        assert moved[block == touched].min() > 1e-4
        if touched == 1:
            assert moved[block == 0].max() == 0.0
        else:
            assert moved[block == 1].max() > 1e-4


def test_without_spatial_coding_both_blocks_go_together():
    _, decoder = codec(VARIANTS["m_b"])
    _, rate_index = frame()
    symbols = np.random.default_rng(4).normal(size=(2, 5, 7, 8)).astype(np.float32)
    changed = np.where((parity(5, 7) == 1)[..., None], -symbols, symbols)
    first, second = (decoder(s, rate_index, random_state())[0] for s in (symbols, changed))
    moved = np.abs(np.asarray(first) - np.asarray(second)).max(axis=(0, 3))
    assert moved[parity(5, 7) == 0].max() > 1e-4


def test_the_decoded_state_matters_to_both_ends_and_to_the_next_state():
    encoder, decoder = codec(SMALL)
    y_bar, rate_index = frame()
    one, two = random_state(seed=1), random_state(seed=2)
    sent = [np.asarray(encoder(y_bar, rate_index, s)) for s in (one, two)]
    assert np.abs(sent[0] - sent[1]).max() > 1e-3
    decoded = [decoder(sent[0], rate_index, s) for s in (one, two)]
    for first, second in zip(*decoded, strict=True):
        assert np.abs(np.asarray(first) - np.asarray(second)).max() > 1e-3


def test_a_rate_scales_the_features_of_its_units_before_they_are_embedded():
    config = replace(SMALL, reweight=True, temporal_coding=False)
    encoder, _ = codec(config)
    y_bar, rate_index = frame()
    scale = np.random.default_rng(3).uniform(0.5, 2.0, encoder.rate_scale.shape)
    encoder.rate_scale.assign(scale.astype(np.float32))
    scaled = np.asarray(encoder(y_bar, rate_index))
    encoder.rate_scale.assign(np.ones_like(scale, np.float32))
    by_hand = encoder(y_bar * scale[rate_index].astype(np.float32), rate_index)
    np.testing.assert_allclose(scaled, by_hand, atol=1e-5)
    assert np.abs(scaled - encoder(y_bar, rate_index)).max() > 1e-2


def test_older_frames_fade_by_half_per_frame_out_of_the_decoded_state():
    """With projections of zero the block changes nothing: the mean of old and new is left."""
    update = DecodedState(SMALL)
    update.build()
    for weight in update.block.weights:
        if "reduce" in weight.path or "output_projection" in weight.path:
            weight.assign(np.zeros(weight.shape, np.float32))
    state, tokens = random_state(seed=1), random_state(seed=2)
    np.testing.assert_allclose(update(state, tokens), (state + tokens) / 2, atol=1e-6)


def test_frames_of_a_batch_do_not_see_each_other():
    encoder, decoder = codec(SMALL)
    y_bar, rate_index = frame(batch=3)
    state = random_state(batch=3)
    padded = np.asarray(encoder(y_bar, rate_index, state))
    y_bar_rx, state_next = (np.asarray(x) for x in decoder(padded, rate_index, state))
    for one in range(3):
        part = slice(one, one + 1)
        alone = encoder(y_bar[part], rate_index[part], state[part])
        np.testing.assert_allclose(alone, padded[part], atol=1e-4)
        y_alone, state_alone = decoder(padded[part], rate_index[part], state[part])
        np.testing.assert_allclose(y_alone, y_bar_rx[part], atol=1e-4)
        np.testing.assert_allclose(state_alone, state_next[part], atol=1e-4)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_gradients_reach_every_weight_through_a_noisy_channel(variant):
    config = VARIANTS[variant]
    encoder, decoder = codec(config)
    _, rate_index = frame(config, 8, 16)
    rate_index = np.arange(2 * 8 * 16, dtype=np.int32).reshape(2, 8, 16) % len(config.rate_set)
    rng = np.random.default_rng(0)
    with tf.GradientTape() as tape:
        state = decoder.initial_state(2, 8, 16)
        for t in range(2):
            y_bar, _ = frame(config, 8, 16, seed=t)
            padded = encoder(y_bar, rate_index, state)
            noise = 0.1 * rng.normal(size=padded.shape).astype(np.float32)
            y_bar_rx, state = decoder(padded + noise, rate_index, state)
        loss = tf.reduce_mean(tf.square(y_bar_rx - y_bar))
    variables = [*encoder.trainable_variables, *decoder.trainable_variables]
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    # Two frames, since the state update of the first is what the second one learns from.
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert isinstance(gradient, tf.Tensor), variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(np.asarray(gradient)).max() > 0, variable.path


def test_graph_with_unknown_batch_equals_eager():
    encoder, decoder = codec(SMALL)
    y_bar, rate_index = frame()
    state = random_state()

    def both(y_bar, rate_index, state):
        padded = encoder(y_bar, rate_index, state)
        return padded, *decoder(padded, rate_index, state)

    specs = [
        tf.TensorSpec((None, 5, 7, 8)),
        tf.TensorSpec((None, 5, 7), tf.int32),
        tf.TensorSpec((None, 5, 7, 16)),
    ]
    graph = tf.function(both, input_signature=specs)(y_bar, rate_index, state)
    for traced, eager in zip(graph, both(y_bar, rate_index, state), strict=True):
        np.testing.assert_allclose(traced, eager, atol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_networks_still_send_float32_reals(policy):
    exact, half = codec(SMALL), codec(SMALL, dtype=policy)
    for layer, source in zip(half, exact, strict=True):
        layer.set_weights(source.get_weights())
    y_bar, rate_index = frame()
    state = random_state()
    padded = half[0](y_bar, rate_index, state)
    assert padded.dtype == "float32"
    results = half[1](padded, rate_index, state)
    for close, reference in zip(results, exact[1](padded, rate_index, state), strict=True):
        assert close.dtype == "float32"
        error = np.abs(np.asarray(close) - np.asarray(reference)).mean()
        assert error < 0.05 * np.abs(np.asarray(reference)).mean() + 0.01


@pytest.mark.parametrize("layer", [FeatureEncoder, FeatureDecoder])
def test_config_survives_json_with_values_that_are_not_the_defaults(layer):
    config = replace(SMALL, temporal_coding=False, eta=0.3)
    original = layer(config, name="f")
    plain = json.loads(json.dumps(original.get_config()))
    copy = layer.from_config(plain)
    assert copy.config == config
    assert copy.name == "f"
    original.build(None)
    copy.build(None)
    paths = [[(w.path, w.shape) for w in x.weights] for x in (original, copy)]
    assert paths[0] == paths[1]


def test_a_missing_state_is_refused_with_a_remedy():
    encoder, decoder = FeatureEncoder(SMALL), FeatureDecoder(SMALL)
    y_bar, rate_index = frame()
    for layer, first in ((encoder, y_bar), (decoder, y_bar)):
        with pytest.raises(InputError, match="initial_state"):
            layer.call(first, rate_index)


@pytest.mark.ci
def test_a_few_steps_through_noise_learn_to_transmit_a_frame():
    config = replace(VARIANTS["m_c"], num_vit=1)
    encoder, decoder = codec(config)
    y_bar, rate_index = frame(config, 4, 8)
    rate_index = np.full_like(rate_index, 5)
    variables = [*encoder.trainable_variables, *decoder.trainable_variables]
    optimizer, rng, errors = tf.keras.optimizers.Adam(5e-3), np.random.default_rng(0), []
    optimizer.build(variables)

    @tf.function
    def step(noise):
        with tf.GradientTape() as tape:
            y_bar_rx, _ = decoder(encoder(y_bar, rate_index) + noise, rate_index)
            error = tf.reduce_mean(tf.square(y_bar_rx - y_bar))
        optimizer.apply_gradients(zip(tape.gradient(error, variables), variables, strict=True))
        return error

    for _ in range(60):
        errors.append(float(step(0.1 * rng.normal(size=(2, 4, 8, 8)).astype(np.float32))))
    assert np.mean(errors[-5:]) < 0.3 * errors[0]


#: Millions of weights (F_tx, F_rx) and G MACs at 1920x1088 (F_tx, F_rx) of section 3's budget.
BUDGET = {
    "m_a": (4.90, 4.90, 40.6, 40.6),
    "m_b": (5.95, 6.75, 49.7, 63.1),
    "m_c": (5.95, 5.95, 45.2, 45.2),
    "m_d": (8.00, 8.80, 54.3, 67.7),
    "m_e": (7.00, 7.80, 54.3, 67.7),
}


@functools.cache
def counted(variant):
    """Millions of weights and G MACs of one ablation, as in ``BUDGET``, from built layers."""
    config = {c.name[-3:]: c for c in ablations_of(PVSC_PAPER)}[variant]
    encoder, decoder = FeatureEncoder(config), FeatureDecoder(config)
    encoder.build(None)
    decoder.build(None)
    weights = (encoder.count_params() / 1e6, decoder.count_params() / 1e6)
    return (*weights, encoder.macs(68, 120) / 1e9, decoder.macs(68, 120) / 1e9)


@pytest.mark.parametrize("variant", sorted(BUDGET))
def test_weights_and_macs_of_both_ends_meet_the_budget_of_table_v(variant):
    assert counted(variant) == pytest.approx(BUDGET[variant], rel=0.01)


@pytest.mark.parametrize(
    ("variant", "paper"), [("m_b", (2.9, 54.8)), ("m_c", (2.1, 13.6)), ("m_e", (5.0, 68.4))]
)
def test_temporal_and_spatial_coding_add_what_table_v_says(variant, paper):
    """Paper: M_b - M_a, M_c - M_a and M_e - M_a, with F_rx run at both ends."""
    tx, rx, macs_tx, macs_rx = np.subtract(counted(variant), counted("m_a"))
    assert abs(tx + rx - paper[0]) < 0.01 * 35.4, "1 % of the weights of the whole model"
    assert abs(macs_tx + 2 * macs_rx - paper[1]) < 0.002 * 797.7, "0.2 % of its MACs"
