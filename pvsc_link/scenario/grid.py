"""From a scenario to its grid of points, each with an id that does not depend on its neighbours."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import Any

from pvsc_link.link import DEFAULT_TRANSPORT, Transport, find_channel
from pvsc_link.scenario.schema import PACKET_TRANSPORT, Link, RawClip, Scenario, SchemeEntry
from pvsc_link.storage import json_digest
from pvsc_link.types import ChannelPoint


@dataclass(frozen=True)
class Point:
    """One row of the results to come: a scheme at one rate over one channel condition."""

    scheme: str
    variant: str
    entry: int  # index of the scheme's entry in the scenario
    clip: str
    gop: int
    num_gops: int
    first_frame: int
    rate: int
    channel_point: ChannelPoint
    equalizer: str
    csi_aware: bool
    mcs: int | str  # index, the policy "best", "envelope" or "olla"; "" in packets
    decoder: str
    num_iter: int
    mcs_metric: str
    options: str  # JSON of the scheme's own options that the scenario gives
    seed: int
    transport: Transport = DEFAULT_TRANSPORT

    @property
    def channel(self) -> str:
        return self.channel_point.channel

    @property
    def snr_db(self) -> float:
        return self.channel_point.snr_db

    @property
    def is_packets(self) -> bool:
        """Whether it is sent over a packet network, which has no symbols and no MCS."""
        return find_channel(self.channel).is_packets

    @property
    def channel_words(self) -> str:
        """Channel and SNR for messages."""
        return self.channel if self.is_packets else f"{self.channel} {self.snr_db:g} dB"

    @property
    def place(self) -> tuple[str, int]:
        """Clip and GOP length, within which points share encodings."""
        return self.clip, self.gop

    @cached_property
    def point_id(self) -> str:
        """16 hex digits of the coordinates; the place of the scheme's entry does not count."""
        return json_digest(self.coordinates)[:16]

    @property
    def coordinates(self) -> dict[str, Any]:
        """All that tells the point from others, by column name."""
        coordinates = {name: getattr(self, name) for name in _OWN}
        snr_db = None if self.is_packets else self.snr_db
        here = {"channel": self.channel, "snr_db": snr_db, **self.channel_point.condition}
        return coordinates | here | self.transport.columns()


#: Fields of a point that are columns as they are.
_OWN = [of.name for of in fields(Point) if of.name not in ("entry", "channel_point", "transport")]


def expand(scenario: Scenario, weights: Sequence[str | None] = ()) -> list[Point]:
    """Every point of a scenario whose entries are resolved (no ``None``, no ``rates: all``).

    Axes that a channel does not have collapse to one point. The order is clip, GOP length, scheme,
    channel condition, rate; equal points are there once.

    Parameters: ``weights`` : by entry, the digest of the weights that it runs with; it takes the
    place of the option ``weights``, because rows of other weights are other rows.
    """
    return list(dict.fromkeys(_points(scenario, weights or [None] * len(scenario.schemes))))


def _points(scenario: Scenario, weights: Sequence[str | None]) -> Iterator[Point]:
    media, link = scenario.media, scenario.link
    conditions, transports = channel_points(link), link.transports()
    for clip, gop, (index, entry) in product(media.clips, media.gop, enumerate(scenario.schemes)):
        if entry.rates == "all":
            raise ValueError("rates: all must be resolved before the grid is expanded")
        options = _options(entry, weights[index])
        for channel_point, decoder, transport in product(conditions, link.decoder, transports):
            for variant, equalizer, aware, mcs, seed, rate in product(
                entry.variant,
                entry.equalizer,
                entry.csi_aware,
                entry.mcs,
                scenario.seeds,
                entry.rates,
            ):
                point = Point(
                    scheme=entry.scheme,
                    variant=variant,  # type: ignore[arg-type]  # resolved
                    entry=index,
                    clip=clip_name(clip),
                    gop=gop,
                    num_gops=media.num_gops,
                    first_frame=media.first_frame,
                    rate=rate,
                    channel_point=channel_point,
                    equalizer=equalizer,  # type: ignore[arg-type]  # resolved
                    csi_aware=aware,  # type: ignore[arg-type]  # resolved
                    mcs=mcs,
                    decoder=decoder,
                    num_iter=link.num_iter,
                    mcs_metric=link.mcs_metric,
                    options=options,
                    seed=seed,
                    transport=transport,
                )
                yield _in_packets(point) if point.is_packets else point


def _in_packets(point: Point) -> Point:
    """The point without what a packet network does not have."""
    kept = {name: getattr(point.transport, name) for name in PACKET_TRANSPORT}
    nothing = {"equalizer": "", "csi_aware": False, "mcs": "", "decoder": "", "num_iter": 0}
    return replace(point, **nothing, transport=Transport(**kept))  # type: ignore[arg-type]


def channel_points(link: Link) -> list[ChannelPoint]:
    """The channel conditions of a scenario, in the order of its axes."""
    points = []
    for channel, snr_db, condition in link.conditions():
        named = {name: condition.pop(name, None) for name in ("csi_nmse_db", "coherence_length")}
        points.append(ChannelPoint(channel, snr_db, **named, more=tuple(condition.items())))
    return points


def _options(entry: SchemeEntry, weights: str | None) -> str:
    chosen = {name: value for name, value in entry.options().items() if name != "weights"}
    return json.dumps(chosen | ({"weights": weights} if weights else {}), sort_keys=True)


def clip_name(clip: str | RawClip) -> str:
    """The name a clip has in the results: its own, or its path as written."""
    if isinstance(clip, RawClip):
        return clip.name or clip.path
    return clip
