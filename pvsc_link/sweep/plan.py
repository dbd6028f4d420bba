"""From the names in a scenario to objects, with every name checked before anything runs."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from pvsc_link.link import MCS_TABLES, find_channel, get_mcs
from pvsc_link.media import load_clip, read_video
from pvsc_link.metrics import METRICS
from pvsc_link.options import Mark, check_name, marked
from pvsc_link.scenario import Media, Point, RawClip, Scenario, SchemeEntry, clip_name, expand
from pvsc_link.schemes import LinkOptions, Scheme, SchemeType, scheme_types
from pvsc_link.storage import digest
from pvsc_link.sweep.store import point_columns
from pvsc_link.types import CodecFailure, InputError, Video

#: The rule of an MCS that follows the acknowledgements.
OLLA = "olla"


@dataclass(frozen=True)
class Plan:
    """A scenario made concrete: resolved entries, the grid, and a scheme per (entry, variant).

    ``clip_notes`` : by the name of a clip, what its reader converted or left out;
    ``frame_digests`` : by the name of a clip, a digest of each frame, by which a clip is known;
    ``contents`` : by scheme and options, a digest of each bitstream that is looked up;
    ``bad_clips`` : by the name of a clip that cannot be sent, why;
    ``sizes`` : by the name of a clip, height and width.
    """

    scenario: Scenario
    points: list[Point]
    schemes: dict[tuple[int, str], Scheme]
    clip_notes: dict[str, list[str]] = field(default_factory=dict)
    frame_digests: dict[str, list[str]] = field(default_factory=dict)
    contents: dict[str, dict[str, str]] = field(default_factory=dict)
    bad_clips: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    @cached_property
    def places(self) -> dict[tuple[str, int], list[Point]]:
        """Points by clip and GOP length, in the order of the grid."""
        places: dict[tuple[str, int], list[Point]] = {}
        for point in self.points:
            places.setdefault(point.place, []).append(point)
        return places


def build(scenario: Scenario, *, ask_programs: bool = True) -> Plan:
    """Check every name, fill in defaults, expand the grid.

    Parameters: ``ask_programs`` : whether programs that the scenario names are asked if they work;
    False runs none of them.


    A clip that cannot be read, has too few frames or is too small for a metric is noted among the
    ``bad_clips``; the other clips can be swept without it.
    Raises ``InputError`` for an unknown or ambiguous anchor, a rate or option value that a scheme
    does not take, a program that the scenario names and that does not work, entries that mean the
    same, a stop rule on a metric that is not measured, a channel that cannot work, an MCS that its
    table does not have, a block length that an MCS cannot have, and if no clip at all can be sent.
    """
    schemes: dict[tuple[int, str], Scheme] = {}
    entries, weights = [], []
    known: dict[tuple[str, str], Scheme] = {}
    of_entry = [
        [_scheme(entry, variant, known, ask_programs) for variant in entry.variant]
        for entry in scenario.schemes
    ]
    _tell_apart(scenario.schemes, of_entry)
    for index, (entry, made) in enumerate(zip(scenario.schemes, of_entry, strict=True)):
        schemes.update({(index, scheme.variant): scheme for scheme in made})
        entries.append(_resolved(entry, made))
        weights.append(_weights(made))
    resolved = scenario.model_copy(update={"schemes": entries})
    _check_columns({entry.scheme for entry in scenario.schemes})
    _check_anchor(resolved, schemes.values())
    _check_stop(resolved)
    points = expand(resolved, weights)
    for channel_point in dict.fromkeys(point.channel_point for point in points):
        find_channel(channel_point.channel).check_point(channel_point)
    sent = dict.fromkeys((p.mcs, p.transport) for p in points if not p.is_packets)
    for mcs, transport in sent:
        if mcs == OLLA and transport.interleaving != "none":
            raise InputError(
                "mcs: olla with interleaving",
                found=transport.interleaving,
                allowed="none",
                remedy="How long a GOP is has to be known before it is interleaved: give another "
                "rule, or leave interleaving out.",
            )
        for index in [mcs] if isinstance(mcs, int) else range(len(MCS_TABLES[transport.mcs_table])):
            get_mcs(index, transport.mcs_table, transport.block_length)
    names = [clip_name(clip) for clip in scenario.media.clips]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(
            "clips with one name",
            found=twice,
            allowed="another name for each clip",
            remedy="Give raw clips a name of their own, and list every clip once.",
        )
    notes, digests, bad, sizes = _read_clips(scenario)
    contents = {
        f"{scheme_label(made.name, made.variant)} {_options_text(entries[index])}": dict(
            made.content
        )
        for (index, _), made in schemes.items()
        if made.content
    }
    return Plan(resolved, points, schemes, notes, digests, contents, bad, sizes)


def _read_clips(
    scenario: Scenario,
) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, str], dict[str, tuple[int, int]]]:
    """Notes of the reader, digests of the frames, what is wrong, and sizes, by the name of a clip.

    Raises ``InputError`` if something is wrong with every clip.
    """
    notes, digests, bad, sizes = {}, {}, {}, {}
    for clip in scenario.media.clips:
        name = clip_name(clip)
        try:
            video = _check_clip(clip, scenario)
        except InputError as error:
            bad[name] = str(error)
            if len(bad) == len(scenario.media.clips):
                raise
            continue
        notes[name] = list(video.notes)
        sizes[name] = video.frames.shape[1:3]
        digests[name] = [digest(frame.tobytes())[:16] for frame in video.frames]
    return notes, digests, bad, sizes


def _tell_apart(entries: Sequence[SchemeEntry], of_entry: Sequence[Sequence[Scheme]]) -> None:
    """Give schemes that differ in an option which their variant does not say a variant that does.

    Rows of one scheme and variant form one curve, so two presets of a codec would be averaged.
    Raises ``InputError`` for entries that write the same options in two ways.
    """
    alike: dict[str, dict[int, tuple[Scheme, dict]]] = {}
    for entry, made in zip(entries, of_entry, strict=True):
        fields = scheme_types()[entry.scheme].Options.model_fields
        defaults = {name: info.default for name, info in fields.items()}
        given = {name: value for name, value in entry.options().items() if name != "variant"}
        for scheme in made:
            label = scheme_label(scheme.name, scheme.variant)
            alike.setdefault(label, {})[id(scheme)] = scheme, defaults | given
    for label, schemes in alike.items():
        options = [of_scheme for _, of_scheme in schemes.values()]
        differing = [n for n in options[0] if len({repr(o[n]) for o in options}) > 1]
        texts = [", ".join(f"{name} {o[name]}" for name in differing) for o in options]
        if len(set(texts)) < len(texts):
            raise InputError(
                f"entries of {label} that mean the same",
                found="the same options, once left to their defaults and once given",
                allowed="entries whose options differ",
                remedy="Write the options in the same way, or join the entries.",
            )
        for (scheme, _), text in zip(schemes.values(), texts, strict=True):
            if text:
                _name(scheme, ", ".join(filter(None, (scheme.variant, text))))


def _name(scheme: Scheme, variant: str) -> None:
    try:
        scheme.variant = variant
    except AttributeError as error:
        raise InputError(
            f"entries of {scheme.name} that differ in options alone",
            found=f"the variant {scheme.variant!r} for several",
            allowed="a variant for each",
            remedy="Let the scheme name its options in its variant.",
        ) from error


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
    return LinkOptions(
        point.equalizer, point.csi_aware, point.decoder, point.num_iter, point.transport
    )


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
    entry: SchemeEntry,
    variant: str | None,
    known: dict[tuple[str, str], Scheme],
    ask_programs: bool,
) -> Scheme:
    """What the entry names; entries that ask for the same (but for the link) share one object."""
    options = entry.options(variant)
    key = (entry.scheme, json.dumps(options, sort_keys=True, default=str))
    if key not in known:
        scheme_type = scheme_types()[entry.scheme]
        known[key] = scheme_type(**options)
        names_program = any(n in entry.options() for n in marked(scheme_type.Options, Mark.PROGRAM))
        if ask_programs or not names_program:
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


def _options_text(entry: SchemeEntry) -> str:
    return json.dumps(entry.options(), sort_keys=True)


def _weights(made: Iterable[Scheme]) -> str | None:
    """Digests of the weights of all variants, or ``None`` where there are none to have."""
    digests = dict.fromkeys(scheme.weights_id for scheme in made if scheme.weights_id)
    return ", ".join(digests) or None


def _span(rates: Sequence[int]) -> str:
    if len(rates) > max(rates) - min(rates):
        return f"{min(rates)} to {max(rates)}"
    return ", ".join(map(str, rates))


def _check_anchor(scenario: Scenario, schemes: Iterable[Scheme]) -> None:
    if scenario.anchor is None:
        return
    labels: dict[str, set[str]] = {}
    for scheme in schemes:
        label = scheme_label(scheme.name, scheme.variant)
        for word in (scheme.name, label):
            labels.setdefault(word, set()).add(label)
    check_name("anchor", scenario.anchor, sorted(labels))
    if len(meant := labels[scenario.anchor]) > 1:
        raise InputError(
            "anchor",
            found=f"{scenario.anchor}, which has {len(meant)} variants here",
            allowed=sorted(meant),
            remedy="Name one variant.",
        )


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
        shortest = min(media.gop) * media.num_gops
        if shortest < METRICS[name].fewest_frames:
            raise InputError(
                f"{clip_name(clip)} is too short for the metric {name}",
                found=f"{shortest} frames",
                allowed=f"at least {METRICS[name].fewest_frames}",
                remedy=f"Leave {name} out, or send longer GOPs or more of them. transmit measures "
                "every GOP by itself.",
            )
    return video
