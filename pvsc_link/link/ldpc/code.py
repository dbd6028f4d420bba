"""5G LDPC code of one block: TS 38.212 encoding, rate matching, interleaving, repetition."""

import functools

import numpy as np
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GEncoder

#: Below this code rate Sionna's encoder refuses, and 38.212's circular buffer wraps around.
LOWEST_MOTHER_RATE = 1 / 5

#: Magnitude of the LLR of a bit that the receiver knows (decoders clip far below it).
CERTAIN_LLR = 100.0


class LdpcCode:
    """5G LDPC code with k information and n coded bits (TS 38.212, 5.3.2, 5.4.2.1 and 5.4.2.2).

    ``encoder`` is Sionna's; it emits ``mother_n`` bits. For r >= 1/5 these are the n coded bits,
    interleaved. For r < 1/5 base graph 2 has no more than 50 Z coded bits; 38.212 reads the
    circular buffer of all of them that are not filler (Sionna's encoder never reads past 5 k)
    again from its start, and the interleaver works on the n bits after that.

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
        self._order = self.transmit_order(0)
        self._deinterleaver = np.argsort(self._interleave(np.arange(n)))

    def encode(self, b: tf.Tensor) -> tf.Tensor:
        """Coded bits of information bits. [batch, k] -> [batch, n], ``tf.float32``."""
        return self.rate_match(self.encoder(b))

    def rate_match(self, c: tf.Tensor) -> tf.Tensor:
        """The n bits on the air from the ``mother_n`` that ``encoder`` emits. [batch, ...]."""
        return tf.gather(c, self._order, axis=-1) if self.is_repeated else c

    def combine(self, llr: tf.Tensor) -> tf.Tensor:
        """LLRs of the bits that ``encoder`` emits; those of repeated bits are added.

        [batch, n] -> [batch, mother_n], ``tf.float32``.
        """
        if not self.is_repeated:
            return llr
        llr = tf.gather(llr, self._deinterleaver, axis=-1)
        num_passes = -(-self.n // self.mother_n)
        llr = tf.pad(llr, [[0, 0], [0, num_passes * self.mother_n - self.n]])
        return tf.reduce_sum(tf.reshape(llr, [-1, num_passes, self.mother_n]), axis=1)

    def transmit_order(self, num_fillers: int) -> np.ndarray:
        """Which emitted bit goes where on the air, if the last information bits are known fillers.

        Bit selection skips fillers, as 38.212 5.4.2.1 does with <NULL>, goes on from the start
        of the buffer to complete the last QAM symbol, and is then interleaved (5.4.2.2).

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

    def select_shortened(self, c: np.ndarray, num_fillers: int) -> np.ndarray:
        """Bits on the air of one block with fillers. [mother_n] -> [num_sent_bits]."""
        return c[self.transmit_order(num_fillers)]

    def combine_shortened(self, llr: np.ndarray, num_fillers: int) -> np.ndarray:
        """The adjoint: LLRs of the bits that ``encoder`` emits, fillers certainly zero.

        Input: ``llr`` : [num_sent_bits or more], float32; what follows the sent bits is ignored.
        Output: [mother_n], float32.
        """
        order = self.transmit_order(num_fillers)
        combined = np.zeros(self.mother_n, np.float32)
        np.add.at(combined, order, llr[: len(order)])
        combined[self.filler_positions(num_fillers)] = -CERTAIN_LLR
        return combined

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
    """The code, built once: Sionna takes a tenth of a second for it."""
    return LdpcCode(k, n, num_bits_per_symbol)
