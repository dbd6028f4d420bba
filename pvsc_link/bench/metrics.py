"""``python -m pvsc_link.bench metrics``: time of LPIPS and DISTS beside the official packages.

Both distances of a shown frame to a reference frame, one thread, CPU seconds per frame:

    pvsc_link   as a sweep measures: the features of the reference are kept for all shown frames
    layers      the Keras layers ``Lpips`` and ``Dists``, which compute both frames of every pair
    official    the packages lpips and DISTS_pytorch, likewise, in the Python that ``--python``
                names (``pip install torch torchvision lpips DISTS_pytorch``)

They are timed in turns in one run, because only ratios of such times mean anything. Values of the
official packages are compared as well.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.bench.provenance import as_text, write_manifest, write_rows

_SIZES = ((144, 176), (240, 416), (480, 832))
_THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; ``--out`` keeps it with a manifest."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench metrics")
    parser.add_argument("--python", type=Path, help="a Python with the official packages")
    parser.add_argument("--rounds", type=int, default=5, help="turns; the quickest one counts")
    parser.add_argument("--out", type=Path, help="folder for bench_metrics.csv and its manifest")
    options = parser.parse_args(argv)
    os.environ.update(_THREADS)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    official = _Official(options.python) if options.python else None
    rows = [_measure(height, width, options.rounds, official) for height, width in _SIZES]
    print(as_text(rows))
    if options.out:
        write_rows(options.out / "bench_metrics.csv", rows)
        words = ["metrics", *(argv or ())]
        write_manifest(options.out / "bench_metrics.csv", words)
    return 0


def _measure(height: int, width: int, rounds: int, official: "_Official | None") -> dict[str, Any]:
    from pvsc_link.metrics import METRICS, Dists, Lpips

    rng = np.random.default_rng(0)
    frame = rng.random((height, width, 3)).astype(np.float32)
    noise = rng.normal(0, 0.05, (rounds + 1, *frame.shape))
    shown = np.clip(frame + noise, 0, 1).astype(np.float32)
    metrics, layers = (METRICS["lpips"].measure, METRICS["dists"].measure), (Lpips(), Dists())
    references = [metric.reference(frame[None]) for metric in metrics]

    def by_package(frame_hat: np.ndarray) -> list[float]:
        pairs = zip(metrics, references, strict=True)
        return [float(metric.compare(kept, frame_hat[None])[0]) for metric, kept in pairs]

    def by_layers(frame_hat: np.ndarray) -> list[float]:
        return [float(layer(frame[None], frame_hat[None])[0]) for layer in layers]

    ways: dict[str, Callable[[np.ndarray], tuple[list[float], float]]]
    ways = {"pvsc_link": _timed(by_package), "layers": _timed(by_layers)}
    if official:
        ways["official"] = lambda frame_hat: official.distances(frame, frame_hat)
    seconds = {name: np.inf for name in ways}
    differ = 0.0
    for turn, frame_hat in enumerate(shown):  # the first turn traces
        values = {}
        for name, way in ways.items():
            values[name], took = way(frame_hat)
            seconds[name] = min(seconds[name], took) if turn else np.inf
        differ = max(differ, *(abs(a - b) for v in values.values() for a, b in _pairs(v, values)))
    row: dict[str, Any] = {"size": f"{width}x{height}"}
    row |= {f"{name}_cpu_ms": 1e3 * value for name, value in seconds.items()}
    ours = seconds.pop("pvsc_link")
    row |= {f"{name}_ratio": value / ours for name, value in seconds.items()}
    return row | {"largest_difference": differ}


def _pairs(values: list[float], all_values: dict[str, list[float]]) -> list[tuple[float, float]]:
    return list(zip(values, all_values["pvsc_link"], strict=True))


def _timed(
    way: Callable[[np.ndarray], list[float]],
) -> Callable[[np.ndarray], tuple[list[float], float]]:
    def call(frame_hat: np.ndarray) -> tuple[list[float], float]:
        start = time.process_time()
        values = way(frame_hat)
        return values, time.process_time() - start

    return call


class _Official:
    """The official packages in a process of their own, which answers a line per pair."""

    _PROGRAM = """
import json, sys, time
import lpips, numpy as np, torch, torchvision
from DISTS_pytorch import DISTS
torch.set_num_threads(1)
kept, network = np.load(sys.argv[1]), torchvision.models.vgg16(weights=None)
for i, layer in enumerate(m for m in network.features if isinstance(m, torch.nn.Conv2d)):
    kernel = np.ascontiguousarray(kept[f"kernel_{i}"].transpose(3, 2, 0, 1))
    layer.weight.data = torch.from_numpy(kernel)
    layer.bias.data = torch.from_numpy(kept[f"bias_{i}"])
torchvision.models.vgg16 = lambda *_, **__: network
measures = lpips.LPIPS(net="vgg", verbose=False), DISTS()
for line in sys.stdin:
    x, y = (torch.from_numpy(p.transpose(2, 0, 1)[None].copy()) for p in np.load(line.strip()))
    with torch.no_grad():
        start = time.process_time()
        values = [measures[0](x, y, normalize=True).item(), measures[1](x, y).item()]
        seconds = time.process_time() - start
    print(json.dumps([values, seconds]), flush=True)
"""

    def __init__(self, python: Path):
        from pvsc_link.metrics import vgg16_weights
        from pvsc_link.storage import cache_directory

        vgg16_weights()  # into the cache
        weights = cache_directory() / "vgg16_lpips.npz"
        self._process = subprocess.Popen(
            [str(python), "-c", self._PROGRAM, str(weights)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _THREADS,
        )

    def distances(self, frame: np.ndarray, frame_hat: np.ndarray) -> tuple[list[float], float]:
        """LPIPS and DISTS of a pair, and the CPU seconds of both."""
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file, np.stack([frame, frame_hat]))
            file.flush()
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            print(file.name, file=stdin, flush=True)
            answer = stdout.readline()
        if not answer:
            raise RuntimeError("the official packages do not run in the Python of --python")
        return tuple(json.loads(answer))
