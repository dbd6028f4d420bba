"""What a run measures and records: quality and rate on held-out clips, tables and plots.

``Evaluator`` codes clips that are never trained on. ``history.csv`` has the loss terms of every
few steps, ``evaluation.csv`` the evaluations. ``curves.png`` and the TensorBoard files in
``events/`` show both.
"""

import csv
import io
import logging
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops
from PIL import Image

from pvsc_link.media import load_clip, pad_to_multiple
from pvsc_link.metrics import Lpips
from pvsc_link.models import encode_rate_map
from pvsc_link.storage import atomic_file, write_atomically
from pvsc_link.train.channel import StepChannel, frame_seeds, of_frame
from pvsc_link.train.config import ChannelConfig, EvaluationConfig
from pvsc_link.train.family import motion_vectors
from pvsc_link.train.step import inference

LOG = logging.getLogger(__name__)


class Evaluator:
    """Codes the first frames of each clip at every quality preset and measures them.

    Parameters
    ----------
    config : EvaluationConfig
    omega : weights of the quality presets of I frames, and those of P frames
    intra, inter : models; with ``inter`` None, I frames alone are measured
    link : ChannelConfig, whose first SNR and condition are used; None measures the ideal branch
    rate : of DVST, the rate of ``inter`` and the quality preset of I frames, the only ones that are
        measured; None measures every quality preset
    """

    def __init__(
        self,
        config: EvaluationConfig,
        omega: tuple[list[float], list[float]],
        intra: Any,
        inter: Any,
        link: ChannelConfig | None,
        rate: int | None = None,
    ):
        pairs = list(enumerate(zip(*omega, strict=True)))
        self.presets = pairs if rate is None else pairs[rate : rate + 1]
        self.channel = None if link is None else StepChannel(link.first)
        self.intra, self.inter = intra, inter
        multiple = intra.config.padding_multiple
        self.clips = {name: _load(name, config, multiple) for name in config.clips}
        lpips = Lpips()
        self.lpips = inference(lambda a, b: lpips(a, b), lpips.variables)
        self._code_intra = inference(self._forward_intra, intra.variables)
        if inter is not None:
            both = [*intra.variables, *inter.variables]
            self._start = inference(lambda *frames: inter.start_buffers(*frames), both)
            self._code_inter = inference(self._forward_inter, both)

    def rows(self) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
        """For each clip, preset and kind of frame: (row, last original frame, last decoded frame).

        LPIPS and PSNR are means over the frames of that kind. Frames are [height, width, 3]. Bits
        per pixel are those of y (entropy), of z (entropy), and of the rate map k as PNG (b(k)).
        """
        for clip, frames in self.clips.items():
            for index, weights in self.presets:
                place = {"clip": clip, "omega_index": index}
                shown, coded = self._code(frames, index)
                kinds = {"I": slice(0, 1)}
                if self.inter is not None:
                    kinds["P"] = slice(1, None)
                for omega, (kind, part) in zip(weights, kinds.items(), strict=False):
                    model = self.intra if kind == "I" else self.inter
                    rates = len(model.config.rate_set)
                    row = self._measure(frames[part], shown[part], coded[part], rates)
                    yield (
                        {**place, "omega": omega, "frame_kind": kind, **row},
                        frames[len(shown) - 1],
                        shown[-1],
                    )

    def _code(self, frames: np.ndarray, index: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        omega_index = ops.convert_to_tensor([index], "int32")
        drawn = self._draw(frames)
        output: dict[str, Any] = self._code_intra(frames[:1], omega_index, next(drawn))
        outputs = [output]
        if self.inter is not None:
            ends = ("ideal",) if self.channel is None else ("tx", "rx")
            start = [ops.clip(output[f"frame_{end}"], 0.0, 1.0) for end in ends]
            buffers = self._start(*start)
            for frame in frames[1:]:
                known = buffers["feature_tx"]
                motion = motion_vectors(self.inter.config, known, frame[None], [index])
                output = self._code_inter(frame[None], buffers, omega_index, next(drawn), motion)
                buffers = output.pop("buffers")
                outputs.append(output)
        end = "ideal" if self.channel is None else "rx"
        shown = [ops.convert_to_numpy(o[f"frame_{end}"])[0] for o in outputs]
        return np.clip(np.stack(shown), 0.0, 1.0), outputs

    def _forward_intra(self, frame: Any, omega_index: Any, drawn: Any) -> dict[str, Any]:
        channel = self._through(self.intra, drawn)
        return self.intra.forward(frame, omega_index, channel=channel)

    def _forward_inter(
        self, frame: Any, buffers: dict[str, Any], omega_index: Any, drawn: Any, motion: Any
    ) -> dict[str, Any]:
        vectors = {} if motion is None else {"motion": motion}
        channel = self._through(self.inter, drawn)
        return self.inter.forward(frame, buffers, omega_index, channel=channel, **vectors)

    def _through(self, model: Any, drawn: Any) -> Any:
        if self.channel is None:
            return None
        return self.channel.through(drawn, model.config.rate_set)

    def _draw(self, frames: np.ndarray) -> Iterator[dict[str, Any] | None]:
        """What ``StepChannel.through`` takes of each frame: equal for every clip and preset."""
        if self.channel is None:
            yield from [None] * len(frames)
            return
        rng, seeds = np.random.default_rng(0), frame_seeds((0, 0, 0), len(frames))
        drawn = self.channel.draw(rng, seeds, 1)
        yield from (of_frame(drawn, t) for t in range(len(frames)))

    def _measure(
        self, frames: np.ndarray, shown: np.ndarray, coded: list[dict[str, Any]], num_rates: int
    ) -> dict[str, float]:
        pixels = frames.shape[1] * frames.shape[2]
        lpips = [float(self.lpips(a[None], b[None])[0]) for a, b in zip(frames, shown, strict=True)]
        error = np.mean(np.square(frames - shown), axis=(1, 2, 3))

        def per_pixel(key: str) -> float:
            sums = [float(ops.sum(c[key])) for c in coded]
            return round(float(np.mean(sums)) / pixels, 6)

        maps = [ops.convert_to_numpy(c["rate_index"])[0] for c in coded]
        bits_k = [8 * len(encode_rate_map(one, num_rates, "png")) for one in maps]
        return {
            "psnr_db": round(float(np.mean(-10 * np.log10(np.maximum(error, 1e-10)))), 4),
            "lpips": round(float(np.mean(lpips)), 5),
            "bpp_y": per_pixel("num_bits_y"),
            "bpp_z": per_pixel("num_bits_z"),
            "bpp_k": round(float(np.mean(bits_k)) / pixels, 6),
            "reals_per_pixel": per_pixel("rate_reals"),
        }


def write_picture(path: Path, pictures: list[np.ndarray]) -> None:
    """Write pictures side by side as PNG; all [height, width, 3] in [0, 1]."""
    side = np.rint(255 * np.clip(np.concatenate(pictures, axis=1), 0, 1)).astype(np.uint8)
    with atomic_file(path) as file:
        Image.fromarray(side).save(file, format="PNG")


def _load(name: str, config: EvaluationConfig, multiple: int) -> np.ndarray:
    """The middle of the first frames, with sizes that are multiples of what the models need."""
    frames = load_clip(name, 0, config.num_frames, matrix="bt709").frames  # as in training
    if min(frames.shape[1:3]) < multiple:
        frames = pad_to_multiple(frames, multiple)
    crop = max(config.crop or max(frames.shape), multiple)
    height, width = (min(size, crop) // multiple * multiple for size in frames.shape[1:3])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    middle = frames[:, top : top + height, left : left + width]
    return middle.astype(np.float32) / np.float32(255)


_BRANCHES = ("ideal", "tx", "rx")
_TERMS = ("rec", "per", "adv", "latent", "pred")
LOSS_COLUMNS = (
    *("step", "phase", "phase_step", "gop", "learning_rate", "seconds", "waited", "loss", "rate"),
    *("bpp_y", "bpp_z", *(f"{term}_{branch}" for term in _TERMS for branch in _BRANCHES)),
    *("pred_flow", "discriminator", "norm", "skipped", "sent", "spread", "warnings"),
)
EVALUATION_COLUMNS = (
    *("step", "phase", "omega_index", "omega", "clip", "frame_kind"),
    *("psnr_db", "lpips", "bpp_y", "bpp_z", "bpp_k", "reals_per_pixel"),
)

#: What a row of ``history.csv`` can warn of, and what that means.
WARNINGS = {
    "not_finite": "steps were skipped, because their gradient was not finite: lower learning_rate",
    "few_symbols": "hardly a unit sends symbols: the rate outweighs the distortion, raise omega",
    "constant_map": "the rate map is constant: the prior tells no unit of a frame from another",
    "slow_data": "steps wait for their clips: raise data.threads, or let the cache be on",
}
#: Share of units that send, and spread of the rate map in indices, below which a row warns.
FEW_SENT, LEAST_SPREAD = 0.005, 0.01
#: Share of the time that steps may wait for data.
MOST_WAITED = 0.2


def early_warnings(row: Mapping[str, float]) -> list[str]:
    """The keys of ``WARNINGS`` that hold for a row of means."""
    finite = all(math.isfinite(v) for v in row.values() if isinstance(v, float))
    found = {
        "not_finite": row.get("skipped", 0.0) > 0 or not finite,
        "few_symbols": row.get("sent", 1.0) < FEW_SENT,
        "constant_map": row.get("spread", 1.0) < LEAST_SPREAD,
        "slow_data": row.get("waited", 0.0) > MOST_WAITED,
    }
    return [name for name, holds in found.items() if holds]


class Table:
    """A CSV file that grows row by row and is cut back when a run resumes.

    Parameters: ``columns`` : the header; a value that a row lacks stays empty.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns

    def append(self, rows: list[Mapping[str, object]]) -> None:
        """Add rows and close the file again, so that a kill loses nothing."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps after ``step``, which will be made again."""
        if not self.path.exists():
            return
        kept = io.StringIO(newline="")
        writer = csv.DictWriter(kept, self.columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row for row in self.read() if int(row["step"]) <= step)
        write_atomically(self.path, kept.getvalue())

    def read(self) -> list[dict[str, str]]:
        """Every complete row as text."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if _complete(row)]


def _complete(row: dict) -> bool:
    """Whether the whole row was written before a kill."""
    return None not in row and None not in row.values() and row["step"].isdigit()


class EventFiles:
    """The rows of a run's tables as TensorBoard event files, which a browser shows while it runs.

    They say what the tables say: ``start`` writes them anew, after a resumption and a rollback.
    The writer is TensorFlow's or, under another backend, that of tensorboardX, if it is installed;
    else there are no event files. (Under JAX, TensorFlow would take the GPU's memory.)

    Parameters: ``folder`` : of the event files; ``tables`` : whose rows are shown.
    """

    def __init__(self, folder: Path, *tables: Table):
        self.folder, self.tables = folder, tables
        self._writer: Any = None

    def start(self) -> None:
        """Replace the event files by ones with all rows of the tables."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._writer = _event_writer(self.folder)
        if self._writer is None:
            LOG.info("no TensorBoard files: they need TensorFlow's backend, or tensorboardX")
        for table in self.tables:
            for row in table.read():
                self.add(row)

    def close(self) -> None:
        """Write what is buffered."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Show every number of one row of ``history.csv`` or ``evaluation.csv``."""
        if self._writer is None:
            return
        place, known = "loss", {"step", "phase", "phase_step", "warnings"}
        if "clip" in row:
            known |= {"omega_index", "omega", "clip", "frame_kind"}
            name = Path(str(row["clip"])).stem
            place = f"evaluation/{name}_{row['frame_kind']}_preset{row['omega_index']}"
        for key, value in row.items():
            if key not in known and value not in ("", None):
                self._writer.add_scalar(f"{place}/{key}", float(value), int(row["step"]))


def _event_writer(folder: Path) -> Any:
    """A writer with ``add_scalar(tag, value, step)`` and ``close()``; None where none is there."""
    if keras.backend.backend() == "tensorflow":
        return _TensorFlowWriter(folder)
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))


class _TensorFlowWriter:
    """TensorFlow's writer of event files, which works without the package tensorboard."""

    def __init__(self, folder: Path):
        import tensorflow as tf

        self._summary = tf.summary
        self._file = tf.summary.create_file_writer(str(folder), flush_millis=10_000)
        self.close = self._file.close
        # What tensorboard.summary.scalar states of a tensor: DATA_CLASS_SCALAR, plugin "scalars".
        self._kind = tf.compat.v1.SummaryMetadata(data_class=1)
        self._kind.plugin_data.plugin_name = "scalars"

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        with self._file.as_default():
            self._summary.write(tag, np.float32(value), step, metadata=self._kind)


class Means:
    """Means of the scalar terms of several steps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self.count = 0

    def add(self, terms: Mapping[str, np.ndarray]) -> None:
        for key, value in terms.items():
            if np.ndim(value) == 0:
                self._sums[key] = self._sums.get(key, 0.0) + float(value)
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {key: float(f"{value / self.count:.6g}") for key, value in self._sums.items()}
        self._sums, self.count = {}, 0
        return means


def write_plot(losses: Table, evaluations: Table, path: Path) -> None:
    """Plot every loss term and the evaluations against the step, as PNG."""
    from matplotlib.figure import Figure

    if not losses.path.exists():
        return
    panels = (
        ("loss",),
        *(tuple(f"{term}_{branch}" for branch in _BRANCHES) for term in ("rec", "per", "latent")),
        ("rate", "bpp_y", "bpp_z"),
        ("discriminator", *(f"adv_{branch}" for branch in _BRANCHES)),
        ("learning_rate", "norm"),
    )
    figure = Figure(figsize=(15, 10), layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    rows = pd.read_csv(losses.path, index_col="step")
    for axis, names in zip(axes, panels, strict=False):
        values = rows[list(names)].dropna(axis="columns", how="all")
        axis.plot(values.index, values, label=list(values), linewidth=0.8)
        if len(values.columns):
            positive = (values > 0).to_numpy().all() and np.ptp(values.to_numpy()) > 0
            axis.set_yscale("log" if positive else "linear")
    if evaluations.path.exists():
        points = pd.read_csv(evaluations.path)
        means = points.groupby(["frame_kind", "omega", "step"])[["psnr_db", "lpips"]].mean()
        for axis, column in zip(axes[len(panels) :], means, strict=True):
            for (kind, omega), curve in means[column].groupby(level=[0, 1]):
                steps, line = curve.index.get_level_values("step"), "--" if kind == "I" else "-"
                label = f"{kind} omega {omega}"
                axis.plot(steps, curve, line, marker=".", label=label, linewidth=0.8)
            axis.set_ylabel(column)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(True, which="both", linewidth=0.3)
        if axis.lines:
            axis.legend(fontsize=7)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=80)
