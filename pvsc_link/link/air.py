"""The channel uses of one GOP: bits and symbols follow each other in one process of the channel."""

import math
from typing import Literal

import numpy as np

from pvsc_link.link.channel import ChannelFunction, SymbolReception
from pvsc_link.link.coded_link import BitReception, CodedLink
from pvsc_link.link.harq import HarqProcess, is_worth_a_round
from pvsc_link.types import ChannelPoint, InputError


class Air:
    """The channel uses of one GOP in the order in which they are sent: one fading process.

    Whatever is sent next takes the next channel uses. A channel use meets the realisation that
    ``seed`` has at its place, whatever was sent before it. Pilots take no place: they are counted
    with the stream that they are sent with.

    Bits whose link has ``transport.harq`` are sent as a ``HarqProcess``. A further round begins a
    round trip after the one before, at the first channel uses that are free from there on; nothing
    else is sent at these. Slow fading is then the same in all rounds, fast fading another.
    Retransmissions are not interleaved: they lie behind the GOP's channel uses.

    Parameters
    ----------
    point : condition of the channel, which every stream meets
    seed : int, of fading, channel estimation error and noise
    interleaving : ``none``, or ``gop``: the channel uses of the GOP are permuted
    num_symbols : channel uses of the whole GOP, without pilots and retransmissions; needed for
        interleaving

    Raises ``InputError`` for another ``interleaving``, for interleaving without ``num_symbols``,
    and when more is sent than that.

    Example
    -------
    >>> import numpy as np
    >>> from pvsc_link.link import Air, get_channel_function, get_coded_link
    >>> from pvsc_link.types import ChannelPoint
    >>> air = Air(ChannelPoint("rayleigh", 20.0, coherence_length=64), seed=1)
    >>> side = air.send_bits(get_coded_link(5, "rayleigh"), np.ones(300, np.uint8))
    >>> air.place == side.num_channel_uses, bool(side.block_ok.all())
    (True, True)
    >>> sent = air.send_symbols(
    ...     get_channel_function("rayleigh", "zf", csi_aware=False), np.ones(50, np.complex64))
    >>> sent.symbols_hat.shape, air.place - side.num_channel_uses
    ((50,), 50)
    """

    def __init__(
        self,
        point: ChannelPoint,
        seed: int,
        interleaving: Literal["none", "gop"] = "none",
        num_symbols: int | None = None,
    ):
        if interleaving not in ("none", "gop"):
            raise InputError(
                "interleaving of the air",
                found=interleaving,
                allowed=["none", "gop"],
                remedy="gop permutes the channel uses of the whole GOP.",
            )
        self.point, self.seed, self.num_symbols = point, seed, num_symbols
        self._places: np.ndarray | None = None
        if interleaving == "gop":
            if num_symbols is None:
                raise self._error("None", "their number")
            self._places = interleaved_places(num_symbols)
        #: The next channel use that is free, before interleaving.
        self.place = 0
        self._num_sent = 0  # without retransmissions
        self._retransmissions: list[tuple[int, int]] = []  # first channel use and end, ascending

    def send_bits(
        self, coded_link: CodedLink, bits: np.ndarray, deadline: float | None = None
    ) -> BitReception:
        """Payload bits, uint8 ``[num_bits]``, at the next channel uses.

        Parameters: ``deadline`` : channel uses from the first of them to the end of the last round,
        round trips included; a round that would end later is not sent. None: any.
        """
        where = self._next(coded_link.num_channel_uses(len(bits)))
        harq = coded_link.transport.harq
        if harq is None:
            return coded_link.send(bits, self.point, self.seed, *where)
        round_trip = coded_link.transport.round_trip_uses
        process, end = HarqProcess(coded_link, bits, harq.combining), self.place
        process.send(self.point, self.seed, *where)
        while is_worth_a_round(process, harq, round_trip, deadline):
            start = self._retransmission(end + round_trip, process.next_uses)
            end = start + process.next_uses
            process.send(self.point, self.seed, start)
        return process.reception()

    def send_symbols(
        self, channel_function: ChannelFunction, symbols: np.ndarray
    ) -> SymbolReception:
        """Analog symbols, complex64 ``[num_symbols]``, at the next channel uses."""
        return channel_function(symbols, self.point, self.seed, *self._next(len(symbols)))

    def _next(self, num: int) -> tuple[int, np.ndarray | None]:
        """First channel use and places after it of the next ``num`` symbols."""
        self._num_sent += num
        if self.num_symbols is not None and self._num_sent > self.num_symbols:
            raise self._error(self.num_symbols, f"at least {self._num_sent}, which are sent")
        first = self._first_free(self.place, num)
        self.place = first + num
        return (first, None) if self._places is None else (0, self._places[first : self.place])

    def _retransmission(self, earliest: int, num: int) -> int:
        """First channel use of a retransmission of ``num`` symbols, which are then taken."""
        if self._places is not None:
            earliest = max(earliest, len(self._places))
        first = self._first_free(earliest, num)
        self._retransmissions = sorted([*self._retransmissions, (first, first + num)])
        return first

    def _first_free(self, start: int, num: int) -> int:
        """First channel use from ``start`` on where ``num`` follow that no retransmission takes."""
        for first, end in self._retransmissions:
            if start < end and first < start + num:
                start = end
        return start

    @staticmethod
    def _error(found: object, allowed: str) -> InputError:
        return InputError(
            "num_symbols of the air",
            found=found,
            allowed=allowed,
            remedy="Count all channel uses of the GOP without pilots.",
        )


def interleaved_places(num_symbols: int) -> np.ndarray:
    """Channel use of each symbol of a GOP: a permutation that both ends know.

    Symbol i is sent at channel use ``i * step mod num_symbols``; step is the first integer from
    ``num_symbols`` over the golden ratio on that has no divisor in common with ``num_symbols``.
    Symbols that are close to each other are then far apart on the air, and the other way round.
    Output: [num_symbols], int64.
    """
    step = max(1, round(num_symbols * (math.sqrt(5.0) - 1.0) / 2.0))
    while math.gcd(step, num_symbols) > 1:
        step += 1
    return np.arange(num_symbols) * step % max(num_symbols, 1)
