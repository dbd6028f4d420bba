"""Scenario -> grid of points, each with an id that does not depend on its neighbours."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

from pvsc_link.scenario.schema import Link, RawClip, Scenario, SchemeEntry
from pvsc_link.types import ChannelPoint

#: Keys of an entry that its codec or semantic scheme takes; what is given counts in the point's id.
OPTIONS = (
    *("preset", "index", "binary", "timeout_s", "side_format", "refresh_every"),
    *("weights", "jit_compile"),
    *("checkout", "python", "checkpoints", "device", "receiver_arithmetic"),
)


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
    channel: str
    snr_db: float
    csi_nmse_db: float | None
    coherence_length: int | None
    equalizer: str
    csi_aware: bool
    mcs: int | str  # index, or the policy "best" or "envelope"
    decoder: str
    num_iter: int
    mcs_metric: str
    options: str  # JSON of the entry's other keys
    seed: int

    @property
    def point_id(self) -> str:
        """16 hex digits of the coordinates; the entry's position does not count."""
        coordinates = asdict(self)
        del coordinates["entry"]
        text = json.dumps(coordinates, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def channel_point(self) -> ChannelPoint:
        return ChannelPoint(self.channel, self.snr_db, self.csi_nmse_db, self.coherence_length)


def expand(scenario: Scenario) -> list[Point]:
    """Every point of a scenario whose entries are resolved (no ``None``, no ``rates: all``).

    Axes that do not apply collapse: NMSE and coherence under a channel without fading
    (``awgn``). Duplicates that arise so are dropped; the order is clip, gop, scheme, channel, rate.
    """
    points = dict.fromkeys(_points(scenario))
    return list(points)


def _points(scenario: Scenario) -> Iterator[Point]:
    media = scenario.media
    for clip, gop, (index, entry) in product(media.clips, media.gop, enumerate(scenario.schemes)):
        for channel, decoder in product(_channel_points(scenario.link), scenario.link.decoder):
            for variant, equalizer, aware, mcs, seed, rate in _entry_axes(entry, scenario.seeds):
                yield Point(
                    scheme=entry.scheme,
                    variant=variant,
                    entry=index,
                    clip=clip_name(clip),
                    gop=gop,
                    num_gops=media.num_gops,
                    first_frame=media.first_frame,
                    rate=rate,
                    channel=channel.channel,
                    snr_db=channel.snr_db,
                    csi_nmse_db=channel.csi_nmse_db,
                    coherence_length=channel.coherence_length,
                    equalizer=equalizer,
                    csi_aware=aware,
                    mcs=mcs,
                    decoder=decoder,
                    num_iter=scenario.link.num_iter,
                    mcs_metric=scenario.link.mcs_metric,
                    options=_options(entry),
                    seed=seed,
                )


def _channel_points(link: Link) -> list[ChannelPoint]:
    points = []
    for channel, snr, nmse, coherence in product(
        link.channel, link.snr_db, link.csi_nmse_db, link.coherence_length
    ):
        fading = channel != "awgn"
        points.append(
            ChannelPoint(channel, snr, nmse if fading else None, coherence if fading else None)
        )
    return list(dict.fromkeys(points))


def _entry_axes(entry: SchemeEntry, seeds: list[int]) -> Iterator[tuple]:
    if entry.rates == "all":
        raise ValueError("rates: all must be resolved before the grid is expanded")
    yield from product(
        entry.variant, entry.equalizer, entry.csi_aware, entry.mcs, seeds, entry.rates
    )


def _options(entry: SchemeEntry) -> str:
    chosen = {key: getattr(entry, key) for key in OPTIONS if getattr(entry, key) is not None}
    return json.dumps(chosen, sort_keys=True)


def clip_name(clip: str | RawClip) -> str:
    """The name a clip has in the results: its own, or its path as written."""
    if isinstance(clip, RawClip):
        return clip.name or clip.path
    return clip
