"""LDPC decoders: right without noise, no worse than Sionna's with it, and deaf to their company."""

import threading

import numba
import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.link.ldpc.code import get_ldpc_code
from pvsc_link.link.ldpc.decoder import LayeredDecoder, get_decoder
from pvsc_link.link.mcs import MCS_TABLE
from pvsc_link.link.registry import DECODERS
from pvsc_link.types import ChannelPoint, InputError

# (k, n, bits per symbol, Es/N0 in dB of QPSK where some blocks fail): repetition, both base graphs,
# a lifting size below, at and off a whole number of vectors, fillers, and nothing punctured.
CODES = [
    (720, 6144, 2, -6.3),
    (3102, 6144, 6, 1.0),
    (4632, 6144, 6, 4.2),
    (5688, 6144, 6, 7.0),
    (12, 30, 2, 1.0),
    (100, 300, 2, -1.0),
    (610, 1220, 2, 1.0),
    (720, 3600, 2, -3.8),
]


def sent_and_received(code, es_no_db, num_blocks, seed=1):
    """Random information bits and the LLRs of their emitted bits after QPSK over AWGN."""
    rng = np.random.default_rng(seed)
    b = rng.integers(0, 2, (num_blocks, code.k), dtype=np.uint8)
    c = code.encode(b).astype(np.float64)
    amplitude = np.sqrt(10 ** (es_no_db / 10))
    y = (2 * c - 1) * amplitude + rng.normal(size=c.shape)
    return b, code.combine(tf.constant(2 * amplitude * y, tf.float32)).numpy()


def block_errors(b, b_hat):
    return np.any(np.asarray(b_hat) != b, axis=1)


def worse_by_chance(errors, reference):
    """Two standard deviations of the difference of error counts on the same noise."""
    return 2 * np.sqrt(np.count_nonzero(errors != reference)) + 1


@pytest.mark.parametrize("mcs", MCS_TABLE, ids=lambda mcs: str(mcs.index))
def test_every_mcs_decodes_its_codeword_in_one_iteration_without_noise(mcs):
    code = get_ldpc_code(mcs.k, mcs.n, mcs.num_bits_per_symbol)
    b, llr = sent_and_received(code, 30.0, 3)
    bits, iterations = LayeredDecoder(code, 20).decode(llr)
    assert np.array_equal(bits, b)
    assert np.all(iterations == 1)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(("k", "n"), [(720, 3600), (12, 24)])
def test_every_decoder_decodes_codes_with_and_without_punctured_bits(name, k, n):
    code = get_ldpc_code(k, n, 2)
    b, llr = sent_and_received(code, 12.0, 8)
    assert np.array_equal(get_decoder(name, code, 20)(llr), b)


@pytest.mark.parametrize(("k", "n", "order", "es_no_db"), CODES)
def test_layered_and_layered_xla_agree_bit_by_bit(k, n, order, es_no_db):
    code = get_ldpc_code(k, n, order)
    b, llr = sent_and_received(code, es_no_db, 70)
    layered = get_decoder("layered", code, 20)(llr)
    assert np.array_equal(get_decoder("layered-xla", code, 20)(llr), layered)
    assert 0 < block_errors(b, layered).sum() < 70, "a point where agreement is not trivial"


@pytest.mark.slow
def test_layered_loses_no_more_blocks_than_sionna_on_the_same_noise():
    code = get_ldpc_code(1848, 6144, 2)
    b, llr = sent_and_received(code, -1.7, 256)
    ours, sionnas = (block_errors(b, get_decoder(name, code, 20)(llr)) for name in DECODERS if
                     name != "layered-xla")  # fmt: skip
    assert sionnas.sum() >= 20
    assert ours.sum() <= sionnas.sum() + worse_by_chance(ours, sionnas)


def test_a_block_decodes_the_same_alone_in_company_and_on_one_thread():
    code = get_ldpc_code(1848, 6144, 2)
    _, llr = sent_and_received(code, -1.6, 40)
    decoder = LayeredDecoder(code, 20)
    together, iterations = decoder.decode(llr)
    alone = [decoder.decode(llr[i : i + 1]) for i in range(40)]
    assert np.array_equal(np.concatenate([bits for bits, _ in alone]), together)
    assert np.array_equal(np.concatenate([used for _, used in alone]), iterations)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert np.array_equal(decoder.decode(llr)[0], together)
    finally:
        numba.set_num_threads(threads)


def test_two_threads_may_decode_at_once():
    code = get_ldpc_code(1848, 6144, 2)
    _, llr = sent_and_received(code, -1.6, 64)
    decoder, results = LayeredDecoder(code, 20), {}
    expected = decoder.decode(llr)[0]

    def work(name):
        results[name] = decoder.decode(llr)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[i], expected) for i in range(2))


def test_early_stop_leaves_a_codeword_that_more_iterations_would_not_change():
    code = get_ldpc_code(1848, 6144, 2)
    b, llr = sent_and_received(code, -1.65, 100)
    bits, iterations = LayeredDecoder(code, 20).decode(llr)
    stopped = iterations > 0
    assert 0 < np.count_nonzero(~stopped) < 50
    assert np.all(iterations[~stopped] == -20)
    assert not block_errors(b, bits)[stopped].any(), "a parity-checked word is the one sent"
    for limit in (10, 40):
        bits_at, iterations_at = LayeredDecoder(code, limit).decode(llr)
        both = stopped & (iterations_at > 0)
        assert both.any()
        assert np.array_equal(iterations_at[both], iterations[both])
        assert np.array_equal(bits_at[both], bits[both])


