"""Learned codecs from the user's own checkouts, each run in its own Python.

Their frameworks exclude one another and those of this package, so none of their code is imported.
A small driver (``drivers/``) runs in the codec's Python; it reads JSON requests and leaves JSON
replies, which are checked before any of them reaches the link. One driver codes GOP after GOP, so
that a clip's rates load the framework and the weights once. Every GOP and rate has a private
folder, because some of these codecs write every rate to the same names.

There are two link modes, the ``variant`` of a scenario:

- ``bit-exact``: the payload is the codec's own bitstream.
- ``rate-only``: the payload is pseudo-random filler of the right length per frame, for codecs
  that only estimate their bits (GLC-Video) or cannot write a bitstream on this machine. The link
  and the loss of frames are simulated as in the other mode, because damaged bits are never decoded
  in either. It is not shown that a bitstream of that length exists.
"""

import functools
import hashlib
import json
import math
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.codecs.external.families import (
    BIT_EXACT,
    FAMILIES,
    RATE_ONLY,
    Checkout,
    checkpoint_stamp,
    find_checkout,
)
from pvsc_link.media import crop, pad_to_multiple
from pvsc_link.options import check_name
from pvsc_link.own_python import (
    AnsweringProcess,
    IdleProcesses,
    environment_of_other_python,
)
from pvsc_link.storage import digest
from pvsc_link.types import CodecFailure, EncodedGop, InputError

_DRIVERS = Path(__file__).parent / "drivers"
_DEVICE = re.compile(r"cpu|cuda(:(?P<index>\d+))?")


@dataclass(frozen=True)
class DriverReply:
    """One GOP as an external codec coded it."""

    frame_bits: tuple[float, ...]  # multiples of 8 where they are coded
    bits_are: str  # "coded" or "estimated"
    stream: bytes | None  # None where the codec writes none
    frames_hat: np.ndarray  # uint8 RGB [num_frames, height, width, 3]
    versions: str

    @property
    def frame_num_bytes(self) -> tuple[int, ...]:
        """Whole bytes that hold the bits of each frame."""
        return tuple(math.ceil(bits / 8) for bits in self.frame_bits)


