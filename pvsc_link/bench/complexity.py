"""``python -m pvsc_link.bench complexity``: parameters, MACs and times as in Tables IV and V.

Multiply-accumulates (MACs) are counted in the graph that TensorFlow would execute: every
convolution and matrix product counts with the shapes it has there. Element-wise work, norms and
softmax do not count, as usual. They are those of one transmitter pass plus one receiver pass per P
frame (Fig. 5), the reading under which the paper's tables agree with its architecture: what runs at
both ends counts twice, and E_s three times (once to quantise, once in the decoding of either end).
Times are milliseconds per frame of the two ends, networks only.
"""

import argparse
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pvsc_link.bench.provenance import as_text, write_manifest, write_rows
from pvsc_link.models import DVST_PRESETS, PRESETS, DvstConfig, IntraSteps, PictureConfig, model_of

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


def time_function(function: Callable[..., Any], inputs: Sequence[Any], repeats: int) -> float:
    """Median wall time of one call in ms, after one warm-up call that traces.

    Parameters: ``function`` : of tensors; ``inputs`` : ``tf.TensorSpec``, filled with random
    values of fixed seed (integers with zeros); ``repeats`` : timed calls, at least 1.
    """
    compiled = tf.function(function)
    values = [_values(spec, seed) for seed, spec in enumerate(inputs)]
    _wait(compiled(*values))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        _wait(compiled(*values))
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def _values(spec: tf.TensorSpec, seed: int) -> tf.Tensor:
    if spec.dtype.is_integer:
        return tf.zeros(spec.shape, spec.dtype)
    return tf.random.Generator.from_seed(seed).uniform(spec.shape)


def _wait(outputs: Any) -> None:
    """On an accelerator a call returns early; copying one number back ends the computation."""
    for output in tf.nest.flatten(outputs):
        if output is not None:
            tf.reshape(output, [-1])[0].numpy()


#: Presets of every semantic scheme.
ALL_PRESETS: dict[str, PictureConfig | DvstConfig] = {**PRESETS, **DVST_PRESETS}
#: (width, height) as shown; coded on the next multiple of ``padding_multiple``
SIZES = {
    "480p": (854, 480),
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "2K": (2560, 1440),
}
#: Table V's frame is not padded to 128; 1920x1088 is what fits its numbers.
TABLE_V = "table_v"


def padded(size: int, multiple: int) -> int:
    """``size`` in pixels, up to the next multiple."""
    return -(-size // multiple) * multiple


def trainable_parameters(layer: Any) -> int:
    """Numbers that training sets; the integer statistics of side format ``range`` are not."""
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)


def models_for_all_rates(config: PictureConfig | DvstConfig) -> int:
    """How many models a rate curve of a preset needs: Table IV counts the parameters of all."""
    return config.num_rates if isinstance(config, DvstConfig) else 1


