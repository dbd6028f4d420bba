"""Names in a scenario -> objects, with every name checked before anything runs or is written."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.registry import CODECS
from pvsc_link.link.registry import CHANNELS, DECODERS, EQUALIZERS, SYMBOL_EQUALIZERS
from pvsc_link.media.clips import load_clip
from pvsc_link.media.reader import read_video
from pvsc_link.scenario.grid import OPTIONS, Point, clip_name, expand
from pvsc_link.scenario.schema import Media, RawClip, Scenario, SchemeEntry
from pvsc_link.schemes.base import LinkOptions, Scheme
from pvsc_link.schemes.semantic import DvstScheme, SemanticScheme
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.types import CodecFailure, InputError, Video

#: Semantic schemes by the name that a scenario writes, beside the codecs of ``CODECS``.
SEMANTIC: dict[str, Callable[..., Scheme]] = {"pvsc": SemanticScheme, "dvst": DvstScheme}


@dataclass(frozen=True)
class Plan:
    """A scenario made concrete: resolved entries, the grid, and a scheme per (entry, variant)."""

    scenario: Scenario
    points: list[Point]
    schemes: dict[tuple[int, str], Scheme]


def build(scenario: Scenario) -> Plan:
    """Check every name, fill in defaults, expand the grid.

    Raises ``InputError`` for an unknown scheme, channel, equalizer, decoder, anchor or clip, a
    rate the codec does not have, a missing binary that the scenario names, too few frames, a
    stop rule on a metric that is not measured.
    """
    _check_names("link.channel", scenario.link.channel, CHANNELS)
    _check_names("link.decoder", scenario.link.decoder, DECODERS)
    schemes: dict[tuple[int, str], Scheme] = {}
    entries = []
    known: dict[tuple[str, str], Scheme] = {}
    for index, entry in enumerate(scenario.schemes):
        made = [_scheme(entry, variant, known) for variant in entry.variant]
        schemes.update({(index, scheme.variant): scheme for scheme in made})
        entries.append(_resolved(entry, made))
    resolved = scenario.model_copy(update={"schemes": entries})
    _check_anchor(resolved, schemes.values())
    _check_stop(resolved)
    for clip in scenario.media.clips:
        _check_clip(clip, scenario.media)
    return Plan(resolved, expand(resolved), schemes)


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
    span = {"first_frame": media.first_frame, "num_frames": num_frames}
    if isinstance(clip, RawClip):
        size = (clip.width, clip.height)
        video = read_video(
            clip.path, size=size, pixel_format=clip.pixel_format, fps=clip.fps, **span
        )
    else:
        video = load_clip(clip, dataset_root=media.dataset_root, **span)
    return replace(video, name=clip_name(clip), first_frame=media.first_frame)


def _scheme(
    entry: SchemeEntry, variant: str | None, known: dict[tuple[str, str], Scheme]
) -> Scheme:
    """What the entry names; entries that ask for the same (but for the link) share one object."""
    _check_names("schemes.scheme", [entry.scheme], [*CODECS, *SEMANTIC])
    options = {key: getattr(entry, key) for key in OPTIONS} | {"variant": variant}
    given = {key: value for key, value in options.items() if value is not None}
    key = (entry.scheme, json.dumps(given, sort_keys=True, default=str))
    if key not in known:
        if entry.scheme in SEMANTIC:
            known[key] = _made(SEMANTIC, entry.scheme, given)
        else:
            codec = _made(CODECS, entry.scheme, given)
            _check_codec(codec, entry)
            known[key] = SeparatedScheme(codec)
    return known[key]


def _made(table: Mapping[str, Callable[..., Any]], name: str, options: dict[str, Any]) -> Any:
    """What a name means, with its options; refuses options that it does not take."""
    try:
        return table[name](**options)
    except TypeError as error:
        raise InputError(
            f"scheme {name} takes no such option",
            found=json.dumps(options, default=str),
            allowed=str(error),
            remedy="Remove the option.",
        ) from error


def _check_codec(codec: Codec, entry: SchemeEntry) -> None:
    """A binary that the scenario names must be there; another one is a status in its rows."""
    try:
        codec.check()
    except CodecFailure as failure:
        named = entry.binary or entry.checkout
        if named is not None:
            raise InputError(
                f"{'binary' if entry.binary else 'checkout'} of {entry.scheme}",
                found=named,
                allowed="a working binary or checkout",
                remedy=failure.detail,
            ) from failure


def _resolved(entry: SchemeEntry, made: list[Scheme]) -> SchemeEntry:
    """The entry with every ``None`` and ``all`` replaced by its scheme's own default."""
    first = made[0]
    rates = list(first.default_rates) if entry.rates == "all" else entry.rates
    equalizers = [name or first.default_equalizer for name in entry.equalizer]
    aware = [first.default_csi_aware if flag is None else flag for flag in entry.csi_aware]
    allowed = EQUALIZERS if first.digital else SYMBOL_EQUALIZERS
    _check_names(f"schemes.{entry.scheme}.equalizer", equalizers, allowed)
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
            # Rows of other weights are other rows: the digest stands in their id, not the place.
            "weights": _weights(made),
        }
    )


def _weights(made: Iterable[Scheme]) -> str | None:
    """Digests of the weights of all variants, or ``None`` where there are none to have."""
    found = [getattr(scheme, "weights_id", None) for scheme in made]
    return ", ".join(dict.fromkeys(digest for digest in found if digest)) or None


def _span(rates: Sequence[int]) -> str:
    if len(rates) > max(rates) - min(rates):
        return f"{min(rates)} to {max(rates)}"
    return ", ".join(map(str, rates))


def _check_names(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
            hint = f"Did you mean {near[0]!r}?" if near else "Use one of the allowed names."
            raise InputError(where, found=name, allowed=known, remedy=hint)


def _check_anchor(scenario: Scenario, schemes: Iterable[Scheme]) -> None:
    if scenario.anchor is None:
        return
    made = list(schemes)
    labels = {s.name for s in made} | {scheme_label(s.name, s.variant) for s in made}
    _check_names("anchor", [scenario.anchor], sorted(labels))


def _check_stop(scenario: Scenario) -> None:
    if scenario.stop and scenario.stop.lpips_interval and "lpips" not in scenario.metrics:
        raise InputError(
            "stop.lpips_interval without the metric",
            found=scenario.metrics,
            allowed="metrics with lpips",
            remedy="Add lpips to metrics, or stop by frame_errors or seconds.",
        )


def _check_clip(clip: str | RawClip, media: Media) -> None:
    _read(clip, media, max(media.gop) * media.num_gops)
