"""A semantic model that is not of this package, over the same link as everything else.

The contract is that of ``model_worker``: a class with ``encode`` and ``decode``. It is called in
this process, or, where the scenario names a ``python``, in that Python through files. Both doors
check what the model gives with the same functions.

The link does what it does for PVSC (``analog``): it scales the symbols to unit mean power, sends
them behind the side stream in one fading process, counts both, and conceals what is lost. The side
stream has a header (rate, symbols and bytes of every frame), unless the model is ``scheduled``.
"""

import contextlib
import itertools
import json
import os
import struct
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pvsc_link.codecs import freeze, freeze_events
from pvsc_link.link import Adaptation, as_adaptation, nominal_snr_db
from pvsc_link.media import crop, pad_to_multiple
from pvsc_link.own_python import END_CHARS, AnsweringProcess
from pvsc_link.schemes import model_worker, side_stream
from pvsc_link.schemes.analog import outgoing_transports, send_gop
from pvsc_link.schemes.base import LinkOptions, Scheme
from pvsc_link.schemes.latency import Clock
from pvsc_link.schemes.semantic_receiver import ReceivedTransport
from pvsc_link.storage import digest, file_digest, read_arrays
from pvsc_link.types import ChannelPoint, CodecFailure, InputError, Payload, Reception, Video

#: The one message of side information that a frame of a foreign model has.
PARTS = ("side",)
#: Entry points that name models and schemes.
GROUP = "pvsc_link.schemes"
_WORKER = Path(model_worker.__file__)
#: Drivers of public repositories by name, each with the class in it.
READY = {"swinjscc": "SwinJscc", "witt": "Witt", "ntscc_plus": "NtsccPlus"}
_SCALE = struct.Struct("<f")
#: Rates of a model that cannot be loaded: whichever the scenario names, its rows say why.
_ANY_RATE = range(256)


class Door(Protocol):
    """A model behind the contract. Every method raises ``CodecFailure`` for what goes wrong."""

    def facts(self) -> dict[str, Any]:
        """What the model says of itself (``model_worker.facts_of``)."""

    def encode(
        self, frames: np.ndarray, rate: int, snr_db: float, max_symbols: int
    ) -> tuple[list[np.ndarray], list[bytes]]:
        """One GOP: per frame symbols complex64 [n], and side information."""

    def decode(
        self,
        symbols_hat: list[np.ndarray],
        no_eff: list[np.ndarray],
        side_bits: list[bytes | None],
        snr_db: float,
        session: dict[str, int],
    ) -> np.ndarray:
        """Frames, uint8 [num_frames, height, width, 3]."""


class InProcess:
    """A model that is called in this process; it cannot be stopped when it never ends."""

    def __init__(self, implementation: str, options: Mapping[str, Any], checkpoints: str | None):
        self._implementation, self._options = implementation, dict(options)
        self._checkpoints = checkpoints
        self._model: Any = None
        self._facts: dict[str, Any] = {}

    def facts(self) -> dict[str, Any]:
        if not self._facts:
            more = {} if self._checkpoints is None else {"checkpoints": self._checkpoints}
            with _told("load"):
                kind = model_worker.load_class(self._implementation)
                self._model = kind(**self._options, **more)
                self._facts = model_worker.facts_of(self._model, self._checkpoints)
        return self._facts

    def encode(self, frames, rate, snr_db, max_symbols):
        facts = self.facts()
        with _told("encode"):
            return model_worker.encode(self._model, facts, frames, rate, snr_db, max_symbols)

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        facts = self.facts()
        with _told("decode"):
            given = symbols_hat, no_eff, side_bits, snr_db, session
            return model_worker.decode(self._model, facts, *given)


@contextlib.contextmanager
def _told(call: str) -> Iterator[None]:
    """Turns what a model raises into a ``CodecFailure`` with the end of the traceback."""
    try:
        yield
    except model_worker.ContractError as error:
        raise CodecFailure("codec_error", f"model: {error}") from error
    except (ImportError, FileNotFoundError) as error:
        status = "missing_binary" if call == "load" else "codec_error"
        raise CodecFailure(status, f"model: {type(error).__name__}: {error}") from error
    except (Exception, SystemExit) as error:
        said = "".join(traceback.format_exception(error))[-END_CHARS:].strip()
        detail = f"model, {call}: {type(error).__name__}: {error}; {said}"
        raise CodecFailure("codec_error", detail) from error


