"""YAML file -> Scenario, with every error said in the user's words."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from pvsc_link.options import StrictModel
from pvsc_link.scenario.schema import Scenario
from pvsc_link.types import InputError

Strict = TypeVar("Strict", bound=StrictModel)


def load_scenario(path: str | Path) -> Scenario:
    """Read and validate a scenario file.

    Raises ``InputError`` for a missing file, broken YAML, an unknown key (with the nearest
    name), a wrong type or a value out of range.
    """
    return parse_scenario(read_yaml(path), where=Path(path).name)


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds. Raises ``InputError`` for a missing file and for broken YAML."""
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise InputError(
            "scenario file is missing",
            found=str(path),
            allowed=near or "a YAML file",
            remedy="Check the path.",
        )
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path.name} is not YAML",
            found=str(error).replace("\n", " "),
            allowed="a YAML mapping",
            remedy="Mend the line named.",
        ) from error


def parse_scenario(data: Any, *, where: str = "scenario") -> Scenario:
    """Validate a mapping as ``load_scenario`` does; for notebooks and tests."""
    return validated(data, Scenario, where, "scenarios/quickstart.yaml")


def validated(data: Any, model: type[Strict], where: str, example: str) -> Strict:
    """``data`` as a ``model``, every error as ``InputError`` in the user's words.

    Parameters: ``where`` : the file, for messages; ``example`` : a file to start from.
    """
    if not isinstance(data, dict):
        raise InputError(
            f"{where} is not a mapping",
            found=type(data).__name__,
            allowed="keys " + ", ".join(model.model_fields),
            remedy=f"Start from {example}.",
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _said_plainly(error, where) from error


def _said_plainly(error: ValidationError, where: str) -> InputError:
    """The first of pydantic's errors, as what / found / allowed / remedy."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if not str(part).endswith("]"))
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return InputError(
        f"{where}: {place}",
        found=first.get("input"),
        allowed=first["msg"][0].lower() + first["msg"][1:],
        remedy=f"Correct {place} in {where}{more}.",
    )