def test_no_iteration_is_a_limit_the_decoder_keeps():
    code = get_ldpc_code(100, 300, 2)
    _, llr = sent_and_received(code, -8.0, 20)
    for limit in (1, 3):
        assert np.all(np.abs(LayeredDecoder(code, limit).decode(llr)[1]) <= limit)


def test_known_bits_rescue_blocks_that_fail_without_them():
    code = get_ldpc_code(1848, 6144, 2)
    rng = np.random.default_rng(5)
    b = rng.integers(0, 2, (40, code.k), dtype=np.uint8)
    b[:, -600:] = 0
    c = code.encode(b).astype(np.float64)
    amplitude = np.sqrt(10 ** (-2.4 / 10))
    llr = 2 * amplitude * ((2 * c - 1) * amplitude + rng.normal(size=c.shape))
    llr = llr.astype(np.float32)
    decoder = LayeredDecoder(code, 20)
    without = block_errors(b, decoder(llr)).sum()
    llr[:, code.filler_positions(600)] = -1e6
    assert block_errors(b, decoder(llr)).sum() == 0 < without


def test_repetition_gives_the_snr_that_the_mother_code_lacks():
    code = get_ldpc_code(720, 6144, 2)
    mother = get_ldpc_code(720, code.mother_n, 2)
    gain_db = 10 * np.log10(code.n / code.mother_n)
    errors = [
        block_errors(b, LayeredDecoder(each, 20)(llr)).sum()
        for each, shift in ((code, gain_db), (mother, 0.0))
        for b, llr in [sent_and_received(each, -3.7 - shift, 400)]
    ]
    assert min(errors) >= 20
    assert errors[0] == pytest.approx(errors[1], abs=4 * np.sqrt(sum(errors)))


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_llrs_of_any_finite_size_are_taken(factor):
    code = get_ldpc_code(3102, 6144, 6)
    b, llr = sent_and_received(code, 20.0, 4)
    bits, _ = LayeredDecoder(code, 20).decode(llr * np.float32(factor))
    assert np.array_equal(bits, b) == (factor > 1), "all below a step of the scale: nothing known"


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_llrs_that_are_not_finite_are_refused(name, bad):
    llr = np.zeros((8, 300), np.float32)
    llr[3, 7] = bad
    decoder = get_decoder(name, get_ldpc_code(100, 300, 2), 5)
    for given in (llr, tf.constant(llr)):
        with pytest.raises(InputError, match="1 of 2400 NaN or infinite"):
            decoder(given)


def test_inside_a_graph_nan_llrs_are_an_error_or_give_nan_bits():
    code = get_ldpc_code(100, 300, 2)
    b, llr = sent_and_received(code, 10.0, 8)
    llr[3, 7] = np.nan
    layered, compiled = get_decoder("layered", code, 5), get_decoder("layered-xla", code, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN or infinite"):
        tf.function(lambda x: layered(x))(tf.constant(llr))
    bits = tf.function(lambda x: compiled(x), jit_compile=True)(tf.constant(llr)).numpy()
    assert np.isnan(bits[3]).all()
    assert np.array_equal(np.delete(bits, 3, 0), np.delete(b, 3, 0))


def test_layered_sits_in_a_graph_with_a_known_shape():
    code = get_ldpc_code(100, 300, 2)
    b, llr = sent_and_received(code, 10.0, 8)
    decoder = get_decoder("layered", code, 5)
    graph = tf.function(lambda x: decoder(x)).get_concrete_function(tf.TensorSpec([8, 300]))
    assert graph.output_shapes == tf.TensorShape([8, 100])
    assert np.array_equal(graph(tf.constant(llr)), b)


def test_high_snr_64qam_llrs_in_fading_are_not_hurt_by_the_fixed_point_scale():
    link = get_coded_link(20, "rayleigh")
    point = ChannelPoint("rayleigh", 35.0, None, 1)
    largest = max(np.abs(llr).max() for _, llr in link.full_blocks(point, 64, seed=1))
    assert largest > 1000.0, "far beyond the clip of 125"
    assert link.count_block_errors(point, 512, 1) == 0


PAIRED = [
    (5, ChannelPoint("awgn", -0.75), 2000),
    (13, ChannelPoint("awgn", 5.85), 2000),
    (22, ChannelPoint("awgn", 13.2), 2000),
    (5, ChannelPoint("rayleigh", 1.25, -12.0, 1), 2000),
    (13, ChannelPoint("rayleigh", 8.0, -20.0, 1), 2000),
    (22, ChannelPoint("rayleigh", 16.0, -30.0, 1), 2000),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mcs", "point", "num_blocks"), PAIRED)
def test_layered_loses_no_more_blocks_than_sionna_on_any_link(mcs, point, num_blocks):
    link = get_coded_link(mcs, point.channel)
    ours, sionnas = [], []
    for b, llr in link.full_blocks(point, num_blocks, seed=3):
        ours.append(block_errors(b, get_decoder("layered", link.code, 20)(llr)))
        sionnas.append(block_errors(b, get_decoder("sionna", link.code, 20)(llr)))
        if np.concatenate(sionnas).sum() >= 100:
            break
    ours, sionnas = np.concatenate(ours), np.concatenate(sionnas)
    assert sionnas.sum() >= 100
    assert ours.sum() <= sionnas.sum() + worse_by_chance(ours, sionnas)


@pytest.mark.slow
def test_no_error_floor_at_the_highest_rate_one_db_above_the_waterfall():
    link = get_coded_link(28, "awgn")
    waterfall, above = ChannelPoint("awgn", 19.3), ChannelPoint("awgn", 20.4)
    assert link.count_block_errors(waterfall, 1000, 1) > 5
    assert link.count_block_errors(above, 20_000, 2) <= 2  # 1e-4 of 20,000
