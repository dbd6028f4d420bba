"""Windowed attention and ViT blocks: who sees whom, and at what cost."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.layers.vit import (
    ContextualVitBlock,
    Mlp,
    TokenGrid,
    VitBlock,
    WindowAttention,
    pack_parities,
    unpack_parities,
    window_shift,
)
from pvsc_link.models.presets import PVSC_PAPER
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.types import InputError

SMALL = PvscConfig("small", embed_dim=16, num_heads=2, window_size=4, mlp_ratio=2)
SIZES = [(4, 4), (8, 8), (3, 4), (5, 7), (9, 12), (4, 13), (1, 1)]


def random_map(height, width, batch=2, depth=16, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, height, width, depth)).astype(np.float32)


def randomised(layer, seed=1):
    """Every weight random, biases too, so that no term is hidden by a zero."""
    layer.build(None)
    rng = np.random.default_rng(seed)
    layer.set_weights([0.3 * rng.normal(size=w.shape).astype(np.float32) for w in layer.weights])
    return layer


def window_of(height, width, window, shifted):
    """Window number of every token from its coordinates alone, windows starting at the shift."""
    row, column = (
        (np.arange(size) - window_shift(size, window, shifted)) // window
        for size in (height, width)
    )
    return (1000 * row[:, None] + column[None, :]).reshape(-1)


def full_attention(layer, tokens, context, allowed):
    """Textbook attention over all tokens of a map in float64, ``allowed`` [queries, keys]."""
    weights = [np.asarray(w, np.float64) for w in layer.get_weights()]
    (wq, bq), (wkv, bkv), (wo, bo) = weights[0:2], weights[2:4], weights[4:6]
    batch, _, _, dim = tokens.shape
    heads, depth = layer.config.num_heads, dim // layer.config.num_heads
    q = (tokens.reshape(batch, -1, dim) @ wq + bq).reshape(batch, -1, heads, depth)
    kv = (context.reshape(batch, -1, dim) @ wkv + bkv).reshape(batch, -1, 2, heads, depth)
    scores = np.einsum("bthd,bshd->bhts", q, kv[:, :, 0]) / np.sqrt(depth)
    scores = np.where(allowed, scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = np.einsum("bhts,bshd->bthd", p / p.sum(-1, keepdims=True), kv[:, :, 1])
    return (mixed.reshape(batch, -1, dim) @ wo + bo).reshape(tokens.shape)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_windowed_attention_is_full_attention_among_tokens_of_one_window(height, width, shifted):
    layer = randomised(WindowAttention(SMALL, shifted))
    tokens = random_map(height, width)
    window = window_of(height, width, SMALL.window_size, shifted)
    expected = full_attention(layer, tokens, tokens, window[:, None] == window[None, :])
    np.testing.assert_allclose(layer(tokens), expected, atol=2e-5)


def test_one_window_is_full_attention_even_in_a_shifted_block():
    layer = randomised(WindowAttention(SMALL, shifted=True))
    tokens, context = random_map(4, 4), random_map(4, 4, seed=2)
    everyone = np.ones((16, 16), bool)
    expected = full_attention(layer, tokens, context, everyone)
    np.testing.assert_allclose(layer(tokens, context), expected, atol=2e-5)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(3, 5), (5, 7), (6, 9), (9, 13)])
def test_places_without_a_unit_are_never_attended_to(height, width, shifted):
    layer = randomised(WindowAttention(SMALL, shifted))
    grid = TokenGrid(height, width)
    packed = np.asarray(pack_parities(random_map(height, width)))
    valid = np.repeat(grid.valid(), 2, axis=0)[..., None]
    assert not valid.all()
    noisy = np.where(valid, packed, random_map(*packed.shape[1:3], batch=4, seed=5) * 100)
    quiet_out, noisy_out = (np.asarray(layer(x, key_grid=grid)) for x in (packed, noisy))
    np.testing.assert_array_equal(np.where(valid, quiet_out, 0), np.where(valid, noisy_out, 0))
    seen_without_mask = np.asarray(layer(noisy)) - np.asarray(layer(packed))
    assert np.abs(np.where(valid, seen_without_mask, 0)).max() > 1e-3


@pytest.mark.parametrize(("height", "width"), [(2, 2), (4, 6), (3, 5), (5, 4), (1, 7), (5, 1)])
def test_packing_separates_the_parities_and_unpacking_restores_the_map(height, width):
    row, column = np.indices((height, width))
    tokens = np.stack([row, column, row + column], -1)[None].astype(np.float32)
    packed = np.asarray(pack_parities(tokens))
    for parity, valid in enumerate(TokenGrid(height, width).valid()):
        units = packed[parity][valid]
        assert (units[:, 2] % 2 == parity).all()
        assert len(units) == ((row + column) % 2 == parity).sum()
        assert (np.diff(units[:, 0] * width + units[:, 1]) > 0).all(), "raster order"
    np.testing.assert_array_equal(unpack_parities(packed[:1], packed[1:], width), tokens)


def test_a_context_is_seen_in_its_own_window_only():
    layer = randomised(ContextualVitBlock(SMALL))
    tokens, context = random_map(4, 8), random_map(4, 8, seed=3)
    changed = context.copy()
    changed[:, :, 5] = random_map(4, 8, seed=8)[:, :, 5]
    moved = np.abs(np.asarray(layer(tokens, context)) - np.asarray(layer(tokens, changed)))
    assert moved[:, :, :4].max() == 0.0
    assert moved[:, :, 4:].max(axis=-1).min() > 1e-5


def test_places_without_a_unit_are_seen_neither_in_tokens_nor_in_the_context():
    """Blocks 1 and 0 of five by seven units, as ``spatial`` of ``SpatioTemporalVit`` has them."""
    layer = randomised(ContextualVitBlock(SMALL))
    grid, context_grid = TokenGrid(5, 7, (1,)), TokenGrid(5, 7, (0,))
    tokens, context = random_map(5, 4), random_map(5, 4, seed=3)
    given = {"grid": grid, "context_grid": context_grid}
    expected = np.asarray(layer(tokens, context, **given))
    for values, of_values in ((tokens, grid), (context, context_grid)):
        changed = np.where(of_values.valid()[0][None, ..., None], values, 5.0).astype(np.float32)
        assert not np.array_equal(changed, values)
        both = (changed, context) if values is tokens else (tokens, changed)
        found = np.asarray(layer(*both, **given))
        np.testing.assert_allclose(
            found[:, grid.valid()[0]], expected[:, grid.valid()[0]], atol=1e-6
        )


def test_shifted_blocks_carry_information_across_the_border_of_a_window():
    plain, shifted = (randomised(VitBlock(SMALL, shifted=s)) for s in (False, True))
    tokens = random_map(8, 8)
    changed = tokens.copy()
    changed[:, 3, 3] = random_map(8, 8, seed=8)[:, 3, 3]
    reach = [np.abs(np.asarray(b(tokens)) - np.asarray(b(changed))) for b in (plain, shifted)]
    assert reach[0][:, 4:, 4:].max() == 0.0
    assert reach[1][:, 4:6, 4:6].max(axis=-1).min() > 1e-5


@pytest.mark.parametrize("layer", [VitBlock, ContextualVitBlock, WindowAttention, Mlp])
def test_a_layer_survives_its_config_and_computes_the_same(layer):
    config = replace(SMALL, num_heads=4, rate_set=(0, 3, 5))
    original = layer(config) if layer is Mlp else layer(config, shifted=True)
    copy = layer.from_config(original.get_config())
    assert copy.config == original.config
    assert copy.get_config() == original.get_config()
    randomised(original)
    copy.build(None)
    copy.set_weights(original.get_weights())
    inputs = [random_map(5, 6)] * (2 if layer is ContextualVitBlock else 1)
    np.testing.assert_array_equal(original(*inputs), copy(*inputs))


def test_weights_and_macs_of_a_block_are_those_of_the_budget():
    d, tokens = PVSC_PAPER.embed_dim, 16 * 24
    vit, contextual = VitBlock(PVSC_PAPER), ContextualVitBlock(PVSC_PAPER)
    for block, squares, attentions in ((vit, 12, 1), (contextual, 16, 2)):
        block.build(None)
        assert 0 < block.count_params() - squares * d**2 < 25 * d
        assert block.macs(16, 24) == tokens * (squares * d**2 + attentions * 2 * 64 * d)
    assert vit.macs(9, 8) > vit.macs(8, 8) * 9 / 8, "filled-up windows cost too"


def test_graph_with_unknown_batch_equals_eager_and_gradients_reach_every_weight():
    layer = randomised(ContextualVitBlock(SMALL, shifted=True))
    tokens, context = random_map(6, 9), random_map(6, 9, seed=4)
    spec = tf.TensorSpec((None, 6, 9, 16))
    graph = tf.function(layer, input_signature=[spec, spec])
    np.testing.assert_allclose(graph(tokens, context), layer(tokens, context), atol=1e-5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(tokens, context)))
    for weight, gradient in zip(
        layer.trainable_variables,
        tape.gradient(loss, [w.value for w in layer.trainable_variables]),
        strict=True,
    ):
        assert np.abs(np.asarray(gradient)).max() > 0, weight.path


def test_half_precision_stays_close_and_masks_do_not_overflow():
    exact = randomised(VitBlock(SMALL, shifted=True))
    half = VitBlock(SMALL, shifted=True, dtype="mixed_float16")
    half.build(None)
    half.set_weights(exact.get_weights())
    tokens = random_map(5, 9)
    result = half(tokens)
    assert keras.backend.standardize_dtype(result.dtype) == "float16"
    np.testing.assert_allclose(np.asarray(result, np.float32), exact(tokens), atol=0.05)


def test_bad_sizes_are_refused_with_a_remedy():
    with pytest.raises(InputError, match="multiple of num_heads"):
        WindowAttention(replace(SMALL, num_heads=3))
    with pytest.raises(InputError, match="Trace once per frame size"):
        WindowAttention(SMALL).call(keras.KerasTensor((None, None, 8, 16)))
