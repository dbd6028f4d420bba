"""The MCS table against Sionna's, and the refusal of rows that do not exist."""

import numpy as np
import pytest
from sionna.phy.nr.utils import decode_mcs_index

from pvsc_link.link.mcs import BLOCK_LENGTH, MCS_TABLE, MCS_TABLES, get_mcs
from pvsc_link.types import InputError


@pytest.mark.parametrize(("table", "num_rows"), [(1, 29), (2, 28), (3, 29)])
def test_all_rows_are_those_of_the_pdsch_tables_in_sionna(table, num_rows):
    order, rate = decode_mcs_index(np.arange(num_rows), table_index=table, is_pusch=False)
    rows = MCS_TABLES[table]
    assert [row.num_bits_per_symbol for row in rows] == order.numpy().tolist()
    np.testing.assert_allclose([row.target_coderate for row in rows], rate, rtol=1e-6)
    assert [row.index for row in rows] == list(range(num_rows))
    assert {row.table for row in rows} == {table}


@pytest.mark.parametrize(
    ("table", "row", "efficiency"),
    [
        *((1, 0, 0.2344), (1, 28, 5.5547), (2, 5, 1.4766), (2, 20, 5.3320), (2, 26, 7.1602)),
        *((2, 27, 7.4063), (3, 0, 0.0586), (3, 14, 1.1758), (3, 21, 2.5664), (3, 28, 4.5234)),
    ],
)
def test_spectral_efficiencies_are_those_that_38_214_prints(table, row, efficiency):
    assert get_mcs(row, table).spectral_efficiency == pytest.approx(efficiency, abs=5e-5)


@pytest.mark.parametrize(("row", "n"), [(0, 1000), (12, 1000), (25, 996), (27, 1000)])
def test_a_block_length_is_rounded_down_to_whole_symbols(row, n):
    assert get_mcs(row, 2 if row == 27 else 1, block_length=1001).n == n


def test_rates_are_exact_at_the_block_length():
    for row in MCS_TABLE:
        assert row.k == row.n * row.target_coderate
        assert row.spectral_efficiency == row.k / (BLOCK_LENGTH / row.num_bits_per_symbol)


@pytest.mark.parametrize("index", [-1, 29, 3.0, "5", None, True])
def test_an_index_outside_the_table_is_refused_with_the_allowed_range(index):
    with pytest.raises(InputError, match="0 to 28"):
        get_mcs(index)


def test_a_row_of_the_wrong_table_and_a_table_that_there_is_not_are_refused():
    with pytest.raises(InputError, match="0 to 27"):
        get_mcs(28, 2)
    with pytest.raises(InputError, match="mcs_table"):
        get_mcs(5, 4)
