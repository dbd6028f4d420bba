"""Results on disk: SQLite while a sweep runs, CSV tables when it ends.

Rows of a finished sweep back from its tables, where ``points.sqlite`` is gone.

A repository keeps ``points.csv``, ``mcs_neighbours.csv`` and ``manifest.json``, not the database:
with ``--restore`` a sweep in a fresh clone runs only the points that these do not have, such as
those of new weights, whose identity is part of a point.
"""

import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.types import InputError

#: Columns of ``points.csv`` in order; a scheme's own columns follow.
POINT_COLUMNS = (
    "point_id scheme variant clip gop rate channel snr_db csi_nmse_db coherence_length equalizer "
    "csi_aware mcs mcs_policy mcs_role seed num_frames cbr cbr_source cbr_side psnr_db lpips dists "
    "bler num_blocks num_block_errors frames_lost status seconds decoder num_iter note"
).split()

_SCHEMA = """
CREATE TABLE IF NOT EXISTS points (point_id TEXT PRIMARY KEY, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class SweepStore:
    """Finished rows and the facts behind them; a row is there whole or not at all.

    ``facts`` holds what later rows must find unchanged after a restart: the MCS chosen for a
    channel condition, the package version.
    """

    def __init__(self, folder: Path, *, version: str, fresh: bool = False):
        """Open or make the store; ``fresh`` forgets what it held.

        Raises ``InputError`` if the rows in it were made by another ``version``: a table never
        mixes two.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "points.sqlite"
        self._db = sqlite3.connect(self.path, timeout=30)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_SCHEMA)
        if fresh:
            with self._db:
                self._db.executescript("DELETE FROM points; DELETE FROM facts;")
        made_by = self.fact("version") or version
        if made_by != version:
            raise InputError(
                f"{self.path} holds rows of another version",
                found=made_by,
                allowed=version,
                remedy="Start again with --fresh, or give another --out.",
            )
        self.set_fact("version", version)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace finished rows (each has ``point_id``), all of them or none."""
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO points VALUES (?, ?)",
                [(row["point_id"], json.dumps(row)) for row in rows],
            )

    def finished(self) -> dict[str, dict[str, Any]]:
        """Every row so far, by ``point_id``."""
        return {key: json.loads(row) for key, row in self._db.execute("SELECT * FROM points")}

    def row(self, point_id: str) -> dict[str, Any] | None:
        """The finished row of a point, or ``None``."""
        query = "SELECT row FROM points WHERE point_id = ?"
        found = self._db.execute(query, (point_id,)).fetchone()
        return json.loads(found[0]) if found else None

    def fact(self, key: str) -> Any:
        """A stored fact, or ``None``."""
        found = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return json.loads(found[0]) if found else None

    def set_fact(self, key: str, value: Any) -> None:
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, json.dumps(value)))

    def facts(self) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in self._db.execute("SELECT * FROM facts")}

    def close(self) -> None:
        self._db.close()


def points_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table with ``POINT_COLUMNS`` first, in the order given."""
    table = pd.DataFrame(list(rows))
    extra = [name for name in table.columns if name not in POINT_COLUMNS]
    return table.reindex(columns=[*POINT_COLUMNS, *extra])


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table so that a reader sees the old file or the new one, never half of one."""
    write_text(table.to_csv(index=False, lineterminator="\n"), path)


def write_text(text: str, path: Path) -> None:
    """Atomic text file (see ``write_csv``)."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def read_points(folder: str | Path, name: str = "points.csv") -> pd.DataFrame:
    """``points.csv`` of a results folder as pandas reads it (missing values are NaN).

    ``name`` : another table of rows, ``mcs_neighbours.csv``. Numbers come back to the last bit.
    """
    table = pd.read_csv(Path(folder) / name, dtype={"point_id": str}, float_precision="round_trip")
    for column in ("variant", "note"):
        table[column] = table[column].fillna("")
    return table


def read_unfinished(folder: str | Path) -> pd.DataFrame:
    """Rows that a sweep has stored so far, while ``points.csv`` is not written yet.

    Reads ``points.sqlite`` without changing it; in the order stored. Raises ``sqlite3.Error`` if
    the file is no database of rows.
    """
    path = Path(folder) / "points.sqlite"
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
    try:
        rows = database.execute("SELECT row FROM points ORDER BY rowid").fetchall()
    finally:
        database.close()
    return points_table(json.loads(row) for (row,) in rows)


def frame_file(folder: str | Path, point_id: str, frame: int) -> Path:
    """Where a shown frame of a point lies, if it was kept: ``frames/<point_id>_<frame>.png``."""
    return Path(folder) / "frames" / f"{point_id}_{frame:04d}.png"


def reference_file(folder: str | Path, clip: str, frame: int) -> Path:
    """Where the source frame of a clip lies: ``frames/reference_<clip>_<frame>.png``.

    Characters of the clip's name other than letters, digits, ``.`` and ``-`` become ``-``.
    """
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", clip)
    return Path(folder) / "frames" / f"reference_{name}_{frame:04d}.png"


_TABLES = ("points.csv", "mcs_neighbours.csv")
_INTEGERS = (
    "gop rate coherence_length mcs seed num_frames num_blocks num_block_errors frames_lost num_iter"
).split()


def restore(folder: Path, *, version: str) -> int:
    """Make ``points.sqlite`` in ``folder`` out of the tables of a finished sweep.

    The tables are those in ``folder``, or else those in ``../reference/<name of folder>``, where
    the repository keeps its results. Returns the number of rows; a database that exists stays as
    it is (0 rows).
    Raises ``InputError`` where there are no tables, or another ``version`` of the package made
    them.
    """
    if (folder / "points.sqlite").exists():
        return 0
    reference = folder.parent / "reference" / folder.name
    source = reference if _missing(folder) and not _missing(reference) else folder
    missing = _missing(source)
    if missing:
        raise InputError(
            f"nothing to restore in {folder}",
            found=f"no {' and no '.join(missing)}",
            allowed="the tables and the manifest of a finished sweep",
            remedy="Leave --restore out.",
        )
    manifest = json.loads((source / "manifest.json").read_text(encoding="utf-8"))
    if manifest["pvsc_link"] != version:
        raise InputError(
            f"tables in {source} of another version",
            found=manifest["pvsc_link"],
            allowed=version,
            remedy="Leave --restore out: everything runs anew.",
        )
    rows = [row for name in _TABLES if (source / name).is_file() for row in _rows(source, name)]
    store = SweepStore(folder, version=version)
    facts = manifest["mcs_choice"] | {
        key: manifest[key] for key in ("codec_commands", "seconds_by_stage")
    }
    for key, value in facts.items():
        store.set_fact(key, value)
    store.add(rows)
    store.close()
    return len(rows)


def _missing(folder: Path) -> list[str]:
    return [name for name in ("points.csv", "manifest.json") if not (folder / name).is_file()]


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
