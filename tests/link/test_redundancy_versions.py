"""Redundancy versions: 38.212's circular buffer read from other starts, and what decodes them."""

import numpy as np
import pytest

from pvsc_link.link.ldpc.base_graph import mother_code
from pvsc_link.link.ldpc.code import LdpcCode, get_ldpc_code
from pvsc_link.link.ldpc.decoder import LayeredDecoder, get_decoder
from pvsc_link.link.registry import DECODERS
from pvsc_link.types import InputError

#: (k, n, bits per symbol, base graph by 38.212, 7.2.2, lifting size by 5.2.2 and table 5.3.2-1):
#: with and without fillers, read within the buffer and around its end, and read more than once.
CODES = [
    (400, 520, 2, 1, 20),
    (440, 600, 4, 1, 20),
    (308, 440, 4, 1, 14),
    (308, 384, 6, 1, 14),
    (100, 200, 2, 2, 18),
    (300, 516, 6, 2, 40),
    (650, 2600, 4, 2, 72),
    (60, 1200, 2, 2, 10),
]

#: Factors of table 5.4.2.1-2: k0 = floor(factor * N_cb / (66 Z or 50 Z)) * Z.
FACTORS = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}


def solve_mod_2(a, b):
    a = np.concatenate([a, b[:, None]], axis=1).astype(bool)
    for column in range(len(a)):
        pivot = column + np.argmax(a[column:, column])
        a[[column, pivot]] = a[[pivot, column]]
        rows = a[:, column].copy()
        rows[column] = False
        a[rows] ^= a[column]
    return a[:, -1]


def codeword(code, b, z, num_info):
    """All lifted bits from H c = 0 (mod 2), fillers included; H is Sionna's."""
    h = code.encoder.pcm.toarray().astype(np.uint8)
    c = np.zeros(h.shape[1], np.uint8)
    c[: len(b)] = b
    core = slice(num_info, num_info + 4 * z)
    c[core] = solve_mod_2(h[: 4 * z, core], h[: 4 * z, :num_info] @ c[:num_info] % 2)
    c[core.stop :] = h[4 * z :, : core.stop] @ c[: core.stop] % 2
    assert not np.any(h @ c % 2)
    return c


