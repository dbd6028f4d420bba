"""Rate matching: 38.212's circular buffer, its adjoint, and shortened blocks."""

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GEncoder

from pvsc_link.link.ldpc.code import get_ldpc_code
from pvsc_link.link.mcs import MCS_TABLE


def code_of(mcs):
    row = MCS_TABLE[mcs]
    return get_ldpc_code(row.k, row.n, row.num_bits_per_symbol)


def random_bits(*shape):
    return np.random.default_rng(3).integers(0, 2, shape).astype(np.float32)


def systematic_codeword(code, b):
    """All lifted bits of base graph 2 by brute force: parity bits solved from H c = 0 (mod 2).

    The core parity bits come from Gaussian elimination, every further row then adds one bit.
    """
    encoder = code.encoder
    h = encoder.pcm.toarray().astype(np.uint8)
    num_info, num_core = encoder.k_ldpc, 4 * encoder.z
    c = np.zeros(encoder.n_ldpc, np.uint8)
    c[: code.k] = b
    rhs = h[:num_core, :num_info] @ c[:num_info] % 2
    c[num_info : num_info + num_core] = solve_mod_2(
        h[:num_core, num_info : num_info + num_core], rhs
    )
    known = num_info + num_core
    c[known:] = h[num_core:, :known] @ c[:known] % 2
    return c


def solve_mod_2(a, b):
    a = np.concatenate([a, b[:, None]], axis=1).astype(bool)
    for column in range(len(a)):
        pivot = column + np.argmax(a[column:, column])
        a[[column, pivot]] = a[[pivot, column]]
        rows = a[:, column].copy()
        rows[column] = False
        a[rows] ^= a[column]
    return a[:, -1]


def circular_buffer(code, b):
    """TS 38.212 5.4.2.1 and 5.4.2.2 bit by bit: N_cb = N, k_0 = 0, <NULL> skipped."""
    encoder = code.encoder
    codeword = systematic_codeword(code, b)
    d = [None if code.k <= i < encoder.k_ldpc else bit for i, bit in enumerate(codeword)]
    d = d[2 * encoder.z :]
    e, j = [], 0
    while len(e) < code.n:
        if d[j % len(d)] is not None:
            e.append(d[j % len(d)])
        j += 1
    order = code.num_bits_per_symbol
    f = np.zeros(code.n)
    for j in range(code.n // order):
        for i in range(order):
            f[i + j * order] = e[i * (code.n // order) + j]
    return f


@pytest.mark.parametrize("mcs", [0, 1, 2, 4])
def test_coded_bits_are_those_of_the_circular_buffer(mcs):
    code = code_of(mcs)
    b = random_bits(code.k)
    np.testing.assert_array_equal(code.encode(b[None])[0], circular_buffer(code, b))


@pytest.mark.parametrize("mcs", [0, 1, 2])
def test_llrs_of_a_repeated_bit_are_added(mcs):
    code = code_of(mcs)
    positions = np.arange(code.mother_n, dtype=np.float32)
    sent = positions[code.transmit_order(0)].astype(int)
    llr = np.random.default_rng(1).normal(size=(2, code.n)).astype(np.float32)
    expected = np.zeros((2, code.mother_n))
    for row in range(2):
        np.add.at(expected[row], sent, llr[row])
    np.testing.assert_allclose(code.combine(tf.constant(llr)), expected, atol=1e-5)
    assert set(np.bincount(sent)) == {1, 2}


def test_without_repetition_the_code_is_sionnas():
    code = code_of(13)
    b = random_bits(2, code.k)
    theirs = LDPC5GEncoder(code.k, code.n, num_bits_per_symbol=4)(b)
    np.testing.assert_array_equal(code.encode(b), theirs)
    assert code.combine(theirs) is theirs


@pytest.mark.parametrize("mcs", [0, 2, 3, 13, 28])
@pytest.mark.parametrize("num_known", [1, 5, 200, "all but 32"])
def test_a_shortened_block_sends_every_unknown_bit_and_no_filler(mcs, num_known):
    code = code_of(mcs)
    num_fillers = code.k - 32 if num_known == "all but 32" else num_known
    order, is_filler = code.transmit_order(num_fillers), code.filler_positions(num_fillers)
    assert not is_filler[order].any()
    assert set(order) == set(np.flatnonzero(~is_filler))
    # Fillers are information bits from 2 Z on that lie at the end; the others are on no air.
    num_on_air = min(num_fillers, code.k - 2 * code.encoder.z)
    assert is_filler.sum() == num_on_air
    # Whole QAM symbols, and fewer by what each of the passes through the buffer would have sent.
    assert len(order) % code.num_bits_per_symbol == 0
    spared = code.n - len(order)
    assert num_on_air - code.num_bits_per_symbol < spared <= num_on_air * (1 + (mcs < 3))


@pytest.mark.parametrize("mcs", [0, 13, 28])
def test_fillers_in_the_emitted_bits_are_the_last_information_bits(mcs):
    code, num_fillers = code_of(mcs), 57
    b = np.zeros((1, code.k), np.float32)
    b[:, -num_fillers:] = 1.0
    differs = code.encoder(tf.constant(b)).numpy()[0] == 1
    is_filler = code.filler_positions(num_fillers)
    assert differs[is_filler].all()


def test_a_full_block_is_sent_in_the_order_of_the_code():
    for mcs in (0, 2, 3, 13, 28):
        code = code_of(mcs)
        b = random_bits(1, code.k)
        bits = code.encoder(tf.constant(b)).numpy()
        np.testing.assert_array_equal(code.encode(b), bits[:, code.transmit_order(0)])
        np.testing.assert_array_equal(code.encode(b, 0), code.select(code.emit(b)))
