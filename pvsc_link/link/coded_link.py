"""The digital link: payload bits through CRC24B, 5G LDPC, QAM and a channel, block by block.

    payload --> split, CRC24B --> LDPC --> scrambler --> QAM --> channel, equaliser --> LLRs
    payload <-- join  <-- CRC <-- LDPC decoder <-- rate recovery <-- descrambler <---------+

Scrambler to descrambler is one XLA program (``CodedBitChannel``); LDPC and CRC work on the CPU
around it, so that one compilation serves every MCS of a modulation and every channel point.
"""

import functools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import tensorflow as tf
from sionna.phy.mapping import Mapper

from pvsc_link.link.channel import Channel, as_snr_db, as_tensors, condition_tensors
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.ldpc.code import CERTAIN_LLR, get_ldpc_code
from pvsc_link.link.ldpc.decoder import get_decoder
from pvsc_link.link.mcs import Mcs, get_mcs
from pvsc_link.link.qam import QamDemapper, descramble, scramble
from pvsc_link.link.registry import EQUALIZERS, ChannelType, find_channel, find_equalizer
from pvsc_link.link.transport import NUM_CRC_BITS, BlockCrc, Segmentation
from pvsc_link.types import ChannelPoint, InputError

#: Blocks per call of the traced function. Fixed, so that nothing retraces; short calls are padded.
BATCH_SIZE = 32


