"""Checkpoints that survive a kill at any moment: atomic, finite, and the one before is kept."""

import json
import os
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

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
