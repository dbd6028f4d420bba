"""What the page needs to know, as JSON: curves as means over seeds, and every row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from pvsc_link.report.columns import column
from pvsc_link.report.curves import (
    CONDITION,
    PLACE,
    by_condition,
    clip_stem,
    condition_words,
    metrics_in,
)
from pvsc_link.report.frames import Comparison, comparisons
from pvsc_link.report.results import Results
from pvsc_link.report.style import PLOTLY_LINES, PLOTLY_MARKERS, SchemeStyle

_AXES = {"snr_db": "SNR (dB)", "csi_nmse_db": "NMSE (dB)", "coherence_length": "coherence length"}
_DIGITS = 6


def page_data(results: Results) -> dict[str, Any]:
    """Everything that the page's script draws from; only JSON values, no NaN."""
    sent, styles = results.curves.keyed, results.curves.styles
    compared, frame_remarks = comparisons(results.folder, sent, styles)
    return {
        "name": results.name,
        "metrics": [asdict(m) | {"label": m.axis_label} for m in metrics_in(results.points)],
        "styles": {key: _style(style) for key, style in styles.items()},
        "curves": _curves(results.curves.means),
        "conditions": _conditions(sent),
        "axes": {name: label for name, label in _AXES.items() if _varies(sent, name)},
        "points": _columns(results.points),
        **_with_shared_pictures(compared),
        "frame_remarks": frame_remarks,
    }


def _with_shared_pictures(compared: Sequence[Comparison]) -> dict[str, Any]:
    """Comparisons whose pictures name a place in ``pictures``: where nothing was lost, one scheme
    shows the same frame at many conditions."""
    places: dict[str, int] = {}
    listed = [asdict(comparison) for comparison in compared]
    for picture in (picture for entry in listed for picture in entry["pictures"]):
        picture["uri"] = places.setdefault(picture["uri"], len(places))
    return {"comparisons": listed, "pictures": list(places)}


def _style(style: SchemeStyle) -> dict[str, str]:
    return {
        "label": style.label,
        "colour": style.colour,
        "symbol": PLOTLY_MARKERS[style.marker],
        "dash": PLOTLY_LINES[style.linestyle],
    }


def _curves(means: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per place, condition and curve: numbers in order of CBR."""
    if means.empty:
        return []
    numbers = ["rate", "cbr", "num_seeds"]
    for metric in metrics_in(means):
        numbers += [metric.column, f"{metric.column}_low", f"{metric.column}_high"]
    curves = []
    keys = [*PLACE, *CONDITION, "curve"]
    for key, rows in means.groupby(keys, dropna=False, sort=False):
        entry = {name: _plain(value) for name, value in zip(keys, key, strict=True)}
        ordered = rows.sort_values("cbr")
        entry |= {name: [_plain(value) for value in ordered[name]] for name in numbers}
        curves.append(entry)
    return curves


def _conditions(sent: pd.DataFrame) -> list[dict[str, Any]]:
    """Every condition once, with its words and the clips and GOP lengths under it."""
    found = []
    for condition, rows in by_condition(sent) if len(sent) else ():
        places = rows[PLACE].drop_duplicates().itertuples(index=False)
        found.append(
            {name: _plain(value) for name, value in condition.items()}
            | {
                "words": condition_words(condition),
                "places": [[_plain(clip), _plain(gop)] for clip, gop in places],
            }
        )
    return found


def _varies(sent: pd.DataFrame, name: str) -> bool:
    if sent.empty:
        return False
    others = [*PLACE, *(other for other in CONDITION if other != name)]
    return bool(sent.groupby(others, dropna=False)[name].nunique(dropna=False).max() > 1)


def _columns(points: pd.DataFrame) -> dict[str, Any]:
    """The rows by column; a column of one value is told once, text is stored as codes."""
    varying: list[dict[str, Any]] = []
    constant: dict[str, Any] = {}
    for name in points:
        values = points[name]
        about = column(str(name))
        if len(values) > 1 and values.nunique(dropna=False) <= 1:
            constant[str(name)] = _plain(values.iloc[0])
            continue
        entry: dict[str, Any] = {"name": name, "unit": about.unit, "meaning": about.meaning}
        if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
            entry["values"] = [_plain(value) for value in values]
        else:
            codes, texts = pd.factorize(values.astype(str).where(values.notna(), ""))
            entry |= {"codes": codes.tolist(), "texts": list(texts)}
        varying.append(entry)
    return {"length": len(points), "columns": varying, "constant": constant}


def _plain(value: Any) -> Any:
    """A JSON value: NaN becomes null, floats keep ``_DIGITS`` significant digits."""
    if isinstance(value, str) or value is None:
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return (
            int(value) if value.is_integer() and abs(value) < 1e9 else float(f"{value:.{_DIGITS}g}")
        )
    return value


def short_clip_names(data: Mapping[str, Any]) -> dict[str, str]:
    """Clip -> what the page calls it; the full name where two would be called the same."""
    clips = list(dict.fromkeys(curve["clip"] for curve in data["curves"]))
    stems = [clip_stem(clip) for clip in clips]
    return {
        clip: stem if stems.count(stem) == 1 else clip
        for clip, stem in zip(clips, stems, strict=True)
    }
