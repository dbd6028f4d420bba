"""The digital link: payload bits through CRC24B, 5G LDPC, QAM and a channel, block by block.

    payload --> split, CRC24B --> LDPC --> scrambler --> QAM --> channel, equaliser --> LLRs
    payload <-- join  <-- CRC <-- LDPC decoder <-- rate recovery <-- descrambler <---------+

The stages are the same for arrays and for tensors in a graph. QAM to LLRs is one XLA program
(``CodedBitChannel``), so that one compilation serves every MCS of a modulation, every block size
and every channel point. LDPC runs on the CPU outside of graphs, and as XLA programs inside.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numba
import numpy as np
import tensorflow as tf
from sionna.phy.mapping import Mapper

from pvsc_link.link.channel import (
    Channel,
    Traced,
    as_snr_db,
    as_tensors,
    channel_function,
    checked_output,
    checked_overhead,
    condition_tensors,
    impairment_tensors,
    link_stats,
    require_channel,
)
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.ldpc.code import CERTAIN_LLR, HeardCode, LdpcCode, get_ldpc_code
from pvsc_link.link.ldpc.decoder import IN_GRAPH, Decoder, GraphDecoder, get_decoder
from pvsc_link.link.mcs import BLOCK_LENGTH, NUM_CRC_BITS, Mcs, get_mcs
from pvsc_link.link.qam import QamDemapper, descramble, scramble, scrambling_sequence
from pvsc_link.link.registry import (
    EQUALIZERS,
    ChannelType,
    Impairments,
    find_channel,
    find_equalizer,
)
from pvsc_link.link.transport import SEGMENTATIONS, BlockCrc, Segmentation
from pvsc_link.link.transport_options import DEFAULT_TRANSPORT, Transport, require_transport
from pvsc_link.storage import json_digest
from pvsc_link.types import ChannelPoint, InputError, LinkStats

#: Coded bits per call of the compiled function: 32 blocks of the default length. XLA wants fixed
#: numbers, so that shorter calls are padded; a call that needs few bits has few.
BATCH_BITS, FEW_BITS = 32 * BLOCK_LENGTH, 2 * BLOCK_LENGTH
#: Rows that an XLA decoder is called with.
BATCH_SIZE = 32


class CodedBitChannel:
    """From scrambled bits to their LLRs: QAM, channel, equaliser, exact demapper.

    Bits are scrambled before (TS 38.211, 7.3.1.1), so that symbols have unit power on average
    whatever the payload is. Each LLR is computed with the noise variance of its own symbol. The
    bits of a stream are given without regard to blocks, so that one compilation serves every block
    size of a modulation.

    Parameters
    ----------
    num_bits_per_symbol : int
    make : makes the channel from its condition, given as keyword arguments
    jit_compile : whether XLA compiles it

    Input
    -----
    c : [batch, num_bits], uint8, whole symbols; outside of a graph at most BATCH_BITS
    first_symbol : int, place of their first symbol in the channel
    snr_db : [] or [batch], tf.float32, Es/N0 in dB
    condition : scalar tensors by name
    seed : [2], tf.uint32
    few : whether a call of few bits may be padded to FEW_BITS only

    Output
    ------
    llr : [batch, num_bits], tf.float32, log p(1)/p(0) of the scrambled bits
    overhead : int, further channel uses (pilots) of a row; not counted inside a graph
    stats : LinkStats of the symbols that are sent; under XLA ``csi_nmse`` is that of all symbols
        that the call was padded to; not measured inside a graph
    """

    def __init__(self, num_bits_per_symbol: int, make: Callable[..., Channel], jit_compile: bool):
        self._order, self._make = num_bits_per_symbol, make
        self.mapper = Mapper("qam", num_bits_per_symbol)
        self.demapper = QamDemapper(num_bits_per_symbol)
        self.trace_count = 0
        self._jit_compile = jit_compile
        self._traced: dict[tuple[int | None, int], Traced] = {}

    def __call__(
        self,
        c: tf.Tensor,
        first_symbol: int,
        snr_db: tf.Tensor,
        condition: dict[str, Any],
        seed: tf.Tensor,
        few: bool = True,
    ) -> tuple[tf.Tensor, int, LinkStats]:
        if not tf.executing_eagerly():
            return self._in_graph(c, first_symbol, snr_db, condition, seed), 0, LinkStats()
        num_rows, num_bits = c.shape
        num_sent = given = num_bits // self._order
        size = None
        if self._jit_compile:
            size = FEW_BITS if few and num_bits <= FEW_BITS else BATCH_BITS
            spare = tf.tile(_padding(size)[None, num_bits:], [num_rows, 1])
            c, given = tf.concat([c, spare], axis=1), size // self._order
        numbers = tf.constant(num_sent), tf.constant(first_symbol), snr_db, seed
        llr, overhead, stats = self._trace(size, snr_db.shape.rank)(
            c, *numbers, condition=condition
        )
        # The channel counts for all that it was given.
        pilots = -(-checked_overhead(overhead) * num_sent // given)
        measured = LinkStats(num_rows * num_sent, *stats.numpy().tolist())
        return llr[:, :num_bits], pilots, measured

    def _trace(self, size: int | None, snr_db_rank: int) -> Traced:
        key = size, snr_db_rank
        if key not in self._traced:
            scalar = tf.TensorSpec([], tf.int32)
            snr_db = tf.TensorSpec([None] * snr_db_rank, tf.float32)
            c, seed = tf.TensorSpec([None, size], tf.uint8), tf.TensorSpec([2], tf.uint32)
            signature = [c, scalar, scalar, snr_db, seed]
            self._traced[key] = Traced(self._run, signature, self._jit_compile)
        return self._traced[key]

    def _in_graph(
        self,
        c: tf.Tensor,
        first_symbol: int,
        snr_db: tf.Tensor,
        condition: dict[str, Any],
        seed: tf.Tensor,
    ) -> tf.Tensor:
        # This function is not kept, because the channel may hold tensors of the graph around it.
        def run(c):
            num_sent = c.shape[1] // self._order
            return self._run(c, num_sent, first_symbol, snr_db, seed, condition)[0]

        return tf.function(run, jit_compile=self._jit_compile, autograph=False)(c)

    def _run(self, c, num_sent, first_symbol, snr_db, seed, condition):
        self.trace_count += 1
        x = self.map(c)
        channel = self._make(**condition)
        output = checked_output(channel(x, snr_db=snr_db, seed=seed, first_symbol=first_symbol), x)
        llr = tf.reshape(self.demapper(*output[:2]), tf.shape(c))
        return llr, tf.cast(output.overhead, tf.int32), link_stats(x, output, num_sent)

    def map(self, c: tf.Tensor) -> tf.Tensor:
        """Symbols, [batch, num_symbols], ``tf.complex64``, of bits [batch, num_bits], uint8."""
        num_bits = tf.shape(c)[1] if c.shape[1] is None else c.shape[1]
        num_symbols = num_bits // self._order
        bits = tf.reshape(tf.cast(c, tf.float32), [tf.shape(c)[0], num_symbols, self._order])
        return tf.squeeze(self.mapper(bits), axis=-1)


@functools.cache
def _padding(size: int) -> tf.Tensor:
    """Bits in place of those that a call lacks: of unit power on average. [size], uint8."""
    with tf.init_scope():
        return tf.constant(np.resize(scrambling_sequence(BLOCK_LENGTH), size))


@functools.lru_cache(maxsize=64)
def _coded_bit_channel(
    num_bits_per_symbol: int, kind: ChannelType, equalizer: Equalizer, csi_aware: bool
) -> CodedBitChannel:
    make = functools.partial(kind.make, equalizer=equalizer, csi_aware=csi_aware)
    return CodedBitChannel(num_bits_per_symbol, make, kind.jit_compile)


@dataclass(frozen=True)
class BitReception:
    """What came out of the link; ``block_ok`` is the CRC's verdict on each block."""

    bits_hat: np.ndarray  # uint8 [num_bits]
    block_ok: np.ndarray  # bool [num_blocks]
    block_num_bits: np.ndarray  # int64 [num_blocks], payload bits of each block
    rounds: np.ndarray  # int64 [num_blocks], how often each block was sent: 1 without HARQ
    num_channel_uses: int  # with pilots; over a packet network bytes
    num_pilots: int = 0
    stats: LinkStats = field(default_factory=LinkStats)

    @property
    def first_ok(self) -> np.ndarray:
        """Which blocks arrived at their first transmission. [num_blocks], bool."""
        return self.block_ok & (self.rounds == 1)

    @property
    def num_rounds(self) -> int:
        """The most often that a block was sent; 1 where there are no blocks."""
        return int(self.rounds.max(initial=1))

    @property
    def num_retransmissions(self) -> int:
        """Blocks that were sent again, each as often as it was."""
        return int(np.sum(self.rounds - 1))


