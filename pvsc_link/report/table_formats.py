"""Tables as CSV for programs, Markdown for reading, LaTeX (booktabs) for a paper."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

from pvsc_link.report.table import BEST, PUBLISHED, SECOND, Number, Row, Table

_LATEX_SPECIAL = str.maketrans(
    {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "~": r"\textasciitilde{}"}
)


def write_formats(table: Table, folder: Path) -> list[Path]:
    """``NAME.csv``, ``NAME.md`` and ``NAME.tex`` in ``folder``; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"csv": as_csv(table), "md": as_markdown(table), "tex": as_latex(table)}
    paths = []
    for ending, text in texts.items():
        paths.append(folder / f"{table.name}.{ending}")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def as_csv(table: Table) -> str:
    """One column per number, unrounded, and ``source`` (ours or published) as the first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    several = len(table.measures) > 1
    heads = [
        f"{name} {measure}" if several else name
        for name in table.column_names
        for measure in table.measures
    ]
    writer.writerow(["source", *table.key_names, *heads])
    for row in table.rows:
        numbers = [number for cell in row.cells for number in cell]
        values = [f"{n.value:.10g}" if n.value == n.value else "" for n in numbers]
        writer.writerow([row.source, *row.keys, *values])
    return out.getvalue()


def as_markdown(table: Table) -> str:
    """Best in bold, second-best underlined, published rows in italics."""
    heads = [*table.key_names, "Source", *table.column_names]
    lines = [f"**{table.title}**", "", _pipe(heads), _pipe(["---"] * len(heads))]
    marks: dict[int, Callable[[str], str]] = {
        BEST: lambda text: f"**{text}**",
        SECOND: lambda text: f"<u>{text}</u>",
    }
    for row in table.rows:
        cells = [*row.keys, row.source, *_cells(table, row, marks, "–")]
        if row.source == PUBLISHED:
            cells = [f"*{cell}*" for cell in cells]
        lines.append(_pipe(cells))
    return "\n".join([*lines, "", *_with_legend(table), ""])


def as_latex(table: Table) -> str:
    """A ``table*`` for booktabs; published rows in italics."""
    marks: dict[int, Callable[[str], str]] = {
        BEST: lambda text: rf"\textbf{{{text}}}",
        SECOND: lambda text: rf"\underline{{{text}}}",
    }
    num_keys = len(table.key_names) + 1
    heads = [_tex(name) for name in (*table.key_names, "Source", *table.column_names)]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{_tex(table.title)}. {_tex(' '.join(_with_legend(table)))}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{'l' * num_keys}{'r' * len(table.column_names)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    before = table.rows[0].keys[0] if table.rows else ""
    for row in table.rows:
        if row.keys[0] != before:
            lines.append(r"\addlinespace")
            before = row.keys[0]
        cells = [*map(_tex, row.keys), row.source, *_cells(table, row, marks, "--")]
        if row.source == PUBLISHED:
            cells = [rf"\textit{{{cell}}}" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _cells(
    table: Table, row: Row, marks: dict[int, Callable[[str], str]], absent: str
) -> list[str]:
    def shown(number: Number, column: int) -> str:
        text = table.text(number, column)
        return marks.get(number.rank, str)(text) if text else absent

    cells = []
    for column, cell in enumerate(row.cells):
        texts = [shown(number, column) for number in cell]
        cells.append(absent if set(texts) == {absent} else " / ".join(texts))
    return cells


def _with_legend(table: Table) -> list[str]:
    ranked = any(number.rank for row in table.rows for cell in row.cells for number in cell)
    legend = ["Best of ours in bold, second-best underlined."] if ranked else []
    return [*legend, *table.notes]


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _tex(text: str) -> str:
    return text.translate(_LATEX_SPECIAL)
