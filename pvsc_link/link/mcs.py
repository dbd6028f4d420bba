"""The 29 modulation and coding schemes of TS 38.214 Table 5.1.3.1-1 at one coded block length."""

from dataclasses import dataclass

from pvsc_link.types import InputError

#: Coded bits of one transport block (the paper's Section IV); whole symbols in 4, 16 and 64-QAM.
BLOCK_LENGTH = 6144

# Target code rate x 1024, in the order of the table, by bits per symbol. 38.214 writes rates so.
_RATES_X1024 = {
    2: (120, 157, 193, 251, 308, 379, 449, 526, 602, 679),
    4: (340, 378, 434, 490, 553, 616, 658),
    6: (438, 466, 517, 567, 616, 666, 719, 772, 822, 873, 910, 948),
}


@dataclass(frozen=True)
class Mcs:
    """One modulation and coding scheme with the block that carries it.

    ``k`` : information bits of a block, CRC included; ``n`` : coded bits of a block.
    """

    index: int
    num_bits_per_symbol: int
    target_coderate: float
    n: int = BLOCK_LENGTH

    @property
    def k(self) -> int:
        return int(self.n * self.target_coderate)

    @property
    def spectral_efficiency(self) -> float:
        """Information bits per complex symbol (channel use)."""
        return self.num_bits_per_symbol * self.target_coderate


#: TS 38.214 Table 5.1.3.1-1 (64-QAM table of the PDSCH), rows 0 to 28.
MCS_TABLE: tuple[Mcs, ...] = tuple(
    Mcs(index, num_bits_per_symbol, rate / 1024)
    for index, (num_bits_per_symbol, rate) in enumerate(
        (order, rate) for order, rates in _RATES_X1024.items() for rate in rates
    )
)


def get_mcs(index: int) -> Mcs:
    """Row ``index`` of TS 38.214 Table 5.1.3.1-1.

    Raises ``InputError`` unless ``index`` is an integer from 0 to 28 (29 to 31 are reserved).
    """
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(MCS_TABLE):
        raise InputError(
            "MCS index",
            found=index,
            allowed="integers 0 to 28 (TS 38.214 Table 5.1.3.1-1)",
            remedy="Choose a row of the table; rows 29 to 31 are reserved for retransmissions.",
        )
    return MCS_TABLE[index]
