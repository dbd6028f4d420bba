"""``report.html``: one self-contained page with curves, tables, frames and provenance."""

import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pvsc_link.report.page_data import page_data, short_clip_names
from pvsc_link.report.results import Results
from pvsc_link.report.table import BEST, SECOND, Number, Table
from pvsc_link.sweep.store import write_text


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
