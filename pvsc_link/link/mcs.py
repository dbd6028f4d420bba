"""Modulation and coding schemes: TS 38.214, Tables 5.1.3.1-1, 5.1.3.1-2 and 5.1.3.1-3."""

import math
from dataclasses import dataclass, replace

from pvsc_link.types import InputError

#: Bits of the CRC24B of a code block (TS 38.212, 5.1).
NUM_CRC_BITS = 24
#: Most coded bits of a code block unless ``block_length`` says otherwise (the paper's Section IV);
#: whole symbols in 4, 16, 64 and 256-QAM.
BLOCK_LENGTH = 6144

# Target code rate x 1024, by table and bits per symbol in the order of the rows.
_RATES_X1024: dict[int, dict[int, tuple[float, ...]]] = {
    1: {
        2: (120, 157, 193, 251, 308, 379, 449, 526, 602, 679),
        4: (340, 378, 434, 490, 553, 616, 658),
        6: (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948),
    },
    2: {
        2: (120, 193, 308, 449, 602),
        4: (378, 434, 490, 553, 616, 658),
        6: (466, 517, 567, 616, 666, 719, 772, 822, 873),
        8: (682.5, 711, 754, 797, 841, 885, 916.5, 948),
    },
    3: {
        2: (30, 40, 50, 64, 78, 99, 120, 157, 193, 251, 308, 379, 449, 526, 602),
        4: (340, 378, 434, 490, 553, 616),
        6: (438, 466, 517, 567, 616, 666, 719, 772),
    },
}


@dataclass(frozen=True)
class Mcs:
    """One modulation and coding scheme with the largest block that carries it.

    ``k`` : information bits of a full block, CRC included; ``n`` : coded bits of a full block;
    ``table`` : of TS 38.214, 5.1.3.1.
    """

    index: int
    num_bits_per_symbol: int
    target_coderate: float
    n: int = BLOCK_LENGTH
    table: int = 1

    @property
    def k(self) -> int:
        return int(self.n * self.target_coderate)

    @property
    def spectral_efficiency(self) -> float:
        """Information bits per complex symbol (channel use)."""
        return self.num_bits_per_symbol * self.target_coderate


#: Rows of the tables of TS 38.214 by number: 1 up to 64-QAM, 2 up to 256-QAM, 3 for low rates.
MCS_TABLES: dict[int, tuple[Mcs, ...]] = {
    table: tuple(
        Mcs(index, num_bits_per_symbol, rate / 1024, table=table)
        for index, (num_bits_per_symbol, rate) in enumerate(
            (order, rate) for order, rates in by_order.items() for rate in rates
        )
    )
    for table, by_order in _RATES_X1024.items()
}
MCS_TABLE = MCS_TABLES[1]


def get_mcs(index: int, table: int = 1, block_length: int = BLOCK_LENGTH) -> Mcs:
    """Row ``index`` of an MCS table.

    Parameters: ``table`` : key of ``MCS_TABLES``; ``block_length`` : most coded bits of a block,
    rounded down to whole symbols.
    Raises ``InputError`` for a table that there is not, for a block length that no base graph has
    at the rate of the row or that leaves no room for a payload, and unless ``index`` is an integer
    from 0 to 28 (Table 2: 27; what follows is reserved).
    """
    if table not in MCS_TABLES:
        raise InputError(
            "mcs_table", found=table, allowed=list(MCS_TABLES), remedy="Name one of TS 38.214."
        )
    if isinstance(block_length, bool) or not isinstance(block_length, int):
        raise InputError(
            "block_length", found=block_length, allowed="an integer", remedy="6144 is the default."
        )
    rows = MCS_TABLES[table]
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(rows):
        raise InputError(
            "MCS index",
            found=index,
            allowed=f"integers 0 to {len(rows) - 1} (TS 38.214 Table 5.1.3.1-{table})",
            remedy="Choose a row of the table; further rows are reserved for retransmissions.",
        )
    row = rows[index]
    full = replace(row, n=block_length - block_length % row.num_bits_per_symbol)
    _check_block(full)
    return full


def _check_block(mcs: Mcs) -> None:
    """Raise ``InputError`` for full blocks that carry nothing or that no base graph carries.

    Base graphs and their sizes are those of TS 38.212, 7.2.2 and 5.2.2: graph 2 up to 3,840 bits
    where the rate is at most 1/4, else graph 1 up to 8,448 bits. Graph 1 has rates from 1/3.
    """
    rate = mcs.target_coderate
    most = 3840 if rate <= 1 / 4 else 8448 if rate >= 1 / 3 else 3824
    if not NUM_CRC_BITS < mcs.k <= most:
        raise InputError(
            f"block_length at MCS {mcs.index} of table {mcs.table} (code rate {rate:.4f})",
            found=f"{mcs.n} coded bits, which are {mcs.k} information bits",
            allowed=f"{NUM_CRC_BITS + 1} to {most} information bits, the CRC of 24 included",
            remedy=f"Give a block_length from {math.ceil((NUM_CRC_BITS + 1) / rate)} to "
            f"{int(most / rate)}, or another MCS.",
        )
