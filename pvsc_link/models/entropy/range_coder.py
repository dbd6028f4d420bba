"""Range coding of integers under integer pmf tables: the same bits on every device.

A table holds counts >= 1 that sum to ``TOTAL`` = 2 ** 16. Integers leave no room for the float
rounding that makes a decoder on another machine lose step.

A message is the shortest string of bytes whose every continuation decodes to the same symbols,
so anything may follow it (filler bits, another stream), and

    information <= 8 * len(message) <= information + 9 bits + rounding of the coder,

the rounding being far below a thousandth of a bit a symbol. A decoded message is coded again and
compared: a message that no encoder would have produced is refused. This finds nearly every
truncation and most bit errors. The others leave a legal message; the CRC of the link finds those.
"""

from collections.abc import Iterable
from typing import TypeAlias

import constriction
import numpy as np

from pvsc_link.types import InputError

#: Sum of the counts of a table.
TOTAL = 2**16

#: Symbols [n], int, from 0 up, and their table [m] or tables [n, m], int counts.
Part: TypeAlias = tuple[np.ndarray, np.ndarray]

_STATE_BITS, _WORD_BITS = 64, 32


class SideInformationError(ValueError):
    """A side-information bitstream that no encoder has produced: truncated or corrupted."""


def check_counts(counts: np.ndarray) -> np.ndarray:
    """``counts`` as int64 [..., m]. Raises ``InputError`` unless >= 1 and summing to TOTAL."""
    counts = np.asarray(counts)
    whole = np.issubdtype(counts.dtype, np.integer)
    if not whole or counts.size == 0 or counts.min() < 1 or (counts.sum(-1) != TOTAL).any():
        sums = np.unique(counts.sum(-1))[:4].tolist() if counts.ndim else counts
        raise InputError(
            "not a table of a range coder",
            found=f"{counts.dtype}, sums {sums}",
            allowed=f"integer counts >= 1 that sum to {TOTAL} along the last axis",
            remedy="Make the table with quantise_pmf.",
        )
    return counts.astype(np.int64)


def quantise_pmf(probabilities: np.ndarray) -> np.ndarray:
    """Integer tables of probabilities: [..., m], int64, each count >= 1, sums TOTAL.

    Equal floats give equal tables. Floats that two devices computed differently may not: then
    compute the table on one of them, or in integers.

    Input: ``probabilities`` : [..., m], float, non-negative, any positive sum, m < TOTAL.
    Raises ``InputError`` for NaN, infinite, negative or all-zero rows.
    """
    p = np.asarray(probabilities, np.float64)
    total = p.sum(-1, keepdims=True)
    if not np.isfinite(p).all() or (p < 0).any() or (total <= 0).any():
        raise InputError(
            "not a probability table",
            found=f"minimum {p.min()}, sums {total.min()} to {total.max()}",
            allowed="finite, non-negative rows with a positive sum",
            remedy="Check the prior's output for NaN.",
        )
    counts = np.floor(p / total * (TOTAL - p.shape[-1])).astype(np.int64) + 1
    largest = counts.argmax(-1)[..., None]
    missing = TOTAL - counts.sum(-1, keepdims=True)
    np.put_along_axis(counts, largest, np.take_along_axis(counts, largest, -1) + missing, -1)
    return counts


def information(parts: Iterable[Part]) -> float:
    """Ideal length of the message in bits: -log2 of the probability of its symbols."""
    return float(sum(_bits(symbols, check_counts(counts)) for symbols, counts in parts))


def _bits(symbols: np.ndarray, counts: np.ndarray) -> float:
    rows = counts[symbols] if counts.ndim == 1 else counts[np.arange(len(symbols)), symbols]
    return float(np.sum(np.log2(TOTAL) - np.log2(rows)))