class OwnPython:
    """A model in a Python of its own. One process loads it once and answers call after call.

    A process that dies, or that a call outlives, is started again at the next call.

    Parameters: ``folder`` : put first on its path, and its working directory; ``timeout_s`` : limit
    of one call, seconds; loading the model counts to the first.
    """

    def __init__(
        self,
        implementation: str,
        options: Mapping[str, Any],
        checkpoints: str | None,
        python: str,
        folder: str | None,
        timeout_s: float,
    ):
        module, _, name = implementation.rpartition(":")
        if module.endswith(".py"):
            implementation = f"{Path(module).expanduser().absolute()}:{name}"
        where = None if folder is None else str(Path(folder).expanduser().absolute())
        config = {
            "implementation": implementation,
            "model_options": dict(options),
            "checkpoints": checkpoints and str(Path(checkpoints).expanduser().absolute()),
            "folder": where,
        }
        self._python = str(Path(os.path.expandvars(python)).expanduser())
        self._timeout_s = timeout_s
        self._config = json.dumps(config)
        self._process: AnsweringProcess | None = None

    def facts(self) -> dict[str, Any]:
        return self._call({"call": "facts"}, {})[0]["facts"]  # type: ignore[no-any-return]

    def encode(self, frames, rate, snr_db, max_symbols):
        request = {"call": "encode", "rate": rate, "snr_db": snr_db, "max_symbols": max_symbols}
        _, arrays = self._call(request, {"frames": frames})
        symbols = model_worker.unpack(arrays["symbols"], arrays["n"])
        return symbols, model_worker.unpack_bytes(arrays["side"], arrays["side_lengths"])

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        request = {"call": "decode", "snr_db": snr_db, "session": session}
        symbols, lengths = model_worker.pack(symbols_hat)
        side, side_lengths = model_worker.pack_bytes(side_bits)
        given = {"symbols": symbols, "n": lengths, "no_eff": model_worker.pack(no_eff)[0]}
        _, arrays = self._call(request, given | {"side": side, "side_lengths": side_lengths})
        return arrays["frames"]

    def _start(self) -> AnsweringProcess:
        folder = tempfile.TemporaryDirectory(prefix="pvsc_link_")
        path = Path(folder.name) / "config.json"
        path.write_text(self._config)
        return AnsweringProcess([self._python, str(_WORKER), str(path)], "model", folder=folder)

    def _call(
        self, request: dict[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        if self._process is None:
            self._process = self._start()
        process = self._process
        with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
            given, made = (os.path.join(folder, name) for name in ("in.npz", "out.npz"))
            np.savez(given, **arrays)  # type: ignore[arg-type]
            try:
                reply = process.ask(request | {"in": given, "out": made}, self._timeout_s)
            except CodecFailure:
                self._process = None
                raise
            if "error" in reply:
                said = process.said()
                detail = f"model, {request['call']}: {reply['error']}"
                raise CodecFailure("codec_error", f"{detail}; {said}" if said else detail)
            if not os.path.exists(made):
                return reply, {}
            return reply, read_arrays(made)


@dataclass(frozen=True)
class SentModelGop:
    """One GOP of a foreign model; ``command`` and ``version`` go into the manifest."""

    frames: np.ndarray  # uint8 RGB [num_frames, height, width, 3], without padding
    rate: int
    fps: float
    command: str
    version: str


class ForeignScheme(Scheme):
    """A model that keeps the contract of ``model_worker``, over the link.

    The symbols of a GOP, or of each frame, are scaled to unit mean power. Mean power per channel
    use is then that of every other scheme, whatever the model gave; the note of a row says what it
    was. CBR counts pixels without padding. A model that fails, or breaks the contract, is a status
    in its rows.

    Parameters
    ----------
    implementation : ``package.module:Class``, ``folder/file.py:Class``, a key of ``READY``, or
        the name of an entry point of the group ``pvsc_link.schemes``
    python : interpreter that the model runs in, in which ``$NAME`` stands for an environment
        variable; None: this process
    checkout : folder that is put first on its path, with ``python`` alone
    checkpoints : file or folder of weights, given to the class as ``checkpoints``; its digest is
        part of a row's identity
    model_options : keyword arguments of the class
    variant : label; by default the name of the class
    timeout_s : limit of one call, with ``python`` alone; loading counts to the first
    max_cbr : most symbols of a frame, over 3 height width

    Raises ``InputError`` for options that do not go together.
    """

    name = "foreign"
    digital = False
    default_equalizer = "zf"
    default_csi_aware = False

    def __init__(
        self,
        implementation: str,
        python: str | None = None,
        checkout: str | None = None,
        checkpoints: str | None = None,
        model_options: Mapping[str, Any] | None = None,
        variant: str | None = None,
        timeout_s: float = 600.0,
        max_cbr: float = 1.0,
    ):
        if checkout is not None and python is None:
            raise InputError(
                "checkout of a foreign model",
                found=checkout,
                allowed="a checkout together with python",
                remedy="Name the interpreter that the checkout runs in, or put the folder into "
                "PYTHONPATH.",
            )
        self._max_cbr = max_cbr
        self._named, found = implementation, _found_implementation(implementation)
        options = dict(model_options or {})
        common = found, options, checkpoints
        if python is None:
            self._door: Door = InProcess(*common)
        else:
            self._door = OwnPython(*common, python, checkout, timeout_s)
        self._lock = threading.Lock()
        self._coded: dict[tuple, tuple] = {}
        self._lengths: dict[tuple, tuple[int, ...]] = {}
        self.allowed_rates: Sequence[int]
        #: What the model says of itself (``model_worker.facts_of``).
        self.facts: dict[str, Any] = {}
        self._failure: CodecFailure | None = None
        self._weights = checkpoints
        try:
            weights = _weights_digest(checkpoints)
            self.facts = self._door.facts()
        except CodecFailure as failure:
            self._failure = failure
            self.variant = variant or implementation.rpartition(":")[2]
            self.allowed_rates, self.default_rates = _ANY_RATE, (0,)
            self.weights_id = "not loaded"
            return
        facts = self.facts
        self.variant = variant or facts["name"]
        self.allowed_rates = self.default_rates = tuple(facts["rates"])
        self.weights_id = digest(facts["source"], weights, json.dumps(options, sort_keys=True))[:16]
        self.status = "ok" if facts["trained"] else "untrained"

    def check(self) -> None:
        """Raise ``CodecFailure`` if the model could not be loaded."""
        if self._failure is not None:
            raise self._failure

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> SentModelGop:
        """The GOP that begins at frame ``first`` of ``video``, at ``rate``.

        It is coded here, unless the encoder knows the SNR: then once per SNR, in ``stream``.
        """
        self.check()
        where = self._weights or "none stated"
        command = f"{self._named}, rate {rate}, weights {where}"
        versions = ", ".join(f"{name} {one}" for name, one in self.facts["versions"].items())
        version = f"model and weights {self.weights_id}; {versions}"
        frames = video.frames[first : first + gop]
        made = SentModelGop(frames, rate, float(video.fps), command, version)
        if self.facts["transmitter_csi"] == "none":
            self.coded(made, 0.0)
        return made

    def coded(self, gop: SentModelGop, snr_db: float) -> tuple[list[Payload], str]:
        """What the model sends for a GOP at unit mean power, and a note of what its power was."""
        key = self._key(gop, snr_db)
        with self._lock:
            if key not in self._coded:
                if len(self._coded) >= _MAX_CODED:
                    self._coded.clear()
                self._coded[key] = self._encode(gop, snr_db)
            return self._coded[key]

    def keep(self, gop: SentModelGop, snr_db: float, payloads: Sequence[Payload]) -> None:
        """Send these for a GOP from here on, as another object of the model has coded it."""
        self._coded[self._key(gop, snr_db)] = list(payloads), ""

    def _key(self, gop: SentModelGop, snr_db: float) -> tuple:
        known = 0.0 if self.facts["transmitter_csi"] == "none" else snr_db
        return digest(gop.frames), gop.frames.shape, gop.rate, known

    def _encode(self, gop: SentModelGop, snr_db: float) -> tuple[list[Payload], str]:
        facts = self.facts
        padded = pad_to_multiple(gop.frames, facts["multiple"])
        most = int(self._max_cbr * 3 * np.prod(gop.frames.shape[1:3]))
        symbols, side_bits = self._door.encode(padded, gop.rate, snr_db, most)
        if facts["scheduled"]:
            place = gop.rate, gop.frames.shape
            lengths = tuple(map(len, symbols))
            if self._lengths.setdefault(place, lengths) != lengths:
                detail = f"a scheduled model gave {lengths} symbols after {self._lengths[place]}"
                raise CodecFailure("codec_error", f"model: {detail}")
        groups = [symbols] if facts["power"] == "gop" else [[one] for one in symbols]
        wholes = map(np.concatenate, groups)
        powers = [float(np.mean(np.abs(whole) ** 2)) if len(whole) else 1.0 for whole in wholes]
        of_frame = powers * len(symbols) if facts["power"] == "gop" else powers
        payloads = []
        for t, (one, side) in enumerate(zip(symbols, side_bits, strict=True)):
            if facts["needs_scale"] and (facts["power"] == "frame" or t == 0):
                side = _SCALE.pack(of_frame[t] ** 0.5) + side
            scaled = (one / np.float32(of_frame[t] ** 0.5)).astype(np.complex64)
            payloads.append(Payload(scaled, {"side": side}))
        return payloads, _power_note(powers)

    def stream(
        self,
        gops: Iterable[SentModelGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int | Adaptation,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """Symbols as ``link`` says, side information at ``mcs``."""
        self.check()
        adaptation, rest = as_adaptation(mcs), iter(gops)
        snr_db = nominal_snr_db(point)
        for first in rest:
            receiver = _Receiver(self._door, self.facts, self._lock, first, snr_db)
            clock = Clock(link.transport, first.fps)
            for gop, seed in zip(itertools.chain([first], rest), seeds, strict=True):
                payloads, note = self.coded(gop, snr_db)
                receiver.lengths = [len(payload.symbols) for payload in payloads]
                height, width = gop.frames.shape[1:3]
                facts = side_stream.session_facts((height, width), gop.fps, self.weights_id)
                scheduled = self.facts["scheduled"]
                yield send_gop(
                    outgoing_transports(payloads, gop.rate, facts, link.transport, scheduled),
                    point,
                    link,
                    adaptation,
                    seed,
                    receiver,
                    clock,
                    num_symbols={},
                    status=self.status,
                    note=note,
                )


#: GOPs whose symbols are kept.
_MAX_CODED = 256


@dataclass(frozen=True)
class ShownModelGop:
    """What is shown of a GOP of a foreign model (``analog.Shown``).

    ``is_damaged`` : frames that are decoded without some of their symbols.
    """

    frames_uint8: np.ndarray
    is_lost: np.ndarray
    freeze_events: int
    side_lost: int
    is_damaged: np.ndarray

    @property
    def frames_concealed(self) -> int:
        """Frames from the first lost or damaged one on: later frames may refer to it."""
        lost = self.is_lost | self.is_damaged
        return len(lost) - int(np.argmax(lost)) if lost.any() else 0


class _Receiver:
    """The receiving end of one session: what a model decodes, and what is shown in its place.

    ``lengths`` : symbols per frame, which it knows of a scheduled model alone.
    """

    def __init__(
        self,
        door: Door,
        facts: Mapping[str, Any],
        lock: threading.Lock,
        gop: SentModelGop,
        snr_db: float,
    ):
        self._door, self._facts, self._lock, self._snr_db = door, facts, lock, snr_db
        self._rate, self._size = gop.rate, gop.frames.shape[1:3]
        padded = pad_to_multiple(gop.frames[:1], facts["multiple"]).shape
        self._padded = padded[1], padded[2]
        self._shown: np.ndarray | None = None
        self._is_frozen = False
        self.lengths: Sequence[int] = ()

    def receive(self, transports: Sequence[ReceivedTransport]) -> ShownModelGop:
        symbols: list[np.ndarray] = []
        no_eff: list[np.ndarray] = []
        side_bits: list[bytes | None] = []
        in_time: list[bool] = []
        damaged: list[bool] = []
        nothing: list[bool] = []
        for transport in transports:
            of_frames = self._read(transport, len(symbols))
            for one, variance, side in of_frames:
                symbols.append(one)
                no_eff.append(variance)
                side_bits.append(side)
            sizes = [len(one) for one, *_ in of_frames]
            found = [np.zeros(len(sizes), bool)] * 2
            if sum(sizes) == len(transport.symbols_hat):  # the header arrived
                found = list(transport.lost_symbols(sizes))
            damaged += found[0].tolist()
            nothing += found[1].tolist()
            given = transport.in_time
            in_time += [True] * transport.num_frames if given is None else given.tolist()
        side_lost = np.array([side is None for side in side_bits])
        lost = side_lost | ~np.array(in_time) | np.array(nothing, bool)
        side_bits = [None if gone else side for gone, side in zip(lost, side_bits, strict=True)]
        symbols, no_eff, side_bits = self._at_their_power(symbols, no_eff, side_bits)
        frames, lost = self._shown_frames(symbols, no_eff, side_bits, lost)
        repeats = np.zeros(len(lost), bool) if self._facts["on_loss"] == "model" else lost
        events = freeze_events(repeats, self._is_frozen)
        self._is_frozen, self._shown = bool(repeats[-1]), frames[-1]
        is_damaged = np.array(damaged, bool)
        return ShownModelGop(frames, lost, events, int(side_lost.sum()), is_damaged)

    def _read(
        self, transport: ReceivedTransport, first: int
    ) -> list[tuple[np.ndarray, np.ndarray, bytes | None]]:
        """Symbols, noise variances and side information of the frames of a transport."""
        if self._facts["scheduled"]:
            arrived = b"" if transport.block_ok.all() else None  # session facts, where counted
            numbers = list(self.lengths[first : first + transport.num_frames])
            messages: list[bytes | None] = [arrived] * len(numbers)
        else:
            try:
                side = transport.read()
            except side_stream.SideStreamError:
                nothing = np.zeros(0, np.complex64), np.zeros(0, np.float32), None
                return [nothing] * transport.num_frames
            numbers = [frame.num_symbols for frame in side.frames]
            messages = [frame.messages["side"] for frame in side.frames]
        ends = np.cumsum(numbers)[:-1]
        parts = np.split(transport.symbols_hat, ends), np.split(transport.no_eff, ends)
        return list(zip(*parts, messages, strict=True))

    def _at_their_power(self, symbols, no_eff, side_bits):
        """Symbols and noise variances at the power that the encoder gave, where it is sent."""
        if not self._facts["needs_scale"]:
            return symbols, no_eff, side_bits
        scale = 1.0
        rest = []
        for t, side in enumerate(side_bits):
            if side is not None and (self._facts["power"] == "frame" or t == 0):
                scale, side = _SCALE.unpack_from(side)[0], side[_SCALE.size :]
            symbols[t] = (symbols[t] * np.float32(scale)).astype(np.complex64)
            no_eff[t] = (no_eff[t] * np.float32(scale**2)).astype(np.float32)
            rest.append(side)
        return symbols, no_eff, rest

    def _shown_frames(self, symbols, no_eff, side_bits, lost):
        """Frames as they are shown, and which of them count as lost."""
        num, rule = len(lost), self._facts["on_loss"]
        without_scale = self._facts["needs_scale"] and self._facts["power"] == "gop" and lost[0]
        if rule == "model" and not without_scale and not lost.all():
            return self._decode(symbols, no_eff, side_bits), lost
        first_lost = int(np.argmax(lost)) if lost.any() else num
        if rule != "freeze" and lost.any():
            first_lost = 0
        decoded = np.zeros((num, *self._size, 3), np.uint8)
        if first_lost:
            given = (part[:first_lost] for part in (symbols, no_eff, side_bits))
            decoded[:first_lost] = self._decode(*given)
        lost = np.arange(num) >= first_lost
        return freeze(decoded, ~lost, self._shown).frames, lost

    def _decode(self, symbols, no_eff, side_bits) -> np.ndarray:
        height, width = self._padded
        session = {"rate": self._rate, "height": height, "width": width}
        with self._lock:
            frames = self._door.decode(symbols, no_eff, side_bits, self._snr_db, session)
        return np.ascontiguousarray(crop(frames, *self._size))


def _found_implementation(named: str) -> str:
    """A path as it is; of a bare name, that of a ready driver or of an entry point."""
    if ":" in named:
        return named
    if named in READY:
        return f"{_WORKER.parent / 'public_models' / named}.py:{READY[named]}"
    known = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    if named not in known:
        raise InputError(
            "implementation of a foreign model",
            found=named,
            allowed=f"package.module:Class, file.py:Class, {', '.join(READY)}, or an entry point "
            f"of the group {GROUP}: " + (", ".join(sorted(known)) or "none is installed"),
            remedy="Write the path of the class, or install the package that names it.",
        )
    return known[named]


def _weights_digest(checkpoints: str | None) -> str:
    """Digest of a file, or of all files of a folder with their names; "" where none is stated."""
    if checkpoints is None:
        return ""
    path = Path(checkpoints).expanduser()
    if path.is_file():
        return file_digest(path)
    if not path.is_dir():
        raise CodecFailure("missing_binary", f"model: no checkpoints at {path}")
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return digest(*(f"{one.relative_to(path)} {file_digest(one)}\n" for one in files))


def _power_note(powers: Sequence[float]) -> str:
    """What the link did to the symbols; nothing where their power was 1."""
    if all(abs(power - 1.0) < 1e-3 for power in powers):
        return ""
    low, high = min(powers), max(powers)
    was = f"{low:.2g}" if f"{low:.2g}" == f"{high:.2g}" else f"{low:.2g} to {high:.2g}"
    return f"symbols scaled to unit mean power (it was {was})"
