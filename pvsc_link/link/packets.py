"""A lossy packet network: bits and symbols of a GOP as packets that arrive whole or not at all.

    bits    --> at most mtu - header_bytes bytes each --> packets --> loss --> bits, which arrived
    symbols --> peak, integers of symbol_bits bits -----> packets --> loss --> symbols, no_eff

There is no noise, no MCS and no repetition. What is counted are the bytes of all packets with their
headers. The n-th packet of a GOP meets what the seed has at place n, whatever it carries, so every
scheme meets the same losses.
"""

import math
from typing import Any, Literal

import numpy as np

from pvsc_link.link.air import Air
from pvsc_link.link.channel import SymbolReception
from pvsc_link.link.coded_link import BitReception, CodedLink, get_coded_link
from pvsc_link.link.impairments import ERASED_NO_EFF
from pvsc_link.link.registry import PacketsCondition, find_channel, loss_trace
from pvsc_link.link.transport_options import DEFAULT_TRANSPORT, Transport
from pvsc_link.types import ChannelPoint, InputError, LinkStats

#: Noise variance of a packet of zeros, which loses nothing.
_LEAST_VARIANCE = 1e-12
#: Bytes in which a packet of symbols states the largest of their parts: one float32.
PEAK_BYTES = 4


class PacketLink:
    """How bits become packets; it stands where other channels have a ``CodedLink``.

    Parameters: ``condition`` : of the packet network; ``transport`` : of the link.
    """

    def __init__(self, condition: PacketsCondition, transport: Transport = DEFAULT_TRANSPORT):
        self.condition, self.transport = condition, transport

    def packet_num_bits(self, num_bits: int) -> np.ndarray:
        """Payload bits of each packet of a stream: [num_packets], int64."""
        most = 8 * (self.condition.mtu - self.condition.header_bytes)
        sizes = np.full(-(-num_bits // most), most)
        sizes[-1:] -= most * len(sizes) - num_bits
        return sizes

    def num_channel_uses(self, num_bits: int) -> int:
        """Bytes of the packets of so many bits with their headers."""
        num_packets = len(self.packet_num_bits(num_bits))
        return -(-num_bits // 8) + num_packets * self.condition.header_bytes


class PacketReception(SymbolReception):
    """Symbols that were sent in packets; ``packets_arrived`` : bool [num_symbols]."""

    packets_arrived: np.ndarray

    @property
    def arrived(self) -> np.ndarray:
        return self.packets_arrived


class PacketAir:
    """The packets of one GOP in the order in which they are sent.

    Packet n of the GOP is lost or not by the seed and n alone. Losses follow one of three laws:

    - ``iid`` : each packet is lost with probability ``loss_rate``. A packet that is lost at one
      rate is lost at every higher rate too.
    - ``gilbert`` : a Markov chain of two states, from its stationary distribution: bursts of lost
      packets have the mean length ``loss_burst``, and ``loss_rate`` of all packets are lost.
    - a trace: its entries in turn, from a place that the seed chooses, and from its end on to its
      beginning.

    Parameters
    ----------
    point : condition of a packet network
    seed : int, of the losses

    Example
    -------
    >>> import numpy as np
    >>> from pvsc_link.link.packets import PacketAir, PacketLink
    >>> from pvsc_link.link.registry import CHANNELS
    >>> point = CHANNELS["packets"].point(float("inf"), {"loss_rate": 0.5})
    >>> air = PacketAir(point, seed=1)
    >>> received = air.send_bits(PacketLink(air.condition), np.ones(8 * 3000, np.uint8))
    >>> received.block_num_bits.tolist(), received.num_channel_uses
    ([9280, 9280, 5440], 3120)
    >>> air.num_packets, bool(air.num_lost == np.sum(~received.block_ok))
    (3, True)
    """

    def __init__(self, point: ChannelPoint, seed: int):
        self.condition: PacketsCondition = _condition(point)
        self._random = np.random.Generator(np.random.Philox(key=seed))
        self._trace = loss_trace(self.condition.loss) if self.condition.loss_digest else ()
        self._start = int(self._random.random() * len(self._trace))
        self._is_bad: bool | None = None  # state of the chain; None: before the first packet
        #: Packets that were sent, and those of them that were lost.
        self.num_packets = self.num_lost = 0

    def send_bits(self, link: Any, bits: np.ndarray, deadline: float | None = None) -> BitReception:
        """Payload bits, uint8 ``[num_bits]``, in the next packets; a block is a packet.

        Parameters: ``link`` : a ``PacketLink``; ``deadline`` : has no effect, for nothing is sent
        again.
        """
        sizes = link.packet_num_bits(len(bits))
        arrived = self._arrived(len(sizes))
        received = np.where(np.repeat(arrived, sizes), bits, 0).astype(np.uint8)
        once, num_bytes = np.ones(len(sizes), np.int64), link.num_channel_uses(len(bits))
        return BitReception(received, arrived, sizes, once, num_bytes)

    def send_symbols(self, channel_function: Any, symbols: np.ndarray) -> PacketReception:
        """Analog symbols, complex64 ``[num_symbols]``, quantised, in the next packets.

        A packet holds the largest absolute value A of real and imaginary parts as a float32, and
        both parts of every symbol as integers of b = ``symbol_bits`` bits, in steps of
        D = A / (2^(b - 1) - 1). A symbol that arrives has the noise variance D^2 / 6 of two uniform
        errors; one that is lost arrives as 0 with ``impairments.ERASED_NO_EFF``.

        Parameters: ``channel_function`` : without effect, since there is no equaliser.
        """
        condition, num = self.condition, len(symbols)
        most = 8 * (condition.mtu - condition.header_bytes - PEAK_BYTES)
        of_packet = most // (2 * condition.symbol_bits)
        starts = range(0, num, of_packet)
        num_bytes, hats, variances = 0, [symbols[:0]], [np.zeros(0, np.float32)]
        for start in starts:
            part = symbols[start : start + of_packet]
            hat, variance = quantised(part, condition.symbol_bits)
            hats.append(hat)
            variances.append(np.full(len(part), variance, np.float32))
            of_parts = -(-2 * condition.symbol_bits * len(part) // 8)
            num_bytes += condition.header_bytes + PEAK_BYTES + of_parts
        arrived = np.repeat(self._arrived(len(starts)), of_packet)[:num]
        hat = np.where(arrived, np.concatenate(hats), 0).astype(np.complex64)
        no_eff = np.where(arrived, np.concatenate(variances), np.float32(ERASED_NO_EFF))
        power = float(np.sum(np.abs(symbols) ** 2))
        error = float(np.sum(np.abs(hat - symbols) ** 2))
        snr = power / max(error, 1e-12 * power) if power else math.nan
        received = PacketReception(hat, no_eff, num_bytes, LinkStats(num, snr=snr))
        received.packets_arrived = arrived
        return received

    def _arrived(self, num: int) -> np.ndarray:
        """Which of the next packets arrive: [num], bool."""
        lost = self._lost(num)
        self.num_packets += num
        self.num_lost += int(lost.sum())
        return ~lost

    def _lost(self, num: int) -> np.ndarray:
        if self._trace:
            places = self._start + self.num_packets + np.arange(num)
            return np.array(self._trace)[places % len(self._trace)]
        drawn, rate = self._random.random(num), self.condition.loss_rate or 0.0
        if self.condition.loss == "iid":
            return drawn < rate
        return self._bursts(drawn, rate, self.condition.loss_burst or 1.0)

    def _bursts(self, drawn: np.ndarray, rate: float, burst: float) -> np.ndarray:
        """States of the chain: a burst ends with probability 1 / B, and begins with
        rate / (B (1 - rate))."""
        begins = rate / (burst * (1.0 - rate)) if rate else 0.0
        lost = np.zeros(len(drawn), bool)
        for place, number in enumerate(drawn):
            becomes_bad = begins
            if self._is_bad is None:
                becomes_bad = rate
            elif self._is_bad:
                becomes_bad = 1.0 - 1.0 / burst
            self._is_bad = lost[place] = bool(number < becomes_bad)
        return lost


def quantised(symbols: np.ndarray, num_bits: int) -> tuple[np.ndarray, float]:
    """Symbols of one packet as the receiver has them, and the variance of their error.

    Input: ``symbols`` : [num_symbols], complex64, not empty; ``num_bits`` : of each part.
    Output: complex64 [num_symbols]; noise variance D^2 / 6 with the step D of the quantiser.
    """
    parts = np.stack([symbols.real, symbols.imag])
    peak = np.float32(np.max(np.abs(parts)))
    most = 2 ** (num_bits - 1) - 1
    if not peak:
        return np.zeros_like(symbols), _LEAST_VARIANCE
    integers = np.rint(parts / peak * most)
    real, imaginary = (integers * (peak / most)).astype(np.float32)
    return (real + 1j * imaginary).astype(np.complex64), float(peak / most) ** 2 / 6.0


def nominal_snr_db(point: ChannelPoint) -> float:
    """The SNR that a receiver is told: that of the point, or of the quantiser of a packet network.

    The latter is 6.02 b - 7.27 dB: b bits over four standard deviations to either side.
    """
    if not find_channel(point.channel).is_packets:
        return point.snr_db
    return 6.02 * _condition(point).symbol_bits - 7.27


def _condition(point: ChannelPoint) -> Any:
    return find_channel(point.channel).condition_of(point)


def open_link(mcs: int, point: ChannelPoint, **options: Any) -> CodedLink | PacketLink:
    """How bits are sent at a point: a ``CodedLink`` of these options, or packets.

    Parameters: ``mcs``, ``options`` : as of ``get_coded_link``; of a packet network only
    ``transport`` counts.
    """
    kind = find_channel(point.channel)
    if kind.is_packets:
        return PacketLink(_condition(point), options["transport"])
    return get_coded_link(mcs, point.channel, **options)


def open_air(
    point: ChannelPoint,
    seed: int,
    interleaving: Literal["none", "gop"] = "none",
    num_symbols: int | None = None,
) -> Air | PacketAir:
    """The channel uses of a GOP, or its packets; parameters as of ``Air``."""
    if find_channel(point.channel).is_packets:
        return PacketAir(point, seed)
    return Air(point, seed, interleaving, num_symbols)


def no_symbols(**condition: object) -> object:
    """What a packet network has in place of a channel object: ``InputError``."""
    raise InputError(
        "channel of symbols",
        found="packets, which carries bytes",
        allowed="a channel of symbols, such as awgn",
        remedy="packets is for scenarios (pvsc-link sweep); pvsc_link.link.packets.PacketAir "
        "sends over it.",
    )
