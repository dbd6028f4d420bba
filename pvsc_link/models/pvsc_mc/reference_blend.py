"""The moved previous picture, mixed with what G makes of a P frame, pixel by pixel.

Beyond the paper. At low rates G shows the mean of what a frame may look like, and detail that the
previous picture already had is washed out; where nothing was sent, that picture is the better one.
Both ends hold their own, so the mask costs no bits.
"""

from typing import Any

from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.dc_block import (
    DepthConvBlock,
    convolution,
    pixel_shuffle,
    pixel_unshuffle,
)
from pvsc_link.models.layers.rate_adaptive import LearnableVector
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc.transforms import PATCH_CHANNELS

_PATCH = 8


class ReferenceBlend(ConfiguredLayer):
    """x_hat = r + m (g - r), with the mask m out of \\|g - r\\| and F_t.

    Unshuffle by 8, 1x1 of both, a DC block, the preset's vector, 1x1 to a value per pixel, sigmoid.
    It starts as the mean of the two.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    generated : [batch, height, width, 3], float32, G's picture
    reference : like ``generated``, the previous picture, moved
    feature : [batch, height/8, width/8, channels_feature], float, F_t
    omega_index : [batch], int32, quality preset

    Output
    ------
    frame : like ``generated``
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        self.entry = convolution(cfg.channels_pixel, name="entry", **own)
        self.block = DepthConvBlock(
            cfg.channels_pixel, zero_init=cfg.zero_init_residual, name="block", **own
        )
        self.vector = LearnableVector(cfg, name="q_blend", **own)
        self.exit = convolution(_PATCH**2, kernel_initializer="zeros", name="exit", **own)

    def build(self, input_shape: Any = None) -> None:
        self.entry.build(self._shape(PATCH_CHANNELS + self.config.channels_feature))
        for layer in (self.block, self.vector, self.exit):
            layer.build(self._shape(self.config.channels_pixel))

    def call(self, generated: Any, reference: Any, feature: Any, omega_index: Any) -> Any:
        change = generated - reference
        patches = ops.cast(pixel_unshuffle(ops.abs(change), _PATCH), feature.dtype)
        seen = self.block(self.entry(ops.concatenate([patches, feature], axis=-1)))
        mask = ops.sigmoid(pixel_shuffle(self.exit(self.vector(seen, omega_index)), _PATCH))
        return reference + ops.cast(mask, change.dtype) * change
