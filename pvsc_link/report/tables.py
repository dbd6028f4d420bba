"""Tables in the form of the paper's Tables I to VI, ours beside what the paper prints.

First the paper's own numbers, then the tables of BD-CBR (I to III), of quality over GOPs and of
losses and latency, and the tables about models: complexity (IV), ablation (V) and loss terms (VI).
Their form is that of ``table_formats``.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from pvsc_link.intervals import MIN_UNITS, bootstrap_interval
from pvsc_link.link import CHANNELS
from pvsc_link.metrics import METRICS
from pvsc_link.report.curves import (
    condition_columns,
    condition_words,
    curve_styles,
    harq_words,
    is_packets,
    short_clip_names,
    value_title,
    varying_conditions,
    with_curve_keys,
)
from pvsc_link.report.results import Results
from pvsc_link.report.style import channel_label, scheme_style
from pvsc_link.report.table_formats import AVERAGE, NAN, OURS, PUBLISHED, Row, Table, make_row
from pvsc_link.types import InputError

#: Data sets in the order of the paper's columns; the mean over them (``AVERAGE``) is the last.
DATASETS = ("UVG", "MCL-JCV", "HEVC A", "HEVC B", "HEVC C", "HEVC D", "HEVC E")
_CLIPS = {
    "UVG": "Beauty Bosphorus HoneyBee Jockey ReadySteadyGo ShakeNDry YachtRide",
    "MCL-JCV": " ".join(f"videoSRC{number:02d}" for number in range(1, 31)),
    "HEVC A": "Traffic PeopleOnStreet NebutaFestival SteamLocomotiveTrain",
    "HEVC B": "Kimono1 ParkScene Cactus BasketballDrive BQTerrace",
    "HEVC C": "BasketballDrill BQMall PartyScene RaceHorsesC",
    "HEVC D": "BasketballPass BQSquare BlowingBubbles RaceHorses",
    "HEVC E": "FourPeople Johnny KristenAndSara",
}
#: Name of the data set by clip; a clip of no data set is not listed.
DATASET_OF = {clip: name for name, clips in _CLIPS.items() for clip in clips.split()}

#: What a reader must know wherever a published number stands beside one of ours.
CAVEAT = (
    "Rows marked published are the paper's own values: full test sets, anchor VTM-17.0, the "
    "authors' weights. Rows marked ours are measured here, on the clips and against the anchor "
    "named; compare the order of schemes before the numbers."
)


@cache
def published(name: str) -> pd.DataFrame:
    """What the paper prints: ``bd_cbr`` (Tables I to III), ``complexity`` (IV), ``ablation`` (V)
    or ``loss_terms`` (VI), with units in the names of the columns."""
    with files("pvsc_link.report").joinpath(f"paper_{name}.csv").open("rb") as file:
        return pd.read_csv(file)


# ---- BD-CBR: Tables I (data sets and GOP), II (SNR) and III (NMSE) -------------------------------

#: The SNR of Table I; without it, the nearest there is.
_TABLE_I_SNR_DB = 6.0
_KEY_TITLES = {
    "gop": "GOP",
    "snr_db": "SNR (dB)",
    "csi_nmse_db": "CSI NMSE (dB)",
    "coherence_length": "Coherence",
}
_PUBLISHED_COLUMN = {"gop": "gop", "snr_db": "snr_db", "csi_nmse_db": "nmse_db"}
#: PSNR has tables of its own; the paper's tables hold the perceptual metrics.
_PSNR = ["psnr"]
#: Numbers by column for each (method, *keys).
_Lines = dict[tuple, dict[str, list[float]]]


@dataclass(frozen=True)
class _Form:
    """One table to make: the paper's number, its rows, what its lines are told apart by."""

    number: str
    name: str
    rows: pd.DataFrame
    keys: tuple[str, ...]
    under: str  # the condition that all lines share


