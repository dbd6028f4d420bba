"""Checkpoints that survive a kill at any moment: atomic, finite, and the one before is kept.

The record of a run: CSV tables of loss terms and of evaluations, and their plot.

A run from its first step to its last, however often it is stopped on the way.
"""

import csv
import fcntl
import json
import logging
import os
import signal
import time
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pvsc_link.train.batches import BatchMaker, Prefetcher
from pvsc_link.train.config import TrainConfig, gop_at
from pvsc_link.train.data import open_cache
from pvsc_link.train.evaluation import Evaluator, write_picture
from pvsc_link.train.phase import Phase, WeightStore
from pvsc_link.train.starts.initial_weights import load_initial_weights
from pvsc_link.types import InputError

_META = "__progress__"


@dataclass
class Progress:
    """Where a run stands.

    phase, step : next step to do, counted from 0 in the phase; salt, rate_factor : changed by a
    rollback; rollbacks : how many there were; seconds : spent so far; rate_sets : of the weights
    of each model.
    """

    phase: int = 0
    step: int = 0
    salt: int = 0
    rate_factor: float = 1.0
    rollbacks: int = 0
    seconds: float = 0.0
    rate_sets: dict[str, list[int]] = field(default_factory=dict)


def save_checkpoint(folder: Path, progress: Progress, arrays: dict[str, np.ndarray]) -> bool:
    """Write ``checkpoint.npz``; the last one becomes ``checkpoint_previous.npz``.

    Output: False, with nothing written, if an array holds a value that is not finite.
    """
    if not all(np.isfinite(a).all() for a in arrays.values()):
        return False
    current, fresh = folder / "checkpoint.npz", folder / "checkpoint.partial"
    with fresh.open("wb") as file:
        np.savez(file, **{_META: np.array(json.dumps(asdict(progress)))}, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    if current.exists():
        current.replace(folder / "checkpoint_previous.npz")
    fresh.replace(current)
    return True


def load_checkpoint(folder: Path) -> tuple[Progress, dict[str, np.ndarray]] | None:
    """The last checkpoint that can be read, or None where there is none."""
    for name in ("checkpoint.npz", "checkpoint_previous.npz"):
        try:
            with np.load(folder / name, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            continue
        return Progress(**json.loads(str(arrays.pop(_META)))), arrays
    return None


_BRANCHES = ("ideal", "tx", "rx")
_TERMS = ("rec", "per", "adv", "latent")
LOSS_COLUMNS = (
    *("step", "phase", "phase_step", "gop", "learning_rate", "seconds", "loss", "rate"),
    *("bpp_y", "bpp_z", *(f"{term}_{branch}" for term in _TERMS for branch in _BRANCHES)),
    *("discriminator", "norm", "skipped"),
)
EVALUATION_COLUMNS = (
    *("step", "phase", "omega_index", "omega", "clip", "frame_kind"),
    *("psnr_db", "lpips", "bpp_y", "bpp_z", "reals_per_pixel"),
)


class Table:
    """A CSV file that grows row by row and is cut back when a run resumes.

    Parameters: ``path``; ``columns`` : header; values that a row lacks stay empty.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns

    def append(self, rows: list[Mapping[str, object]]) -> None:
        """Add rows; the file is closed again at once, so that a kill loses nothing."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)

    def forget_after(self, step: int) -> None:
        """Drop rows of steps after ``step``: they will be made again."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if _complete(row)]
        kept = [row for row in rows if int(row["step"]) <= step]
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(self.path)

    def read(self) -> list[dict[str, str]]:
        """Every row as text."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if _complete(row)]


def _complete(row: dict) -> bool:
    """False for a line that a kill cut short."""
    return None not in row and None not in row.values() and row["step"].isdigit()


class Means:
    """Means of the terms of several steps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self.count = 0

    def add(self, terms: Mapping[str, np.ndarray]) -> None:
        for key, value in terms.items():
            if np.ndim(value) == 0:
                self._sums[key] = self._sums.get(key, 0.0) + float(value)
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means so far; starts anew."""
        means = {key: float(f"{value / self.count:.6g}") for key, value in self._sums.items()}
        self._sums, self.count = {}, 0
        return means


def write_plot(losses: Table, evaluations: Table, path: Path) -> None:
    """Every loss term and the evaluations against the step, as PNG."""
    from matplotlib.figure import Figure

    rows, points = losses.read(), evaluations.read()
    if not rows:
        return
    panels = (
        ("loss",),
        tuple(f"rec_{b}" for b in _BRANCHES),
        tuple(f"per_{b}" for b in _BRANCHES),
        ("rate", "bpp_y", "bpp_z"),
        tuple(f"latent_{b}" for b in _BRANCHES),
        ("discriminator", *(f"adv_{b}" for b in _BRANCHES)),
        ("learning_rate", "norm"),
    )
    figure = Figure(figsize=(15, 10), layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    for axis, names in zip(axes, panels, strict=False):
        _draw_terms(axis, rows, names)
    for axis, column in zip(axes[len(panels) :], ("psnr_db", "lpips"), strict=False):
        _draw_evaluations(axis, points, column)
    partial = path.with_suffix(".partial.png")
    figure.savefig(partial, dpi=80)
    partial.replace(path)


def _draw_terms(axis, rows: list[dict[str, str]], names: tuple[str, ...]) -> None:
    for name in names:
        pairs = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
        if pairs:
            axis.plot(*zip(*pairs, strict=True), label=name, linewidth=0.8)
    if axis.lines:
        values = np.concatenate([line.get_ydata() for line in axis.lines])
        axis.set_yscale("log" if (values > 0).all() and np.ptp(values) > 0 else "linear")
        axis.legend(fontsize=7, loc="upper right")
    axis.set_xlabel("step")
    axis.grid(True, which="both", linewidth=0.3)


def _draw_evaluations(axis, points: list[dict[str, str]], column: str) -> None:
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for point in points:
        key = (point["omega"], point["frame_kind"])
        curves.setdefault(key, {}).setdefault(int(point["step"]), []).append(float(point[column]))
    for (omega, kind), values in sorted(curves.items()):
        steps = sorted(values)
        line = "--" if kind == "I" else "-"
        means = [np.mean(values[s]) for s in steps]
        axis.plot(steps, means, line, marker=".", label=f"{kind} omega {omega}", linewidth=0.8)
    if axis.lines:
        axis.legend(fontsize=6, ncols=2, loc="upper left")
    axis.set_xlabel("step")
    axis.set_ylabel(column)
    axis.grid(True, linewidth=0.3)


LOG = logging.getLogger(__name__)
LOG_EVERY = 50  # steps per row of history.csv
MAX_SKIPPED = 10  # steps without a finite gradient, in a row of the table, before a rollback
MAX_ROLLBACKS = 6


class Diverged(RuntimeError):
    """The run keeps producing values that are not finite, however far it is rolled back."""


class Trainer:
    """Runs the phases of a config in ``folder``; call ``run`` again to resume.

    Parameters
    ----------
    config : TrainConfig
    folder : run folder; holds config.yaml, checkpoints, history.csv, evaluation.csv, curves.png,
        pictures/ and weights/ (averaged weights with the model's config)

    Raises ``InputError`` where ``folder`` holds a run of another config, or one that is running.
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self.config, self.folder = config, folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        _pin_config(config, folder)
        self.losses = Table(folder / "history.csv", LOSS_COLUMNS)
        self.evaluations = Table(folder / "evaluation.csv", EVALUATION_COLUMNS)
        self.progress, self.store = Progress(), WeightStore()
        self._stop = False
        self._evaluator: Evaluator | None = None

    def run(self) -> bool:
        """Train to the end. Output: False if a SIGTERM or SIGINT stopped it, after a checkpoint."""
        self.cache = open_cache(self.config.data)
        arrays = self._resume()
        previous = {s: signal.signal(s, self._ask_to_stop) for s in _STOP_SIGNALS}
        try:
            while self.progress.phase < len(self.config.phases) and not self._stop:
                self._run_phase(arrays)
                arrays = {}
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return not self._stop

    @property
    def global_step(self) -> int:
        return self._steps_before(self.progress.phase) + self.progress.step

    def _steps_before(self, phase: int) -> int:
        return sum(p.steps for p in self.config.phases[:phase])

    def _resume(self) -> dict[str, np.ndarray]:
        loaded = load_checkpoint(self.folder)
        if loaded is None:
            if self.config.initial_weights:
                load_initial_weights(self.config.initial_weights, self.config, self.store)
            return {}
        self.progress, arrays = loaded
        self.store.restore(arrays, self.progress.rate_sets)
        self.losses.forget_after(self.global_step)
        self.evaluations.forget_after(self.global_step)
        LOG.info("resumed at step %d", self.global_step)
        return arrays

    def _run_phase(self, arrays: dict[str, np.ndarray]) -> None:
        config = self.config.phases[self.progress.phase]
        _seed_everything(self.config.seed + self.progress.phase)
        phase = Phase(self.config, config, self.store, self.cache)
        if self.progress.step:
            phase.restore(arrays)
        else:
            self.store.usage.pop(config.model, None)
            self._evaluate(phase)
            self._checkpoint(phase)
        LOG.info("phase %s: %d weights learn", config.name, sum(phase.groups[0].sizes))
        while self.progress.step < config.steps and not self._stop:
            if not self._run_until_rollback(phase):
                self._roll_back(phase)
        if not self._stop:
            phase.save_averaged(self.folder / "weights")
            phase.finish()
            self.progress.phase, self.progress.step = self.progress.phase + 1, 0
            self._save({})

    def _run_until_rollback(self, phase: Phase) -> bool:
        """Steps until the end of the phase or a signal (True), or until they are not finite."""
        config, progress = phase.phase, self.progress
        fixed = None if phase.inter is None else phase.intra.config
        first = self._steps_before(progress.phase)
        maker = BatchMaker(self.config, config, phase.model.config, fixed, self.cache, first)
        salt = progress.salt
        prefetcher = Prefetcher(lambda s: maker.make(s, salt), progress.step, config.steps)
        means, skipped, pace = Means(), 0, _Pace(self)
        try:
            while progress.step < config.steps and not self._stop:
                batch = prefetcher.next()
                batch["learning_rate"] = np.float32(batch["learning_rate"] * progress.rate_factor)
                terms = phase.step(batch)
                self._count_usage(config.model, terms)
                skipped += int(terms["skipped"] > 0)
                if skipped > MAX_SKIPPED:
                    return False
                means.add({**terms, "learning_rate": batch["learning_rate"]})
                progress.step += 1
                if progress.step % LOG_EVERY == 0 or progress.step == config.steps:
                    self._log(means, pace)
                    skipped = 0
                if progress.step % self.config.evaluation.every == 0:
                    self._evaluate(phase)
                if pace.checkpoint_due() or progress.step == config.steps:
                    self._checkpoint(phase)
            self._checkpoint(phase)
        finally:
            prefetcher.close()
        return True

    def _roll_back(self, phase: Phase) -> None:
        loaded = load_checkpoint(self.folder)
        count = self.progress.rollbacks + 1
        if loaded is None or count > MAX_ROLLBACKS:
            raise Diverged(f"{count} rollbacks by step {self.global_step}; lower learning_rate")
        factor = self.progress.rate_factor
        self.progress, arrays = loaded
        self.progress.rollbacks = self.progress.salt = count
        self.progress.rate_factor = 0.5 * factor
        self.store.restore(arrays, self.progress.rate_sets)
        phase.restore(arrays)
        self.losses.forget_after(self.global_step)
        self.evaluations.forget_after(self.global_step)
        LOG.warning("rolled back to step %d, learning rate halved", self.global_step)

    def _log(self, means: Means, pace: "_Pace") -> None:
        config = self.config.phases[self.progress.phase]
        self.progress.seconds += pace.lap()
        row = {
            "step": self.global_step,
            "phase": config.name,
            "phase_step": self.progress.step,
            "gop": gop_at(config, self.progress.step - 1),
            "seconds": round(self.progress.seconds, 1),
            **means.take(),
        }
        self.losses.append([row])
        LOG.info("%s", pace.line(row))

    def _count_usage(self, kind: str, terms: dict[str, Any]) -> None:
        if "usage" in terms:
            total = self.store.usage.get(kind, 0.0)
            self.store.usage[kind] = total + np.asarray(terms["usage"], np.float64)

    def _checkpoint(self, phase: Phase) -> None:
        phase.keep()
        if self._save(phase.state()):
            phase.save_averaged(self.folder / "weights")
            write_plot(self.losses, self.evaluations, self.folder / "curves.png")

    def _save(self, state: dict[str, np.ndarray]) -> bool:
        self.progress.rate_sets = {k: list(r) for k, r in self.store.rate_sets.items()}
        saved = save_checkpoint(self.folder, self.progress, {**self.store.arrays(), **state})
        if not saved:
            LOG.warning("step %d holds values that are not finite: not saved", self.global_step)
        return saved

    def _evaluate(self, phase: Phase) -> None:
        settings = self.config.evaluation
        if not settings.clips:
            return
        if self._evaluator is None or self._evaluator.intra is not phase.intra:
            omega = self.config.omega_of("intra"), self.config.omega_of("inter")
            self._evaluator = Evaluator(
                settings, omega, phase.intra, phase.inter, phase.phase.channel
            )
        place = {"step": self.global_step, "phase": phase.phase.name}
        pictures: dict[str, list[np.ndarray]] = {}
        with phase.groups[0].averaged():
            for row, original, shown in self._evaluator.rows():
                self.evaluations.append([{**place, **row}])
                if row["frame_kind"] == "I":
                    pictures.setdefault(row["clip"], [original]).append(shown)
        for clip, side in pictures.items() if settings.pictures else ():
            path = self.folder / "pictures" / f"{Path(clip).stem}_{self.global_step:07d}.png"
            write_picture(path, side)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self._stop = True


class _Pace:
    """Clocks of a phase: steps per second, time left, time since the last checkpoint."""

    def __init__(self, trainer: Trainer):
        self.trainer, self._started = trainer, time.monotonic()
        self._lap = self._saved = self._started
        self._first = trainer.global_step

    def lap(self) -> float:
        now = time.monotonic()
        seconds, self._lap = now - self._lap, now
        return seconds

    def checkpoint_due(self) -> bool:
        now = time.monotonic()
        due = now - self._saved > 60 * self.trainer.config.checkpoint_minutes
        if due:
            self._saved = now
        return due

    def line(self, row: dict[str, Any]) -> str:
        done = self.trainer.global_step - self._first
        per_step = (time.monotonic() - self._started) / max(1, done)
        total = sum(p.steps for p in self.trainer.config.phases)
        left = per_step * (total - self.trainer.global_step) / 3600
        terms = ("loss", "rec_ideal", "rec_rx", "per_ideal", "per_rx", "bpp_y", "bpp_z", "norm")
        words = " ".join(f"{t} {row[t]:.4g}" for t in terms if t in row)
        share = f"{row['phase']} {row['phase_step']} ({row['step']}/{total})"
        return f"{share} {words} | {per_step:.3f} s/step, {left:.1f} h left"


_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _seed_everything(seed: int) -> None:
    """Initial values of fresh weights; everything else is drawn from the step."""
    import keras

    keras.utils.set_random_seed(seed)


def _locked(folder: Path) -> Any:
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise InputError(
            "run folder", found=f"{folder} in use", allowed="a free one", remedy="Stop that run."
        ) from error
    return file


def _pin_config(config: TrainConfig, folder: Path) -> None:
    path, text = folder / "config.yaml", yaml.safe_dump(config.model_dump(), sort_keys=False)
    if path.exists() and path.read_text() != text:
        raise InputError(
            "run folder of another config",
            found=str(path),
            allowed="the config that the run was started with",
            remedy="Choose another name or --folder; initial_weights: goes on from old weights.",
        )
    path.write_text(text)