class CodedBitChannel:
    """From coded bits to their LLRs: scrambler, QAM, channel, equaliser, exact demapper.

    Bits are scrambled (TS 38.211, 7.3.1.1), so that symbols have unit power on average whatever
    the payload is. Each LLR is computed with the noise variance of its own symbol.

    Parameters
    ----------
    n : int, coded bits of a block
    num_bits_per_symbol : int
    make : makes the channel from its condition, given as keyword arguments
    jit_compile : whether XLA compiles it

    Input
    -----
    c : [BATCH_SIZE, n], uint8, coded bits of consecutive blocks, which follow each other in the
        channel without a gap
    first_block : int, place of the first of them in the stream
    snr_db : [], tf.float32, Es/N0 in dB
    condition : scalar tensors by name
    seed : [2], tf.uint32

    Output
    ------
    llr : [BATCH_SIZE, n], tf.float32, log p(1)/p(0) of the coded bits
    overhead : [], tf.float32, further channel uses (pilots) per symbol
    """

    def __init__(
        self, n: int, num_bits_per_symbol: int, make: Callable[..., Channel], jit_compile: bool
    ):
        self._num_symbols, self._make = n // num_bits_per_symbol, make
        self._mapper = Mapper("qam", num_bits_per_symbol)
        self._demapper = QamDemapper(num_bits_per_symbol)
        self.trace_count = 0
        # There is no Python control flow to convert: without autograph it is traced twice as fast.
        self._traced = tf.function(self._run, jit_compile=jit_compile, autograph=False)

    def __call__(
        self,
        c: np.ndarray,
        first_block: int,
        snr_db: tf.Tensor,
        condition: dict[str, Any],
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self._traced(
            tf.constant(c, tf.uint8), tf.constant(first_block), snr_db, condition, seed
        )

    def _run(self, c, first_block, snr_db, condition, seed):
        self.trace_count += 1
        x = self._mapper(scramble(tf.cast(c, tf.float32)))
        received = self._make(**condition)(
            tf.reshape(x, [1, -1]),
            snr_db=snr_db,
            seed=seed,
            first_symbol=first_block * self._num_symbols,
        )
        x_hat, no_eff = (tf.reshape(part, x.shape) for part in received[:2])
        overhead = tf.cast(received.overhead, tf.float32) / (BATCH_SIZE * self._num_symbols)
        return descramble(self._demapper(x_hat, no_eff)), overhead


@functools.lru_cache(maxsize=64)
def _coded_bit_channel(
    n: int, num_bits_per_symbol: int, kind: ChannelType, equalizer: Equalizer, csi_aware: bool
) -> CodedBitChannel:
    make = functools.partial(kind.make, equalizer=equalizer, csi_aware=csi_aware)
    return CodedBitChannel(n, num_bits_per_symbol, make, kind.jit_compile)


@dataclass(frozen=True)
class BitReception:
    """What came out of the link; ``block_ok`` is the CRC's verdict on each block."""

    bits_hat: np.ndarray  # uint8 [num_bits]
    block_ok: np.ndarray  # bool [num_blocks]
    block_num_bits: np.ndarray  # int64 [num_blocks], payload bits of each block
    num_channel_uses: int


class CodedLink:
    """Sends bits as CRC24B + 5G LDPC + QAM blocks over a channel.

    Blocks follow each other in the channel without a gap. The last block is shortened: its known
    fillers are neither sent nor counted. Bits are interleaved within a block only (TS 38.212,
    5.4.2.2), so a coherence interval longer than a block is not interleaved away.

    Parameters
    ----------
    mcs : int (row of TS 38.214 Table 5.1.3.1-1) or ``Mcs`` (for another block length)
    channel : key of ``registry.CHANNELS``, or a channel object (``channel.Channel``), which brings
        its condition, equaliser and awareness with it
    equalizer : key of ``registry.EQUALIZERS``, or a callable like ``equalizers.zf``
    csi_aware : whether equaliser and LLRs know the variance of the channel estimation error
    decoder : key of ``registry.DECODERS``
    num_iter : most decoder iterations

    Input
    -----
    bits : [num_bits], uint8, zeros and ones; may be empty
    snr_db : float, Es/N0 in dB per complex symbol
    seed : int, 0 to 2**64 - 1: the realisation of fading, channel estimation error and noise
    condition : further keyword arguments, the condition of a channel that was named

    Output
    ------
    bits_hat : [num_bits], uint8
    block_ok : [num_blocks], bool, whether each block's CRC holds

    Raises ``InputError`` for an unknown name or MCS, bits that are no bits, a bad condition, and
    LLRs that are not finite.

    Example
    -------
    >>> import numpy as np
    >>> from pvsc_link.link.coded_link import CodedLink
    >>> from pvsc_link.link.flat_fading import BlockFading
    >>> bits = np.random.default_rng(0).integers(0, 2, 4000, dtype=np.uint8)
    >>> link = CodedLink(11, BlockFading("rayleigh", equalizer="lmmse"))
    >>> bits_hat, block_ok = link(bits, snr_db=12.0, seed=1)
    >>> bool(np.all(bits_hat == bits)), block_ok
    (True, array([ True,  True]))
    """

    def __init__(
        self,
        mcs: int | Mcs,
        channel: str | Channel,
        *,
        equalizer: str | Equalizer = "lmmse",
        csi_aware: bool = True,
        decoder: str = "layered",
        num_iter: int = 20,
    ):
        self.mcs = mcs if isinstance(mcs, Mcs) else get_mcs(mcs)
        self.code = get_ldpc_code(self.mcs.k, self.mcs.n, self.mcs.num_bits_per_symbol)
        size = self.mcs.n, self.mcs.num_bits_per_symbol
        self._kind: ChannelType | None = None
        if isinstance(channel, str):
            self._kind = find_channel(channel)
            found = find_equalizer(equalizer, EQUALIZERS)
            self._channel = _coded_bit_channel(*size, self._kind, found, csi_aware)
        else:
            self._channel = CodedBitChannel(*size, lambda: channel, jit_compile=True)
        self._decoder = get_decoder(decoder, self.code, num_iter)
        self._crc = BlockCrc()
        self.block_payload = self.mcs.k - NUM_CRC_BITS

    def __call__(
        self, bits: np.ndarray, *, snr_db: float, seed: int, **condition: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        tensors: dict[str, Any] = {}
        if self._kind is not None:
            tensors = as_tensors(self._kind.condition(condition))
        elif condition:
            raise InputError(
                "condition of a channel object",
                found=sorted(condition),
                allowed="none",
                remedy="Give it to the channel object itself.",
            )
        reception = self._send(bits, as_snr_db(snr_db), tensors, seed)
        return reception.bits_hat, reception.block_ok

    @property
    def trace_count(self) -> int:
        """How often the link was traced: 1 however many points and MCS of a modulation it saw."""
        return self._channel.trace_count

    def num_blocks(self, num_bits: int) -> int:
        """Blocks that carry ``num_bits`` payload bits."""
        return Segmentation(num_bits, self.block_payload).num_blocks

    def num_channel_uses(self, num_bits: int) -> int:
        """Complex symbols that ``num_bits`` payload bits take, with CRC and parity, exactly.

        Pilots of the channel are not among them; ``BitReception.num_channel_uses`` has them.
        """
        segments = Segmentation(num_bits, self.block_payload)
        if not segments.num_blocks:
            return 0
        num_sent = len(self.code.transmit_order(segments.num_fillers))
        coded_bits = (segments.num_blocks - 1) * self.mcs.n + num_sent
        return coded_bits // self.mcs.num_bits_per_symbol

    def send(self, bits: np.ndarray, point: ChannelPoint, seed: int) -> BitReception:
        """Payload bits over the channel of ``point``; otherwise as calling the link.

        Raises ``InputError`` in addition for a point of another channel.
        """
        return self._send(bits, *self._tensors(point), seed)

    def full_blocks(
        self, point: ChannelPoint, num_blocks: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Random full blocks over the channel, batch by batch, for measurements.

        Input: ``point``, ``seed`` as in ``send``; the payload depends on ``seed`` as well.
        Output: pairs of information bits ``b`` : [batch, k], uint8, and the LLRs of the bits that
        the LDPC encoder emits : [batch, mother_n], float32.
        """
        return (send() for send in self._batches(point, num_blocks, seed))

    def count_block_errors(self, point: ChannelPoint, num_blocks: int, seed: int) -> int:
        """Blocks of ``full_blocks`` with a wrong payload bit, whatever their CRC says.

        Batches run on as many threads as numba has.
        """

        def count(send: Callable[[], tuple[np.ndarray, np.ndarray]]) -> int:
            b, llr = send()
            wrong = np.asarray(self._decoder(llr)) != b
            return int(np.any(wrong[:, : self.block_payload], axis=1).sum())

        with ThreadPoolExecutor(numba.get_num_threads()) as pool:
            return sum(pool.map(count, self._batches(point, num_blocks, seed)))

    def _batches(self, point: ChannelPoint, num_blocks: int, seed: int) -> Iterator[Any]:
        arguments = *self._tensors(point), seed_tensor(seed)
        for first in range(0, num_blocks, BATCH_SIZE):
            size = min(BATCH_SIZE, num_blocks - first)
            yield functools.partial(self._random_blocks, first, size, seed, arguments)

    def _random_blocks(
        self, first: int, size: int, seed: int, arguments: tuple
    ) -> tuple[np.ndarray, np.ndarray]:
        payload = np.zeros((BATCH_SIZE, self.block_payload), np.uint8)
        generator = np.random.default_rng([seed, self.mcs.index, first])
        payload[:size] = generator.integers(0, 2, (size, self.block_payload), dtype=np.uint8)
        b = self._crc.attach(payload)
        llr, _ = self._channel(self.code.encode(b), first, *arguments)
        return b[:size], self.code.combine(llr).numpy()[:size]

    def _tensors(self, point: ChannelPoint) -> tuple[tf.Tensor, dict[str, Any]]:
        """SNR and condition of a point of this link's channel."""
        if self._kind is None or point.channel != self._kind.name:
            raise InputError(
                "channel of the point",
                found=point.channel,
                allowed=self._kind.name if self._kind else "none: this link has a channel object",
                remedy="Build another CodedLink for another channel.",
            )
        return as_snr_db(point.snr_db), condition_tensors(point)

    def _send(
        self, bits: np.ndarray, snr_db: tf.Tensor, condition: dict[str, Any], seed: int
    ) -> BitReception:
        segments = Segmentation(len(_require_bits(bits)), self.block_payload)
        blocks, key = segments.split(bits), seed_tensor(seed)
        received, ok, overhead = np.zeros_like(blocks), np.zeros(len(blocks), bool), 0.0
        for first in range(0, len(blocks), BATCH_SIZE):
            batch = slice(first, first + BATCH_SIZE)
            fillers = segments.num_fillers if batch.stop >= len(blocks) else 0
            sent = self._coded(blocks[batch], fillers)
            llr, pilots = self._channel(sent, first, snr_db, condition, key)
            b_hat = self._decoded(llr.numpy(), len(blocks[batch]), fillers)
            received[batch], ok[batch] = self._crc.check(b_hat, fillers)
            overhead = float(pilots)
        uses = self.num_channel_uses(segments.num_bits)
        uses += math.ceil(overhead * uses)
        return BitReception(segments.join(received), ok, segments.block_num_bits, uses)

    def _coded(self, payload: np.ndarray, num_fillers: int) -> np.ndarray:
        """Bits to send, [BATCH_SIZE, n]; zeros after a short last block and in spare rows."""
        b = self._crc.attach(payload, num_fillers)
        sent = np.zeros((BATCH_SIZE, self.mcs.n), np.uint8)
        sent[: len(b)] = self.code.encode(b)
        if num_fillers:
            short = self.code.encode_shortened(b[-1], num_fillers)
            sent[len(b) - 1] = np.pad(short, (0, self.mcs.n - len(short)))
        return sent

    def _decoded(self, llr: np.ndarray, num_rows: int, num_fillers: int) -> np.ndarray:
        """Information bits of the first ``num_rows`` blocks, [num_rows, k]."""
        combined = np.array(self.code.combine(llr))
        if num_fillers:
            last = self.code.combine_shortened(llr[num_rows - 1], num_fillers)
            combined[num_rows - 1] = last
        combined[num_rows:] = -CERTAIN_LLR  # spare rows become a codeword and take no iterations
        return np.asarray(self._decoder(combined))[:num_rows]


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
def _coded_link(mcs: int, kind: ChannelType, *options: Any) -> CodedLink:
    equalizer, csi_aware, decoder, num_iter = options
    return CodedLink(
        mcs,
        kind.name,
        equalizer=equalizer,
        csi_aware=csi_aware,
        decoder=decoder,
        num_iter=num_iter,
    )


def get_coded_link(
    mcs: int,
    channel: str,
    *,
    equalizer: str = "lmmse",
    csi_aware: bool = True,
    decoder: str = "layered",
    num_iter: int = 20,
) -> CodedLink:
    """The ``CodedLink`` of these parameters, built, traced and compiled once per process."""
    return _coded_link(mcs, find_channel(channel), equalizer, csi_aware, decoder, num_iter)
