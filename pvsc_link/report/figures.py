"""Every figure of a results folder, as matplotlib figures at printed width, and their files.

Each kind has a function ``*_figures`` that yields ``(file name, function that draws it)``, because
a large sweep has hundreds of figures and only the first of each kind are drawn. At the end,
:func:`draw_figures` puts the kinds together and writes the files.
"""

import json
import math
import multiprocessing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from textwrap import shorten, wrap
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from pvsc_link.intervals import wilson_interval
from pvsc_link.metrics import MetricType
from pvsc_link.report.curves import (
    PLACE,
    by_condition,
    clip_stem,
    common_budget,
    condition_columns,
    condition_slug,
    condition_words,
    fades,
    file_names,
    grouped,
    is_true,
    metrics_in,
    place_key,
    place_words,
    quality_at_budget,
    rate_words,
    short_clip_names,
    varying_conditions,
)
from pvsc_link.report.frames import Box, MatchedFrames, ShownFrame, matched_frames, zoom_boxes
from pvsc_link.report.results import Results, read_results
from pvsc_link.report.style import (
    BOX_COLOURS,
    COLUMN_WIDTH,
    PAGE_WIDTH,
    STYLE_FILE,
    SchemeStyle,
    scheme_style,
)

#: A figure's file name without ending, and what draws it.
NamedFigure = tuple[str, Callable[[], Figure]]
Styles = Mapping[str, SchemeStyle]

# ---- parts that the figures share --------------------------------------------------------------

_LONGEST_ENTRY = 34  # of a legend with several columns
_LONGEST_TITLE = 46  # characters of a line, one column wide
_LONGEST_LINE = 58  # of a legend with one column
#: Heights in inches.
_PANEL, _LEGEND_LINE, _REST = 1.55, 0.16, 0.55


def _places(
    rows: pd.DataFrame, prefix: str, axis: str = ""
) -> Iterator[tuple[str, str, dict[str, Any], pd.DataFrame]]:
    """(file name, title, condition, rows) per clip, GOP and condition, ``axis`` left out of it."""
    fixed = [name for name in condition_columns() if name != axis and name in rows]
    short, varying = short_clip_names(rows["clip"]), varying_conditions(rows)
    names: dict[Hashable, str] = {}
    places = []
    for (clip, gop), of_place in rows.groupby(PLACE, dropna=False, sort=False):
        title = place_words(short[str(clip)], gop)
        for condition, here in grouped(of_place, fixed):
            key = place_key(clip, gop, condition)
            names[key] = f"{prefix}_{clip_stem(clip)}_gop{gop:g}_{condition_slug(condition)}"
            said = wrap(condition_words(condition, varying), _LONGEST_TITLE)
            words = _plain("\n".join([*wrap(title, _LONGEST_TITLE), *said]))
            places.append((key, words, condition, here))
    unique = file_names(names)
    for key, words, condition, here in places:
        yield unique[key], words, condition, here


def _plain(text: str) -> str:
    """A text that matplotlib draws as it is: the name of a clip may hold dollar signs."""
    return text.replace("$", r"\$")


def _legend_lines(labels: Sequence[str], columns: int) -> int:
    """Lines that a legend of these labels takes, as ``_add_legend`` sets it."""
    if max(map(len, labels), default=0) <= _LONGEST_ENTRY:
        return -(-len(labels) // columns)
    return sum(len(wrap(label, _LONGEST_LINE)) for label in labels)


def _stacked_panels(count: int, labels: Sequence[str], title: str) -> tuple[Figure, np.ndarray]:
    """A one-column figure of ``count`` panels over each other, with room for the legend."""
    lines = _legend_lines(labels, columns=2)
    height = count * _PANEL + _REST + _LEGEND_LINE * (lines + title.count("\n"))
    figure = Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")
    figure.suptitle(title, fontsize=8)
    return figure, figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]


def _styles_in(rows: pd.DataFrame, styles: Styles) -> dict[str, SchemeStyle]:
    """The styles of the curves in ``rows``, in the common order."""
    here = set(rows["curve"])
    return {key: style for key, style in styles.items() if key in here}


