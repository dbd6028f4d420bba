"""What the user asks for, checked as a sweep checks a scenario, and the rates that follow from it.

A request becomes a scenario of one GOP. Swept over rates, this first GOP gives every scheme its MCS
and the rate that comes nearest to one common CBR.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pvsc_link._version import __version__
from pvsc_link.media import FrameStream, stream_clip, stream_video
from pvsc_link.metrics import FrameMetrics
from pvsc_link.models import UNTRAINED
from pvsc_link.scenario import Point, RawClip, Scenario, parse_scenario, parse_yaml
from pvsc_link.schemes import Scheme
from pvsc_link.sweep import McsChoice, Plan, Progress, SweepRunner, SweepStore, build
from pvsc_link.types import CodecFailure, InputError


@dataclass(frozen=True)
class Request:
    """One video over one channel condition.

    ``source`` : as a scenario's clip; ``schemes`` : ``NAME`` or ``NAME:VARIANT``; ``link`` : keys
    of a scenario's ``link``; ``rates`` : by scheme as named; ``options`` : keys of a scenario's
    scheme entry, by scheme as named; ``target_cbr`` : CBR at which schemes without a rate are
    compared, None: that of the first scheme at its middle rate; ``still_frame`` : None: near the
    middle; ``matrix``, ``sample_range``, ``hdr`` : keys of a scenario's ``media``.
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
    matrix: str | None = None
    sample_range: str | None = None
    hdr: str = "refuse"
    with_untrained: bool = False


def open_source(request: Request) -> FrameStream:
    """The frames that are asked for, one by one. Raises ``InputError`` for a bad source."""
    source = request.source
    if isinstance(source, RawClip):
        stream = stream_video(
            source.path,
            first_frame=request.first_frame,
            size=(source.width, source.height),
            pixel_format=source.pixel_format,
            fps=source.fps,
            matrix=source.matrix or request.matrix,
            sample_range=source.sample_range or request.sample_range,
        )
    else:
        stream = stream_clip(source, request.first_frame, **_colours(request))
    known = [n for n in (stream.num_frames, request.num_frames) if n is not None]
    return replace(stream, num_frames=min(known, default=None))


def _colours(request: Request) -> dict[str, Any]:
    return {
        "matrix": request.matrix,
        "sample_range": request.sample_range,
        "hdr": request.hdr,
    }


def plan_of(request: Request) -> Plan:
    """Entries in the order of ``request.schemes``, a GOP of the clip, all rates that may be chosen.

    Raises ``InputError`` for everything that a sweep refuses, for a scheme named twice, for rates
    and options of schemes that are not sent, and for a scheme without trained weights unless
    ``with_untrained``.
    """
    for word in request.schemes:
        if request.schemes.count(word) > 1:
            raise InputError(
                "scheme is named twice", found=word, allowed="each once", remedy="Drop one."
            )
    for what, named in (("rate", request.rates), ("option", request.options)):
        for word in named:
            if word not in request.schemes:
                allowed, remedy = list(request.schemes), "Name a scheme that is sent."
                raise InputError(f"{what} of scheme", found=word, allowed=allowed, remedy=remedy)
    plan = build(_scenario(request))
    if plan.points[0].is_packets:
        raise InputError(
            "channel",
            found=plan.points[0].channel,
            allowed="a channel of symbols",
            remedy="Write a scenario for a packet network: pvsc-link sweep scenarios/packets.yaml.",
        )
    for scheme, word in zip(plan.schemes.values(), request.schemes, strict=True):
        if scheme.status == UNTRAINED and not request.with_untrained:
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
                **_colours(request),
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
        options.setdefault(scheme, {})[key] = parse_yaml(value, where=f"--option {place}").data
    return options


def parse_link(words: Iterable[str], named: Mapping[str, Any]) -> dict[str, Any]:
    """``["k_factor_db=6"]`` as ``{"k_factor_db": 6}``, beside what has an option of its own.

    The keys and values are those of ``link`` of a scenario, which checks them.
    Raises ``InputError`` for another form, a list of values, and a key that stands twice.
    """
    link = dict(named)
    for word in words:
        key, equals, text = word.partition("=")
        value = parse_yaml(text, where=f"--link {key}").data if key and equals else None
        if not (key and equals) or isinstance(value, list) or key in link:
            raise InputError(
                "--link",
                found=word,
                allowed="KEY=VALUE, one value, for instance k_factor_db=6",
                remedy="KEY is a key of link in a scenario, given once; those with an option of "
                f"their own are {', '.join(named)}.",
            )
        link[key] = value
    return link


#: Ratio to the target CBR that needs no note.
_NEAR = 1.1


