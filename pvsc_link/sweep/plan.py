"""From the names in a scenario to objects, with every name checked before anything runs."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pvsc_link.media import load_clip, read_video
from pvsc_link.metrics import METRICS
from pvsc_link.options import Mark, check_name, marked
from pvsc_link.scenario import Media, Point, RawClip, Scenario, SchemeEntry, clip_name, expand
from pvsc_link.schemes import LinkOptions, Scheme, SchemeType, scheme_types
from pvsc_link.storage import digest
from pvsc_link.sweep.store import point_columns
from pvsc_link.types import CodecFailure, InputError, Video


@dataclass(frozen=True)
class Plan:
    """A scenario made concrete: resolved entries, the grid, and a scheme per (entry, variant).

    ``clip_notes`` : by the name of a clip, what its reader converted or left out;
    ``frame_digests`` : by the name of a clip, a digest of each frame, by which a clip is known.
    """

    scenario: Scenario
    points: list[Point]
    schemes: dict[tuple[int, str], Scheme]
    clip_notes: dict[str, list[str]] = field(default_factory=dict)
    frame_digests: dict[str, list[str]] = field(default_factory=dict)


def build(scenario: Scenario) -> Plan:
    """Check every name, fill in defaults, expand the grid.

    Raises ``InputError`` for an unknown anchor or clip, a rate or option value that a scheme does
    not take, a program that the scenario names and that does not work, too few frames, frames
    too small for a metric, and a stop rule on a metric that is not measured.
    """
    schemes: dict[tuple[int, str], Scheme] = {}
    entries, weights = [], []
    known: dict[tuple[str, str], Scheme] = {}
    for index, entry in enumerate(scenario.schemes):
        made = [_scheme(entry, variant, known) for variant in entry.variant]
        schemes.update({(index, scheme.variant): scheme for scheme in made})
        entries.append(_resolved(entry, made))
        weights.append(_weights(made))
    resolved = scenario.model_copy(update={"schemes": entries})
    _check_columns({entry.scheme for entry in scenario.schemes})
    _check_anchor(resolved, schemes.values())
    _check_stop(resolved)
    names = [clip_name(clip) for clip in scenario.media.clips]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            "clips with one name",
            found=twice,
            allowed="another name for each clip",
            remedy="Give raw clips a name of their own, and list every clip once.",
        )
    videos = [_check_clip(clip, scenario) for clip in scenario.media.clips]
    notes = {name: list(video.notes) for name, video in zip(names, videos, strict=True)}
    digests = {
        name: [digest(frame.tobytes())[:16] for frame in video.frames]
        for name, video in zip(names, videos, strict=True)
    }
    return Plan(resolved, expand(resolved, weights), schemes, notes, digests)


def _check_columns(names: Iterable[str]) -> None:
    """Refuse metrics, channels and options whose columns have one name in the tables."""
    columns = Counter(point_columns())
    for name in names:
        columns.update(set(marked(scheme_types()[name].Options, Mark.COLUMN)) & set(columns))
    twice = sorted(column for column, count in columns.items() if count > 1)
    if twice:
        raise InputError(
            "columns of the tables with one name",
            found=twice,
            allowed="another name for each metric, condition and option with a column",
            remedy="Rename the metric's column, the field of the condition, or the option.",
        )


def load(name: str, media: Media, gop: int) -> Video:
    """The frames of one clip that a sweep needs at one GOP length."""
    clip = next(clip for clip in media.clips if clip_name(clip) == name)
    return _read(clip, media, gop * media.num_gops)


def link_options(point: Point) -> LinkOptions:
    """How the point's scheme uses the link."""
    return LinkOptions(point.equalizer, point.csi_aware, point.decoder, point.num_iter)


def scheme_label(scheme: str, variant: str) -> str:
    """How a scheme is named in tables and as ``anchor``: ``x265`` or ``x265:psy-off``."""
    return f"{scheme}:{variant}" if variant else scheme


