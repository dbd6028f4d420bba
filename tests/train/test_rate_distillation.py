"""Rate-set distillation: the rates that are used stay, and what stays computes the same."""

from dataclasses import replace

import numpy as np
import pytest

from pvsc_link.models.pvsc.feature_codec import FeatureDecoder, FeatureEncoder
from pvsc_link.train.weights import load_by_path, representative_rates, weights_by_path


def test_the_least_used_rates_go_first_and_the_ends_stay():
    usage = np.array([0, 50, 1, 40, 2, 30, 0])
    assert representative_rates(usage, (0, 1, 2, 3, 4, 5, 6), 5) == (0, 1, 3, 5, 6)


def test_a_pruned_rate_hands_its_units_to_its_neighbour():
    # 3 and 4 are rare one by one but not together; 8 is rarer than both together.
    usage = np.array([100, 10, 11, 15, 100])
    assert representative_rates(usage, (0, 3, 4, 8, 20), 4) == (0, 4, 8, 20)
    assert representative_rates(usage, (0, 3, 4, 8, 20), 3) == (0, 4, 20)


def test_a_pruned_rate_half_way_between_two_hands_its_units_upwards():
    """As ``quantisation.allocate`` rounds: 4 goes to 8, which then has more units than 12."""
    usage = np.array([90, 10, 55, 60, 90])
    assert representative_rates(usage, (0, 4, 8, 12, 16), 3) == (0, 8, 16)


def test_a_small_set_is_left_alone():
    assert representative_rates(np.ones(3), (0, 4, 8), 16) == (0, 4, 8)


@pytest.fixture
def codecs(micro_preset):
    def make(config):
        return FeatureEncoder(config, name="tx"), FeatureDecoder(config, name="rx")

    config = replace(micro_preset, temporal_coding=False)
    full = replace(config, rate_set=tuple(range(config.channels_y + 1)))
    pairs = make(full), make(config)
    for layer in (*pairs[0], *pairs[1]):
        layer.build(None)
    for layer in pairs[0]:  # biases start at zero: make every row its own
        for i, weight in enumerate(layer.weights):
            noise = np.random.default_rng(i).standard_normal(weight.shape)
            weight.assign(np.array(weight) + 0.1 * noise.astype(np.float32))
    return full, config, pairs


def test_a_pruned_codec_sends_and_decodes_the_kept_rates_as_before(codecs):
    full, config, (before, after) = codecs
    for old, new in zip(before, after, strict=True):
        load_by_path(new, weights_by_path(old), full.rate_set, config.rate_set)
    rng = np.random.default_rng(0)
    y_bar = rng.standard_normal((1, 4, 4, 8)).astype(np.float32)
    index = rng.integers(0, len(config.rate_set), (1, 4, 4)).astype(np.int32)
    old_index = np.take(np.array(config.rate_set, np.int32), index)  # rate k has index k there
    sent_before = np.array(before[0](y_bar, old_index))
    sent_after = np.array(after[0](y_bar, index))
    np.testing.assert_allclose(sent_after, sent_before, atol=1e-5)
    np.testing.assert_allclose(
        np.array(after[1](sent_after, index)[0]),
        np.array(before[1](sent_before, old_index)[0]),
        atol=1e-5,
    )


def test_rates_that_only_the_new_set_has_start_as_the_next_larger_one(codecs):
    full, config, (larger, smaller) = codecs
    load_by_path(larger[0], weights_by_path(smaller[0]), config.rate_set, full.rate_set)
    rows = np.array(larger[0].embedding.rate_embedding)
    source = np.array(smaller[0].embedding.rate_embedding)
    np.testing.assert_array_equal(rows[[0, 2, 4, 8]], source)
    np.testing.assert_array_equal(rows[[1, 3, 5]], source[[1, 2, 3]])
    kernel, before = np.array(larger[0].to_reals.kernel), np.array(smaller[0].to_reals.kernel)
    np.testing.assert_array_equal(kernel[3:6], before[2:5])  # rate 3: the first reals of rate 4
