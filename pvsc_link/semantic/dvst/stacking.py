"""Both streams of a frame in one tensor, so that they travel and are kept like one frame of PVSC.

Units (rate indices, bits, symbols) lie one above the other: motion, below it context. Latents and
hyper-latents lie side by side in channels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.range_coding import MessageReader, Part
from pvsc_link.semantic.rate_map_prior import RateMapPrior, RateMapTables


def stack_units(motion: Any, context: Any) -> Any:
    """[batch, Hy, Wy, ...] twice to [batch, 2 Hy, Wy, ...]."""
    return ops.concatenate([motion, context], axis=1)


def split_units(units: Any) -> tuple[Any, Any]:
    """The inverse of ``stack_units``."""
    motion, context = ops.split(units, 2, axis=1)
    return motion, context


def join_channels(motion: Any, context: Any) -> Any:
    """[..., C_m] and [..., C_c] to [..., C_m + C_c]."""
    return ops.concatenate([motion, context], axis=-1)


def split_channels(latents: Any, channels_motion: int) -> tuple[Any, Any]:
    """The inverse of ``join_channels``."""
    return latents[..., :channels_motion], latents[..., channels_motion:]


@dataclass(frozen=True)
class StackedRateMapTables:
    """The map of the motion stream, then that of the context stream."""

    motion: RateMapTables
    context: RateMapTables

    def parts(self, rate_index: np.ndarray) -> list[Part]:
        """As ``RateMapTables.parts``, of the stacked map."""
        motion, context = np.split(rate_index, 2)
        return self.motion.parts(motion) + self.context.parts(context)

    def read(self, reader: MessageReader) -> np.ndarray:
        """As ``RateMapTables.read``: the stacked map."""
        return np.concatenate([self.motion.read(reader), self.context.read(reader)])


class StackedRateMapPrior(ConfiguredLayer):
    """Tables of the rate map of both streams, each a ``RateMapPrior`` over z_hat of both.

    Parameters: ``config`` : PvscConfig with the channels of both streams (``DvstConfig.both``).
    """

    #: Both streams always take the nearest rates (``DvstSteps.encode``).
    choose = None

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.trainable = False
        self.motion = RateMapPrior(self.config, name="motion")
        self.context = RateMapPrior(self.config, name="context")

    def build(self, input_shape: Any = None) -> None:
        for prior in (self.motion, self.context):
            prior.build()

    def tables(self, z_hat: np.ndarray, preset_index: int) -> "StackedRateMapTables":
        """Tables of a map of [8 Hz, 4 Wz]; else as ``RateMapPrior.tables``."""
        priors = (self.motion, self.context)
        return StackedRateMapTables(*(prior.tables(z_hat, preset_index) for prior in priors))

    def fit(self, z_hat: np.ndarray, rate_index: np.ndarray, preset_index: int) -> None:
        """``RateMapPrior.fit`` of both; ``rate_index`` : [frames, 8 Hz, 4 Wz], integers."""
        halves = np.split(rate_index, 2, axis=1)
        for prior, part in zip((self.motion, self.context), halves, strict=True):
            prior.fit(z_hat, part, preset_index)
