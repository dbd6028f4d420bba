"""The 5G LDPC code of one block: rate matching, interleaving, repetition, decoding schedule.

TS 38.212, 5.3.2 (code), 5.4.2.1 (bit selection) and 5.4.2.2 (interleaving).
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GEncoder

from pvsc_link.link.ldpc.encoder import QuasiCyclicEncoder, kept_base_matrix, received_bits

#: Below this code rate Sionna's encoder refuses, and 38.212's circular buffer wraps around.
LOWEST_MOTHER_RATE = 1 / 5

#: Magnitude of the LLR of a bit that the receiver knows. Decoders clip LLRs well below it.
CERTAIN_LLR = 100.0


class LdpcCode:
    """5G LDPC code with k information and n coded bits (TS 38.212, 5.3.2, 5.4.2.1 and 5.4.2.2).

    ``encoder`` is Sionna's; it emits ``mother_n`` bits. For r >= 1/5 these are the n coded bits,
    interleaved. For r < 1/5 base graph 2 has no more than 50 Z coded bits: 38.212 then reads the
    circular buffer of all of them that are not filler again from its start (Sionna's encoder never
    reads past 5 k), and the interleaver works on the n bits after that.

    Parameters
    ----------
    k : int, information bits, CRC included
    n : int, coded bits, a multiple of ``num_bits_per_symbol``
    num_bits_per_symbol : int
    """

    def __init__(self, k: int, n: int, num_bits_per_symbol: int):
        self.k, self.n, self.num_bits_per_symbol = k, n, num_bits_per_symbol
        self.is_repeated = k / n < LOWEST_MOTHER_RATE
        if self.is_repeated:
            self.encoder = _full_buffer_encoder(k, n)
        else:
            self.encoder = LDPC5GEncoder(k, n, num_bits_per_symbol=num_bits_per_symbol)
        self.mother_n: int = self.encoder.n
        self._emit = QuasiCyclicEncoder(self.encoder)
        self._emit_compiled = tf.function(self.encoder, jit_compile=True, autograph=False)

    @functools.cached_property
    def schedule(self) -> "LayeredSchedule":
        """The tables of layered decoding, built once."""
        return build_schedule(self.encoder)

    def emit(self, b: Any) -> Any:
        """The bits of ``encoder``. [batch, k] -> [batch, mother_n].

        Of an array, ``np.uint8``, by ``QuasiCyclicEncoder``; of a tensor, ``tf.float32``, by
        Sionna's encoder, compiled by XLA. The bits are the same.
        """
        return self._emit_compiled(b) if tf.is_tensor(b) else self._emit(b)

    def encode(self, b: Any, num_fillers: int = 0) -> Any:
        """Coded bits in the order of transmission (``transmit_order``).

        Input: ``b`` : [batch, k], as in ``emit``; the last ``num_fillers`` bits are known zeros.
        Output: [batch, num_sent_bits], like ``b``; n bits where there are no fillers.
        """
        return self.select(self.emit(b), num_fillers)

    def select(self, emitted: Any, num_fillers: int = 0) -> Any:
        """Bit selection and interleaving. [..., mother_n] -> [..., num_sent_bits]."""
        if not num_fillers and not self.is_repeated:
            return emitted
        order = self.transmit_order(num_fillers)
        return tf.gather(emitted, order, axis=-1) if tf.is_tensor(emitted) else emitted[..., order]

    def combine(self, llr: tf.Tensor, num_fillers: int = 0) -> tf.Tensor:
        """LLRs of the bits that ``encoder`` emits: the adjoint of ``select``.

        LLRs of repeated bits are added. Bits that were not sent are 0, fillers ``-CERTAIN_LLR``.

        Input: ``llr`` : [..., num_sent_bits or more], ``tf.float32``; what follows the sent bits is
        ignored. Output: [..., mother_n], ``tf.float32``.
        """
        if not num_fillers and not self.is_repeated:
            return llr
        order = self.transmit_order(num_fillers)
        no_padding = [[0, 0]] * (len(llr.shape) - 1)
        llr = tf.pad(llr[..., : len(order)], [*no_padding, [0, 1]])  # the last one is a zero
        combined = tf.add_n([tf.gather(llr, at, axis=-1) for at in self._sent_at(order)])
        if not num_fillers:
            return combined
        return tf.where(self.filler_positions(num_fillers), -CERTAIN_LLR, combined)

    def _sent_at(self, order: np.ndarray) -> np.ndarray:
        """Where each emitted bit was sent for the first, second, ... time; ``len(order)``: never.

        Output: [num_passes, mother_n], int32.
        """
        by_bit = np.argsort(order, kind="stable")
        times = np.bincount(order, minlength=self.mother_n)
        first = np.cumsum(times) - times
        passes = np.arange(len(order)) - first[order[by_bit]]
        at = np.full((times.max(), self.mother_n), len(order), np.int32)
        at[passes, order[by_bit]] = by_bit
        return at

    def transmit_order(self, num_fillers: int) -> np.ndarray:
        """Which emitted bits are sent, in order, if the last information bits are known fillers.

        Bit selection skips fillers, as 38.212, 5.4.2.1 does with <NULL>, and continues from the
        start of the buffer to complete the last QAM symbol. Interleaving follows (5.4.2.2).

        Input: ``num_fillers`` : int, 0 to k - 1.
        Output: [num_sent_bits], int32, positions in ``encoder``'s output.
        """
        is_filler = self._is_filler_in_buffer(num_fillers)
        kept = np.flatnonzero(~is_filler)
        num_sent = self.n - np.count_nonzero(is_filler[np.arange(self.n) % self.mother_n])
        order = self.num_bits_per_symbol
        num_sent = -(-num_sent // order) * order
        sent = self._interleave(kept[np.arange(num_sent) % len(kept)])
        return (sent if self.is_repeated else self._emitted_at[sent]).astype(np.int32)

    def filler_positions(self, num_fillers: int) -> np.ndarray:
        """Which bits of ``encoder``'s output are fillers. Output: [mother_n], bool."""
        is_filler = self._is_filler_in_buffer(num_fillers)
        return is_filler if self.is_repeated else is_filler[self.encoder.out_int]

    @property
    def _emitted_at(self) -> np.ndarray:
        return np.asarray(self.encoder.out_int_inv)

    def _is_filler_in_buffer(self, num_fillers: int) -> np.ndarray:
        # The buffer lacks the first 2 Z columns: its bit j is information bit j + 2 Z, up to k.
        info_index = np.arange(self.mother_n) + 2 * self.encoder.z
        return (info_index >= self.k - num_fillers) & (info_index < self.k)

    def _interleave(self, bits: np.ndarray) -> np.ndarray:
        return bits.reshape(self.num_bits_per_symbol, -1).T.ravel()


