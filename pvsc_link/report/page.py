"""The report of a results folder, or of several: tables, figures, and one self-contained page.

``report.html`` shows curves, frames, tables, every row and what ran. Its script (``page.js``) draws
from JSON that stands in the page, so that nothing is fetched from anywhere. Videos lie beside it,
in ``videos/``: the page shows everything else without them.
"""

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.metrics import MetricType
from pvsc_link.report.curves import (
    PLACE,
    by_condition,
    condition_columns,
    condition_words,
    grouped,
    metrics_in,
    rate_words,
    short_clip_names,
    varying_conditions,
)
from pvsc_link.report.figures import MOST_OF_A_KIND, draw_figures
from pvsc_link.report.frames import page_comparisons
from pvsc_link.report.results import Results, column, read_results, read_runs
from pvsc_link.report.style import PLOTLY_LINES, PLOTLY_MARKERS, SchemeStyle
from pvsc_link.report.table_formats import BEST, Table, write_formats
from pvsc_link.report.tables import (
    comparison_tables,
    distribution_tables,
    loss_tables,
    model_tables,
)
from pvsc_link.storage import write_atomically

ENDINGS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Report:
    """Files written, by kind, sentences of what is missing and why, and how many rows there are."""

    tables: list[Path]
    figures: list[Path]
    page: Path
    remarks: list[str]
    num_rows: int


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    most_figures: int = MOST_OF_A_KIND,
    workers: int = 1,
    endings: Sequence[str] = ENDINGS,
) -> Report:
    """Tables, figures and page of a results folder, whatever state it is in.

    Parameters: ``out`` : where ``tables/``, ``figures/`` and ``report.html`` go, default the
    folder itself; ``most_figures`` : of each kind; ``workers`` : processes that
    draw; ``endings`` : formats of the figures, with ``pgf`` where there is a LaTeX.
    Raises ``InputError`` only if the folder does not exist.
    """
    results = read_results(folder)
    target = Path(out) if out is not None else results.folder
    of_models, why_no_models = model_tables(results)
    of_frames = [*distribution_tables(results), *loss_tables(results)]
    tables = [*comparison_tables(results), *of_frames, *of_models]
    written = [path for table in tables for path in write_formats(table, target / "tables")]
    figures = draw_figures(results, target / "figures", endings, most=most_figures, workers=workers)
    remarks = [*results.problems, *figures.remarks, *why_no_models]
    page = _write_page(results, target, tables, remarks)
    return Report(written, figures.files, page, remarks, len(results.points))


def write_comparison(folders: Sequence[str | Path], out: str | Path | None = None) -> Report:
    """One page of several results folders, and the tables that they share.

    Curves of a scheme have its colour in every run, another line in each, and the name of the run
    in their labels. BD-CBR of all runs stands in one table where they have the same anchor, else
    in a table for each run.

    Parameters: ``folders`` : two or more; ``out`` : where ``tables/``, ``videos/`` and
    ``report.html`` go, default a folder beside the first, named ``A+B``.
    Raises ``InputError`` if a folder does not exist or is named twice.
    """
    results = read_runs(folders)
    target = Path(out) if out is not None else results.folder
    tables = comparison_tables(results)
    if results.bd.empty:
        for name, run in results.runs.items():
            tables += [
                replace(
                    table,
                    name=f"{table.name}_{name.replace('/', '_')}",
                    title=f"{name}: {table.title}",
                )
                for table in comparison_tables(run)
            ]
    tables += loss_tables(results)
    written = [path for table in tables for path in write_formats(table, target / "tables")]
    page = _write_page(results, target, tables, results.problems)
    return Report(written, [], page, results.problems, len(results.points))


def _write_page(
    results: Results, target: Path, tables: Sequence[Table], remarks: Sequence[str]
) -> Path:
    """Write page and videos; videos of an earlier page go."""
    videos = target / "videos"
    for old in videos.glob("[0-9][0-9]_*.mp4"):
        old.unlink()
    page = target / "report.html"
    write_atomically(page, page_html(results, tables, remarks, videos))
    return page


