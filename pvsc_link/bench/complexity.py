"""``python -m pvsc_link.bench complexity``: parameters, MACs and times as in Tables IV and V.

Multiply-accumulates (MACs) are counted in the graph that TensorFlow would execute: every
convolution and matrix product counts with the shapes it has there. Element-wise work, norms and
softmax do not count, as usual. They are those of one transmitter pass plus one receiver pass per P
frame (Fig. 5), the reading under which the paper's tables agree with its architecture: what runs at
both ends counts twice, and E_s three times (once to quantise, once in the decoding of either end).

Times are milliseconds per frame of the two ends, networks only: of the clock, and of all threads
of the CPU, whose ratios hold on a machine that does other work as well. Each preset and size is
timed in a process of its own, whose peak of resident memory stands beside its times.

Given several presets, a second table has the ratios of each to the first one at equal size, beside
those of the times in the paper's Table IV:

    python -m pvsc_link.bench complexity --preset pvsc_paper dvst_paper --sizes 480p 720p

``--profile`` adds the steps of a P frame, each with its times and MACs. ``--batch`` codes the
frames of several GOPs in one call and divides its times by their number.
"""

import argparse
import math
import multiprocessing
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import tensorflow as tf

from pvsc_link.bench.provenance import as_text, write_manifest, write_rows
from pvsc_link.models import DVST_PRESETS, PRESETS, DvstConfig, IntraSteps, PictureConfig, model_of
from pvsc_link.report import published
from pvsc_link.types import InputError

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
    return macs_of(tf.function(function).get_concrete_function(*inputs).graph)


def macs_of(graph: Any) -> Counter[str]:
    """MACs of a graph with static shapes, as ``count_macs`` gives them."""
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


#: A call of more CPU seconds is timed once: what its first run does besides is little.
_LONG_CALL_S = 60.0


def time_function(
    function: Callable[..., Any], inputs: Sequence[Any], repeats: int, jit_compile: bool = False
) -> tuple[float, float]:
    """Medians of wall time and CPU time of one call in ms, after tracing and a warm-up call.

    Parameters: ``function`` : of tensors; ``inputs`` : ``tf.TensorSpec``, filled with random
    values of fixed seed (integers with zeros); ``repeats`` : timed calls, at least 1;
    ``jit_compile`` : whether XLA compiles it. Without XLA a long warm-up call is the only one.
    """
    compiled = tf.function(function, jit_compile=jit_compile or None, autograph=False)
    values = [_values(spec, seed) for seed, spec in enumerate(inputs)]
    compiled.get_concrete_function(*inputs)
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        start = time.perf_counter(), time.process_time()
        _wait(compiled(*values))
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        if not jit_compile and times[0][1] > _LONG_CALL_S:
            break
    counted = times[1:] or times
    wall, cpu = (1e3 * statistics.median(kind) for kind in zip(*counted, strict=True))
    return wall, cpu


