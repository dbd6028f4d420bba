"""What the previous frame says of y: F_ext sends the difference, G adds the prediction again."""

from typing import Any

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import convolution
from pvsc_link.semantic.multi_rate import LearnableVector
from pvsc_link.semantic.presets import PvscConfig


class LatentPrediction(ConfiguredLayer):
    """y out of C_f alone: a preset's vector, then 2x2 of stride 2.

    A part of F_ext and of G where ``predict_latent`` is set (beyond the paper, whose modules hold
    whatever they learn of this): what stands still is then a y of zero, which H_enc sees as such.

    Parameters: ``config`` : PvscConfig.
    Input: ``context_f`` : [batch, height/8, width/8, channels_feature], float; ``omega_index`` :
    [batch], int32. Output: [batch, height/16, width/16, channels_y], float.
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
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
