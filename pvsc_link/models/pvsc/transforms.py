"""Transforms of the paper: C_ext, F_ext and both halves of G (eq. 6, 7, 17 and 21).

    F_t-1 --> C_ext --> C_e, C_f            x_t, C_f --> F_ext --> y
    y_tilde, C_f --> G (feature half) --> F_t --> G (pixel half) --> x_hat

The widths are those of DCVC-RT, whose P-frame model the paper's modules match one by one. With
``predict_latent`` F_ext and G are ``PredictingExtractor`` and ``PredictingGenerator``: F_ext takes
a linear prediction of y out of C_f away, and G adds it again. The paper leaves the form of
F_ext(x | C_f) and of G(y_tilde | C_f) open.
"""

from typing import Any

from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.dc_block import (
    DepthConvBlock,
    DepthConvStack,
    SubPixelUp,
    convolution,
    pixel_shuffle,
    pixel_unshuffle,
)
from pvsc_link.models.layers.rate_adaptive import LearnableVector


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

    def __init__(self, config: Any, **kwargs: Any):
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

    The paper does not say how the buffer starts. Both ends compute it from their own I frame.

    Parameters: ``config`` : PvscConfig.
    Input: ``frame`` : [batch, height, width, 3], float.
    Output: [batch, height/8, width/8, channels_feature], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
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


class FeatureExtractor(ConfiguredLayer):
    """y = F_ext(x | C_f) of eq. 7; of an I frame, y = F_ext(x).

    Unshuffle by 8, 1x1, concatenate C_f, DC blocks, * q_ext^f, 3x3 of stride 2.

    Parameters
    ----------
    config : PvscConfig or IntraConfig

    Input
    -----
    frame : [batch, height, width, 3], float in [0, 1]
    omega_index : [batch], int32, quality preset
    context_f : [batch, height/8, width/8, channels_feature], float; None for an I frame

    Output
    ------
    y : [batch, height/16, width/16, channels_y], float
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        self.entry = convolution(cfg.channels_feature, name="entry", **own)
        self.stack = DepthConvStack(
            cfg.channels_feature,
            cfg.depth_extractor,
            zero_init=cfg.zero_init_residual,
            name="stack",
            **own,
        )
        self.vector_f = LearnableVector(cfg, name="q_ext_f", **own)
        self.down = convolution(cfg.channels_y, 3, 2, name="down", **own)

    def build(self, input_shape: Any = None) -> None:
        width = self.config.channels_feature
        self.entry.build(self._shape(3 * 8 * 8))
        self.stack.build(self._shape(width if self.config.intra else 2 * width))
        for layer in (self.vector_f, self.down):
            layer.build(self._shape(width))

    def call(self, frame: Any, omega_index: Any, context_f: Any = None) -> Any:
        features = self.entry(pixel_unshuffle(frame, 8))
        if context_f is not None:
            features = ops.concatenate([features, context_f], axis=-1)
        return self.down(self.vector_f(self.stack(features), omega_index))


PATCH_CHANNELS = 3 * 8 * 8  # RGB of one 8x8 patch
QUARTER_CHANNELS = 3 * 4 * 4  # RGB of one 4x4 patch, the depth left after one shuffle by 2


class FeatureGenerator(ConfiguredLayer):
    """The half of G that both ends run for their buffer: F_t from y_tilde and C_f (eq. 21, 24).

    3x3 and pixel shuffle to 1/8, concatenate C_f, DC blocks, 1x1, * q_G^0.

    Parameters
    ----------
    config : PvscConfig or IntraConfig

    Input
    -----
    y_tilde : [batch, height/16, width/16, channels_y], float
    omega_index : [batch], int32, quality preset
    context_f : [batch, height/8, width/8, channels_feature], float; None for an I frame

    Output
    ------
    feature : [batch, height/8, width/8, channels_feature], float
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        width = cfg.channels_feature
        self.up = SubPixelUp(width, kernel_size=cfg.kernel_up, name="up", **own)
        self.stack = DepthConvStack(
            width, cfg.depth_feature, zero_init=cfg.zero_init_residual, name="stack", **own
        )
        self.exit = convolution(width, name="exit", **own)
        self.vector_0 = LearnableVector(cfg, name="q_g_0", **own)

    def build(self, input_shape: Any = None) -> None:
        width = self.config.channels_feature
        self.up.build(self._shape(self.config.channels_y))
        self.stack.build(self._shape(width if self.config.intra else 2 * width))
        for layer in (self.exit, self.vector_0):
            layer.build(self._shape(width))

    def call(self, y_tilde: Any, omega_index: Any, context_f: Any = None) -> Any:
        features = self.up(y_tilde)
        if context_f is not None:
            features = ops.concatenate([features, context_f], axis=-1)
        return self.vector_0(self.exit(self.stack(features)), omega_index)


