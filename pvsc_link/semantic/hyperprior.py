"""H_enc and H_dec: the hyper-latent, and first estimates of step, mean and spread (eq. 8, 10)."""

import math
from typing import Any

from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import (
    DepthConvBlock,
    DepthConvStack,
    ResidualDown,
    ResidualUp,
    convolution,
)
from pvsc_link.semantic.presets import PvscConfig

MIN_STEP = 0.5  # w never goes below: DCVC-RT's bound, it keeps y / w from running away
MIN_SIGMA = 0.11  # of the normalised latent; the customary bound of learned codecs
_UNIT_STEP = math.log(math.expm1(1.0 - MIN_STEP))  # softplus argument that makes w = 1


class HyperEncoder(ConfiguredLayer):
    """z = H_enc(y) of eq. 8, before rounding: from 1/16 down to 1/64.

    Parameters: ``config`` : PvscConfig.
    Input: ``y`` : [batch, height/16, width/16, channels_y], float.
    Output: z, [batch, height/64, width/64, channels_z], float.
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg = self.config
        blocks = {"dtype": self.dtype_policy, "zero_init": cfg.zero_init_residual}
        self.entry = DepthConvBlock(cfg.channels_y, name="entry", **blocks)
        self.down_32 = ResidualDown(cfg.channels_z, name="down_32", **blocks)
        self.down_64 = ResidualDown(cfg.channels_z, name="down_64", **blocks)
        self.stack = DepthConvStack(cfg.channels_z, cfg.depth_hyper, name="stack", **blocks)

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        for layer in (self.entry, self.down_32):
            layer.build(self._shape(cfg.channels_y))
        for layer in (self.down_64, self.stack):
            layer.build(self._shape(cfg.channels_z))

    def call(self, y: Any) -> Any:
        return self.stack(self.down_64(self.down_32(self.entry(y))))


class HyperDecoder(ConfiguredLayer):
    """(w, mu_0, sigma_0) = H_dec(z_hat, C_e) of eq. 10 and 18; of an I frame, H_dec(z_hat).

    sigma is a standard deviation, as eq. 14 uses it ("variance" in the text of eq. 10). w is the
    quantisation step, at least 0.5; mu and sigma are in units of w.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    z_hat : [batch, height/64, width/64, channels_z], float, integer values at inference
    context_e : [batch, height/8, width/8, channels_feature], float; None for an I frame

    Output
    ------
    w, mu_0, sigma_0 : each [batch, height/16, width/16, channels_y], float
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        blocks = {**own, "zero_init": cfg.zero_init_residual}
        self.stack = DepthConvStack(cfg.channels_z, cfg.depth_hyper, name="stack", **blocks)
        self.up_32 = ResidualUp(cfg.channels_y, name="up_32", **blocks)
        self.up_16 = ResidualUp(cfg.channels_y, name="up_16", **blocks)
        self.exit = DepthConvBlock(cfg.channels_y, name="exit", **blocks)
        self.temporal: Any = None
        if not cfg.intra:
            self.temporal_down = convolution(cfg.channels_feature, 2, 2, name="down", **own)
            self.temporal = DepthConvBlock(cfg.channels_feature, name="temporal", **blocks)
        self.fusion = DepthConvStack(cfg.channels_prior, cfg.depth_fusion, name="fusion", **blocks)
        self.heads = convolution(3 * cfg.channels_y, name="heads", **own)

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        for layer in (self.stack, self.up_32):
            layer.build(self._shape(cfg.channels_z))
        for layer in (self.up_16, self.exit):
            layer.build(self._shape(cfg.channels_y))
        temporal_width = 0
        if self.temporal is not None:
            temporal_width = cfg.channels_feature
            for layer in (self.temporal_down, self.temporal):
                layer.build(self._shape(temporal_width))
        self.fusion.build(self._shape(cfg.channels_y + temporal_width))
        self.heads.build(self._shape(cfg.channels_prior))

    def call(self, z_hat: Any, context_e: Any = None) -> tuple[Any, Any, Any]:
        prior = self.exit(self.up_16(self.up_32(self.stack(z_hat))))
        if self.temporal is not None:
            temporal = self.temporal(self.temporal_down(context_e))
            prior = ops.concatenate([prior, temporal], axis=-1)
        w, mu, sigma = ops.split(self.heads(self.fusion(prior)), 3, axis=-1)
        w = MIN_STEP + ops.softplus(w + _UNIT_STEP)
        if self.temporal is not None:  # the previous frame tells the mean of y, not of y / w
            mu = mu / w
        return w, mu, positive_sigma(sigma)


def positive_sigma(raw: Any) -> Any:
    """Standard deviation from an unbounded network output; shape kept, at least ``MIN_SIGMA``."""
    return MIN_SIGMA + ops.softplus(raw)
