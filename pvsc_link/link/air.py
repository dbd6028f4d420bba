"""The channel uses of one GOP: bits and symbols follow each other in one process of the channel."""

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
        if interleaving != "none":
            raise InputError(
                "interleaving",
                found=interleaving,
                allowed="none",
                remedy="This version sends channel uses in order: leave the key out.",
            )
        self.point, self.seed = point, seed
        self.interleaving, self.num_symbols = interleaving, num_symbols
        #: The next channel use that is free.
        self.place = 0

    def send_bits(self, coded_link: CodedLink, bits: np.ndarray) -> BitReception:
        """Payload bits, uint8 ``[num_bits]``, at the next channel uses."""
        received = coded_link.send(bits, self.point, self.seed, self.place)
        self.place += received.num_channel_uses - received.num_pilots
        return received

    def send_symbols(
        self, channel_function: ChannelFunction, symbols: np.ndarray
    ) -> SymbolReception:
        """Analog symbols, complex64 ``[num_symbols]``, at the next channel uses."""
        received = channel_function(symbols, self.point, self.seed, self.place)
        self.place += len(symbols)
        return received
