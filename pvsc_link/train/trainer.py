"""A run from its first step to its last, however often it is stopped on the way.

Checkpoints survive a kill at any moment: they are written atomically, never hold a value that is
not finite, and the one before the last is kept. A resumed run takes the same steps as one that
was never stopped. A run whose steps are not finite returns to its last checkpoint.
"""

import json
import logging
import os
import signal
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

from pvsc_link.storage import (
    atomic_file,
    exclusive,
    read_arrays,
    require_writable,
    write_atomically,
)
from pvsc_link.train.batches import made_ahead
from pvsc_link.train.config import TrainConfig, gop_at, load_run_config
from pvsc_link.train.data import open_cache
from pvsc_link.train.evaluation import (
    EVALUATION_COLUMNS,
    LOSS_COLUMNS,
    WARNINGS,
    Evaluator,
    EventFiles,
    Means,
    Table,
    early_warnings,
    write_picture,
    write_plot,
)
from pvsc_link.train.phase import Phase, enough_memory
from pvsc_link.train.step import host, on_any_host
from pvsc_link.train.weights import WeightStore, load_initial_weights
from pvsc_link.types import InputError

LOG = logging.getLogger(__name__)
LOG_EVERY = 50  # steps per row of history.csv
MAX_SKIPPED = 10  # steps without a finite gradient within one row, before a rollback
MAX_ROLLBACKS = 6
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_META = "__progress__"
_CHECKPOINTS = ("checkpoint.npz", "checkpoint_previous.npz")


@dataclass
class Progress:
    """Where a run stands."""

    phase: int = 0
    step: int = 0  # the next one, counted from 0 in the phase
    salt: int = 0  # part of the seed of a step, changed by a rollback
    rate_factor: float = 1.0  # of the learning rate, halved by a rollback
    rollbacks: int = 0
    seconds: float = 0.0  # spent so far
    rate_sets: dict[str, list[int]] = field(default_factory=dict)  # of the weights of each model


