"""Weights of a model to and from ``.weights.h5``, the same file under every Keras backend.

The I-frame and P-frame model of a preset with their trained weights, or said to have none.
"""

import functools
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras import ops

from pvsc_link.models.pvsc.config import PRESETS
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.types import InputError

SUFFIX = ".weights.h5"


def save_weights(model: keras.Model, path: str | Path) -> None:
    """Write all weights of ``model`` to ``path``. Raises ``InputError`` for another suffix."""
    model.save_weights(_checked(path), overwrite=True)


def load_weights(model: keras.Model, path: str | Path) -> None:
    """Read all weights of ``model`` from ``path``, all or nothing.

    Raises ``InputError`` for a missing file, another suffix, weights of another preset, or
    weights that are not finite; the model then keeps the weights it had.
    """
    path = _checked(path)
    if not path.is_file():
        raise InputError(
            "weights file missing", found=str(path), allowed="an existing file", remedy="Train one."
        )
    before = model.get_weights()
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        model.set_weights(before)
        raise _mismatch(model, path, str(error).splitlines()[0]) from error
    if not all(ops.convert_to_numpy(ops.all(ops.isfinite(w))) for w in model.trainable_weights):
        model.set_weights(before)
        raise _mismatch(model, path, "NaN or infinite weights")


def _mismatch(model: keras.Model, path: Path, found: str) -> InputError:
    return InputError(
        f"weights in {path.name} do not fit the model",
        found=found,
        allowed=f"weights saved from {type(model).__name__} with preset {model.config.name}",
        remedy="Build the model with the preset that the file was saved with.",
    )


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise InputError(
            "weights file name", found=path.name, allowed=f"*{SUFFIX}", remedy="Rename it."
        )
    return path


#: Weights that come with the package: ``<preset>.weights.h5`` and ``<preset>_intra.weights.h5``;
#: of the learned codec ``<preset>_lvc_l1.weights.h5`` and so on.
PACKAGED = Path(__file__).parent / "weights"
#: Folder in a training run with its weights as they would be shipped (``train.ablation``).
RELEASED = "released"
UNTRAINED = "untrained"
_SEED = 1


@dataclass(frozen=True)
class WeightFiles:
    """Where the weights of a pair of models are; ``None``: there are none."""

    intra: Path | None
    inter: Path | None

    @property
    def identity(self) -> str:
        """``untrained``, or 12 hex digits of the SHA-256 of both files and the configs beside them.

        A config belongs to it: another rate set or eta with the same weights is another model.
        """
        if self.intra is None or self.inter is None:
            return UNTRAINED
        digest = hashlib.sha256()
        for path in (self.intra, self.inter):
            digest.update(path.read_bytes())
            if (config := _config_file(path)).is_file():
                digest.update(config.read_bytes())
        return digest.hexdigest()[:12]


def find_weights(
    preset: str, folder: str | None = None, training: str | None = None
) -> WeightFiles:
    """The files of a preset: in the package, or in the ``weights/`` folder of a training run.

    A training run names them ``intra`` and ``inter``. ``training`` : another training of the
    preset than PVSC's own, whose files in the package have it behind the preset's name; without
    it ``folder`` may name one of ``packaged_trainings``.
    Raises ``InputError`` for an unknown preset, and for a folder that lacks one of the two files.
    """
    check_preset(preset)
    if training is None and folder in packaged_trainings(preset):
        folder, training = None, folder
    name = f"{preset}_{training}" if training else preset
    place = PACKAGED if folder is None else Path(folder).expanduser()
    intra = first_file(place / f"{name}_intra{SUFFIX}", place / f"intra{SUFFIX}")
    inter = first_file(place / f"{name}{SUFFIX}", place / f"inter{SUFFIX}")
    if folder is not None and (intra is None or inter is None):
        raise InputError(
            "weights",
            found=folder,
            allowed=f"a folder with intra{SUFFIX} and inter{SUFFIX}, or in the package one of "
            f"{packaged_trainings(preset)}",
            remedy="Name the weights folder of a training run, or leave the key out.",
        )
    return WeightFiles(intra, inter) if intra and inter else WeightFiles(None, None)


def packaged_trainings(preset: str) -> list[str]:
    """Trainings of a preset besides its own whose weights are in the package."""
    models = (path.name.removesuffix(SUFFIX) for path in PACKAGED.glob(f"{preset}_*{SUFFIX}"))
    endings = sorted(name.removeprefix(f"{preset}_") for name in models)
    return [ending for ending in endings if ending.split("_")[-1] != "intra"]


def run_label(folder: str | None) -> str:
    """What a curve with the weights of ``folder`` is called, to go behind its variant.

    The name of the training run, or of a training in the package; empty for the preset's own.
    """
    if folder is None:
        return ""
    place = Path(folder).expanduser().resolve()
    within = place.name in ("weights", RELEASED)
    return f", weights {place.parent.name if within else place.name}"


def check_preset(preset: str) -> None:
    """Raises ``InputError`` unless ``preset`` is a P-frame preset whose I-frame preset exists."""
    allowed = [name for name, config in PRESETS.items() if not config.intra]
    if preset not in allowed:
        raise InputError("preset", found=preset, allowed=allowed, remedy="Name one of these.")


@functools.lru_cache(maxsize=4)
def load_models(preset: str, files: WeightFiles) -> tuple[IntraModel, PvscModel]:
    """The models of a preset, built once per process; without files from a fixed start.

    Raises ``InputError`` for weights that do not fit.
    """
    intra = load_model(IntraModel, PRESETS[f"{preset}_intra"], files.intra)
    return intra, load_model(PvscModel, PRESETS[preset], files.inter)


def num_quality_presets(preset: str, files: WeightFiles) -> int:
    """Quality presets of the weights; without files, of the preset."""
    pairs = ((PRESETS[f"{preset}_intra"], files.intra), (PRESETS[preset], files.inter))
    return min(_config(config, path).num_omega for config, path in pairs)


def load_model(kind: Callable[[Any], Any], preset: Any, path: Path | None) -> Any:
    """One model with the weights of ``path``; without, from the fixed start.

    Parameters: ``kind`` : class of the model; ``preset`` : its config, unless ``path`` has another
    beside it. Raises ``InputError`` for weights that do not fit.
    """
    with _fixed_start():
        model = kind(_config(preset, path))
    if path is not None:
        load_weights(model, path)
    return model


def _config(preset: Any, path: Path | None) -> Any:
    """The preset; or what a training run wrote beside its weights, e.g. a distilled rate set."""
    if path is None or not (beside := _config_file(path)).is_file():
        return preset
    return type(preset).from_dict(json.loads(beside.read_text(encoding="utf-8")))


def _config_file(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + ".json")


@contextmanager
def _fixed_start() -> Iterator[None]:
    """Initial weights that are the same in every process.

    Keras takes the seed of an initializer that has none from Python's generator, whose state is
    put back: nothing global stays changed.
    """
    state = random.getstate()
    random.seed(_SEED)
    try:
        yield
    finally:
        random.setstate(state)


def first_file(*paths: Path) -> Path | None:
    """The first of the paths that is a file."""
    return next((path for path in paths if path.is_file()), None)
