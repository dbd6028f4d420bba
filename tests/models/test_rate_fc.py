"""Per-rate FC layers: grouped by rate, yet exactly one matrix per unit."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.layers.rate_adaptive import (
    BLOCK,
    FeaturesToReals,
    RealsToFeatures,
    group_by_rate,
    row_table,
)
from pvsc_link.models.presets import PVSC_PAPER
from pvsc_link.models.pvsc.config import PvscConfig

SMALL = PvscConfig("small", channels_y=6, rate_set=(0, 1, 3, 4))
OVERCOMPLETE = replace(SMALL, rate_set=tuple(range(7)))


def randomised(layer, seed=0):
    layer.build(None)
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in layer.weights])
    return layer


def random_inputs(config, depth, shape=(2, 5, 9), seed=0):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(config.rate_set), shape).astype(np.int32)
    return rng.normal(size=(*shape, depth)).astype(np.float32), index


@pytest.mark.parametrize("num_units", [1, 31, 32, 33, 500])
@pytest.mark.parametrize("num_rates", [1, 4, 129])
def test_every_unit_gets_its_own_place_in_a_block_of_its_rate(num_units, num_rates):
    index = np.random.default_rng(0).integers(0, num_rates, num_units).astype(np.int32)
    for rates in (index, np.zeros_like(index), np.full_like(index, num_rates - 1)):
        slot, block_rate = (np.asarray(x) for x in group_by_rate(rates, num_rates))
        assert len(set(slot.tolist())) == num_units
        assert 0 <= slot.min() <= slot.max() < len(block_rate) * BLOCK
        assert len(block_rate) == -(-num_units // BLOCK) + num_rates
        np.testing.assert_array_equal(block_rate[slot // BLOCK], rates)


@pytest.mark.parametrize("config", [SMALL, OVERCOMPLETE])
def test_features_to_reals_is_one_matrix_per_rate_and_zero_beyond_k(config):
    layer = randomised(FeaturesToReals(config))
    features, index = random_inputs(config, config.channels_y)
    reals = np.asarray(layer(features, index))
    kernel, bias = layer.get_weights()
    start = np.cumsum((0, *config.rate_set))
    for place in np.ndindex(index.shape):
        rate = index[place]
        rows = slice(start[rate], start[rate] + config.rate_set[rate])
        expected = kernel[rows] @ features[place] + bias[rows]
        np.testing.assert_allclose(reals[place][: config.rate_set[rate]], expected, atol=1e-5)
        assert not reals[place][config.rate_set[rate] :].any()


@pytest.mark.parametrize("config", [SMALL, OVERCOMPLETE])
def test_reals_to_features_is_one_matrix_per_rate_and_a_null_vector_at_zero(config):
    layer = randomised(RealsToFeatures(config))
    reals, index = random_inputs(config, max(config.rate_set))
    features = np.asarray(layer(reals, index))
    kernel, bias = layer.get_weights()
    start = np.cumsum((0, *config.rate_set))
    for place in np.ndindex(index.shape):
        rate, k = index[place], config.rate_set[index[place]]
        expected = reals[place][:k] @ kernel[start[rate] : start[rate] + k] + bias[rate]
        np.testing.assert_allclose(features[place], expected, atol=1e-5)
    np.testing.assert_array_equal(features[index == 0], np.tile(bias[0], ((index == 0).sum(), 1)))


def test_what_lies_beyond_k_is_ignored_even_when_it_is_not_finite():
    layer = randomised(RealsToFeatures(SMALL))
    reals, index = random_inputs(SMALL, 4)
    k = np.asarray(SMALL.rate_set)[index][..., None]
    dirty = np.where(np.arange(4) < k, reals, np.float32(np.nan))
    np.testing.assert_array_equal(layer(reals, index), layer(dirty, index))


def test_kernels_have_the_exact_size_of_the_rate_set():
    sent, received = FeaturesToReals(PVSC_PAPER), RealsToFeatures(PVSC_PAPER)
    sent.build(None)
    received.build(None)
    assert sum(PVSC_PAPER.rate_set) == 684
    assert sent.count_params() == 128 * 684 + 684
    assert received.count_params() == 128 * 684 + 128 * 16


def test_row_table_names_each_row_of_each_rate_once():
    rates = PVSC_PAPER.rate_set
    table = row_table(rates)
    used = np.concatenate([table[r, :k] for r, k in enumerate(rates)])
    np.testing.assert_array_equal(used, np.arange(684))


@pytest.mark.parametrize("direction", [FeaturesToReals, RealsToFeatures])
def test_gradients_are_dense_and_equal_those_of_the_naive_sum(direction):
    layer = randomised(direction(SMALL))
    depth = SMALL.channels_y if direction is FeaturesToReals else 4
    inputs, index = random_inputs(SMALL, depth)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs, index))
    gradients = tape.gradient(loss, [w.value for w in layer.trainable_variables])
    assert not any(isinstance(g, tf.IndexedSlices) for g in gradients)
    per_row = np.asarray(gradients[0])
    for rate, k in enumerate(SMALL.rate_set):
        rows = slice(sum(SMALL.rate_set[:rate]), sum(SMALL.rate_set[:rate]) + k)
        units = inputs[index == rate]
        if direction is FeaturesToReals:
            expected = np.tile(units.sum(0), (k, 1))
        else:
            expected = np.tile(units.sum(0)[:k, None], (1, SMALL.channels_y))
        np.testing.assert_allclose(per_row[rows], expected, atol=1e-4)


def test_macs_at_129_rates_stay_near_those_of_one_matrix_per_unit():
    layer = FeaturesToReals(replace(PVSC_PAPER, rate_set=tuple(range(129))))
    layer.build(None)
    one_matrix, all_columns = 8160 * 128 * 128, 8160 * 128 * sum(range(129))
    assert one_matrix < layer.macs(8160) < 1.6 * one_matrix < 0.03 * all_columns
