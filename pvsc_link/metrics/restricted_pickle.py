"""Reading a pickle of plain numpy arrays without letting it run anything else."""

import importlib
import pickle
from pathlib import Path
from typing import Any

# numpy 2 moved its private modules; a pickle written before still names the old place.
_ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a numpy array")
        return getattr(_import_multiarray() if "multiarray" in module else _numpy(), name)


def _numpy() -> Any:
    return importlib.import_module("numpy")


def _import_multiarray() -> Any:
    try:
        return importlib.import_module("numpy._core.multiarray")
    except ModuleNotFoundError:  # numpy 1
        return importlib.import_module("numpy.core.multiarray")


def load_arrays(path: Path) -> Any:
    """The nested dicts, lists and numpy arrays pickled in ``path``.

    Only the three names a numpy array consists of may be looked up.
    Raises ``pickle.UnpicklingError`` at any other name and at a damaged file.
    """
    with path.open("rb") as file:
        try:
            return _ArrayUnpickler(file).load()
        except (EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise pickle.UnpicklingError(f"damaged pickle: {error}") from error
