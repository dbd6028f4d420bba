"""The rate map on the side link: as a PNG, and under tables that both ends compute (eq. 9).

*Greyscale PNG* (ISO/IEC 15948), the paper's b_k, and the same without its container bytes. A unit
has four bits while the rate set has at most 16 levels (legal PNG that Pillow reads but does not
write), eight beyond. Of a PNG, 57 bytes only repeat what both ends know: signature (8), IHDR (25),
and the frames of IDAT (12) and IEND (12). The payload is the zlib stream with its Adler-32; a PNG
can be rebuilt from it and the map's size.

*Side format* ``range``, beyond the paper. sigma depends on C_e, which differs between the ends by
channel noise, so it cannot serve an entropy coder. z_hat is received error-free, and so are the
units coded before: integer arithmetic on them gives the same tables on any device. A linear score
of (z, |z|) and of the units to the left and above sorts each spatial unit into one of a few
classes, and each class has its own table of counts. Score and tables are statistics, fitted once
after training (``train.release``).
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.entropy.range_coder import (
    MessageReader,
    Part,
    SideInformationError,
    quantise_pmf,
)
from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.types import InputError

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


NUM_CLASSES = 16
UNITS_PER_CELL = 16  # 4x4 units of 1/16 share one place of z_hat at 1/64
#: Units that are known when one is coded, as (rows up, columns right).
NEIGHBOURS = ((0, -1), (1, -1), (1, 0), (1, 1), (0, -2), (2, 0))
_SCALE = 256  # integer steps of the score per rate index
_MARGIN = max(max(up, abs(right)) for up, right in NEIGHBOURS)
_RIDGE = 1e-2  # keeps channels of z that never move out of the fit
#: Reals that a bit of b_k stands for: between the side link's 1.2 at 6 dB and 2.7 at 0 dB.
_REALS_PER_BIT = 1.5
_TURNS = 2  # of choosing maps with the tables, and fitting these to the maps


@dataclass(frozen=True)
class RateMapTables:
    """Tables of one frame's rate map, computed from z_hat, equal at both ends.

    ``scores`` : [Hy, Wy], from z_hat; ``weights`` : of ``context_features``, in 1 /
    ``_SCALE``; ``borders`` : between classes; ``counts`` : [classes, num_rates]. All int64.

    Units are coded along diagonals that fall one row in two columns: whatever a unit needs of the
    row above, its right neighbour included, then lies on an earlier one.
    """

    scores: np.ndarray
    weights: np.ndarray
    borders: np.ndarray
    counts: np.ndarray

    def choose(self, wanted: np.ndarray, rate_set: tuple[int, ...]) -> np.ndarray:
        """A map chosen with its own bits in mind, greedily: int32 [Hy, Wy].

        Eq. 14 takes the rate nearest to k* = eta * bits of each unit. If distortion falls
        exponentially with the reals, over k* of them, then a unit that gets k instead costs about
        (k - k*)^2 / (2 k*) reals more than at its optimum; a rate that is improbable there costs
        ``_REALS_PER_BIT`` times its bits. Unit by unit in coding order.

        Input: ``wanted`` : [Hy, Wy], float, k*. Parameters: ``rate_set`` : reals by index.
        """
        rates = np.asarray(rate_set, np.float64)
        scale = 2.0 * np.maximum(wanted, rates[1])
        excess = (rates - wanted[..., None]) ** 2 / scale[..., None]
        counts = self.counts.astype(np.float64)
        price = -_REALS_PER_BIT * np.log2(counts / counts.sum(axis=1, keepdims=True))
        chosen = np.zeros(wanted.shape, np.int64)
        for rows, columns in diagonals(*wanted.shape):
            classes = self._classes(context_features(self.scores, chosen, rows, columns))
            chosen[rows, columns] = np.argmin(excess[rows, columns] + price[classes], axis=-1)
        return chosen.astype(np.int32)

    def parts(self, rate_index: np.ndarray) -> list[Part]:
        """The map for the range coder, one part a diagonal.

        Input: ``rate_index`` : [Hy, Wy], integers. Raises ``InputError`` for another shape.
        """
        if rate_index.shape != self.scores.shape:
            raise InputError(
                "rate map does not belong to z_hat",
                found=rate_index.shape,
                allowed=self.scores.shape,
                remedy="Pass the tables of the same frame.",
            )
        everywhere = np.indices(rate_index.shape)
        classes = self._classes(context_features(self.scores, rate_index, *everywhere))
        places = diagonals(*self.scores.shape)
        return [(rate_index[place], self.counts[classes[place]]) for place in places]

    def read(self, reader: MessageReader) -> np.ndarray:
        """The map out of a message: int32 [Hy, Wy].

        Raises ``SideInformationError`` where the message does not fit.
        """
        known = np.zeros(self.scores.shape, np.int64)
        for rows, columns in diagonals(*self.scores.shape):
            classes = self._classes(context_features(self.scores, known, rows, columns))
            known[rows, columns] = reader.read(len(rows), self.counts[classes])
        return known.astype(np.int32)

    def _classes(self, features: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.borders, features @ self.weights // _SCALE, side="right")


def diagonals(height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows, columns) of the units of each diagonal, in coding order."""
    rows, columns = (index.ravel() for index in np.indices((height, width)))
    number = columns + 2 * rows
    order = np.argsort(number, kind="stable")
    ends = np.flatnonzero(np.diff(number[order])) + 1
    return [(rows[places], columns[places]) for places in np.split(order, ends)]