def page_html(
    results: Results,
    tables: Sequence[Table],
    remarks: Sequence[str],
    videos: Path | None = None,
) -> str:
    """The page as text; ``remarks``, sentences of what is missing and why, stand at its end.

    Parameters: ``videos`` : folder beside the page to write videos to; None writes none.
    """
    parts = {
        "TITLE": html.escape(results.name),
        "STYLE": _asset("page.css"),
        "SUMMARY": _summary(results),
        "REMARKS": _list(remarks),
        "TABLES": "\n".join(map(_table_html, tables)) or "<p>No table could be made.</p>",
        "COMMANDS": _commands(results),
        "MANIFEST": html.escape(_manifest_text(results)),
        "PLOTLY": _plotly(),
        "DATA": _script_json(page_data(results, videos)),
        "SCRIPT": _asset("page.js"),
    }
    # One pass: what is put in is never searched for further places.
    return re.sub(r"<!--([A-Z]+)-->", lambda place: parts[place[1]], _asset("page.html"))


# ---- what the script draws from -----------------------------------------------------------------

_AXES = {
    **{"snr_db": "SNR (dB)", "csi_nmse_db": "NMSE (dB)", "coherence_length": "coherence length"},
    "loss_rate": "packet loss rate",
}
_DIGITS = 6


def page_data(results: Results, videos: Path | None = None) -> dict[str, Any]:
    """Everything that the page's script draws from; only JSON values, no NaN.

    Parameters: ``videos`` : as in :func:`page_html`.
    """
    sent, styles = results.curves.keyed, results.curves.styles
    curves = _curves(results.curves.means)
    return {
        "name": results.name,
        "metrics": [_metric(metric) for metric in metrics_in(results.points)],
        "styles": {key: _style(style) for key, style in styles.items()},
        "curves": curves,
        "clip_names": short_clip_names(curve["clip"] for curve in curves),
        "conditions": _conditions(sent),
        "condition_columns": condition_columns(),
        "rate": rate_words(sent) if len(sent) else ("CBR", "CBR"),
        "axes": {name: label for name, label in _AXES.items() if _varies(sent, name)},
        "points": _columns(results.points),
        **page_comparisons(results, videos),
    }


def _metric(metric: MetricType) -> dict[str, Any]:
    names = {"column": metric.column, "title": metric.label, "label": metric.axis_label}
    return names | {"higher_is_better": metric.higher_is_better}


def _style(style: SchemeStyle) -> dict[str, str]:
    look = {"symbol": PLOTLY_MARKERS[style.marker], "dash": PLOTLY_LINES[style.linestyle]}
    return {"label": style.label, "colour": style.colour} | look


