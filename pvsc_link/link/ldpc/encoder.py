"""5G LDPC encoding on the lifted base graph, byte by byte along z (TS 38.212, 5.3.2).

Sionna's encoder multiplies by a lifted matrix through gathers and is compiled anew for each code.
This one gives the same bits in a fraction of the time, and serves every code once it is compiled.
"""

from typing import Any

import numpy as np
from numba import njit

#: The two columns of the base graph that 38.212 never transmits.
NUM_PUNCTURED_COLUMNS = 2
#: The core rows of both base graphs: they are kept whatever is punctured.
NUM_CORE_ROWS = 4


def received_bits(encoder: Any) -> np.ndarray:
    """Index in the mother codeword of each bit that the channel delivers, ``[n]``."""
    after_fillers = np.r_[0 : encoder.k, encoder.k_ldpc : encoder.n_ldpc]
    first = NUM_PUNCTURED_COLUMNS * encoder.z
    bits = after_fillers[first : first + encoder.n]
    return bits if encoder.num_bits_per_symbol is None else bits[encoder.out_int]


def kept_base_matrix(encoder: Any, received: np.ndarray) -> np.ndarray:
    """Shifts of the base matrix (-1: no edge), without the rows that only serve punctured bits."""
    base = np.asarray(encoder._bm).astype(np.int64)
    num_punctured = encoder.n_ldpc - int(received.max()) - 1
    num_rows = max(base.shape[0] - num_punctured // encoder.z, NUM_CORE_ROWS)
    base = base[:num_rows, : encoder.k_ldpc // encoder.z + num_rows]
    return np.where(base >= 0, base % encoder.z, -1)


@njit(nogil=True, cache=True)
def _solve_row(columns, shifts, target, target_shift, z, bits, parity):
    """Bits of the target column that make the sum of a row's columns zero."""
    parity[:] = 0
    for e in range(len(columns)):
        read = columns[e] * 2 * z + shifts[e]
        for i in range(z):
            parity[i] ^= bits[read + i]
    _place(parity, target, target_shift, z, bits)


@njit(nogil=True, cache=True)
def _place(values, column, shift, z, bits):
    """Write bit (i + shift) mod z of a column twice, z apart: a rotated read then never wraps."""
    start = column * 2 * z
    bits[start + shift : start + z] = values[: z - shift]
    bits[start : start + shift] = values[z - shift : z]
    bits[start + z : start + 2 * z] = bits[start : start + z]


@njit(nogil=True, cache=True)
def _encode_blocks(info, sent, z, num_columns, start, columns, shifts, targets, target_shifts, at):
    """Each row of ``info`` [batch, k] to a row of ``sent`` [batch, n]; ``at`` [n]: bit to send."""
    bits, parity = np.zeros(num_columns * 2 * z, np.uint8), np.zeros(z, np.uint8)
    k = info.shape[1]
    for block in range(len(info)):
        for first in range(0, k, z):
            last = min(first + z, k)
            bits[2 * first : 2 * first + last - first] = info[block, first:last]
            bits[2 * first + z : 2 * first + z + last - first] = info[block, first:last]
        for row in range(len(targets)):
            a, b = start[row], start[row + 1]
            _solve_row(columns[a:b], shifts[a:b], targets[row], target_shifts[row], z, bits, parity)
        for i in range(len(at)):
            sent[block, i] = bits[at[i]]


def _steps(base: np.ndarray, first_parity: int) -> list[tuple[list[int], list[int], int, int]]:
    """One step per parity column: columns and shifts to add up, target column and its shift.

    The core rows add up to one shift of the first parity column. After that, every row has a single
    unknown parity column.
    """
    core = base[:NUM_CORE_ROWS]
    own = core[core[:, first_parity] >= 0, first_parity]
    odd = next(int(s) for s in own if np.count_nonzero(own == s) % 2)
    rows, columns = np.nonzero(core[:, :first_parity] >= 0)
    steps = [(columns.tolist(), core[rows, columns].tolist(), first_parity, odd)]
    known, left = set(range(first_parity + 1)), list(range(len(base)))
    while left:
        row = next(r for r in left if len(_unknown(base[r], known)) <= 1)
        left.remove(row)
        for target in _unknown(base[row], known):
            others = np.flatnonzero((base[row] >= 0) & (np.arange(base.shape[1]) != target))
            shift = int(base[row, target])
            steps.append((others.tolist(), base[row, others].tolist(), target, shift))
            known.add(target)
    return steps


def _unknown(row: np.ndarray, known: set[int]) -> list[int]:
    return [int(c) for c in np.flatnonzero(row >= 0) if int(c) not in known]


class QuasiCyclicEncoder:
    """The bits of a Sionna encoder, output interleaver included.

    Parameters: ``encoder`` : ``sionna.phy.fec.ldpc.LDPC5GEncoder``.
    Input: ``b`` : [batch, k], uint8. Output: [batch, n], uint8, with n of ``encoder``.
    """

    def __init__(self, encoder: Any):
        z = encoder.z
        emitted = received_bits(encoder)
        base = kept_base_matrix(encoder, emitted)
        steps = _steps(base, encoder.k_ldpc // z)
        self._n = encoder.n
        self._tables = (
            z,
            base.shape[1],
            np.cumsum([0] + [len(step[0]) for step in steps]),
            np.concatenate([step[0] for step in steps]),
            np.concatenate([step[1] for step in steps]),
            np.array([step[2] for step in steps]),
            np.array([step[3] for step in steps]),
            emitted // z * 2 * z + emitted % z,
        )

    def __call__(self, b: np.ndarray) -> np.ndarray:
        sent = np.empty((len(b), self._n), np.uint8)
        _encode_blocks(np.ascontiguousarray(b, np.uint8), sent, *self._tables)
        return sent