def _full_buffer_encoder(k: int, n: int) -> LDPC5GEncoder:
    """Sionna's encoder that emits the whole circular buffer of base graph 2, without fillers.

    Built at the lowest rate that Sionna accepts and then told to emit more: its last step
    is a slice of the full codeword, and base graph and lifting depend on k alone.
    """
    encoder = LDPC5GEncoder(k, 5 * k)
    num_fillers = encoder.k_ldpc - k
    encoder._n = min(n, encoder.n_ldpc - num_fillers - 2 * encoder.z)
    encoder._coderate = k / encoder._n
    return encoder


@functools.lru_cache(maxsize=64)
def get_ldpc_code(k: int, n: int, num_bits_per_symbol: int) -> LdpcCode:
    """The code, its encoder and its schedule, built once per process."""
    return LdpcCode(k, n, num_bits_per_symbol)


@dataclass(frozen=True)
class LayeredSchedule:
    """Static tables of layered decoding for one rate-matched code.

    A column of the base matrix is kept in the *frame* of the row that last wrote it: slot ``j``
    holds bit ``(j + shift) mod z``. A row reads its ``z`` neighbours at one relative shift and
    writes them back at zero, so the decoder never rotates anything: all rotations are in these
    tables. A slot is ``column * z + j``, with ``j`` in the column's final frame.

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


def _order_rows(rows: list[np.ndarray], erased: set[int]) -> list[int]:
    """Decoding order: first the row with the fewest columns that are still erased.

    A row with one erased column recovers it, a row with two recovers neither. Rows in this order
    take the fewest iterations.
    """
    left, order, erased = list(range(len(rows))), [], set(erased)
    while left:
        unknown = {r: len(erased.intersection(rows[r].tolist())) for r in left}
        # Rows without an erased column can wait: only rows that recover one help the others.
        row = min(left, key=lambda r: (unknown[r] != 1, unknown[r], r))
        if unknown[row] <= 1:
            erased.difference_update(rows[row].tolist())
        order.append(row)
        left.remove(row)
    return order


def build_schedule(encoder: Any) -> LayeredSchedule:
    """Layered decoding tables of a Sionna encoder, with the rate matching of 38.212, 5.4.2 undone.

    Parameters: ``encoder`` : ``sionna.phy.fec.ldpc.LDPC5GEncoder`` (before any repetition).
    Output: ``LayeredSchedule``, without the columns that hold filler bits only.
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
