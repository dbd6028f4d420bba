"""Weights of a model to and from ``.weights.h5``, the same file under every Keras backend."""

from pathlib import Path

import keras
from keras import ops

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
