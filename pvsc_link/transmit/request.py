"""What the user asks for, as a scenario of one GOP that the sweep's own checks can judge."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import yaml

from pvsc_link.media.clips import stream_clip
from pvsc_link.media.reader import FrameStream, stream_video
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.scenario.schema import RawClip, Scenario
from pvsc_link.semantic.pretrained import UNTRAINED
from pvsc_link.sweep.builder import Plan, build
from pvsc_link.types import InputError


@dataclass(frozen=True)
class Request:
    """One video over one channel condition.

    ``source`` : as a scenario's clip; ``schemes`` : ``NAME`` or ``NAME:VARIANT``; ``link`` : keys
    of a scenario's ``link``; ``rates`` : by scheme as named; ``options`` : keys of a scenario's
    scheme entry, by scheme as named; ``target_cbr`` : CBR at which schemes without a rate are
    compared, None: that of the first scheme at its middle rate; ``still_frame`` : None: near the
    middle.
    """

    source: str | RawClip
    schemes: Sequence[str]
    link: Mapping[str, Any]
    gop: int = 4
    first_frame: int = 0
    num_frames: int | None = None
    mcs: int | str = "best"
    seed: int = 1
    metrics: Sequence[str] = ("psnr", "lpips")
    rates: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    target_cbr: float | None = None
    still_frame: int | None = None
    with_untrained: bool = False


def open_source(request: Request) -> FrameStream:
    """The frames that are asked for, one by one. Raises ``InputError`` for a bad source."""
    source = request.source
    if isinstance(source, RawClip):
        size = (source.width, source.height)
        stream = stream_video(
            source.path,
            first_frame=request.first_frame,
            size=size,
            pixel_format=source.pixel_format,
            fps=source.fps,
        )
    else:
        stream = stream_clip(source, request.first_frame)
    known = [n for n in (stream.num_frames, request.num_frames) if n is not None]
    return FrameStream(stream.name, stream.frames, stream.fps, min(known, default=None))


def plan_of(request: Request) -> Plan:
    """Entries in the order of ``request.schemes``, a GOP of the clip, all rates that may be chosen.

    Raises ``InputError`` for everything that a sweep refuses, for a scheme named twice, for rates
    and options of schemes that are not sent, and for a scheme without trained weights unless
    ``with_untrained``.
    """
    _check_words("scheme", request.schemes, unique=True)
    for what, named in (("rate of scheme", request.rates), ("option of scheme", request.options)):
        _check_words(what, named, allowed=request.schemes)
    plan = build(_scenario(request))
    for scheme, word in zip(plan.schemes.values(), request.schemes, strict=True):
        if getattr(scheme, "status", "ok") == UNTRAINED and not request.with_untrained:
            raise InputError(
                f"scheme {word} has no trained weights",
                found=UNTRAINED,
                allowed="a scheme that is trained",
                remedy=f"Train it (python -m pvsc_link.train) and give --option {word}.weights="
                "FOLDER; or send it as it is, labelled untrained, with --with-untrained.",
            )
    return plan


def _scenario(request: Request) -> Scenario:
    return parse_scenario(
        {
            "name": "transmit",
            "seed": request.seed,
            "media": {
                "clips": [request.source],
                "gop": _gop_length(request),
                "num_gops": 1,
                "first_frame": request.first_frame,
            },
            "link": dict(request.link),
            "schemes": [_entry(word, request) for word in request.schemes],
            "metrics": list(request.metrics),
        },
        where="options",
    )


def _gop_length(request: Request) -> int:
    """The GOP length asked for, or all frames of a shorter video."""
    if request.gop < 1 or (request.num_frames is not None and request.num_frames < 1):
        raise InputError(
            "frames to send",
            found=f"gop {request.gop}, frames {request.num_frames}",
            allowed="at least 1",
            remedy="Correct --gop or --frames.",
        )
    with closing(open_source(request).frames) as frames:
        most = min(request.gop, request.num_frames or request.gop)
        found = sum(1 for _ in islice(frames, most))
    return found or most  # none at all: the sweep's reader says so


def _entry(word: str, request: Request) -> dict[str, Any]:
    name, _, variant = word.partition(":")
    entry: dict[str, Any] = {"scheme": name, "mcs": request.mcs}
    if variant:
        entry["variant"] = variant
    if word in request.rates:
        entry["rates"] = [request.rates[word]]
    for key, value in request.options.get(word, {}).items():
        if isinstance(value, list):
            raise InputError(
                f"option {word}.{key}",
                found=value,
                allowed="one value: here a scheme is sent once",
                remedy="Sweep over several with python -m pvsc_link.sweep.",
            )
        entry[key] = value
    return entry


def _check_words(
    what: str, words: Iterable[str], *, allowed: Sequence[str] = (), unique: bool = False
) -> None:
    words = list(words)
    for word in words:
        if unique and words.count(word) > 1:
            raise InputError(
                f"{what} is named twice", found=word, allowed="each once", remedy="Drop one."
            )
        if not unique and word not in allowed:
            raise InputError(
                what, found=word, allowed=list(allowed), remedy="Name a scheme that is sent."
            )


def parse_rates(words: Iterable[str]) -> dict[str, int]:
    """``["x265=32"]`` as ``{"x265": 32}``; raises ``InputError`` for another form."""
    pairs = [word.rpartition("=") for word in words]
    for name, _, rate in pairs:
        if not name or not rate.lstrip("-").isdigit():
            raise InputError(
                "--rates",
                found=f"{name}={rate}".strip("="),
                allowed="SCHEME=RATE, for instance x265=32",
                remedy="Name the scheme and a whole number.",
            )
    return {name: int(rate) for name, _, rate in pairs}


def parse_options(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """``["pvsc.weights=runs/a"]`` as ``{"pvsc": {"weights": "runs/a"}}``; else ``InputError``."""
    options: dict[str, dict[str, Any]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        scheme, dot, key = place.rpartition(".")
        if not (scheme and dot and key and equals):
            raise InputError(
                "--option",
                found=word,
                allowed="SCHEME.KEY=VALUE, for instance pvsc.preset=pvsc_paper",
                remedy="KEY is a key of a scheme in a scenario.",
            )
        options.setdefault(scheme, {})[key] = yaml.safe_load(value)
    return options
