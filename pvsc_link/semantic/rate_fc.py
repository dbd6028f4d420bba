"""Per-rate FC layers between features and reals, at the exact size of every rate (section III-A).

A rate of k reals has its own C_y x k matrix, so a side holds C_y * sum(rate_set) weights: 87,552
for the paper's 16 rates, 1.06 M for the overcomplete 129. They lie in one kernel of sum(k) rows.

Applying them densely (all sum(k) outputs of every unit, then a masked gather) would cost
C_y * sum(k) MACs per unit: more than a ViT block at 129 rates. Instead units are grouped by
rate, every group is filled up to whole blocks of ``BLOCK`` units, and each block multiplies with
the one matrix its rate owns. Shapes stay static, nothing is dropped and the result is exact.
Cost: (ceil(N / BLOCK) + R) * BLOCK * C_y * Kmax MACs for N units and R rates.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.symbol_mapping import reals_mask

#: Units per block: small enough that 129 half-empty groups stay cheap.
BLOCK = 32


def dense_gradient(variable: Any) -> Any:
    """``variable`` as a tensor whose gradient is dense even when only some rows are gathered.

    A gather straight from a variable has an IndexedSlices gradient in TensorFlow, with repeated
    rows that second-moment optimisers would square one by one.
    """
    return ops.reshape(variable, variable.shape)


def group_by_rate(rate_index: Any, num_rates: int) -> tuple[Any, Any]:
    """Place units in blocks of ``BLOCK`` such that a block holds one rate only.

    Input: ``rate_index`` : [N], int32. Output: ``slot`` : [N], int32, distinct places in
    [0, num_blocks * BLOCK); ``block_rate`` : [num_blocks], int32, with
    num_blocks = ceil(N / BLOCK) + num_rates whatever the rates are.
    """
    one_hot = ops.cast(rate_index[:, None] == ops.arange(num_rates, dtype="int32"), "int32")
    rank = ops.sum(one_hot * (ops.cumsum(one_hot, axis=0) - 1), axis=1)
    blocks = (ops.sum(one_hot, axis=0) + BLOCK - 1) // BLOCK
    end = ops.cumsum(blocks, axis=0)
    slot = ops.take(end - blocks, rate_index, axis=0) * BLOCK + rank
    num_blocks = (ops.shape(rate_index)[0] + BLOCK - 1) // BLOCK + num_rates
    past = ops.arange(num_blocks, dtype="int32")[:, None] >= end
    rate = ops.sum(ops.cast(past, "int32"), axis=1)
    return slot, ops.minimum(rate, num_rates - 1)


def row_table(rate_set: tuple[int, ...]) -> np.ndarray:
    """Kernel row of real c of rate r: [num_rates, Kmax], int32.

    Beyond the k reals of a rate it repeats a legal row; what that row yields is masked out.
    """
    start = np.cumsum((0, *rate_set))[:-1, None]
    last = np.maximum(np.array(rate_set), 1)[:, None] - 1
    rows = start + np.minimum(np.arange(max(rate_set)), last)
    return np.minimum(rows, sum(rate_set) - 1).astype(np.int32)


def _first_features(rate_set: tuple[int, ...]) -> Any:
    """Initialiser of a kernel by which rate k passes on the first k features."""

    def initialise(shape: Any, dtype: Any = None) -> Any:
        eye = np.eye(max(rate_set), shape[1])
        return ops.convert_to_tensor(np.concatenate([eye[:k] for k in rate_set]), dtype)

    return initialise


class _RateFc(ConfiguredLayer):
    """The kernel of sum(rate_set) rows and the grouped product, for either direction."""

    def _build_kernel(self) -> None:
        cfg = self.config
        self.kernel = self.add_weight(
            name="kernel",
            shape=(sum(cfg.rate_set), cfg.channels_y),
            initializer=_first_features(cfg.rate_set)
            if cfg.hyperprior_coding
            else "glorot_uniform",
        )

    def _grouped(self, units: Any, rate_index: Any, product: Any) -> Any:
        """Apply ``product(blocks, rows)`` to ``units`` [N, c] in blocks of one rate."""
        slot, block_rate = group_by_rate(rate_index, len(self.config.rate_set))
        num_slots = ops.shape(block_rate)[0] * BLOCK
        placed = ops.scatter(slot[:, None], units, (num_slots, units.shape[-1]))
        blocks = ops.reshape(placed, (-1, BLOCK, units.shape[-1]))
        rows = ops.take(row_table(self.config.rate_set), block_rate, axis=0)
        result = product(blocks, rows)
        return ops.take(ops.reshape(result, (-1, result.shape[-1])), slot, axis=0)

    def macs(self, num_units: int) -> int:
        """Multiply-accumulates for ``num_units`` units, group padding included."""
        cfg = self.config
        blocks = -(-num_units // BLOCK) + len(cfg.rate_set)
        return blocks * BLOCK * int(self.kernel.shape[1]) * max(cfg.rate_set)


class FeaturesToReals(_RateFc):
    """FC_k of F_tx: the features of a unit to its k reals (section III-A).

    Parameters: ``config`` : PvscConfig.
    Input: ``features`` : [..., C_y], float; ``rate_index`` : [...], int32.
    Output: [..., Kmax], float; the first k reals of a unit, then exact zeros.
    """

    def build(self, input_shape: Any = None) -> None:
        self._build_kernel()
        self.bias = self.add_weight(
            name="bias", shape=(sum(self.config.rate_set),), initializer="zeros"
        )

    def call(self, features: Any, rate_index: Any) -> Any:
        kernel, bias = dense_gradient(self.kernel), dense_gradient(self.bias)

        def product(blocks: Any, rows: Any) -> Any:
            matrices = ops.take(kernel, rows, axis=0)
            offsets = ops.take(bias, rows, axis=0)
            return ops.matmul(blocks, ops.swapaxes(matrices, 1, 2)) + offsets[:, None]

        num_reals = max(self.config.rate_set)
        flat = ops.reshape(features, (-1, self.config.channels_y))
        reals = self._grouped(flat, ops.reshape(rate_index, (-1,)), product)
        reals = ops.reshape(reals, (*ops.shape(features)[:-1], num_reals))
        return reals * ops.cast(reals_mask(rate_index, self.config.rate_set), reals.dtype)


class RealsToFeatures(_RateFc):
    """FC_k of F_rx: the k reals of a unit to its features (section III-A).

    Rate k = 0 has no reals, so its features are its bias alone: the learned null vector.

    Parameters: ``config`` : PvscConfig.
    Input: ``reals`` : [..., Kmax], float, anything beyond the first k is ignored;
    ``rate_index`` : [...], int32.
    Output: [..., C_y], float.
    """

    def build(self, input_shape: Any = None) -> None:
        self._build_kernel()
        self.bias = self.add_weight(
            name="bias",
            shape=(len(self.config.rate_set), self.config.channels_y),
            initializer="zeros",
        )

    def call(self, reals: Any, rate_index: Any) -> Any:
        kernel, bias = dense_gradient(self.kernel), dense_gradient(self.bias)
        # where, not a product: noise beyond k may be anything, even inf on a faded symbol.
        valid = reals_mask(rate_index, self.config.rate_set) > 0
        reals = ops.where(valid, reals, ops.zeros_like(reals))
        flat = ops.reshape(reals, (-1, max(self.config.rate_set)))
        features = self._grouped(
            flat,
            ops.reshape(rate_index, (-1,)),
            lambda blocks, rows: ops.matmul(blocks, ops.take(kernel, rows, axis=0)),
        )
        shape = (*ops.shape(rate_index), self.config.channels_y)
        return ops.reshape(features, shape) + ops.take(bias, rate_index, axis=0)