class ExternalCodec(Codec):
    """DCVC-RT, DCVC-FM, GLC-Video or PLVC.

    Parameters
        family : key of ``FAMILIES``
        variant : ``bit-exact`` (default where the codec writes a bitstream) or ``rate-only``
        checkout : the codec's repository (default: the environment variable of the family)
        python : its interpreter, for example of a conda environment
        checkpoints : folder of its weights
        device : ``cuda`` (default), ``cuda:1`` and so on, or ``cpu`` where the codec can
        timeout_s : limit of one GOP, seconds

    Raises ``InputError`` for a link mode or a device that the codec does not have.
    """

    def __init__(
        self,
        family: str,
        *,
        variant: str | None = None,
        checkout: str | None = None,
        python: str | None = None,
        checkpoints: str | None = None,
        device: str = "cuda",
        timeout_s: float = 3600.0,
    ):
        self._family = FAMILIES[family]
        self.name = family
        self.allowed_rates = self._family.rates
        self.default_rates = self._family.default_rates
        labels = {mode: f"{mode}, bits: {bits}" for mode, bits in self._family.bits.items()}
        modes = {label: mode for mode, label in labels.items()} | {mode: mode for mode in labels}
        chosen = variant or next(iter(labels))
        check_name(f"variant of {family}", chosen, tuple(modes))
        self._mode = modes[chosen]
        self.variant = labels[self._mode]
        self._stated = {"checkout": checkout, "python": python, "checkpoints": checkpoints}
        self._device, self._timeout_s = device, timeout_s
        self._drivers = IdleProcesses()
        self._check_device()

    def _check_device(self) -> None:
        on_cpu = self._mode in self._family.cpu_modes
        if _DEVICE.fullmatch(self._device) and (on_cpu or self._device != "cpu"):
            return
        cpu_modes = " or ".join(self._family.cpu_modes)
        raise InputError(
            f"device of {self.name}, {self._mode}",
            found=self._device,
            allowed="cuda, cuda:0, cuda:1, ..." + (", cpu" if on_cpu else ""),
            remedy=f"On a CPU choose variant {cpu_modes}." if cpu_modes else "It needs a GPU.",
        )

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) where checkout, Python or weights are absent."""
        checkout = self._find()
        for rate in self._rates_with_own_checkpoints():
            self._family.find_checkpoints(checkout, rate)

    def _rates_with_own_checkpoints(self) -> tuple[int, ...]:
        """The first rate if all rates share a model, or every rate if each has its own."""
        rates = tuple(self._family.rates)
        return rates[:1] if isinstance(self._family.rates, range) else rates

    def _find(self) -> Checkout:
        family = self._family
        found = find_checkout(self.name, family.variable, script=family.script, **self._stated)
        if family.needs_intra and not found.intra:
            detail = (
                f"{self.name}: no commands for its I frame; give pvsc_link.json of {found.root} "
                f'"intra": [[program, ..., "{{quality}}", "{{image}}", "{{bitstream}}"], '
                f'[program, ..., "{{bitstream}}", "{{decoded}}"]]'
            )
            raise CodecFailure("missing_binary", detail)
        return found

    @property
    def version(self) -> str:
        """Commit, sources and checkpoints of the checkout, or ``absent``."""
        try:
            checkout = self._find()
            stamps = {
                role if len(self._rates_with_own_checkpoints()) == 1 else f"{rate} {role}": path
                for rate in self._rates_with_own_checkpoints()
                for role, path in self._family.find_checkpoints(checkout, rate).items()
            }
            return f"{self.name} {_stamp(checkout)}, {checkpoint_stamp(stamps)}, {_driver_stamp()}"
        except CodecFailure:
            return "absent"

    def describe(self, rate: int) -> str:
        """Commands with ``GOP`` for the number of frames and names in braces for paths."""
        return self._command_text(rate, "GOP")

    def _command_text(self, rate: int, num_frames: int | str) -> str:
        commands = self._family.commands(self._mode, rate, num_frames, self._device)
        texts = [_as_typed(words) for words in [*self._intra(), *commands]]
        return f"{'; '.join(texts)} (device {self._device})"

    def _intra(self) -> tuple[tuple[str, ...], ...]:
        try:
            return self._find().intra if self._family.needs_intra else ()
        except CodecFailure:
            return ()

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """One GOP; see ``Codec.encode``.

        ``EncodedGop.note`` says whether the bits are coded or estimated and what the payload is.
        Raises ``CodecFailure``: ``missing_binary``, ``codec_timeout``, or ``codec_error`` with the
        end of the driver's output or with what is wrong in the files that it left.
        """
        check_frames(frames)
        check_rate(self, rate)
        checkout = self._find()
        padded = pad_to_multiple(frames, self._family.multiple)
        version = self.version
        with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
            request = self._request(checkout, padded, rate, Path(folder))
            reply = self._run(checkout, request, Path(folder), padded.shape)
        payload, note = reply.stream, f"bits: {reply.bits_are}"
        if self._mode == RATE_ONLY or payload is None:
            place = f"{self.name} {rate} {clip} {first_frame}"
            payload = filler(place, sum(reply.frame_num_bytes))
            note += "; payload is filler of that length"
        return EncodedGop(
            payload=payload,
            frame_num_bytes=reply.frame_num_bytes,
            frames_hat=np.ascontiguousarray(crop(reply.frames_hat, *frames.shape[1:3])),
            command=self._command_text(rate, len(frames)),
            version=f"{version}, {reply.versions}",
            note=note,
        )

    def _request(
        self, checkout: Checkout, frames: np.ndarray, rate: int, folder: Path
    ) -> dict[str, object]:
        """Write the frames, numbered from 1, and say what is to be done with them."""
        _write_frames(frames, folder / "frames")
        (folder / "out").mkdir()
        files = self._family.find_checkpoints(checkout, rate)
        return {
            "codec": self.name,
            "checkout": str(checkout.root),
            "checkpoints": {role: str(path.absolute()) for role, path in files.items()},
            "frames": str(folder / "frames"),
            "num_frames": len(frames),
            "height": frames.shape[1],
            "width": frames.shape[2],
            "rate": rate,
            "mode": self._mode,
            "device": self._device.partition(":")[0],
            "commands": self._family.commands(self._mode, rate, len(frames), self._device),
            "intra": checkout.intra,
            "out": str(folder / "out"),
        }

    def _run(
        self, checkout: Checkout, request: dict[str, object], folder: Path, shape: tuple[int, ...]
    ) -> DriverReply:
        driver = self._drivers.take() or AnsweringProcess(
            [str(checkout.python), str(_DRIVERS / self._family.driver)],
            self.name,
            cwd=checkout.root,
            environment=_environment(self._device),
        )
        answer = driver.ask(request, self._timeout_s)
        if "error" in answer:
            said = driver.said()
            driver.close()
            detail = f"{self.name}: {said}\n{answer['error']}" if said else str(answer["error"])
            raise CodecFailure("codec_error", detail)
        self._drivers.keep(driver)
        reply = read_reply(folder / "out" / "reply.json", shape)
        if self._mode == BIT_EXACT and reply.stream is None:
            raise CodecFailure("codec_error", f"{self.name} wrote no bitstream")
        return reply


def filler(seed: str, num_bytes: int) -> bytes:
    """Pseudo-random bytes that depend on ``seed`` only."""
    return hashlib.shake_256(seed.encode()).digest(num_bytes)


def _as_typed(words: Iterable[str]) -> str:
    """A command as text: words with spaces are quoted, names in braces are left as they are."""
    return " ".join(shlex.quote(word) if " " in word else word for word in words)


@functools.cache
def _stamp(checkout: Checkout) -> str:
    """Kept, because a sweep asks for it with every GOP."""
    return checkout.stamp()


@functools.cache
def _driver_stamp() -> str:
    """Digest of the drivers, because a changed one may read a codec's output otherwise."""
    sources = [path.read_bytes() for path in sorted(_DRIVERS.glob("*.py"))]
    return f"drivers sha256 {digest(*sources)[:8]}"


