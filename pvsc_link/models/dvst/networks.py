"""Networks around the two streams of DVST: motion estimation, transforms, compensation, context.

A flow says, for every place of the new frame, where it lies in the old one: new (i, j) is old
(i + flow[i, j, 0], j + flow[i, j, 1]), in pixels of the map that is warped.

``MotionEstimator`` goes over a pyramid of both frames, from coarse to fine (the SpyNet idea): every
level doubles the flow of the level below, warps the old frame with it, and adds what a small
network finds still missing. ``MotionEncoder`` and ``MotionDecoder`` take the flow to its latent at
1/16 and back. ``MotionCompensation`` is what both ends make of the previous frame and the decoded
flow. ``ContextEncoder`` and ``ContextDecoder`` code what the motion could not predict: both see
prediction and context and learn by themselves what to subtract; the decoder's output is added to
the prediction.
"""

from typing import Any, NamedTuple

from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.dc_block import (
    DepthConvStack,
    ResidualDown,
    ResidualUp,
    SubPixelUp,
    convolution,
    wsilu,
)


class DvstLayer(ConfiguredLayer):
    """A layer with one ``DvstConfig``, and the policies of the layers inside it."""

    @property
    def _own(self) -> dict[str, Any]:
        return {"dtype": self.dtype_policy}

    @property
    def _blocks(self) -> dict[str, Any]:
        return {**self._own, "zero_init": self.config.zero_init_residual}

    def _stack(self, channels: int, depth: int, name: str) -> DepthConvStack:
        return DepthConvStack(channels, depth, name=name, **self._blocks)


def warp(features: Any, flow: Any) -> Any:
    """The map at displaced places, bilinear between four neighbours; the border goes on outside.

    Places and weights are float32 whatever the features are: bfloat16 cannot resolve a tenth of a
    pixel beyond 64 pixels.

    Input: ``features`` : [batch, H, W, c], float; ``flow`` : [batch, H, W, 2], rows and columns,
    in pixels. Output: [batch, H, W, c], float32. Differentiable in both.
    """
    features = ops.cast(features, "float32")
    height, width, channels = features.shape[1:]
    flow = ops.cast(flow, "float32")
    rows = _split(ops.arange(height, dtype="float32")[:, None] + flow[..., 0], height)
    columns = _split(ops.arange(width, dtype="float32") + flow[..., 1], width)
    flat = ops.reshape(features, (-1, channels))
    first = height * width * ops.arange(ops.shape(features)[0], dtype="int32")[:, None, None]
    total = 0.0
    for row, row_weight in rows:
        for column, column_weight in columns:
            corner = ops.take(flat, first + row * width + column, axis=0)
            total = total + corner * (row_weight * column_weight)[..., None]
    return total


def _split(places: Any, size: int) -> list[tuple[Any, Any]]:
    """The two whole places around each of ``places``, and the weight of each."""
    places = ops.clip(places, 0.0, size - 1.0)
    low = ops.floor(places)
    index, share = ops.cast(low, "int32"), places - low
    return [(index, 1.0 - share), (ops.minimum(index + 1, size - 1), share)]


def halve(maps: Any) -> Any:
    """Mean of every 2x2 block: [batch, H, W, c] to [batch, H / 2, W / 2, c]."""
    return ops.average_pool(maps, 2, 2, padding="valid", data_format="channels_last")


def double_flow(flow: Any) -> Any:
    """The same motion on a map of twice the size: [batch, 2 H, 2 W, 2], in its pixels."""
    height, width = flow.shape[1:3]
    size = (2 * height, 2 * width)
    return 2.0 * ops.image.resize(flow, size, "bilinear", data_format="channels_last")


_INPUTS = 3 + 3 + 2  # frame, warped reference, flow so far


class FlowRefinement(DvstLayer):
    """Residual flow of one pyramid level.

    Parameters: ``config`` : DvstConfig; ``flow_channels`` and ``flow_kernel`` are used.
    Input: ``pair`` : [batch, H, W, 8], frame, warped reference and flow. Output: [batch, H, W, 2].
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        kernel = self.config.flow_kernel
        self.hidden = [
            convolution(width, kernel, name=f"hidden_{i}", **self._own)
            for i, width in enumerate(self.config.flow_channels)
        ]
        self.exit = convolution(2, kernel, name="exit", **self._own)

    def build(self, input_shape: Any = None) -> None:
        widths = (_INPUTS, *self.config.flow_channels)
        for layer, width in zip((*self.hidden, self.exit), widths, strict=True):
            layer.build(self._shape(width))

    def call(self, pair: Any) -> Any:
        for layer in self.hidden:
            pair = wsilu(layer(pair))
        return self.exit(pair)


class MotionEstimator(DvstLayer):
    """Flow from the reference to a frame; runs at the transmitter only.

    Parameters
    ----------
    config : DvstConfig; ``num_levels`` networks

    Input
    -----
    frame, reference : [batch, height, width, 3], float in [0, 1]; both sizes divisible by
        2 ** (num_levels - 1)

    Output
    ------
    flow : [batch, height, width, 2], float32, pixels (``warping``)
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.levels = [
            FlowRefinement(self.config, name=f"level_{i}", **self._own)
            for i in range(self.config.num_levels)
        ]

    def build(self, frame_shape: Any = None, reference_shape: Any = None) -> None:
        for level in self.levels:
            level.build()

    def call(self, frame: Any, reference: Any) -> Any:
        pyramid = [(ops.cast(frame, "float32"), ops.cast(reference, "float32"))]
        for _ in self.levels[1:]:
            pyramid.append((halve(pyramid[-1][0]), halve(pyramid[-1][1])))
        flow = ops.zeros_like(pyramid[-1][0][..., :2])
        for place, level in reversed(list(enumerate(self.levels))):
            new, old = pyramid[place]
            if place < len(self.levels) - 1:
                flow = double_flow(flow)
            pair = ops.concatenate([new, warp(old, flow), flow], axis=-1)
            flow = flow + ops.cast(level(pair), "float32")
        return flow


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


class Compensated(NamedTuple):
    """Prediction and contexts of a frame, which both ends have once its motion is decoded."""

    prediction: Any  # [batch, height, width, 3], float32: the warped reference
    context_f: Any  # [batch, height, width, channels_pixel]: for the context transforms
    context_e: Any  # [batch, height/8, width/8, context.channels_context]: for H_dec


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
        self.autocast = False  # a flow in half precision would lose its fractions
        cfg, width = self.config, self.config.channels_pixel
        self.entry = convolution(width, 3, name="entry", **self._own)
        self.features = self._stack(width, cfg.depth_reference, "features")
        self.refine = self._stack(width, cfg.depth_refine, "refine")
        narrow, scales = cfg.context.channels_context, (2, 4, 8)
        self.downs = [convolution(narrow, 2, 2, name=f"down_{s}", **self._own) for s in scales]

    def build(self, reference_shape: Any = None, flow_shape: Any = None) -> None:
        width, narrow = self.config.channels_pixel, self.config.context.channels_context
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
        self.autocast = False  # the prediction keeps its 8 bits
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
