"""A results folder as it is found: whole, half-written or empty, with a list of what is missing."""

import json
import sqlite3
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.report.bler_data import bler_table
from pvsc_link.report.curves import CurveSet, curve_set
from pvsc_link.sweep.store import POINT_COLUMNS, read_points, read_unfinished
from pvsc_link.types import InputError

#: Status of a sent point whose model has no trained weights: its numbers say nothing.
UNTRAINED = "untrained"
_SENT = ("ok", "outage", UNTRAINED)

#: Columns that are text in every table, so that an empty one does not become a float.
_TEXT = ("scheme", "variant", "clip", "channel", "equalizer", "mcs_policy", "decoder", "status")
_NUMBERS = (
    "gop rate snr_db csi_nmse_db coherence_length seed num_frames cbr cbr_source cbr_side psnr_db "
    "lpips dists bler num_blocks num_block_errors frames_lost"
).split()


@dataclass
class Results:
    """Everything a report draws on.

    ``points``, ``bd``, ``bler``, ``complexity`` : tables, empty where there is nothing.
    ``problems`` : sentences for the reader, each what is missing and why.
    """

    folder: Path
    points: pd.DataFrame
    bd: pd.DataFrame
    bler: pd.DataFrame
    complexity: pd.DataFrame
    manifest: dict[str, Any]
    problems: list[str] = field(default_factory=list)

    @cached_property
    def curves(self) -> CurveSet:
        """Curves of the points that were sent; untrained models only where the scenario says so."""
        points = self.points
        return curve_set(points if self.with_untrained else points[points["status"] != UNTRAINED])

    @property
    def with_untrained(self) -> bool:
        """Whether results of models without trained weights may stand beside the others."""
        scenario = self.manifest.get("scenario")
        return isinstance(scenario, dict) and bool(scenario.get("with_untrained"))

    @property
    def name(self) -> str:
        scenario = self.manifest.get("scenario")
        named = scenario.get("name") if isinstance(scenario, dict) else None
        return str(named or self.folder.resolve().name)


def load_results(path: str | Path) -> pd.DataFrame:
    """The points of a results folder, one row per point (``report.columns`` says what each means).

    Also reads a sweep that is still running. Raises ``InputError`` for a folder that is missing
    or holds no readable row.
    """
    results = read_results(path)
    if results.points.empty:
        raise InputError(
            "results without a row",
            found=str(path),
            allowed="a folder that a sweep wrote",
            remedy=" ".join(results.problems),
        )
    return results.points


def read_results(path: str | Path) -> Results:
    """Read all that is there; what is not becomes a problem, never an exception.

    Raises ``InputError`` only if the folder itself does not exist.
    """
    folder = Path(path)
    if not folder.is_dir():
        near = (
            sorted(p.name for p in folder.parent.iterdir() if p.is_dir())
            if (folder.parent.is_dir())
            else []
        )
        raise InputError(
            "results folder is missing",
            found=str(folder),
            allowed=near or "a folder that a sweep wrote",
            remedy="Run python -m pvsc_link.sweep SCENARIO first, or correct the path.",
        )
    problems: list[str] = []
    points = _repaired(_points(folder, problems), problems)
    manifest = _manifest(folder, problems)
    bd = _table(folder / "bd_cbr.csv", problems, "BD-CBR tables are left out")
    complexity = _complexity(folder)
    bler = bler_table(folder, manifest, points)
    results = Results(folder, points, bd, bler, complexity, manifest, problems)
    problems += _remarks(results)
    return results


def _points(folder: Path, problems: list[str]) -> pd.DataFrame:
    empty = pd.DataFrame(columns=list(POINT_COLUMNS))
    if (folder / "points.csv").is_file():
        try:
            return read_points(folder)
        except (ValueError, KeyError, OSError) as error:  # pandas' parser errors are ValueErrors
            problems.append(f"points.csv cannot be read ({_first_line(error)}).")
    else:
        problems.append("points.csv is missing: the sweep has not finished.")
    try:
        unfinished = read_unfinished(folder)
    except (sqlite3.Error, ValueError, KeyError):
        problems.append("There is no readable points.sqlite either, so there is no row to show.")
        return empty
    if "mcs_role" in unfinished:  # rows of the MCS beside a chosen one are not the curve's
        unfinished = unfinished[unfinished["mcs_role"] != "neighbour"]
    problems.append(
        f"Shown are the {len(unfinished)} rows that the sweep has stored so far (points.sqlite)."
    )
    return unfinished


