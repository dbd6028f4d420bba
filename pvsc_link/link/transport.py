"""Code block segmentation: payload bits to blocks of k - 24 bits with a CRC24B each, and back.

TS 38.212, 5.2.2 attaches a CRC24B (5.1) to every code block of a segmented transport block. This
checksum tells which block failed. The CRC24A over the whole transport block is left out, because
frames are lost block by block here.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from sionna.phy.fec.crc import CRCDecoder, CRCEncoder

NUM_CRC_BITS = 24


@dataclass(frozen=True)
class Segmentation:
    """How ``num_bits`` payload bits are divided into blocks of ``block_payload`` bits.

    ``num_fillers`` : known zero bits that fill up the last block.
    """

    num_bits: int
    block_payload: int

    @property
    def num_blocks(self) -> int:
        return -(-self.num_bits // self.block_payload)

    @property
    def num_fillers(self) -> int:
        return self.num_blocks * self.block_payload - self.num_bits

    @property
    def block_num_bits(self) -> np.ndarray:
        """Payload bits of each block. Output: [num_blocks], int64."""
        sizes = np.full(self.num_blocks, self.block_payload)
        sizes[-1:] -= self.num_fillers
        return sizes

    def split(self, bits: np.ndarray) -> np.ndarray:
        """Payload blocks; the fillers of the last one are in front, where the CRC ignores them.

        Leading zeros do not change a CRC register that starts at zero, so the generator matrix of
        the full length serves the short block as well.

        Input: ``bits`` : [num_bits], uint8. Output: [num_blocks, block_payload], uint8.
        """
        start_of_last = (self.num_blocks - 1) * self.block_payload
        fillers = np.zeros(self.num_fillers, np.uint8)
        padded = np.concatenate([bits[:start_of_last], fillers, bits[start_of_last:]])
        return padded.reshape(self.num_blocks, self.block_payload)

    def join(self, blocks: np.ndarray) -> np.ndarray:
        """Payload bits from blocks, fillers dropped: the inverse of ``split``."""
        if not self.num_blocks:
            return np.zeros(0, np.uint8)
        return np.concatenate([blocks[:-1].ravel(), blocks[-1, self.num_fillers :]])


class BlockCrc:
    """CRC24B (TS 38.212 5.1) of whole blocks, by Sionna's encoder and decoder."""

    def __init__(self) -> None:
        self._encoder = CRCEncoder("CRC24B")
        self._decoder = CRCDecoder(self._encoder)

    def attach(self, payload: np.ndarray, num_fillers_of_last: int = 0) -> np.ndarray:
        """Information bits: payload, CRC, and the fillers of the last row moved to its end.

        There they are systematic bits behind the punctured columns, which need not be sent.

        Input: ``payload`` : [batch, k - 24], uint8, as ``Segmentation.split`` makes it;
        ``num_fillers_of_last`` : int. Output: [batch, k], uint8.
        """
        b = self._encoder(tf.constant(payload.astype(np.float32))).numpy().astype(np.uint8)
        b[-1] = np.roll(b[-1], -num_fillers_of_last)
        return b

    def check(self, b_hat: np.ndarray, num_fillers_of_last: int) -> tuple[np.ndarray, np.ndarray]:
        """Payload and CRC result of decoded blocks.

        Input: ``b_hat`` : [batch, k]; ``num_fillers_of_last`` : int.
        Output: payload : [batch, k - 24], uint8, as ``Segmentation.split`` makes it;
        ok : [batch], bool.
        """
        b_hat = np.array(b_hat, np.float32)
        b_hat[-1] = np.roll(b_hat[-1], num_fillers_of_last)
        payload, ok = self._decoder(tf.constant(b_hat))
        return payload.numpy().astype(np.uint8), ok.numpy()[:, 0]
