"""The MCS table against Sionna's, and the refusal of rows that do not exist."""

import numpy as np
import pytest
from sionna.phy.nr.utils import decode_mcs_index

from pvsc_link.link.mcs import BLOCK_LENGTH, MCS_TABLE, get_mcs
from pvsc_link.types import InputError


def test_all_rows_are_those_of_the_pdsch_table_in_sionna():
    order, rate = decode_mcs_index(np.arange(29), table_index=1, is_pusch=False)
    assert [row.num_bits_per_symbol for row in MCS_TABLE] == order.numpy().tolist()
    np.testing.assert_allclose([row.target_coderate for row in MCS_TABLE], rate, rtol=1e-6)
    assert [row.index for row in MCS_TABLE] == list(range(29))


def test_rates_are_exact_at_the_block_length():
    for row in MCS_TABLE:
        assert row.k == row.n * row.target_coderate
        assert row.spectral_efficiency == row.k / (BLOCK_LENGTH / row.num_bits_per_symbol)


@pytest.mark.parametrize("index", [-1, 29, 3.0, "5", None, True])
def test_an_index_outside_the_table_is_refused_with_the_allowed_range(index):
    with pytest.raises(InputError, match="0 to 28"):
        get_mcs(index)
