"""What the page needs to know, as JSON: curves as means over seeds, and every row.

``report.html``: one self-contained page with curves, tables, frames and provenance.
"""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.report.curves import (
    CONDITION,
    PLACE,
    by_condition,
    clip_stem,
    condition_words,
    metrics_in,
)
from pvsc_link.report.frames import Comparison, comparisons
from pvsc_link.report.results import Results, column
from pvsc_link.report.style import PLOTLY_LINES, PLOTLY_MARKERS, SchemeStyle
from pvsc_link.report.tables import BEST, SECOND, Number, Table
from pvsc_link.sweep.store import write_text

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


def write_page(
    path: Path, results: Results, tables: Sequence[Table], remarks: Sequence[str]
) -> Path:
    """Write the page: nothing on it is fetched from anywhere.

    Parameters: ``remarks`` : sentences of what is missing and why; shown at the top.
    """
    write_text(page_html(results, tables, remarks), path)
    return path


def page_html(results: Results, tables: Sequence[Table], remarks: Sequence[str]) -> str:
    """The page as text."""
    data = page_data(results)
    data["clip_names"] = short_clip_names(data)
    parts = {
        "TITLE": html.escape(results.name),
        "STYLE": _asset("page.css"),
        "SUMMARY": _summary(results),
        "REMARKS": _list(remarks),
        "TABLES": "\n".join(map(table_html, tables)) or "<p>No table could be made.</p>",
        "COMMANDS": _commands(results.manifest),
        "MANIFEST": html.escape(_manifest_text(results.manifest)),
        "PLOTLY": _plotly(),
        "DATA": _script_json(data),
        "SCRIPT": _asset("page.js"),
    }
    # One pass: what is put in is never searched for further places.
    return re.sub(r"<!--([A-Z]+)-->", lambda place: parts[place[1]], _asset("page.html"))


def table_html(table: Table) -> str:
    """A sortable table; best in bold, second-best underlined, published rows set apart."""
    heads = [*table.key_names, "Source", *table.column_names]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = []
    for row in table.rows:
        keys = "".join(f"<td>{html.escape(text)}</td>" for text in (*row.keys, row.source))
        cells = "".join(_cell(table, cell, i) for i, cell in enumerate(row.cells))
        body.append(f'<tr class="{row.source}">{keys}{cells}</tr>')
    notes = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in table.notes)
    return (
        f"<figure class='table'><figcaption>{html.escape(table.title)}</figcaption>"
        f"<div class='scroll'><table class='sortable' id='{table.name}'><thead><tr>{head}</tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table></div>{notes}</figure>"
    )


def _cell(table: Table, cell: Sequence[Number], column: int) -> str:
    texts = [table.text(number, column) for number in cell]
    shown = []
    for number, text in zip(cell, texts if any(texts) else (), strict=False):
        mark = {BEST: "b", SECOND: "u"}.get(number.rank)
        shown.append(f"<{mark}>{text}</{mark}>" if mark else text or "–")
    first = cell[0].value
    key = f"{first:.10g}" if first == first else ""
    return f"<td class='number' data-sort='{key}'>{' / '.join(shown) or '–'}</td>"


def _summary(results: Results) -> str:
    manifest, points = results.manifest, results.points
    facts = [f"{len(points)} points"]
    if len(points):
        counts = points["status"].value_counts()
        facts.append(", ".join(f"{status} {number}" for status, number in counts.items()))
        facts.append(f"schemes: {', '.join(dict.fromkeys(points['scheme']))}")
    for key, words in (("finished", "finished"), ("pvsc_link", "pvsc_link")):
        if manifest.get(key):
            facts.append(f"{words} {manifest[key]}")
    return html.escape(" · ".join(facts))


def _list(sentences: Sequence[str]) -> str:
    if not sentences:
        return "<p>Nothing is missing.</p>"
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in sentences) + "</ul>"


def _commands(manifest: Mapping[str, Any]) -> str:
    lines = [str(manifest["command"])] if manifest.get("command") else []
    codecs = manifest.get("codec_commands")
    if isinstance(codecs, dict):
        lines += [f"{name}: {command}" for name, command in codecs.items()]
    return html.escape("\n".join(lines) or "No command is on record.")


def _manifest_text(manifest: Mapping[str, Any]) -> str:
    """The manifest without what the page shows elsewhere or nobody reads."""
    shown = {k: v for k, v in manifest.items() if k not in ("codec_commands", "mcs_choice")}
    return json.dumps(shown, indent=1, ensure_ascii=False) if shown else "No manifest."


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # half a second, and only the page needs it

    return get_plotlyjs().replace("</script", "<\\/script")


def _script_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("pvsc_link.report").joinpath(name).read_text(encoding="utf-8")
