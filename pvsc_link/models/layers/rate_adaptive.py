"""Rate adaptation: learnable vectors, symbols of units, and one FC layer per rate.

``LearnableVector`` is the multi-rate control of section III-C, one row per quality preset.

Symbols have two forms (section II-B2, l = ceil(k/2) complex symbols per unit). *Padded*:
``[batch, Hy, Wy, Kmax]`` reals, the first k of a unit valid and the rest exactly zero; networks
and training use it, since its shape is fixed. *Packed*: the sent symbols alone, which go on the air
and which CBR counts. Order of the packed symbols: frame by frame, units in raster order, and
inside a unit reals (0, 1), (2, 3), ... are the real and imaginary parts. An odd k (only in the
overcomplete set {0, ..., C_y}) fills the last imaginary part with zero. The receiver knows the rate
map, so no symbol is spent on positions.

``FeaturesToReals`` and ``RealsToFeatures`` are the FC layers of section III-A: a rate of k reals
has its own C_y x k matrix, so a side holds C_y * sum(rate_set) weights, 87,552 for the paper's 16
rates and 1.06 M for the overcomplete 129. They lie in one kernel of sum(k) rows. Computing all
sum(k) outputs of every unit would cost C_y * sum(k) MACs per unit: more than a ViT block at 129
rates. Instead units are grouped by rate, every group is filled up to whole blocks of ``BLOCK``
units, and each block multiplies with the one matrix of its rate. Shapes stay static and the result
is exact. Cost: (ceil(N / BLOCK) + R) * BLOCK * C_y * Kmax MACs for N units and R rates.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.types import InputError


class LearnableVector(ConfiguredLayer):
    """Scales the channels by the row of the quality preset: q_ext^c, q_ext^f, q_G^0 or q_G^1.

    Each clip of a batch may use another preset. There is no such vector for w, which H_dec gives.

    Parameters
    ----------
    config : LatentConfig; ``num_omega`` rows

    Input
    -----
    features : [batch, height, width, channels], float
    omega_index : [batch], int32, quality preset of each clip, below ``num_omega``

    Output
    ------
    features : [batch, height, width, channels], float
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.rows: Any = None

    def build(self, features_shape: Any, omega_index_shape: Any = None) -> None:
        shape = (self.config.num_omega, features_shape[-1])
        self.rows = self.add_weight(shape=shape, initializer="ones", name="rows")

    def call(self, features: Any, omega_index: Any) -> Any:
        row = ops.take(dense_gradient(self.rows), omega_index, axis=0)
        return features * ops.cast(row, features.dtype)[:, None, None, :]


#: Energy below which a frame counts as silent: keeps 0/0 out of the normalisation.
MIN_ENERGY = 1e-12
GAIN_STEPS = 16  # per octave
GAIN_ZERO = 128  # the index of gain 1


def reals_per_unit(rate_index: np.ndarray, rate_set: tuple[int, ...]) -> np.ndarray:
    """k of every unit: ``rate_set[rate_index]`` with the index checked.

    Input: ``rate_index`` : any shape, integer, in [0, len(rate_set)).
    Output: same shape, int64, reals. Raises ``InputError`` for an index outside the rate set.
    """
    index = np.asarray(rate_index)
    if index.size and (index.min() < 0 or index.max() >= len(rate_set)):
        raise InputError(
            "rate index outside the rate set",
            found=(int(index.min()), int(index.max())),
            allowed=f"0 to {len(rate_set) - 1}",
            remedy="Use the rate set that the rate map was made with.",
        )
    return np.asarray(rate_set, np.int64)[index]


