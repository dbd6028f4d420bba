"""5G LDPC encoding on the lifted base graph, byte by byte along z (TS 38.212, 5.3.2).

Sionna's encoder multiplies by a lifted matrix through gathers and is compiled anew for each code.
This one gives the same bits in a fraction of the time, and serves every code once it is compiled.
"""

import functools

import numpy as np
from numba import njit

from pvsc_link.link.ldpc.base_graph import NUM_CORE_ROWS, MotherCode


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


@functools.cache
def _steps(mother: MotherCode) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step per parity column: columns and shifts to add up, target column and its shift.

    The core rows add up to one shift of the first parity column. After that, every row has a single
    unknown parity column, and the parity column of a row beyond the core is its own. So the first
    r steps give the parity columns of the first r rows, for r from ``NUM_CORE_ROWS`` on.

    Output: start : [num_steps + 1], first entry of each step in columns and shifts; columns and
    shifts : [num_entries]; targets and their shifts : [num_steps]; all int64.
    """
    base, first_parity = mother.shifts, mother.num_info_columns
    core = base[:NUM_CORE_ROWS]
    own = core[core[:, first_parity] >= 0, first_parity]
    odd = next(int(s) for s in own if np.count_nonzero(own == s) % 2)
    rows, columns = np.nonzero(core[:, :first_parity] >= 0)
    steps = [(columns, core[rows, columns], first_parity, odd)]
    known, left = set(range(first_parity + 1)), list(range(len(base)))
    columns_of = [np.flatnonzero(row >= 0) for row in base]
    while left:
        row = next(r for r in left if len(set(columns_of[r].tolist()) - known) <= 1)
        left.remove(row)
        for target in set(columns_of[row].tolist()) - known:
            others = columns_of[row][columns_of[row] != target]
            steps.append((others, base[row, others], target, int(base[row, target])))
            known.add(target)
    return (
        np.cumsum([0] + [len(step[0]) for step in steps]),
        np.concatenate([step[0] for step in steps]),
        np.concatenate([step[1] for step in steps]),
        np.array([step[2] for step in steps]),
        np.array([step[3] for step in steps]),
    )


class QuasiCyclicEncoder:
    """Chosen bits of the mother codeword.

    Parameters: ``mother`` : MotherCode; ``emitted`` : [n], int64, the mother bits that are given,
    in order.
    Input: ``b`` : [batch, k], uint8. Output: [batch, n], uint8.
    """

    def __init__(self, mother: MotherCode, emitted: np.ndarray):
        z = mother.z
        start, columns, shifts, targets, target_shifts = _steps(mother)
        num_steps = len(mother.rows_of_first(int(emitted.max())))
        at = emitted // z * 2 * z + emitted % z
        steps = start[: num_steps + 1], columns, shifts, targets[:num_steps]
        self._n = len(emitted)
        self._tables = (z, mother.num_columns, *steps, target_shifts, at)

    def __call__(self, b: np.ndarray) -> np.ndarray:
        sent = np.empty((len(b), self._n), np.uint8)
        _encode_blocks(np.ascontiguousarray(b, np.uint8), sent, *self._tables)
        return sent