def context_features(
    scores: np.ndarray,
    rate_index: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Features that the classes of units are computed from: [..., 2 + 2 len(NEIGHBOURS)], int64.

    Their score, their neighbours' rate indices (0 outside the frame), whether each of these lies
    inside, and 1, all but the first times ``_SCALE``.
    Input: ``scores``, ``rate_index`` : [Hy, Wy]; ``rows``, ``columns`` : [...], which units.
    """
    known = np.pad(rate_index.astype(np.int64), _MARGIN)
    inside = np.pad(np.ones(scores.shape, np.int64), _MARGIN)
    places = [(rows + _MARGIN - up, columns + _MARGIN + right) for up, right in NEIGHBOURS]
    context = [known[place] for place in places] + [inside[place] for place in places]
    constant = np.ones(rows.shape, np.int64)
    scaled = [_SCALE * feature for feature in (*context, constant)]
    return np.stack([scores[rows, columns], *scaled], axis=-1)


class RateMapPrior(ConfiguredLayer):
    """Integer tables of every unit's rate index; nothing in it is trained by gradients.

    Before ``fit`` there is one class, whose counts fall geometrically with the rate.

    Parameters: ``config`` : LatentConfig.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.trainable = False

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        geometric = quantise_pmf(0.7 ** np.arange(len(cfg.rate_set)))
        self.score_weights = self._integers(
            "score_weights", (cfg.num_omega, UNITS_PER_CELL, 2 * cfg.channels_z + 1), 0
        )
        self.context_weights = self._integers(
            "context_weights", (cfg.num_omega, 2 + 2 * len(NEIGHBOURS)), 0
        )
        self.borders = self._integers("borders", (cfg.num_omega, NUM_CLASSES - 1), 0)
        self.counts = self._integers("counts", (cfg.num_omega, NUM_CLASSES, len(geometric)), 0)
        self.counts.assign(np.broadcast_to(geometric, self.counts.shape).astype(np.int32))

    def _integers(self, name: str, shape: tuple[int, ...], value: int) -> Any:
        start = {"dtype": "int32", "initializer": lambda s, dtype=None: ops.full(s, value, dtype)}
        return self.add_weight(name=name, shape=shape, trainable=False, **start)

    def tables(self, z_hat: np.ndarray, preset_index: int) -> RateMapTables:
        """Tables of one frame's rate map, exact on any device.

        Input: ``z_hat`` : [Hz, Wz, channels_z], integers, for a map of [4 Hz, 4 Wz].
        """
        weights = (self.context_weights, self.borders, self.counts)
        of_preset = (ops.convert_to_numpy(w)[preset_index].astype(np.int64) for w in weights)
        return RateMapTables(self._scores(z_hat, preset_index), *of_preset)

    def choose(self, z_hat: Any, wanted: Any, preset_index: int) -> Any:
        """``RateMapTables.choose`` for one frame's tensors: a ``steps.RateChoice``."""
        z = ops.convert_to_numpy(z_hat)[0].astype(np.int32)
        tables = self.tables(z, preset_index)
        chosen = tables.choose(ops.convert_to_numpy(wanted)[0], self.config.rate_set)
        return ops.convert_to_tensor(chosen[None], "int32")

    def _scores(self, z_hat: np.ndarray, preset_index: int) -> np.ndarray:
        weights = ops.convert_to_numpy(self.score_weights)[preset_index].astype(np.int64)
        return _to_units(_integer_features(z_hat) @ weights.T)

    def fit_to_wanted(self, z_hat: np.ndarray, wanted: np.ndarray, preset_index: int) -> None:
        """``fit`` to the maps that ``choose`` makes with these very tables, in turns.

        Input: ``z_hat`` : as ``fit``; ``wanted`` : [frames, 4 Hz, 4 Wz], k* of ``choose``.
        """
        rate_set = self.config.rate_set
        nearest = np.abs(wanted[..., None] - np.asarray(rate_set)).argmin(axis=-1)
        self.fit(z_hat, nearest, preset_index)
        for _ in range(_TURNS):
            tables = [self.tables(z, preset_index) for z in z_hat]
            pairs = zip(tables, wanted, strict=True)
            self.fit(z_hat, np.stack([t.choose(k, rate_set) for t, k in pairs]), preset_index)

    def fit(self, z_hat: np.ndarray, rate_index: np.ndarray, preset_index: int) -> None:
        """Fit score and tables of one preset to coded frames: least squares, then histograms.

        Input: ``z_hat`` : [frames, Hz, Wz, channels_z], integers; ``rate_index`` : [frames, 4 Hz,
        4 Wz], integers. Raises ``InputError`` for maps that do not belong together.
        """
        frames, height, width = z_hat.shape[:3]
        if rate_index.shape != (frames, 4 * height, 4 * width):
            raise InputError(
                "rate maps do not belong to the hyper-latents",
                found=rate_index.shape,
                allowed=(frames, 4 * height, 4 * width),
                remedy="Pass the maps of the same frames.",
            )
        features = _integer_features(z_hat).reshape(-1, 2 * z_hat.shape[-1] + 1).astype(float)
        cells = rate_index.reshape(frames, height, 4, width, 4).transpose(0, 1, 3, 2, 4)
        weights = _ridge(features, cells.reshape(-1, UNITS_PER_CELL).astype(float))
        self._store(self.score_weights, preset_index, np.rint(weights.T * _SCALE))
        scores = np.stack([self._scores(z, preset_index) for z in z_hat])
        pairs = zip(scores, rate_index, strict=True)
        everywhere = np.indices(rate_index.shape[1:])
        context = np.stack([context_features(s, index, *everywhere) for s, index in pairs])
        flat = context.reshape(-1, context.shape[-1])
        weights = _ridge(flat / _SCALE, rate_index.reshape(-1, 1).astype(float))
        self._store(self.context_weights, preset_index, np.rint(weights[:, 0] * _SCALE))
        scores = flat @ ops.convert_to_numpy(self.context_weights)[preset_index] // _SCALE
        steps = np.arange(1, NUM_CLASSES) / NUM_CLASSES
        borders = np.floor(np.quantile(scores, steps))
        self._store(self.borders, preset_index, borders)
        classes = np.searchsorted(borders, scores, side="right")
        seen = np.ones((NUM_CLASSES, len(self.config.rate_set)))
        np.add.at(seen, (classes, rate_index.ravel()), 1)
        self._store(self.counts, preset_index, quantise_pmf(seen))

    def _store(self, weight: Any, preset_index: int, values: np.ndarray) -> None:
        whole = ops.convert_to_numpy(weight).copy()
        limit = np.iinfo(np.int32).max // 2
        whole[preset_index] = np.clip(values, -limit, limit).astype(np.int32)
        weight.assign(whole)


def _integer_features(z_hat: np.ndarray) -> np.ndarray:
    z = np.asarray(z_hat).astype(np.int64)
    return np.concatenate([z, np.abs(z), np.ones_like(z[..., :1])], axis=-1)


def _to_units(cells: np.ndarray) -> np.ndarray:
    """[Hz, Wz, 16] to [4 Hz, 4 Wz]."""
    height, width, _ = cells.shape
    return cells.reshape(height, width, 4, 4).transpose(0, 2, 1, 3).reshape(4 * height, 4 * width)


def _ridge(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    gram = features.T @ features + _RIDGE * len(features) * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ targets)