def _printed(rows: pd.DataFrame, styles: Styles) -> list[str]:
    return [style.printed for style in _styles_in(rows, styles).values()]


def _draw_line(
    panel: Axes, rows: pd.DataFrame, columns: tuple[str, str, str, str], style: SchemeStyle
) -> None:
    """One curve with the intervals of its points as error bars.

    Parameters: ``columns`` : of x, y, lower and upper end; a point without an interval has no bar,
    and a bar ends at 0 where no value is negative.
    """
    x, y, low, high = columns
    panel.plot(
        rows[x],
        rows[y],
        color=style.colour,
        marker=style.marker,
        linestyle=style.linestyle,
        label=style.printed,
        markeredgewidth=0.4,
        markeredgecolor="white",
    )
    if low in rows and (rows[high] > rows[low]).any():
        least = rows[low].clip(lower=0.0) if (rows[y] >= 0).all() else rows[low]
        ends = np.maximum([rows[y] - least, rows[high] - rows[y]], 0.0)
        panel.errorbar(
            *(rows[x], rows[y], ends), fmt="none", ecolor=style.colour, elinewidth=0.7, capsize=1.5
        )


def _label_metric(panel: Axes, metric: MetricType) -> None:
    """Label of the y axis; better is upwards in every panel. An arrow says which values are."""
    arrow = r"$\uparrow$" if metric.higher_is_better else r"$\downarrow$"
    panel.set_ylabel(f"{metric.axis_label} {arrow}")
    if not metric.higher_is_better and not panel.yaxis_inverted():
        panel.invert_yaxis()


def _add_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> None:
    """One legend of all panels below the figure."""
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        is_long = max(map(len, entries)) > _LONGEST_ENTRY
        figure.legend(
            handles=list(entries.values()),
            labels=["\n".join(wrap(label, _LONGEST_LINE)) for label in entries],
            loc="outside lower center",
            ncols=1 if is_long else columns,
            frameon=False,
            handlelength=2.2,
            columnspacing=1.2,
        )


# ---- quality against CBR (the paper's Fig. 6) --------------------------------------------------

_ROWS_OF_A_PAGE = 4


def grid_figures(means: pd.DataFrame, styles: Styles) -> Iterator[NamedFigure]:
    """Per clip and GOP: conditions down, metrics across, both columns wide."""
    short = short_clip_names(means["clip"])
    places = list(means.groupby(PLACE, dropna=False, sort=False))
    names = file_names(
        {
            place_key(clip, gop): f"rate_grid_{clip_stem(clip)}_gop{gop:g}"
            for (clip, gop), _ in places
        }
    )
    for (clip, gop), rows in places:
        metrics, conditions = metrics_in(rows), list(by_condition(rows))
        several = len(conditions) > _ROWS_OF_A_PAGE
        title, varying = _plain(place_words(short[str(clip)], gop)), varying_conditions(rows)
        for start in range(0, len(conditions) if metrics else 0, _ROWS_OF_A_PAGE):
            here = conditions[start : start + _ROWS_OF_A_PAGE]
            number = f"_{start // _ROWS_OF_A_PAGE + 1}" if several else ""
            name = names[place_key(clip, gop)] + number
            yield name, partial(_grid, here, metrics, styles, title, varying)


def rate_figures(means: pd.DataFrame, styles: Styles) -> Iterator[NamedFigure]:
    """Per clip, GOP and condition: the metrics over each other, one column wide."""
    for name, title, _, rows in _places(means, "rate"):
        if metrics_in(rows):
            yield name, partial(_rate_figure, rows, styles, title)


def _rate_figure(rows: pd.DataFrame, styles: Styles, title: str) -> Figure:
    metrics = metrics_in(rows)
    figure, panels = _stacked_panels(len(metrics), _printed(rows, styles), title)
    for panel, metric in zip(panels, metrics, strict=True):
        _draw_curves(panel, rows, metric, styles)
    panels[-1].set_xlabel(rate_words(rows)[1])
    _add_legend(figure, panels, columns=2)
    return figure


