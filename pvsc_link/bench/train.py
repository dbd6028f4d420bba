"""``python -m pvsc_link.bench train``: speed of a training, and what GPUs should reach.

The first table is measured. Every row is a process of its own, which trains one phase of a training
file with one backend, arithmetic and number of devices; a sample is a frame of a clip. The second
table (``--expect``) is computed from the multiply-accumulates (MACs) of every phase's step, counted
in the program that JAX would compile, backward pass and rematerialisation included:

    seconds per step = 2 MACs / (peak operations per second x utilisation)

``PEAKS`` and ``UTILISATION`` are its assumptions.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

#: Dense operations per second that the data sheets state, by arithmetic. In float32, JAX multiplies
#: in TensorFloat-32 on these GPUs. Those of an RTX 4090 are with sums in float32.
PEAKS = {
    "H200": {"mixed_bfloat16": 989e12, "float32": 494e12},
    "RTX 4090": {"mixed_bfloat16": 165e12, "float32": 82.6e12},
}
#: Share of the peak that a step is assumed to reach: convolutions of some hundred channels do, less
#: what element-wise operations and depthwise convolutions wait for memory.
UTILISATION = 0.25
_MEASURED_HERE = "--measure-one"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or compute; prints the table and with ``--csv`` writes it with a manifest."""
    parser = argparse.ArgumentParser(
        prog="python -m pvsc_link.bench train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="training file, for instance scenarios/train_paper.yaml")
    parser.add_argument("--phase", nargs="*", default=[], help="phases (default: the last one)")
    parser.add_argument("--expect", action="store_true", help="count MACs, for every phase")
    backends = ["tensorflow", "jax"]
    parser.add_argument("--backends", nargs="+", default=backends, choices=backends)
    types = ["float32", "mixed_bfloat16"]
    parser.add_argument("--precisions", nargs="+", default=types, choices=types)
    parser.add_argument("--devices", nargs="+", type=int, default=[1], help="under JAX")
    parser.add_argument("--crop", type=int, help="pixels (default: that of the phase)")
    parser.add_argument("--batch", type=int, help="clips (default: that of the phase)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps after the first")
    parser.add_argument("--csv", type=Path, help="file to write")
    parser.add_argument(_MEASURED_HERE, help=argparse.SUPPRESS)
    words = list(sys.argv[2:] if argv is None else argv)
    given = parser.parse_args(words)
    if given.measure_one:
        asked = json.loads(given.measure_one)
        print(json.dumps(list(_expected(asked)) if given.expect else _measured(asked)))
        return 0
    from pvsc_link.bench.provenance import as_text, write_manifest, write_rows

    rows = []
    for asked in _asked(given):
        rows += _in_process(given, asked)
    print(as_text(rows))
    if given.csv:
        write_rows(given.csv, rows)
        write_manifest(given.csv, ["train", *words])
    return 0


def _asked(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What each process is to do."""
    shape = {
        **{"config": given.config, "crop": given.crop},
        **{"batch": given.batch, "steps": given.steps},
    }
    if given.expect:
        yield {"backend": "jax", "devices": 1, "phases": given.phase, **shape}
        return
    every = product(given.phase or [None], given.backends, given.precisions, given.devices)
    for phase, backend, precision, devices in every:
        if backend == "jax" or devices == 1:
            yield {"phase": phase, "backend": backend, "precision": precision} | {
                "devices": devices,
                **shape,
            }


def _in_process(given: argparse.Namespace, asked: dict[str, Any]) -> list[dict[str, Any]]:
    flags = os.environ.get("XLA_FLAGS", "")
    host_devices = f"--xla_force_host_platform_device_count={asked['devices']}"
    environment = {"KERAS_BACKEND": asked["backend"], "XLA_FLAGS": f"{flags} {host_devices}"}
    words = ["-m", "pvsc_link.bench", "train", given.config, _MEASURED_HERE, json.dumps(asked)]
    words += ["--expect"] if given.expect else []
    done = subprocess.run(
        [sys.executable, *words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:  # the process has said why
        raise SystemExit(done.returncode)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer if given.expect else [answer]


def _config(asked: dict[str, Any]) -> Any:
    """The training file with the shapes and the arithmetic that are asked for in all phases."""
    from pvsc_link.train import load_train_config

    config = load_train_config(asked["config"])
    changed = {key: asked[key] for key in ("crop", "batch", "precision") if asked.get(key)}
    phases = [entry.model_copy(update=changed) for entry in config.phases]
    return config.model_copy(update={"phases": phases, "initial_weights": None})


def _measured(asked: dict[str, Any]) -> dict[str, Any]:
    """One row of the first table."""
    from pvsc_link.train import prepare, ready_phases

    config = _config(asked)
    prepare(num_devices=asked["devices"] if asked["backend"] == "jax" else None)
    ((phase, batch),) = ready_phases(config, [asked["phase"] or config.phases[-1].name])
    entry = phase.phase
    start = time.perf_counter()
    phase.step(batch)
    first = time.perf_counter() - start
    start, busy = time.perf_counter(), time.process_time()
    for _ in range(asked["steps"]):
        phase.step(batch)
    seconds = (time.perf_counter() - start) / asked["steps"]
    busy = (time.process_time() - busy) / asked["steps"]
    samples = entry.batch * (max(entry.gop) + max(entry.lead_in))
    return {
        "preset": config.preset,
        "phase": entry.name,
        **{key: asked[key] for key in ("backend", "precision", "devices")},
        "crop": entry.crop,
        "batch": entry.batch,
        "gop": max(entry.gop),
        "first_step_s": first,
        "step_s": seconds,
        "step_cpu_s": busy,
        "samples_per_s": samples / seconds,
        "samples_per_cpu_s": samples / busy,
    }


def _expected(asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of the second table: one for each phase, and their sum."""
    from pvsc_link.train import ready_phases

    config = _config(asked)
    total = {gpu: 0.0 for gpu in PEAKS}
    number = 0
    for phase, batch in ready_phases(config, asked["phases"]):
        entry = phase.phase
        macs = count_macs(phase.program(batch).jaxpr)
        # Shorter GOPs cost in proportion to their frames.
        share = sum(entry.gop) / len(entry.gop) / max(entry.gop)
        row = {
            "preset": config.preset,
            "phase": entry.name,
            "precision": entry.precision,
            "crop": entry.crop,
            "batch": entry.batch,
            "gop": max(entry.gop),
            "steps": entry.steps,
            "tera_macs_per_step": macs / 1e12,
        }
        for gpu, peaks in PEAKS.items():
            seconds = 2 * macs / (peaks[entry.precision] * UTILISATION)
            hours = seconds * share * entry.steps / 3600
            total[gpu] += hours
            samples = entry.batch * max(entry.gop) / seconds
            row |= {f"{gpu} samples_per_s": samples, f"{gpu} hours": hours}
        number += entry.steps
        yield row
    empty = {key: "" for key in row}
    yield (
        empty
        | {"preset": config.preset, "phase": "all", "steps": number}
        | {f"{gpu} hours": hours for gpu, hours in total.items()}
    )


def count_macs(program: Any) -> int:
    """Multiply-accumulates of a ``jax.core.Jaxpr``: those of convolutions and matrix products.

    The body of a loop (``scan``) counts as often as it runs, of several branches the largest one.
    Zeros between the samples of a transposed convolution do not count.
    Raises ``ValueError`` for a loop whose length is not known before it runs, if it holds any.
    """
    total = 0
    for equation in program.eqns:
        name, given = equation.primitive.name, equation.params
        size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, given["dimension_numbers"]
            products = math.prod(kernel) // kernel[numbers.rhs_spec[0]]
            total += size * products // math.prod(given["lhs_dilation"])
        elif name == "dot_general":
            (summed, _), _ = given["dimension_numbers"]
            total += size * math.prod(equation.invars[0].aval.shape[i] for i in summed)
        else:
            inner = [count_macs(one) for one in _programs_in(given)]
            if name == "while" and any(inner):
                raise ValueError("MACs in a loop of unknown length")
            if name == "cond":
                total += max(inner, default=0)
            else:
                total += given.get("length", 1) * sum(inner) if name == "scan" else sum(inner)
    return total


def _programs_in(parameters: dict[str, Any]) -> Iterator[Any]:
    """Every program that an operation holds, such as the body of a loop."""
    for value in parameters.values():
        for one in value if isinstance(value, list | tuple) else [value]:
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner
