"""Motion compensation: what the decoded motion makes of the previous frame, at both ends."""

from typing import Any, NamedTuple

from pvsc_link.semantic.dc_block import convolution, wsilu
from pvsc_link.semantic.dvst.dvst_layer import DvstLayer
from pvsc_link.semantic.dvst.warping import warp


class Compensated(NamedTuple):
    """What both ends know of a frame once its motion has arrived."""

    prediction: Any  # [batch, height, width, 3], float32: the warped reference
    context_f: Any  # [batch, height, width, channels_pixel]: for the context transforms
    context_e: Any  # [batch, height/8, width/8, context.channels_feature]: for H_dec


class MotionCompensation(DvstLayer):
    """Warps the reference and its learned features; these, refined, are the context.

    Parameters
    ----------
    config : DvstConfig

    Input
    -----
    reference : [batch, height, width, 3], float, the frame before as this end decoded it
    flow : [batch, height, width, 2], float32, pixels

    Output
    ------
    Compensated
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.autocast = False  # a flow in half precision has lost its fractions
        cfg, width = self.config, self.config.channels_pixel
        self.entry = convolution(width, 3, name="entry", **self._own)
        self.features = self._stack(width, cfg.depth_reference, "features")
        self.refine = self._stack(width, cfg.depth_refine, "refine")
        narrow, scales = cfg.context.channels_feature, (2, 4, 8)
        self.downs = [convolution(narrow, 2, 2, name=f"down_{s}", **self._own) for s in scales]

    def build(self, reference_shape: Any = None, flow_shape: Any = None) -> None:
        width, narrow = self.config.channels_pixel, self.config.context.channels_feature
        self.entry.build(self._shape(3))
        for layer in (self.features, self.refine, self.downs[0]):
            layer.build(self._shape(width))
        for layer in self.downs[1:]:
            layer.build(self._shape(narrow))

    def call(self, reference: Any, flow: Any) -> Compensated:
        prediction = warp(reference, flow)
        context_f = self.refine(warp(self.features(self.entry(reference)), flow))
        context_e = context_f
        for down in self.downs:
            context_e = wsilu(down(context_e))
        return Compensated(prediction, context_f, context_e)