def _grid(
    conditions: list[tuple[dict, pd.DataFrame]],
    metrics: list[MetricType],
    styles: Styles,
    title: str,
    varying: Sequence[str],
) -> Figure:
    said = [wrap(condition_words(condition, varying), 60) for condition, _ in conditions]
    shown = {
        key: style for _, rows in conditions for key, style in _styles_in(rows, styles).items()
    }
    labels = [style.printed for style in shown.values()]
    lines = sum(len(words) - 1 for words in said) + _legend_lines(labels, max(len(metrics), 2))
    height = 0.9 + 1.65 * len(conditions) + _LEGEND_LINE * lines
    figure = Figure(figsize=(PAGE_WIDTH * max(len(metrics), 2) / 3, height), layout="constrained")
    panels = figure.subplots(len(conditions), len(metrics), squeeze=False)
    for row, words, (_, rows) in zip(panels, said, conditions, strict=True):
        for panel, metric in zip(row, metrics, strict=True):
            _draw_curves(panel, rows, metric, styles)
        row[0].set_title("\n".join(words), loc="left")
    below = [rate_words(rows)[0] for _, rows in conditions]
    for place, (row, label) in enumerate(zip(panels, below, strict=True)):
        if place == len(panels) - 1 or below[place + 1] != label:
            for panel in row:
                panel.set_xlabel(label)
    _add_legend(figure, panels.flat, columns=max(len(metrics), 2))
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_curves(panel: Axes, rows: pd.DataFrame, metric: MetricType, styles: Styles) -> None:
    """Quality over CBR on a logarithmic axis with plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    y = metric.column
    for key, style in _styles_in(rows, styles).items():
        curve = rows[(rows["curve"] == key) & rows[y].notna()].sort_values("cbr")
        if len(curve):
            _draw_line(panel, curve, ("cbr", y, f"{y}_low", f"{y}_high"), style)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(FixedLocator(_numbers_of_cbr(*panel.get_xlim())))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    _label_metric(panel, metric)


def _numbers_of_cbr(low: float, high: float) -> list[float]:
    """The numbers at a logarithmic axis: the coarsest steps in a decade that give three of them."""
    from matplotlib.ticker import MaxNLocator

    steps = [(1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.5, 7.0)]
    wide = high > 40 * low  # more than 1.6 decades, in which three numbers each would overlap
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for parts in steps if wide else steps[1:]:
        numbers = [
            float(f"{part}e{decade}")
            for decade in decades
            for part in parts
            if low <= float(f"{part}e{decade}") <= high
        ]
        if len(numbers) >= 3:
            return numbers
    if len(numbers) >= 2:
        return numbers
    even = MaxNLocator(3).tick_values(low, high)  # of a range that is almost a point
    return [float(number) for number in even if low <= number <= high]


# ---- what the channel uses were spent on -------------------------------------------------------

# Light to dark, each with its own hatch: readable without colour.
_FACES = ("#BBD4EA", "#F2C79B", "#9BCFC0", "#E3B7D0", "#DDDDDD")
_HATCHES = ("", "////", "....", "xxxx", "||||")
#: Columns that divide a part of ``cbr`` once more, by that part.
_FINER = {"cbr_source": ["cbr_y", "cbr_intra"], "cbr_side": ["cbr_z", "cbr_k"]}
#: Columns that count channel uses of another part: no parts of their own.
_WITHIN = ("cbr_headers", "cbr_motion")


def finest_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with every channel use in one part only: where finer parts are known, in those."""
    for part, finer in _FINER.items():
        known = [name for name in finer if name in rows]
        if known and part in rows:
            rows = rows.assign(**{part: rows[part].where(rows[known].isna().all(axis=1), 0.0)})
    return rows


def parts_of(rows: pd.DataFrame) -> list[str]:
    """Columns ``cbr_<part>`` that hold a positive number, but those that lie within another."""
    names = [name for name in rows if str(name).startswith("cbr_") and name not in _WITHIN]
    return [name for name in names if rows[name].gt(0).any()]


def cbr_figures(means: pd.DataFrame, styles: Styles) -> Iterator[NamedFigure]:
    """Per clip, GOP and condition where more than one part was sent: CBR by part as bars."""
    for name, title, _, rows in _places(finest_parts(means), "cbr"):
        if len(parts_of(rows)) > 1:
            yield name, partial(_cbr_figure, rows, styles, title)


