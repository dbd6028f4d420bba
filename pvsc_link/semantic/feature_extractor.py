"""F_ext: the semantic feature y of a frame, given the temporal context (eq. 7)."""

from typing import Any

from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import DepthConvStack, convolution, pixel_unshuffle
from pvsc_link.semantic.latent_prediction import LatentPrediction
from pvsc_link.semantic.multi_rate import LearnableVector
from pvsc_link.semantic.presets import PvscConfig


class FeatureExtractor(ConfiguredLayer):
    """y = F_ext(x | C_f) of eq. 7; of an I frame, y = F_ext(x).

    Unshuffle by 8, 1x1, concatenate C_f, DC blocks, * q_ext^f, 3x3 of stride 2. The factor 8 and
    the widths are those of DCVC-RT, whose P-frame model the paper's modules match one by one. With
    ``predict_latent`` y is what ``LatentPrediction`` does not know.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    frame : [batch, height, width, 3], float in [0, 1]
    omega_index : [batch], int32, quality preset
    context_f : [batch, height/8, width/8, channels_feature], float; None for an I frame

    Output
    ------
    y : [batch, height/16, width/16, channels_y], float
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
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
        self.prediction: Any = None
        if cfg.predict_latent and not cfg.intra:
            self.prediction = LatentPrediction(cfg, name="prediction", **own)

    def build(self, input_shape: Any = None) -> None:
        width = self.config.channels_feature
        self.entry.build(self._shape(3 * 8 * 8))
        self.stack.build(self._shape(width if self.config.intra else 2 * width))
        for layer in (self.vector_f, self.down):
            layer.build(self._shape(width))
        if self.prediction is not None:
            self.prediction.build()

    def call(self, frame: Any, omega_index: Any, context_f: Any = None) -> Any:
        features = self.entry(pixel_unshuffle(frame, 8))
        if context_f is not None:
            features = ops.concatenate([features, context_f], axis=-1)
        y = self.down(self.vector_f(self.stack(features), omega_index))
        return y if self.prediction is None else y - self.prediction(context_f, omega_index)
