"""The side stream of a GOP: hyper-latents and rate maps of its frames as one run of bytes.

    header: length of every message as a varint | z of frame 0 | k of frame 0 | z of frame 1 | ...

How many messages there are, both ends know: two per frame of the GOP. The lengths they do not
know, so these are sent, and counted like every other byte. Whoever loses a block of the header
cannot tell where a message begins and loses them all.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from pvsc_link.codecs import frames_lost

#: Messages of a frame, in order.
PARTS = ("z", "k")


def header_of(messages: Sequence[bytes]) -> bytes:
    """Lengths of the messages, little-endian groups of 7 bits, the top bit set but in the last."""
    header = bytearray()
    for message in messages:
        length = len(message)
        while length >= 128:
            header.append(length & 127 | 128)
            length >>= 7
        header.append(length)
    return bytes(header)


def write(messages: Sequence[bytes]) -> bytes:
    """The stream of a GOP's messages."""
    return header_of(messages) + b"".join(messages)


def read(stream: bytes, num_messages: int) -> list[bytes]:
    """The messages of a stream that arrived whole; the inverse of ``write``.

    Raises ``ValueError`` for a stream that does not hold ``num_messages`` messages exactly.
    """
    lengths, place = [], 0
    for _ in range(num_messages):
        length, place = _varint(stream, place)
        lengths.append(length)
    ends = place + np.cumsum([0, *lengths])
    if ends[-1] != len(stream):
        raise ValueError(f"side stream of {len(stream)} bytes, its header says {ends[-1]}")
    return [stream[a:b] for a, b in itertools.pairwise(ends)]


def messages_lost(
    messages: Sequence[bytes], block_ok: np.ndarray, block_num_bits: np.ndarray
) -> np.ndarray:
    """Which messages lose a byte, or the header that says where they are.

    Input: CRC results and information bits of the blocks that carry ``write(messages)``.
    Output: [num_messages], bool.
    """
    sizes = [len(header_of(messages)), *(len(message) for message in messages)]
    lost = frames_lost(sizes, block_ok, block_num_bits)
    return lost[1:] | lost[0]


def shares(messages: Sequence[bytes], num_channel_uses: int) -> dict[str, int]:
    """Channel uses of z and of k: header, CRC and parity shared in proportion to their bytes."""
    num_bytes = {
        part: sum(map(len, messages[place :: len(PARTS)])) for place, part in enumerate(PARTS)
    }
    of_z = round(num_channel_uses * num_bytes["z"] / max(sum(num_bytes.values()), 1))
    return {"z": of_z, "k": num_channel_uses - of_z}


def _varint(stream: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(stream):
        byte = stream[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place
    raise ValueError("side stream ends within its header")