def _write_frames(frames: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / f"im{number:05d}.png", compress_level=1)


def _environment(device: str) -> dict[str, str]:
    """The caller's environment without its Python, in which CUDA sees only ``device``."""
    environment = environment_of_other_python()
    found = _DEVICE.fullmatch(device)
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    elif found and found["index"] is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        index = int(found["index"])
        listed = index < len(visible) and visible[0]  # numbers count within what is visible
        environment["CUDA_VISIBLE_DEVICES"] = visible[index] if listed else str(index)
    return environment


dcvc_rt = functools.partial(ExternalCodec, "dcvc-rt")
dcvc_fm = functools.partial(ExternalCodec, "dcvc-fm")
dcvc_uf = functools.partial(ExternalCodec, "dcvc-uf")
glc_video = functools.partial(ExternalCodec, "glc-video")
plvc = functools.partial(ExternalCodec, "plvc")


_REPLY_KEYS = ("bits", "bits_are", "stream", "decoded", "versions")


def read_reply(path: Path, shape: tuple[int, ...]) -> DriverReply:
    """Read and check ``reply.json``.

    Parameters: ``shape`` : [num_frames, height, width, 3] of the frames that were coded.
    Raises ``CodecFailure`` (codec_error) for anything that is absent or not as it must be.
    """
    try:
        return _checked_reply(_load(path), shape)
    except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, OSError) as error:
        raise _fault(f"the reply is not as it must be: {error!r:.300}") from error