def comparison_tables(results: Results) -> list[Table]:
    """Every table of BD-CBR that the results have rows for; perceptual metrics first, then PSNR."""
    bd = results.bd
    if bd.empty or not {"metric", "clip", "bd_cbr_percent", "channel"} <= set(bd.columns):
        return []
    bd = with_curve_keys(bd[bd["clip"] != "mean"].assign(variant=bd["variant"].fillna("")))
    labels = {key: style.label for key, style in curve_styles(bd).items()}
    tables = []
    for metrics in ([name for name in METRICS if name not in _PSNR], _PSNR):
        here = bd[bd["metric"].isin(metrics)]
        present = [name for name in metrics if (here["metric"] == name).any()]
        if present:
            tables += [_comparison(form, present, labels) for form in _forms(here)]
    return tables


def _forms(bd: pd.DataFrame) -> Iterator[_Form]:
    flat = bd[bd["channel"] == "awgn"]
    if len(flat):
        more = tuple(_further_keys(flat))
        snrs = sorted(flat["snr_db"].unique())
        snr = min(snrs, key=lambda value: abs(value - _TABLE_I_SNR_DB))
        under = f"{channel_label('awgn')}, SNR = {snr:g} dB"
        yield _Form("I", "table_1_datasets_gop", flat[flat["snr_db"] == snr], ("gop", *more), under)
        if len(snrs) > 1:
            under = channel_label("awgn")
            yield _Form("II", "table_2_snr", flat, ("snr_db", "gop", *more), under)
    for channel, fading in bd[bd["channel"] != "awgn"].groupby("channel", sort=False):
        label, estimated = channel_label(str(channel)), _has_nmse(str(channel))
        words = [f"{label} fading" if estimated else label]
        keys = ["csi_nmse_db"] if estimated else []
        for name in ("snr_db", "coherence_length", "gop"):
            value = fading[name].iloc[0]
            if fading[name].nunique(dropna=False) > 1:
                keys.append(name)
            elif not pd.isna(value):
                title, unit = _KEY_TITLES[name].split(" ")[0], " dB" if name == "snr_db" else ""
                words.append(f"{title} = {value:g}{unit}")
        keys += _further_keys(fading)
        name = f"table_3_nmse_{channel}" if estimated else f"table_3_{channel}"
        yield _Form("III", name, fading, tuple(keys) or ("gop",), ", ".join(words))


def _has_nmse(channel: str) -> bool:
    return channel not in CHANNELS or CHANNELS[channel].is_estimated


def _further_keys(rows: pd.DataFrame) -> list[str]:
    """Parts of the condition that vary and that the paper's tables do not have."""
    return [name for name in varying_conditions(rows) if name not in (*_KEY_TITLES, "channel")]


def _key_title(key: str) -> str:
    return _KEY_TITLES.get(key) or value_title(key)


def _key_text(key: str, value: Any) -> str:
    """A value of a key; NaN is a perfect estimate, or something that is off."""
    if pd.isna(value):
        return "perfect" if key == "csi_nmse_db" else "none"
    if key == "harq":
        return harq_words(value)
    if key == "channel":
        return channel_label(str(value))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:g}" if is_number else str(value)


def _comparison(form: _Form, metrics: list[str], labels: dict[str, str]) -> Table:
    short = short_clip_names(form.rows["clip"], taken=(*DATASETS, AVERAGE))
    rows = form.rows.assign(
        column=[DATASET_OF.get(clip) or short[str(clip)] for clip in form.rows["clip"]]
    )
    theirs = _published_lines(form, metrics)
    columns = list(dict.fromkeys(rows["column"]))
    if theirs:
        columns += [name for name in DATASETS if name not in columns]
    columns.append(AVERAGE)
    anchor = scheme_style(str(rows["anchor"].iloc[0]).split(":")[0]).label
    measures = tuple(METRICS[name].short_label for name in metrics)
    lines = list(_lines(rows, form, metrics, columns, labels, theirs))
    what = "BD-rate in bytes" if rows["channel"].map(is_packets).all() else "BD-CBR"
    return Table(
        name=form.name + ("_psnr" if metrics == _PSNR else ""),
        title=f"{what} (%) on {' / '.join(measures)}, {form.under} (form of Table {form.number})",
        key_names=("Method", *map(_key_title, form.keys)),
        column_names=tuple(columns),
        measures=measures,
        rows=lines,
        notes=[
            f"Smaller is better. Anchor of ours: {anchor}.",
            *_behind(rows, any(line.ends for line in lines)),
            *([CAVEAT] if theirs else []),
        ],
        group_by=tuple(range(1, 1 + len(form.keys))),
    )


