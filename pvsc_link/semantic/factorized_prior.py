"""The learned factorised prior of the hyper-latent, per channel and quality preset (eq. 8)."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.semantic.range_coding import MessageReader, Part, quantise_pmf
from pvsc_link.semantic.rate_fc import dense_gradient
from pvsc_link.types import InputError

#: z_hat is clipped to [-Z_MAX, Z_MAX], as the pmf tables have that support.
Z_MAX = 127
_STAGES = 4


class PmfTables(NamedTuple):
    """Integer probabilities of z_hat, every channel by itself.

    ``offset`` : the integer that column 0 stands for; ``counts`` : [C_z, m], as in
    ``range_coding``.
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
    config : PvscConfig

    Input
    -----
    z : [batch, height/64, width/64, channels_z], float, rounded or with noise added
    omega_index : [batch], int32, quality preset

    Output
    ------
    num_bits : like ``z``, float32, -log2 P(z - 1/2 < Z < z + 1/2)
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
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

        Computed in float64 numpy from the weights alone, so that no accelerator's float32 has a
        say. Every value keeps at least one count: any z_hat can be coded.

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