def peak_mib() -> float:
    """Most memory that this process has held so far; NaN where the system does not tell it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    held = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(next(held, "nan")) / 1024


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


def size_of(label: str) -> tuple[int, int]:
    """Width and height of a label of ``SIZES``, of ``table_v``, or of text such as ``416x240``.

    Raises ``InputError`` for any other text.
    """
    if label == TABLE_V:
        return 1920, 1088
    if label in SIZES:
        return SIZES[label]
    found = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", label)
    if found is None:
        raise InputError(
            "size of frames",
            found=label,
            allowed=f"{', '.join(SIZES)}, {TABLE_V}, or width x height",
            remedy="For instance 416x240.",
        )
    return int(found[1]), int(found[2])


def padded(size: int, multiple: int) -> int:
    """``size`` in pixels, up to the next multiple."""
    return -(-size // multiple) * multiple


def trainable_parameters(layer: Any) -> int:
    """Numbers that training sets; the integer statistics of side format ``range`` are not."""
    return sum(math.prod(weight.shape) for weight in layer.trainable_weights)


def models_for_all_rates(config: PictureConfig | DvstConfig) -> int:
    """How many models a rate curve of a preset needs: Table IV counts the parameters of all."""
    return config.num_rates if isinstance(config, DvstConfig) else 1


#: Wraps a step of a frame, for instance with ``tf.function``.
_Wrapper: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def _as_is(step: Callable[..., Any]) -> Callable[..., Any]:
    return step


def ends_of(
    model: Any, width: int, height: int, compiled: _Wrapper = _as_is, batch: int = 1
) -> dict[str, tuple[Any, list[Any]]]:
    """Both ends for one frame of each GOP, as a function and its ``tf.TensorSpec`` arguments.

    Input: ``width``, ``height`` : coded size in pixels, multiples of 64; ``compiled`` : wraps
    every step; ``batch`` : GOPs side by side.
    """
    cfg = model.config
    transmit, receive = _ends(model, compiled, batch)
    units = cfg.rate_map_shape(height, width)
    buffers = [] if cfg.intra else _buffers(model, width, height, batch)
    received = [
        tf.TensorSpec((batch, *units, max(cfg.rate_set))),
        tf.TensorSpec((batch, *units), tf.int32),
        tf.TensorSpec((batch, height // 64, width // 64, cfg.channels_z)),
    ]
    return {
        "tx": (transmit, [tf.TensorSpec((batch, height, width, 3)), *buffers]),
        "rx": (receive, [*received, *buffers]),
    }


def macs_by_module(model: Any, width: int, height: int) -> tuple[Counter[str], Counter[str]]:
    """MACs of one frame at the transmitter and at the receiver, by layer of the model."""
    ends = ends_of(model, width, height)
    return count_macs(*ends["tx"]), count_macs(*ends["rx"])


def _ends(model: Any, compiled: _Wrapper, batch: int) -> tuple[Any, Any]:
    """Fig. 5 at either end, for one frame of each GOP.

    The transmitter decodes too, for the frames that follow; a picture of a P frame out of its
    buffers is the receiver's work alone. ``compiled`` wraps every step.
    """
    omega, intra = tf.zeros((batch,), tf.int32), model.config.intra
    # No P frame follows an I frame.
    steps: Any = IntraSteps(model, None, compiled) if intra else model.steps(compiled)

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
        return tf.zeros((batch, height // 16, width // 16, 2), tf.int32)

    def _decoded(coded: Any, buffers: Any, kept: Any = None) -> Any:
        z_hat, rate_index, symbols = coded
        return steps.decode(symbols, rate_index, z_hat, buffers, omega, kept)

    return transmit, receive


def _buffers(model: Any, width: int, height: int, batch: int) -> list[Any]:
    """Specs of what a P frame finds in the buffers: what a GOP starts with."""
    start = tf.function(lambda frame: model.start_buffers(frame))
    graph = start.get_concrete_function(tf.TensorSpec((batch, height, width, 3)))
    found = graph.structured_outputs
    names = [name for name in ("feature_tx", "state_tx") if name in found]
    return [tf.TensorSpec(found[name].shape, found[name].dtype) for name in names]


def measure(
    model: Any, label: str, *, repeats: int, jit_compile: bool = False, batch: int = 1
) -> dict[str, Any]:
    """One row of the table: a frame size of one preset; ``repeats`` 0 leaves the times empty.

    ``batch`` : GOPs side by side in one call. Times are per frame; MACs are those of one GOP alone.
    """
    width, height = size_of(label)
    wide, high = _coded_size(model, label)
    tx, rx = (sum(end.values()) for end in macs_by_module(model, wide, high))
    row = {
        "preset": model.config.name,
        "label": label,
        "width": width,
        "height": height,
        "padded_width": wide,
        "padded_height": high,
        "batch": batch,
        "params_m": models_for_all_rates(model.config) * trainable_parameters(model) / 1e6,
        "macs_g": (tx + rx) / 1e9,
        "macs_tx_g": tx / 1e9,
        "macs_rx_g": rx / 1e9,
        "macs_m_per_pixel": (tx + rx) / 1e6 / (width * height),
        **dict.fromkeys(_MEASURED, ""),
    }
    if repeats and label != TABLE_V:
        for end, (function, inputs) in ends_of(model, wide, high, batch=batch).items():
            wall, cpu = time_function(function, inputs, repeats, jit_compile)
            row |= {f"{end}_ms": wall / batch, f"{end}_cpu_ms": cpu / batch}
        row["peak_mib"] = peak_mib()
    return row


#: Columns of what is measured on a machine: wall and CPU time per frame, and memory.
_MEASURED = ("tx_ms", "rx_ms", "tx_cpu_ms", "rx_cpu_ms", "peak_mib")


def _coded_size(model: Any, label: str) -> tuple[int, int]:
    """Width and height in pixels as coded."""
    multiple = 64 if label == TABLE_V else model.config.padding_multiple
    width, height = size_of(label)
    return padded(width, multiple), padded(height, multiple)


def _measured_apart(preset: str, label: str, repeats: int, options: Mapping[str, Any]) -> Any:
    """``measure`` in a process of its own, so that its peak of memory is that of this row."""
    apart = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=apart) as process:
        try:
            return process.submit(_measure_preset, preset, label, repeats, options).result()
        except BrokenProcessPool:
            print(f"{preset} at {label}: the process was ended, probably for want of memory")
            return _measure_preset(preset, label, 0, options)


def _measure_preset(
    preset: str, label: str, repeats: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    model = model_of(ALL_PRESETS[preset], dtype=options["dtype"])
    return measure(
        model, label, repeats=repeats, jit_compile=options["jit_compile"], batch=options["batch"]
    )


#: Columns whose ratios are taken.
_RATIOS = ("macs_tx_g", "macs_rx_g", *_MEASURED)


def ratio_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each preset divided by the first one at equal size; empty where one of them has no number.

    ``paper_tx``, ``paper_rx`` : ratios of the times in the paper's Table IV, for DVST beside PVSC.
    """
    first = {row["label"]: row for row in rows if row["preset"] == rows[0]["preset"]}
    found = []
    for row in rows:
        beside = first.get(row["label"])
        if beside is None or beside["preset"] == row["preset"]:
            continue
        ratios = {
            name: row[name] / beside[name] if row[name] and beside[name] else "" for name in _RATIOS
        }
        paper = _paper_ratios(row, beside)
        found.append({"preset": row["preset"], "to": beside["preset"], "label": row["label"]})
        found[-1] |= ratios | paper
    return found