def _checked_reply(reply: dict[str, Any], shape: tuple[int, ...]) -> DriverReply:
    bits = _frame_bits(reply["bits"], shape[0])
    if reply["bits_are"] not in ("coded", "estimated"):
        raise _fault(f"bits are {reply['bits_are']!r}, wanted 'coded' or 'estimated'")
    if reply["bits_are"] == "coded":
        bits = _whole_bytes(bits)
    stream = None
    if reply["stream"] is not None:
        stream = _stream(Path(reply["stream"]), bits)
    frames_hat = _pictures([Path(name) for name in reply["decoded"]], shape)
    versions = ", ".join(f"{name} {version}" for name, version in reply["versions"].items())
    return DriverReply(bits, reply["bits_are"], stream, frames_hat, versions)


def _fault(detail: str) -> CodecFailure:
    return CodecFailure("codec_error", f"external codec: {detail}")


def _load(path: Path) -> dict[str, Any]:
    try:
        reply = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise _fault(f"the driver ended well but left no reply: {error}") from error
    if not isinstance(reply, dict):
        raise _fault(f"the reply is {type(reply).__name__}, wanted an object")
    absent = [key for key in _REPLY_KEYS if key not in reply]
    if absent:
        raise _fault(f"the reply lacks {', '.join(absent)}")
    return reply


#: Most bits of a frame: 512 MiB.
_MOST_BITS = 2**32


def _frame_bits(bits: Sequence[float], num_frames: int) -> tuple[float, ...]:
    if len(bits) != num_frames:
        raise _fault(f"bits of {len(bits)} frames, wanted {num_frames}")
    for frame, number in enumerate(bits):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise _fault(f"frame {frame} has {number!r:.60} bits, wanted a number")
        if number > _MOST_BITS:
            raise _fault(f"frame {frame} has more than {_MOST_BITS} bits")
        if not math.isfinite(number) or number <= 0:
            raise _fault(f"frame {frame} has {number} bits")
    return tuple(bits)


def _whole_bytes(bits: tuple[float, ...]) -> tuple[float, ...]:
    """Coded frames are whole bytes; logs state bits per pixel, whose product is not exact."""
    whole = tuple(float(8 * round(number / 8)) for number in bits)
    if any(abs(a - b) > 0.5 for a, b in zip(whole, bits, strict=True)):
        raise _fault(f"coded frames of {list(bits)} bits, wanted whole bytes")
    return whole


def _stream(path: Path, bits: tuple[float, ...]) -> bytes:
    """The bitstream, whose frames must sum to it."""
    _require_file(path)
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise _fault(f"no bitstream: {error}") from error
    if sum(bits) != 8 * len(payload):
        raise _fault(f"the log has {sum(bits):.0f} bits, the bitstream {8 * len(payload)}")
    return payload


def _pictures(paths: list[Path], shape: tuple[int, ...]) -> np.ndarray:
    if len(paths) != shape[0]:
        raise _fault(f"{len(paths)} decoded frames, wanted {shape[0]}")
    return np.stack([_picture(path, shape[1:3]) for path in paths])


def _require_file(path: Path) -> None:
    """A pipe or a device would never end."""
    if path.exists() and not path.is_file():
        raise _fault(f"{path.name} is no file")


def _picture(path: Path, size: tuple[int, ...]) -> np.ndarray:
    _require_file(path)
    try:
        with Image.open(path) as image:
            if image.size != (size[1], size[0]):  # before its samples fill the memory
                found = f"{image.width}x{image.height}"
                raise _fault(f"decoded frame {path.name} is {found}, wanted {size[1]}x{size[0]}")
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _fault(f"decoded frame {path.name}: {error}") from error
    if pixels.shape[:2] != tuple(size):
        found = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise _fault(f"decoded frame {path.name} is {found}, wanted {size[1]}x{size[0]}")
    return pixels
