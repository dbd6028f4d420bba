"""Hyperprior and spatial prior: H_enc, H_dec and E_s (eq. 8, 10, 11, 18, 19 and 23).

    y --> H_enc --> z;   z_hat, C_e --> H_dec --> w, mu_0, sigma_0
    w, mu_0, sigma_0, what is known of the earlier blocks --> E_s --> mu_i, sigma_i

P frames have two blocks of spatial units, a checkerboard; I frames have four, one place of every
2x2 cell each.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.dc_block import (
    DepthConvBlock,
    DepthConvStack,
    ResidualDown,
    ResidualUp,
    convolution,
)
from pvsc_link.models.layers.vit import pack_parities, unpack_parities

MIN_STEP = 0.5  # lower bound of w, as in DCVC-RT
MIN_SIGMA = 0.11  # lower bound of sigma, customary in learned codecs
_UNIT_STEP = math.log(math.expm1(1.0 - MIN_STEP))  # softplus argument that makes w = 1


class HyperEncoder(ConfiguredLayer):
    """z = H_enc(y) of eq. 8, before rounding: from 1/16 down to 1/64.

    Parameters: ``config`` : LatentConfig.
    Input: ``y`` : [batch, height/16, width/16, channels_y], float.
    Output: z, [batch, height/64, width/64, channels_z], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
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
    config : LatentConfig; ``channels_context`` : channels of C_e, 0 for a model without

    Input
    -----
    z_hat : [batch, height/64, width/64, channels_z], float, integer values at inference
    context_e : [batch, height/8, width/8, channels_context], float; None for an I frame

    Output
    ------
    w, mu_0, sigma_0 : each [batch, height/16, width/16, channels_y], float
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        blocks = {**own, "zero_init": cfg.zero_init_residual}
        self.stack = DepthConvStack(cfg.channels_z, cfg.depth_hyper, name="stack", **blocks)
        self.up_32 = ResidualUp(cfg.channels_y, name="up_32", **blocks)
        self.up_16 = ResidualUp(cfg.channels_y, name="up_16", **blocks)
        self.exit = DepthConvBlock(cfg.channels_y, name="exit", **blocks)
        self.temporal: Any = None
        if cfg.channels_context:
            self.temporal_down = convolution(cfg.channels_context, 2, 2, name="down", **own)
            self.temporal = DepthConvBlock(cfg.channels_context, name="temporal", **blocks)
        self.fusion = DepthConvStack(cfg.channels_prior, cfg.depth_fusion, name="fusion", **blocks)
        self.heads = convolution(3 * cfg.channels_y, name="heads", **own)

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        for layer in (self.stack, self.up_32):
            layer.build(self._shape(cfg.channels_z))
        for layer in (self.up_16, self.exit):
            layer.build(self._shape(cfg.channels_y))
        if self.temporal is not None:
            for layer in (self.temporal_down, self.temporal):
                layer.build(self._shape(cfg.channels_context))
        self.fusion.build(self._shape(cfg.channels_y + cfg.channels_context))
        self.heads.build(self._shape(cfg.channels_prior))

    def call(self, z_hat: Any, context_e: Any = None) -> tuple[Any, Any, Any]:
        prior = self.exit(self.up_16(self.up_32(self.stack(z_hat))))
        if self.temporal is not None:
            temporal = self.temporal(self.temporal_down(context_e))
            prior = ops.concatenate([prior, temporal], axis=-1)
        w, mu, sigma = ops.split(self.heads(self.fusion(prior)), 3, axis=-1)
        w = MIN_STEP + ops.softplus(w + _UNIT_STEP)
        if self.temporal is not None:  # the previous frame predicts the mean of y, not of y / w
            mu = mu / w
        return w, mu, positive_sigma(sigma)


def positive_sigma(raw: Any) -> Any:
    """Standard deviation from an unbounded network output; shape kept, at least ``MIN_SIGMA``."""
    return MIN_SIGMA + ops.softplus(raw)


#: (row, column) in each 2x2 cell, in coding order, of the four-step partition of an I frame
QUADTREE_ORDER = ((0, 0), (1, 1), (0, 1), (1, 0))


_UNIT_SCALE = math.log(math.expm1(1.0))  # softplus of it is 1


def checkerboard_masks(height: int, width: int) -> Sequence[np.ndarray]:
    """Where the units of block 0 and 1 lie: (i + j) mod 2. Output: two float32 [1, H, W, 1].

    One mask for all channels: a spatial unit travels as one symbol vector with one rate, so it
    belongs to one block as a whole.
    """
    rows, columns = np.indices((height, width))
    return [_as_mask((rows + columns) % 2 == block) for block in range(2)]


