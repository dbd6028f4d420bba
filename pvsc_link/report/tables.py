"""A table of numbers with a best and a second-best: the model that every format is written from.

Tables as CSV for programs, Markdown for reading, LaTeX (booktabs) for a paper.

The paper's own numbers, as printed in its Tables I to VI.

Which test set a clip belongs to: the columns of the paper's tables.

BD-CBR in the form of the paper's Tables I (data sets and GOP), II (SNR) and III (NMSE).

Complexity, ablation and loss terms in the form of the paper's Tables IV, V and VI.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from pvsc_link.report.curves import clip_stem, curve_styles, with_curve_keys
from pvsc_link.report.results import Results
from pvsc_link.report.style import CHANNEL_TITLES, METRICS, scheme_style

OURS, PUBLISHED = "ours", "published"
BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Number:
    """One number; ``rank`` is ``BEST``, ``SECOND`` or 0."""

    value: float
    rank: int = 0


@dataclass(frozen=True)
class Row:
    """One line: who says so, what it is about, and per column one number for each measure."""

    source: str  # OURS or PUBLISHED
    keys: tuple[str, ...]
    cells: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    ``name`` : of its files; ``measures`` : what stands in one cell, in order, e.g. LPIPS / DISTS;
    ``lower_is_better`` : per column; ``digits`` : after the point, per column.
    """

    name: str
    title: str
    key_names: tuple[str, ...]
    column_names: tuple[str, ...]
    measures: tuple[str, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    digits: tuple[int, ...] = ()

    def text(self, number: Number, column: int) -> str:
        """A number as printed; an empty text where there is none."""
        digits = self.digits[column] if self.digits else 1
        if not math.isfinite(number.value):
            return ""
        rounded = round(number.value, digits) + 0.0  # no "-0.0"
        return f"{rounded:.{digits}f}"

    def _repr_markdown_(self) -> str:
        pass

        return as_markdown(self)


def row(source: str, keys: Sequence[object], cells: Sequence[Sequence[float]]) -> Row:
    """A row from plain values."""
    numbers = tuple(tuple(Number(float(value)) for value in cell) for cell in cells)
    return Row(source, tuple(str(key) for key in keys), numbers)


def ranked(table: Table, group_by: Sequence[int]) -> Table:
    """The table with the lowest number of ours marked best, the next second-best.

    Parameters: ``group_by`` : places of the keys within whose equal values rows compete. Every
    column and measure is ranked alone; equal numbers share a mark; a group of one has no best.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, line in enumerate(table.rows):
        if line.source == OURS:
            groups[tuple(line.keys[i] for i in group_by)].append(place)
    rows = list(table.rows)
    for places in groups.values():
        for column in range(len(table.column_names)):
            for measure in range(len(table.measures)):
                _mark(table, rows, places, column, measure)
    return replace(table, rows=rows)


def _mark(table: Table, rows: list[Row], places: list[int], column: int, measure: int) -> None:
    """Mark the best two among ``places``, by the numbers as printed."""
    shown = {p: table.text(rows[p].cells[column][measure], column) for p in places}
    values = sorted({float(text) for text in shown.values() if text})
    if sum(bool(text) for text in shown.values()) < 2:
        return
    marks = dict(zip(values, (BEST, SECOND), strict=False))
    for place, text in shown.items():
        if text and float(text) in marks:
            cells = [list(cell) for cell in rows[place].cells]
            cells[column][measure] = replace(cells[column][measure], rank=marks[float(text)])
            rows[place] = replace(rows[place], cells=tuple(tuple(cell) for cell in cells))


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


#: Data sets in the order of the paper's columns; the mean over them is its last column.
DATASETS = ("UVG", "MCL-JCV", "HEVC A", "HEVC B", "HEVC C", "HEVC D", "HEVC E")
AVERAGE = "Average"

#: What a reader must know wherever a published number stands beside one of ours.
CAVEAT = (
    "Rows marked published are the paper's own values: full test sets, anchor VTM-17.0, the "
    "authors' weights. Rows marked ours are measured here, on the clips and against the anchor "
    "named; compare the order of schemes before the numbers."
)


@cache
def published_bd_cbr() -> pd.DataFrame:
    """Tables I to III: table, method, channel, snr_db, nmse_db, gop, dataset, BD-CBR in percent."""
    return _read("paper_bd_cbr.csv")


@cache
def published_complexity() -> pd.DataFrame:
    """Table IV: milliseconds, mega-MACs per pixel and millions of parameters by resolution."""
    return _read("paper_complexity.csv")


@cache
def published_ablation() -> pd.DataFrame:
    """Table V: M_a to M_e, what each contains, BD-CBR against M_e, giga-MACs, parameters, times."""
    return _read("paper_ablation.csv")


@cache
def published_loss_terms() -> pd.DataFrame:
    """Table VI: loss terms in use and BD-CBR against VTM on three metrics."""
    return _read("paper_loss_terms.csv")


def _read(name: str) -> pd.DataFrame:
    with files("pvsc_link.report").joinpath(name).open("rb") as file:
        return pd.read_csv(file)


_MEMBERS = {
    "UVG": "Beauty Bosphorus HoneyBee Jockey ReadySteadyGo ShakeNDry YachtRide",
    "MCL-JCV": " ".join(f"videoSRC{number:02d}" for number in range(1, 31)),
    "HEVC A": "Traffic PeopleOnStreet NebutaFestival SteamLocomotiveTrain",
    "HEVC B": "Kimono1 ParkScene Cactus BasketballDrive BQTerrace",
    "HEVC C": "BasketballDrill BQMall PartyScene RaceHorsesC",
    "HEVC D": "BasketballPass BQSquare BlowingBubbles RaceHorses",
    "HEVC E": "FourPeople Johnny KristenAndSara",
}
_SET_OF = {clip: name for name, clips in _MEMBERS.items() for clip in clips.split()}


def video_set_of(clip: str) -> str | None:
    """Name of the set that a sequence belongs to, or ``None`` for any other clip."""
    return _SET_OF.get(clip)


#: The SNR of Table I; without it, the nearest there is.
_TABLE_I_SNR_DB = 6.0
_KEY_TITLES = {
    "gop": "GOP",
    "snr_db": "SNR (dB)",
    "csi_nmse_db": "CSI NMSE (dB)",
    "coherence_length": "Coherence",
}
_PUBLISHED_COLUMN = {"gop": "gop", "snr_db": "snr_db", "csi_nmse_db": "nmse_db"}
_TITLES = {metric.key: metric.title.split(" ")[0] for metric in METRICS}


@dataclass(frozen=True)
class _Form:
    """One table to make: the paper's number, its rows, what its lines are told apart by."""

    number: str
    name: str
    rows: pd.DataFrame
    keys: tuple[str, ...]
    under: str  # the condition that all lines share


def bd_tables(results: Results) -> list[Table]:
    """Every BD-CBR table that the results have rows for; perceptual metrics first, then PSNR."""
    bd = results.bd
    if bd.empty or not {"metric", "clip", "bd_cbr_percent", "channel"} <= set(bd.columns):
        return []
    bd = with_curve_keys(bd[bd["clip"] != "mean"].assign(variant=bd["variant"].fillna("")))
    labels = {key: style.label for key, style in curve_styles(bd).items()}
    tables = []
    for metrics in (("lpips", "dists"), ("psnr",)):
        here = bd[bd["metric"].isin(metrics)]
        present = [name for name in metrics if (here["metric"] == name).any()]
        if present:
            tables += [_table(form, present, labels) for form in _forms(here)]
    return tables


def _forms(bd: pd.DataFrame) -> Iterator[_Form]:
    flat = bd[bd["channel"] == "awgn"]
    if len(flat):
        snrs = sorted(flat["snr_db"].unique())
        snr = min(snrs, key=lambda value: abs(value - _TABLE_I_SNR_DB))
        under = f"AWGN, SNR = {snr:g} dB"
        yield _Form("I", "table_1_datasets_gop", flat[flat["snr_db"] == snr], ("gop",), under)
        if len(snrs) > 1:
            yield _Form("II", "table_2_snr", flat, ("snr_db", "gop"), "AWGN")
    for channel, fading in bd[bd["channel"] != "awgn"].groupby("channel", sort=False):
        axes = ("snr_db", "coherence_length", "gop")
        varying = [name for name in axes if fading[name].nunique(dropna=False) > 1]
        fixed = {name: fading[name].iloc[0] for name in axes if name not in varying}
        title = CHANNEL_TITLES.get(str(channel), str(channel))
        under = ", ".join([f"{title} fading", *_fixed_words(fixed)])
        keys = ("csi_nmse_db", *varying)
        yield _Form("III", f"table_3_nmse_{channel}", fading, keys, under)


def _fixed_words(fixed: dict) -> list[str]:
    return [
        f"{_KEY_TITLES[name].split(' ')[0]} = {value:g}{' dB' if name.endswith('_db') else ''}"
        for name, value in fixed.items()
        if not pd.isna(value)
    ]


def _table(form: _Form, metrics: Sequence[str], labels: dict[str, str]) -> Table:
    rows = form.rows.assign(
        column=[video_set_of(clip) or clip_stem(clip) for clip in form.rows["clip"]]
    )
    theirs = _of_our_rows(_published_rows(form, metrics), rows, form.keys)
    columns = list(dict.fromkeys(rows["column"]))
    if theirs:
        columns += [name for name in DATASETS if name not in columns]
    columns.append(AVERAGE)
    anchor = scheme_style(str(rows["anchor"].iloc[0]).split(":")[0]).label
    measured = " / ".join(_TITLES[name] for name in metrics)
    notes = [f"Smaller is better. Anchor of ours: {anchor}."]
    notes += [CAVEAT] if theirs else []
    table = Table(
        name=form.name + ("_psnr" if list(metrics) == ["psnr"] else ""),
        title=f"BD-CBR (%) on {measured}, {form.under} (form of Table {form.number})",
        key_names=("Method", *(_KEY_TITLES[key] for key in form.keys)),
        column_names=tuple(columns),
        measures=tuple(_TITLES[name] for name in metrics),
        rows=list(_lines(rows, form, metrics, columns, labels, theirs)),
        notes=notes,
    )
    return ranked(table, group_by=range(1, 1 + len(form.keys)))


def _lines(
    rows: pd.DataFrame,
    form: _Form,
    metrics: Sequence[str],
    columns: Sequence[str],
    labels: dict[str, str],
    theirs: dict[tuple, dict],
) -> Iterator[Row]:
    """Ours by curve and keys; after the last curve of a scheme, what the paper prints for it."""
    for scheme, of_scheme in rows.groupby("scheme", sort=False):
        method = scheme_style(str(scheme)).label
        for key, group in of_scheme.groupby(list(form.keys), dropna=False):
            shown = [_key_text(value) for value in key]
            for curve, own in group.groupby("curve", sort=False):
                yield row(OURS, [labels[curve], *shown], _own_cells(own, metrics, columns))
            found = theirs.get((method, *map(_comparable, key)))
            if found:
                cells = [found.get(name, [float("nan")] * len(metrics)) for name in columns]
                yield row(PUBLISHED, [method, *shown], cells)


def _own_cells(
    own: pd.DataFrame, metrics: Sequence[str], columns: Sequence[str]
) -> list[list[float]]:
    """Mean over the clips of each column; the average is over columns, NaN if one has none."""
    by_metric = []
    for metric in metrics:
        here = own[own["metric"] == metric]
        means = here.groupby("column")["bd_cbr_percent"].agg(lambda v: v.mean(skipna=False))
        average = means.mean(skipna=False) if len(means) else float("nan")
        by_metric.append([*(means.get(name, float("nan")) for name in columns[:-1]), average])
    return [list(cell) for cell in zip(*by_metric, strict=True)]


def _published_rows(form: _Form, metrics: Sequence[str]) -> dict[tuple, dict[str, list[float]]]:
    """The paper's rows of this table by (method, *keys), for keys and metrics that it has."""
    names = [_PUBLISHED_COLUMN.get(key) for key in form.keys]
    if None in names or list(metrics) == ["psnr"]:
        return {}
    paper = published_bd_cbr()
    paper = paper[paper["table"] == form.number]
    for name, ours in (("snr_db", "snr_db"), ("gop", "gop")):
        if ours not in form.keys:  # a condition that our lines share must be the paper's too
            paper = paper[paper[name].isna() | paper[name].isin(form.rows[ours].unique())]
    found: dict[tuple, dict[str, list[float]]] = {}
    for _, line in paper.iterrows():
        place = (line["method"], *(_comparable(line[name]) for name in names))
        values = [line[f"bd_cbr_{metric}_percent"] for metric in metrics]
        found.setdefault(place, {})[line["dataset"]] = values
    return found


def _of_our_rows(
    theirs: dict[tuple, dict[str, list[float]]], rows: pd.DataFrame, keys: Sequence[str]
) -> dict[tuple, dict[str, list[float]]]:
    """Those of the paper's rows that stand below one of ours."""
    places = rows[["scheme", *keys]].drop_duplicates().itertuples(index=False)
    ours = {(scheme_style(str(p[0])).label, *map(_comparable, p[1:])) for p in places}
    return {place: row for place, row in theirs.items() if place in ours}


def _comparable(value: object) -> float | None:
    return None if pd.isna(value) else float(value)  # type: ignore[arg-type]


def _key_text(value: object) -> str:
    return "perfect" if pd.isna(value) else f"{value:g}"


_TIMES = ("tx_ms", "rx_ms")
_TIME_NOTE = (
    "Times depend on the machine: published ones are of an NVIDIA RTX 4090, ours of the machine "
    "in the manifest beside complexity.csv."
)
_MODEL = re.compile(r"_?(m_[a-e])$")
_TERMS = ("rec", "per", "adv")


def model_tables(results: Results) -> tuple[list[Table], list[str]]:
    """The tables that the results have rows for, and why the others are absent."""
    tables, remarks = [], []
    if len(results.complexity):
        tables.append(_complexity(results.complexity))
    else:
        remarks.append(
            "No complexity table: there is no complexity.csv here or in ../complexity "
            "(python -m pvsc_link.bench complexity --preset pvsc_paper --csv FILE writes it)."
        )
    for number, rows, make in (
        ("V (ablation)", _ablation_rows(results), _ablation),
        ("VI (loss terms)", _loss_rows(results.bd), _loss_terms),
    ):
        if rows:
            tables.append(make(rows))
        else:
            remarks.append(f"No table in the form of Table {number}: no such model is here.")
    return tables, remarks


def _complexity(complexity: pd.DataFrame) -> Table:
    columns = (*_TIMES, "macs_m_per_pixel", "params_m")
    paper = published_complexity()
    rows: list[Row] = []
    for label, of_size in complexity.groupby("label", sort=False):
        if label not in set(paper["resolution"]):
            continue
        for _, line in of_size.iterrows():
            if not str(line["preset"]).endswith("_intra") and not _MODEL.search(line["preset"]):
                rows.append(row(OURS, [label, line["preset"]], _model_cells(line, columns)))
        for _, line in paper[paper["resolution"] == label].iterrows():
            rows.append(row(PUBLISHED, [label, line["method"]], _model_cells(line, columns)))
    table = Table(
        name="table_4_complexity",
        title="Computational complexity at different resolutions (form of Table IV)",
        key_names=("Resolution", "Method"),
        column_names=("Tx (ms)", "Rx (ms)", "MACs (M/pixel)", "Params (M)"),
        measures=("",),
        rows=rows,
        notes=[
            _TIME_NOTE,
            "GLC-Video: source coding alone. Params: of all models that four rates need.",
        ],
        digits=(1, 1, 2, 1),
    )
    return ranked(table, group_by=(0,))


def _ablation_rows(results: Results) -> list[Row]:
    """Ours of M_a to M_e: MACs and times from complexity.csv, BD-CBR from bd_cbr.csv."""
    complexity, bd = results.complexity, results.bd
    rows = []
    for model in published_ablation()["model"]:
        line: dict[str, object] = {}
        if len(complexity):
            own = complexity["preset"].astype(str).str.endswith(f"_{model}")
            large = complexity["label"].isin(("table_v", "1080p"))
            for _, found in complexity[own & large].iterrows():
                line |= {k: v for k, v in found.items() if pd.notna(v) and k not in line}
        if len(bd) and "variant" in bd:
            own = (bd["scheme"] == "pvsc") & bd["variant"].astype(str).str.endswith(model)
            values = bd[own & (bd["metric"] == "lpips") & (bd["clip"] != "mean")]
            if len(values):
                line["bd_cbr_percent"] = values["bd_cbr_percent"].mean()
        if line:
            rows.append(row(OURS, [model.upper()], _model_cells(line, _ABLATION_COLUMNS)))
    return rows


_ABLATION_COLUMNS = ("bd_cbr_percent", "macs_g", "params_m", *_TIMES)


def _ablation(rows: list[Row]) -> Table:
    paper = published_ablation()
    theirs = [
        row(PUBLISHED, [str(line["model"]).upper()], _model_cells(line, _ABLATION_COLUMNS))
        for _, line in paper.iterrows()
    ]
    table = Table(
        name="table_5_ablation",
        title="Ablation of spatio-temporal feature coding (form of Table V)",
        key_names=("Model",),
        column_names=("BD-CBR (%)", "MACs (G)", "Params (M)", "Tx (ms)", "Rx (ms)"),
        measures=("",),
        rows=sorted([*rows, *theirs], key=lambda line: (line.keys[0], line.source)),
        notes=[
            "M_A: no spatio-temporal coding; M_B: temporal; M_C: spatial; M_D: both, full rate "
            "set; M_E: both, distilled rate set. Published: UVG, AWGN 10 dB, GOP 12, against M_E.",
            _TIME_NOTE,
        ],
    )
    return ranked(table, group_by=())


def terms_of(variant: str) -> tuple[int, int, int] | None:
    """Loss terms that a variant's name states, e.g. ``rec+per``; ``None`` if it states none."""
    words = set(re.split(r"[+_ -]", variant))
    return tuple(int(term in words) for term in _TERMS) if "rec" in words else None  # type: ignore[return-value]


def _loss_rows(bd: pd.DataFrame) -> list[Row]:
    """Ours: semantic schemes whose variant names its loss terms, mean over what was run."""
    if bd.empty or not {"variant", "metric", "scheme"} <= set(bd.columns):
        return []
    rows = []
    here = bd[(bd["clip"] != "mean") & bd["variant"].notna()]
    for (scheme, variant), group in here.groupby(["scheme", "variant"], sort=False):
        terms = terms_of(str(variant))
        if terms:
            means = group.groupby("metric")["bd_cbr_percent"].mean()
            values = [[means.get(metric.key, float("nan"))] for metric in METRICS]
            rows.append(row(OURS, [scheme_style(str(scheme)).label, *map(_tick, terms)], values))
    return rows


def _loss_terms(rows: list[Row]) -> Table:
    columns = [f"bd_cbr_{metric.key}_percent" for metric in METRICS]
    theirs = [
        row(
            PUBLISHED,
            [line["method"], *(_tick(line[t]) for t in _TERMS)],
            _model_cells(line, columns),
        )
        for _, line in published_loss_terms().iterrows()
    ]
    table = Table(
        name="table_6_loss_terms",
        title="BD-CBR (%) by loss terms (form of Table VI)",
        key_names=("Method", "L_rec", "L_per", "L_adv"),
        column_names=("PSNR", "LPIPS", "DISTS"),
        measures=("",),
        rows=[*rows, *theirs],
        notes=["Published: UVG, AWGN 10 dB, GOP 4.", CAVEAT],
    )
    return ranked(table, group_by=())


def _tick(used: int) -> str:
    return "yes" if used else ""


def _model_cells(line, columns) -> list[list[float]]:
    return [[pd.to_numeric(line.get(name), errors="coerce")] for name in columns]