def _lines(
    rows: pd.DataFrame,
    form: _Form,
    metrics: Sequence[str],
    columns: Sequence[str],
    labels: dict[str, str],
    theirs: _Lines,
) -> Iterator[Row]:
    """Ours by curve and keys; after the last curve of a scheme, what the paper prints for it."""
    for scheme, of_scheme in rows.groupby("scheme", sort=False):
        method = scheme_style(str(scheme)).label
        for key, group in of_scheme.groupby(list(form.keys), dropna=False):
            shown = [_key_text(*pair) for pair in zip(form.keys, key, strict=True)]
            for curve, own in group.groupby("curve", sort=False):
                cells, ends = _own_cells(own, metrics, columns)
                yield make_row(OURS, [labels[curve], *shown], cells, ends, _is_of_anchor(own))
            found = theirs.get((method, *map(_comparable, key))) if theirs else None
            if found:
                cells = [found.get(name, [NAN] * len(metrics)) for name in columns]
                yield make_row(PUBLISHED, [method, *shown], cells)


def _is_of_anchor(own: pd.DataFrame) -> bool:
    """Whether the rows compare the anchor, ``scheme`` or ``scheme:variant``, with itself."""
    scheme, variant, anchor = (str(own[name].iloc[0]) for name in ("scheme", "variant", "anchor"))
    is_named = anchor in (scheme, f"{scheme}:{variant}")
    return is_named and bool((own["bd_cbr_percent"].fillna(0.0) == 0.0).all())


def _own_cells(
    own: pd.DataFrame, metrics: Sequence[str], columns: Sequence[str]
) -> tuple[list[list[float]], dict[tuple[int, int], tuple[float, float]]]:
    """Mean over the clips of each column, and over columns (NaN if one has none); interval ends.

    The interval of a single clip is that of ``bd_cbr.csv``; that of a mean resamples its clips, and
    that of the average the columns.
    """
    cells: list[list[float]] = [[] for _ in columns]
    ends = {}
    for measure, metric in enumerate(metrics):
        by_column = own[own["metric"] == metric].groupby("column")
        found = {name: _mean_and_ends(rows) for name, rows in by_column}
        means = [mean for mean, _ in found.values()]
        average = float(np.mean(means)) if means else NAN
        found[AVERAGE] = (average, _ends(means)) if len(means) != 1 else next(iter(found.values()))
        for column, name in enumerate(columns):
            mean, bounds = found.get(name, (NAN, None))
            cells[column].append(mean)
            if bounds is not None:
                ends[column, measure] = bounds
    return cells, ends


def _mean_and_ends(rows: pd.DataFrame) -> tuple[float, tuple[float, float] | None]:
    values = rows["bd_cbr_percent"].astype(float).tolist()
    if len(values) > 1:
        return float(np.mean(values)), _ends(values)
    named = [rows[name].iloc[0] for name in ("bd_cbr_low", "bd_cbr_high") if name in rows]
    known = len(named) == 2 and pd.notna(named).all()
    return values[0], (float(named[0]), float(named[1])) if known else None


def _ends(values: Sequence[float]) -> tuple[float, float] | None:
    """Ends of the interval of a mean; None for too few values, or where one is missing."""
    interval = bootstrap_interval(values) if values and np.isfinite(values).all() else None
    return None if interval is None else (interval.low, interval.high)