def _curves(means: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per place, condition and curve: means over seeds, numbers in order of CBR."""
    if means.empty:
        return []
    numbers = ["rate", "cbr", "num_seeds"]
    for metric in metrics_in(means):
        numbers += [metric.column, f"{metric.column}_low", f"{metric.column}_high"]
    curves = []
    for entry, rows in grouped(means, [*PLACE, *condition_columns(), "curve"]):
        ordered = rows.sort_values("cbr")
        values = {name: [_plain(value) for value in ordered[name]] for name in numbers}
        curves.append({name: _plain(value) for name, value in entry.items()} | values)
    return curves


def _conditions(sent: pd.DataFrame) -> list[dict[str, Any]]:
    """Every condition once, with its words and the clips and GOP lengths under it."""
    found, varying = [], varying_conditions(sent)
    for condition, rows in by_condition(sent) if len(sent) else ():
        places = rows[PLACE].drop_duplicates().itertuples(index=False)
        entry = {name: _plain(value) for name, value in condition.items()}
        entry["words"] = condition_words(condition, varying)
        entry["places"] = [[_plain(clip), _plain(gop)] for clip, gop in places]
        found.append(entry)
    return found


def _varies(sent: pd.DataFrame, name: str) -> bool:
    if sent.empty:
        return False
    others = [*PLACE, *(other for other in condition_columns() if other != name)]
    return bool(sent.groupby(others, dropna=False)[name].nunique(dropna=False).max() > 1)


def _columns(points: pd.DataFrame) -> dict[str, Any]:
    """The rows by column; a column of one value is told once, text is stored as codes."""
    varying: list[dict[str, Any]] = []
    constant: dict[str, Any] = {}
    for name in points:
        values = points[name]
        if len(values) > 1 and values.nunique(dropna=False) <= 1:
            constant[str(name)] = _plain(values.iloc[0])
            continue
        entry = asdict(column(str(name)))
        if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
            entry["values"] = [_plain(value) for value in values]
        else:
            codes, texts = pd.factorize(values.astype(str).where(values.notna(), ""))
            entry |= {"codes": codes.tolist(), "texts": list(texts)}
        varying.append(entry)
    return {"length": len(points), "columns": varying, "constant": constant}


def _plain(value: Any) -> Any:
    """A JSON value: NaN becomes null, floats keep ``_DIGITS`` significant digits."""
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    whole = value.is_integer() and abs(value) < 1e9
    return int(value) if whole else float(f"{value:.{_DIGITS}g}")


# ---- parts of the page --------------------------------------------------------------------------


def _table_html(table: Table) -> str:
    """A sortable table; best in bold, second-best underlined, published rows set apart."""
    heads = [*table.key_names, "Source", *table.column_names]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    marked = table.printed(
        lambda text, rank: f"<b>{text}</b>" if rank == BEST else f"<u>{text}</u>", "–"
    )
    body = []
    for row, texts in zip(table.rows, marked, strict=True):
        keys = "".join(f"<td>{html.escape(text)}</td>" for text in (*row.keys, row.source))
        cells = "".join(
            f"<td class='number' data-sort='{'' if math.isnan(cell[0]) else f'{cell[0]:.10g}'}'>"
            f"{text}</td>"
            for cell, text in zip(row.cells, texts, strict=True)
        )
        body.append(f'<tr class="{row.source}">{keys}{cells}</tr>')
    notes = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in table.notes)
    return (
        f"<figure class='table'><figcaption>{html.escape(table.title)}</figcaption>"
        f"<div class='scroll'><table class='sortable' id='{table.name}'><thead><tr>{head}</tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table></div>{notes}</figure>"
    )


def _summary(results: Results) -> str:
    manifest, points = results.manifest, results.points
    facts = [f"{len(points)} points"]
    if len(points):
        counts = points["status"].value_counts()
        facts.append(", ".join(f"{status} {number}" for status, number in counts.items()))
        facts.append(f"schemes: {', '.join(dict.fromkeys(points['scheme']))}")
    facts += [f"{key} {manifest[key]}" for key in ("finished", "pvsc_link") if manifest.get(key)]
    return html.escape(" · ".join(facts))


def _list(sentences: Sequence[str]) -> str:
    if not sentences:
        return "<p>Nothing is missing.</p>"
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in sentences) + "</ul>"


def _commands(results: Results) -> str:
    lines = []
    for name, manifest in _manifests(results).items():
        own = [str(manifest["command"])] if manifest.get("command") else []
        codecs = manifest.get("codec_commands")
        if isinstance(codecs, dict):
            own += [f"{codec}: {command}" for codec, command in codecs.items()]
        lines += [f"# {name}", *own, ""] if name else own
    return html.escape("\n".join(lines) or "No command is on record.")


def _manifest_text(results: Results) -> str:
    """The manifest without what the page shows elsewhere or nobody reads."""
    hidden = ("codec_commands", "mcs_choice", "made_of")
    shown = {
        name: {key: value for key, value in manifest.items() if key not in hidden}
        for name, manifest in _manifests(results).items()
    }
    told: Any = shown if results.runs else shown[""]
    return json.dumps(told, indent=1, ensure_ascii=False) if told else "No manifest."


def _manifests(results: Results) -> dict[str, Mapping[str, Any]]:
    """Manifest by the name of the run; the name of a single run is empty."""
    return {name: run.manifest for name, run in results.runs.items()} or {"": results.manifest}


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # half a second, and only the page needs it

    return get_plotlyjs().replace("</script", "<\\/script")


def _script_json(data: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    return files("pvsc_link.report").joinpath(name).read_text(encoding="utf-8")