def _cbr_figure(rows: pd.DataFrame, styles: Styles, title: str) -> Figure:
    """Horizontal stacked bars, one column wide: rates in order of CBR within each curve."""
    here = _styles_in(rows, styles)
    bars = rows.assign(order=rows["curve"].map({key: i for i, key in enumerate(here)}))
    bars = bars.sort_values(["order", "cbr"])
    first = bars["curve"].ne(bars["curve"].shift()).to_numpy()
    places = np.arange(len(bars)) + np.cumsum(first)  # the name of a curve has a line of its own
    parts = parts_of(rows)
    lines = title.count("\n") + -(-len(parts) // 4)  # above the bars, and of the legend below
    height = _REST + 0.35 + _LEGEND_LINE * (lines + max(len(bars) + sum(first), 3))
    figure = Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")
    panel = figure.subplots()
    start = np.zeros(len(bars))
    for part, face, hatch in zip(parts, _FACES * 3, _HATCHES * 3, strict=False):
        width = bars[part].fillna(0.0).to_numpy()
        look: dict[str, Any] = {"color": face, "hatch": hatch, "edgecolor": "black"}
        panel.barh(places, width, left=start, label=part.removeprefix("cbr_"), lw=0.4, **look)
        start = start + width
    spot: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "va": "center"}
    for key, place in zip(bars["curve"][first], places[first] - 1, strict=True):
        name = _plain(shorten(here[key].short, _LONGEST_LINE - 10, placeholder=" ..."))
        panel.text(0.01, place + 0.1, name, fontsize=6.5, **spot)
    panel.set_yticks(places, [f"rate {rate:g}" for rate in bars["rate"]])
    panel.set_ylim(places[-1] + 0.7, 0.3)
    panel.set_xlabel(rate_words(rows)[1])
    panel.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title, fontsize=8)
    return figure


# ---- quality against the channel, at equal CBR -------------------------------------------------


@dataclass(frozen=True)
class _Axis:
    """A column of the condition as an axis: prefix of file names, label, name in remarks."""

    prefix: str
    label: str
    title: str


AXES = {
    "snr_db": _Axis("snr", "SNR (dB)", "SNR"),
    "csi_nmse_db": _Axis("nmse", "NMSE of the channel estimate (dB)", "NMSE"),
    "coherence_length": _Axis("coherence", "Coherence length (channel uses)", "coherence length"),
    "loss_rate": _Axis("loss", "Packet loss rate", "packet loss"),
}


def axis_figures(keyed: pd.DataFrame, styles: Styles, axis: str) -> Iterator[NamedFigure]:
    """Per clip, GOP and the other parts of the condition, one column wide.

    Parameters: ``axis`` : a name of ``AXES``; where it has one value there is no figure.
    """
    for name, title, condition, rows in _places(keyed, AXES[axis].prefix, axis):
        # An empty NMSE is perfect CSI, a value like any other where the channel fades.
        only_known = axis == "coherence_length" or not fades(condition["channel"])
        if rows[axis].nunique(dropna=only_known) > 1 and metrics_in(rows):
            yield name, partial(_quality_figure, rows, styles, axis, title)


def _quality_figure(keyed: pd.DataFrame, styles: Styles, axis: str, title: str) -> Figure:
    """Quality within the CBR that every curve can be sent at, over ``axis``."""
    metrics, budget = metrics_in(keyed), common_budget(keyed)
    rate = rate_words(keyed)[0]
    title += (", " if rate == "CBR" else "\n") + f"{rate} at most {budget:.3g}"
    figure, panels = _stacked_panels(len(metrics), _printed(keyed, styles), title)
    for panel, metric in zip(panels, metrics, strict=True):
        table = quality_at_budget(keyed, metric, budget)
        table["x"] = table[axis]
        if axis == "csi_nmse_db" and table[axis].isna().any():
            table["x"] = table[axis].fillna(_perfect_csi_at(table[axis]))
        for key, style in _styles_in(table, styles).items():
            line = table[table["curve"] == key].sort_values("x")
            _draw_line(panel, line, ("x", "value", "low", "high"), style)
        _label_metric(panel, metric)
    _label_axis(panels[-1], keyed[axis], axis)
    _add_legend(figure, panels, columns=2)
    return figure


