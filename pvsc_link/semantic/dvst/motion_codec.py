"""Motion transforms: the flow of a frame to its latent at 1/16, and back."""

from typing import Any

from keras import ops

from pvsc_link.semantic.dc_block import ResidualDown, ResidualUp, SubPixelUp, convolution
from pvsc_link.semantic.dvst.dvst_layer import DvstLayer


class MotionEncoder(DvstLayer):
    """Latent of the motion.

    Parameters: ``config`` : DvstConfig.
    Input: ``flow`` : [batch, height, width, 2], float, pixels.
    Output: [batch, height/16, width/16, motion.channels_y], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg = self.config
        self.downs = [
            ResidualDown(width, name=f"down_{2 ** (i + 1)}", **self._blocks)
            for i, width in enumerate(cfg.channels_motion)
        ]
        self.exit = convolution(cfg.motion.channels_y, 3, 2, name="exit", **self._own)

    def build(self, input_shape: Any = None) -> None:
        widths = (2, *self.config.channels_motion)
        for layer, width in zip((*self.downs, self.exit), widths, strict=True):
            layer.build(self._shape(width))

    def call(self, flow: Any) -> Any:
        for down in self.downs:
            flow = down(flow)
        return self.exit(flow)


class MotionDecoder(DvstLayer):
    """The flow that both ends use, from its decoded latent.

    Parameters: ``config`` : DvstConfig.
    Input: ``y_tilde`` : [batch, height/16, width/16, motion.channels_y], float.
    Output: ``flow`` : [batch, height, width, 2], float32, pixels.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.ups = [
            ResidualUp(width, name=f"up_{2 ** (i + 1)}", **self._blocks)
            for i, width in reversed(list(enumerate(self.config.channels_motion)))
        ]
        self.exit = SubPixelUp(2, kernel_size=3, name="exit", **self._own)

    def build(self, input_shape: Any = None) -> None:
        widths = (self.config.motion.channels_y, *reversed(self.config.channels_motion))
        layers: list[Any] = [*self.ups, self.exit]
        for layer, width in zip(layers, widths, strict=True):
            layer.build(self._shape(width))

    def call(self, y_tilde: Any) -> Any:
        for up in self.ups:
            y_tilde = up(y_tilde)
        return ops.cast(self.exit(y_tilde), "float32")
