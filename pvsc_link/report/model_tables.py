"""Complexity, ablation and loss terms in the form of the paper's Tables IV, V and VI."""

import re

import pandas as pd

from pvsc_link.report import published
from pvsc_link.report.results import Results
from pvsc_link.report.style import METRICS, scheme_style
from pvsc_link.report.table import OURS, PUBLISHED, Row, Table, ranked, row

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
    paper = published.complexity()
    rows: list[Row] = []
    for label, of_size in complexity.groupby("label", sort=False):
        if label not in set(paper["resolution"]):
            continue
        for _, line in of_size.iterrows():
            if not str(line["preset"]).endswith("_intra") and not _MODEL.search(line["preset"]):
                rows.append(row(OURS, [label, line["preset"]], _cells(line, columns)))
        for _, line in paper[paper["resolution"] == label].iterrows():
            rows.append(row(PUBLISHED, [label, line["method"]], _cells(line, columns)))
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
    for model in published.ablation()["model"]:
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
            rows.append(row(OURS, [model.upper()], _cells(line, _ABLATION_COLUMNS)))
    return rows


_ABLATION_COLUMNS = ("bd_cbr_percent", "macs_g", "params_m", *_TIMES)


def _ablation(rows: list[Row]) -> Table:
    paper = published.ablation()
    theirs = [
        row(PUBLISHED, [str(line["model"]).upper()], _cells(line, _ABLATION_COLUMNS))
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
        row(PUBLISHED, [line["method"], *(_tick(line[t]) for t in _TERMS)], _cells(line, columns))
        for _, line in published.loss_terms().iterrows()
    ]
    table = Table(
        name="table_6_loss_terms",
        title="BD-CBR (%) by loss terms (form of Table VI)",
        key_names=("Method", "L_rec", "L_per", "L_adv"),
        column_names=("PSNR", "LPIPS", "DISTS"),
        measures=("",),
        rows=[*rows, *theirs],
        notes=["Published: UVG, AWGN 10 dB, GOP 4.", published.CAVEAT],
    )
    return ranked(table, group_by=())


def _tick(used: int) -> str:
    return "yes" if used else ""


def _cells(line, columns) -> list[list[float]]:
    return [[pd.to_numeric(line.get(name), errors="coerce")] for name in columns]
