"""Code block segmentation: payload bits to blocks of k - 24 bits with a CRC24B each, and back.

TS 38.212, 5.2.2 attaches a CRC24B (5.1) to every code block of a segmented transport block. This
checksum tells which block failed. The CRC24A over the whole transport block is left out, because
frames are lost block by block here. For the same reason a single block has a CRC24B, and each block
has the base graph that 7.2.2 gives a transport block of its size and rate.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import tensorflow as tf
from sionna.phy.fec.crc import CRCDecoder, CRCEncoder

from pvsc_link.link.mcs import NUM_CRC_BITS, Mcs


@dataclass(frozen=True)
class Segmentation:
    """How ``num_bits`` payload bits are divided into ``num_blocks`` blocks.

    ``k`` : information bits of a block, CRC included; ``n`` : coded bits of a block.
    ``is_shortened`` : whether the known zeros that fill up the last block are not sent; they are
    information bits like any other else.
    """

    num_bits: int
    num_blocks: int
    k: int
    n: int
    is_shortened: bool = False

    @property
    def block_payload(self) -> int:
        """Payload bits of a block, those that fill up the last one included."""
        return self.k - NUM_CRC_BITS

    @property
    def num_fillers(self) -> int:
        """Known zero bits that fill up the last block."""
        return self.num_blocks * self.block_payload - self.num_bits

    @property
    def num_unsent(self) -> int:
        """Of these, bits that are not sent."""
        return self.num_fillers if self.is_shortened else 0

    @property
    def block_num_bits(self) -> np.ndarray:
        """Payload bits of each block. Output: [num_blocks], int64."""
        sizes = np.full(self.num_blocks, self.block_payload)
        sizes[-1:] -= self.num_fillers
        return sizes

    def split(self, bits: tf.Tensor) -> tf.Tensor:
        """Payload blocks; the fillers of the last one are in front, where the CRC ignores them.

        Leading zeros do not change a CRC register that starts at zero, so the generator matrix of
        the full length serves the short block as well.

        Input: ``bits`` : [batch, num_bits]. Output: [batch, num_blocks, block_payload].
        """
        start = self._start_of_last
        last = tf.pad(bits[:, start:], [[0, 0], [self.num_fillers, 0]])
        padded = tf.concat([bits[:, :start], last], axis=1)
        return tf.reshape(padded, [tf.shape(bits)[0], self.num_blocks, self.block_payload])

    def join(self, blocks: tf.Tensor) -> tf.Tensor:
        """Payload bits from blocks, fillers dropped: the inverse of ``split``."""
        bits = tf.reshape(blocks, [tf.shape(blocks)[0], self.num_blocks * self.block_payload])
        start = self._start_of_last
        return tf.concat([bits[:, :start], bits[:, start + self.num_fillers :]], axis=1)

    @property
    def _start_of_last(self) -> int:
        return max(self.num_blocks - 1, 0) * self.block_payload


def equal_blocks(num_bits: int, mcs: Mcs) -> Segmentation:
    """Blocks of one size at the rate of an MCS (TS 38.212, 5.2.2 and 5.4.2.1).

    C is the smallest number of blocks with n' <= n of ``mcs``, where a block has
    k' = ceil(num_bits / C) + 24 information bits and n' = Q ceil(k' / (R Q)) coded bits: code rate
    R, Q bits per symbol. At most C - 1 bits are missing to C equal blocks: zeros in front of the
    last block's payload.
    """
    num_blocks = -(-num_bits // (mcs.k - NUM_CRC_BITS))
    if not num_blocks:
        return Segmentation(0, 0, mcs.k, mcs.n)
    k = -(-num_bits // num_blocks) + NUM_CRC_BITS
    return Segmentation(num_bits, num_blocks, k, coded_length(k, mcs))


def coded_length(k: int, mcs: Mcs) -> int:
    """Fewest coded bits in whole symbols that carry k information bits at the rate of an MCS."""
    bits_per_use = Fraction(mcs.target_coderate) * mcs.num_bits_per_symbol
    return mcs.num_bits_per_symbol * -(-k * bits_per_use.denominator // bits_per_use.numerator)


def full_blocks(num_bits: int, mcs: Mcs) -> Segmentation:
    """Full blocks of an MCS, the last of which is shortened and keeps all its parity bits."""
    num_blocks = -(-num_bits // (mcs.k - NUM_CRC_BITS))
    return Segmentation(num_bits, num_blocks, mcs.k, mcs.n, is_shortened=True)


#: Rules of segmentation, by the values of the key ``segmentation`` of a scenario's ``link``.
SEGMENTATIONS = {"equal": equal_blocks, "shortened": full_blocks}


class BlockCrc:
    """CRC24B (TS 38.212 5.1) of whole blocks, by Sionna's encoder and decoder."""

    def __init__(self) -> None:
        self._encoder = CRCEncoder("CRC24B", precision="single")
        # It has an encoder of its own, since Sionna's keeps the matrix of one length.
        self._decoder = CRCDecoder(CRCEncoder("CRC24B", precision="single"), precision="single")

    def attach(self, payload: tf.Tensor, num_fillers_of_last: int = 0) -> tf.Tensor:
        """Information bits: payload, CRC, and the fillers of the last block moved to its end.

        There they are systematic bits behind the punctured columns, which need not be sent.

        Input: ``payload`` : [batch, num_blocks, k - 24], as ``Segmentation.split`` makes it;
        ``num_fillers_of_last`` : int. Output: [batch, num_blocks, k], ``tf.float32``.
        """
        return _roll_last(self._encoder(tf.cast(payload, tf.float32)), -num_fillers_of_last)

    def check(self, b_hat: tf.Tensor, num_fillers_of_last: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Payload and CRC result of decoded blocks.

        Input: ``b_hat`` : [batch, num_blocks, k], ``tf.float32``; NaN where nothing was decoded;
        ``num_fillers_of_last`` : int.
        Output: payload : [batch, num_blocks, k - 24], ``tf.float32``, as ``Segmentation.split``
        makes it; ok : [batch, num_blocks], ``tf.bool``. A block with a NaN is zeros and not ok.
        """
        is_decoded = tf.reduce_all(tf.math.is_finite(b_hat), axis=-1, keepdims=True)
        b_hat = _roll_last(tf.where(is_decoded, b_hat, 0.0), num_fillers_of_last)
        payload, ok = self._decoder(b_hat)
        return payload, tf.logical_and(ok, is_decoded)[..., 0]


def _roll_last(blocks: tf.Tensor, shift: int) -> tf.Tensor:
    if not shift:
        return blocks
    last = tf.roll(blocks[:, -1:], shift, axis=-1)
    return tf.concat([blocks[:, :-1], last], axis=1)
