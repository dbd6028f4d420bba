"""What a driver left behind, checked before anything of it reaches the link."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pvsc_link.types import CodecFailure

_KEYS = ("bits", "bits_are", "stream", "decoded", "versions")


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


def read_reply(path: Path, shape: tuple[int, ...]) -> DriverReply:
    """Read and check ``reply.json``.

    Parameters: ``shape`` : [num_frames, height, width, 3] of the frames that were coded.
    Raises ``CodecFailure`` (codec_error) for anything that is absent or not as it must be.
    """
    reply = _load(path)
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
    except (OSError, ValueError) as error:
        raise _fault(f"the driver ended well but left no reply: {error}") from error
    absent = [key for key in _KEYS if key not in reply]
    if absent:
        raise _fault(f"the reply lacks {', '.join(absent)}")
    return reply


def _frame_bits(bits: Sequence[float], num_frames: int) -> tuple[float, ...]:
    if len(bits) != num_frames:
        raise _fault(f"bits of {len(bits)} frames, wanted {num_frames}")
    for frame, number in enumerate(bits):
        if not math.isfinite(number) or number <= 0:
            raise _fault(f"frame {frame} has {number} bits")
    return tuple(bits)


def _whole_bytes(bits: tuple[float, ...]) -> tuple[float, ...]:
    """Coded frames are whole bytes; the logs state bits per pixel, whose product is not exact."""
    whole = tuple(float(8 * round(number / 8)) for number in bits)
    if any(abs(a - b) > 0.5 for a, b in zip(whole, bits, strict=True)):
        raise _fault(f"coded frames of {list(bits)} bits, wanted whole bytes")
    return whole


def _stream(path: Path, bits: tuple[float, ...]) -> bytes:
    """The bitstream, whose frames must sum to it."""
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


def _picture(path: Path, size: tuple[int, ...]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise _fault(f"decoded frame {path.name}: {error}") from error
    if pixels.shape[:2] != tuple(size):
        found = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise _fault(f"decoded frame {path.name} is {found}, wanted {size[1]}x{size[0]}")
    return pixels
