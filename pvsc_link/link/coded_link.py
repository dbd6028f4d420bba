"""The digital link: payload bits through CRC24B, 5G LDPC, QAM and a channel, block by block.

    payload --> split, CRC24B --> LDPC --> scrambler --> QAM --> channel, equaliser --> LLRs
    payload <-- join  <-- CRC <-- LDPC decoder <-- rate recovery <-- descrambler <---------+

Scrambler to descrambler is one XLA program (``CodedBitChannel``); LDPC and CRC work on the CPU
around it, so that one compilation serves every MCS of a modulation and every channel point.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np
import tensorflow as tf
from sionna.phy.mapping import Mapper

from pvsc_link.link.channel import (
    Channel,
    ChannelOutput,
    Traced,
    as_snr_db,
    as_tensors,
    condition_tensors,
    impairment_tensors,
    link_stats,
)
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.ldpc.code import CERTAIN_LLR, get_ldpc_code
from pvsc_link.link.ldpc.decoder import get_decoder
from pvsc_link.link.mcs import Mcs, get_mcs
from pvsc_link.link.qam import QamDemapper, descramble, scramble
from pvsc_link.link.registry import (
    EQUALIZERS,
    ChannelType,
    Impairments,
    find_channel,
    find_equalizer,
)
from pvsc_link.link.transport import NUM_CRC_BITS, BlockCrc, Segmentation
from pvsc_link.types import ChannelPoint, InputError, LinkStats

#: Blocks per call of the traced function. XLA wants a fixed number: short calls are padded there.
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
    c : [num_blocks, n], uint8, coded bits of at most BATCH_SIZE consecutive blocks, which follow
        each other in the channel without a gap
    num_sent : int, symbols of them that are sent: the end of a short last block is not
    first_block : int, place of the first of them in the stream
    snr_db : [], tf.float32, Es/N0 in dB
    condition : scalar tensors by name
    seed : [2], tf.uint32

    Output
    ------
    llr : [num_blocks, n], tf.float32, log p(1)/p(0) of the coded bits
    overhead : int, further channel uses (pilots)
    stats : LinkStats of the symbols that are sent; under XLA ``csi_nmse`` is that of BATCH_SIZE
        blocks
    """

    def __init__(
        self, n: int, num_bits_per_symbol: int, make: Callable[..., Channel], jit_compile: bool
    ):
        self._num_symbols, self._make = n // num_bits_per_symbol, make
        self._mapper = Mapper("qam", num_bits_per_symbol)
        self._demapper = QamDemapper(num_bits_per_symbol)
        self.trace_count = 0
        self._jit_compile = jit_compile
        signature = [
            tf.TensorSpec([BATCH_SIZE if jit_compile else None, n], tf.uint8),
            *(tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.int32)),
            *(tf.TensorSpec([], tf.float32), tf.TensorSpec([2], tf.uint32)),
        ]
        self._traced = Traced(self._run, signature, jit_compile)

    def __call__(
        self,
        c: np.ndarray,
        num_sent: int,
        first_block: int,
        snr_db: tf.Tensor,
        condition: dict[str, Any],
        seed: tf.Tensor,
    ) -> tuple[np.ndarray, int, LinkStats]:
        rows = BATCH_SIZE if self._jit_compile else len(c)
        padded = np.pad(c, ((0, rows - len(c)), (0, 0)))
        numbers = tf.constant(num_sent), tf.constant(first_block)
        llr, overhead, stats = self._traced(
            tf.constant(padded, tf.uint8), *numbers, snr_db, seed, condition=condition
        )
        # The channel counts for all that it was given.
        given = rows * self._num_symbols if self._jit_compile else num_sent
        pilots = -(-int(overhead) * num_sent // given)
        return llr.numpy()[: len(c)], pilots, LinkStats(num_sent, *stats.numpy().tolist())

    def _run(self, c, num_sent, first_block, snr_db, seed, condition):
        self.trace_count += 1
        mapped = self._mapper(scramble(tf.cast(c, tf.float32)))
        x = tf.reshape(mapped, [1, -1])
        if not self._jit_compile:
            x = x[:, :num_sent]
        first_symbol = first_block * self._num_symbols
        output = self._make(**condition)(x, snr_db=snr_db, seed=seed, first_symbol=first_symbol)
        x_hat, no_eff = self._whole_blocks(output, mapped)
        llr = descramble(self._demapper(x_hat, no_eff))
        return llr, tf.cast(output.overhead, tf.int32), link_stats(x, output, num_sent)

    @staticmethod
    def _whole_blocks(output: ChannelOutput, mapped: tf.Tensor) -> list[tf.Tensor]:
        """Equalised symbols and their noise variances in blocks; 0 and 1 where none was sent."""
        missing = tf.size(mapped) - tf.shape(output.x_hat)[1]
        parts = zip(output[:2], (0, 1), strict=True)
        padded = [tf.pad(part, [[0, 0], [0, missing]], constant_values=v) for part, v in parts]
        return [tf.reshape(part, tf.shape(mapped)) for part in padded]


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
    num_channel_uses: int  # with pilots
    num_pilots: int = 0
    stats: LinkStats = field(default_factory=LinkStats)


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
    condition : further keyword arguments, condition and impairments of a channel that was named

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
            jit_compile = getattr(channel, "jit_compile", True)
            self._channel = CodedBitChannel(*size, lambda: channel, jit_compile)
        self._decoder = get_decoder(decoder, self.code, num_iter)
        self._crc = BlockCrc()
        self.block_payload = self.mcs.k - NUM_CRC_BITS

    def __call__(
        self, bits: np.ndarray, *, snr_db: float, seed: int, **condition: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        tensors: dict[str, Any] = {}
        if self._kind is not None:
            own = {n: v for n, v in condition.items() if n not in Impairments.model_fields}
            tensors = as_tensors(self._kind.condition(own), self._kind.static)
            tensors |= impairment_tensors(condition)
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
        generator = np.random.default_rng([seed, self.mcs.index, first])
        payload = generator.integers(0, 2, (size, self.block_payload), dtype=np.uint8)
        b = self._crc.attach(payload)
        num_sent = size * self.mcs.n // self.mcs.num_bits_per_symbol
        llr, *_ = self._channel(self.code.encode(b), num_sent, first, *arguments)
        return b, np.asarray(self.code.combine(llr))

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
        received, ok = np.zeros_like(blocks), np.zeros(len(blocks), bool)
        uses = left = self.num_channel_uses(segments.num_bits)
        num_pilots, stats = 0, []
        for first in range(0, len(blocks), BATCH_SIZE):
            batch = slice(first, first + BATCH_SIZE)
            fillers = segments.num_fillers if batch.stop >= len(blocks) else 0
            sent = self._coded(blocks[batch], fillers)
            num_sent = min(left, sent.size // self.mcs.num_bits_per_symbol)
            llr, pilots, measured = self._channel(sent, num_sent, first, snr_db, condition, key)
            b_hat = self._decoded(llr, fillers)
            received[batch], ok[batch] = self._crc.check(b_hat, fillers)
            left, num_pilots = left - num_sent, num_pilots + pilots
            stats.append(measured)
        return BitReception(
            segments.join(received),
            ok,
            segments.block_num_bits,
            uses + num_pilots,
            num_pilots,
            LinkStats.joined(stats),
        )

    def _coded(self, payload: np.ndarray, num_fillers: int) -> np.ndarray:
        """Bits to send, [num_blocks, n]; zeros after a short last block."""
        b = self._crc.attach(payload, num_fillers)
        sent = np.asarray(self.code.encode(b), np.uint8)
        if num_fillers:
            short = self.code.encode_shortened(b[-1], num_fillers)
            sent[-1] = np.pad(short, (0, self.mcs.n - len(short)))
        return sent

    def _decoded(self, llr: np.ndarray, num_fillers: int) -> np.ndarray:
        """Information bits, [num_blocks, k]."""
        # Decoders are traced for BATCH_SIZE rows; spare rows are a codeword: no iterations.
        combined = np.full((BATCH_SIZE, self.code.mother_n), -CERTAIN_LLR, np.float32)
        combined[: len(llr)] = self.code.combine(llr)
        if num_fillers:
            combined[len(llr) - 1] = self.code.combine_shortened(llr[-1], num_fillers)
        return np.asarray(self._decoder(combined))[: len(llr)]


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