def _model(counts: np.ndarray) -> tuple:
    """Arguments for constriction: a fixed model, or a family with its tables.

    Counts over 2 ** 16, and sums of these, are exact in float64, so every device scales the same
    numbers to the coder's 2 ** 24. ``perfect`` would search the best rounding of each table, which
    saves less than 1e-4 bit a symbol and takes 200 times as long.
    """
    if counts.ndim == 1:
        return (constriction.stream.model.Categorical(counts / TOTAL, perfect=False),)
    return constriction.stream.model.Categorical(perfect=False), counts / TOTAL


def encode(parts: Iterable[Part]) -> bytes:
    """Code symbols under their tables.

    Input: ``parts`` : (symbols [n], counts [m] or [n, m]) in coding order.
    Output: the message (module docstring); empty when every symbol is certain. Raises
    ``InputError`` for a symbol outside its table, or a bad table.
    """
    encoder = constriction.stream.queue.RangeEncoder()
    silent = True
    for symbols, table in parts:
        counts, symbols = check_counts(table), np.asarray(symbols)
        size = counts.shape[-1]
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < size:
            raise InputError(
                "symbol outside its table",
                found=(int(symbols.min()), int(symbols.max())),
                allowed=f"0 to {size - 1}",
                remedy="Clamp it, or use a wider table.",
            )
        if size > 1 and symbols.size:
            silent = False
            encoder.encode(np.ascontiguousarray(symbols, np.int32), *_model(counts))
    return b"" if silent else _shortest(encoder)


def _shortest(encoder: constriction.stream.queue.RangeEncoder) -> bytes:
    """Shortest bytes whose continuations all lie in the interval [lower, lower + width)."""
    num_words, (lower, width) = encoder.pos()
    words = encoder.get_compressed()
    bits = _WORD_BITS * num_words + _STATE_BITS
    point = int.from_bytes(words.astype(">u4").tobytes(), "big")
    point <<= bits - _WORD_BITS * len(words)
    # ``pos`` gives the interval modulo 2 ** 64; the sealed message is a point inside it.
    lower = point - (point - lower) % 2**_STATE_BITS
    for num_bytes in range(max(0, (bits - width.bit_length()) // 8), bits // 8 + 1):
        cell = 1 << (bits - 8 * num_bytes)
        first = -(-lower // cell)
        if (first + 1) * cell <= lower + width:
            return first.to_bytes(num_bytes, "big")
    raise AssertionError("an interval of a range coder holds at least one point")


class MessageReader:
    """Reads a message part by part, where the tables of a part depend on the parts before.

    Parameters: ``message`` : output of ``encode``.
    """

    def __init__(self, message: bytes):
        # The coder reads ahead: give it two words of zeros, one continuation like any other.
        filler = b"\0" * (-len(message) % 4 + 8)
        words = np.frombuffer(message + filler, ">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._message = message
        self._parts: list[Part] = []

    def read(self, num: int, table: np.ndarray) -> np.ndarray:
        """The next ``num`` symbols, int32 [num], under counts [m] or [num, m].

        Raises ``SideInformationError`` where no symbol fits, ``InputError`` for a bad table.
        """
        counts = check_counts(table)
        try:
            symbols = _decode_part(self._decoder, num, counts)
        except AssertionError as error:
            raise SideInformationError(f"range-coded message is corrupt: {error}") from error
        self._parts.append((symbols, counts))
        return symbols

    def finish(self) -> None:
        """Raise ``SideInformationError`` unless ``encode`` makes this message of what was read.

        It also finds nearly every decoder whose tables were not the encoder's: what it read
        then carries another amount of information than the message has bits.
        """
        if encode(self._parts) != self._message:
            size = len(self._message)
            raise SideInformationError(
                f"range-coded message of {size} bytes is truncated or corrupt"
            )


def _decode_part(
    decoder: constriction.stream.queue.RangeDecoder, num: int, counts: np.ndarray
) -> np.ndarray:
    if counts.shape[-1] == 1 or num == 0:
        return np.zeros(num, np.int32)
    model = _model(counts)
    return np.asarray(decoder.decode(*model, num) if len(model) == 1 else decoder.decode(*model))