def ends_of(model: Any, width: int, height: int) -> dict[str, tuple[Any, list[Any]]]:
    """Both ends for one frame, each as a function and its ``tf.TensorSpec`` arguments.

    Input: ``width``, ``height`` : coded size in pixels, multiples of 64.
    """
    cfg = model.config
    transmit, receive = _ends(model)
    units = cfg.rate_map_shape(height, width)
    buffers = [] if cfg.intra else _buffers(model, width, height)
    received = [
        tf.TensorSpec((1, *units, max(cfg.rate_set))),
        tf.TensorSpec((1, *units), tf.int32),
        tf.TensorSpec((1, height // 64, width // 64, cfg.channels_z)),
    ]
    return {
        "tx": (transmit, [tf.TensorSpec((1, height, width, 3)), *buffers]),
        "rx": (receive, [*received, *buffers]),
    }


def macs_by_module(model: Any, width: int, height: int) -> tuple[Counter[str], Counter[str]]:
    """MACs of one frame at the transmitter and at the receiver, by layer of the model."""
    ends = ends_of(model, width, height)
    return count_macs(*ends["tx"]), count_macs(*ends["rx"])


def _ends(model: Any) -> tuple[Any, Any]:
    """Fig. 5 at either end, for one frame.

    The transmitter decodes too, for the frames that follow; a picture of a P frame out of its
    buffers is the receiver's work alone.
    """
    omega, intra = tf.zeros((1,), tf.int32), model.config.intra
    # No P frame follows an I frame.
    steps: Any = IntraSteps(model, None) if intra else model.steps()

    def transmit(frame: Any, feature: Any = None, state: Any = None) -> Any:
        feature = feature if intra else steps.reference(feature, _still(feature))
        coded = steps.encode(frame, (feature, state), omega)
        return _decoded(coded[:3], (feature, state), coded.kept)

    def receive(
        symbols: Any, rate_index: Any, z_hat: Any, feature: Any = None, state: Any = None
    ) -> Any:
        feature = feature if intra else steps.reference(feature, _still(feature))
        decoded = _decoded((z_hat, rate_index, symbols), (feature, state))
        return decoded if intra else (steps.show(decoded[0], omega), decoded[1])

    def _still(feature: Any) -> Any:
        """Vectors of a frame, for the cost of following them; the search is not counted."""
        height, width = feature.shape[1:3]
        return tf.zeros((1, height // 16, width // 16, 2), tf.int32)

    def _decoded(coded: Any, buffers: Any, kept: Any = None) -> Any:
        z_hat, rate_index, symbols = coded
        return steps.decode(symbols, rate_index, z_hat, buffers, omega, kept)

    return transmit, receive


def _buffers(model: Any, width: int, height: int) -> list[Any]:
    """Specs of what a P frame finds in the buffers: what a GOP starts with."""
    start = tf.function(lambda frame: model.start_buffers(frame))
    graph = start.get_concrete_function(tf.TensorSpec((1, height, width, 3)))
    found = graph.structured_outputs
    names = [name for name in ("feature_tx", "state_tx") if name in found]
    return [tf.TensorSpec(found[name].shape, found[name].dtype) for name in names]


def measure(model: Any, label: str, *, repeats: int) -> dict[str, Any]:
    """One row of the table: a frame size of one preset; ``repeats`` 0 leaves the times empty."""
    width, height = SIZES.get(label, (1920, 1088))
    multiple = 64 if label == TABLE_V else model.config.padding_multiple
    wide, high = padded(width, multiple), padded(height, multiple)
    tx, rx = (sum(end.values()) for end in macs_by_module(model, wide, high))
    row = {
        "preset": model.config.name,
        "label": label,
        "width": width,
        "height": height,
        "padded_width": wide,
        "padded_height": high,
        "params_m": models_for_all_rates(model.config) * trainable_parameters(model) / 1e6,
        "macs_g": (tx + rx) / 1e9,
        "macs_tx_g": tx / 1e9,
        "macs_rx_g": rx / 1e9,
        "macs_m_per_pixel": (tx + rx) / 1e6 / (width * height),
        "tx_ms": "",
        "rx_ms": "",
    }
    if repeats and label != TABLE_V:
        for end, (function, inputs) in ends_of(model, wide, high).items():
            row[f"{end}_ms"] = time_function(function, inputs, repeats)
    return row


def module_rows(model: Any) -> list[dict[str, Any]]:
    """Parameters and MACs of each layer at Table V's frame."""
    tx, rx = macs_by_module(model, 1920, 1088)
    return [
        {
            "preset": model.config.name,
            "module": layer.name,
            "params_m": trainable_parameters(layer) / 1e6,
            "macs_tx_g": tx[layer.name] / 1e9,
            "macs_rx_g": rx[layer.name] / 1e9,
        }
        for layer in model.layers
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of one or more presets; with ``--csv`` also write them, with a manifest."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench complexity")
    parser.add_argument("--preset", nargs="+", required=True, choices=sorted(ALL_PRESETS))
    parser.add_argument("--sizes", nargs="+", default=[*SIZES, TABLE_V], help="labels of frames")
    parser.add_argument("--counts-only", action="store_true", help="no timing")
    parser.add_argument("--repeats", type=int, default=3, help="timed frames after a warm-up")
    parser.add_argument("--csv", type=Path, help="rows; *_modules.csv and a manifest beside it")
    options = parser.parse_args(argv)
    rows, modules = [], []
    for name in options.preset:
        model = model_of(ALL_PRESETS[name])
        repeats = 0 if options.counts_only else options.repeats
        rows += [measure(model, label, repeats=repeats) for label in options.sizes]
        modules += module_rows(model)
    print(as_text(rows), as_text(modules), sep="\n\n")
    if options.csv:
        write_rows(options.csv, rows)
        write_rows(options.csv.with_name(f"{options.csv.stem}_modules.csv"), modules)
        write_manifest(options.csv, ["complexity", *(sys.argv[2:] if argv is None else argv)])
    return 0
