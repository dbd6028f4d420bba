"""C_ext: temporal references out of the buffer (eq. 6 and 17), and the buffer after an I frame."""

from typing import Any

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import DepthConvBlock, DepthConvStack, convolution, pixel_unshuffle
from pvsc_link.semantic.multi_rate import LearnableVector
from pvsc_link.semantic.presets import PvscConfig


class ContextExtractor(ConfiguredLayer):
    """(C_e, C_f) = C_ext(F) of eq. 6: context for the entropy model, and for the features.

    1x1, DC blocks -> x; C_e = x * q_ext^c; more DC blocks on x -> C_f.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    feature : [batch, height/8, width/8, channels_feature], float, F of the previous frame
    omega_index : [batch], int32, quality preset

    Output
    ------
    context_e, context_f : each like ``feature``
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        own = {"dtype": self.dtype_policy}
        blocks = {**own, "zero_init": self.config.zero_init_residual}
        width, (depth_e, depth_f) = self.config.channels_feature, self.config.depth_context
        self.entry = convolution(width, name="entry", **own)
        self.stack_e = DepthConvStack(width, depth_e, name="stack_e", **blocks)
        self.vector_c = LearnableVector(self.config, name="q_ext_c", **own)
        self.stack_f = DepthConvStack(width, depth_f, name="stack_f", **blocks)

    def build(self, input_shape: Any = None) -> None:
        shape = self._shape(self.config.channels_feature)
        for layer in (self.entry, self.stack_e, self.vector_c, self.stack_f):
            layer.build(shape)

    def call(self, feature: Any, omega_index: Any) -> tuple[Any, Any]:
        shared = self.stack_e(self.entry(feature))
        return self.vector_c(shared, omega_index), self.stack_f(shared)


class IntraFeatureAdaptor(ConfiguredLayer):
    """F for the first P frame, from the decoded I frame: one DC block on unshuffled pixels.

    The paper does not say how the buffer starts; both ends compute it from their own I frame.

    Parameters: ``config`` : PvscConfig.
    Input: ``frame`` : [batch, height, width, 3], float.
    Output: [batch, height/8, width/8, channels_feature], float.
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.block = DepthConvBlock(
            self.config.channels_feature,
            zero_init=self.config.zero_init_residual,
            dtype=self.dtype_policy,
            name="block",
        )

    def build(self, input_shape: Any = None) -> None:
        self.block.build(self._shape(3 * 8 * 8))

    def call(self, frame: Any) -> Any:
        return self.block(pixel_unshuffle(frame, 8))
