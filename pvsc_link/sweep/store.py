"""Results on disk: SQLite while a sweep runs, CSV tables when it ends.

The database lies beside the tables while they are worked on; a repository keeps the tables and the
manifest only. ``restore`` makes the database again out of them, so that a sweep in a fresh clone
runs only the points that the tables do not have, such as those of new weights.
"""

import json
import math
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from pvsc_link.link import Transport, link_fields, packet_fields
from pvsc_link.metrics import METRICS
from pvsc_link.options import kinds_of
from pvsc_link.schemes import scheme_types
from pvsc_link.storage import digest, file_system, is_shared, write_atomically
from pvsc_link.types import InputError

#: Version of the rules by which rows are made: transport, what is counted, what is lost. A change
#: of these rules raises it, so that rows of two rules never stand in one table.
RULES = 2


def point_columns() -> list[str]:
    """Columns of ``points.csv`` in order; a scheme's own columns follow."""
    return [
        *("point_id", "scheme", "variant", "clip", "gop", "rate"),
        *("channel", "snr_db", *link_fields()),
        *(
            "equalizer",
            "csi_aware",
            "mcs",
            "mcs_mean",
            "mcs_policy",
            "mcs_role",
            "seed",
            "num_frames",
        ),
        *("cbr", "cbr_source", "cbr_side", "cbr_pilot", "cbr_headers"),
        *("csi_nmse_measured_db", "snr_equalized_db", "papr_db"),
        *(metric.column for metric in METRICS.values()),
        *("bler", "num_blocks", "num_block_errors", "num_fades"),
        *("frames_lost", "frames_concealed", "freeze_events"),
        *("latency_ms_p50", "latency_ms_p95", "latency_ms_max", "deadline_misses"),
        *("status", "seconds"),
        *("decoder", "num_iter", "note"),
    ]


#: Key of a stored row under which the numbers of its GOPs stand.
GOPS = "gops"
#: Why a row has its MCS: the scenario gave it, the rule chose it, or it is next to the chosen one.
GIVEN, CHOSEN, NEIGHBOUR = "given", "chosen", "neighbour"
#: Block error rate above which a chosen MCS, and what it shows, is said to be mostly lost.
MOSTLY_LOST = 0.5


def gop_columns() -> list[str]:
    """Columns of ``gops.csv`` in order."""
    metrics = (metric.column for metric in METRICS.values())
    losses = ["frames_lost", "frames_concealed", "latency_ms_max"]
    return ["point_id", "gop_index", "channel_uses", *metrics, *losses]


