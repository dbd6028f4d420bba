"""Motion estimation over a pyramid of both frames, from coarse to fine (the SpyNet idea).

Every level doubles the flow of the level below, warps the old frame with it, and adds what a
small network finds still missing. Large motion is small motion on a small picture.
"""

from typing import Any

from keras import ops

from pvsc_link.semantic.dc_block import convolution, wsilu
from pvsc_link.semantic.dvst.dvst_layer import DvstLayer
from pvsc_link.semantic.dvst.warping import double_flow, halve, warp

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
