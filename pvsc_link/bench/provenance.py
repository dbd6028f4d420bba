"""What every benchmark does with its rows: print them, and write them with where they came from."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pvsc_link.storage import write_atomically
from pvsc_link.sweep import git_commit, machine, package_versions


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as an aligned table; numbers have four significant digits."""
    lines = [list(rows[0])]
    lines += [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; numbers have six significant digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def write_manifest(result: Path, command: str | Sequence[str]) -> Path:
    """Write command, code, versions and machine beside ``result``, as ``<stem>.manifest.json``.

    ``command`` : the words after ``python -m pvsc_link.bench``, or a whole command as one text.

    The load average matters for times, because a busy machine shares its cores.
    """
    path = result.with_name(f"{result.stem}.manifest.json")
    facts = {
        "file": result.name,
        "command": command
        if isinstance(command, str)
        else "python -m pvsc_link.bench " + " ".join(command),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "packages": package_versions(),
        "machine": machine(),
        "load_average": list(os.getloadavg()),
    }
    write_atomically(path, json.dumps(facts, indent=1) + "\n")
    return path