_SCHEMA = """
CREATE TABLE IF NOT EXISTS points (point_id TEXT PRIMARY KEY, row TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


#: A change of a store: what is done, and what with. See :meth:`SweepStore.apply`.
Change: TypeAlias = tuple


def _maker(version: object, rules: object = RULES) -> str:
    """What all rows of a store share: version of the package and of the rules."""
    return f"{version}, rules {rules}"


class SweepStore:
    """Finished rows and facts about them; a row is there whole or not at all.

    A fact is what later rows must find unchanged after a restart: the MCS that was chosen for a
    channel condition, the version of the package. On a local disk SQLite keeps a write-ahead log
    (WAL), whose shared memory a network file system does not offer; there it keeps a rollback
    journal instead, and ``note`` says so.

    Parameters: ``folder`` : results folder; None keeps everything in memory, for one task of a
    cluster.
    """

    def __init__(self, folder: Path | None, *, version: str, fresh: bool = False):
        """Open or make the store; ``fresh`` forgets what it held.

        Raises ``InputError`` if another ``version`` or other ``RULES`` made the rows in it, because
        a table never mixes two, and if the file is no database of rows.
        """
        self.path = (folder or Path()) / "points.sqlite"
        self.note, self._on_disk = "", folder is not None
        place: Path | str = ":memory:" if folder is None else self.path
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                if fresh:
                    _remove_if_damaged(self.path)  # a folder in its place is not removed
            self._db = sqlite3.connect(place, timeout=30)
            if folder is not None:
                self._set_journal(folder)
            self._db.executescript(_SCHEMA)
            if fresh:
                with self._db:
                    self._db.executescript("DELETE FROM points; DELETE FROM facts;")
                for frame in kept_files(self.path.parent):
                    frame.unlink()
            self._check_content()
            here = _maker(version)
            made_by = self.fact("version") or here
            if made_by == here:
                self.set_fact("version", here)
        except (sqlite3.Error, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise self._unusable(error) from error
        if made_by != here:
            self._db.close()
            raise InputError(
                f"{self.path} holds rows of another version",
                found=made_by,
                allowed=here,
                remedy="Start again with --fresh, or give another --out.",
            )

    def _set_journal(self, folder: Path) -> None:
        kind = file_system(folder)
        if not is_shared(kind):
            self._db.execute("PRAGMA journal_mode=WAL")
            # Whoever kills the process loses no row; a power cut may lose the last ones.
            self._db.execute("PRAGMA synchronous=NORMAL")
            return
        self._db.execute("PRAGMA journal_mode=DELETE")
        self.note = (
            f"{folder} lies on a shared file system ({kind}): rows are stored with a rollback "
            "journal, which is slower than the write-ahead log of a local disk"
        )

    def _check_content(self) -> None:
        """Raises ``ValueError`` for rows that are no JSON objects of their points, and bad facts.

        SQLite's parser looks at all of them; it refuses NaN, which is looked at once more.
        """
        bad = (
            "SELECT point_id, row FROM points WHERE NOT json_valid(row) OR "
            "json_extract(row, '$.point_id') IS NOT point_id OR "
            "json_type(row, '$.status') IS NOT 'text'"
        )
        for point_id, text in self._db.execute(bad):
            row = _json_or_none(text)
            if not (isinstance(row, dict) and row.get("point_id") == point_id and "status" in row):
                raise ValueError(f"the row {str(point_id)[:40]!r} is damaged")
        for key, text in self._db.execute("SELECT * FROM facts WHERE json_valid(value) IS NOT 1"):
            if _json_or_none(text) is None:
                raise ValueError(f"the fact {str(key)[:40]!r} is damaged")
        # SQLite's parser of JSON lets bytes through that are no UTF-8. Fetching refuses them.
        for table in ("points", "facts"):
            for _ in self._db.execute(f"SELECT * FROM {table}"):
                pass

    def _unusable(self, error: Exception) -> InputError:
        return InputError(
            f"{self.path} cannot be used",
            found=str(error)[:300],
            allowed="the database of a sweep in a folder that can be written and has space",
            remedy="Choose another --out, or delete the file: finished rows come back from "
            "the tables with --restore, and --fresh runs everything again.",
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises ``InputError`` where the disk is full or cannot be written."""
        try:
            with self._db:
                yield self._db
        except sqlite3.Error as error:
            raise InputError(
                f"{self.path} cannot be written",
                found=str(error),
                allowed="a folder that can be written and has space",
                remedy="Make room; the same command then goes on with the rows that are stored.",
            ) from error

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert or replace finished rows (each has ``point_id``), all of them or none."""
        self.apply([("add", [dict(row) for row in rows])])

    def forget(self, point_ids: Iterable[str]) -> None:
        """Drop the rows of points, of the neighbours of their MCS, and the frames kept of them."""
        self.apply([("forget", sorted(set(point_ids)))])

    def set_fact(self, key: str, value: Any) -> None:
        """Store a fact in place of an earlier one."""
        self.apply([("set", key, value)])

    def merge_fact(self, key: str, entries: Mapping[str, Any]) -> None:
        """Add entries to a fact that is a dictionary; those of the same names are replaced."""
        if entries:
            self.apply([("merge", key, dict(entries))])

    def count_fact(self, key: str, amounts: Mapping[str, float]) -> None:
        """Add amounts to the numbers of a fact that is a dictionary."""
        if amounts:
            self.apply([("count", key, dict(amounts))])

    def forget_facts(self, beginning: str) -> None:
        """Drop every fact whose key begins with this text."""
        self.apply([("drop", beginning)])

    def apply(self, changes: Sequence[Change]) -> None:
        """Make changes in their order, all of them or none: how rows of a task come in.

        Raises ``InputError`` where the disk is full or cannot be written.
        """
        with self._writing() as database:
            for change in changes:
                self._apply(database, *change)
        gone = {point_id for kind, *of in changes if kind == "forget" for point_id in of[0]}
        if gone and self._on_disk:
            for frame in kept_files(self.path.parent):
                if frame.name.split("_")[0] in gone:
                    frame.unlink()

    def _apply(self, database: sqlite3.Connection, kind: str, *what: Any) -> None:
        if kind == "add":
            rows = [(row["point_id"], _json(row)) for row in what[0]]
            database.executemany("INSERT OR REPLACE INTO points VALUES (?, ?)", rows)
        elif kind == "forget":
            database.executemany(
                "DELETE FROM points WHERE point_id = ? OR (point_id > ? AND point_id < ?)",
                [(point_id, f"{point_id}-mcs", f"{point_id}-mct") for point_id in what[0]],
            )
        elif kind == "drop":
            query = "DELETE FROM facts WHERE substr(key, 1, ?) = ?"
            database.execute(query, (len(what[0]), what[0]))
        else:
            key, value = what
            if kind == "merge":
                value = (self.fact(key) or {}) | value
            elif kind == "count":
                before = self.fact(key) or {}
                value = before | {n: round(before.get(n, 0.0) + v, 3) for n, v in value.items()}
            database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, _json(value)))

    def finished(self) -> dict[str, dict[str, Any]]:
        """Every row so far, by ``point_id``."""
        return {key: json.loads(row) for key, row in self._db.execute("SELECT * FROM points")}

    def heads(self, columns: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Some columns of every row by ``point_id``, read much faster than whole rows.

        A column that a row lacks is not in its dictionary.
        """
        names = list(columns)
        if (
            not names
            or self._db.execute("SELECT 1 FROM points WHERE NOT json_valid(row) LIMIT 1").fetchone()
        ):  # a row with NaN
            rows = self.finished()
            return {key: {n: row[n] for n in names if n in row} for key, row in rows.items()}
        parts = ", ".join(
            f"json_type(row, '$.{name}'), json_extract(row, '$.{name}')" for name in names
        )
        found = {}
        for point_id, *cells in self._db.execute(f"SELECT point_id, {parts} FROM points"):
            pairs = zip(names, cells[::2], cells[1::2], strict=True)
            found[point_id] = {name: value for name, kind, value in pairs if kind is not None}
        return found

    def row(self, point_id: str) -> dict[str, Any] | None:
        """The finished row of a point, or ``None``."""
        query = "SELECT row FROM points WHERE point_id = ?"
        found = self._db.execute(query, (point_id,)).fetchone()
        return json.loads(found[0]) if found else None

    def fact(self, key: str) -> Any:
        """A stored fact, or ``None``."""
        found = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return json.loads(found[0]) if found else None

    def facts_beginning(self, beginning: str) -> dict[str, Any]:
        """Every fact whose key begins with this text."""
        query = "SELECT * FROM facts WHERE key >= ? AND key < ?"
        found = self._db.execute(query, (beginning, beginning + chr(0x10FFFF)))
        return {key: json.loads(value) for key, value in found}

    def rows_of_point(self, point_id: str) -> list[dict[str, Any]]:
        """The row of a point and those of the neighbours of its MCS."""
        query = "SELECT row FROM points WHERE point_id = ? OR (point_id > ? AND point_id < ?)"
        bounds = point_id, f"{point_id}-mcs", f"{point_id}-mct"
        return [json.loads(row) for (row,) in self._db.execute(query, bounds)]

    def facts(self) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in self._db.execute("SELECT * FROM facts")}

    def close(self) -> None:
        self._db.close()


