"""Over the air: coded bits to LLRs through scrambler, QAM, channel, equalizer and demapper."""

import functools

import numpy as np
import tensorflow as tf
from sionna.phy.mapping import Mapper

from pvsc_link.link import channels
from pvsc_link.link.csi import receiver_knowledge
from pvsc_link.link.demapping import QamDemapper
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.point_tensors import PointTensors
from pvsc_link.link.scrambling import descramble, scramble
from pvsc_link.units import db_to_linear, noise_variance

#: Blocks per call of the traced function. Fixed, so that nothing retraces; short calls are padded.
BATCH_SIZE = 32


class Air:
    """All of the link that lies between the LDPC encoder and decoder, as one XLA program.

    It knows nothing of the code: one trace serves every MCS of a modulation and every channel
    point. Bits are scrambled (TS 38.211, 7.3.1.1), so that symbols have unit power on average
    whatever the payload is. LLRs are exact (not max-log), each with its own noise variance.

    Parameters
    ----------
    n : int, coded bits of a block
    num_bits_per_symbol : int
    channel : str, key of ``channels.CHANNELS``
    equalizer : callable of ``equalizers.EQUALIZERS``
    csi_aware : bool, whether equalizer and LLRs know the variance of the CSI error

    Input
    -----
    c : [BATCH_SIZE, n], uint8, coded bits
    block_index : [BATCH_SIZE], int32, position of each block in the stream: consecutive blocks
        follow each other in the fading process without a gap
    point : PointTensors
    seed : [2], tf.uint32

    Output
    ------
    llr : [BATCH_SIZE, n], tf.float32, log p(1)/p(0) of the coded bits
    """

    def __init__(
        self,
        n: int,
        num_bits_per_symbol: int,
        channel: str,
        equalizer: Equalizer,
        csi_aware: bool,
    ):
        self._num_symbols = n // num_bits_per_symbol
        self._channel, self._equalizer, self._csi_aware = channel, equalizer, csi_aware
        self._mapper = Mapper("qam", num_bits_per_symbol)
        self._demapper = QamDemapper(num_bits_per_symbol)
        self.trace_count = 0
        self._traced = tf.function(
            self._run,
            jit_compile=True,
            autograph=False,  # no Python control flow to convert: twice as fast to trace
            input_signature=[
                tf.TensorSpec([BATCH_SIZE, n], tf.uint8),
                tf.TensorSpec([BATCH_SIZE], tf.int32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([2], tf.uint32),
            ],
        )

    def __call__(
        self, c: np.ndarray, block_index: np.ndarray, point: PointTensors, seed: tf.Tensor
    ) -> tf.Tensor:
        return self._traced(c, block_index, *point, seed)

    def _run(self, c, block_index, snr_db, csi_nmse_db, coherence_length, seed):
        self.trace_count += 1
        csi_nmse, no = db_to_linear(csi_nmse_db), noise_variance(snr_db)
        index = block_index[:, None] * self._num_symbols + tf.range(self._num_symbols)
        h, h_hat, noise = channels.draw_at(self._channel, seed, index, coherence_length, csi_nmse)
        y = channels.apply(self._mapper(scramble(tf.cast(c, tf.float32))), h, noise, no)
        estimate, err_var = receiver_knowledge(h_hat, csi_nmse, csi_aware=self._csi_aware)
        return descramble(self._demapper(*self._equalizer(y, estimate, no, err_var)))


@functools.lru_cache(maxsize=64)
def get_air(
    n: int, num_bits_per_symbol: int, channel: str, equalizer: Equalizer, csi_aware: bool
) -> Air:
    """The ``Air`` of these parameters, traced and compiled once per process."""
    return Air(n, num_bits_per_symbol, channel, equalizer, csi_aware)
