"""Reals of the spatial units to complex channel symbols and back (section II-B2, l = ceil(k/2)).

Two forms of the same symbols exist. *Padded*: ``[batch, Hy, Wy, Kmax]`` reals, the first k of
a unit valid and the rest exactly zero; fixed shapes, so networks and training use it. *Packed*:
the sent symbols alone, which is what goes on the air and what CBR counts.

Order of the packed symbols: frame by frame, units in raster order, and inside a unit reals
(0, 1), (2, 3), ... are the real and imaginary parts. An odd k (only in the overcomplete set
{0, ..., C_y}) fills the last imaginary part with zero. The receiver knows the rate map, so no
symbol is spent on positions.
"""

import math
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.types import InputError

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
    """The symbols that are sent, in channel order (module docstring).

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


def to_complex(symbols_padded: Any) -> Any:
    """Padded reals as complex pairs with static shape, for a channel inside the training graph.

    Input: [..., Kmax], float32. Output: [..., ceil(Kmax/2)], complex64; positions that are not
    sent are zeros and must be ignored by whoever counts power or channel uses (``sent_mask``).
    """
    pairs = _pad_to_even(ops.cast(symbols_padded, "float32"))
    return ops.view_as_complex(ops.reshape(pairs, (*ops.shape(pairs)[:-1], -1, 2)))


def to_reals(symbols: Any, num_reals: int) -> Any:
    """Complex pairs back to padded reals; the inverse of ``to_complex``.

    Parameters: ``num_reals`` : Kmax. Input: [..., ceil(Kmax/2)], complex64. Output: [..., Kmax],
    float32. Nothing is zeroed: apply ``reals_mask``, or leave it to the feature decoder.
    """
    pairs = ops.view_as_real(symbols)
    return ops.reshape(pairs, (*ops.shape(symbols)[:-1], -1))[..., :num_reals]


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

    Without it a receiver could not tell a bright frame from a dim one, as both are sent with unit
    power. Steps of 1 / ``GAIN_STEPS`` octave: an error of at most 0.19 dB.
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
