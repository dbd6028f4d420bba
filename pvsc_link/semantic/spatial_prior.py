"""E_s: parameters of a later block of spatial units from the earlier ones (eq. 11, 19, 23)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.dc_block import DepthConvBlock, DepthConvStack, convolution
from pvsc_link.semantic.hyperprior import MIN_SIGMA
from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.semantic.token_grid import pack_parities, unpack_parities

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
    """What H_dec said, moved by what the neighbours tell; no change where that is zero."""
    shift, scale = ops.split(change, 2, axis=-1)
    return mu_0 + shift, ops.maximum(sigma_0 * ops.softplus(scale + _UNIT_SCALE), MIN_SIGMA)


class SpatialPrior(ConfiguredLayer):
    """(mu_1, sigma_1) = E_s(w, mu_0, sigma_0, y_0) of eq. 11 on the two-block checkerboard.

    A DC block over all units gathers what block 0 tells its neighbours; from there on only the
    units of block 1 matter, so the second DC block and the heads run on them alone, packed.
    The paper conditions on "y_<i" (11) and on "y_bar_0" (text): taken as y_bar_0 + mu_0, the
    best each end knows of y_0 / w.

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

    def __init__(self, config: PvscConfig, **kwargs: Any):
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

    def __init__(self, config: PvscConfig, **kwargs: Any):
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
