"""YAML file -> Scenario, with every error said in the user's words."""

from pathlib import Path
from typing import Any

import yaml

from pvsc_link.options import validated
from pvsc_link.scenario.schema import Scenario
from pvsc_link.types import InputError


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