def _repaired(points: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Every documented column, numbers as numbers, half-written rows dropped and told."""
    missing = [name for name in POINT_COLUMNS if name not in points]
    used = [name for name in missing if name in (*_TEXT, *_NUMBERS)]
    if used:
        problems.append(f"points.csv lacks the columns {', '.join(used)}; taken as empty.")
    points = points.reindex(columns=[*points.columns, *missing])
    points = points.copy()
    for name in _NUMBERS:
        points[name] = pd.to_numeric(points[name], errors="coerce")
    for name in _TEXT:
        points[name] = points[name].fillna("").astype(str)
    failed = ~points["status"].isin((*_SENT, ""))
    half = (points["status"] == "") | (points["scheme"] == "") | (points["channel"] == "")
    half |= points["snr_db"].isna() | (points["cbr"].isna() & ~failed)
    if half.any():
        lines = ", ".join(str(i + 2) for i in points.index[half][:10])
        problems.append(f"{int(half.sum())} half-written rows are left out (line {lines}).")
    return points[~half].reset_index(drop=True)


def _manifest(folder: Path, problems: list[str]) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        problems.append("manifest.json is missing: what exactly ran is not on record.")
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        problems.append(f"manifest.json cannot be read ({_first_line(error)}).")
        return {}
    return found if isinstance(found, dict) else {}


def _table(path: Path, problems: list[str], consequence: str) -> pd.DataFrame:
    if not path.is_file():
        problems.append(f"{path.name} is missing: {consequence}.")
        return pd.DataFrame()
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:
        problems.append(f"{path.name} cannot be read ({_first_line(error)}): {consequence}.")
        return pd.DataFrame()


def _complexity(folder: Path) -> pd.DataFrame:
    """``complexity.csv`` of the folder, else all that the benchmark left in ``../complexity``."""
    beside = sorted((folder.resolve().parent / "complexity").glob("*.csv"))
    for paths in ([folder / "complexity.csv"], beside):
        tables = [_table(path, [], "") for path in paths]
        rows = [table for table in tables if {"preset", "label"} <= set(table.columns)]
        if rows:
            return pd.concat(rows, ignore_index=True)
    return pd.DataFrame()


def _remarks(results: Results) -> list[str]:
    """What is there but cannot be shown, and why."""
    points, bd = results.points, results.bd
    if points.empty:
        return []
    remarks = []
    failed = points[~points["status"].isin(_SENT)]
    for (scheme, status), rows in failed.groupby(["scheme", "status"]):
        note = str(rows["note"].iloc[0] or "").strip().splitlines()
        why = f": {note[-1][:200]}" if note else ""
        remarks.append(f"{len(rows)} points of {scheme} have no result, status {status}{why}")
    lost = int((points["status"] == "outage").sum())
    if lost:
        remarks.append(f"{lost} points are outages: not one frame arrived.")
    untrained = points[points["status"] == UNTRAINED]
    if len(untrained):
        where = "are shown" if results.with_untrained else "are only in the table of all points"
        remarks.append(
            f"{len(untrained)} points of {', '.join(untrained['scheme'].unique())} come from a "
            f"model without trained weights: their numbers say nothing; they {where}."
        )
    if len(failed) == len(points):
        remarks.append("All points failed, so there is no curve, no figure and no BD-CBR.")
    if points["scheme"].nunique() == 1:
        remarks.append(f"Only one scheme ({points['scheme'].iloc[0]}) is here: nothing to compare.")
    remarks += _metric_remarks(points[points["cbr"].notna()])
    if "bd_cbr_percent" in bd:
        remarks += _bd_remarks(bd)
    return remarks


def _metric_remarks(sent: pd.DataFrame) -> list[str]:
    remarks = []
    for name in ("psnr_db", "lpips", "dists"):
        number = int(sent[name].isna().sum())
        if 0 < number < len(sent):
            remarks.append(f"{name} is missing (NaN) in {number} of {len(sent)} sent points.")
        elif number and number == len(sent):
            remarks.append(f"{name} was not measured.")
    return remarks


def _bd_remarks(bd: pd.DataFrame) -> list[str]:
    if bd.empty:
        return ["bd_cbr.csv is empty: the scenario names no anchor."]
    missing = bd[bd["bd_cbr_percent"].isna()]
    reasons = missing["note"].fillna("no reason given").value_counts()
    remarks = [f"BD-CBR has no value {number} times: {why}." for why, number in reasons[:5].items()]
    if len(reasons) > 5:
        remarks.append(f"{len(reasons) - 5} further reasons are in bd_cbr.csv, column note.")
    return remarks


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
