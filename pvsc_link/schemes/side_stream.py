"""The side stream: hyper-latents and rate maps of the frames of one transport as a run of bytes.

    header: session facts, where they are counted | quality preset, one byte
            | symbols of a frame, length of its z, length of its k, as varints, frame by frame
    then:   z of the first frame | k of the first frame | z of the second frame | ...

A transport holds all frames of a GOP or one frame. How many frames it holds, how many bytes and
how many channel uses it has, is scheduled: both ends know it, as they know the transport block size
of a codec's bits. Everything else the receiver reads from the bits that it received. The number of
symbols tells it where the symbols of every frame lie, also behind a frame whose rate map is lost.

Whoever loses a block of the header cannot tell where a message begins, and loses them all. A failed
block behind the header loses the messages that have a byte in it.
"""

import itertools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pvsc_link.types import Payload

#: Messages of a frame of PVSC and DVST, in order. A payload names those of its own scheme.
PARTS = ("z", "k")
_SESSION = struct.Struct(">HHf8s")
#: Bytes of the session facts of a semantic scheme.
NUM_FACT_BYTES = _SESSION.size


class SideStreamError(ValueError):
    """A header that did not arrive, or that no transmitter writes."""


@dataclass(frozen=True)
class FrameSide:
    """What arrived of the side information of one frame.

    ``num_symbols`` : of its symbols on the air; ``messages`` : by name, None for one that lost a
    byte.
    """

    num_symbols: int
    messages: Mapping[str, bytes | None]

    @property
    def arrived(self) -> bool:
        """Whether every message is there."""
        return None not in self.messages.values()


@dataclass(frozen=True)
class SideRead:
    """A side stream as the receiver reads it: the quality preset, and every frame."""

    preset: int
    frames: tuple[FrameSide, ...]


def session_facts(size: tuple[int, int], fps: float, weights: str | None) -> bytes:
    """Height, width, frame rate and the start of the weights' digest: ``NUM_FACT_BYTES`` bytes."""
    return _SESSION.pack(*size, fps, (weights or "").encode()[:8])


def write(preset: int, payloads: Sequence[Payload], facts: bytes = b"") -> bytes:
    """The stream of the frames of one transport.

    Parameters: ``preset`` : quality preset of the GOP; ``facts`` : session facts, where they are
    sent.
    """
    header = bytearray(facts) + bytes([preset])
    for payload in payloads:
        sizes = [payload.symbols.size, *map(len, payload.side_bits.values())]
        header += b"".join(map(_varint, sizes))
    return bytes(header) + b"".join(part for p in payloads for part in p.side_bits.values())


def read(
    stream: bytes,
    intact: np.ndarray,
    num_frames: int,
    num_symbols: int,
    num_fact_bytes: int = 0,
    parts: Sequence[str] = PARTS,
) -> SideRead:
    """What a receiver has of the stream of a transport; the inverse of ``write``.

    Input: ``stream`` : the received bytes; ``intact`` : [len(stream)], bool, whether the block of a
    byte passed its CRC.
    Parameters: ``num_frames`` : of the transport; ``num_symbols`` : channel uses that it has for
    symbols; ``num_fact_bytes`` : of session facts in front; ``parts`` : names of the messages of a
    frame.
    Raises ``SideStreamError`` where a byte of the header is lost, or where its numbers do not add
    up to this stream and these symbols, as after a CRC that passes on wrong bits.
    """
    place = num_fact_bytes
    numbers = []
    preset, place = _byte(stream, intact, place), place + 1
    for _ in range((1 + len(parts)) * num_frames):
        number, place = _read_varint(stream, intact, place)
        numbers.append(number)
    if not intact[:place].all():
        raise SideStreamError("a block of the header is lost")
    symbols, lengths = numbers[:: 1 + len(parts)], numbers.copy()
    del lengths[:: 1 + len(parts)]
    if place + sum(lengths) != len(stream) or sum(symbols) != num_symbols:
        found = f"{place + sum(lengths)} bytes and {sum(symbols)} symbols"
        raise SideStreamError(f"{len(stream)} bytes, {num_symbols} symbols; header says {found}")
    ends = itertools.accumulate(lengths, initial=place)
    messages = [stream[a:b] if intact[a:b].all() else None for a, b in itertools.pairwise(ends)]
    return SideRead(preset, tuple(map(FrameSide, symbols, _groups(messages, parts))))


def _groups(
    messages: Sequence[bytes | None], parts: Sequence[str]
) -> list[dict[str, bytes | None]]:
    step = len(parts)
    return [
        dict(zip(parts, messages[place : place + step], strict=True))
        for place in range(0, len(messages), step)
    ]


def intact_bytes(block_ok: np.ndarray, block_num_bits: np.ndarray) -> np.ndarray:
    """Which bytes of a stream lie in blocks whose CRC holds: [num_bytes], bool.

    Input: CRC results and payload bits of its blocks, both [num_blocks]; whole bytes in all.
    """
    bits = np.repeat(np.asarray(block_ok, bool), np.asarray(block_num_bits, np.int64))
    return np.min(bits.reshape(-1, 8), axis=1)


def shares(payloads: Sequence[Payload], num_channel_uses: int) -> dict[str, int]:
    """Channel uses of z and of k: header, CRC and parity shared in proportion to their bytes.

    ``motion`` is the share of z that its motion vectors have, by their information. Nothing for a
    scheme with other messages.
    """
    if tuple(payloads[0].side_bits) != PARTS:
        return {}
    num_bytes = {part: sum(len(p.side_bits[part]) for p in payloads) for part in PARTS}
    of_z = round(num_channel_uses * num_bytes["z"] / max(sum(num_bytes.values()), 1))
    of_motion = sum(p.num_motion_bits for p in payloads) / max(8 * num_bytes["z"], 1)
    motion = round(of_z * min(of_motion, 1.0))
    return {"z": of_z, "k": num_channel_uses - of_z, "motion": motion}


def _varint(number: int) -> bytes:
    """A number in groups of 7 bits, the lowest first, the top bit set but in the last."""
    groups = bytearray()
    while number >= 128:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def _byte(stream: bytes, intact: np.ndarray, place: int) -> int:
    if place >= len(stream) or not intact[place]:
        raise SideStreamError("the header ends early, or a block of it is lost")
    return stream[place]


def _read_varint(stream: bytes, intact: np.ndarray, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = _byte(stream, intact, place)
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
