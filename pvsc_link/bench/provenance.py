"""Where a committed benchmark file came from: command, code, versions, machine."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pvsc_link.sweep.tables import git_commit, machine, package_versions


def write_manifest(result: Path, command: Sequence[str]) -> Path:
    """Write the facts of a benchmark beside ``result``, as ``<stem>.manifest.json``; its path.

    The load average matters for the times: a busy machine shares its cores.
    """
    path = result.with_name(f"{result.stem}.manifest.json")
    facts = {
        "file": result.name,
        "command": "python -m pvsc_link.bench " + " ".join(command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "packages": package_versions(),
        "machine": machine(),
        "load_average": list(os.getloadavg()),
    }
    path.write_text(json.dumps(facts, indent=1) + "\n")
    return path
