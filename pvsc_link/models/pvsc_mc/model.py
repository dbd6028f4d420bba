"""PVSC with explicit motion: what the preset ``pvsc_mc_small`` adds to the paper's P-frame model.

    buffer       instead of F: the previous picture of this end, in [0, 1]
    reference    that picture, moved by vectors that travel with z_hat (``motion.py``)
    C_e, C_f     C_ext of one DC block on the moved picture
    x_hat        G's picture, mixed pixel by pixel with the moved one (``blend_reference``)

The paper's C_ext has to learn by itself what has moved; that takes more training than two cores
give. The vectors are received error-free, so each end moves its own picture with equal vectors.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.layers.base import Compiler, ConfiguredLayer, as_is
from pvsc_link.models.layers.dc_block import (
    DepthConvBlock,
    convolution,
    pixel_shuffle,
    pixel_unshuffle,
)
from pvsc_link.models.layers.rate_adaptive import LearnableVector
from pvsc_link.models.pvsc.model import PvscModel
from pvsc_link.models.pvsc.steps import Buffers, PredictedSteps
from pvsc_link.models.pvsc.transforms import PATCH_CHANNELS
from pvsc_link.models.pvsc_mc.motion import MotionPrior, compensate, search

_PATCH = 8


class ReferenceBlend(ConfiguredLayer):
    """x_hat = r + m (g - r), with the mask m out of \\|g - r\\| and F_t.

    At low rates G shows the mean of what a frame may look like, and detail of the previous picture
    is lost. Where nothing was sent, that picture is the better one. Both ends compute the mask from
    their own pictures, so it costs no bits.

    Unshuffle by 8, 1x1 of both, a DC block, the preset's vector, 1x1 to a value per pixel, sigmoid.
    It starts as the mean of the two.

    Parameters
    ----------
    config : PvscMcConfig

    Input
    -----
    generated : [batch, height, width, 3], float32, G's picture g
    reference : like ``generated``, the previous picture, moved, r
    feature : [batch, height/8, width/8, channels_feature], float, F_t
    omega_index : [batch], int32, quality preset

    Output
    ------
    frame : like ``generated``
    """

    def __init__(self, config: Any, **kwargs: Any):
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


class PvscMcModel(PvscModel):
    """P frames over the ideal, tx and rx branches, with motion compensation.

    Parameters: ``config`` : PvscMcConfig. Everything else as ``PvscModel``, with ``motion`` :
    [batch, Hy, Wy, 2], int32, quarters of a pixel, rows down and columns to the right.
    """

    weighs_maps = True

    def _add_extension(self) -> None:
        self.motion_prior = MotionPrior(self.config, name="motion_prior")
        self.reference_blend: Any = None
        if self.config.blend_reference:
            own = {"dtype": self.dtype_policy}
            self.reference_blend = ReferenceBlend(self.config, name="reference_blend", **own)

    def steps(self, compiled: Compiler = as_is, quantiser: str = "round") -> "McSteps":
        """The steps of a P frame; arguments as ``PredictedSteps``."""
        return McSteps(self, compiled, quantiser)

    def start(self, frame: Any) -> Any:
        """The buffer after an I frame: the picture itself, clipped."""
        return self.kept(None, frame)

    def search_motion(self, feature: Any, frames: Any, omega_index: Any) -> np.ndarray:
        """Vectors that the transmitter sends: int32 [batch, Hy, Wy, 2] (``motion.search``)."""
        return search(self.config, feature, frames, omega_index)

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """The previous picture, moved by ``motion``; None: nothing moves."""
        return feature if motion is None else compensate(feature, motion)

    def contexts(self, reference: Any, omega_index: Any) -> tuple[Any, Any]:
        """(C_e, C_f) from the moved picture."""
        return super().contexts(self.intra_adaptor(reference), omega_index)

    def picture(self, feature: Any, reference: Any, omega_index: Any) -> Any:
        """x_hat from F_t, and with ``blend_reference`` from the moved picture as well."""
        frame = super().picture(feature, reference, omega_index)
        if self.reference_blend is None:
            return frame
        return self.reference_blend(frame, reference, feature, omega_index)

    def kept(self, feature: Any, frame: Any) -> Any:
        """The buffer after a coded frame: its picture, clipped."""
        return ops.clip(frame, 0.0, 1.0)


class McSteps(PredictedSteps):
    """Steps of a P frame whose buffer is the picture.

    Parameters: ``model`` : PvscMcModel; the others as ``PredictedSteps``.
    """

    model: PvscMcModel

    def update(
        self,
        symbols_hat: Any,
        rate_index: Any,
        parameters: Any,
        context_f: Any,
        reference: Any,
        state: Any,
        omega_index: Any,
        no_eff: Any = None,
    ) -> Buffers:
        """(x_hat, C_s,t), the next buffers."""
        feature, state = super().update(
            symbols_hat, rate_index, parameters, context_f, reference, state, omega_index, no_eff
        )
        picture = self.model.picture(feature, reference, omega_index)
        return self.model.kept(feature, picture), state

    def show(self, feature: Any, omega_index: Any) -> Any:
        """x_hat: the buffer itself."""
        return feature