class FrameGenerator(ConfiguredLayer):
    """The half of G that only a display needs: x_hat from F_t (eq. 21).

    DC blocks, * q_G^1, 1x1 to 192 channels, pixel shuffle by 8. With ``depth_deblock`` the
    shuffle goes by 2, then by 4 after DC blocks at 1/4, which see across the patch borders.
    The frame is not clipped, since a clip would end the gradient.

    Parameters
    ----------
    config : PvscConfig or IntraConfig

    Input
    -----
    feature : [batch, height/8, width/8, channels_feature], float
    omega_index : [batch], int32, quality preset

    Output
    ------
    frame : [batch, height, width, 3], float32, nominally in [0, 1]
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        blocks = {**own, "zero_init": cfg.zero_init_residual}
        grey = {**own, "bias_initializer": "zeros" if cfg.depth_deblock else _mid_grey}
        self.stack = DepthConvStack(cfg.channels_pixel, cfg.depth_pixel, name="stack", **blocks)
        self.vector_1 = LearnableVector(cfg, name="q_g_1", **own)
        self.exit = convolution(PATCH_CHANNELS, name="exit", **grey)
        self.deblock: Any = None
        if cfg.depth_deblock:
            self.deblock = DepthConvStack(
                QUARTER_CHANNELS, cfg.depth_deblock, name="deblock", **blocks
            )
            self.paint = convolution(
                QUARTER_CHANNELS, bias_initializer=_mid_grey, name="paint", **own
            )

    def build(self, input_shape: Any = None) -> None:
        self.stack.build(self._shape(self.config.channels_feature))
        for layer in (self.vector_1, self.exit):
            layer.build(self._shape(self.config.channels_pixel))
        if self.deblock is not None:
            for layer in (self.deblock, self.paint):
                layer.build(self._shape(QUARTER_CHANNELS))

    def call(self, feature: Any, omega_index: Any) -> Any:
        patches = self.exit(self.vector_1(self.stack(feature), omega_index))
        if self.deblock is None:
            return ops.cast(pixel_shuffle(patches, 8), "float32")
        quarters = self.paint(self.deblock(pixel_shuffle(patches, 2)))
        return ops.cast(pixel_shuffle(quarters, 4), "float32")


def _mid_grey(shape: tuple[int, ...], dtype: Any = None) -> Any:
    return ops.full(shape, 0.5, dtype=dtype)


class LatentPrediction(ConfiguredLayer):
    """y out of C_f alone: a preset's vector, then 2x2 of stride 2.

    A region that stands still then has a y of zero, which H_enc sees as such.

    Parameters: ``config`` : PvscConfig.
    Input: ``context_f`` : [batch, height/8, width/8, channels_feature], float; ``omega_index`` :
    [batch], int32. Output: [batch, height/16, width/16, channels_y], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        own = {"dtype": self.dtype_policy}
        self.vector = LearnableVector(self.config, name="q_pred", **own)
        self.down = convolution(
            self.config.channels_y, 2, 2, name="down", kernel_initializer="zeros", **own
        )

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.vector, self.down):
            layer.build(self._shape(self.config.channels_feature))

    def call(self, context_f: Any, omega_index: Any) -> Any:
        return self.down(self.vector(context_f, omega_index))


class PredictingExtractor(FeatureExtractor):
    """F_ext whose y is what ``LatentPrediction`` does not know; inputs as ``FeatureExtractor``."""

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.prediction = LatentPrediction(self.config, name="prediction", dtype=self.dtype_policy)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self.prediction.build()

    def call(self, frame: Any, omega_index: Any, context_f: Any = None) -> Any:
        y = super().call(frame, omega_index, context_f)
        return y - self.prediction(context_f, omega_index)


class PredictingGenerator(FeatureGenerator):
    """Feature half of G that adds ``LatentPrediction`` first; inputs as ``FeatureGenerator``."""

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.prediction = LatentPrediction(self.config, name="prediction", dtype=self.dtype_policy)

    def build(self, input_shape: Any = None) -> None:
        super().build(input_shape)
        self.prediction.build()

    def call(self, y_tilde: Any, omega_index: Any, context_f: Any = None) -> Any:
        return super().call(
            y_tilde + self.prediction(context_f, omega_index), omega_index, context_f
        )
