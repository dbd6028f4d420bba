"""BD-CBR in the form of the paper's Tables I (data sets and GOP), II (SNR) and III (NMSE)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from pvsc_link.report import published
from pvsc_link.report.curves import clip_stem, curve_styles, with_curve_keys
from pvsc_link.report.results import Results
from pvsc_link.report.style import CHANNEL_TITLES, METRICS, scheme_style
from pvsc_link.report.table import OURS, PUBLISHED, Row, Table, ranked, row
from pvsc_link.report.video_sets import video_set_of

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
        columns += [name for name in published.DATASETS if name not in columns]
    columns.append(published.AVERAGE)
    anchor = scheme_style(str(rows["anchor"].iloc[0]).split(":")[0]).label
    measured = " / ".join(_TITLES[name] for name in metrics)
    notes = [f"Smaller is better. Anchor of ours: {anchor}."]
    notes += [published.CAVEAT] if theirs else []
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
    paper = published.bd_cbr()
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
