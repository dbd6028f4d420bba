"""Block error rates behind a sweep: of every MCS that was measured, not only the chosen one."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

COLUMNS = (
    "mcs channel snr_db csi_nmse_db coherence_length equalizer csi_aware decoder bler "
    "num_blocks num_block_errors"
).split()
_CONDITION = COLUMNS[1:8]
_WORDS = re.compile(r"(\w+)=(\[[^\]]*\]|\{[^}]*\}|\S+)")


def bler_table(folder: Path, manifest: dict[str, Any], points: pd.DataFrame) -> pd.DataFrame:
    """BLER by MCS and channel condition, duplicates dropped.

    From ``bler.csv`` in ``folder`` if there is one (columns ``COLUMNS``; the two counts may be
    absent), the MCS choices in the manifest, and the points.
    """
    parts = [_own_file(folder / "bler.csv"), _from_manifest(manifest), _from_points(points)]
    found = [part for part in parts if not part.empty]
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(found, ignore_index=True).reindex(columns=COLUMNS)
    for name in ("mcs", "snr_db", "csi_nmse_db", "coherence_length", "bler"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    for name in ("channel", "equalizer", "csi_aware", "decoder"):
        table[name] = table[name].astype(str)
    table = table.dropna(subset=["mcs", "snr_db", "bler"])
    table = table.drop_duplicates(subset=["mcs", *_CONDITION])
    return table.sort_values([*_CONDITION, "mcs"], kind="stable").reset_index(drop=True)


def _own_file(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError):
        return pd.DataFrame()


def _from_manifest(manifest: dict[str, Any]) -> pd.DataFrame:
    """The candidates of every MCS choice: ``"mcs_worth channel=... snr_db=...": [[mcs, bler..``."""
    choices = manifest.get("mcs_choice")
    rows = []
    for key, candidates in choices.items() if isinstance(choices, dict) else ():
        words = dict(_WORDS.findall(key))
        condition = {name: _value(words.get(name)) for name in _CONDITION}
        if not isinstance(candidates, list) or condition["channel"] is None:
            continue
        for candidate in candidates:
            if isinstance(candidate, list) and len(candidate) >= 2:
                rows.append({"mcs": candidate[0], "bler": candidate[1], **condition})
    return pd.DataFrame(rows)


def _from_points(points: pd.DataFrame) -> pd.DataFrame:
    wanted = ["mcs", *_CONDITION, "bler"]
    if points.empty or not set(wanted) <= set(points.columns):
        return pd.DataFrame()
    return points[wanted].dropna(subset=["mcs", "bler"]).drop_duplicates()


def _value(word: str | None) -> str | None:
    return None if word in (None, "None", "nan") else word
