"""Block error rates: Sionna's own tables, finite-length theory, and what channel knowledge buys."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import sionna.sys
import tensorflow as tf
from scipy import optimize, stats
from scipy.special import logsumexp

from pvsc_link.link.coded_link import CodedLink
from pvsc_link.link.equalizers import lmmse
from pvsc_link.link.mcs import MCS_TABLE, Mcs
from pvsc_link.types import ChannelPoint

TABLE_FILE = Path(sionna.sys.__file__).parent / "bler_tables" / "PDSCH_table1.json"
# One-sided 99.95 % of a normal variable.
SIGMAS = 3.3


def is_less(errors, reference, num_blocks):
    """Whether ``errors`` is significantly less than ``reference`` (two proportions)."""
    pooled = (errors + reference) / (2 * num_blocks)
    spread = math.sqrt(2 * num_blocks * pooled * (1 - pooled))
    return errors < reference - SIGMAS * spread


def table_entry(mcs, block_size, snr_db):
    """BLER of Sionna's table and the blocks it was measured with.

    Its simulation took batches of 100 blocks until 500 errors, or 3000 blocks: the blocks are
    the least number of hundreds that makes the rate a whole count of at least that many.
    """
    rows = json.loads(TABLE_FILE.read_text())["category"]["1"]["index"]["1"]["MCS"][str(mcs)]
    position = int(np.argmin(np.abs(np.array(rows["SNR_db"]) - snr_db)))
    bler = rows["CBS"][str(block_size)]["BLER"][position]
    num_blocks = next(
        size
        for size in range(100, 3001, 100)
        if abs(bler * size - round(bler * size)) < 0.01 and (bler * size > 499.5 or size == 3000)
    )
    return rows["SNR_db"][position], bler, num_blocks


@pytest.mark.parametrize(
    ("mcs", "block_size", "snr_db"),
    [
        pytest.param(11, 2000, 3.93, marks=pytest.mark.ci),
        pytest.param(11, 500, 3.93, marks=pytest.mark.slow),
        pytest.param(8, 2000, 2.14, marks=pytest.mark.slow),
        pytest.param(13, 1000, 5.71, marks=pytest.mark.slow),
        pytest.param(20, 1000, 11.07, marks=pytest.mark.slow),
        pytest.param(25, 1000, 16.43, marks=pytest.mark.slow),
    ],
)
def test_sionnas_decoder_meets_sionnas_pdsch_table_in_the_waterfall(mcs, block_size, snr_db):
    snr_db, table_bler, table_blocks = table_entry(mcs, block_size, snr_db)
    row, num_blocks = MCS_TABLE[mcs], 640
    order = row.num_bits_per_symbol
    n = math.ceil(block_size / row.target_coderate / order) * order
    link = CodedLink(Mcs(mcs, order, row.target_coderate, n), "awgn", decoder="sionna")
    assert abs(link.mcs.k - block_size) <= 1
    bler = link.count_block_errors(ChannelPoint("awgn", snr_db), num_blocks, 1) / num_blocks
    spread = math.sqrt(table_bler * (1 - table_bler) * (1 / num_blocks + 1 / table_blocks))
    assert bler == pytest.approx(table_bler, abs=SIGMAS * spread)


def information_moments(num_bits_per_symbol, snr_db):
    """Mean and variance of the information density of uniform QAM in AWGN, bits per symbol.

    Both axes are independent: twice those of one, by Gauss-Hermite quadrature.
    """
    num_levels = 2 ** (num_bits_per_symbol // 2)
    levels = np.arange(num_levels) * 2.0 - num_levels + 1
    levels /= np.sqrt(2 * np.mean(levels**2))
    no = 10 ** (-snr_db / 10)
    noise, weight = np.polynomial.hermite.hermgauss(64)
    y = levels[:, None] + np.sqrt(no) * noise
    log_likelihood = -((y[..., None] - levels) ** 2) / no
    density = -(noise**2) - logsumexp(log_likelihood, axis=-1) + np.log(num_levels)
    density /= np.log(2)
    mean = np.mean(density @ weight) / np.sqrt(np.pi)
    variance = np.mean((density - mean) ** 2 @ weight) / np.sqrt(np.pi)
    return 2 * mean, 2 * variance


def normal_approximation_snr_db(mcs, bler):
    """Es/N0 at which k bits fit into the block (Polyanskiy, Poor and Verdu 2010, eq. 296)."""
    num_symbols = mcs.n / mcs.num_bits_per_symbol

    def surplus(snr_db):
        mean, variance = information_moments(mcs.num_bits_per_symbol, snr_db)
        penalty = math.sqrt(num_symbols * variance) * stats.norm.isf(bler)
        return num_symbols * mean - penalty + 0.5 * math.log2(num_symbols) - mcs.k

    return optimize.brentq(surplus, -12, 25)


def test_the_normal_approximation_has_the_capacity_of_bpsk():
    """BPSK at Es/N0 = 0 dB carries 0.7215 bits (QPSK at 3.01 dB: twice that)."""
    mean, variance = information_moments(2, 10 * math.log10(2))
    assert mean == pytest.approx(2 * 0.7215, abs=2e-3)
    assert variance > 0


def assert_threshold_is_near_the_normal_approximation(mcs, decoder, num_blocks):
    """BLER is above 1e-2 at the bound itself and below it 1.5 dB higher, each at 99 %."""
    link = CodedLink(mcs, "awgn", decoder=decoder)
    bound = normal_approximation_snr_db(link.mcs, 1e-2)
    at_bound = link.count_block_errors(ChannelPoint("awgn", bound), 128, seed=1)
    above = link.count_block_errors(ChannelPoint("awgn", bound + 1.5), num_blocks, seed=1)
    assert stats.binom.sf(at_bound - 1, 128, 1e-2) < 1e-2
    assert stats.binom.cdf(above, num_blocks, 1e-2) < 1e-2


@pytest.mark.parametrize("mcs", [4, 11, 20, 27])
def test_full_blocks_need_0_to_1_5_db_more_than_the_normal_approximation(mcs):
    assert_threshold_is_near_the_normal_approximation(mcs, "layered", 700)


@pytest.mark.slow
@pytest.mark.parametrize("mcs", [4, 11, 20, 27])
def test_so_do_they_with_sionnas_decoder(mcs):
    assert_threshold_is_near_the_normal_approximation(
        mcs, "sionna", 4000
    )  # BLER nears 5e-3 there: 2000 say too little


def errors_under_csi_error(mcs, snr_db, num_blocks, **link):
    point = ChannelPoint("rayleigh", snr_db, -10.0, 1)
    return CodedLink(mcs, "rayleigh", **link).count_block_errors(point, num_blocks, seed=1)


@pytest.mark.parametrize(
    ("mcs", "snr_db", "decoder"),
    [(14, 14.5, "layered"), pytest.param(11, 7.75, "sionna", marks=pytest.mark.slow)],
)
def test_llrs_that_know_the_error_variance_lose_fewer_blocks(mcs, snr_db, decoder):
    """NMSE -10 dB, same fading, CSI error and noise; 96 blocks, significant at 99.95 %."""
    aware, unaware = (
        errors_under_csi_error(mcs, snr_db, 96, csi_aware=known, decoder=decoder)
        for known in (True, False)
    )
    assert is_less(aware, unaware, 96)


def mean_noise(y, h_hat, no, err_var):
    """The equalizer of a receiver that gives one noise variance to all symbols."""
    x_hat, no_eff = lmmse(y, h_hat, no, err_var)
    return x_hat, tf.zeros_like(no_eff) + no + err_var


def test_a_noise_variance_per_symbol_loses_fewer_blocks_than_a_scalar():
    per_symbol = errors_under_csi_error(4, 6.0, 96, decoder="layered")
    scalar = errors_under_csi_error(4, 6.0, 96, decoder="layered", equalizer=mean_noise)
    assert is_less(per_symbol, scalar, 96)


@pytest.mark.parametrize("mcs", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_repetition_gains_its_energy_within_a_tenth_of_a_db(mcs):
    """6144 sent bits against the mother code's n0: 10 log10(6144 / n0) dB less per symbol.

    The repeated code may lose 0.1 dB, because only some of its bits are repeated, and it cannot
    gain more than the energy: 1024 blocks at a BLER near 0.2, compared at 99.95 %.
    """
    repeated = CodedLink(mcs, "awgn", decoder="layered")
    mother_n, k = repeated.code.mother_n, repeated.mcs.k
    assert mother_n < repeated.mcs.n
    mother = CodedLink(Mcs(mcs, 2, k / mother_n, mother_n), "awgn", decoder="layered")
    assert mother.mcs.k == k
    snr_db, num_blocks = -3.85, 1024
    gain_db = 10 * math.log10(repeated.mcs.n / mother_n)

    def errors(link, snr_db):
        return link.count_block_errors(ChannelPoint("awgn", snr_db), num_blocks, seed=1)

    reference = errors(mother, snr_db)
    assert 50 < reference < num_blocks - 50
    assert not is_less(reference, errors(repeated, snr_db - gain_db + 0.1), num_blocks)
    assert not is_less(errors(repeated, snr_db - gain_db - 0.1), reference, num_blocks)


def test_blocks_in_the_waterfall_do_not_depend_on_the_payload():
    """A payload of zeros is scrambled like any other: BLER equal within 3.3 sigma."""
    link, num_blocks = CodedLink(20, "awgn", decoder="layered"), 640
    point = ChannelPoint("awgn", normal_approximation_snr_db(link.mcs, 1e-2) + 0.75)
    random_errors = link.count_block_errors(point, num_blocks, seed=2)
    zeros = link.send(np.zeros(num_blocks * link.block_payload, np.uint8), point, seed=3)
    zero_errors = np.count_nonzero(~zeros.block_ok)
    assert 30 < random_errors < num_blocks - 30
    assert not is_less(random_errors, zero_errors, num_blocks)
    assert not is_less(zero_errors, random_errors, num_blocks)
