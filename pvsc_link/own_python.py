"""What runs in a Python of the user's own: where it is stated, and the environment that it gets.

Learned codecs and some metrics need frameworks that this package does not bring. For each of them
an environment variable names a folder, and a file ``pvsc_link.json`` in it states the interpreter
and what else is needed::

    {"python": "/envs/clip/bin/python", "weights": "ViT-B-32.pt"}

Paths in the file are relative to its folder.
"""

import json
import os
import shutil
from pathlib import Path
from typing import TypeVar

from pvsc_link.options import StrictModel, validated
from pvsc_link.types import InputError

SETTINGS_FILE = "pvsc_link.json"
#: Variables that would lead the other Python to modules of this one.
_OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")

Settings = TypeVar("Settings", bound=StrictModel)


def read_settings(folder: Path, model: type[Settings]) -> Settings:
    """The settings file of a folder as a ``model``; the model's defaults where there is no file.

    Raises ``InputError`` for a file that cannot be read, or has keys that the model does not have.
    """
    path = folder / SETTINGS_FILE
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return model()
    except (OSError, ValueError) as error:
        raise InputError(
            str(path), found=str(error), allowed="a JSON object", remedy="Correct the file."
        ) from error
    return validated(content, model, str(path), '{"python": "/path/of/python"}')


def path_below(folder: Path, path: str) -> Path:
    """A path as a settings file of ``folder`` writes it; ``~`` is the user's home."""
    return folder / Path(path).expanduser()


def program_below(folder: Path, word: str | None) -> Path | None:
    """Path of a program as a settings file of ``folder`` names it; a bare name is sought in PATH.

    Links are kept, because the interpreter of a virtual environment is one.
    """
    if word is None:
        return None
    if os.sep not in word:
        return Path(shutil.which(word) or folder / word)
    return path_below(folder, word)


def environment_of_other_python() -> dict[str, str]:
    """The environment of this process without what leads to modules of its own Python."""
    return {key: value for key, value in os.environ.items() if key not in _OF_THIS_PYTHON}
