"""The channel uses of one GOP: bits and symbols follow each other in one process of the channel."""

import math
from typing import Literal

import numpy as np

from pvsc_link.link.channel import ChannelFunction, SymbolReception
from pvsc_link.link.coded_link import BitReception, CodedLink
from pvsc_link.types import ChannelPoint, InputError


class Air:
    """The channel uses of one GOP in the order in which they are sent: one fading process.

    Whatever is sent next takes the next channel uses. A channel use meets the realisation that
    ``seed`` has at its place, whatever was sent before it. Pilots take no place: they are counted
    with the stream that they are sent with.

    Parameters
    ----------
    point : condition of the channel, which every stream meets
    seed : int, of fading, channel estimation error and noise
    interleaving : ``none``, or ``gop``: the channel uses of the GOP are permuted
    num_symbols : channel uses of the whole GOP without pilots; needed for interleaving

    Raises ``InputError`` for interleaving without ``num_symbols``, and when more is sent than that.

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
        self.point, self.seed, self.num_symbols = point, seed, num_symbols
        self._places: np.ndarray | None = None
        if interleaving == "gop":
            if num_symbols is None:
                raise self._error("None", "their number")
            self._places = interleaved_places(num_symbols)
        #: The next channel use that is free, before interleaving.
        self.place = 0

    def send_bits(self, coded_link: CodedLink, bits: np.ndarray) -> BitReception:
        """Payload bits, uint8 ``[num_bits]``, at the next channel uses."""
        where = self._next(coded_link.num_channel_uses(len(bits)))
        return coded_link.send(bits, self.point, self.seed, *where)

    def send_symbols(
        self, channel_function: ChannelFunction, symbols: np.ndarray
    ) -> SymbolReception:
        """Analog symbols, complex64 ``[num_symbols]``, at the next channel uses."""
        return channel_function(symbols, self.point, self.seed, *self._next(len(symbols)))

    def _next(self, num: int) -> tuple[int, np.ndarray | None]:
        """First channel use and places after it of the next ``num`` symbols."""
        first, end = self.place, self.place + num
        if self.num_symbols is not None and end > self.num_symbols:
            raise self._error(self.num_symbols, f"at least {end}, which are sent")
        self.place = end
        return (first, None) if self._places is None else (0, self._places[first:end])

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