def _perfect_csi_at(values: pd.Series) -> float:
    """Where perfect CSI stands, which has no NMSE: left of the smallest one."""
    known = np.sort(values.dropna().unique())
    step = float(np.diff(known).min()) if len(known) > 1 else 10.0
    return (known[0] if len(known) else 0.0) - step


def _label_axis(panel: Axes, values: pd.Series, axis: str) -> None:
    panel.set_xlabel(AXES[axis].label)
    logarithmic = axis == "coherence_length"
    if logarithmic:
        panel.set_xscale("log", base=2)
    known = sorted(values.dropna().unique())
    texts = [f"{value:g}" for value in known]
    places = np.log(known) if logarithmic else np.array(known)
    if axis == "csi_nmse_db" and values.isna().any():
        panel.set_xticks([_perfect_csi_at(values), *known], ["perfect", *texts])
    elif len(known) > 1 and np.diff(places).min() >= (places[-1] - places[0]) / 12:
        panel.set_xticks(known, texts)  # far enough apart to be read
        panel.minorticks_off()


# ---- receivers that compute in another arithmetic than their transmitters -----------------------

ARITHMETIC, SAME = "receiver_arithmetic", "same"
_PAIR = ["scheme", "system", "rate", "seed"]
_LOST = "frames_lost_percent"
_STEP = 0.12  # between the marks of two systems


def arithmetic_figures(keyed: pd.DataFrame) -> Iterator[NamedFigure]:
    """Per clip, GOP and channel condition, where the rows name a ``receiver_arithmetic``."""
    if ARITHMETIC not in keyed or keyed[ARITHMETIC].nunique() < 2:
        return
    for name, title, _, rows in _places(keyed[keyed[ARITHMETIC].notna()], "arithmetic"):
        changes = changes_by_arithmetic(rows)
        if len(changes):
            yield name, partial(_mismatch_figure, changes, title)


def changes_by_arithmetic(rows: pd.DataFrame) -> pd.DataFrame:
    """What each receiver loses against the one that computes as its transmitter does.

    Input: points of one clip, GOP and condition. Output: per scheme, system (the variant without
    its receiver), rate, seed and arithmetic: ``frames_lost_percent``, and of every metric the
    change in its column. Rows without a partner at ``same`` are left out.
    """
    system = rows["variant"].str.replace(r", receiver .*$", "", regex=True)
    lost = 100.0 * rows["frames_lost"] / rows["num_frames"]
    table = rows.assign(**{"system": system, _LOST: lost})
    columns = [metric.column for metric in metrics_in(rows)]
    same = table[table[ARITHMETIC] == SAME].set_index(_PAIR)[columns]
    joined = table.join(same, on=_PAIR, rsuffix="_same", how="inner")
    for column in columns:
        joined[column] -= joined[f"{column}_same"]
    return joined[[*_PAIR, ARITHMETIC, _LOST, *columns]].reset_index(drop=True)


def _mismatch_figure(changes: pd.DataFrame, title: str) -> Figure:
    """Frames lost and the change of every metric over the receiver's arithmetic.

    Marks: mean over rates; bars: from the least to the greatest of them. The names are no scale,
    so no line joins the marks.
    """
    names = list(dict.fromkeys(changes[ARITHMETIC]))
    quantities = {_LOST: "Frames lost (%)"} | {
        metric.column: f"Change of {metric.axis_label}" for metric in metrics_in(changes)
    }
    groups = list(changes.groupby(["scheme", "system"], sort=False))
    labels = [scheme_style(scheme, system).printed for (scheme, system), _ in groups]
    figure, panels = _stacked_panels(len(quantities), labels, title)
    for panel, (column, label) in zip(panels, quantities.items(), strict=True):
        for place, ((scheme, system), rows) in enumerate(groups):
            spread = rows.groupby(ARITHMETIC)[column].agg(["mean", "min", "max"]).reindex(names)
            beside = _STEP * (place - (len(groups) - 1) / 2)
            style = scheme_style(scheme, system)
            panel.errorbar(
                [at + beside for at in range(len(spread))],
                spread["mean"],
                yerr=[spread["mean"] - spread["min"], spread["max"] - spread["mean"]],
                color=style.colour,
                marker=style.marker,
                linestyle="none",
                capsize=2,
                label=style.printed,
            )
        panel.set_ylabel(label)
    panels[-1].set_xticks(range(len(names)), ["as sent" if n == SAME else n for n in names])
    panels[-1].set_xlabel("Arithmetic of the receiver (sent: float32)")
    _add_legend(figure, panels, columns=1)
    return figure