def _read(clip: str | RawClip, media: Media, num_frames: int) -> Video:
    if isinstance(clip, RawClip):
        video = read_video(
            clip.path,
            first_frame=media.first_frame,
            num_frames=num_frames,
            size=(clip.width, clip.height),
            pixel_format=clip.pixel_format,
            fps=clip.fps,
            matrix=clip.matrix or media.matrix,
            sample_range=clip.sample_range or media.sample_range,
        )
    else:
        colours = {"matrix": media.matrix, "sample_range": media.sample_range, "hdr": media.hdr}
        video = load_clip(clip, media.first_frame, num_frames, media.dataset_root, **colours)
    return replace(video, name=clip_name(clip), first_frame=media.first_frame)


def _scheme(
    entry: SchemeEntry, variant: str | None, known: dict[tuple[str, str], Scheme]
) -> Scheme:
    """What the entry names; entries that ask for the same (but for the link) share one object."""
    options = entry.options(variant)
    key = (entry.scheme, json.dumps(options, sort_keys=True, default=str))
    if key not in known:
        scheme_type = scheme_types()[entry.scheme]
        known[key] = scheme_type(**options)
        _check_program(known[key], scheme_type, entry)
    return known[key]


def _check_program(scheme: Scheme, scheme_type: SchemeType, entry: SchemeEntry) -> None:
    """A program that the scenario names must work; another one is a status in its rows."""
    try:
        scheme.check()
    except CodecFailure as failure:
        given = entry.options()
        for option in marked(scheme_type.Options, Mark.PROGRAM):
            if option in given:
                raise InputError(
                    f"{option} of {entry.scheme}",
                    found=given[option],
                    allowed=f"a working {option}",
                    remedy=failure.detail,
                ) from failure


def _resolved(entry: SchemeEntry, made: list[Scheme]) -> SchemeEntry:
    """The entry with every ``None`` and ``all`` replaced by its scheme's own default."""
    first = made[0]
    rates = (
        list(first.default_rates or first.allowed_rates) if entry.rates == "all" else entry.rates
    )
    equalizers = [name or first.default_equalizer for name in entry.equalizer]
    aware = [first.default_csi_aware if flag is None else flag for flag in entry.csi_aware]
    for rate in rates:
        if rate not in first.allowed_rates:
            raise InputError(
                f"rate of {entry.scheme}",
                found=rate,
                allowed=_span(first.allowed_rates),
                remedy="Correct schemes.rates.",
            )
    return entry.model_copy(
        update={
            "variant": [scheme.variant for scheme in made],
            "rates": rates,
            "equalizer": equalizers,
            "csi_aware": aware,
        }
    )


def _weights(made: Iterable[Scheme]) -> str | None:
    """Digests of the weights of all variants, or ``None`` where there are none to have."""
    digests = dict.fromkeys(scheme.weights_id for scheme in made if scheme.weights_id)
    return ", ".join(digests) or None


def _span(rates: Sequence[int]) -> str:
    if len(rates) > max(rates) - min(rates):
        return f"{min(rates)} to {max(rates)}"
    return ", ".join(map(str, rates))


def _check_anchor(scenario: Scenario, schemes: Iterable[Scheme]) -> None:
    if scenario.anchor is not None:
        made = list(schemes)
        labels = {s.name for s in made} | {scheme_label(s.name, s.variant) for s in made}
        check_name("anchor", scenario.anchor, sorted(labels))


def _check_stop(scenario: Scenario) -> None:
    for metric in scenario.stop.intervals if scenario.stop else ():
        if metric not in scenario.metrics:
            raise InputError(
                f"stop.{metric}_interval without the metric",
                found=scenario.metrics,
                allowed=f"metrics with {metric}",
                remedy=f"Add {metric} to metrics, or stop by frame_errors or seconds.",
            )


def _check_clip(clip: str | RawClip, scenario: Scenario) -> Video:
    """The clip, read once, its size checked."""
    media = scenario.media
    video = _read(clip, media, max(media.gop) * media.num_gops)
    height, width = video.frames.shape[1:3]
    for name in dict.fromkeys([*scenario.metrics, scenario.link.mcs_metric]):
        if min(height, width) < METRICS[name].smallest_side:
            raise InputError(
                f"frames of {clip_name(clip)} are too small for the metric {name}",
                found=f"{width}x{height}",
                allowed=f"height and width of at least {METRICS[name].smallest_side}",
                remedy=f"Leave {name} out, or send larger frames.",
            )
    return video
