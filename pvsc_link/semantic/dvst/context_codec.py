"""Context transforms: what the motion could not predict of a frame, to its latent and back.

The coding is conditional: both transforms see prediction and context, and learn for themselves
what to subtract. The decoder's output is added to the prediction.
"""

from typing import Any

from keras import ops

from pvsc_link.semantic.dc_block import ResidualDown, ResidualUp, SubPixelUp, convolution
from pvsc_link.semantic.dvst.dvst_layer import DvstLayer


class ContextEncoder(DvstLayer):
    """Latent of a frame, given what its motion predicts.

    Parameters
    ----------
    config : DvstConfig

    Input
    -----
    frame : [batch, height, width, 3], float in [0, 1]
    prediction, context_f : of ``Compensated``

    Output
    ------
    y : [batch, height/16, width/16, context.channels_y], float
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg = self.config
        self.entry = convolution(cfg.channels_pixel, 3, name="entry", **self._own)
        self.stack = self._stack(cfg.channels_pixel, cfg.depth_encoder, "stack")
        self.downs = [
            ResidualDown(width, name=f"down_{2 ** (i + 1)}", **self._blocks)
            for i, width in enumerate(cfg.channels_context)
        ]
        self.exit = convolution(cfg.context.channels_y, 3, 2, name="exit", **self._own)

    def build(self, frame_shape: Any = None, *other_shapes: Any) -> None:
        cfg = self.config
        self.entry.build(self._shape(3 + 3 + cfg.channels_pixel))
        self.stack.build(self._shape(cfg.channels_pixel))
        widths = (cfg.channels_pixel, *cfg.channels_context)
        for layer, width in zip((*self.downs, self.exit), widths, strict=True):
            layer.build(self._shape(width))

    def call(self, frame: Any, prediction: Any, context_f: Any) -> Any:
        known = [ops.cast(x, self.compute_dtype) for x in (frame, prediction, context_f)]
        features = self.stack(self.entry(ops.concatenate(known, axis=-1)))
        for down in self.downs:
            features = down(features)
        return self.exit(features)


class ContextDecoder(DvstLayer):
    """The frame, from its decoded latent and what its motion predicts.

    Parameters
    ----------
    config : DvstConfig

    Input
    -----
    y_tilde : [batch, height/16, width/16, context.channels_y], float
    prediction, context_f : of ``Compensated``

    Output
    ------
    frame : [batch, height, width, 3], float32, nominally in [0, 1], not clipped
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.autocast = False  # the prediction is not to lose the last bits of its 8
        cfg = self.config
        self.ups = [
            ResidualUp(width, name=f"up_{2 ** (i + 1)}", **self._blocks)
            for i, width in reversed(list(enumerate(cfg.channels_context)))
        ]
        self.up = SubPixelUp(cfg.channels_pixel, name="up_1", **self._own)
        self.stack = self._stack(cfg.channels_pixel, cfg.depth_decoder, "stack")
        self.exit = convolution(3, 3, name="exit", **self._own)

    def build(self, latent_shape: Any = None, *other_shapes: Any) -> None:
        cfg = self.config
        widths = (cfg.context.channels_y, *reversed(cfg.channels_context))
        layers: list[Any] = [*self.ups, self.up]
        for layer, width in zip(layers, widths, strict=True):
            layer.build(self._shape(width))
        self.stack.build(self._shape(2 * cfg.channels_pixel))
        self.exit.build(self._shape(cfg.channels_pixel))

    def call(self, y_tilde: Any, prediction: Any, context_f: Any) -> Any:
        for up in self.ups:
            y_tilde = up(y_tilde)
        features = ops.concatenate(
            [self.up(y_tilde), ops.cast(context_f, self.compute_dtype)], axis=-1
        )
        residual = self.exit(self.stack(features))
        return ops.cast(prediction, "float32") + ops.cast(residual, "float32")