# ---- block error rate against SNR ---------------------------------------------------------------

_RECEIVER = ["equalizer", "csi_aware", "decoder"]
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Where a rate of zero stands on the logarithmic axis: below any that a sweep resolves.
_FLOOR = 1e-4


def bler_figures(bler: pd.DataFrame) -> Iterator[NamedFigure]:
    """Per channel and receiver: one line for every MCS that was measured at two SNRs or more."""
    receivers = bler.groupby(_RECEIVER, dropna=False).ngroups if len(bler) else 0
    fading = [name for name in condition_columns() if name != "snr_db"]

    def name_of(fixed: Mapping[str, Any]) -> str:
        receiver = [str(fixed[part]) for part in _RECEIVER] if receivers > 1 else []
        return "_".join([f"bler_{condition_slug(fixed)}", *receiver])

    groups = list(grouped(bler, [*fading, *_RECEIVER])) if len(bler) else []
    names = file_names({place_key("", 0, fixed): name_of(fixed) for fixed, _ in groups})
    for fixed, rows in groups:
        rows = rows[rows.groupby("mcs")["snr_db"].transform("nunique") > 1]
        if rows.empty:
            continue
        title = "\n".join(wrap(condition_words({p: fixed[p] for p in fading}), _LONGEST_TITLE))
        if fades(fixed["channel"]):
            aware = ", CSI-aware" if is_true(fixed["csi_aware"]) else ""
            title += f"\n{fixed['equalizer'].upper()}{aware}"
        yield names[place_key("", 0, fixed)], partial(_bler_figure, rows, title)


def _bler_figure(rows: pd.DataFrame, title: str) -> Figure:
    """One line per MCS; a rate at or below the floor is a hollow marker at the bottom."""
    indices = sorted(rows["mcs"].unique())
    title = f"{title} (hollow: 1e-4 or less)"
    figure, (panel,) = _stacked_panels(1, [""] * (len(indices) // 2), title)
    figure.set_figheight(figure.get_figheight() + 0.6)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(indices)))
    for place, (mcs, colour) in enumerate(zip(indices, colours, strict=True)):
        line = rows[rows["mcs"] == mcs].sort_values("snr_db")
        shown = line["bler"].clip(lower=_FLOOR)
        style = {"color": colour, "marker": _MARKERS[place % len(_MARKERS)]}
        panel.plot(line["snr_db"], shown, label=f"MCS {mcs:g}", **style)
        none = line["bler"] <= _FLOOR
        hollow = {**style, "markerfacecolor": "white", "linestyle": "", "zorder": 3}
        panel.plot(line["snr_db"][none], shown[none], **hollow)
        counted = line.dropna(subset=["num_blocks", "num_block_errors"])
        for _, row in counted[counted["num_blocks"].gt(0)].iterrows():
            interval = wilson_interval(int(row["num_block_errors"]), int(row["num_blocks"]))
            ends = np.clip([interval.low, interval.high], _FLOOR, 1.0)
            panel.plot([row["snr_db"]] * 2, ends, color=colour, linewidth=0.8, alpha=0.7)
    panel.set_yscale("log")
    panel.set_ylim(_FLOOR / 1.5, 1.5)
    panel.set_xlabel("SNR (dB)")
    panel.set_ylabel("Block error rate")
    _add_legend(figure, [panel], columns=4)
    return figure


# ---- frames at matched CBR (the paper's Fig. 7) -------------------------------------------------

_COLUMNS = 4
_CAPTION = 0.4  # inches