def _paper_ratios(row: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any]:
    table = published("complexity").set_index(["method", "resolution"])
    methods = [str(one["preset"]).split("_")[0].upper() for one in (row, beside)]
    times = [(method, row["label"]) for method in methods]
    is_there = all(one["preset"].endswith("_paper") for one in (row, beside))
    if not (is_there and all(key in table.index for key in times)):
        return {"paper_tx": "", "paper_rx": ""}
    ours, theirs = (table.loc[key] for key in times)
    return {f"paper_{end}": float(ours[f"{end}_ms"] / theirs[f"{end}_ms"]) for end in ("tx", "rx")}


def profile(model: Any, label: str, repeats: int) -> list[dict[str, Any]]:
    """Times and MACs of every step of a frame at either end, in the order of their time.

    Every step is compiled by itself, as a transmitter runs them.
    """
    wide, high = _coded_size(model, label)
    rows = []
    for end in ("tx", "rx"):
        spent: dict[str, list[tuple[float, float]]] = {}
        macs: dict[str, int] = {}
        wrapped = partial(_timed_step, spent=spent, macs=macs)
        function, inputs = ends_of(model, wide, high, wrapped)[end]
        values = [_values(spec, seed) for seed, spec in enumerate(inputs)]
        function(*values)  # traces
        spent.clear()
        for _ in range(repeats):
            function(*values)
        total = sum(cpu for times in spent.values() for _, cpu in times)
        of_end = [
            {
                "preset": model.config.name,
                "label": label,
                "end": end,
                "step": name,
                "macs_g": macs[name] / 1e9,
                "ms": 1e3 * sum(wall for wall, _ in times) / repeats,
                "cpu_ms": 1e3 * sum(cpu for _, cpu in times) / repeats,
                "share": sum(cpu for _, cpu in times) / total,
            }
            for name, times in spent.items()
        ]
        rows += sorted(of_end, key=lambda row: -row["share"])
    return rows