def quadtree_masks(height: int, width: int) -> Sequence[np.ndarray]:
    """The four steps of an I frame, one place of every 2x2 cell each: four float32 [1, H, W, 1]."""
    rows, columns = np.indices((height, width))
    return [_as_mask((rows % 2 == i) & (columns % 2 == j)) for i, j in QUADTREE_ORDER]


def _as_mask(places: np.ndarray) -> np.ndarray:
    return places.astype(np.float32)[None, :, :, None]


def _refined(mu_0: Any, sigma_0: Any, change: Any) -> tuple[Any, Any]:
    """Mean and spread of H_dec, refined by what E_s says; unchanged where that is zero."""
    shift, scale = ops.split(change, 2, axis=-1)
    return mu_0 + shift, ops.maximum(sigma_0 * ops.softplus(scale + _UNIT_SCALE), MIN_SIGMA)


class SpatialPrior(ConfiguredLayer):
    """(mu_1, sigma_1) = E_s(w, mu_0, sigma_0, y_0) of eq. 11 on the two-block checkerboard.

    A DC block over all units gathers what block 0 tells its neighbours. From there on only the
    units of block 1 matter, so the second DC block and the heads run on them alone, packed.
    The paper conditions on "y_<i" (11) and on "y_bar_0" (text). Here it is y_bar_0 + mu_0, which is
    the best that each end knows of y_0 / w.

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    w, mu_0, sigma_0 : each [batch, Hy, Wy, channels_y], float
    y_before : like ``w``, y_bar + mu on the places of block 0, zero elsewhere
    block : int, 1 (the only later block)

    Output
    ------
    mu_1, sigma_1 : each like ``w``; on the places of block 0 they mean nothing and are masked
    """

    masks = staticmethod(checkerboard_masks)

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg = self.config
        blocks = {"dtype": self.dtype_policy, "zero_init": cfg.zero_init_residual}
        self.gather = DepthConvBlock(cfg.channels_prior, name="gather", **blocks)
        self.refine = DepthConvBlock(cfg.channels_prior, name="refine", **blocks)
        self.heads = convolution(
            2 * cfg.channels_y, name="heads", kernel_initializer="zeros", dtype=self.dtype_policy
        )

    def build(self, input_shape: Any = None) -> None:
        self.gather.build(self._shape(4 * self.config.channels_y))
        for layer in (self.refine, self.heads):
            layer.build(self._shape(self.config.channels_prior))

    def call(
        self, w: Any, mu_0: Any, sigma_0: Any, y_before: Any, block: int = 1
    ) -> tuple[Any, Any]:
        gathered = self.gather(ops.concatenate([y_before, w, mu_0, sigma_0], axis=-1))
        _, block_1 = ops.split(pack_parities(gathered), 2, axis=0)
        packed = self.heads(self.refine(block_1))
        change = unpack_parities(ops.zeros_like(packed), packed, w.shape[2])
        return _refined(mu_0, sigma_0, change)


class QuadtreePrior(ConfiguredLayer):
    """E_s of an I frame: four steps, each refining one place of every 2x2 cell (after [24]).

    Every later step has its own 1x1 entry; the trunk and the heads are shared.

    Parameters: ``config`` : PvscConfig.
    Input: as ``SpatialPrior``, with ``block`` 1, 2 or 3 and ``y_before`` on all earlier places.
    Output: mu_i, sigma_i : each [batch, Hy, Wy, channels_y], float.
    """

    masks = staticmethod(quadtree_masks)

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        self.entries = [
            convolution(cfg.channels_prior, name=f"entry_{i}", **own)
            for i in range(1, len(QUADTREE_ORDER))
        ]
        self.trunk = DepthConvStack(
            cfg.channels_prior, 2, zero_init=cfg.zero_init_residual, name="trunk", **own
        )
        self.heads = convolution(
            2 * cfg.channels_y, name="heads", kernel_initializer="zeros", **own
        )

    def build(self, input_shape: Any = None) -> None:
        for entry in self.entries:
            entry.build(self._shape(4 * self.config.channels_y))
        for layer in (self.trunk, self.heads):
            layer.build(self._shape(self.config.channels_prior))

    def call(
        self, w: Any, mu_0: Any, sigma_0: Any, y_before: Any, block: int = 1
    ) -> tuple[Any, Any]:
        entry = self.entries[block - 1]
        features = entry(ops.concatenate([y_before, w, mu_0, sigma_0], axis=-1))
        return _refined(mu_0, sigma_0, self.heads(self.trunk(features)))
