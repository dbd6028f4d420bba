"""The contract of a whole transmission: video in, what the receiver shows out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pvsc_link.types import ChannelPoint, Reception, Video


@dataclass(frozen=True)
class LinkOptions:
    """How a scheme uses the link at a point; names are keys of ``link``'s own dicts."""

    equalizer: str
    csi_aware: bool
    decoder: str
    num_iter: int


class Scheme(Protocol):
    """A transmission that a sweep can run.

    ``encode`` does what the channel cannot change, once per (clip, GOP length, rate);
    ``transmit`` sends it over one channel point. Both treat a clip as consecutive GOPs.
    """

    name: str
    variant: str
    digital: bool  # the source travels as bits, so that its own curve chooses its MCS
    default_equalizer: str
    default_csi_aware: bool

    @property
    def default_rates(self) -> Sequence[int]:
        """What ``rates: all`` means."""
        ...

    @property
    def allowed_rates(self) -> Sequence[int]: ...

    def encode(self, video: Video, gop: int, rate: int) -> Sequence[Any]:
        """Source-coded GOPs of a clip; raises ``CodecFailure`` when the codec cannot."""
        ...

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> Any:
        """The GOP that begins at frame ``first``; the frames before it are only history."""
        ...

    def stream(
        self,
        gops: Iterable[Any],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """What :meth:`transmit` returns, one GOP at a time: none is asked for before its turn.

        The receiver's state goes on from GOP to GOP; nothing else is kept.
        """
        ...

    def transmit(
        self,
        gops: Sequence[Any],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Sequence[int],
    ) -> list[Reception]:
        """One ``Reception`` per GOP; ``seeds[g]`` fixes fading, CSI error and noise of GOP g."""
        ...