def save_checkpoint(folder: Path, progress: Progress, arrays: dict[str, np.ndarray]) -> bool:
    """Write ``checkpoint.npz``; the last one becomes ``checkpoint_previous.npz``.

    Output: False, with nothing written, if an array holds a value that is not finite.
    """
    if not all(np.isfinite(a).all() for a in arrays.values()):
        return False
    current = folder / "checkpoint.npz"
    with atomic_file(current) as file:
        np.savez(file, **{_META: np.array(json.dumps(asdict(progress)))}, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
        if current.exists():
            current.replace(folder / "checkpoint_previous.npz")
    return True


def load_checkpoint(folder: Path) -> tuple[Progress, dict[str, np.ndarray]] | None:
    """The last checkpoint that can be read, or None where there is none."""
    for name in _CHECKPOINTS:
        try:
            arrays = read_arrays(folder / name)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            continue
        return Progress(**json.loads(str(arrays.pop(_META)))), arrays
    return None


class Diverged(RuntimeError):
    """A run produces values that are not finite again after every rollback."""


class Trainer:
    """Runs the phases of a config in ``folder``; call ``run`` again to resume.

    Parameters
    ----------
    config : TrainConfig
    folder : Path of the run, on a file system that all hosts share; holds config.yaml,
        checkpoints, history.csv, evaluation.csv, curves.png, events/ (TensorBoard), pictures/ and
        weights/ (averaged weights with the model's config)

    Raises ``InputError`` if ``folder`` holds a checkpoint of another config, or cannot be written.

    Example::

        Trainer(load_train_config("scenarios/train_small.yaml"), Path("runs/train_small")).run()
    """

    def __init__(self, config: TrainConfig, folder: Path):
        self.config, self.folder = config, folder
        #: Where this process writes. Hosts beside host 0 do the same work and write it elsewhere.
        self.records = folder / "hosts" / str(host()) if host() else folder
        _check_config(config, self.records)
        require_writable(self.records)
        self.losses = Table(self.records / "history.csv", LOSS_COLUMNS)
        self.evaluations = Table(self.records / "evaluation.csv", EVALUATION_COLUMNS)
        self.events = EventFiles(self.records / "events", self.losses, self.evaluations)
        self.progress, self.store = Progress(), WeightStore()
        self._warned: set[str] = set()  # what the last row warned of
        self._stop = False
        self._evaluator: Evaluator | None = None

    def run(self) -> bool:
        """Train to the end. Output: False if a SIGTERM or SIGINT stopped it, after a checkpoint.

        Raises ``InputError`` if another process runs in the folder, ``Diverged`` after too many
        rollbacks, ``OSError`` if the run folder cannot be written; the last checkpoint is then
        still there.
        """
        self.cache = open_cache(self.config.data)
        busy = InputError(
            "run folder",
            found=f"{self.folder} in use",
            allowed="a free one",
            remedy="Stop that run.",
        )
        with exclusive(self.records / "lock", if_held=busy):
            _check_config(self.config, self.records)
            arrays = self._resume()
            text = yaml.safe_dump(self.config.model_dump(), sort_keys=False)
            write_atomically(self.records / "config.yaml", text)
            self.events.start()
            previous = {s: signal.signal(s, self._ask_to_stop) for s in _STOP_SIGNALS}
            try:
                while self.progress.phase < len(self.config.phases) and not self._stop:
                    with enough_memory(self.config.phases[self.progress.phase]):
                        self._run_phase(arrays)
                    arrays = {}
            finally:
                self.events.close()
                for number, handler in previous.items():
                    signal.signal(number, handler)
        if self._stop:
            LOG.info("stopped after step %d; the same command goes on from there", self.global_step)
        return not self._stop

    @property
    def global_step(self) -> int:
        """The next step, counted from the start of the run."""
        return self._steps_before(self.progress.phase) + self.progress.step

    def _steps_before(self, phase: int) -> int:
        return sum(p.steps for p in self.config.phases[:phase])

    def _resume(self) -> dict[str, np.ndarray]:
        loaded = load_checkpoint(self.folder)
        if loaded is None:
            if self.config.initial_weights:
                load_initial_weights(self.config.initial_weights, self.config, self.store)
            for table in (self.losses, self.evaluations):
                table.forget_after(-1)
            return {}
        arrays = self._return_to(loaded)
        LOG.info("resumed at step %d", self.global_step)
        return arrays

    def _return_to(
        self, checkpoint: tuple[Progress, dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Take progress and weights of a checkpoint and drop the records of later steps."""
        self.progress, arrays = checkpoint
        self.store.restore(arrays, self.progress.rate_sets)
        self.losses.forget_after(self.global_step)
        self.evaluations.forget_after(self.global_step)
        return arrays

    def _run_phase(self, arrays: dict[str, np.ndarray]) -> None:
        config = self.config.phases[self.progress.phase]
        # Only the initial values of fresh weights follow from this seed.
        keras.utils.set_random_seed(self.config.seed + self.progress.phase)
        phase = Phase(self.config, config, self.store, self.cache)
        if self.progress.step:
            phase.restore(arrays)
        else:
            self.store.usage.pop(phase.learns, None)
            self._evaluate(phase)
            self._checkpoint(phase)
        LOG.info("phase %s: %d weights learn", config.name, sum(phase.groups[0].sizes))
        while self.progress.step < config.steps and not self._stop:
            if not self._run_until_rollback(phase):
                self._roll_back(phase)
        if not self._stop:
            phase.finish()
            self.progress.phase, self.progress.step = self.progress.phase + 1, 0
            self._save({})

    def _run_until_rollback(self, phase: Phase) -> bool:
        """Steps until the end of the phase or a signal (True), or until they are not finite."""
        config, progress = phase.phase, self.progress
        maker = phase.batches(self.cache, self._steps_before(progress.phase))
        salt = progress.salt
        means, skipped, pace = Means(), 0, _Pace(self)
        ahead = made_ahead(
            lambda step: maker.make(step, salt),
            progress.step,
            config.steps,
            threads=self.config.data.threads,
        )
        with closing(ahead):
            for batch in pace.timed(ahead):
                if on_any_host(self._stop):
                    self._stop = True
                    break
                batch["learning_rate"] = np.float32(batch["learning_rate"] * progress.rate_factor)
                terms = phase.step(batch)
                self._count_usage(phase.learns, terms)
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
                if on_any_host(pace.checkpoint_due()):
                    self._checkpoint(phase)
        self._checkpoint(phase)
        return True

    def _roll_back(self, phase: Phase) -> None:
        loaded = load_checkpoint(self.folder)
        count = self.progress.rollbacks + 1
        if loaded is None or count > MAX_ROLLBACKS:
            raise Diverged(f"{count} rollbacks by step {self.global_step}; lower learning_rate")
        factor = self.progress.rate_factor
        phase.restore(self._return_to(loaded))
        self.events.start()
        self.progress.rollbacks = self.progress.salt = count
        self.progress.rate_factor = 0.5 * factor
        LOG.warning("rolled back to step %d, learning rate halved", self.global_step)

    def _log(self, means: Means, pace: "_Pace") -> None:
        config = self.config.phases[self.progress.phase]
        self.progress.seconds += pace.lap()
        row: dict[str, Any] = {
            "step": self.global_step,
            "phase": config.name,
            "phase_step": self.progress.step,
            "gop": gop_at(config, self.progress.step - 1),
            "seconds": round(self.progress.seconds, 1),
            "waited": pace.waited(),
            **means.take(),
        }
        found = early_warnings(row)
        row["warnings"] = " ".join(found)
        self.losses.append([row])
        self.events.add(row)
        LOG.info("%s", pace.line(row))
        for word in found:
            if word not in self._warned:
                LOG.warning("%s in phase %s: %s", word, config.name, WARNINGS[word])
        self._warned = set(found)

    def _count_usage(self, kind: str, terms: dict[str, Any]) -> None:
        if "usage" in terms:
            total = self.store.usage.get(kind, 0.0)
            self.store.usage[kind] = total + np.asarray(terms["usage"], np.float64)

    def _checkpoint(self, phase: Phase) -> None:
        phase.keep()
        if self._save(phase.state()):
            phase.save_averaged(self.records / "weights")
            write_plot(self.losses, self.evaluations, self.records / "curves.png")

    def _save(self, state: dict[str, np.ndarray]) -> bool:
        self.progress.rate_sets = {k: list(r) for k, r in self.store.rate_sets.items()}
        saved = save_checkpoint(self.records, self.progress, {**self.store.arrays(), **state})
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
                settings, omega, phase.intra, phase.inter, phase.phase.channel, phase.phase.rate
            )
        place = {"step": self.global_step, "phase": phase.phase.name}
        pictures: dict[str, list[np.ndarray]] = {}
        with phase.groups[0].averaged():
            for row, original, shown in self._evaluator.rows():
                self.evaluations.append([{**place, **row}])
                self.events.add({**place, **row})
                if row["frame_kind"] == "I":
                    pictures.setdefault(row["clip"], [original]).append(shown)
        for clip, side in pictures.items():
            path = self.records / "pictures" / f"{Path(clip).stem}_{self.global_step:07d}.png"
            write_picture(path, side)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if not self._stop:  # a log is not written from a signal handler
            os.write(2, b"stopping behind this step or evaluation, with a checkpoint\n")
        self._stop = True


class _Pace:
    """Clocks of a phase, and the line that reports its progress."""

    def __init__(self, trainer: Trainer):
        self.trainer, self._first = trainer, trainer.global_step
        self._started = self._lap = self._saved = self._told = time.monotonic()
        self._waited = 0.0

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self._lap = self._lap, time.monotonic()
        return self._lap - before

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches; how long each is waited for is added up."""
        while True:
            start = time.monotonic()
            batch = next(batches, None)
            self._waited += time.monotonic() - start
            if batch is None:
                return
            yield batch

    def waited(self) -> float:
        """Share of the time since the last call in which steps waited for their batch."""
        before, self._told = self._told, time.monotonic()
        seconds, self._waited = self._waited, 0.0
        return round(seconds / max(1e-9, self._told - before), 4)

    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is ``checkpoint_minutes`` old; if so, another follows."""
        due = time.monotonic() - self._saved > 60 * self.trainer.config.checkpoint_minutes
        if due:
            self._saved = time.monotonic()
        return due

    def line(self, row: dict[str, Any]) -> str:
        """Place, main terms, seconds per step and hours left."""
        step, total = row["step"], sum(p.steps for p in self.trainer.config.phases)
        per_step = (time.monotonic() - self._started) / max(1, step - self._first)
        terms = ("loss", "rec_ideal", "rec_rx", "per_ideal", "per_rx", "bpp_y", "bpp_z", "norm")
        words = " ".join(f"{t} {row[t]:.4g}" for t in terms if t in row)
        left = f"{per_step:.3f} s/step, {per_step * (total - step) / 3600:.1f} h left"
        return f"{row['phase']} {row['phase_step']} ({step}/{total}) {words} | {left}"


#: Keys that may change in a run that goes on: the weights do not depend on them.
_FREE = ("data.threads", "data.cache", "checkpoint_minutes", "evaluation")


def _check_config(config: TrainConfig, folder: Path) -> None:
    """Raises ``InputError`` if ``folder`` has a checkpoint of a run with other weights."""
    if not _has_begun(folder):
        return
    if not (folder / "config.yaml").exists():
        raise InputError(
            f"run folder {folder}",
            found="a checkpoint without config.yaml",
            allowed="a checkpoint with the config.yaml of its run, or neither",
            remedy="Copy the whole folder of that run, or choose another --folder.",
        )
    before, asked = _differences(load_run_config(folder).model_dump(), config.model_dump())
    keys = [key for key in before | asked if not key.startswith(_FREE)]
    if keys:
        raise InputError(
            f"keys that differ from those of the run in {folder}",
            found={key: asked.get(key) for key in keys},
            allowed={key: before.get(key) for key in keys},
            remedy="To go on with that run, set them back. For another run, choose another name or "
            "--folder; initial_weights starts it from the weights of that one.",
        )


def _has_begun(folder: Path) -> bool:
    """Whether a run has a checkpoint, without which it has nothing to lose."""
    return any((folder / name).exists() for name in _CHECKPOINTS)


def _differences(before: Any, asked: Any, place: str = "") -> tuple[dict, dict]:
    """The values of two configs that differ, by key."""
    keys: list[Any]
    if before == asked:
        return {}, {}
    if isinstance(before, dict) and isinstance(asked, dict):
        keys = list(before | asked)
        values = [(before.get(key), asked.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(asked, list) and len(before) == len(asked):
        keys, values = list(range(len(before))), list(zip(before, asked, strict=True))
    else:
        return {place: before}, {place: asked}
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for key, pair in zip(keys, values, strict=True):
        more = _differences(*pair, f"{place}.{key}" if place else str(key))
        old, new = old | more[0], new | more[1]
    return old, new