def frame_figures(matched: Sequence[MatchedFrames]) -> Iterator[NamedFigure]:
    """Per place and condition of which at least two comparable frames were kept."""
    names = file_names({group.key: f"frames_{group.slug}" for group in matched})
    for group in matched:
        if len(group.shown) > 1 and group.images() is not None:
            yield names[group.key], partial(_frame_figure, group)


def _frame_figure(group: MatchedFrames) -> Figure:
    """Every frame, its two zoom boxes below it, its CBR and metrics above; four fill a page."""
    images = group.images() or []
    boxes = zoom_boxes([np.asarray(image) for image in images])
    columns = min(len(images), _COLUMNS)
    rows = -(-len(images) // columns)
    width, height = images[0].size
    cell = PAGE_WIDTH / _COLUMNS
    size = columns * cell, rows * (1.5 * cell * height / width + _CAPTION) + 0.2
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, shown, image in zip_longest(panels, group.shown, images):
        panel.set_axis_off()
        if image is not None:
            _draw_frame(panel, shown, image, boxes)
    figure.suptitle(_plain(group.title), fontsize=8)
    return figure


def _draw_frame(panel: Axes, shown: ShownFrame, image: Image.Image, boxes: Sequence[Box]) -> None:
    width, height = image.size
    panel.imshow(with_zoom(image, boxes), interpolation="none")
    for (left, top, wide, high), place, colour in zip(boxes, (0, 1), BOX_COLOURS, strict=True):
        inside = (left * width, top * height), wide * width, high * height
        below = (place * width / 2, height), width / 2, height / 2
        for corner, *size in (inside, below):
            panel.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=0.8))
    pairs = (", ".join(shown.values[i : i + 2]) for i in range(0, len(shown.values), 2))
    panel.set_title("\n".join([shown.printed, *pairs]), fontsize=6)