def _timed_step(
    step: Callable[..., Any], spent: dict[str, list[tuple[float, float]]], macs: dict[str, int]
) -> Callable[..., Any]:
    """A compiled step that notes its times, and its MACs when it is first called."""
    name, graph = step.__name__, tf.function(step, autograph=False)

    def call(*inputs: Any) -> Any:
        if name not in macs:
            traced = graph.get_concrete_function(*inputs).graph
            macs[name] = sum(macs_of(traced).values())
        start = time.perf_counter(), time.process_time()
        result = graph(*inputs)
        _wait(result)
        times = time.perf_counter() - start[0], time.process_time() - start[1]
        spent.setdefault(name, []).append(times)
        return result

    return call


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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench complexity")
    parser.add_argument("--preset", nargs="+", required=True, choices=sorted(ALL_PRESETS))
    parser.add_argument(
        "--sizes", nargs="+", default=[*SIZES, TABLE_V], help="of frames, also 416x240"
    )
    parser.add_argument("--counts-only", action="store_true", help="no timing")
    parser.add_argument(
        "--time-sizes", nargs="+", help="labels that are timed; the others are counted alone"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed frames after a warm-up")
    parser.add_argument("--jit-compile", action="store_true", help="time both ends under XLA")
    parser.add_argument("--dtype", default="float32", help="Keras' policy, e.g. mixed_bfloat16")
    parser.add_argument("--batch", type=int, default=1, help="GOPs that one timed call codes")
    parser.add_argument(
        "--profile", action="store_true", help="steps of a frame, at the first size"
    )
    parser.add_argument(
        "--csv", type=Path, help="rows; *_modules.csv, *_ratios.csv and a manifest beside it"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of one or more presets; with ``--csv`` also write them, with a manifest."""
    options = parse(argv)
    for label in [*options.sizes, *(options.time_sizes or ())]:
        size_of(label)
    if options.batch < 1:
        raise InputError(
            "number of GOPs that one call codes",
            found=options.batch,
            allowed="1 or more",
            remedy="Leave --batch out for one GOP.",
        )
    names = "dtype", "jit_compile", "batch"
    variant = {name: getattr(options, name) for name in names}
    timed = options.time_sizes or options.sizes
    rows, modules, steps = [], [], []
    for name in options.preset:
        for label in options.sizes:
            repeats = 0 if options.counts_only or label not in timed else options.repeats
            measured = _measured_apart if repeats else _measure_preset
            rows.append(measured(name, label, repeats, variant))
            print(as_text(rows[-1:]), flush=True)
        model = model_of(ALL_PRESETS[name])
        modules += module_rows(model)
        if options.profile:
            steps += profile(model, options.sizes[0], options.repeats)
    tables = {"": rows, "_modules": modules, "_ratios": ratio_rows(rows), "_steps": steps}
    tables = {name: table for name, table in tables.items() if table}
    print(*(as_text(table) for table in tables.values()), sep="\n\n")
    if options.csv:
        for name, table in tables.items():
            write_rows(options.csv.with_name(f"{options.csv.stem}{name}.csv"), table)
        write_manifest(options.csv, ["complexity", *(sys.argv[2:] if argv is None else argv)])
    return 0
