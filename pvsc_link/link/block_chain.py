"""From payload blocks to LLRs in one traced function: CRC, LDPC, QAM, channel, equalizer, LLR."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from sionna.phy.mapping import Mapper

from pvsc_link.link import channels
from pvsc_link.link.csi import receiver_knowledge
from pvsc_link.link.demapping import QamDemapper
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.ldpc_code import LdpcCode
from pvsc_link.link.point_tensors import PointTensors
from pvsc_link.link.scrambling import descramble, scramble
from pvsc_link.link.segmentation import NUM_CRC_BITS, BlockCrc
from pvsc_link.units import db_to_linear, noise_variance

#: Blocks per call of the traced function. Fixed, so that nothing retraces; short calls are padded.
BATCH_SIZE = 32

#: Magnitude of the LLR of a bit that the receiver knows (decoders clip far below it).
CERTAIN_LLR = 100.0


class LastRow(NamedTuple):
    """What is special about the last row of a batch: it may be a shortened block."""

    num_fillers: np.ndarray  # [], int32
    order: np.ndarray  # [n], int32: emitted bit in each place on the air; mother_n: nothing sent
    is_filler: np.ndarray  # [mother_n], bool


def last_row(code: LdpcCode, num_fillers: int) -> LastRow:
    """Bit selection of a block whose last ``num_fillers`` information bits are known zeros."""
    sent = code.transmit_order(num_fillers)
    order = np.full(code.n, code.mother_n, np.int32)
    order[: len(sent)] = sent
    return LastRow(np.array(num_fillers, np.int32), order, code.filler_positions(num_fillers))


class BlockChain:
    """Transmitter, channel and soft receiver of a batch of blocks, traced once.

    Bits are scrambled (TS 38.211, 7.3.1.1), so that symbols have unit power on average and
    errors do not depend on the payload. LLRs are exact (not max-log), one noise variance each.

    Parameters
    ----------
    code : LdpcCode
    channel : str, key of ``channels.CHANNELS``
    equalizer : callable of ``equalizers.EQUALIZERS``
    csi_aware : bool, whether equalizer and LLRs know the variance of the CSI error

    Input
    -----
    payload : [BATCH_SIZE, k - 24], tf.float32; fillers of the last row in front
    block_index : [BATCH_SIZE], tf.int32, position of each block in the stream
    last : LastRow
    point : PointTensors
    seed : [2], tf.uint32

    Output
    ------
    llr : [BATCH_SIZE, mother_n], tf.float32, log p(1)/p(0) of the bits that the encoder emits
    """

    def __init__(self, code: LdpcCode, channel: str, equalizer: Equalizer, csi_aware: bool):
        self._code, self._channel = code, channel
        self._equalizer, self._csi_aware = equalizer, csi_aware
        self._crc = BlockCrc()
        self._mapper = Mapper("qam", code.num_bits_per_symbol)
        self._demapper = QamDemapper(code.num_bits_per_symbol)
        self.trace_count = 0
        self._traced = tf.function(
            self._run,
            jit_compile=True,
            autograph=False,  # no Python control flow to convert: twice as fast to trace
            input_signature=self._signature(code),
        )

    def __call__(
        self,
        payload: np.ndarray,
        block_index: np.ndarray,
        last: LastRow,
        point: PointTensors,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        return self._traced(payload.astype(np.float32), block_index, *last, *point, seed)

    @staticmethod
    def _signature(code: LdpcCode) -> list[tf.TensorSpec]:
        return [
            tf.TensorSpec([BATCH_SIZE, code.k - NUM_CRC_BITS], tf.float32),
            tf.TensorSpec([BATCH_SIZE], tf.int32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([code.n], tf.int32),
            tf.TensorSpec([code.mother_n], tf.bool),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([], tf.float32),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([2], tf.uint32),
        ]

    def _run(self, payload, block_index, num_fillers, order, is_filler, *point_and_seed):
        self.trace_count += 1
        c = self._code.encoder(self._crc.attach(payload, num_fillers))
        x = self._mapper(scramble(self._select(c, order)))
        x_hat, no_eff = self._transmit(x, block_index, *point_and_seed)
        llr = descramble(self._demapper(x_hat, no_eff))
        return self._recover(llr, order, is_filler)

    def _select(self, c, order):
        """Bits on the air, [batch, n]; beyond the end of a short last block: zeros, not counted."""
        last = tf.gather(tf.pad(c[-1:], [[0, 0], [0, 1]]), order, axis=1)
        return tf.concat([self._code.rate_match(c[:-1]), last], axis=0)

    def _recover(self, llr, order, is_filler):
        """The adjoint of ``_select``: LLRs of a bit that was sent twice are added."""
        num_emitted = self._code.mother_n
        last = tf.math.unsorted_segment_sum(llr[-1], order, num_emitted + 1)[:num_emitted]
        last = tf.where(is_filler, -CERTAIN_LLR, last)
        return tf.concat([self._code.combine(llr[:-1]), last[None]], axis=0)

    def _transmit(self, x, block_index, snr_db, csi_nmse_db, coherence_length, seed):
        csi_nmse, no = db_to_linear(csi_nmse_db), noise_variance(snr_db)
        symbols_per_block = self._code.n // self._code.num_bits_per_symbol
        index = block_index[:, None] * symbols_per_block + tf.range(symbols_per_block)
        h, h_hat, noise = channels.draw_at(self._channel, seed, index, coherence_length, csi_nmse)
        y = channels.apply(x, h, noise, no)
        estimate, err_var = receiver_knowledge(h_hat, csi_nmse, csi_aware=self._csi_aware)
        return self._equalizer(y, estimate, no, err_var)
