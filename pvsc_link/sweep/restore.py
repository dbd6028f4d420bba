"""Rows of a finished sweep back from its tables, where ``points.sqlite`` is gone.

A repository keeps ``points.csv``, ``mcs_neighbours.csv`` and ``manifest.json``, not the database:
with ``--restore`` a sweep in a fresh clone runs only the points that these do not have, such as
those of new weights, whose identity is part of a point.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.sweep.store import SweepStore, read_points
from pvsc_link.types import InputError

_TABLES = ("points.csv", "mcs_neighbours.csv")
_INTEGERS = (
    "gop rate coherence_length mcs seed num_frames num_blocks num_block_errors frames_lost num_iter"
).split()


def restore(folder: Path, *, version: str) -> int:
    """Make ``points.sqlite`` out of the tables in ``folder``; returns the number of rows.

    A database that is there already is left as it is (0 rows).
    Raises ``InputError`` where there are no tables, or another ``version`` of the package made
    them.
    """
    if (folder / "points.sqlite").exists():
        return 0
    missing = [n for n in ("points.csv", "manifest.json") if not (folder / n).is_file()]
    if missing:
        raise InputError(
            f"nothing to restore in {folder}",
            found=f"no {' and no '.join(missing)}",
            allowed="the tables and the manifest of a finished sweep",
            remedy="Leave --restore out.",
        )
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["pvsc_link"] != version:
        raise InputError(
            f"tables in {folder} of another version",
            found=manifest["pvsc_link"],
            allowed=version,
            remedy="Leave --restore out: everything runs anew.",
        )
    rows = [row for name in _TABLES if (folder / name).is_file() for row in _rows(folder, name)]
    store = SweepStore(folder, version=version)
    facts = manifest["mcs_choice"] | {
        key: manifest[key] for key in ("codec_commands", "seconds_by_stage")
    }
    for key, value in facts.items():
        store.set_fact(key, value)
    store.add(rows)
    store.close()
    return len(rows)


def _rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """Rows as a sweep stored them: integers whole, nothing where a cell is empty."""
    return [
        {key: _cell(key, value) for key, value in row.items() if not _is_empty(value)}
        | {key: None for key in ("csi_nmse_db", "coherence_length") if _is_empty(row[key])}
        for row in read_points(folder, table).to_dict("records")
    ]


def _cell(column: str, value: Any) -> Any:
    return int(value) if column in _INTEGERS else value


def _is_empty(value: Any) -> bool:
    return not isinstance(value, str) and bool(pd.isna(value))