def _behind(rows: pd.DataFrame, with_intervals: bool) -> Iterator[str]:
    """Sentences: what stands behind the numbers, and which intervals there are, or why none."""
    num_clips = rows["clip"].nunique()
    of_clip = [
        f"{_span(rows[name])} {word}"
        for name, word in (
            ("num_gops", "GOPs"),
            ("num_seeds", "seeds"),
            ("num_fades", "independent fades"),
        )
        if name in rows and rows[name].notna().any()
    ]
    of_each = f", of each {', '.join(of_clip)}" if of_clip else ""
    yield f"Clips behind the table: {num_clips}{of_each}."
    if with_intervals:
        yield (
            "In brackets: 95 % bootstrap intervals, over the seeds of a clip or over the clips of "
            f"a mean; none for fewer than {MIN_UNITS}."
        )
    else:
        yield f"No intervals: fewer than {MIN_UNITS} clips in a mean, and seeds of a clip."


def _span(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _published_lines(form: _Form, metrics: list[str]) -> _Lines:
    """The paper's numbers by (method, *keys), for the lines that stand below one of ours."""
    names = [_PUBLISHED_COLUMN.get(key) for key in form.keys]
    if None in names or metrics == _PSNR:
        return {}
    places = form.rows[["scheme", *form.keys]].drop_duplicates().itertuples(index=False)
    ours = {(scheme_style(str(p[0])).label, *map(_comparable, p[1:])) for p in places}
    paper = published("bd_cbr")
    paper = paper[paper["table"] == form.number]
    for name in ("snr_db", "gop"):
        if name not in form.keys:  # a condition that our lines share must be the paper's too
            paper = paper[paper[name].isna() | paper[name].isin(form.rows[name].unique())]
    found: _Lines = defaultdict(dict)
    for _, line in paper.iterrows():
        place = (line["method"], *(_comparable(line[name]) for name in names))
        if place in ours:
            values = [line.get(f"bd_cbr_{metric}_percent", NAN) for metric in metrics]
            found[place][line["dataset"]] = values
    return found


def _comparable(value: object) -> float | None:
    return None if pd.isna(value) else float(value)  # type: ignore[arg-type]


# ---- how quality is distributed over GOPs --------------------------------------------------------


def distribution_tables(results: Results) -> list[Table]:
    """Per metric: mean, interval, 5th and 95th percentile over GOPs, of ``seed_means.csv``.

    No table where the results have no percentiles. With several clips only their mean is shown.
    """
    path = results.folder / "seed_means.csv"
    means = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    if means.empty:
        return []
    pooled = means["clip"] == "mean"
    means = means[pooled] if pooled.any() else means
    wanted = [*_OF_CURVE, *told_apart(means), "clip", "status"]
    names = [n for n in dict.fromkeys(wanted) if n in means and means[n].nunique(dropna=False) > 1]
    tables = []
    for metric in METRICS.values():
        column = metric.column
        if f"{column}_p5" not in means or means[f"{column}_p5"].isna().all():
            continue
        rows = []
        for _, line in means[means[column].notna()].iterrows():
            keys = [_key_text(name, line[name]) for name in (*names, "rate")]
            places = (column, f"{column}_p5", f"{column}_p95", "num_gops", "num_seeds")
            bounds = (float(line[f"{column}_low"]), float(line[f"{column}_high"]))
            ends = {(0, 0): bounds} if np.isfinite(bounds).all() else {}
            rows.append(make_row(OURS, keys, _cells(line, places), ends))
        tables.append(
            Table(
                name=f"distribution_{metric.name}",
                title=f"{metric.axis_label} over GOPs",
                key_names=tuple(_key_title(name) for name in (*names, "rate")),
                column_names=("Mean", "5th percentile", "95th percentile", "GOPs", "Seeds"),
                measures=("",),
                rows=rows,
                notes=["In brackets: 95 % bootstrap intervals; none: see note in seed_means.csv."],
                digits=(4, 4, 4, 0, 0),
            )
        )
    return tables


# ---- losses and latency --------------------------------------------------------------------------

#: Columns of ``points.csv`` with their titles and digits, by what a line makes of its rows.
_LOSS_COUNTS = {
    "num_frames": "Frames",
    "frames_lost": "Frames lost",
    "frames_concealed": "Frames concealed",
    "freeze_events": "Freeze events",
    "deadline_misses": "Deadline misses",
}
_LATENCIES = {
    "latency_ms_p50": "Latency p50 (ms)",
    "latency_ms_p95": "Latency p95 (ms)",
    "latency_ms_max": "Latency max (ms)",
}


def loss_tables(results: Results) -> list[Table]:
    """One table of what was lost and how late frames came, per curve and condition.

    A line is over rates, clips and seeds. A column whose numbers are all 0 or absent is left out;
    a number of clips, rates, seeds or GOPs that all lines share stands in a note. There is no table
    for results without losses that do not state a latency either.
    """
    sent = results.curves.keyed
    titles = _LOSS_COUNTS | _LATENCIES
    numbers = {
        name: pd.to_numeric(sent[name], errors="coerce") if name in sent else NAN for name in titles
    }
    sent = sent.assign(**numbers)
    shown = {n: title for n, title in titles.items() if (sent[n].fillna(0.0) != 0.0).any()}
    if not set(shown) - {"num_frames"}:
        return []
    keys = told_apart(sent)
    lines, behind = [], []
    for place, group in sent.groupby(["curve", *keys], dropna=False, sort=False):
        label = results.curves.styles[place[0]].label
        texts = [_key_text(*pair) for pair in zip(keys, place[1:], strict=True)]
        lines.append(([label, *texts], _losses_of(group, shown)))
        behind.append(_counts_behind(group))
    counts = pd.DataFrame(behind)
    columns = [name for name in counts if counts[name].nunique() > 1]
    rows = [
        make_row(OURS, texts, [[value] for value in (*losses, *counts.loc[line, columns])])
        for line, (texts, losses) in enumerate(lines)
    ]
    order = {label: place for place, label in enumerate(dict.fromkeys(r.keys[0] for r in rows))}
    rows.sort(key=lambda row: order[row.keys[0]])
    return [
        Table(
            name="losses_and_latency",
            title="Losses and latency of frames",
            key_names=("Method", *map(_key_title, keys)),
            column_names=(*shown.values(), *columns),
            measures=("",),
            rows=rows,
            notes=list(_notes_on_losses(sent, keys, counts, shown)),
            digits=(*(1 if name in _LATENCIES else 0 for name in shown), *(0 for _ in columns)),
        )
    ]


def told_apart(rows: pd.DataFrame) -> list[str]:
    """Columns that tell the conditions of ``rows`` apart: channel, GOP, and what varies in one.

    A value that follows from the channel, such as a coherence length that only one of them has, is
    not among them.
    """
    of_channels = [of_channel for _, of_channel in rows.groupby("channel", dropna=False)]
    varying = {name for of_channel in of_channels for name in varying_conditions(of_channel)}
    several = [name for name in ("channel", "gop") if rows[name].nunique() > 1]
    return [name for name in [*condition_columns(), "gop"] if name in {*several, *varying}]


def _losses_of(rows: pd.DataFrame, shown: Mapping[str, str]) -> list[float]:
    """Sums of counts; means of the rows' percentiles, and the largest latency."""
    values = []
    for name in shown:
        numbers = rows[name].to_numpy(float)  # a sum that lacks a row is none
        how = np.sum if name in _LOSS_COUNTS else np.max if name == "latency_ms_max" else np.mean
        values.append(float(how(numbers)))
    return values


def _counts_behind(rows: pd.DataFrame) -> dict[str, float]:
    gops = (rows["num_frames"] / rows["gop"]).sum()
    distinct = {"Clips": "clip", "Rates": "rate", "Seeds": "seed"}
    return {title: rows[name].nunique() for title, name in distinct.items()} | {"GOPs": gops}


def _notes_on_losses(
    sent: pd.DataFrame, keys: Sequence[str], counts: pd.DataFrame, shown: Mapping[str, str]
) -> Iterator[str]:
    shared = ["channel", *(n for n in condition_columns() if n in sent and n not in keys)]
    of_channels = (rows for _, rows in sent.groupby("channel", sort=False))
    words = [condition_words({n: rows[n].iloc[0] for n in shared}) for rows in of_channels]
    yield f"Conditions: {'; '.join(words)}."
    same = [
        f"{counts[title].iloc[0]:g} {title if title == 'GOPs' else title.lower()}"
        for title in counts
        if counts[title].nunique() == 1
    ]
    same = [words.removesuffix("s") if words.startswith("1 ") else words for words in same]
    behind = f"; behind every line: {', '.join(same)}" if same else ""
    yield f"Counts are sums over rates, clips and seeds{behind}."
    if set(_LATENCIES) & set(shown):
        yield (
            "Latency p50 and p95: means over the rows of a line. The time of coding is not counted."
        )
        if (sent["transport_unit"].fillna("gop") == "gop").any():
            yield "With the transport unit gop a frame waits until its GOP is complete."
    stated = {name: sent[name].notna().any() for name in _LOSS_COUNTS}
    left_out = [t.lower() for n, t in _LOSS_COUNTS.items() if n not in shown and stated[n]]
    if left_out:
        yield f"0 everywhere, and left out: {', '.join(left_out)}."


# ---- two results of one scenario -----------------------------------------------------------------

_OF_CURVE = ["scheme", "variant", "equalizer", "csi_aware", "mcs_policy"]


def old_and_new_table(old: Results, new: Results) -> Table:
    """BD-CBR of the same curves in two results folders side by side, with their intervals.

    Rows of one curve, anchor, condition, GOP length, clip and metric stand in one line; with
    several clips only their mean is shown. Rows of the anchor itself are left out; so are those
    that one folder alone has, which a note counts. Rows of ``pvsc`` with a preset ``pvsc_small``
    that were made under the rules 1 or before are those of ``pvsc-mc`` with ``pvsc_mc_small``,
    which has the same networks. Raises ``InputError`` if no line is left.
    """
    tables = [_named_as_today(results) for results in (old, new)]
    fixed = [*_OF_CURVE, "anchor", "channel", "snr_db", "csi_nmse_db", "coherence_length"]
    more = varying_conditions(pd.concat(tables)) if all(map(len, tables)) else []
    wanted = [*fixed, *(name for name in more if name not in fixed), "gop", "clip", "metric"]
    keys = [name for name in wanted if all(name in table for table in tables)]
    lines = [{_key_of(row, keys): row for _, row in table.iterrows()} for table in tables]
    both = [key for key in lines[1] if key in lines[0]]
    if not both:
        raise InputError(
            f"results beside {new.folder}",
            found=f"no row of bd_cbr.csv in {old.folder} with an equal curve and condition",
            allowed="two results of one scenario",
            remedy="Name the folders of two runs of one scenario.",
        )
    shown = [name for name in keys if len({key[keys.index(name)] for key in both}) > 1]
    rows = []
    for key in both:
        found = [of_folder[key] for of_folder in lines]
        cells, ends = [], {}
        for column, line in enumerate(found):
            mean, bounds = _mean_and_ends(pd.DataFrame([line]))
            cells.append([mean])
            if bounds is not None:
                ends[column, 0] = bounds
        cells.append([cells[1][0] - cells[0][0]])
        rows.append(make_row(OURS, [key[keys.index(name)] for name in shown], cells, ends))
    alone = sum(len(set(of_folder) - set(both)) for of_folder in lines)
    return Table(
        name="old_and_new",
        title=f"BD-CBR (%) of {new.name}, earlier and now",
        key_names=tuple(_key_title(name) for name in shown),
        column_names=("Old", "New", "New - old (points)"),
        measures=("",),
        rows=rows,
        notes=[
            f"Old: {_made(old)}. New: {_made(new)}.",
            "In brackets: 95 % bootstrap intervals.",
            *([f"Left out are {alone} rows that one of the folders alone has."] if alone else []),
        ],
    )


#: The last rules under which ``pvsc`` and ``pvsc_small`` named what is ``pvsc-mc`` since.
_RULES_OF_OLD_NAMES = 1


def _named_as_today(results: Results) -> pd.DataFrame:
    """Rows of the means over clips where there are several, with today's names of schemes."""
    bd = results.bd
    if bd.empty:
        return bd
    bd = bd.assign(variant=bd["variant"].fillna("").astype(str))
    is_old = (results.manifest.get("rules") or 0) <= _RULES_OF_OLD_NAMES
    moved = is_old & (bd["scheme"] == "pvsc") & bd["variant"].str.startswith("pvsc_small")
    renamed = bd["variant"].str.replace("^pvsc_small", "pvsc_mc_small", regex=True)
    bd = bd.assign(
        scheme=bd["scheme"].mask(moved, "pvsc-mc"), variant=bd["variant"].mask(moved, renamed)
    )
    bd = bd[bd["scheme"] != bd["anchor"].astype(str).str.split(":").str[0]]
    means = bd["clip"] == "mean"
    return bd[means] if means.any() else bd


def _key_of(row: pd.Series, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(_key_text(name, row[name]) for name in keys)


def _made(results: Results) -> str:
    rules = results.manifest.get("rules")
    stated = "rules not stated" if rules is None else f"rules {rules}"
    weights = dict.fromkeys((results.manifest.get("weights") or {}).values())
    return ", ".join([stated, *(["weights " + " ".join(weights)] if weights else [])])


# ---- models: Tables IV (complexity), V (ablation) and VI (loss terms) ----------------------------

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
        tables.append(_complexity_table(results.complexity))
    else:
        remarks.append(
            "No complexity table: there is no complexity.csv here or in ../complexity "
            "(python -m pvsc_link.bench complexity --preset pvsc_paper --csv FILE writes it)."
        )
    for number, rows, make in (
        ("V (ablation)", _ablation_rows(results), _ablation_table),
        ("VI (loss terms)", _loss_rows(results.bd), _loss_table),
    ):
        if rows:
            tables.append(make(rows))
        else:
            remarks.append(f"No table in the form of Table {number}: no such model is here.")
    return tables, remarks


def _cells(line, columns) -> list[list[float]]:
    """One number per column; NaN for what the line lacks."""
    return [[pd.to_numeric(line.get(name), errors="coerce")] for name in columns]


def _complexity_table(complexity: pd.DataFrame) -> Table:
    columns = (*_TIMES, "macs_m_per_pixel", "params_m")
    paper = published("complexity")
    rows: list[Row] = []
    for label, of_size in complexity.groupby("label", sort=False):
        theirs = paper[paper["resolution"] == label]
        for _, line in of_size.iterrows() if len(theirs) else ():
            if not str(line["preset"]).endswith("_intra") and not _MODEL.search(line["preset"]):
                rows.append(make_row(OURS, [label, line["preset"]], _cells(line, columns)))
        for _, line in theirs.iterrows():
            rows.append(make_row(PUBLISHED, [label, line["method"]], _cells(line, columns)))
    return Table(
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
        group_by=(0,),
    )


_ABLATION_COLUMNS = ("bd_cbr_percent", "macs_g", "params_m", *_TIMES)


def _ablation_rows(results: Results) -> list[Row]:
    """Ours of M_a to M_e, a row per preset: its MACs and times, and the BD-CBR of that preset.

    MACs and times come from one line of complexity.csv, of the paper's size where it is there.
    """
    complexity, bd = results.complexity, results.bd
    of_presets: dict[str, dict[str, object]] = {}
    if len(complexity):
        for label in ("1080p", "table_v"):  # the later one replaces the earlier one whole
            for _, line in complexity[complexity["label"] == label].iterrows():
                of_presets[str(line["preset"])] = dict(line)
    if len(bd) and "variant" in bd:
        own = (bd["scheme"] == "pvsc") & (bd["metric"] == "lpips") & (bd["clip"] != "mean")
        # The variant begins with the preset; the format of rate maps and the training follow.
        variants = bd["variant"].fillna("").astype(str)
        presets = variants.str.extract("^([^,-]*)", expand=False)
        for preset, values in bd[own].groupby(presets[own]):
            mean = values["bd_cbr_percent"].mean(skipna=False)
            of_presets.setdefault(str(preset), {})["bd_cbr_percent"] = mean
    rows = []
    for model in published("ablation")["model"]:
        for preset, line in of_presets.items():
            if preset.endswith(f"_{model}"):
                cells = _cells(line, _ABLATION_COLUMNS)
                rows.append(make_row(OURS, [model.upper(), preset], cells))
    return rows


def _ablation_table(rows: list[Row]) -> Table:
    theirs = [
        make_row(PUBLISHED, [str(line["model"]).upper(), ""], _cells(line, _ABLATION_COLUMNS))
        for _, line in published("ablation").iterrows()
    ]
    return Table(
        name="table_5_ablation",
        title="Ablation of spatio-temporal feature coding (form of Table V)",
        key_names=("Model", "Preset"),
        column_names=("BD-CBR (%)", "MACs (G)", "Params (M)", "Tx (ms)", "Rx (ms)"),
        measures=("",),
        rows=sorted([*rows, *theirs], key=lambda line: (line.keys[0], line.source)),
        notes=[
            "M_A: no spatio-temporal coding; M_B: temporal; M_C: spatial; M_D: both, full rate "
            "set; M_E: both, distilled rate set. Published: UVG, AWGN 10 dB, GOP 12, against M_E.",
            _TIME_NOTE,
        ],
        group_by=(),
    )


def terms_of(variant: str) -> tuple[int, ...] | None:
    """Loss terms that a variant's name states, e.g. ``rec+per``; ``None`` if it states none."""
    words = set(re.split(r"[+_ -]", variant))
    return tuple(int(term in words) for term in _TERMS) if "rec" in words else None


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
            keys = [scheme_style(str(scheme)).label, *map(_tick, terms)]
            rows.append(make_row(OURS, keys, [[means.get(name, NAN)] for name in _loss_metrics()]))
    return rows


def _loss_metrics() -> list[str]:
    """The metrics of the paper's Table VI."""
    return [name for name in METRICS if f"bd_cbr_{name}_percent" in published("loss_terms")]


def _loss_table(rows: list[Row]) -> Table:
    columns = [f"bd_cbr_{name}_percent" for name in _loss_metrics()]
    theirs = [
        make_row(
            PUBLISHED, [line["method"], *(_tick(line[t]) for t in _TERMS)], _cells(line, columns)
        )
        for _, line in published("loss_terms").iterrows()
    ]
    return Table(
        name="table_6_loss_terms",
        title="BD-CBR (%) by loss terms (form of Table VI)",
        key_names=("Method", "L_rec", "L_per", "L_adv"),
        column_names=tuple(METRICS[name].short_label for name in _loss_metrics()),
        measures=("",),
        rows=[*rows, *theirs],
        notes=["Published: UVG, AWGN 10 dB, GOP 4.", CAVEAT],
        group_by=(),
    )


def _tick(used: int) -> str:
    return "yes" if used else ""
