"""Priors of the hyper-latent z_hat: what b_z is coded with (eq. 8).

``FactorizedPrior`` is the paper's: learned, per channel and quality preset. Its integer tables
(``PmfTables``) code b_z unless ``HyperContext`` has been fitted.

``HyperContext`` is beyond the paper. Neighbouring places of z_hat at 1/64 resemble each other,
which a prior of single channels cannot know. The places to the left, above and to both sides of
that are known when one is coded. Integer arithmetic on them gives the mean of every channel, and
how wrong their own means were picks one of a few classes of spread. Means and spreads are
statistics of training clips, fitted once after training (``train.release``); what training itself
counts stays eq. 8.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from pvsc_link.models.entropy.range_coder import (
    TOTAL,
    MessageReader,
    Part,
    information,
    quantise_pmf,
)
from pvsc_link.models.entropy.rate_map import diagonals
from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.rate_adaptive import dense_gradient
from pvsc_link.types import InputError

#: z_hat is clipped to [-Z_MAX, Z_MAX], as the pmf tables have that support.
Z_MAX = 127
_STAGES = 4


class PmfTables(NamedTuple):
    """Integer probabilities of z_hat, every channel by itself.

    ``offset`` : the integer that column 0 stands for; ``counts`` : [C_z, m], as in
    ``range_coder``.
    """

    offset: int
    counts: np.ndarray

    @property
    def num_channels(self) -> int:
        """C_z."""
        return len(self.counts)

    def parts(self, z: np.ndarray) -> list[Part]:
        """z_hat [Hz, Wz, C_z], whole numbers, for the range coder: one part a channel."""
        symbols = z.reshape(-1, len(self.counts)).T.astype(np.int64) - self.offset
        return list(zip(symbols, self.counts, strict=True))

    def read(self, reader: MessageReader, shape: tuple[int, int]) -> np.ndarray:
        """z_hat [Hz, Wz, C_z], int32, out of a message; errors as ``MessageReader.read``."""
        height, width = shape
        planes = [reader.read(height * width, row) for row in self.counts]
        return np.stack(planes, axis=-1).reshape(*shape, -1) + np.int32(self.offset)


class FactorizedPrior(ConfiguredLayer):
    """Bits of z under a logistic distribution of a learned, monotone warp of each channel.

    The warp has four stages x <- a x + b, the first three followed by x <- x + c tanh(x) with
    a > 0 and |c| < 1, so that the distribution function can take any smooth shape.

    Parameters
    ----------
    config : LatentConfig

    Input
    -----
    z : [batch, height/64, width/64, channels_z], float, rounded or with noise added
    omega_index : [batch], int32, quality preset

    Output
    ------
    num_bits : like ``z``, float32, -log2 P(z - 1/2 < Z < z + 1/2)
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)

    def build(self, z_shape: Any = None, omega_index_shape: Any = None) -> None:
        shape = (self.config.num_omega, self.config.channels_z)

        def weight(name: str) -> Any:
            return self.add_weight(shape=shape, initializer="zeros", dtype="float32", name=name)

        self.scales = [weight(f"scale_{i}") for i in range(_STAGES)]
        self.shifts = [weight(f"shift_{i}") for i in range(_STAGES)]
        self.bends = [weight(f"bend_{i}") for i in range(_STAGES - 1)]

    def call(self, z: Any, omega_index: Any) -> Any:
        z = ops.cast(z, "float32")
        upper, lower = self._logits(z + 0.5, omega_index), self._logits(z - 0.5, omega_index)
        # The lower tail is where sigmoids differ without cancellation: mirror the upper one.
        mirror = upper + lower > 0
        high = ops.log_sigmoid(ops.where(mirror, -lower, upper))
        low = ops.log_sigmoid(ops.where(mirror, -upper, lower))
        gap = ops.minimum(low - high, -1e-6)
        return -(high + ops.log(-ops.expm1(gap))) / np.log(2.0)

    def _logits(self, values: Any, omega_index: Any) -> Any:
        def row(weight: Any) -> Any:
            rows = ops.cast(dense_gradient(weight), "float32")
            return ops.take(rows, omega_index, axis=0)[:, None, None, :]

        for i in range(_STAGES):
            values = values * ops.softplus(row(self.scales[i])) + row(self.shifts[i])
            if i < _STAGES - 1:
                values = values + ops.tanh(values) * ops.tanh(row(self.bends[i]))
        return values

    def pmf_table(self, preset_index: int) -> PmfTables:
        """Integer probabilities for the range coder, the same on every device.

        Computed in float64 numpy from the weights alone, so that no accelerator's rounding matters.
        Every value keeps at least one count: any z_hat can be coded.

        Output: ``offset``, -Z_MAX; ``counts``, [channels_z, 2 Z_MAX + 1], int64, each row
        summing to 2**16.
        Raises ``InputError`` for a preset that does not exist.
        """
        if not 0 <= preset_index < self.config.num_omega:
            raise InputError(
                "quality preset does not exist",
                found=preset_index,
                allowed=f"0 to {self.config.num_omega - 1}",
                remedy="Choose one of the presets the model was built with.",
            )
        edges = np.arange(-Z_MAX, Z_MAX + 2) - 0.5
        cdf = self._cdf(edges[None, :], preset_index)
        cdf[:, 0], cdf[:, -1] = 0.0, 1.0
        return PmfTables(-Z_MAX, quantise_pmf(np.diff(cdf, axis=1)))

    def _cdf(self, values: np.ndarray, preset_index: int) -> np.ndarray:
        def row(weight: Any) -> np.ndarray:
            return ops.convert_to_numpy(weight).astype(np.float64)[preset_index][:, None]

        for i in range(_STAGES):
            values = values * np.logaddexp(0.0, row(self.scales[i])) + row(self.shifts[i])
            if i < _STAGES - 1:
                values = values + np.tanh(values) * np.tanh(row(self.bends[i]))
        return 0.5 * (1.0 + np.tanh(0.5 * values))