def _json_or_none(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def _json(value: Any) -> str:
    """JSON with null in place of NaN, which JSON does not have."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(value))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


class TaskStore(SweepStore):
    """A store in memory that remembers its changes, so that another store can repeat them.

    Parameters: ``rows``, ``facts`` : what the store of the sweep holds of the task's points.
    """

    def __init__(self, *, version: str, rows: Iterable[Mapping], facts: Mapping[str, Any]):
        self.changes: list[Change] = []
        super().__init__(None, version=version)
        given: list[Change] = [("add", list(rows)), *(("set", *fact) for fact in facts.items())]
        super().apply(given)
        self.changes = []

    def apply(self, changes: Sequence[Change]) -> None:
        super().apply(changes)
        self.changes += changes


def _remove_if_damaged(path: Path) -> None:
    """Remove a file that is no SQLite database, with its journals; ``--fresh`` starts anew."""
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            tables = ("points", "point_id, row"), ("facts", "key, value")
            for table, columns in tables:
                database.execute(f"SELECT {columns} FROM {table} LIMIT 1")
            if database.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return
    except sqlite3.Error:
        pass
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        path.with_name(name).unlink(missing_ok=True)


def points_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table with :func:`point_columns` first, in the order given; without their GOPs."""
    kept = ({name: value for name, value in row.items() if name != GOPS} for row in rows)
    table, first = pd.DataFrame(list(kept)), point_columns()
    extra = [name for name in table.columns if name not in first]
    return table.reindex(columns=[*first, *extra])


#: What stands in place of CBR where a point was sent in packets.
BYTES = "bytes_per_pixel"


def with_rate(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` whose column ``cbr`` holds bytes per pixel where these are the rate: of packets.

    Rows of packets and of channel uses never stand under one channel, so that whoever compares
    within a channel compares like with like.
    """
    return points.assign(cbr=points["cbr"].fillna(points[BYTES])) if BYTES in points else points


def without_default_transport(table: pd.DataFrame) -> pd.DataFrame:
    """The table without columns of the transport in which every row has the default.

    Columns of packet networks in which every row is empty are left out as well.
    """
    defaults = Transport().columns() | dict.fromkeys(packet_fields(), "")
    plain = [
        name
        for name, default in defaults.items()
        if name in table and table[name].map(lambda v, d=default: v == d or _is_empty(v)).all()
    ]
    return table.drop(columns=plain)


def gops_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A line per GOP of every row that has them, with :func:`gop_columns` first."""
    table = pd.DataFrame(
        [{"point_id": row["point_id"], **gop} for row in rows for gop in row.get(GOPS, ())]
    )
    extra = [name for name in table.columns if name not in gop_columns()]
    return table.reindex(columns=[*gop_columns(), *extra])


def read_gops(folder: str | Path) -> pd.DataFrame:
    """``gops.csv`` of a results folder, or a table without lines where there is none."""
    path = Path(folder) / "gops.csv"
    if not path.is_file():
        return pd.DataFrame(columns=gop_columns())
    return pd.read_csv(path, dtype={"point_id": str}, float_precision="round_trip")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table whole or not at all."""
    write_atomically(path, table.to_csv(index=False, lineterminator="\n"))


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


def kept_files(folder: Path) -> Iterator[Path]:
    """Every frame and video that was kept."""
    return (path for path in (folder / "frames").glob("*") if path.suffix in (".png", ".mp4"))


def frame_file(folder: str | Path, point_id: str, frame: int) -> Path:
    """Where a shown frame of a point lies, if it was kept: ``frames/<point_id>_<frame>.png``."""
    return Path(folder) / "frames" / f"{point_id}_{frame:04d}.png"


def video_file(still: Path) -> Path:
    """Where the video lies that ends with the frame at ``still``."""
    return still.with_suffix(".mp4")


def reference_file(folder: str | Path, clip: str, frame: int, clips: Collection[str] = ()) -> Path:
    """Where the source frame of a clip lies: ``frames/reference_<clip>_<frame>.png``.

    Characters of the clip's name other than letters, digits, ``.`` and ``-`` become ``-``, and a
    long name is cut. Where another one of the results' ``clips`` would have the same name, or
    something was cut, a digest of the whole name follows, so that no two clips share a file.
    """
    name = _plain_name(clip)
    others = {_plain_name(other).lower() for other in clips if other != clip}
    if name.lower() in others or len(name) > _LONGEST_CLIP:
        return _reference(folder, _with_digest(clip), frame)
    return _reference(folder, name, frame)


def find_reference(
    folder: str | Path, clip: str, frame: int, clips: Collection[str]
) -> Path | None:
    """The source frame of a clip if it was kept: under its name with a digest, or else its own."""
    names = (
        _reference(folder, _with_digest(clip), frame),
        reference_file(folder, clip, frame, clips),
    )
    return next((path for path in names if path.is_file()), None)


def _with_digest(clip: str) -> str:
    return f"{_plain_name(clip)[:_LONGEST_CLIP]}-{digest(clip)[:8]}"


_LONGEST_CLIP = 180


def _plain_name(clip: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", clip)


def _reference(folder: str | Path, name: str, frame: int) -> Path:
    return Path(folder) / "frames" / f"reference_{name}_{frame:04d}.png"


#: Facts by which a later run knows what the rows were made of: digests of the codecs' bitstreams,
#: of the clips' frames, and of bitstreams that are looked up. The manifest keeps them.
IDENTITIES = ("stream_digests", "frame_digests", "contents")
_TABLES = ("points.csv", "mcs_neighbours.csv")


def restore(folder: Path, *, version: str) -> int:
    """Make ``points.sqlite`` in ``folder`` out of the tables of a finished sweep.

    The tables are those in ``folder``, or else those in ``../reference/<name of folder>``, where
    the repository keeps its results. Returns the number of rows; a database that exists stays as
    it is (0 rows).
    Raises ``InputError`` where there are no tables, or where another ``version`` of the package
    made them.
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
    try:
        facts = _facts(source, version)
        rows = [row for name in _TABLES if (source / name).is_file() for row in _rows(source, name)]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"tables in {source} cannot be read",
            found=repr(error),
            allowed=f"tables that version {version} wrote",
            remedy="Leave --restore out, or take up tables that were not edited.",
        ) from error
    store = SweepStore(folder, version=version)
    for key, value in facts.items():
        store.set_fact(key, value)
    store.add(rows)
    store.close()
    return len(rows)


def stale_reasons(
    manifest: Mapping[str, Any], known_weights: Collection[str] | None = None
) -> list[str]:
    """Why rows are not those that this package would make; empty where nothing speaks against it.

    Input: ``manifest`` : ``manifest.json`` of a sweep; ``known_weights`` : digests of the weights
    in the package (``models.packaged_identities``), None: weights are not compared. Other weights
    are a reason, because nobody who has the package alone can make their rows. Those of a foreign
    model are none.
    """
    reasons = []
    rules = manifest.get("rules")
    if rules != RULES:
        stated = "earlier rules" if rules is None else f"version {rules} of the rules"
        reasons.append(f"its rows were made under {stated}, and version {RULES} is in force")
    if "weights" not in manifest:
        reasons.append("it does not state the weights of its schemes")
    if known_weights is not None:
        reasons += [
            f"rows of {label} were made with weights {identity}, which the package lacks"
            for label, identity in manifest.get("weights", {}).items()
            if identity not in known_weights and not _is_of_a_user(label)
        ]
    return reasons


def _is_of_a_user(label: str) -> bool:
    """Whether a scheme, named as in the tables, is a model that is not of the package."""
    scheme = scheme_types().get(label.partition(":")[0])
    return scheme is not None and "model_options" in scheme.Options.model_fields


def _missing(folder: Path) -> list[str]:
    return [name for name in ("points.csv", "manifest.json") if not (folder / name).is_file()]


def _facts(folder: Path, version: str) -> dict[str, Any]:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    made_by = _maker(manifest.get("pvsc_link"), manifest.get("rules"))
    if made_by != _maker(version):
        raise InputError(
            f"tables in {folder} of another version",
            found=made_by,
            allowed=_maker(version),
            remedy="Leave --restore out: every point runs again.",
        )
    kept = {key: manifest[key] for key in ("codec_commands", "seconds_by_stage")}
    return manifest["mcs_choice"] | manifest.get("made_of", {}) | kept


def _rows(folder: Path, table: str) -> list[dict[str, Any]]:
    """Rows as a sweep stored them: whole numbers as integers, nothing where a cell is empty.

    A column of the transport that the table leaves out has its default in every row.
    """
    conditions, defaults = link_fields(), Transport().columns()
    whole = {
        *("gop", "rate", "coherence_length", "mcs", "seed", "num_frames", "num_blocks"),
        *("num_block_errors", "num_fades", "frames_lost", "frames_concealed", "freeze_events"),
        *("deadline_misses", "num_iter"),
        *(name for name, field in conditions.items() if int in kinds_of(field.annotation)),
    }
    gops = _gops(folder)
    rows = []
    for row in read_points(folder, table).to_dict("records"):
        filled = {name: value for name, value in row.items() if not _is_empty(value)}
        rows.append(
            {name: None for name in conditions if name in row}
            | {name: default for name, default in defaults.items() if name not in row}
            | {name: int(value) if name in whole else value for name, value in filled.items()}
            | ({GOPS: gops[row["point_id"]]} if row["point_id"] in gops else {})
        )
    return rows


def _gops(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The GOPs of every row by its id, as a sweep stored them."""
    whole = ("gop_index", "channel_uses", "frames_lost", "frames_concealed")
    gops: dict[str, list[dict[str, Any]]] = {}
    for line in read_gops(folder).to_dict("records"):
        point_id = line.pop("point_id")
        filled = {name: value for name, value in line.items() if not _is_empty(value)}
        gop = {name: int(value) if name in whole else value for name, value in filled.items()}
        gops.setdefault(point_id, []).append(gop)
    return gops


def _is_empty(value: Any) -> bool:
    return not isinstance(value, str) and bool(pd.isna(value))