def as_the_standard_says(code, b, base_graph, z, rv):
    """5.4.2.1 and 5.4.2.2 bit by bit, <NULL> as None."""
    num_info = (22 if base_graph == 1 else 10) * z
    c = codeword(code, b, z, num_info)
    d = [None if len(b) <= i < num_info else int(bit) for i, bit in enumerate(c)][2 * z :]
    n_cb = (66 if base_graph == 1 else 50) * z
    assert len(d) == n_cb
    k0 = FACTORS[base_graph][rv] * n_cb // ((66 if base_graph == 1 else 50) * z) * z
    e, j = [], 0
    while len(e) < code.n:
        if d[(k0 + j) % n_cb] is not None:
            e.append(d[(k0 + j) % n_cb])
        j += 1
    order = code.num_bits_per_symbol
    f = [e[i * (code.n // order) + j] for j in range(code.n // order) for i in range(order)]
    return np.array(f)


@pytest.mark.parametrize(("k", "n", "order", "base_graph", "z"), CODES)
def test_every_version_has_the_bits_that_the_standard_says(k, n, order, base_graph, z):
    code = get_ldpc_code(k, n, order)
    b = np.random.default_rng(k).integers(0, 2, k, dtype=np.uint8)
    for rv in range(4):
        expected = as_the_standard_says(code, b, base_graph, z, rv)
        assert np.array_equal(code.redundancy(b[None], rv)[0], expected), rv
    assert np.array_equal(code.redundancy(b[None], 0), code.encode(b[None]))


@pytest.mark.parametrize(("k", "n", "order", "base_graph", "z"), CODES)
def test_llrs_of_all_versions_add_up_at_the_bits_they_belong_to(k, n, order, base_graph, z):
    code, rng = get_ldpc_code(k, n, order), np.random.default_rng(n)
    b = rng.integers(0, 2, (2, k), dtype=np.uint8)
    buffer, size = np.zeros((2, code.buffer_n), np.float32), np.zeros(2)
    for rv in (0, 2, 3, 1):
        sent = code.redundancy(b, rv)
        weight = rng.uniform(0.5, 1.5, sent.shape).astype(np.float32)
        code.add_to_buffer(buffer, (2.0 * sent - 1.0) * weight, rv)
        size += weight.sum(axis=1)
    # All LLRs of one bit have the bit's sign, so none of their sum is lost in the buffer.
    np.testing.assert_allclose(np.abs(buffer).sum(axis=1), size, rtol=1e-5)
    heard = buffer != 0
    assert np.array_equal(LayeredDecoder(code.heard((0, 1, 2, 3)), 20)(buffer), b)
    assert np.count_nonzero(heard) == 2 * round(k / code.heard((0, 1, 2, 3)).rate)


def noisy(sent, es_no_db, rng):
    amplitude = np.sqrt(10 ** (es_no_db / 10))
    y = (2.0 * sent - 1.0) * amplitude + rng.normal(size=sent.shape)
    return (2 * amplitude * y).astype(np.float32)


@pytest.mark.parametrize(
    ("k", "n", "order", "es_no_db"), [(300, 516, 2, -1.6), (4224, 5000, 4, 0.3)]
)
def test_combining_is_decoding_of_the_code_of_lower_rate_that_has_the_same_bits(
    k, n, order, es_no_db
):
    """Version 1 begins within what version 0 has sent, so together they are a longer version 0."""
    code, rng = get_ldpc_code(k, n, order), np.random.default_rng(8)
    start = code.mother.start(1, k)
    assert 0 < start < n
    longer = LdpcCode(k, start + n, 1)
    assert longer.mother is code.mother
    b = rng.integers(0, 2, (60, k), dtype=np.uint8)
    buffer = np.zeros((60, code.buffer_n), np.float32)
    for rv in (0, 1):
        code.add_to_buffer(buffer, noisy(code.redundancy(b, rv), es_no_db, rng), rv)
    expected = LayeredDecoder(longer, 20)(buffer[:, : longer.n])
    combined = LayeredDecoder(code.heard((0, 1)), 20)(buffer)
    assert np.array_equal(combined, expected)
    assert 0 < np.any(combined != b, axis=1).sum() < 60, "a point where equality is not trivial"


@pytest.mark.parametrize("rvs", [(0,), (0, 2), (0, 2, 3)])
def test_rows_left_out_change_no_decoded_block(rvs):
    """Rows whose own parity column was never sent say nothing: all rows give the same words."""
    code, rng = get_ldpc_code(500, 650, 2), np.random.default_rng(4)
    b = rng.integers(0, 2, (40, 500), dtype=np.uint8)
    buffer = np.zeros((40, code.buffer_n), np.float32)
    for rv in rvs:
        code.add_to_buffer(buffer, noisy(code.redundancy(b, rv), 4.6, rng), rv)
    assert code.heard(rvs).schedule.num_rows < code.heard((0, 1, 2, 3)).schedule.num_rows
    pruned = LayeredDecoder(code.heard(rvs), 20)(buffer)
    whole = LayeredDecoder(code.heard((0, 1, 2, 3)), 40)(buffer)
    right = ~np.any(pruned != b, axis=1)
    assert right.sum() >= 20
    assert np.array_equal(whole[right], b[right])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(("k", "n"), [(400, 520), (60, 300)])
def test_every_decoder_takes_the_circular_buffer(name, k, n):
    code, rng = get_ldpc_code(k, n, 2), np.random.default_rng(2)
    b = rng.integers(0, 2, (8, k), dtype=np.uint8)
    buffer = np.zeros((8, code.buffer_n), np.float32)
    for rv in (0, 2):
        code.add_to_buffer(buffer, noisy(code.redundancy(b, rv), 8.0, rng), rv)
    assert np.array_equal(get_decoder(name, code.heard((0, 2)), 20)(buffer), b)


def test_codes_of_one_lifting_size_share_their_mother_code():
    assert get_ldpc_code(650, 1300, 2).mother is get_ldpc_code(700, 1400, 2).mother
    assert mother_code(650, 0.9) is not mother_code(650, 0.5), "another base graph"


@pytest.mark.parametrize(("k", "n"), [(11, 44), (8449, 9500), (960, 1000)])
def test_a_code_that_no_base_graph_has_is_refused(k, n):
    with pytest.raises(InputError, match="LDPC code"):
        LdpcCode(k, n, 2)


@pytest.mark.parametrize("rv", [-1, 4, 1.5])
def test_a_redundancy_version_that_does_not_exist_is_refused(rv):
    code = get_ldpc_code(100, 200, 2)
    with pytest.raises(InputError, match="0, 1, 2 or 3"):
        code.redundancy(np.zeros((1, 100), np.uint8), rv)
