"""Over the air: coded bits to LLRs through scrambler, QAM, channel, equalizer and demapper.

Digital link: payload bits through CRC, 5G LDPC, QAM and a fading channel, block by block.
"""

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from sionna.phy.mapping import Mapper

from pvsc_link.link import flat as channels
from pvsc_link.link.channel import PointTensors, point_tensors, require_name
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.csi import receiver_knowledge
from pvsc_link.link.equalizers import EQUALIZERS, Equalizer
from pvsc_link.link.flat import CHANNELS
from pvsc_link.link.ldpc.code import CERTAIN_LLR, get_ldpc_code
from pvsc_link.link.ldpc.decoder import DECODERS
from pvsc_link.link.ldpc.encoder import QuasiCyclicEncoder
from pvsc_link.link.mcs import Mcs, get_mcs
from pvsc_link.link.qam import QamDemapper, descramble, scramble
from pvsc_link.link.transport import NUM_CRC_BITS, BlockCrc, Segmentation
from pvsc_link.types import ChannelPoint, InputError, db_to_linear, noise_variance

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


@dataclass(frozen=True)
class BitReception:
    """What came out of the link; ``block_ok`` is the CRC's verdict on each block."""

    bits_hat: np.ndarray  # uint8 [num_bits]
    block_ok: np.ndarray  # bool [num_blocks]
    block_num_bits: np.ndarray  # int64 [num_blocks], payload bits of each block
    num_channel_uses: int