def num_symbols(rate_index: np.ndarray, rate_set: tuple[int, ...]) -> int:
    """Channel uses of a rate map: the sum of l = ceil(k/2) over its units (below eq. 13)."""
    return int(((reals_per_unit(rate_index, rate_set) + 1) // 2).sum())


def _sent(rate_index: np.ndarray, rate_set: tuple[int, ...]) -> np.ndarray:
    """Which symbols of the padded form are sent: bool ``[..., ceil(Kmax/2)]``."""
    lengths = (reals_per_unit(rate_index, rate_set) + 1) // 2
    return np.arange((max(rate_set) + 1) // 2) < lengths[..., None]


def pack(
    symbols_padded: np.ndarray, rate_index: np.ndarray, rate_set: tuple[int, ...]
) -> np.ndarray:
    """Packed symbols of a frame, in channel order (module docstring).

    Input: ``symbols_padded`` : [..., Hy, Wy, Kmax], float32 reals;
    ``rate_index`` : [..., Hy, Wy], int.
    Output: [num_symbols], complex64. Raises ``InputError`` for shapes that do not fit, or an
    index outside the rate set.
    """
    padded = np.asarray(symbols_padded, np.float32)
    _check_shape(padded.shape, (*np.shape(rate_index), max(rate_set)))
    reals = reals_per_unit(rate_index, rate_set)
    kept = np.where(np.arange(max(rate_set)) < reals[..., None], padded, np.float32(0))
    pairs = _even_length(kept)
    symbols = np.ascontiguousarray(pairs).view(np.complex64)
    return symbols[_sent(rate_index, rate_set)]


def unpack(symbols: np.ndarray, rate_index: np.ndarray, rate_set: tuple[int, ...]) -> np.ndarray:
    """Received symbols back in their units; the exact inverse of ``pack``.

    Input: ``symbols`` : [num_symbols], complex64; ``rate_index`` : [..., Hy, Wy], int.
    Output: [..., Hy, Wy, Kmax], float32, zero beyond the first k reals of a unit (so the noise
    that fell on the filler of an odd k is dropped). Raises ``InputError`` for a symbol count
    that differs from the rate map's.
    """
    symbols = np.asarray(symbols, np.complex64)
    _check_shape(symbols.shape, (num_symbols(rate_index, rate_set),))
    sent = _sent(rate_index, rate_set)
    padded = np.zeros(sent.shape, np.complex64)
    padded[sent] = symbols
    reals = padded.view(np.float32)[..., : max(rate_set)]
    k = reals_per_unit(rate_index, rate_set)
    return np.where(np.arange(max(rate_set)) < k[..., None], reals, np.float32(0))


def pack_symbols(
    symbols_padded: Any, rate_index: Any, rate_set: tuple[int, ...]
) -> tuple[Any, Any]:
    """``pack`` for a batch inside a graph: one stream of symbols per clip, then zeros.

    Frame axes between batch and units are allowed; the frames of a clip follow each other. The
    shapes are static, so a graph is compiled once for all rate maps. The gradient of a symbol goes
    to the two reals that it was made of. Equal to ``pack`` bit for bit, except that a negative zero
    loses its sign, and that an index outside the rate set is not noticed.

    Input: ``symbols_padded`` : [batch, ..., Hy, Wy, Kmax], float32 reals; ``rate_index`` :
    [batch, ..., Hy, Wy], int32.
    Output: ``symbols`` : [batch, max_symbols], complex64, with max_symbols = units of a clip times
    ceil(Kmax/2); ``count`` : [batch], int32, symbols that are sent.
    """
    packed, count = pack_pairs(symbols_padded, rate_index, rate_set)
    return ops.view_as_complex(packed), count


def pack_pairs(symbols_padded: Any, rate_index: Any, rate_set: tuple[int, ...]) -> tuple[Any, Any]:
    """As ``pack_symbols``, symbols as real and imaginary parts: [batch, max_symbols, 2], float32.

    Here a negative zero keeps its sign.
    """
    padded = ops.cast(symbols_padded, "float32")
    valid = reals_mask(rate_index, rate_set) > 0
    pairs = _pairs(_pad_to_even(ops.where(valid, padded, ops.zeros_like(padded))))
    shape, half = ops.shape(rate_index), (max(rate_set) + 1) // 2
    max_symbols = math.prod(shape[1:]) * half
    place, count = _places(rate_index, rate_set, max_symbols)
    # For each place of the streams the pair that lies there, counted from 1, or 0 for none. Pairs
    # that are not sent meet in one more place at the end, which is cut off.
    num_pairs = ops.shape(pairs)[0]
    target = ops.reshape(ops.where(place < 0, num_pairs, place), (-1, 1))
    origin = ops.arange(1, num_pairs + 1, dtype="int32")
    source = ops.scatter(target, origin, (num_pairs + 1,))[:-1]
    packed = ops.take(_after_zero(pairs), source, axis=0)
    return ops.reshape(packed, (shape[0], max_symbols, 2)), count


def unpack_symbols(symbols: Any, rate_index: Any, rate_set: tuple[int, ...]) -> Any:
    """``unpack`` for a batch inside a graph; the inverse of ``pack_symbols``.

    Input: ``symbols`` : [batch, num_symbols], complex64, of which the first ``count`` of a row
    matter; ``rate_index`` : [batch, ..., Hy, Wy], int32.
    Output: [batch, ..., Hy, Wy, Kmax], float32, zero beyond the first k reals of a unit.
    """
    pairs = _pairs(ops.view_as_real(ops.cast(symbols, "complex64")))
    place, _ = _places(rate_index, rate_set, ops.shape(symbols)[1])
    taken = ops.take(_after_zero(pairs), place + 1, axis=0)
    half = (max(rate_set) + 1) // 2
    reals = ops.reshape(taken, (*ops.shape(rate_index), 2 * half))[..., : max(rate_set)]
    return ops.where(reals_mask(rate_index, rate_set) > 0, reals, ops.zeros_like(reals))


def _places(rate_index: Any, rate_set: tuple[int, ...], row: Any) -> tuple[Any, Any]:
    """Where each complex symbol of the padded form lies in the streams of a batch, row after row.

    Parameters: ``row`` : places that a stream takes.
    Output: [batch, ..., Hy, Wy, ceil(Kmax/2)], int32, -1 for what is not sent; and the symbols that
    each clip sends: [batch], int32.
    """
    lengths = ops.convert_to_tensor([(k + 1) // 2 for k in rate_set], "int32")
    of_unit = ops.take(lengths, rate_index, axis=0)
    shape = ops.shape(rate_index)
    of_clip = ops.reshape(of_unit, (shape[0], math.prod(shape[1:])))
    end = ops.cumsum(of_clip, axis=1)
    start = end - of_clip + row * ops.arange(shape[0], dtype="int32")[:, None]
    within = ops.arange((max(rate_set) + 1) // 2, dtype="int32")
    place = ops.reshape(start, shape)[..., None] + within
    return ops.where(within < of_unit[..., None], place, -1), ops.sum(of_clip, axis=1)


def _pairs(reals: Any) -> Any:
    """[..., 2 n] or [..., n, 2] as one list of pairs: [all, 2]."""
    return ops.reshape(reals, (-1, 2))


def _after_zero(pairs: Any) -> Any:
    """The pairs behind a pair of zeros, which the index 0 then stands for."""
    return ops.pad(pairs, [(1, 0), (0, 0)])


def reals_mask(rate_index: Any, rate_set: tuple[int, ...]) -> Any:
    """1 for the first k reals of a unit, else 0: [..., Hy, Wy, Kmax], float32."""
    k = ops.take(ops.convert_to_tensor(rate_set, "int32"), rate_index, axis=0)
    return ops.cast(ops.arange(max(rate_set), dtype="int32") < k[..., None], "float32")


def sent_mask(rate_index: Any, rate_set: tuple[int, ...]) -> Any:
    """1 for the complex symbols that are sent, else 0: [..., Hy, Wy, ceil(Kmax/2)], float32."""
    lengths = tuple((k + 1) // 2 for k in rate_set)
    return reals_mask(rate_index, lengths)


def normalise_power(
    symbols_padded: Any, rate_index: Any, rate_set: tuple[int, ...]
) -> tuple[Any, Any]:
    """Scale every frame to mean power 1 per complex symbol over the symbols it sends (eq. 2).

    The power constraint of eq. 2 is taken per symbol, P = 1, over one frame.

    Input: ``symbols_padded`` : [batch, Hy, Wy, Kmax], float32, zero where nothing is sent;
    ``rate_index`` : [batch, Hy, Wy], int32. Output: like ``symbols_padded``, and the gain that
    undoes it, [batch], float32. A frame that sends nothing, or only zeros, comes back as zeros.
    """
    energy = ops.sum(ops.square(symbols_padded), axis=(1, 2, 3))
    count = ops.sum(sent_mask(rate_index, rate_set), axis=(1, 2, 3))
    energy = ops.maximum(energy, MIN_ENERGY)
    scale = ops.sqrt(count) * ops.rsqrt(energy)
    gain = ops.sqrt(energy) * ops.rsqrt(ops.maximum(count, 1.0))
    return symbols_padded * scale[:, None, None, None], gain


def gain_index(gain: Any) -> Any:
    """The gain of a frame as one byte of side information: like ``gain``, int32 in [0, 255].

    Every frame is sent with unit power, so the receiver needs it to scale the symbols back.
    Steps of 1 / ``GAIN_STEPS`` octave: an error of at most 0.19 dB.
    """
    octaves = ops.log(ops.maximum(gain, 1e-6)) * (GAIN_STEPS / math.log(2.0))
    return ops.cast(ops.clip(ops.round(octaves) + GAIN_ZERO, 0, 255), "int32")


def gain_of(index: Any) -> Any:
    """The gain that an index stands for, at both ends: float32."""
    octaves = (ops.cast(index, "float32") - GAIN_ZERO) / GAIN_STEPS
    return ops.exp(octaves * math.log(2.0))


def _check_shape(found: tuple[int, ...], allowed: tuple[int, ...]) -> None:
    if found != allowed:
        raise InputError(
            "symbols do not fit the rate map",
            found=found,
            allowed=allowed,
            remedy="Pass the rate map and the rate set that the symbols were made with.",
        )


def _even_length(reals: np.ndarray) -> np.ndarray:
    pad = [(0, 0)] * (reals.ndim - 1) + [(0, reals.shape[-1] % 2)]
    return np.pad(reals, pad)


def _pad_to_even(reals: Any) -> Any:
    rank = len(reals.shape)
    return ops.pad(reals, [(0, 0)] * (rank - 1) + [(0, reals.shape[-1] % 2)])


#: Units per block: small enough that 129 half-empty groups stay cheap.
BLOCK = 32


def dense_gradient(variable: Any) -> Any:
    """``variable`` as a tensor whose gradient is dense even when only some rows are gathered.

    A gather straight from a variable has an IndexedSlices gradient in TensorFlow, with repeated
    rows that second-moment optimisers would square one by one.
    """
    return ops.reshape(variable, variable.shape)


def group_by_rate(rate_index: Any, num_rates: int) -> tuple[Any, Any]:
    """Place units in blocks of ``BLOCK`` such that a block holds one rate only.

    Input: ``rate_index`` : [N], int32. Output: ``slot`` : [N], int32, distinct places in
    [0, num_blocks * BLOCK); ``block_rate`` : [num_blocks], int32, with
    num_blocks = ceil(N / BLOCK) + num_rates whatever the rates are.
    """
    one_hot = ops.cast(rate_index[:, None] == ops.arange(num_rates, dtype="int32"), "int32")
    rank = ops.sum(one_hot * (ops.cumsum(one_hot, axis=0) - 1), axis=1)
    blocks = (ops.sum(one_hot, axis=0) + BLOCK - 1) // BLOCK
    end = ops.cumsum(blocks, axis=0)
    slot = ops.take(end - blocks, rate_index, axis=0) * BLOCK + rank
    num_blocks = (ops.shape(rate_index)[0] + BLOCK - 1) // BLOCK + num_rates
    past = ops.arange(num_blocks, dtype="int32")[:, None] >= end
    rate = ops.sum(ops.cast(past, "int32"), axis=1)
    return slot, ops.minimum(rate, num_rates - 1)


def row_table(rate_set: tuple[int, ...]) -> np.ndarray:
    """Kernel row of real c of rate r: [num_rates, Kmax], int32.

    Beyond the k reals of a rate it repeats a legal row; what that row yields is masked out.
    """
    start = np.cumsum((0, *rate_set))[:-1, None]
    last = np.maximum(np.array(rate_set), 1)[:, None] - 1
    rows = start + np.minimum(np.arange(max(rate_set)), last)
    return np.minimum(rows, sum(rate_set) - 1).astype(np.int32)


class _RateFc(ConfiguredLayer):
    """The kernel of sum(rate_set) rows and the grouped product, for either direction."""

    def _build_kernel(self) -> None:
        cfg = self.config
        self.kernel = self.add_weight(
            name="kernel",
            shape=(sum(cfg.rate_set), cfg.channels_y),
            initializer="glorot_uniform",
        )

    def _grouped(self, units: Any, rate_index: Any, product: Any) -> Any:
        """Apply ``product(blocks, rows)`` to ``units`` [N, c] in blocks of one rate."""
        slot, block_rate = group_by_rate(rate_index, len(self.config.rate_set))
        num_slots = ops.shape(block_rate)[0] * BLOCK
        placed = ops.scatter(slot[:, None], units, (num_slots, units.shape[-1]))
        blocks = ops.reshape(placed, (-1, BLOCK, units.shape[-1]))
        rows = ops.take(row_table(self.config.rate_set), block_rate, axis=0)
        result = product(blocks, rows)
        return ops.take(ops.reshape(result, (-1, result.shape[-1])), slot, axis=0)

    def macs(self, num_units: int) -> int:
        """Multiply-accumulates for ``num_units`` units, group padding included."""
        cfg = self.config
        blocks = -(-num_units // BLOCK) + len(cfg.rate_set)
        return blocks * BLOCK * int(self.kernel.shape[1]) * max(cfg.rate_set)


class FeaturesToReals(_RateFc):
    """FC_k of F_tx: the features of a unit to its k reals (section III-A).

    Parameters: ``config`` : LatentConfig.
    Input: ``features`` : [..., C_y], float; ``rate_index`` : [...], int32.
    Output: [..., Kmax], float; the first k reals of a unit, then exact zeros.
    """

    def build(self, input_shape: Any = None) -> None:
        self._build_kernel()
        self.bias = self.add_weight(
            name="bias", shape=(sum(self.config.rate_set),), initializer="zeros"
        )

    def call(self, features: Any, rate_index: Any) -> Any:
        kernel, bias = dense_gradient(self.kernel), dense_gradient(self.bias)

        def product(blocks: Any, rows: Any) -> Any:
            matrices = ops.take(kernel, rows, axis=0)
            offsets = ops.take(bias, rows, axis=0)
            return ops.matmul(blocks, ops.swapaxes(matrices, 1, 2)) + offsets[:, None]

        num_reals = max(self.config.rate_set)
        flat = ops.reshape(features, (-1, self.config.channels_y))
        reals = self._grouped(flat, ops.reshape(rate_index, (-1,)), product)
        reals = ops.reshape(reals, (*ops.shape(features)[:-1], num_reals))
        return reals * ops.cast(reals_mask(rate_index, self.config.rate_set), reals.dtype)


class RealsToFeatures(_RateFc):
    """FC_k of F_rx: the k reals of a unit to its features (section III-A).

    Rate k = 0 has no reals, so its features are its bias alone: the learned null vector.

    Parameters: ``config`` : LatentConfig.
    Input: ``reals`` : [..., Kmax], float, anything beyond the first k is ignored;
    ``rate_index`` : [...], int32.
    Output: [..., C_y], float.
    """

    def build(self, input_shape: Any = None) -> None:
        self._build_kernel()
        self.bias = self.add_weight(
            name="bias",
            shape=(len(self.config.rate_set), self.config.channels_y),
            initializer="zeros",
        )

    def call(self, reals: Any, rate_index: Any) -> Any:
        kernel, bias = dense_gradient(self.kernel), dense_gradient(self.bias)
        # where, not a product: noise beyond k may be anything, even inf on a faded symbol.
        valid = reals_mask(rate_index, self.config.rate_set) > 0
        reals = ops.where(valid, reals, ops.zeros_like(reals))
        flat = ops.reshape(reals, (-1, max(self.config.rate_set)))
        features = self._grouped(
            flat,
            ops.reshape(rate_index, (-1,)),
            lambda blocks, rows: ops.matmul(blocks, ops.take(kernel, rows, axis=0)),
        )
        shape = (*ops.shape(rate_index), self.config.channels_y)
        return ops.reshape(features, shape) + ops.take(bias, rate_index, axis=0)
