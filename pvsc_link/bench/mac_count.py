"""Multiply-accumulates of a traced function, counted operation by operation.

The graph that TensorFlow would execute is walked; every convolution and matrix product counts
with the shapes it has there. Element-wise work, norms and softmax do not count, as usual.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

#: Operations that multiply and accumulate but that this counter cannot read: an error.
UNREADABLE = {"Einsum", "XlaDotV2", "XlaConvV2", "Conv3D", "_FusedConv2D", "_FusedMatMul"}


def _convolution(op: Any) -> int:
    kernel = op.inputs[1].shape
    return _elements(op) * math.prod(kernel[:-1])


def _depthwise(op: Any) -> int:
    kernel = op.inputs[1].shape
    return _elements(op) * math.prod(kernel[:2])


def _product(op: Any, transposed: str) -> int:
    left = op.inputs[0].shape
    return _elements(op) * int(left[-2] if op.get_attr(transposed) else left[-1])


COUNTERS: dict[str, Callable[[Any], int]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "MatMul": lambda op: _product(op, "transpose_a"),
    "BatchMatMulV2": lambda op: _product(op, "adj_x"),
    "BatchMatMulV3": lambda op: _product(op, "adj_x"),
}


def _elements(op: Any) -> int:
    count = op.outputs[0].shape.num_elements()
    if count is None:
        raise ValueError(f"{op.name} has no static shape: trace with one fixed frame size")
    return count


def count_macs(function: Callable[..., Any], inputs: Sequence[Any]) -> Counter[str]:
    """MACs of one call, by the scope (layer name) in which they happen.

    Parameters
    ----------
    function : of tensors, any nested outputs
    inputs : its ``tf.TensorSpec`` arguments, fully static; nothing is computed

    Output
    ------
    Counter from the outermost scope, numbering stripped (``context_extractor_1`` counts as
    ``context_extractor``), to MACs. Raises ``ValueError`` for an operation it cannot count.
    """
    graph = tf.function(function).get_concrete_function(*inputs).graph
    counts: Counter[str] = Counter()
    for op in graph.get_operations():
        if op.type in UNREADABLE or op.type.endswith("PartitionedCall"):
            raise ValueError(f"cannot count {op.type} {op.name}")
        if op.type in COUNTERS:
            counts[_scope(op.name)] += COUNTERS[op.type](op)
    return counts


def _scope(name: str) -> str:
    outermost = name.split("/")[0]
    stem, _, number = outermost.rpartition("_")
    return stem if number.isdigit() and stem else outermost