class BitLink:
    """Sends bits as CRC24B + 5G LDPC + QAM blocks over a flat-fading channel.

    Blocks follow each other in the fading process without a gap. The last block is shortened:
    its known fillers are neither sent nor counted. Bits are interleaved within a block only, as
    TS 38.212 does: a coherence interval longer than a block is not interleaved away.

    Parameters
    ----------
    mcs : int (row of TS 38.214 Table 5.1.3.1-1) or ``Mcs`` (for another block length)
    channel : str, key of ``CHANNELS``
    equalizer : str, key of ``EQUALIZERS``, or a callable of that signature
    csi_aware : bool, whether equalizer and LLRs know the variance of the CSI error
    decoder : str, key of ``DECODERS``
    num_iter : int, decoder iterations

    Raises ``InputError`` for an unknown name or MCS.
    """

    def __init__(
        self,
        mcs: int | Mcs,
        channel: str,
        *,
        equalizer: str | Equalizer = "lmmse",
        csi_aware: bool = True,
        decoder: str = "layered",
        num_iter: int = 20,
    ):
        self.mcs = mcs if isinstance(mcs, Mcs) else get_mcs(mcs)
        self.channel = require_name("channel", channel, CHANNELS)
        if isinstance(equalizer, str):
            equalizer = EQUALIZERS[require_name("equalizer", equalizer, EQUALIZERS)]
        self.code = get_ldpc_code(self.mcs.k, self.mcs.n, self.mcs.num_bits_per_symbol)
        self._encode = QuasiCyclicEncoder(self.code.encoder)
        self._air = get_air(self.mcs.n, self.mcs.num_bits_per_symbol, channel, equalizer, csi_aware)
        self._decoder = DECODERS[require_name("decoder", decoder, DECODERS)](self.code, num_iter)
        self._crc = BlockCrc()
        self._whole_order = self.code.transmit_order(0)
        self.block_payload = self.mcs.k - NUM_CRC_BITS

    @property
    def trace_count(self) -> int:
        """How often the link was traced: 1 however many points and MCS of a modulation it saw."""
        return self._air.trace_count

    def num_blocks(self, num_bits: int) -> int:
        """Blocks that carry ``num_bits`` payload bits."""
        return Segmentation(num_bits, self.block_payload).num_blocks

    def num_channel_uses(self, num_bits: int) -> int:
        """Complex symbols that ``num_bits`` payload bits take, CRC and parity included (exact)."""
        segments = Segmentation(num_bits, self.block_payload)
        if not segments.num_blocks:
            return 0
        num_sent = len(self.code.transmit_order(segments.num_fillers))
        coded_bits = (segments.num_blocks - 1) * self.mcs.n + num_sent
        return coded_bits // self.mcs.num_bits_per_symbol

    def send(self, bits: np.ndarray, point: ChannelPoint, seed: int) -> BitReception:
        """Payload bits through the link.

        Input
        -----
        bits : [num_bits], uint8, zeros and ones; may be empty
        point : ChannelPoint, its channel that of this link
        seed : int, 0 to 2**64 - 1; the realisation of fading, CSI error and noise

        Raises ``InputError`` for bits that are not such, a bad point, and LLRs not finite.
        """
        segments = Segmentation(len(_require_bits(bits)), self.block_payload)
        blocks, ok = self._send_blocks(segments.split(bits), segments.num_fillers, point, seed)
        uses = self.num_channel_uses(segments.num_bits)
        return BitReception(segments.join(blocks), ok, segments.block_num_bits, uses)

    def measure_block_errors(
        self, point: ChannelPoint, num_blocks: int, seed: int, first_block: int = 0
    ) -> int:
        """Blocks in error among full blocks with random payload.

        A block is in error if a payload bit differs, whatever its CRC says. The count of blocks
        0 to 63 is that of 0 to 31 plus that of 32 to 63 (``first_block`` = 32), so that a
        measurement can be continued.

        Input
        -----
        point, seed : as in ``send``
        num_blocks : int
        first_block : int, position of the first block in its stream
        """
        num_errors = 0
        for start in range(first_block, first_block + num_blocks, BATCH_SIZE):
            size = min(BATCH_SIZE, first_block + num_blocks - start)
            generator = np.random.default_rng([seed, self.mcs.index, start])
            payload = generator.integers(0, 2, (size, self.block_payload), dtype=np.uint8)
            received, _ = self._send_blocks(payload, 0, point, seed, start)
            num_errors += int(np.any(received != payload, axis=1).sum())
        return num_errors

    def _send_blocks(
        self, blocks: np.ndarray, num_fillers: int, point: ChannelPoint, seed: int, start: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Received payload blocks and CRC verdicts; fillers belong to the last block."""
        self._require_channel(point)
        tensors, key = point_tensors(point), seed_tensor(seed)
        received, ok = np.zeros_like(blocks), np.zeros(len(blocks), bool)
        for first in range(0, len(blocks), BATCH_SIZE):
            batch = slice(first, first + BATCH_SIZE)
            fillers = num_fillers if batch.stop >= len(blocks) else 0
            sent = self._coded(blocks[batch], fillers)
            index = np.arange(start + first, start + first + BATCH_SIZE, dtype=np.int32)
            llr = self._air(sent, index, tensors, key).numpy()
            b_hat = self._decoded(llr, len(blocks[batch]), fillers)
            received[batch], ok[batch] = self._crc.check(b_hat, fillers)
        return received, ok

    def _coded(self, payload: np.ndarray, num_fillers: int) -> np.ndarray:
        """Bits on the air, [BATCH_SIZE, n]; zeros after a short last block and in spare rows."""
        c = self._encode(self._crc.attach(payload, num_fillers))
        sent = np.zeros((BATCH_SIZE, self.mcs.n), np.uint8)
        sent[: len(c)] = c[:, self._whole_order]
        if num_fillers:
            short = self.code.select_shortened(c[-1], num_fillers)
            sent[len(c) - 1] = np.pad(short, (0, self.mcs.n - len(short)))
        return sent

    def _decoded(self, llr: np.ndarray, num_rows: int, num_fillers: int) -> np.ndarray:
        """Information bits of the first ``num_rows`` blocks, [num_rows, k]."""
        combined = np.array(self.code.combine(llr))
        if num_fillers:
            last = self.code.combine_shortened(llr[num_rows - 1], num_fillers)
            combined[num_rows - 1] = last
        combined[num_rows:] = -CERTAIN_LLR  # spare rows become a codeword: they take no iterations
        return np.asarray(self._decoder(combined))[:num_rows]

    def _require_channel(self, point: ChannelPoint) -> None:
        if point.channel != self.channel:
            raise InputError(
                "channel of the point",
                found=point.channel,
                allowed=self.channel,
                remedy="Build another BitLink for another channel.",
            )


def _require_bits(bits: np.ndarray) -> np.ndarray:
    if getattr(bits, "dtype", None) != np.uint8 or bits.ndim != 1 or np.any(bits > 1):
        raise InputError(
            "bits",
            found=f"{type(bits).__name__} {getattr(bits, 'dtype', '')}",
            allowed="a uint8 vector of zeros and ones",
            remedy="np.unpackbits(np.frombuffer(payload, np.uint8)) makes one from bytes.",
        )
    return bits


@functools.lru_cache(maxsize=128)
def get_bit_link(
    mcs: int,
    channel: str,
    *,
    equalizer: str = "lmmse",
    csi_aware: bool = True,
    decoder: str = "layered",
    num_iter: int = 20,
) -> BitLink:
    """The ``BitLink`` of these parameters, built, traced and compiled once per process."""
    return BitLink(
        mcs,
        channel,
        equalizer=equalizer,
        csi_aware=csi_aware,
        decoder=decoder,
        num_iter=num_iter,
    )
