"""Many full blocks through the link, fast: what a block error rate is measured with.

The same blocks, fading, noise and LLRs as ``BitLink`` draws for a seed, without what sending a
payload needs (the shortened last block, CRC verdicts). Encoding leaves the compiled graph, so
that one compilation serves all MCS of a modulation; batches run on as many threads as numba has.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import tensorflow as tf

from pvsc_link.link.air import BATCH_SIZE, get_air
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import EQUALIZERS
from pvsc_link.link.ldpc import Decoder
from pvsc_link.link.ldpc_code import get_ldpc_code
from pvsc_link.link.ldpc_encoder import QuasiCyclicEncoder
from pvsc_link.link.mcs import Mcs
from pvsc_link.link.point_tensors import PointTensors, point_tensors
from pvsc_link.link.segmentation import NUM_CRC_BITS, BlockCrc
from pvsc_link.types import ChannelPoint


class BlockSampler:
    """Full blocks of one MCS over a flat-fading channel.

    Parameters: ``mcs`` : Mcs; ``channel``, ``equalizer``, ``csi_aware`` : as in ``BitLink``.
    """

    def __init__(self, mcs: Mcs, channel: str, *, equalizer: str, csi_aware: bool):
        self.mcs = mcs
        self.code = get_ldpc_code(mcs.k, mcs.n, mcs.num_bits_per_symbol)
        self._air = get_air(
            mcs.n, mcs.num_bits_per_symbol, channel, EQUALIZERS[equalizer], csi_aware
        )
        self._encode = QuasiCyclicEncoder(self.code.encoder)
        self._order = self.code.transmit_order(0)
        self._crc = BlockCrc()

    def blocks(
        self, point: ChannelPoint, num_blocks: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of the blocks that ``BitLink.measure_block_errors`` sends with this seed.

        Output: pairs ``b`` : [batch, k], uint8 and ``llr`` : [batch, mother_n], float32.
        Raises ``InputError`` for a bad point.
        """
        return (send() for send in self._batches(point, num_blocks, seed))

    def count_block_errors(
        self, point: ChannelPoint, num_blocks: int, seed: int, decoder: Decoder
    ) -> int:
        """Blocks in error, of ``num_blocks``: those that differ in a payload bit."""

        def count(send: Callable[[], tuple[np.ndarray, np.ndarray]]) -> int:
            b, llr = send()
            wrong = np.asarray(decoder(llr)) != b
            return int(np.any(wrong[:, : self.mcs.k - NUM_CRC_BITS], axis=1).sum())

        with ThreadPoolExecutor(numba.get_num_threads()) as pool:
            return sum(pool.map(count, self._batches(point, num_blocks, seed)))

    def _batches(self, point: ChannelPoint, num_blocks: int, seed: int) -> Iterator[Any]:
        arguments = (point_tensors(point), seed_tensor(seed))
        for first in range(0, num_blocks, BATCH_SIZE):
            size = min(BATCH_SIZE, num_blocks - first)
            yield functools.partial(self._send, first, size, seed, arguments)

    def _send(
        self, first: int, size: int, seed: int, arguments: tuple[PointTensors, tf.Tensor]
    ) -> tuple[np.ndarray, np.ndarray]:
        payload = np.zeros((BATCH_SIZE, self.mcs.k - NUM_CRC_BITS), np.uint8)
        generator = np.random.default_rng([seed, self.mcs.index, first])
        payload[:size] = generator.integers(0, 2, (size, payload.shape[1]), dtype=np.uint8)
        b = self._crc.attach(payload)
        c = self._encode(b)
        c = c[:, self._order] if self.code.is_repeated else c
        index = np.arange(first, first + BATCH_SIZE, dtype=np.int32)
        llr = self._air(c, index, *arguments)
        return b[:size], self.code.combine(llr).numpy()[:size]


@functools.lru_cache(maxsize=64)
def get_block_sampler(mcs: Mcs, channel: str, *, equalizer: str, csi_aware: bool) -> BlockSampler:
    """The sampler of these parameters, built once per process."""
    return BlockSampler(mcs, channel, equalizer=equalizer, csi_aware=csi_aware)
