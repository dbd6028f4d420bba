"""Fixed-point numbers of layered offset min-sum: the same in every implementation.

An LLR of one is 16 steps. Channel LLRs are clipped to 125 and messages to 62.5, so that the sum
of a channel LLR and the 30 messages of the widest column fits in int16 without saturation
(saturated sums minus an old message are what gives narrower decoders an error floor).

Static tables of layered decoding for one rate-matched 5G LDPC code (3GPP TS 38.212, 5.3.2).

A column of the base matrix is kept in the *frame* of the row that last wrote it: slot ``j`` holds
bit ``(j + shift) mod z``. A row then reads its ``z`` neighbours at one relative shift and writes
them back at zero, so that the decoder never rolls anything: all rotations are in these tables.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Steps per unit of LLR.
SCALE = 16
#: Largest channel value, in steps.
CLIP_LLR = 2000
#: Largest check-to-variable message, in steps.
CLIP_MESSAGE = 1000
#: A magnitude m becomes m - (m >> SHIFT_MESSAGE) - offset: 7/8 of it, less an offset.
SHIFT_MESSAGE = 3


def offset_of_rate(rate: float) -> int:
    """Offset of the check-node rule in fixed-point steps for a code of this rate.

    Few wide rows (high rate) leave less correlation to correct than many narrow ones.
    """
    return 5 if rate <= 0.85 else 4


#: The two columns that 38.212 never transmits.
NUM_PUNCTURED_COLUMNS = 2
#: The core rows of both base graphs: they are kept whatever is punctured.
NUM_CORE_ROWS = 4


@dataclass(frozen=True)
class LayeredSchedule:
    """Tables for decoding; a slot is ``column * z + j`` with ``j`` in the column's final frame.

    ``z`` : lifting size; ``num_columns`` : columns kept; ``k`` : information bits
    ``row_start`` : [num_rows + 1], int32, first edge of each row in decoding order
    ``column`` : [num_edges], int32, column of each edge
    ``shift`` : [num_edges], int32, rotation against the row that wrote the column before
    ``parity_shift`` : [num_edges], int32, rotation against the column's final frame
    ``received_slot`` : [n], int32, slot of each received bit (output interleaver included)
    ``known_slot`` : [num_known], int32, slots of filler bits (zeros, known for certain)
    ``info_slot`` : [k], int32, slots of the information bits
    """

    z: int
    num_columns: int
    k: int
    row_start: np.ndarray
    column: np.ndarray
    shift: np.ndarray
    parity_shift: np.ndarray
    received_slot: np.ndarray
    known_slot: np.ndarray
    info_slot: np.ndarray

    @property
    def num_rows(self) -> int:
        return len(self.row_start) - 1

    @property
    def num_edges(self) -> int:
        return len(self.column)


def received_bits(encoder: Any) -> np.ndarray:
    """Index in the mother codeword of each bit that the channel delivers, ``[n]``."""
    after_fillers = np.r_[0 : encoder.k, encoder.k_ldpc : encoder.n_ldpc]
    first = NUM_PUNCTURED_COLUMNS * encoder.z
    bits = after_fillers[first : first + encoder.n]
    return bits if encoder.num_bits_per_symbol is None else bits[encoder.out_int]


def _order_rows(rows: list[np.ndarray], erased: set[int]) -> list[int]:
    """Decoding order: the row with the fewest still-erased columns first.

    A row with one erased column recovers it; a row with two passes nothing on. Erased columns
    met early therefore cost iterations.
    """
    left, order, erased = list(range(len(rows))), [], set(erased)
    while left:
        unknown = {r: len(erased.intersection(rows[r].tolist())) for r in left}
        # 0 erased columns can wait: only rows that recover one bring the others forward.
        row = min(left, key=lambda r: (unknown[r] != 1, unknown[r], r))
        if unknown[row] <= 1:
            erased.difference_update(rows[row].tolist())
        order.append(row)
        left.remove(row)
    return order


def kept_base_matrix(encoder: Any, received: np.ndarray) -> np.ndarray:
    """Shifts of the base matrix (-1: no edge), without the rows that only serve punctured bits."""
    base = np.asarray(encoder._bm).astype(np.int64)
    num_punctured = encoder.n_ldpc - int(received.max()) - 1
    num_rows = max(base.shape[0] - num_punctured // encoder.z, NUM_CORE_ROWS)
    base = base[:num_rows, : encoder.k_ldpc // encoder.z + num_rows]
    return np.where(base >= 0, base % encoder.z, -1)


def build_schedule(encoder: Any) -> LayeredSchedule:
    """Layered decoding tables of a Sionna encoder, rate matching of 38.212 5.4.2 undone.

    Parameters: ``encoder`` : ``sionna.phy.fec.ldpc.LDPC5GEncoder`` (before any repetition).
    Output: ``LayeredSchedule``. A column of filler bits only is left out: it never constrains.
    """
    z, received = encoder.z, received_bits(encoder)
    base = kept_base_matrix(encoder, received)
    fillers = range(-(-encoder.k // z), encoder.k_ldpc // z)
    kept = [c for c in range(base.shape[1]) if c not in fillers]
    base = base[:, kept]
    place = np.full(encoder.n_ldpc // z, -1)
    place[kept] = np.arange(len(kept))

    heard = {int(c) for c in place[np.unique(received // z)]}
    heard.update(int(c) for c in place[encoder.k // z : -(-encoder.k // z)])
    rows = [np.flatnonzero(row >= 0) for row in base]
    order = _order_rows(rows, set(range(len(kept))) - heard)

    column = np.concatenate([rows[r] for r in order])
    absolute = np.concatenate([base[r, rows[r]] for r in order])
    final = np.zeros(len(kept), np.int64)
    final[column] = absolute  # the last assignment of a repeated index stays
    frame, shift = final.copy(), np.empty_like(absolute)
    for edge, (c, s) in enumerate(zip(column, absolute, strict=True)):
        shift[edge], frame[c] = (s - frame[c]) % z, s

    def slot(bits: np.ndarray) -> np.ndarray:
        c = place[bits // z]
        return (c * z + (bits % z - final[c]) % z).astype(np.int32)

    partial = np.arange(encoder.k, -(-encoder.k // z) * z)
    return LayeredSchedule(
        z=z,
        num_columns=len(kept),
        k=encoder.k,
        row_start=np.cumsum([0] + [len(rows[r]) for r in order]).astype(np.int32),
        column=column.astype(np.int32),
        shift=shift.astype(np.int32),
        parity_shift=((absolute - final[column]) % z).astype(np.int32),
        received_slot=slot(received),
        known_slot=slot(partial),
        info_slot=slot(np.arange(encoder.k)),
    )
