"""Reals of the units to complex symbols: what is sent, in which order, at which power."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.layers.rate_adaptive import (
    gain_index,
    gain_of,
    normalise_power,
    num_symbols,
    pack,
    pack_symbols,
    reals_mask,
    sent_mask,
    unpack,
    unpack_symbols,
)
from pvsc_link.models.presets import PAPER_RATE_SET
from pvsc_link.types import InputError

OVERCOMPLETE = tuple(range(33))
ODD = (0, 1, 3)


def random_units(rate_set, shape=(3, 4, 5), seed=0):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(rate_set), shape).astype(np.int32)
    reals = rng.normal(size=(*shape, max(rate_set))).astype(np.float32)
    return reals * np.asarray(reals_mask(index, rate_set)), index


@pytest.mark.parametrize("rate_set", [PAPER_RATE_SET, OVERCOMPLETE, ODD])
def test_unpack_is_the_exact_inverse_of_pack(rate_set):
    padded, index = random_units(rate_set)
    symbols = pack(padded, index, rate_set)
    assert symbols.dtype == np.complex64
    assert len(symbols) == num_symbols(index, rate_set)
    restored = unpack(symbols, index, rate_set)
    assert restored.dtype == np.float32
    np.testing.assert_array_equal(restored, padded)
    np.testing.assert_array_equal(pack(restored, index, rate_set), symbols)


def test_symbols_come_frame_by_frame_unit_by_unit_and_pair_consecutive_reals():
    index = np.array([[[2, 0], [1, 2]], [[0, 1], [0, 0]]])
    padded = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3)
    expected = [0 + 1j, 2 + 0j, 6 + 0j, 9 + 10j, 11 + 0j, 15 + 0j]
    np.testing.assert_array_equal(pack(padded, index, ODD), np.array(expected, np.complex64))


def test_symbol_count_is_the_sum_of_ceil_k_over_two():
    index = np.array([[0, 1], [2, 2]])
    assert num_symbols(index, ODD) == 0 + 1 + 2 + 2
    assert float(np.sum(sent_mask(index, ODD))) == 5


def test_a_rate_map_of_zeros_sends_no_symbol():
    index = np.zeros((1, 4, 4), np.int32)
    symbols = pack(np.ones((1, 4, 4, 128), np.float32), index, PAPER_RATE_SET)
    assert symbols.shape == (0,)
    assert not unpack(symbols, index, PAPER_RATE_SET).any()


def test_noise_on_the_filler_of_an_odd_k_is_dropped():
    index = np.array([[1]])
    np.testing.assert_array_equal(unpack(np.array([2 + 5j]), index, ODD), [[[2, 0, 0]]])


def bits(values):
    return np.ascontiguousarray(values).view(np.int32)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("rate_set", [PAPER_RATE_SET, OVERCOMPLETE, ODD])
@pytest.mark.parametrize("frames", [(), (3,)])
def test_packing_in_a_graph_equals_pack_and_unpack_bit_for_bit(rate_set, frames, jit_compile):
    padded, index = random_units(rate_set, (2, *frames, 4, 5))
    wrapped = tf.function(autograph=False, jit_compile=jit_compile)
    packing = wrapped(lambda *units: pack_symbols(*units, rate_set))
    unpacking = wrapped(lambda *sent: unpack_symbols(*sent, rate_set))
    symbols, count = map(np.asarray, packing(tf.constant(padded), tf.constant(index)))
    assert symbols.dtype == np.complex64
    assert symbols.shape == (2, np.prod((*frames, 4, 5)) * ((max(rate_set) + 1) // 2))
    noise = np.random.default_rng(3).normal(size=(*symbols.shape, 2)).astype(np.float32)
    symbols_hat = symbols + noise.view(np.complex64)[..., 0]
    restored = np.asarray(unpacking(tf.constant(symbols_hat), tf.constant(index)))
    for clip, sent in enumerate(count):
        expected = pack(padded[clip], index[clip], rate_set)
        assert sent == len(expected) == num_symbols(index[clip], rate_set)
        np.testing.assert_array_equal(bits(symbols[clip, :sent]), bits(expected))
        assert not symbols[clip, sent:].any()
        expected = unpack(symbols_hat[clip, :sent], index[clip], rate_set)
        np.testing.assert_array_equal(bits(restored[clip]), bits(expected))


def test_unpacking_in_a_graph_ignores_what_lies_behind_the_sent_symbols():
    padded, index = random_units(ODD)
    symbols, count = map(np.asarray, pack_symbols(padded, index, ODD))
    longest = count.max()
    behind = np.arange(longest) >= count[:, None]
    cut = np.where(behind, np.complex64(np.nan), symbols[:, :longest])
    np.testing.assert_array_equal(unpack_symbols(cut, index, ODD), padded)


def test_a_clip_that_sends_nothing_packs_to_zeros():
    padded, index = random_units(ODD)
    index[1] = 0
    symbols, count = map(np.asarray, pack_symbols(padded, index, ODD))
    assert count[1] == 0
    assert not symbols[1].any()
    assert not np.asarray(unpack_symbols(np.ones_like(symbols), index, ODD))[1].any()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_of_packing_are_those_of_the_sent_reals(jit_compile):
    padded, index = random_units(ODD, (2, 3, 4, 5))

    @tf.function(autograph=False, jit_compile=jit_compile)
    def gradient(reals, index, weights):
        with tf.GradientTape() as tape:
            tape.watch(reals)
            symbols, _ = pack_symbols(reals, index, ODD)
            turned = unpack_symbols(symbols * tf.constant(1j, tf.complex64), index, ODD)
            loss = tf.reduce_sum(turned * weights)
        return tape.gradient(loss, reals)

    weights = np.random.default_rng(2).normal(size=padded.shape).astype(np.float32)
    valid = np.asarray(reals_mask(index, ODD))
    weights *= valid
    # Multiplied by j, the reals (a, b) of a symbol become (-b, a).
    expected = np.zeros_like(weights)
    expected[..., 0], expected[..., 1] = weights[..., 1], -weights[..., 0]
    found = gradient(tf.constant(padded), tf.constant(index), tf.constant(weights))
    np.testing.assert_array_equal(np.asarray(found), expected * valid)


def test_packing_in_a_graph_takes_any_batch_without_a_new_trace():
    traces = []

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, 4, 5, 3], tf.float32),
            tf.TensorSpec([None, 4, 5], tf.int32),
        ],
    )
    def there_and_back(reals, index):
        traces.append(None)
        symbols, _ = pack_symbols(reals, index, ODD)
        assert symbols.shape[1] == 40
        return unpack_symbols(symbols, index, ODD)

    for batch in (1, 3):
        padded, index = random_units(ODD, (batch, 4, 5))
        np.testing.assert_array_equal(there_and_back(padded, index), padded)
    assert len(traces) == 1


@pytest.mark.parametrize("rate_set", [PAPER_RATE_SET, OVERCOMPLETE])
def test_mean_power_of_each_frame_is_one_over_its_sent_symbols(rate_set):
    padded, index = random_units(rate_set)
    padded *= np.array([1e-3, 1.0, 50.0], np.float32)[:, None, None, None]
    scaled, gain = map(np.asarray, normalise_power(padded, index, rate_set))
    np.testing.assert_allclose(gain[:, None, None, None] * scaled, padded, rtol=1e-5)
    for frame in range(3):
        symbols = pack(scaled[frame], index[frame], rate_set)
        assert np.mean(np.abs(symbols) ** 2) == pytest.approx(1.0, abs=1e-5)


def test_a_silent_frame_stays_silent_and_finite():
    index = np.stack([np.zeros((2, 2), np.int32), np.ones((2, 2), np.int32)])
    scaled, gain = map(np.asarray, normalise_power(np.zeros((2, 2, 2, 3), np.float32), index, ODD))
    assert np.isfinite(gain).all()
    np.testing.assert_array_equal(scaled, 0.0)


def test_what_does_not_fit_is_refused():
    padded, index = random_units(ODD)
    with pytest.raises(InputError, match="outside the rate set"):
        pack(padded, index + 1, ODD)
    with pytest.raises(InputError, match="outside the rate set"):
        num_symbols(index - 1, ODD)
    with pytest.raises(InputError, match="do not fit the rate map"):
        pack(padded[..., :2], index, ODD)
    with pytest.raises(InputError, match="do not fit the rate map"):
        unpack(pack(padded, index, ODD)[:-1], index, ODD)


def test_a_byte_holds_the_gain_to_a_fifth_of_a_decibel_and_survives_a_second_rounding():
    gain = np.geomspace(2.0**-7.9, 2.0**7.9, 200).astype(np.float32)
    index = np.asarray(gain_index(gain))
    assert index.min() >= 0
    assert index.max() <= 255
    known = np.asarray(gain_of(index))
    assert np.abs(20 * np.log10(known / gain)).max() < 0.19
    np.testing.assert_array_equal(gain_index(known), index)
    assert np.asarray(gain_of(gain_index(np.float32([1.0]))))[0] == 1.0
    assert np.isfinite(gain_of(gain_index(np.float32([0.0, 1e30])))).all()
