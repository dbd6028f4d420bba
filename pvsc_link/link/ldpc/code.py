"""The 5G LDPC code of one block: rate matching, interleaving, repetition, decoding schedule.

TS 38.212, 5.3.2 (code), 5.4.2.1 (bit selection) and 5.4.2.2 (interleaving).
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GEncoder

from pvsc_link.link.ldpc.base_graph import (
    LOWEST_MOTHER_RATE,
    NUM_PUNCTURED_COLUMNS,
    MotherCode,
    mother_code,
)
from pvsc_link.link.ldpc.encoder import QuasiCyclicEncoder

#: Magnitude of the LLR of a bit that the receiver knows. Decoders clip LLRs well below it.
CERTAIN_LLR = 100.0


class LdpcCode:
    """5G LDPC code with k information and n coded bits (TS 38.212, 5.3.2, 5.4.2.1 and 5.4.2.2).

    The encoder emits ``mother_n`` bits. For r >= 1/5 these are the n coded bits of redundancy
    version 0, interleaved. For r < 1/5 base graph 2 has no more than 50 Z coded bits: 38.212 then
    reads the circular buffer of all of them that are not filler again from its start, and the
    interleaver works on the n bits after that; the encoder emits the buffer, without interleaving.

    A block that failed is sent again as another redundancy version (``redundancy``): n bits of
    the circular buffer from another start. The receiver adds up the LLRs of all receptions in the
    buffer (``add_to_buffer``) and decodes them with the code that it has heard by then (``heard``).

    Parameters
    ----------
    k : int, information bits, CRC included
    n : int, coded bits, a multiple of ``num_bits_per_symbol``
    num_bits_per_symbol : int

    Raises ``InputError`` for a k or a code rate that no base graph has.
    """

    def __init__(self, k: int, n: int, num_bits_per_symbol: int):
        self.k, self.n, self.num_bits_per_symbol = k, n, num_bits_per_symbol
        self.mother = mother_code(k, k / n)
        self.is_repeated = k / n < LOWEST_MOTHER_RATE
        self._buffer = self.mother.circular_buffer(k)
        self.mother_n: int = min(n, len(self._buffer))
        #: The mother bit that each emitted bit is, [mother_n], int64.
        self.emitted = self._buffer[: self.mother_n]
        if not self.is_repeated:
            self.emitted = self._interleave(self.emitted)
        self._emit = QuasiCyclicEncoder(self.mother, self.emitted)
        self._heard: dict[frozenset[int], HeardCode] = {}

    @property
    def z(self) -> int:
        """Lifting size."""
        return self.mother.z

    @property
    def rate(self) -> float:
        """Information bits per bit that the encoder emits."""
        return self.k / self.mother_n

    @functools.cached_property
    def encoder(self) -> LDPC5GEncoder:
        """Sionna's encoder of the same bits, built when first asked for."""
        order = None if self.is_repeated else self.num_bits_per_symbol
        return _sionna_encoder(self.k, self.mother_n, order, self.mother)

    @functools.cached_property
    def _emit_compiled(self) -> Any:
        return tf.function(self.encoder, jit_compile=True, autograph=False)

    @functools.cached_property
    def schedule(self) -> "LayeredSchedule":
        """The tables of layered decoding, built once."""
        rows = self.mother.rows_of_first(int(self.emitted.max()))
        return build_schedule(self.mother, self.k, self.emitted, rows)

    def emit(self, b: Any) -> Any:
        """The bits of the encoder. [batch, k] -> [batch, mother_n].

        Of an array, ``np.uint8``, by ``QuasiCyclicEncoder``; of a tensor, ``tf.float32``, by
        Sionna's encoder, compiled by XLA. The bits are the same.
        """
        return self._emit_compiled(b) if tf.is_tensor(b) else self._emit(b)

    @property
    def buffer_n(self) -> int:
        """Bits of the circular buffer, without fillers."""
        return len(self._buffer)

    @functools.cached_property
    def _emit_buffer(self) -> QuasiCyclicEncoder:
        return QuasiCyclicEncoder(self.mother, self._buffer)

    def redundancy(self, b: np.ndarray, rv: int) -> np.ndarray:
        """Coded bits of a redundancy version in the order of transmission.

        Version 0 is what ``encode`` gives. Input: ``b`` : [batch, k], uint8; ``rv`` : 0 to 3.
        Output: [batch, n], uint8. Raises ``InputError`` for another ``rv``.
        """
        return self._interleave(self._emit_buffer(b)[:, self._read_from(rv)])

    def add_to_buffer(self, buffer: np.ndarray, llr: np.ndarray, rv: int) -> None:
        """Add the LLRs of one reception to those of the receptions before.

        Input: ``buffer`` : [batch, buffer_n], float32, changed in place; ``llr`` : [batch, n],
        float32, of the bits that ``redundancy(b, rv)`` gives.
        """
        read, in_order = self._read_from(rv), self._deinterleave(llr)
        for first in range(0, self.n, self.buffer_n):  # no place twice in one pass
            part = slice(first, first + self.buffer_n)
            buffer[:, read[part]] += in_order[:, part]

    def heard(self, rvs: Iterable[int]) -> "HeardCode":
        """The code of the bits that the redundancy versions ``rvs`` sent; built once per set.

        Its decoders (``get_decoder``) take the LLRs of the whole circular buffer.
        """
        rvs = frozenset(rvs)
        if rvs not in self._heard:
            self._heard[rvs] = HeardCode(self, rvs)
        return self._heard[rvs]

    def _read_from(self, rv: int) -> np.ndarray:
        """Places in the circular buffer of the bits of a redundancy version, before interleaving.

        Output: [n], int64.
        """
        return (self.mother.start(rv, self.k) + np.arange(self.n)) % self.buffer_n

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
        """LLRs of the bits that the encoder emits: the adjoint of ``select``.

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
        Output: [num_sent_bits], int32, places among the emitted bits.
        """
        is_filler = self._is_filler_in_buffer(num_fillers)
        kept = np.flatnonzero(~is_filler)
        num_sent = self.n - np.count_nonzero(is_filler[np.arange(self.n) % self.mother_n])
        order = self.num_bits_per_symbol
        num_sent = -(-num_sent // order) * order
        sent = self._interleave(kept[np.arange(num_sent) % len(kept)])
        return (sent if self.is_repeated else self._emitted_at[sent]).astype(np.int32)

    def filler_positions(self, num_fillers: int) -> np.ndarray:
        """Which emitted bits are fillers. Output: [mother_n], bool."""
        is_filler = self._is_filler_in_buffer(num_fillers)
        return is_filler if self.is_repeated else self._interleave(is_filler)

    @property
    def _emitted_at(self) -> np.ndarray:
        return self._deinterleave(np.arange(self.n))

    def _is_filler_in_buffer(self, num_fillers: int) -> np.ndarray:
        # The buffer lacks the first 2 Z columns: its bit j is information bit j + 2 Z, up to k.
        info_index = np.arange(self.mother_n) + NUM_PUNCTURED_COLUMNS * self.z
        return (info_index >= self.k - num_fillers) & (info_index < self.k)

    def _interleave(self, bits: np.ndarray) -> np.ndarray:
        rows = bits.reshape(*bits.shape[:-1], self.num_bits_per_symbol, -1)
        return rows.swapaxes(-1, -2).reshape(bits.shape)

    def _deinterleave(self, bits: np.ndarray) -> np.ndarray:
        columns = bits.reshape(*bits.shape[:-1], -1, self.num_bits_per_symbol)
        return columns.swapaxes(-1, -2).reshape(bits.shape)


class HeardCode:
    """A code as a decoder sees it after some redundancy versions: made by ``LdpcCode.heard``.

    It is to the decoders what an ``LdpcCode`` is; the LLRs that they take are those of the circular
    buffer in its order, 0 where nothing was received.

    ``k`` : information bits; ``mother_n`` : bits of the circular buffer; ``rate`` : information
    bits per bit that was sent at least once.
    """

    def __init__(self, code: LdpcCode, rvs: frozenset[int]):
        self.k, self.mother_n = code.k, code.buffer_n
        self._mother, self._buffer = code.mother, code._buffer
        sent = np.unique(np.concatenate([code._read_from(rv) for rv in rvs]))
        self._sent = code._buffer[sent]
        self.rate = code.k / len(sent)

    @functools.cached_property
    def encoder(self) -> LDPC5GEncoder:
        """Sionna's encoder of the circular buffer, built when first asked for."""
        return _sionna_encoder(self.k, self.mother_n, None, self._mother)

    @functools.cached_property
    def schedule(self) -> "LayeredSchedule":
        """The tables of layered decoding, without the rows that only serve bits never sent."""
        rows = self._mother.rows_of_heard(self._mother.heard_columns(self._sent))
        return build_schedule(self._mother, self.k, self._buffer, rows, heard=self._sent)


def _sionna_encoder(k: int, n: int, order: int | None, mother: MotherCode) -> LDPC5GEncoder:
    """Sionna's encoder that emits the first n bits of the circular buffer, without fillers.

    Built at the lowest rate that Sionna accepts for the base graph where n is longer than that, and
    then told to emit more: its last step is a slice of the full codeword, and the lifting depends
    on k and the base graph alone.

    Parameters: ``order`` : bits per symbol of the interleaver; None: the order of the buffer.
    """
    longest = (3 if mother.base_graph == 1 else 5) * k
    with tf.init_scope():  # outside of any graph, because it is kept
        encoder = LDPC5GEncoder(
            k, min(n, longest), num_bits_per_symbol=order, bg=f"bg{mother.base_graph}"
        )
    encoder._n, encoder._coderate = n, k / n
    return encoder


@functools.lru_cache(maxsize=1024)
def get_ldpc_code(k: int, n: int, num_bits_per_symbol: int) -> LdpcCode:
    """The code, its encoder and its schedule, built once while it is in use."""
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
    ``received_slot`` : [n], int32, slot of each bit whose LLR the decoder takes
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


def build_schedule(
    mother: MotherCode,
    k: int,
    received: np.ndarray,
    rows: np.ndarray,
    heard: np.ndarray | None = None,
) -> LayeredSchedule:
    """Layered decoding tables, with the rate matching of 38.212, 5.4.2 undone.

    Parameters
    ----------
    mother : MotherCode
    k : int, information bits
    received : [n], int64, the mother bits whose LLRs the decoder takes, in order
    rows : [num_rows], int64, rows of the base graph that take part, in ascending order
    heard : int64, mother bits whose LLRs can be other than 0; None: all that are received

    Output: ``LayeredSchedule``, without the columns that hold filler bits only.
    """
    z = mother.z
    num_whole, num_partial = k // z, -(-k // z)  # information columns: full ones, with a part
    is_kept = np.ones(mother.num_columns, bool)
    is_kept[num_partial : mother.num_info_columns] = False
    is_kept[int(received.max()) // z + 1 :] = False
    is_kept[mother.num_info_columns :][rows] = True
    kept = np.flatnonzero(is_kept)
    place = np.full(mother.num_columns, -1)
    place[kept] = np.arange(len(kept))

    is_heard = mother.heard_columns(received if heard is None else heard)
    is_heard[num_whole:num_partial] = True
    base = mother.shifts[np.ix_(rows, kept)]
    column, absolute, row_start = _in_decoding_order(base, is_heard[kept])
    final = np.zeros(len(kept), np.int64)
    final[column] = absolute  # the last assignment of a repeated index stays
    frame, shift = final.tolist(), np.empty_like(absolute)
    for edge, (c, s) in enumerate(zip(column.tolist(), absolute.tolist(), strict=True)):
        shift[edge], frame[c] = (s - frame[c]) % z, s

    def slot(bits: np.ndarray) -> np.ndarray:
        c = place[bits // z]
        return (c * z + (bits % z - final[c]) % z).astype(np.int32)

    return LayeredSchedule(
        z=z,
        num_columns=len(kept),
        k=k,
        row_start=row_start.astype(np.int32),
        column=column.astype(np.int32),
        shift=shift.astype(np.int32),
        parity_shift=((absolute - final[column]) % z).astype(np.int32),
        received_slot=slot(received),
        known_slot=slot(np.arange(k, num_partial * z)),
        info_slot=slot(np.arange(k)),
    )


def _in_decoding_order(
    base: np.ndarray, is_heard: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column and shift of every edge, [num_edges], and first edge of every row, [num_rows + 1]."""
    rows = [np.flatnonzero(row >= 0) for row in base]
    order = _order_rows(rows, set(np.flatnonzero(~is_heard).tolist()))
    column = np.concatenate([rows[r] for r in order])
    absolute = np.concatenate([base[r, rows[r]] for r in order])
    return column, absolute, np.cumsum([0] + [len(rows[r]) for r in order])
