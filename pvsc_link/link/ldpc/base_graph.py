"""The mother code of 5G LDPC: base graph, lifting size and shifts (TS 38.212, 5.3.2).

Base graph, lifting size and the tables of shifts are Sionna's. What depends on them alone is built
once per pair of base graph and lifting size and shared by all codes (k, n) of that pair.
"""

import functools
from dataclasses import dataclass

import numpy as np
from sionna.phy.fec.ldpc import LDPC5GEncoder

from pvsc_link.types import InputError

#: The two columns of the base graph that 38.212 never transmits.
NUM_PUNCTURED_COLUMNS = 2
#: The core rows of both base graphs: their parity columns are solved together.
NUM_CORE_ROWS = 4
#: Columns of information bits and columns in all, by base graph.
_NUM_COLUMNS = {1: (22, 68), 2: (10, 52)}
#: Start k0 of a redundancy version in the circular buffer, in columns of Z bits: the factors of
#: TS 38.212, table 5.4.2.1-2 for N_cb = N, by base graph.
_START_COLUMN = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}

#: Below this code rate Sionna's encoder refuses, and 38.212's circular buffer wraps around.
LOWEST_MOTHER_RATE = 1 / 5
#: Information bits that a code block may have, and the highest code rate (38.212, 5.2.2, 5.4.2.1).
NUM_INFO_BITS, HIGHEST_RATE = (12, 8448), 0.95


@dataclass(frozen=True, eq=False)
class MotherCode:
    """One lifted base graph. ``mother_code`` makes it once per base graph and lifting size.

    A *mother bit* is counted from the first punctured one: column * z + place in the column.

    ``base_graph`` : 1 or 2
    ``z`` : lifting size
    ``shifts`` : [num_rows, num_columns], int64, shift of each circulant, from 0 to z - 1; -1: none
    """

    base_graph: int
    z: int
    shifts: np.ndarray

    @property
    def num_info_columns(self) -> int:
        return _NUM_COLUMNS[self.base_graph][0]

    @property
    def num_rows(self) -> int:
        return self.shifts.shape[0]

    @property
    def num_columns(self) -> int:
        return self.shifts.shape[1]

    def circular_buffer(self, k: int) -> np.ndarray:
        """Mother bits of the circular buffer of a code with k information bits, without fillers.

        TS 38.212, 5.4.2.1 with N_cb = N: no limited-buffer rate matching.
        Output: [buffer_n], int64.
        """
        k_ldpc = self.num_info_columns * self.z
        return np.r_[NUM_PUNCTURED_COLUMNS * self.z : k, k_ldpc : self.num_columns * self.z]

    def start(self, rv: int, k: int) -> int:
        """Place in ``circular_buffer(k)`` where redundancy version ``rv`` begins, an int.

        It is k0 of table 5.4.2.1-2 less the fillers before it; where k0 is a filler, the bit after
        the fillers. Raises ``InputError`` unless ``rv`` is 0, 1, 2 or 3.
        """
        if rv not in range(4):
            raise InputError(
                "redundancy version",
                found=rv,
                allowed="0, 1, 2 or 3 (TS 38.212, table 5.4.2.1-2)",
                remedy="Retransmissions commonly take 0, 2, 3, 1 in this order.",
            )
        k0 = _START_COLUMN[self.base_graph][rv] * self.z
        first_filler = k - NUM_PUNCTURED_COLUMNS * self.z
        num_fillers = self.num_info_columns * self.z - k
        return k0 if k0 <= first_filler else max(k0 - num_fillers, first_filler)

    def heard_columns(self, mother_bits: np.ndarray) -> np.ndarray:
        """Which columns hold one of these mother bits. Output: [num_columns], bool."""
        heard = np.zeros(self.num_columns, bool)
        heard[mother_bits // self.z] = True
        return heard

    def rows_of_first(self, last_bit: int) -> np.ndarray:
        """Rows that help when all mother bits up to ``last_bit`` are heard. Output: [.], int64."""
        num_rows = last_bit // self.z + 1 - self.num_info_columns
        return np.arange(max(num_rows, NUM_CORE_ROWS))

    def rows_of_heard(self, heard: np.ndarray) -> np.ndarray:
        """Rows that help when the columns ``heard`` [num_columns], bool, are. Output: [.], int64.

        A row beyond the core is the only one with its parity column. If nothing of this column is
        heard, the row says nothing about other bits.
        """
        own = heard[self.num_info_columns :].copy()
        own[:NUM_CORE_ROWS] = True
        return np.flatnonzero(own)


def mother_code(k: int, rate: float) -> MotherCode:
    """The mother code of k information bits at a code rate (TS 38.212, 7.2.2 and 5.2.2).

    Base graph 2 for k <= 292, for k <= 3824 at rates up to 0.67, and for rates up to 0.25; else
    base graph 1. The lifting size is the smallest that holds the k bits.

    Parameters: ``k`` : int, information bits with CRC; ``rate`` : float, k over coded bits.
    Raises ``InputError`` for a k or a rate that no base graph has.
    """
    if not NUM_INFO_BITS[0] <= k <= NUM_INFO_BITS[1] or rate > HIGHEST_RATE:
        raise InputError(
            "LDPC code",
            found=f"{k} information bits at rate {rate:.3f}",
            allowed=f"{NUM_INFO_BITS[0]} to {NUM_INFO_BITS[1]} information bits (CRC included) at "
            f"rates up to {HIGHEST_RATE}",
            remedy="Choose another block length or a slower MCS.",
        )
    name = LDPC5GEncoder._sel_basegraph(None, k, max(rate, LOWEST_MOTHER_RATE))
    z, index, _ = LDPC5GEncoder._sel_lifting(None, k, name)
    return _lifted(int(name[-1]), int(z), index)


@functools.cache
def _lifted(base_graph: int, z: int, index: int) -> MotherCode:
    table = _table(base_graph, index)
    return MotherCode(base_graph, z, np.where(table >= 0, table % z, -1))


@functools.cache
def _table(base_graph: int, index: int) -> np.ndarray:
    return LDPC5GEncoder._load_basegraph(None, index, f"bg{base_graph}").astype(np.int64)