class CodedLink:
    """Sends bits as CRC24B + 5G LDPC + QAM blocks over a channel.

    Blocks follow each other in the channel without a gap. They have one size (``equal_blocks``), or
    all but the last are full (``transport.segmentation``: ``shortened``). Bits are interleaved
    within a block only (TS 38.212, 5.4.2.2), so a coherence interval longer than a block is not
    interleaved away.

    Parameters
    ----------
    mcs : int (row of the table that ``transport`` names), or ``Mcs`` (with its own block length)
    channel : key of ``registry.CHANNELS``, or a channel object (``channel.Channel``), which brings
        its condition, equaliser and awareness with it. XLA compiles it unless its attribute
        ``jit_compile`` is False
    equalizer : key of ``registry.EQUALIZERS``, or a callable like ``equalizers.zf``
    csi_aware : whether equaliser and LLRs know the variance of the channel estimation error
    decoder : key of ``registry.DECODERS``. ``"layered"`` is a program for the CPU: inside a graph
        ``"layered-xla"`` takes its place, which gives the same bits
    num_iter : most decoder iterations
    transport : MCS table, block length and segmentation (``transport_options.Transport``). A link
        whose transport has HARQ is for ``Air.send_bits``, which sends its rounds

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
    transport with HARQ, a channel that returns tensors of another form than its contract says, and
    LLRs that are not finite. Inside a graph the values of tensors are not looked into: there a
    block whose LLRs are not finite is not ok, and all its bits are 0.

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
        self.transport = require_transport(transport)
        of_table = transport.mcs_table, transport.block_length
        self.mcs = mcs if isinstance(mcs, Mcs) else get_mcs(mcs, *of_table)
        self._kind: ChannelType | None = None
        order = self.mcs.num_bits_per_symbol
        if isinstance(channel, str):
            self._kind = find_channel(channel)
            found = find_equalizer(equalizer, EQUALIZERS)
            self._channel = _coded_bit_channel(order, self._kind, found, csi_aware)
            self._in_places = functools.partial(channel_function, self._kind, found, csi_aware)
        else:
            require_channel(channel)
            jit_compile = getattr(channel, "jit_compile", True)
            self._channel = CodedBitChannel(order, lambda: channel, jit_compile)
        self._decoder = decoder, num_iter
        self._decoder_of(self.code)  # raises for an unknown one
        self._crc = BlockCrc()
        #: Payload bits of a full block.
        self.block_payload = self.mcs.k - NUM_CRC_BITS

    @property
    def code(self) -> LdpcCode:
        """The code of full blocks."""
        return get_ldpc_code(self.mcs.k, self.mcs.n, self.mcs.num_bits_per_symbol)

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
        self._require_one_round()
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
        segments = self.segmentation(rows.shape[1])
        if not segments.num_blocks:
            return bits
        b = self._crc.attach(segments.split(rows), segments.num_unsent)
        blocks = self._coded(self.code_of(segments), b, segments.num_unsent)
        coded = _flat(blocks)[:, : self._num_coded_bits(segments)]
        return as_given(tf.cast(coded, rows.dtype))

    @property
    def trace_count(self) -> int:
        """How often the link was traced: at most twice, for long and for short calls, however many
        points, block sizes and MCS of a modulation it saw.
        """
        return self._channel.trace_count

    def segmentation(self, num_bits: int) -> Segmentation:
        """How ``num_bits`` payload bits are divided into blocks."""
        return SEGMENTATIONS[self.transport.segmentation](num_bits, self.mcs)

    def num_blocks(self, num_bits: int) -> int:
        """Blocks that carry ``num_bits`` payload bits."""
        return self.segmentation(num_bits).num_blocks

    def num_channel_uses(self, num_bits: int) -> int:
        """Complex symbols that ``num_bits`` payload bits take, with CRC and parity, exactly.

        Pilots of the channel are not among them; ``BitReception.num_channel_uses`` has them.
        """
        return self._num_coded_bits(self.segmentation(num_bits)) // self.mcs.num_bits_per_symbol

    def _num_coded_bits(self, segments: Segmentation) -> int:
        if not segments.num_blocks:
            return 0
        last = segments.n
        if segments.num_unsent:
            last = len(self.code_of(segments).transmit_order(segments.num_unsent))
        return (segments.num_blocks - 1) * segments.n + last

    def code_of(self, segments: Segmentation) -> LdpcCode:
        """The code of the blocks of a stream."""
        with tf.init_scope():  # because it is kept
            return get_ldpc_code(segments.k, segments.n, self.mcs.num_bits_per_symbol)

    def send(
        self,
        bits: np.ndarray,
        point: ChannelPoint,
        seed: int,
        first_symbol: int = 0,
        places: np.ndarray | None = None,
    ) -> BitReception:
        """Payload bits over the channel of ``point``; otherwise as calling the link.

        Parameters: ``first_symbol`` : channel use of the first symbol in the process of ``seed``;
        ``places`` : [num_channel_uses], integers from 0, channel use of each symbol after
        ``first_symbol`` where they do not follow each other.
        Raises ``InputError`` in addition for a point of another channel, and for bad places.
        """
        self._require_one_round()
        rows = tf.constant(_require_bits(bits)[None])
        tensors = self._tensors(point)
        if places is None:
            passed = self._through(rows, *tensors, seed, first_symbol)
        else:
            passed = self._through(rows, *tensors, seed, at=(point, first_symbol, places))
        return BitReception(
            passed.bits_hat[0].numpy(),
            passed.block_ok[0].numpy(),
            self.segmentation(len(bits)).block_num_bits,
            np.ones(passed.block_ok.shape[1], np.int64),
            self.num_channel_uses(len(bits)) + passed.num_pilots,
            passed.num_pilots,
            passed.stats,
        )

    def _require_one_round(self) -> None:
        """Raise ``InputError`` if the transport asks for more transmissions than one."""
        if self.transport.harq is not None:
            raise InputError(
                "transport of a CodedLink that sends once",
                found=f"harq {self.transport.harq}",
                allowed="none",
                remedy="Air(point, seed).send_bits(link, bits) sends all rounds and says how many "
                "they were; in a scenario write harq under link.",
            )

    def information_bits(self, bits: np.ndarray) -> np.ndarray:
        """Information bits of the blocks that carry a payload, CRC included.

        Input: ``bits`` : [num_bits], np.uint8. Output: [num_blocks, k], np.uint8.
        Raises ``InputError`` for bits that are no bits.
        """
        segments = self.segmentation(len(_require_bits(bits)))
        if not segments.num_blocks:
            return np.zeros((0, segments.k), np.uint8)
        blocks = segments.split(tf.constant(bits[None]))
        return self._crc.attach(blocks, segments.num_unsent)[0].numpy().astype(np.uint8)

    def pass_blocks(
        self,
        coded: np.ndarray,
        point: ChannelPoint,
        seed: int,
        first_symbol: int = 0,
        places: np.ndarray | None = None,
    ) -> tuple[np.ndarray, int, LinkStats]:
        """Coded bits of blocks over the channel of ``point``, without encoding and decoding.

        Input: ``coded`` : [num_blocks, n], np.uint8; otherwise as ``send``.
        Output: LLRs log p(1)/p(0), like ``coded``, np.float32; pilots; what was measured.
        """
        snr_db, condition = self._tensors(point)
        arguments = snr_db, condition, seed_tensor(seed)
        c, (num_blocks, n) = tf.constant(coded[None]), coded.shape
        if places is not None:
            llr, *measured = self._llrs_at(c, num_blocks * n, seed, (point, first_symbol, places))
            return llr[0].numpy(), *measured
        size, parts = BATCH_BITS // n, []
        for first in range(0, num_blocks, size):
            part = c[:, first : first + size]
            place = first_symbol + first * n // self.mcs.num_bits_per_symbol
            parts.append(self._llrs(part, part.shape[1] * n, place, arguments))
        if not parts:
            return np.zeros(coded.shape, np.float32), 0, LinkStats()
        llrs, pilots, stats = zip(*parts, strict=True)
        return tf.concat(llrs, axis=1)[0].numpy(), sum(pilots), LinkStats.joined(stats)

    def decode_blocks(self, code: LdpcCode | HeardCode, llr: Any) -> tuple[np.ndarray, np.ndarray]:
        """Payload and CRC results of blocks.

        Input: ``llr`` : [num_blocks, mother_n], float32, as the decoders of ``code`` take it.
        Output: payload : [num_blocks, k - 24], np.uint8; ok : [num_blocks], bool.
        """
        b_hat = self._information_bits(code, tf.constant(llr))
        payload, ok = self._crc.check(b_hat[None], 0)
        return payload[0].numpy().astype(np.uint8), ok[0].numpy()

    def full_blocks(
        self, point: ChannelPoint, num_blocks: int, seed: int, n: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Random whole blocks over the channel, batch by batch, for measurements.

        Input: ``point``, ``seed`` as in ``send``; the payload depends on ``seed`` as well; ``n`` :
        coded bits of a block at the rate of the MCS, None for those of a full block.
        Output: pairs of information bits ``b`` : [batch, k], uint8, and the LLRs of the bits that
        the LDPC encoder emits : [batch, mother_n], float32.
        """
        return (send() for send in self._batches(point, num_blocks, seed, self._measured(n)))

    def count_block_errors(
        self, point: ChannelPoint, num_blocks: int, seed: int, n: int | None = None
    ) -> int:
        """Blocks of ``full_blocks`` with a wrong payload bit, whatever their CRC says.

        Batches run on as many threads as numba has.
        """
        code = self._measured(n)
        decoder = self._decoder_of(code)

        def count(send: Callable[[], tuple[np.ndarray, np.ndarray]]) -> int:
            b, llr = send()
            wrong = np.asarray(decoder(llr)) != b
            return int(np.any(wrong[:, : code.k - NUM_CRC_BITS], axis=1).sum())

        with ThreadPoolExecutor(numba.get_num_threads()) as pool:
            return sum(pool.map(count, self._batches(point, num_blocks, seed, code)))

    def _measured(self, n: int | None) -> LdpcCode:
        row = self.mcs if n is None else replace(self.mcs, n=n)
        return get_ldpc_code(row.k, row.n, row.num_bits_per_symbol)

    def _batches(
        self, point: ChannelPoint, num_blocks: int, seed: int, code: LdpcCode
    ) -> Iterator[Any]:
        tensors, alone = self._tensors(point), find_channel(point.channel).independent_blocks
        together = BATCH_BITS // code.n
        for first in range(0, num_blocks, together):
            size = min(together, num_blocks - first)
            # Blocks of their own are rows of a batch, whose realisations another seed continues.
            of_batch = int(json_digest([seed, first])[:16], 16) if alone else seed
            arguments = *tensors, seed_tensor(of_batch)
            yield functools.partial(self._random_blocks, code, first, size, seed, alone, arguments)

    def _random_blocks(
        self, code: LdpcCode, first: int, size: int, seed: int, alone: bool, arguments: tuple
    ) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([seed, self.mcs.index, first])
        in_rows = (size, 1) if alone else (1, size)
        payload = generator.integers(0, 2, (*in_rows, code.k - NUM_CRC_BITS), dtype=np.uint8)
        b = self._crc.attach(payload)
        place = 0 if alone else first * code.n // self.mcs.num_bits_per_symbol
        llr, *_ = self._llrs(self._coded(code, b), in_rows[1] * code.n, place, arguments)
        b, llr = tf.reshape(b, [size, -1]), tf.reshape(llr, [size, -1])
        return b.numpy().astype(np.uint8), code.combine(llr).numpy()

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
        at: "_At | None" = None,
    ) -> "_Passed":
        """Rows of bits over the channel: in one go in a graph, else by BATCH_BITS coded bits.

        Parameters: ``at`` : where the symbols are sent if not one after the other.
        """
        segments = self.segmentation(bits.shape[1])
        if not segments.num_blocks:
            return _Passed(bits, tf.cast(bits, tf.bool), tf.cast(bits, tf.float32), 0, LinkStats())
        arguments = _snr_db_of_rows(snr_db, bits), condition, seed_tensor(seed)
        code, blocks, num_blocks = (
            self.code_of(segments),
            segments.split(bits),
            segments.num_blocks,
        )
        left, parts = self._num_coded_bits(segments), []
        in_one_go = at is not None or not tf.executing_eagerly()
        size = num_blocks if in_one_go else BATCH_BITS // segments.n
        for first in range(0, num_blocks, size):
            unsent = segments.num_unsent if first + size >= num_blocks else 0
            b = self._crc.attach(blocks[:, first : first + size], unsent)
            c = self._coded(code, b, unsent)
            num_sent = min(left, c.shape[1] * segments.n)
            if at is None:
                place = first_symbol + first * segments.n // self.mcs.num_bits_per_symbol
                llr, pilots, measured = self._llrs(c, num_sent, place, arguments)
            else:
                llr, pilots, measured = self._llrs_at(c, num_sent, seed, at)
            payload, ok = self._crc.check(self._decoded(code, llr, unsent), unsent)
            llr = _flat(llr)[:, :num_sent]
            parts.append(_Passed(tf.cast(payload, bits.dtype), ok, llr, pilots, measured))
            left -= num_sent
        payload, ok, llr = (tf.concat(each, axis=1) for each in list(zip(*parts, strict=True))[:3])
        return _Passed(
            segments.join(payload),
            ok,
            llr,
            sum(part.num_pilots for part in parts),
            LinkStats.joined([part.stats for part in parts]),
        )

    def _llrs(
        self, c: tf.Tensor, num_sent: int, first_symbol: int, arguments: tuple
    ) -> tuple[tf.Tensor, int, LinkStats]:
        """Coded bits of blocks over the channel, one after the other.

        Input: ``c`` : [batch, num_blocks, n], uint8; ``num_sent`` : coded bits of a row that are
        sent; ``arguments`` : SNR, condition and seed.
        Output: LLRs, like ``c``, 0 where nothing was sent; pilots; what was measured.
        """
        few = self.transport.segmentation != "shortened"  # its calls always have BATCH_BITS
        sent, (snr_db, condition, seed) = _flat(scramble(c))[:, :num_sent], arguments
        llr, *measured = self._channel(sent, first_symbol, snr_db, condition, seed, few)
        return self._in_blocks(llr, c), *measured

    def _llrs_at(
        self, c: tf.Tensor, num_sent: int, seed: int, at: "_At"
    ) -> tuple[tf.Tensor, int, LinkStats]:
        """As ``_llrs``, of symbols that do not follow each other in the channel."""
        point, first_symbol, places = at
        symbols = self._channel.map(_flat(scramble(c))[:, :num_sent])[0].numpy()
        got = self._in_places()(symbols, point, seed, first_symbol, places)
        llr = self._channel.demapper(got.symbols_hat[None], got.no_eff[None])
        return self._in_blocks(llr, c), got.num_channel_uses - len(symbols), got.stats

    @staticmethod
    def _in_blocks(llr: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
        missing = c.shape[1] * c.shape[2] - llr.shape[1]
        if missing:
            llr = tf.pad(llr, [[0, 0], [0, missing]])
        return descramble(tf.reshape(llr, tf.shape(c)))

    def _coded(self, code: LdpcCode, b: tf.Tensor, num_unsent: int = 0) -> tf.Tensor:
        """Bits to send, [batch, num_blocks, n], uint8; zeros after a short last block.

        Input: ``b`` : [batch, num_blocks, k], ``tf.float32``.
        """
        rows = tf.reshape(b, [-1, code.k])
        emitted = code.emit(rows.numpy() if tf.executing_eagerly() else rows)
        emitted = tf.cast(emitted, tf.uint8)
        emitted = tf.reshape(emitted, [tf.shape(b)[0], b.shape[1], code.mother_n])
        if not num_unsent:
            return code.select(emitted)
        last = code.select(emitted[:, -1:], num_unsent)
        last = tf.pad(last, [[0, 0], [0, 0], [0, code.n - last.shape[-1]]])
        return tf.concat([code.select(emitted[:, :-1]), last], axis=1)

    def _decoded(self, code: LdpcCode, llr: tf.Tensor, num_unsent: int) -> tf.Tensor:
        """Information bits. [batch, num_blocks, n] -> [batch, num_blocks, k], ``tf.float32``."""
        combined = code.combine(llr)
        if num_unsent:
            last = code.combine(llr[:, -1:], num_unsent)
            combined = tf.concat([combined[:, :-1], last], axis=1)
        rows = tf.reshape(combined, [-1, code.mother_n])
        b_hat = self._information_bits(code, rows)
        return tf.reshape(b_hat, [tf.shape(llr)[0], llr.shape[1], code.k])

    def _information_bits(self, code: LdpcCode | HeardCode, rows: tf.Tensor) -> tf.Tensor:
        """[num_blocks, mother_n] -> [num_blocks, k], ``tf.float32``."""
        decoder = self._decoder_of(code)
        if tf.executing_eagerly() and isinstance(decoder, GraphDecoder):
            # Decoders are traced for BATCH_SIZE rows; spare rows are a codeword: no iterations.
            spare = -len(rows) % BATCH_SIZE
            padded = tf.pad(rows, [[0, spare], [0, 0]], constant_values=-CERTAIN_LLR)
            return decoder(padded)[: len(rows)]
        return decoder(rows)

    def _decoder_of(self, code: LdpcCode | HeardCode) -> Decoder:
        """The decoder of a code where this is called: inside or outside of a graph."""
        name, num_iter = self._decoder
        if not tf.executing_eagerly():
            name = IN_GRAPH.get(name, name)
        with tf.init_scope():  # because it is kept
            return get_decoder(name, code, num_iter)


#: Where symbols are sent that do not follow each other: point, first channel use, places after it.
_At = tuple[ChannelPoint, int, np.ndarray]


def _flat(blocks: tf.Tensor) -> tf.Tensor:
    """[batch, num_blocks, n] -> [batch, num_blocks * n]."""
    return tf.reshape(blocks, [tf.shape(blocks)[0], blocks.shape[1] * blocks.shape[2]])


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
    options = equalizer, csi_aware, decoder, num_iter, require_transport(transport)
    return _coded_link(mcs, find_channel(channel), *options)
