"""``manifest.json``: what exactly ran, so that a table can be traced and made again."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pvsc_link
from pvsc_link.scenario.schema import Scenario
from pvsc_link.sweep.store import write_text

_PACKAGES = (
    "tensorflow keras sionna-no-rt numpy pandas av imageio-ffmpeg bjontegaard constriction numba "
    "pydantic scikit-video pillow"
).split()


def write_manifest(
    path: Path,
    *,
    scenario: Scenario,
    command: str,
    codec_commands: Mapping[str, str],
    facts: Mapping[str, Any],
    seconds: float,
    rows: int,
) -> None:
    """Write the manifest of a sweep: scenario, versions, literal codec options, seeds, machine."""
    manifest = {
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_last_run": round(seconds, 1),
        "rows": rows,
        "pvsc_link": pvsc_link.__version__,
        "git_commit": git_commit(),
        "scenario": json.loads(scenario.model_dump_json()),
        "seeds": list(scenario.seed),
        "codec_commands": dict(codec_commands),
        "seconds_by_stage": facts.get("seconds_by_stage", {}),
        "mcs_choice": {key: value for key, value in facts.items() if key.startswith("mcs_")},
        "packages": package_versions(),
        "machine": machine(),
    }
    write_text(json.dumps(manifest, indent=1) + "\n", path)


def package_versions() -> dict[str, str]:
    """Installed versions of what a number may depend on; absent packages are left out."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores and memory, as far as the system tells."""
    facts: dict[str, Any] = {"system": platform.platform(), "cores": os.cpu_count()}
    for path, key, label in (
        ("/proc/cpuinfo", "model name", "processor"),
        ("/proc/meminfo", "MemTotal", "memory"),
    ):
        lines = Path(path).read_text().splitlines() if Path(path).exists() else []
        found = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
        if found:
            facts[label] = found[0]
    return facts


def git_commit() -> str | None:
    """Commit of the checkout that the package runs from, ``+`` if it has changes; else ``None``."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout.strip()


def command_line() -> str:
    """The command as typed, for the manifest."""
    module = f"python -m {__package__}" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    return " ".join([module, *sys.argv[1:]])
