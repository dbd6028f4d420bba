"""Greyscale PNG of a rate map (ISO/IEC 15948), and the same without its container bytes.

Four bits a unit while the rate set has at most 16 levels (legal PNG that Pillow reads but does
not write), eight beyond. Of a PNG, 57 bytes only repeat what both ends know: signature (8),
IHDR (25), and the frames of IDAT (12) and IEND (12). The payload is what remains, the zlib
stream with its Adler-32; a PNG can be rebuilt from it and the map's size.
"""

import struct
import zlib

import numpy as np

from pvsc_link.semantic.range_coding import SideInformationError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CONTAINER_BYTES = 57
_HEADER = struct.Struct(">IIBBBBB")
_NONE, _SUB, _UP = 0, 1, 2


def deflate_map(index: np.ndarray, bit_depth: int) -> bytes:
    """Filtered, deflated scan lines of a map: the payload, a zlib stream.

    Every row filter that can help an index map (none, sub, up) is tried on the whole map, with
    two strategies of zlib; the shortest result is kept.

    Input: ``index`` : [Hy, Wy], int, below 2 ** bit_depth; ``bit_depth`` : 4 or 8.
    """
    rows = _pack_rows(index, bit_depth)
    left = np.pad(rows, [(0, 0), (1, 0)])[:, :-1]
    above = np.pad(rows, [(1, 0), (0, 0)])[:-1]
    filtered = {_NONE: rows, _SUB: rows - left, _UP: rows - above}
    scan_lines = [
        np.pad(lines, [(0, 0), (1, 0)], constant_values=kind).tobytes()
        for kind, lines in filtered.items()
    ]
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED)
    return min((_deflate(line, s) for line in scan_lines for s in strategies), key=len)


def _deflate(data: bytes, strategy: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return compressor.compress(data) + compressor.flush()


def inflate_map(payload: bytes, height: int, width: int, bit_depth: int) -> np.ndarray:
    """Map of a payload: [height, width], uint8; the inverse of ``deflate_map``.

    Raises ``SideInformationError`` for a stream that is truncated, longer than the map, fails
    its Adler-32, or names a row filter that ``deflate_map`` does not use.
    """
    num_bytes = 1 + (width * bit_depth + 7) // 8
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(payload, height * num_bytes + 1)
    except zlib.error as error:
        raise SideInformationError(f"rate map does not inflate: {error}") from error
    if not decompressor.eof or decompressor.unused_data or len(data) != height * num_bytes:
        raise SideInformationError(
            f"rate map inflates to {len(data)} bytes, expected {height * num_bytes} and an end"
        )
    lines = np.frombuffer(data, np.uint8).reshape(height, num_bytes)
    return _unpack_rows(_unfilter(lines), width, bit_depth)


def _unfilter(lines: np.ndarray) -> np.ndarray:
    if lines[:, 0].max() > _UP:
        raise SideInformationError(f"rate map with row filter {lines[:, 0].max()}")
    rows = lines[:, 1:].copy()
    for number, kind in enumerate(lines[:, 0]):
        if kind == _SUB:
            rows[number] = np.cumsum(rows[number], dtype=np.uint8)
        elif kind == _UP and number:
            rows[number] += rows[number - 1]
    return rows


def _pack_rows(index: np.ndarray, bit_depth: int) -> np.ndarray:
    """[Hy, Wy] to scan lines of bytes; two units of 4 bits share one, the left one on top."""
    values = np.asarray(index).astype(np.uint8)
    if bit_depth == 8:
        return values
    values = np.pad(values, [(0, 0), (0, values.shape[1] % 2)])
    return (values[:, 0::2] << 4) | values[:, 1::2]


def _unpack_rows(rows: np.ndarray, width: int, bit_depth: int) -> np.ndarray:
    if bit_depth == 8:
        return rows
    return np.stack([rows >> 4, rows & 15], axis=-1).reshape(len(rows), -1)[:, :width]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def wrap_png(payload: bytes, height: int, width: int, bit_depth: int) -> bytes:
    """PNG file of a payload, sizes in units."""
    header = _HEADER.pack(width, height, bit_depth, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", payload) + _chunk(b"IEND", b"")


def unwrap_png(png: bytes, height: int, width: int, bit_depth: int) -> bytes:
    """Payload of a PNG that ``wrap_png`` made.

    Raises ``SideInformationError`` when the container differs in any byte from the one that
    ``wrap_png`` would have made around this payload (size, depth, CRCs).
    """
    payload = png[41:-16]
    if len(png) < CONTAINER_BYTES or wrap_png(payload, height, width, bit_depth) != png:
        raise SideInformationError(
            f"not the PNG of a {height} x {width} rate map of {bit_depth} bits"
        )
    return payload