#: Places that are known when one is coded, as (rows up, columns right), and the weights of their
#: errors.
NEIGHBOURS = {(0, -1): 2, (1, 0): 2, (1, -1): 1, (1, 1): 1}
#: Classes of spread; the first is that of a place without neighbours.
NUM_CLASSES = 6
_SPREADS = np.geomspace(0.05, 20.0, 60)  # of the logistic tables
_STEPS = 4  # of a mean, per integer of z
_SCALE = 256  # of the weights of a mean
_LEVEL = 64  # weighted error of a channel at its mean error
_RIDGE = 100.0  # regularises the fit of the means, in places
_COMMON = 30.0  # regularises the spreads of a class, in places of all classes


@dataclass(frozen=True)
class ContextTables:
    """Statistics of z_hat at one quality preset, equal at both ends; all int64.

    ``mean_weights`` : [C_z, features], in 1 / ``_SCALE``; ``error_weights`` : [C_z]; ``borders`` :
    between the classes but the first; ``spreads`` : [classes, C_z], numbers of logistic tables.
    """

    mean_weights: np.ndarray
    error_weights: np.ndarray
    borders: np.ndarray
    spreads: np.ndarray

    @property
    def num_channels(self) -> int:
        """C_z."""
        return len(self.mean_weights)

    def parts(self, z: np.ndarray) -> list[Part]:
        """z_hat [Hz, Wz, C_z], whole numbers, for the range coder: one part a diagonal."""
        z = np.asarray(z, np.int64)
        means = self.means(z)
        classes = self.classes(_STEPS * z - means)
        return [
            (z[place].ravel() + Z_MAX, self._counts(means[place], classes[place]))
            for place in diagonals(*z.shape[:2])
        ]

    def read(self, reader: MessageReader, shape: tuple[int, int]) -> np.ndarray:
        """z_hat [Hz, Wz, C_z], int32, out of a message.

        Raises ``SideInformationError`` where the message does not fit.
        """
        z = np.zeros((*shape, self.num_channels), np.int64)
        errors = np.zeros_like(z)
        for place in diagonals(*shape):
            means = self.means(z)[place]
            counts = self._counts(means, self.classes(errors)[place])
            z[place] = reader.read(len(counts), counts).reshape(means.shape) - Z_MAX
            errors[place] = _STEPS * z[place] - means
        return z.astype(np.int32)

    def means(self, z: np.ndarray) -> np.ndarray:
        """Mean of every channel given the neighbours, in 1 / ``_STEPS``: [Hz, Wz, C_z]."""
        means = _features(z) @ self.mean_weights.T * _STEPS // _SCALE
        return np.clip(means, -_STEPS * Z_MAX, _STEPS * Z_MAX)  # type: ignore[no-any-return]

    def classes(self, errors: np.ndarray) -> np.ndarray:
        """Class of every place from its neighbours' errors [Hz, Wz, C_z]: [Hz, Wz]."""
        scores = _scores(errors, self.error_weights)
        inner = 1 + np.searchsorted(self.borders, scores, side="right")
        return np.where(scores < 0, 0, inner)

    def _counts(self, means: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Tables of all channels of some places, one after another: [n C_z, 2 Z_MAX + 1]."""
        whole, part = np.divmod(means.ravel(), _STEPS)
        columns = Z_MAX - whole[:, None] + np.arange(2 * Z_MAX + 1)
        spreads = self.spreads[classes].ravel()
        return quantise_pmf(_logistic_tables()[spreads[:, None], part[:, None], columns])


class HyperContext(ConfiguredLayer):
    """The statistics, in integers; nothing in it is trained by gradients.

    Parameters: ``config`` : LatentConfig.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.trainable = False

    def build(self, input_shape: Any = None) -> None:
        presets, channels = self.config.num_omega, self.config.channels_z
        shapes = {
            "mean_weights": (channels, len(NEIGHBOURS) * (channels + 1) + 1),
            "error_weights": (channels,),
            "borders": (NUM_CLASSES - 2,),
            "spreads": (NUM_CLASSES, channels),
        }
        self.statistics = {
            name: self.add_weight(
                name=name,
                shape=(presets, *shape),
                dtype="int32",
                initializer="zeros",
                trainable=False,
            )
            for name, shape in shapes.items()
        }

    def tables(self, preset_index: int) -> ContextTables | None:
        """Tables of one quality preset, exact on any device; None before ``fit``."""
        values = {
            name: ops.convert_to_numpy(weight)[preset_index].astype(np.int64)
            for name, weight in self.statistics.items()
        }
        return ContextTables(**values) if values["error_weights"].any() else None

    def fit(self, z_hat: np.ndarray, preset_index: int, plain: PmfTables) -> bool:
        """Fit the statistics of one preset to coded frames, if that saves bits.

        Every second frame is coded with statistics of the others. Unless that is shorter than with
        ``plain``, the preset keeps ``plain``.
        Input: ``z_hat`` : [frames, Hz, Wz, channels_z], whole numbers; ``plain`` : tables that do
        without neighbours. Output: whether it saves bits.
        """
        z = np.asarray(z_hat).astype(np.int64)
        some, others = _fitted(z[::2]), z[1::2]
        bits = [sum(information(t.parts(frame)) for frame in others) for t in (some, plain)]
        pays = bits[0] < bits[1]
        tables = _fitted(z) if pays else None
        for name, weight in self.statistics.items():
            whole = ops.convert_to_numpy(weight).copy()
            whole[preset_index] = getattr(tables, name, 0)
            weight.assign(whole)
        return pays


def _fitted(z: np.ndarray) -> ContextTables:
    """Least squares for the means, then least bits for the spreads. z : [frames, Hz, Wz, C_z]."""
    channels = z.shape[-1]
    flat = np.stack([_features(frame) for frame in z]).astype(np.float64)
    flat = flat.reshape(-1, flat.shape[-1])
    ridge = np.diag(np.append(np.full(flat.shape[1] - 1, _RIDGE), 1e-6))  # last the constant
    weights = np.linalg.solve(flat.T @ flat + ridge, flat.T @ z.reshape(-1, channels))
    nothing = np.zeros((NUM_CLASSES, channels), np.int64)
    means = ContextTables(np.rint(_SCALE * weights.T).astype(np.int64), *nothing[:3])
    errors = np.stack([_STEPS * frame - means.means(frame) for frame in z])
    usual = np.abs(errors).mean(axis=(0, 1, 2))
    error_weights = np.ceil(_LEVEL / np.maximum(usual, 0.1)).astype(np.int64)
    scores = np.stack([_scores(frame, error_weights) for frame in errors])
    inner = np.append(scores[scores >= 0], 0)
    shares = np.arange(1, NUM_CLASSES - 1) / (NUM_CLASSES - 1)
    borders = np.floor(np.quantile(inner, shares)).astype(np.int64)
    tables = ContextTables(means.mean_weights, error_weights, borders, nothing)
    classes = np.stack([tables.classes(frame) for frame in errors])
    spreads = _least_bits(z.reshape(-1, channels), errors.reshape(-1, channels), classes.ravel())
    return replace(tables, spreads=spreads)


def _features(z: np.ndarray) -> np.ndarray:
    """Features that the means are computed from: [Hz, Wz, features], int64.

    The neighbours' z, zero outside the frame, whether each lies inside, and 1.
    """
    inside = np.ones((*z.shape[:2], 1), np.int64)
    planes = [plane for at in NEIGHBOURS for plane in (_at(z, at), _at(inside, at))]
    return np.concatenate([*planes, inside], axis=-1)


def _scores(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How wrong the neighbours' means were, on average: [Hz, Wz], int64; -1 without neighbours."""
    wrong = np.abs(errors) @ weights
    total, known = _summed(wrong), _summed(np.ones_like(wrong))
    return np.where(known > 0, total // np.maximum(known, 1), -1)


def _summed(plane: np.ndarray) -> np.ndarray:
    """Of the neighbours of every place, by what they weigh: [Hz, Wz]."""
    every = [share * _at(plane[..., None], at) for at, share in NEIGHBOURS.items()]
    return np.sum(every, axis=0)[..., 0]  # type: ignore[no-any-return]


def _at(plane: np.ndarray, neighbour: tuple[int, int]) -> np.ndarray:
    """The plane shifted by ``neighbour`` (rows up, columns right), zero outside."""
    up, right = neighbour
    rows, columns = plane.shape[:2]
    wide = np.pad(plane, ((1, 0), (1, 1), (0, 0)))
    return wide[1 - up : 1 - up + rows, 1 + right : 1 + right + columns]


def _least_bits(z: np.ndarray, errors: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number of the spread that codes z [n, C_z] shortest, [classes, C_z]."""
    whole, part = np.divmod(_STEPS * z - errors, _STEPS)
    bits = -np.log2(np.maximum(_logistic_tables()[:, part, 2 * Z_MAX + z - whole], 1.0) / TOTAL**2)
    common = _COMMON * bits.mean(axis=1)
    sums = [common + bits[:, classes == one].sum(axis=1) for one in range(NUM_CLASSES)]
    return np.argmin(sums, axis=1)


@functools.cache
def _logistic_tables() -> np.ndarray:
    """Logistic distributions in whole numbers: [spreads, _STEPS, 4 Z_MAX + 1], sums 2 ** 32.

    Of z less the whole part of its mean, from -2 Z_MAX on, by the rest of the mean.
    """
    edges = np.arange(-2 * Z_MAX, 2 * Z_MAX + 2) - 0.5
    rest = np.arange(_STEPS)[:, None] / _STEPS
    cdf = 0.5 * (1.0 + np.tanh(0.5 * (edges - rest) / _SPREADS[:, None, None]))
    return np.rint(np.diff(cdf) * TOTAL**2)  # type: ignore[no-any-return]