@dataclass(frozen=True)
class Chosen:
    """How one scheme is sent: at which rate and MCS, and how that misses what was wanted."""

    label: str  # as the user named it
    scheme: Scheme
    point: Point
    mcs: McsChoice
    note: str = ""


@dataclass(frozen=True)
class _Trial:
    """The first GOP as sent at one rate."""

    point: Point
    row: dict[str, Any]

    @property
    def cbr(self) -> float:
        return self.row["cbr"]

    def miss(self, target: float) -> float:
        """Distance from a CBR, as a ratio's logarithm."""
        return abs(float(np.log(self.cbr / target)))


def choose(request: Request, plan: Plan, progress: Progress) -> list[Chosen]:
    """Rate and MCS of every scheme, from a sweep of the clip's first GOP.

    MCS: as the sweep chooses it (``sweep.mcs_choice``), from this one GOP. Rate: the one given,
    or the one whose CBR is nearest to the target: the rates of the plan are sent, then those
    about the place between them where interpolation says that the target lies.
    Raises ``InputError`` where a scheme cannot code the video.
    """
    trials = _sent(plan, plan.points, progress)
    by_entry = [[t for t in trials if t.point.entry == i] for i in range(len(request.schemes))]
    came = [_that_came(word, of) for word, of in zip(request.schemes, by_entry, strict=True)]
    first = sorted(came[0], key=lambda trial: trial.cbr)
    target = request.target_cbr or first[len(first) // 2].cbr
    between = [p for of in came for p in _between(of, _scheme(plan, of[0].point), target)]
    finer = _sent(plan, between, progress) if between else []
    chosen = []
    for index, (word, of) in enumerate(zip(request.schemes, came, strict=True)):
        more = [t for t in finer if t.point.entry == index and "cbr" in t.row]
        best = min([*of, *more], key=lambda trial: trial.miss(target))
        mcs = McsChoice(best.row["mcs"], best.row["bler"], of[0].row["mcs_role"])
        note = _note(word, [trial.cbr for trial in of], target) if len(of) > 1 else ""
        chosen.append(Chosen(word, _scheme(plan, best.point), best.point, mcs, note))
    return chosen


def _sent(plan: Plan, points: Sequence[Point], progress: Progress) -> list[_Trial]:
    """Rows of the first GOP; PSNR alone, which costs nothing."""
    scenario = plan.scenario.model_copy(update={"metrics": ["psnr"]})
    trial = Plan(scenario, list(points), plan.schemes)
    with TemporaryDirectory() as folder:
        store = SweepStore(Path(folder), version=__version__)
        try:
            SweepRunner(trial, store, FrameMetrics(), progress).run()
            rows = store.finished()
        finally:
            store.close()
    return [_Trial(point, rows[point.point_id]) for point in points]


def _that_came(word: str, trials: Sequence[_Trial]) -> list[_Trial]:
    """Trials whose codec worked; raises ``InputError`` if none did."""
    came = [trial for trial in trials if trial.row["status"] not in CodecFailure.STATUSES]
    if came:
        return came
    row = trials[0].row
    raise InputError(
        f"scheme {word} cannot code this video ({row['status']})",
        found=row["note"],
        allowed="a codec that runs",
        remedy=f"Mend what it says, or leave {word} out.",
    )


def _between(trials: Sequence[_Trial], scheme: Scheme, target: float) -> list[Point]:
    """Points of the rates next to the one whose interpolated CBR is the target's, not yet sent.

    They keep the MCS that was chosen; nothing lies outside the rates that were sent.
    """
    known = {trial.point.rate: trial for trial in trials}
    rates = sorted(known)
    inside = [rate for rate in scheme.allowed_rates if rates[0] <= rate <= rates[-1]]
    log_cbr = np.interp(inside, rates, [np.log(known[rate].cbr) for rate in rates])
    place = int(np.argmin(np.abs(log_cbr - np.log(target))))
    nearest = min(trials, key=lambda trial: trial.miss(target))
    near = inside[max(place - 1, 0) : place + 2]
    new = [rate for rate in near if rate not in known]
    return [replace(nearest.point, rate=rate, mcs=nearest.row["mcs"]) for rate in new]


def _scheme(plan: Plan, point: Point) -> Scheme:
    return plan.schemes[point.entry, point.variant]


def _note(word: str, cbrs: Sequence[float], target: float) -> str:
    """What a reader must know of a scheme whose rates all lie to one side of the target."""
    least, most = min(cbrs), max(cbrs)
    if target < least / _NEAR:
        return f"{word} does not reach CBR {target:.3g}: its least is {least:.3g}"
    if target > most * _NEAR:
        return f"{word} does not reach CBR {target:.3g}: its most is {most:.3g}"
    return ""
