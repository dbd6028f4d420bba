"""The digital link: payload bits through CRC24B, 5G LDPC, QAM and a channel, block by block.

    payload --> split, CRC24B --> LDPC --> scrambler --> QAM --> channel, equaliser --> LLRs
    payload <-- join  <-- CRC <-- LDPC decoder <-- rate recovery <-- descrambler <---------+

The stages are the same for arrays and for tensors in a graph. Scrambler to descrambler is one XLA
program (``CodedBitChannel``), so that one compilation serves every MCS of a modulation and every
channel point. LDPC runs on the CPU outside of graphs, and as XLA programs inside.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
    checked_output,
    checked_overhead,
    condition_tensors,
    impairment_tensors,
    link_stats,
)
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.ldpc.code import CERTAIN_LLR, get_ldpc_code
from pvsc_link.link.ldpc.decoder import IN_GRAPH, get_decoder
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
from pvsc_link.link.transport_options import DEFAULT_TRANSPORT, Transport
from pvsc_link.storage import json_digest
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
    c : [batch, num_blocks, n], uint8, coded bits of consecutive blocks, which follow each other in
        the channel without a gap; outside of a graph at most BATCH_SIZE, inside all of a stream
    num_sent : int, symbols of a row that are sent: the end of a short last block is not
    first_symbol : int, place of their first symbol in the channel
    snr_db : [] or [batch], tf.float32, Es/N0 in dB
    condition : scalar tensors by name
    seed : [2], tf.uint32

    Output
    ------
    llr : [batch, num_blocks, n], tf.float32, log p(1)/p(0) of the coded bits
    overhead : int, further channel uses (pilots) of a row; not counted inside a graph
    stats : LinkStats of the symbols that are sent; under XLA ``csi_nmse`` is that of BATCH_SIZE
        blocks; not measured inside a graph
    """

    def __init__(
        self, n: int, num_bits_per_symbol: int, make: Callable[..., Channel], jit_compile: bool
    ):
        self._num_symbols, self._make = n // num_bits_per_symbol, make
        self._mapper = Mapper("qam", num_bits_per_symbol)
        self._demapper = QamDemapper(num_bits_per_symbol)
        self.trace_count = 0
        self._jit_compile = jit_compile
        blocks = BATCH_SIZE if jit_compile else None
        scalar = tf.TensorSpec([], tf.int32)

        def traced(snr_db_shape: list[None]) -> Traced:
            numbers = tf.TensorSpec(snr_db_shape, tf.float32), tf.TensorSpec([2], tf.uint32)
            c = tf.TensorSpec([None, blocks, n], tf.uint8)
            return Traced(self._run, [c, scalar, scalar, *numbers], jit_compile)

        self._traced = {len(shape): traced(shape) for shape in ([], [None])}

    def __call__(
        self,
        c: tf.Tensor,
        num_sent: int,
        first_symbol: int,
        snr_db: tf.Tensor,
        condition: dict[str, Any],
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, int, LinkStats]:
        if not tf.executing_eagerly():
            return self._in_graph(c, num_sent, snr_db, condition, seed), 0, LinkStats()
        num_rows, num_blocks = c.shape[:2]
        size = BATCH_SIZE if self._jit_compile else num_blocks
        padded = tf.pad(c, [[0, 0], [0, size - num_blocks], [0, 0]])
        numbers = tf.constant(num_sent), tf.constant(first_symbol)
        run = self._traced[snr_db.shape.rank]
        llr, overhead, stats = run(padded, *numbers, snr_db, seed, condition=condition)
        # The channel counts for all that it was given.
        given = size * self._num_symbols if self._jit_compile else num_sent
        pilots = -(-checked_overhead(overhead) * num_sent // given)
        measured = LinkStats(num_rows * num_sent, *stats.numpy().tolist())
        return llr[:, :num_blocks], pilots, measured

    def _in_graph(
        self,
        c: tf.Tensor,
        num_sent: int,
        snr_db: tf.Tensor,
        condition: dict[str, Any],
        seed: tf.Tensor,
    ) -> tf.Tensor:
        # This function is not kept, because the channel may hold tensors of the graph around it.
        def run(c):
            return self._run(c, num_sent, 0, snr_db, seed, condition)[0]

        return tf.function(run, jit_compile=self._jit_compile, autograph=False)(c)

    def _run(self, c, num_sent, first_symbol, snr_db, seed, condition):
        self.trace_count += 1
        mapped = self._mapper(scramble(tf.cast(c, tf.float32)))
        num_blocks = tf.shape(c)[1] if c.shape[1] is None else c.shape[1]
        x = tf.reshape(mapped, [tf.shape(c)[0], num_blocks * self._num_symbols])
        if not self._jit_compile:
            x = x[:, :num_sent]
        channel = self._make(**condition)
        output = checked_output(channel(x, snr_db=snr_db, seed=seed, first_symbol=first_symbol), x)
        x_hat, no_eff = self._whole_blocks(output, mapped)
        llr = tf.reshape(descramble(self._demapper(x_hat, no_eff)), tf.shape(c))
        return llr, tf.cast(output.overhead, tf.int32), link_stats(x, output, num_sent)

    @staticmethod
    def _whole_blocks(output: ChannelOutput, mapped: tf.Tensor) -> list[tf.Tensor]:
        """Equalised symbols and their noise variances in blocks; 0 and 1 where none was sent."""
        shape = tf.shape(mapped)
        missing = shape[1] * shape[2] - tf.shape(output.x_hat)[1]
        parts = zip(output[:2], (0, 1), strict=True)
        padded = [tf.pad(part, [[0, 0], [0, missing]], constant_values=v) for part, v in parts]
        return [tf.reshape(part, [-1, mapped.shape[2]]) for part in padded]


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
        its condition, equaliser and awareness with it. XLA compiles it unless its attribute
        ``jit_compile`` is False
    equalizer : key of ``registry.EQUALIZERS``, or a callable like ``equalizers.zf``
    csi_aware : whether equaliser and LLRs know the variance of the channel estimation error
    decoder : key of ``registry.DECODERS``. ``"layered"`` is a program for the CPU: inside a graph
        ``"layered-xla"`` takes its place, which gives the same bits
    num_iter : most decoder iterations
    transport : MCS table, block length and segmentation (``transport_options.Transport``)

    Input
    -----
    bits : [num_bits], np.uint8, zeros and ones; or [batch, num_bits] or [num_bits], any real
        ``tf.DType``, also inside a ``tf.function``, with or without ``jit_compile``. num_bits is
        static and may be 0, batch may be open. Rows meet independent realisations
    snr_db : float, or [] or [batch], tf.float32, Es/N0 in dB per complex symbol
    seed : int from 0 to 2**64 - 1, or [], any integer ``tf.DType``, or [2], tf.uint32: the
        realisation of fading, channel estimation error and noise
    return_llr : whether to return ``llr`` as well
    condition : further keyword arguments, condition and impairments of a channel that was named

    Output
    ------
    bits_hat : like ``bits``
    block_ok : [num_blocks] or [batch, num_blocks], bool, whether each block's CRC holds
    llr : [num_coded_bits] or [batch, num_coded_bits], float32, log p(1)/p(0) of the bits that
        ``encode`` gives; only if ``return_llr``

    Arrays give arrays, tensors give tensors. For equal seeds their LLRs agree to float rounding,
    which changes no block that is decoded: bits_hat and block_ok are the same.

    ``llr`` is differentiable with respect to ``snr_db`` and to whatever the channel object computes
    with, for instance a variable that scales x. ``bits``, ``bits_hat`` and ``block_ok`` have no
    gradient: mapping, decoding and the CRC are discrete.

    Raises ``InputError`` for an unknown name or MCS, bits that are no bits, a bad condition, a
    channel that returns tensors of another form than its contract says, and LLRs that are not
    finite. Inside a graph the values of tensors are not looked into: there a block whose LLRs are
    not finite is not ok, and all its bits are 0.

    Example
    -------
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> from pvsc_link.link.coded_link import CodedLink
    >>> from pvsc_link.link.flat_fading import BlockFading
    >>> from pvsc_link.link.mcs import Mcs
    >>> bits = np.random.default_rng(0).integers(0, 2, 4000, dtype=np.uint8)
    >>> link = CodedLink(11, BlockFading("rayleigh", equalizer="lmmse"))
    >>> bits_hat, block_ok = link(bits, snr_db=12.0, seed=1)
    >>> bool(np.all(bits_hat == bits)), block_ok
    (True, array([ True,  True]))

    Inside a graph, with blocks of 480 coded bits and a gradient through the channel:

    >>> short = CodedLink(Mcs(11, 4, 378 / 1024, n=480), "awgn")
    >>> @tf.function
    ... def loss_and_slope(bits, snr_db):
    ...     with tf.GradientTape() as tape:
    ...         tape.watch(snr_db)
    ...         bits_hat, ok, llr = short(bits, snr_db=snr_db, seed=1, return_llr=True)
    ...         sent = short.encode(bits)
    ...         loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(sent, llr))
    ...     return ok, loss, tape.gradient(loss, snr_db)
    >>> ok, loss, slope = loss_and_slope(tf.ones([3, 400]), tf.constant(9.0))
    >>> ok.shape, bool(tf.reduce_all(ok)), bool(slope < 0)
    (TensorShape([3, 3]), True, True)
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
        transport: Transport = DEFAULT_TRANSPORT,
    ):
        self.transport = transport
        of_table = transport.mcs_table, transport.block_length
        self.mcs = mcs if isinstance(mcs, Mcs) else get_mcs(mcs, *of_table)
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
        in_graph = IN_GRAPH.get(decoder, decoder)
        self._decoder_in_graph = get_decoder(in_graph, self.code, num_iter)
        self._crc = BlockCrc()
        self.block_payload = self.mcs.k - NUM_CRC_BITS

    @tf.autograph.experimental.do_not_convert
    def __call__(
        self, bits: Any, *, snr_db: Any, seed: Any, return_llr: bool = False, **condition: Any
    ) -> tuple[Any, ...]:
        tensors: dict[str, Any] = {}
        if self._kind is not None:
            own = {n: v for n, v in condition.items() if n not in Impairments.model_fields}
            given = self._kind.condition(own)
            tensors = as_tensors(given, self._kind.static_of(given))
            tensors |= impairment_tensors(condition)
        elif condition:
            raise InputError(
                "condition of a channel object",
                found=sorted(condition),
                allowed="none",
                remedy="Give it to the channel object itself.",
            )
        rows, as_given = _rows_of(bits)
        passed = self._through(rows, snr_db, tensors, seed)
        outputs = passed.bits_hat, passed.block_ok, *([passed.llr] if return_llr else [])
        return tuple(as_given(output) for output in outputs)

    @tf.autograph.experimental.do_not_convert
    def encode(self, bits: Any) -> Any:
        """The coded bits that are sent for ``bits``, before scrambling, in order of transmission.

        Input: ``bits`` : as for calling the link. Output: [num_coded_bits] or
        [batch, num_coded_bits], like ``bits``; num_coded_bits are those of all blocks, with CRC and
        parity. Raises ``InputError`` for bits that are no bits.
        """
        rows, as_given = _rows_of(bits)
        segments = Segmentation(rows.shape[1], self.block_payload)
        if not segments.num_blocks:
            return bits
        b = self._crc.attach(segments.split(rows), segments.num_fillers)
        coded = self._stream(self._coded(b, segments.num_fillers), segments.num_bits)
        return as_given(tf.cast(coded, rows.dtype))

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

    def send(
        self,
        bits: np.ndarray,
        point: ChannelPoint,
        seed: int,
        first_symbol: int = 0,
        places: np.ndarray | None = None,
    ) -> BitReception:
        """Payload bits over the channel of ``point``; otherwise as calling the link.

        Parameters: ``first_symbol`` : channel use of the first symbol in the process of ``seed``.
        Raises ``InputError`` in addition for a point of another channel.
        """
        if places is not None:
            raise InputError(
                "places", found="an array", allowed=None, remedy="Interleaving is not available."
            )
        rows = tf.constant(_require_bits(bits)[None])
        passed = self._through(rows, *self._tensors(point), seed, first_symbol)
        return BitReception(
            passed.bits_hat[0].numpy(),
            passed.block_ok[0].numpy(),
            Segmentation(len(bits), self.block_payload).block_num_bits,
            self.num_channel_uses(len(bits)) + passed.num_pilots,
            passed.num_pilots,
            passed.stats,
        )

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
        tensors, alone = self._tensors(point), find_channel(point.channel).independent_blocks
        for first in range(0, num_blocks, BATCH_SIZE):
            size = min(BATCH_SIZE, num_blocks - first)
            # Blocks of their own are rows of a batch, whose realisations another seed continues.
            of_batch = int(json_digest([seed, first])[:16], 16) if alone else seed
            arguments = *tensors, seed_tensor(of_batch)
            yield functools.partial(self._random_blocks, first, size, seed, alone, arguments)

    def _random_blocks(
        self, first: int, size: int, seed: int, alone: bool, arguments: tuple
    ) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([seed, self.mcs.index, first])
        in_rows = (size, 1) if alone else (1, size)
        payload = generator.integers(0, 2, (*in_rows, self.block_payload), dtype=np.uint8)
        b = self._crc.attach(payload)
        num_sent = in_rows[1] * self.mcs.n // self.mcs.num_bits_per_symbol
        place = 0 if alone else first * self.mcs.n // self.mcs.num_bits_per_symbol
        llr, *_ = self._channel(self._coded(b), num_sent, place, *arguments)
        b, llr = tf.reshape(b, [size, -1]), tf.reshape(llr, [size, -1])
        return b.numpy().astype(np.uint8), self.code.combine(llr).numpy()

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

    def _through(
        self,
        bits: tf.Tensor,
        snr_db: Any,
        condition: dict[str, Any],
        seed: Any,
        first_symbol: int = 0,
    ) -> "_Passed":
        """Rows of bits over the channel: in one go in a graph, else by BATCH_SIZE blocks."""
        arguments = _snr_db_of_rows(snr_db, bits), condition, seed_tensor(seed)
        segments = Segmentation(bits.shape[1], self.block_payload)
        blocks, num_blocks = segments.split(bits), segments.num_blocks
        left, parts = self.num_channel_uses(segments.num_bits), []
        size = BATCH_SIZE if tf.executing_eagerly() else max(num_blocks, 1)
        for first in range(0, num_blocks, size):
            fillers = segments.num_fillers if first + size >= num_blocks else 0
            b = self._crc.attach(blocks[:, first : first + size], fillers)
            c = self._coded(b, fillers)
            num_sent = min(left, c.shape[1] * self.mcs.n // self.mcs.num_bits_per_symbol)
            place = first_symbol + first * self.mcs.n // self.mcs.num_bits_per_symbol
            llr, pilots, measured = self._channel(c, num_sent, place, *arguments)
            payload, ok = self._crc.check(self._decoded(llr, fillers), fillers)
            parts.append(_Passed(tf.cast(payload, bits.dtype), ok, llr, pilots, measured))
            left -= num_sent
        if not parts:
            return _Passed(bits, tf.cast(bits, tf.bool), tf.cast(bits, tf.float32), 0, LinkStats())
        payload, ok, llr = (tf.concat(each, axis=1) for each in list(zip(*parts, strict=True))[:3])
        return _Passed(
            segments.join(payload),
            ok,
            self._stream(llr, segments.num_bits),
            sum(part.num_pilots for part in parts),
            LinkStats.joined([part.stats for part in parts]),
        )

    def _stream(self, blocks: tf.Tensor, num_bits: int) -> tf.Tensor:
        """What is sent of the blocks of ``num_bits`` payload bits, which are padded to n bits.

        Input: [batch, num_blocks, n]. Output: [batch, num_coded_bits].
        """
        num_coded_bits = self.num_channel_uses(num_bits) * self.mcs.num_bits_per_symbol
        padded = tf.reshape(blocks, [tf.shape(blocks)[0], blocks.shape[1] * self.mcs.n])
        return padded[:, :num_coded_bits]

    def _coded(self, b: tf.Tensor, num_fillers: int = 0) -> tf.Tensor:
        """Bits to send, [batch, num_blocks, n], uint8; zeros after a short last block.

        Input: ``b`` : [batch, num_blocks, k], ``tf.float32``.
        """
        rows = tf.reshape(b, [-1, self.mcs.k])
        emitted = self.code.emit(rows.numpy() if tf.executing_eagerly() else rows)
        emitted = tf.cast(emitted, tf.uint8)
        emitted = tf.reshape(emitted, [tf.shape(b)[0], b.shape[1], self.code.mother_n])
        if not num_fillers:
            return self.code.select(emitted)
        last = self.code.select(emitted[:, -1:], num_fillers)
        last = tf.pad(last, [[0, 0], [0, 0], [0, self.mcs.n - last.shape[-1]]])
        return tf.concat([self.code.select(emitted[:, :-1]), last], axis=1)

    def _decoded(self, llr: tf.Tensor, num_fillers: int) -> tf.Tensor:
        """Information bits. [batch, num_blocks, n] -> [batch, num_blocks, k], ``tf.float32``."""
        combined = self.code.combine(llr)
        if num_fillers:
            last = self.code.combine(llr[:, -1:], num_fillers)
            combined = tf.concat([combined[:, :-1], last], axis=1)
        rows = tf.reshape(combined, [-1, self.code.mother_n])
        if tf.executing_eagerly():
            # Decoders are traced for BATCH_SIZE rows; spare rows are a codeword: no iterations.
            spare = -len(rows) % BATCH_SIZE
            padded = tf.pad(rows, [[0, spare], [0, 0]], constant_values=-CERTAIN_LLR)
            b_hat = self._decoder(padded)[: len(rows)]
        else:
            b_hat = self._decoder_in_graph(rows)
        return tf.reshape(b_hat, [tf.shape(llr)[0], llr.shape[1], self.mcs.k])


class _Passed(NamedTuple):
    """Rows of bits that passed the link: all of a stream, or some of its blocks."""

    bits_hat: tf.Tensor
    block_ok: tf.Tensor
    llr: tf.Tensor
    num_pilots: int
    stats: LinkStats


def _rows_of(bits: Any) -> tuple[tf.Tensor, Callable[[tf.Tensor], Any]]:
    """Bits as a tensor [batch, num_bits], and what brings a result to the form of the bits."""
    if tf.executing_eagerly() and not tf.is_tensor(bits):
        rows = tf.constant(_require_bits(bits)[None])
        return rows, lambda result: result[0].numpy()
    rows = tf.convert_to_tensor(bits)
    is_real = rows.dtype.is_floating or rows.dtype.is_integer
    if not is_real or rows.shape.rank not in (1, 2) or rows.shape[-1] is None:
        raise InputError(
            "bits",
            found=f"{rows.dtype.name} {rows.shape}",
            allowed="a real tensor [batch, num_bits] or [num_bits] with a static num_bits",
            remedy="tf.ensure_shape(bits, [None, num_bits]) states a size that is lost.",
        )
    if tf.executing_eagerly() and not np.isin(rows.numpy(), (0, 1)).all():
        raise InputError(
            "bits", found="other values", allowed="zeros and ones", remedy="Round soft bits first."
        )
    if rows.shape.rank == 2:
        return rows, lambda result: result
    return rows[None], lambda result: result[0]


def _snr_db_of_rows(snr_db: Any, rows: tf.Tensor) -> tf.Tensor:
    snr_db = tf.cast(as_snr_db(snr_db), tf.float32)
    if snr_db.shape.rank and not snr_db.shape.is_compatible_with(rows.shape[:1]):
        raise InputError(
            "snr_db",
            found=f"shape {snr_db.shape}",
            allowed="one number, or [batch]",
            remedy="Give a number for every row of bits.",
        )
    return snr_db


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
    equalizer, csi_aware, decoder, num_iter, transport = options
    return CodedLink(
        mcs,
        kind.name,
        equalizer=equalizer,
        csi_aware=csi_aware,
        decoder=decoder,
        num_iter=num_iter,
        transport=transport,
    )


def get_coded_link(
    mcs: int,
    channel: str,
    *,
    equalizer: str = "lmmse",
    csi_aware: bool = True,
    decoder: str = "layered",
    num_iter: int = 20,
    transport: Transport = DEFAULT_TRANSPORT,
) -> CodedLink:
    """The ``CodedLink`` of these parameters, built, traced and compiled once per process."""
    options = equalizer, csi_aware, decoder, num_iter, transport
    return _coded_link(mcs, find_channel(channel), *options)