def with_zoom(image: Image.Image, boxes: Sequence[Box]) -> np.ndarray:
    """A frame with its two zoom boxes below it, each half as wide as the frame.

    Input: ``boxes`` : as ``zoom_boxes`` gives them. Output: uint8 ``[3 * height / 2, width, 3]``,
    pixels of the boxes repeated, not smoothed.
    """
    width, height = image.size
    page = Image.new("RGB", (width, height + height // 2))
    page.paste(image)
    for place, (left, top, wide, high) in enumerate(boxes):
        box = left * width, top * height, (left + wide) * width, (top + high) * height
        half = image.resize((width // 2, height // 2), Image.Resampling.NEAREST, box)
        page.paste(half, (place * (width // 2), height))
    return np.asarray(page)


# ---- where the time of sweeps went --------------------------------------------------------------

_STAGES = {
    "encode": "#0072B2",
    "metrics": "#E69F00",
    "MCS choice": "#009E73",
    "link and decoding": "#D55E00",
}


def stage_seconds(folder: str | Path) -> dict[str, float]:
    """Wall seconds by stage that ``manifest.json`` of a results folder states; may be empty."""
    path = Path(folder) / "manifest.json"
    return json.loads(path.read_text()).get("seconds_by_stage", {}) if path.exists() else {}


def time_figure(folders: Sequence[str | Path]) -> Figure:
    """Stacked horizontal bars of wall seconds by stage, one per folder that states them."""
    named = [(Path(folder).name, stage_seconds(folder)) for folder in folders]
    found = [(name, seconds) for name, seconds in named if seconds]
    figure = Figure(figsize=(6.4, 0.9 + 0.42 * max(len(found), 1)), layout="constrained")
    panel = figure.subplots()
    for place, (_, seconds) in enumerate(found):
        left = 0.0
        for stage, value in seconds.items():
            panel.barh(place, value, left=left, color=_STAGES.get(stage, "#999999"), height=0.6)
            left += value
        panel.text(left, place, f" {left:.0f} s", va="center", fontsize=8)
    panel.set_yticks(range(len(found)), [name for name, _ in found])
    panel.invert_yaxis()
    panel.set_xlabel("wall time (s)")
    panel.margins(x=0.12)
    handles = [panel.barh(0, 0, color=colour) for colour in _STAGES.values()]
    legend: dict[str, Any] = {"loc": "outside upper center", "ncols": 4, "frameon": False}
    figure.legend(handles=handles, labels=list(_STAGES), **legend)
    return figure


# ---- all figures of a results folder, and their files -------------------------------------------

#: Files per figure unless the caller says otherwise, and most figures of a kind: a large sweep
#: has hundreds of conditions, which the page shows and nobody prints.
ENDINGS, MOST_OF_A_KIND = ("png", "pdf"), 3
#: Metadata without a date, so that equal tables give equal files.
_NO_DATE: dict[str, dict] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None},
}


@dataclass
class FigureSet:
    """What was written, and sentences about what was not."""

    files: list[Path]
    remarks: list[str]


def write_figures(folder: str | Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
    """The figures of a results folder into ``folder/figures/``; returns the files.

    Rows without a number are left out; where nothing is left there is no figure.
    """
    return draw_figures(read_results(folder), Path(folder) / "figures", endings).files


def draw_figures(
    results: Results,
    target: Path,
    endings: Sequence[str],
    *,
    most: int = MOST_OF_A_KIND,
    workers: int = 1,
) -> FigureSet:
    """Draw at most ``most`` figures of each kind into ``target``, in order of the grid.

    Parameters: ``workers`` : processes to draw with; above 1 they are forked, so only for callers
    that have no threads running. Raises ``RuntimeError`` if such a process fails.
    """
    chosen: list[NamedFigure] = []
    remarks, cut = [], []
    for kind, figures, why_none in _kinds(results):
        first = list(islice(figures, most + 1))
        chosen += first[:most]
        if len(first) > most:
            cut.append(kind)
        elif not first:
            remarks.append(f"No figure of {kind}: {why_none}")
    if cut:
        remarks.append(
            f"Only the first {most} figures are drawn of: {', '.join(cut)} "
            "(--most-figures N draws more; report.html shows every condition)."
        )
    target.mkdir(parents=True, exist_ok=True)
    _in_processes(partial(_draw, target=target, endings=endings), chosen, workers)
    files = [target / f"{name}.{ending}" for name, _ in chosen for ending in endings]
    return FigureSet(files, remarks)


def _kinds(results: Results) -> Iterator[tuple[str, Iterator[NamedFigure], str]]:
    """(kind, its figures, why there may be none)."""
    keyed, means, styles = results.curves.keyed, results.curves.means, results.curves.styles
    if keyed.empty:
        return
    no_metric = "no metric has a number."
    yield "rate-perception grid", grid_figures(means, styles), no_metric
    yield "quality against CBR", rate_figures(means, styles), no_metric
    for name, axis in AXES.items():
        figures = axis_figures(keyed, styles, name)
        yield f"quality against {axis.title}", figures, "the results hold one value of it."
    why_none = "no receiver computes in another arithmetic than its transmitter."
    yield "floating-point mismatch", arithmetic_figures(keyed), why_none
    yield "CBR by part", cbr_figures(means, styles), "all channel uses belong to one part."
    yield "BLER", bler_figures(results.bler), "no MCS was measured at two SNRs."
    frames = frame_figures(matched_frames(results))
    yield "shown frames", frames, "none were kept (--save-frames keeps them)."


def _in_processes(
    draw: Callable[[Sequence[NamedFigure]], None], figures: Sequence[NamedFigure], workers: int
) -> None:
    workers = min(workers, len(figures))
    if workers <= 1:
        return draw(figures)
    fork = multiprocessing.get_context("fork")  # what draws a figure cannot be pickled
    processes = [fork.Process(target=draw, args=(figures[i::workers],)) for i in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process that drew figures failed; its error is above")


def _draw(figures: Sequence[NamedFigure], target: Path, endings: Sequence[str]) -> None:
    with matplotlib.rc_context(fname=STYLE_FILE):
        for name, make in figures:
            figure = make()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not once per file
            for ending in endings:
                # PGF takes no metadata, not even none.
                stated: Any = {"metadata": _NO_DATE[ending]} if ending in _NO_DATE else {}
                figure.savefig(target / f"{name}.{ending}", **stated)
