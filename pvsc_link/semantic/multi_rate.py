"""Multi-rate control of section III-C: learnable channel-wise vectors, one row per preset."""

from typing import Any

from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.semantic.rate_fc import dense_gradient


class LearnableVector(ConfiguredLayer):
    """Scales the channels by the row of the quality preset: q_ext^c, q_ext^f, q_G^0 or q_G^1.

    Each clip of a batch may use another preset. There is no such vector for w, which H_dec gives.

    Parameters
    ----------
    config : PvscConfig; ``num_omega`` rows

    Input
    -----
    features : [batch, height, width, channels], float
    omega_index : [batch], int32, quality preset of each clip, below ``num_omega``

    Output
    ------
    features : [batch, height, width, channels], float
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.rows: Any = None

    def build(self, features_shape: Any, omega_index_shape: Any = None) -> None:
        shape = (self.config.num_omega, features_shape[-1])
        self.rows = self.add_weight(shape=shape, initializer="ones", name="rows")

    def call(self, features: Any, omega_index: Any) -> Any:
        row = ops.take(dense_gradient(self.rows), omega_index, axis=0)
        return features * ops.cast(row, features.dtype)[:, None, None, :]
