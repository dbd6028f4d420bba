"""The contract of a whole transmission: video in, what the receiver shows out."""

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from pvsc_link.link import DEFAULT_TRANSPORT, Adaptation, Transport
from pvsc_link.types import ChannelPoint, Reception, Video


@dataclass(frozen=True)
class LinkOptions:
    """How a scheme uses the link at a point; names are keys of the registries of ``link``."""

    equalizer: str
    csi_aware: bool
    decoder: str
    num_iter: int
    transport: Transport = DEFAULT_TRANSPORT


#: Link options of coded bits unless a scheme says otherwise: of every codec, and of the side
#: information of semantic schemes.
CODED_EQUALIZER, CODED_CSI_AWARE = "lmmse", True


def packet_details(air: Any) -> dict[str, float]:
    """Columns of a GOP that was sent in packets: how many, and how many were lost; else nothing."""
    if not hasattr(air, "num_packets"):
        return {}
    return {"num_packets": air.num_packets, "packets_lost": air.num_lost}


class Scheme(Protocol):
    """A transmission that a sweep can run. A clip is sent as consecutive GOPs.

    A scheme of one's own is a subclass. It must set ``name``, ``variant``, ``digital`` and
    ``allowed_rates`` and define ``encode_gop`` and ``stream``; everything else has a default.

    What the channel cannot change is done in ``encode_gop``, once per clip, GOP length and rate;
    ``stream`` sends it over one channel point. What ``encode_gop`` returns has the attributes
    ``command`` and ``version`` (literal options and versions, for the manifest); that of a digital
    scheme is an ``EncodedGop``, whose curve of rate and quality chooses the MCS.
    """

    name: str  # key of the scheme in scenarios and results
    variant: str  # labelled setting; rows of different variants are different systems
    digital: bool  # whether the source travels as bits
    allowed_rates: Sequence[int]  # what ``encode_gop`` takes
    #: What ``rates: all`` means; empty: every allowed rate.
    default_rates: Sequence[int] = ()
    #: What a scenario gets that names neither.
    default_equalizer: str = CODED_EQUALIZER
    default_csi_aware: bool = CODED_CSI_AWARE
    #: What stands in every row that came through: ``ok``, or ``untrained``.
    status: str = "ok"
    #: Digest of the trained weights, which is part of a point's identity; None: there are none.
    weights_id: str | None = None
    #: Of bitstreams that are looked up instead of made, a digest by the name of each.
    content: Mapping[str, str] = MappingProxyType({})

    def check(self) -> None:
        """Raise ``CodecFailure`` if the scheme cannot run here, before any work is done."""
        return

    @abc.abstractmethod
    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> Any:
        """The GOP of ``gop`` frames that begins at frame ``first`` of ``video``, coded.

        The frames before it are only history. Raises ``CodecFailure`` when the codec cannot.
        """

    def encode(self, video: Video, gop: int, rate: int) -> list[Any]:
        """The coded GOPs of a whole clip."""
        return [self.encode_gop(video, t, gop, rate) for t in range(0, len(video.frames), gop)]

    def warm_up(self, gop: Any) -> None:
        """Make what the receiver of a coded GOP needs and keeps, such as traced networks.

        ``stream`` makes it by itself. A sweep calls this in another thread while it does other
        work, and receives nothing of this scheme until it is done.
        """
        return

    @abc.abstractmethod
    def stream(
        self,
        gops: Iterable[Any],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int | Adaptation,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """Send coded GOPs over one channel point, each when its reception is asked for.

        The receiver's state goes on from GOP to GOP; nothing else is kept.

        Parameters: ``mcs`` : of all coded bits, or what gives it for each transport and hears
        which blocks arrived at once; ``seeds`` : one per GOP, fixes its fading, CSI error and
        noise.
        Output: one ``Reception`` per GOP.
        """

    def transmit(
        self,
        gops: Sequence[Any],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int | Adaptation,
        seeds: Sequence[int],
    ) -> list[Reception]:
        """All receptions of :meth:`stream`."""
        return list(self.stream(gops, point, link, mcs, seeds))
