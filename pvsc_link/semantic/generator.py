"""G: the frame and the next intermediate feature out of the dequantised latent (eq. 21)."""

from typing import Any

from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import DepthConvStack, SubPixelUp, convolution, pixel_shuffle
from pvsc_link.semantic.latent_prediction import LatentPrediction
from pvsc_link.semantic.multi_rate import LearnableVector
from pvsc_link.semantic.presets import PvscConfig

PATCH_CHANNELS = 3 * 8 * 8  # RGB of one 8x8 patch
QUARTER_CHANNELS = 3 * 4 * 4  # RGB of one 4x4 patch, the depth left after one shuffle by 2


class FeatureGenerator(ConfiguredLayer):
    """The half of G that both ends run for their buffer: F_t from y_tilde and C_f (eq. 21, 24).

    3x3 and pixel shuffle to 1/8, concatenate C_f, DC blocks, 1x1, * q_G^0. With ``predict_latent``
    y_tilde first gets back what ``LatentPrediction`` says.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    y_tilde : [batch, height/16, width/16, channels_y], float
    omega_index : [batch], int32, quality preset
    context_f : [batch, height/8, width/8, channels_feature], float; None for an I frame

    Output
    ------
    feature : [batch, height/8, width/8, channels_feature], float
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        width = cfg.channels_feature
        self.up = SubPixelUp(width, kernel_size=cfg.kernel_up, name="up", **own)
        self.stack = DepthConvStack(
            width, cfg.depth_feature, zero_init=cfg.zero_init_residual, name="stack", **own
        )
        self.exit = convolution(width, name="exit", **own)
        self.prediction: Any = None
        if cfg.predict_latent and not cfg.intra:
            self.prediction = LatentPrediction(cfg, name="prediction", **own)
        self.vector_0 = LearnableVector(cfg, name="q_g_0", **own)

    def build(self, input_shape: Any = None) -> None:
        width = self.config.channels_feature
        self.up.build(self._shape(self.config.channels_y))
        self.stack.build(self._shape(width if self.config.intra else 2 * width))
        for layer in (self.exit, self.vector_0):
            layer.build(self._shape(width))
        if self.prediction is not None:
            self.prediction.build()

    def call(self, y_tilde: Any, omega_index: Any, context_f: Any = None) -> Any:
        if self.prediction is not None:
            y_tilde = y_tilde + self.prediction(context_f, omega_index)
        features = self.up(y_tilde)
        if context_f is not None:
            features = ops.concatenate([features, context_f], axis=-1)
        return self.vector_0(self.exit(self.stack(features)), omega_index)


class FrameGenerator(ConfiguredLayer):
    """The half of G that only a display needs: x_hat from F_t (eq. 21).

    DC blocks, * q_G^1, 1x1 to 192 channels, pixel shuffle by 8. With ``depth_deblock`` the
    shuffle goes by 2, then by 4 after DC blocks at 1/4, which see across the patch borders.
    The frame is not clipped: a clip would end the gradient; whoever shows or stores it clips.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    feature : [batch, height/8, width/8, channels_feature], float
    omega_index : [batch], int32, quality preset

    Output
    ------
    frame : [batch, height, width, 3], float32, nominally in [0, 1]
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
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
