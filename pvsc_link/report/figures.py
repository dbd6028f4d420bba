"""Parts that every figure is put together from: a page of panels, a line with its band.

Quality against CBR: the grid of the paper's Fig. 6, and one figure per channel condition.

What the channel uses were spent on: CBR by part, for every curve and rate.

Quality against the channel, at equal CBR: cliff or grace over SNR, NMSE and coherence length.

Fig. 1, measured: what a receiver loses that computes otherwise than its transmitter.

Block error rate against SNR, one line per MCS, per fading and receiver.

Shown frames of each scheme at matched CBR, for print (the paper's Fig. 7).

Where the time of sweeps went: one stacked bar per results folder, from its manifest.

All figures of a results folder: which ones there are, and their files.
"""

import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from pvsc_link.intervals import wilson_interval
from pvsc_link.report.curves import (
    CONDITION,
    PLACE,
    by_condition,
    clip_stem,
    common_budget,
    condition_slug,
    condition_words,
    metrics_in,
    place_words,
    quality_at_budget,
)
from pvsc_link.report.frames import MatchedFrames, ShownFrame, matched_frames, zoom_boxes
from pvsc_link.report.results import Results, read_results
from pvsc_link.report.style import (
    COLUMN_WIDTH,
    MATPLOTLIB,
    PAGE_WIDTH,
    MetricStyle,
    SchemeStyle,
    scheme_style,
)

#: A figure's file name without ending, and what draws it: drawing costs, naming does not.
NamedFigure = tuple[str, Callable[[], Figure]]

_LONGEST_ENTRY = 34  # of a legend with several columns
#: Heights in inches.
_PANEL, _LEGEND_LINE, _REST = 1.55, 0.16, 0.55


def stacked_panels(count: int, num_labels: int, width: float = COLUMN_WIDTH):
    """A one-column figure of ``count`` panels over each other; returns (figure, panels)."""
    height = count * _PANEL + _REST + _LEGEND_LINE * np.ceil(num_labels / 2)
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0]


def draw_line(
    panel: Axes, rows: pd.DataFrame, columns: tuple[str, str, str, str], style: SchemeStyle
) -> None:
    """One curve with the band of its interval.

    Parameters: ``columns`` : of x, y, lower and upper end; a band without numbers is not drawn.
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
        panel.fill_between(rows[x], rows[low], rows[high], color=style.colour, alpha=0.18, lw=0)


def finish_metric_panel(panel: Axes, metric: MetricStyle) -> None:
    """Label, and better upwards in every panel."""
    panel.set_ylabel(metric.axis_label)
    if not metric.higher_is_better and not panel.yaxis_inverted():
        panel.invert_yaxis()


def add_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> None:
    """One legend of all panels below the figure."""
    entries: dict[str, Any] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if max(map(len, entries), default=0) > _LONGEST_ENTRY:
        columns = 1
    if entries:
        figure.legend(
            handles=list(entries.values()),
            labels=list(entries),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            handlelength=2.2,
            columnspacing=1.2,
        )


def styles_in(rows: pd.DataFrame, styles: Mapping[str, SchemeStyle]) -> dict[str, SchemeStyle]:
    """The styles of the curves in ``rows``, in the common order."""
    here = set(rows["curve"])
    return {key: style for key, style in styles.items() if key in here}


def label_cbr_ticks(panel: Axes) -> None:
    """Logarithmic CBR axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())


#: Rows of a grid on one page.
_ROWS = 4
_CBR_LABEL = "CBR (channel uses per source sample)"


def grid_figures(means: pd.DataFrame, styles: Mapping[str, SchemeStyle]) -> Iterator[NamedFigure]:
    """Per clip and GOP: conditions down, metrics across, both columns wide."""
    for (clip, gop), rows in means.groupby(PLACE, dropna=False, sort=False):
        metrics, conditions = metrics_in(rows), list(by_condition(rows))
        for page, start in enumerate(range(0, len(conditions) if metrics else 0, _ROWS)):
            name = f"rate_grid_{clip_stem(clip)}_gop{gop:g}"
            here = conditions[start : start + _ROWS]
            draw = partial(_grid, here, metrics, styles, place_words(clip, gop))
            yield (f"{name}_{page + 1}" if len(conditions) > _ROWS else name), draw


def rate_figures(means: pd.DataFrame, styles: Mapping[str, SchemeStyle]) -> Iterator[NamedFigure]:
    """Per clip, GOP and condition: the metrics over each other, one column wide."""
    for (clip, gop), of_place in means.groupby(PLACE, dropna=False, sort=False):
        for condition, rows in by_condition(of_place):
            metrics = metrics_in(rows)
            if metrics:
                name = f"rate_{clip_stem(clip)}_gop{gop:g}_{condition_slug(condition)}"
                title = f"{place_words(clip, gop)}\n{condition_words(condition)}"
                yield name, partial(rate_perception_figure, rows, metrics, styles, title)


def rate_perception_figure(
    rows: pd.DataFrame,
    metrics: list[MetricStyle],
    styles: Mapping[str, SchemeStyle],
    title: str,
) -> Figure:
    """One panel per metric, one column wide. ``rows`` : from ``curves.averaged``."""
    figure, panels = stacked_panels(len(metrics), len(styles_in(rows, styles)))
    for panel, metric in zip(panels, metrics, strict=True):
        _draw_curves(panel, rows, metric, styles)
    panels[-1].set_xlabel(_CBR_LABEL)
    add_legend(figure, panels, columns=2)
    figure.suptitle(title, fontsize=8)
    return figure


def _grid(
    conditions: list[tuple[dict, pd.DataFrame]],
    metrics: list[MetricStyle],
    styles: Mapping[str, SchemeStyle],
    title: str,
) -> Figure:
    height = 0.9 + 1.65 * len(conditions)
    width = PAGE_WIDTH * max(len(metrics), 2) / 3
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(conditions), len(metrics), squeeze=False)
    for row, (condition, rows) in zip(panels, conditions, strict=True):
        for panel, metric in zip(row, metrics, strict=True):
            _draw_curves(panel, rows, metric, styles)
        row[0].set_title(condition_words(condition), loc="left")
    for panel in panels[-1]:
        panel.set_xlabel("CBR")
    add_legend(figure, panels.flat, columns=max(len(metrics), 2))
    figure.suptitle(title, fontsize=9)
    return figure


def _draw_curves(
    panel: Axes, rows: pd.DataFrame, metric: MetricStyle, styles: Mapping[str, SchemeStyle]
) -> None:
    y = metric.column
    for key, style in styles_in(rows, styles).items():
        curve = rows[(rows["curve"] == key) & rows[y].notna()].sort_values("cbr")
        if len(curve):
            draw_line(panel, curve, ("cbr", y, f"{y}_low", f"{y}_high"), style)
    label_cbr_ticks(panel)
    finish_metric_panel(panel, metric)


# Light to dark, each with its own hatch: readable without colour.
_FACES = ("#BBD4EA", "#F2C79B", "#9BCFC0", "#E3B7D0", "#DDDDDD")
_HATCHES = ("", "////", "....", "xxxx", "||||")


#: Columns that divide a part of ``cbr`` once more, by that part.
FINER = {"cbr_source": ["cbr_y", "cbr_intra"], "cbr_side": ["cbr_z", "cbr_k"]}


def once(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with every channel use in one part only: where finer parts are known, in those."""
    for part, finer in FINER.items():
        known = [name for name in finer if name in rows]
        if known and part in rows:
            rows = rows.assign(**{part: rows[part].where(rows[known].isna().all(axis=1), 0.0)})
    return rows


def parts_of(rows: pd.DataFrame) -> list[str]:
    """Columns ``cbr_<part>`` that hold a positive number."""
    names = [name for name in rows if str(name).startswith("cbr_")]
    return [name for name in names if rows[name].gt(0).any()]


def cbr_figures(means: pd.DataFrame, styles: Mapping[str, SchemeStyle]) -> Iterator[NamedFigure]:
    """Per clip, GOP and condition where more than one part was sent."""
    for (clip, gop), of_place in once(means).groupby(PLACE, dropna=False, sort=False):
        for condition, rows in by_condition(of_place):
            if len(parts_of(rows)) > 1:
                name = f"cbr_{clip_stem(clip)}_gop{gop:g}_{condition_slug(condition)}"
                title = f"{place_words(clip, gop)}\n{condition_words(condition)}"
                yield name, partial(cbr_figure, rows, styles, title)


def cbr_figure(rows: pd.DataFrame, styles: Mapping[str, SchemeStyle], title: str) -> Figure:
    """Horizontal stacked bars, one column wide: rates in order of CBR within each curve."""
    parts, bars = parts_of(rows), _bars(rows, styles)
    figure = Figure(figsize=(COLUMN_WIDTH, 0.95 + 0.15 * len(bars)), layout="constrained")
    panel = figure.subplots()
    start = pd.Series(0.0, index=bars.index)
    for part, face, hatch in zip(parts, _FACES * 3, _HATCHES * 3, strict=False):
        width = bars[part].fillna(0.0)
        panel.barh(
            bars["label"],
            width,
            left=start,
            color=face,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.4,
            label=part.removeprefix("cbr_"),
        )
        start = start + width
    panel.invert_yaxis()
    panel.set_xlabel("CBR (channel uses per source sample)")
    panel.grid(False, axis="y")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title, fontsize=8)
    return figure


def _bars(rows: pd.DataFrame, styles: Mapping[str, SchemeStyle]) -> pd.DataFrame:
    here = styles_in(rows, styles)
    ordered = rows.assign(order=rows["curve"].map({key: i for i, key in enumerate(here)}))
    ordered = ordered.sort_values(["order", "cbr"]).reset_index(drop=True)
    names = [
        f"{here[key].short}, rate {rate:g}"
        for key, rate in zip(ordered["curve"], ordered["rate"], strict=True)
    ]
    return ordered.assign(label=names)


_SHORT = {"snr_db": "snr", "csi_nmse_db": "nmse", "coherence_length": "coherence"}
_LABELS = {
    "snr_db": "SNR (dB)",
    "csi_nmse_db": "NMSE of the channel estimate (dB)",
    "coherence_length": "Coherence length (channel uses)",
}


def axis_figures(
    keyed: pd.DataFrame, styles: Mapping[str, SchemeStyle], axis: str
) -> Iterator[NamedFigure]:
    """Per clip, GOP and the other parts of the condition, one column wide.

    Parameters: ``axis`` : a column of the condition; where it has one value there is no figure.
    """
    fixed = [name for name in CONDITION if name != axis]
    for key, rows in keyed.groupby([*PLACE, *fixed], dropna=False, sort=False):
        place = dict(zip([*PLACE, *fixed], key, strict=True))
        fades = place["channel"] != "awgn"
        if rows[axis].nunique(dropna=axis == "coherence_length" or not fades) < 2:
            continue
        if metrics_in(rows):
            clip, gop = place["clip"], place["gop"]
            name = f"{_SHORT[axis]}_{clip_stem(clip)}_gop{gop:g}_{condition_slug(place)}"
            title = f"{place_words(clip, gop)}\n{condition_words({n: place[n] for n in fixed})}"
            yield name, partial(quality_figure, rows, styles, axis, title)


def quality_figure(
    keyed: pd.DataFrame, styles: Mapping[str, SchemeStyle], axis: str, title: str
) -> Figure:
    """Quality within the CBR that every curve can be sent at, over ``axis``."""
    metrics, budget = metrics_in(keyed), common_budget(keyed)
    figure, panels = stacked_panels(len(metrics), len(styles_in(keyed, styles)))
    for panel, metric in zip(panels, metrics, strict=True):
        table = quality_at_budget(keyed, metric, budget)
        table["x"] = _positions(table[axis], axis)
        for key, style in styles_in(table, styles).items():
            line = table[table["curve"] == key].sort_values("x")
            draw_line(panel, line, ("x", "value", "low", "high"), style)
        finish_metric_panel(panel, metric)
    _label_axis(panels[-1], keyed[axis], axis)
    add_legend(figure, panels, columns=2)
    figure.suptitle(f"{title}, CBR at most {budget:.3g}", fontsize=8)
    return figure


def _positions(values: pd.Series, axis: str) -> pd.Series:
    """Where values stand; perfect CSI has no NMSE and stands left of the smallest one."""
    if axis != "csi_nmse_db" or values.notna().all():
        return values
    return values.fillna(_perfect_csi_at(values))


def _perfect_csi_at(values: pd.Series) -> float:
    known = np.sort(values.dropna().unique())
    step = float(np.diff(known).min()) if len(known) > 1 else 10.0
    return (known[0] if len(known) else 0.0) - step


def _far_apart(values: np.ndarray) -> bool:
    """Whether a label at every value can be read."""
    gaps = np.diff(values)
    return len(gaps) > 0 and gaps.min() >= (values[-1] - values[0]) / 12


def _label_axis(panel: Axes, values: pd.Series, axis: str) -> None:
    panel.set_xlabel(_LABELS[axis])
    if axis == "coherence_length":
        panel.set_xscale("log", base=2)
    known = sorted(values.dropna().unique())
    if axis == "csi_nmse_db" and values.isna().any():
        panel.set_xticks(
            [_perfect_csi_at(values), *known], ["perfect", *(f"{value:g}" for value in known)]
        )
    elif _far_apart(np.log(known) if axis == "coherence_length" else np.array(known)):
        panel.set_xticks(known, [f"{value:g}" for value in known])
        panel.minorticks_off()


ARITHMETIC, SAME = "receiver_arithmetic", "same"
_PAIR = ["scheme", "system", "rate", "seed"]
_LOST = "frames_lost_percent"
_STEP = 0.12  # between the marks of two systems


def arithmetic_figures(keyed: pd.DataFrame) -> Iterator[NamedFigure]:
    """Per clip, GOP and channel condition, where the rows name a ``receiver_arithmetic``."""
    if ARITHMETIC not in keyed or keyed[ARITHMETIC].nunique() < 2:
        return
    named = keyed[keyed[ARITHMETIC].notna()]
    for key, rows in named.groupby([*PLACE, *CONDITION], dropna=False, sort=False):
        place = dict(zip([*PLACE, *CONDITION], key, strict=True))
        changes = changes_by_arithmetic(rows)
        if len(changes):
            clip, gop = str(place["clip"]), place["gop"]
            name = f"arithmetic_{clip_stem(clip)}_gop{gop:g}_{condition_slug(place)}"
            title = f"{place_words(clip, gop)}\n{condition_words(place)}"
            yield name, partial(mismatch_figure, changes, title)


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


def mismatch_figure(changes: pd.DataFrame, title: str) -> Figure:
    """Frames lost and the change of every metric over the receiver's arithmetic.

    Marks: mean over rates; bars: from the least to the greatest of them.
    """
    names = list(dict.fromkeys(changes[ARITHMETIC]))
    quantities = {_LOST: "Frames lost (%)"} | {
        metric.column: f"Change of {metric.axis_label}" for metric in metrics_in(changes)
    }
    groups = list(changes.groupby(["scheme", "system"], sort=False))
    figure, panels = stacked_panels(len(quantities), len(groups))
    for panel, (column, label) in zip(panels, quantities.items(), strict=True):
        for place, ((scheme, system), rows) in enumerate(groups):
            spread = rows.groupby(ARITHMETIC)[column].agg(["mean", "min", "max"]).reindex(names)
            beside = _STEP * (place - (len(groups) - 1) / 2)
            _draw_spread(panel, spread, beside, scheme_style(scheme, system))
        panel.set_ylabel(label)
    panels[-1].set_xticks(range(len(names)), ["as sent" if n == SAME else n for n in names])
    panels[-1].set_xlabel("Arithmetic of the receiver (sent: float32)")
    add_legend(figure, panels, columns=1)
    figure.suptitle(title, fontsize=8)
    return figure


def _draw_spread(panel: Axes, spread: pd.DataFrame, beside: float, style: SchemeStyle) -> None:
    """One mark and bar a name; names are no scale, so no line joins them."""
    ends = [spread["mean"] - spread["min"], spread["max"] - spread["mean"]]
    panel.errorbar(
        [place + beside for place in range(len(spread))],
        spread["mean"],
        yerr=ends,
        color=style.colour,
        marker=style.marker,
        linestyle="none",
        capsize=2,
        label=style.printed,
    )


_RECEIVER = ["equalizer", "csi_aware", "decoder"]
_FIXED = ["channel", "csi_nmse_db", "coherence_length", *_RECEIVER]
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Where a rate of zero stands on the logarithmic axis: below any that a sweep resolves.
_FLOOR = 1e-4


def bler_figures(bler: pd.DataFrame) -> Iterator[NamedFigure]:
    """Per channel and receiver, every MCS that was measured at two SNRs or more."""
    receivers = bler.groupby(_RECEIVER, dropna=False).ngroups if len(bler) else 0
    for key, rows in bler.groupby(_FIXED, dropna=False, sort=False):
        rows = rows[rows.groupby("mcs")["snr_db"].transform("nunique") > 1]
        if rows.empty:
            continue
        condition = dict(zip(_FIXED, key, strict=True))
        receiver = "_".join(str(condition[name]) for name in _RECEIVER)
        name = f"bler_{condition_slug(condition)}"
        title = condition_words({n: condition[n] for n in _FIXED[:3]})
        if condition["channel"] != "awgn":
            aware = str(condition["csi_aware"]) in ("True", "1", "1.0")
            title += f"\n{condition['equalizer'].upper()}, CSI error {'' if aware else 'un'}known"
        full_name = f"{name}_{receiver}" if receivers > 1 else name
        yield full_name, partial(bler_figure, rows, title)


def bler_figure(rows: pd.DataFrame, title: str) -> Figure:
    """One line per MCS; a rate at or below the floor is a hollow marker at the bottom."""
    from matplotlib import colormaps

    indices = sorted(rows["mcs"].unique())
    figure, (panel,) = stacked_panels(1, len(indices) // 2)
    figure.set_figheight(figure.get_figheight() + 0.6)
    colours = colormaps["viridis"](np.linspace(0.0, 0.9, len(indices)))
    for place, (mcs, colour) in enumerate(zip(indices, colours, strict=True)):
        line = rows[rows["mcs"] == mcs].sort_values("snr_db")
        shown = line["bler"].clip(lower=_FLOOR)
        style = {"color": colour, "marker": _MARKERS[place % len(_MARKERS)]}
        panel.plot(line["snr_db"], shown, label=f"MCS {mcs:g}", **style)
        none = line["bler"] <= _FLOOR
        hollow = {**style, "markerfacecolor": "white", "linestyle": "", "zorder": 3}
        panel.plot(line["snr_db"][none], shown[none], **hollow)
        _draw_intervals(panel, line, colour)
    panel.set_yscale("log")
    panel.set_ylim(_FLOOR / 1.5, 1.5)
    panel.set_xlabel("SNR (dB)")
    panel.set_ylabel("Block error rate")
    add_legend(figure, [panel], columns=4)
    figure.suptitle(f"{title} (hollow: 1e-4 or less)", fontsize=8)
    return figure


def _draw_intervals(panel, line: pd.DataFrame, colour) -> None:
    """Wilson's 95 % intervals where errors and blocks were counted."""
    counted = line.dropna(subset=["num_blocks", "num_block_errors"])
    for _, row in counted[counted["num_blocks"].gt(0)].iterrows():
        interval = wilson_interval(int(row["num_block_errors"]), int(row["num_blocks"]))
        ends = np.clip([interval.low, interval.high], _FLOOR, 1.0)
        panel.plot([row["snr_db"]] * 2, ends, color=colour, linewidth=0.8, alpha=0.7)


_COLUMNS = 4
_CAPTION = 0.4  # inches
_BOX_COLOURS = ("#D55E00", "#56B4E9")


def frame_figures(matched: Sequence[MatchedFrames]) -> Iterator[NamedFigure]:
    """Per place and condition of which at least two comparable frames were kept."""
    for group in matched:
        if len(group.shown) > 1 and group.images() is not None:
            yield f"frames_{group.slug}", partial(frame_figure, group)


def frame_figure(group: MatchedFrames) -> Figure:
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
            _draw_frames(panel, shown, image, boxes)
    figure.suptitle(group.title, fontsize=8)
    return figure


def _draw_frames(
    panel: Axes,
    shown: ShownFrame,
    image: Image.Image,
    boxes: Sequence[tuple[float, float, float, float]],
) -> None:
    width, height = image.size
    panel.imshow(with_zoom(image, boxes), interpolation="none")
    for (left, top, wide, high), place, colour in zip(boxes, (0, 1), _BOX_COLOURS, strict=True):
        inside = (left * width, top * height), wide * width, high * height
        below = (place * width / 2, height), width / 2, height / 2
        for corner, *size in (inside, below):
            panel.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=0.8))
    pairs = (", ".join(shown.values[i : i + 2]) for i in range(0, len(shown.values), 2))
    panel.set_title("\n".join([shown.printed, *pairs]), fontsize=6)


def with_zoom(image: Image.Image, boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
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


# Okabe and Ito's colours, one per stage, the same in every figure.
_COLOURS = {
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
    found = [(Path(folder).name, stage_seconds(folder)) for folder in folders]
    found = [(name, seconds) for name, seconds in found if seconds]
    figure = Figure(figsize=(6.4, 0.9 + 0.42 * max(len(found), 1)), layout="constrained")
    panel = figure.subplots()
    for place, (_, seconds) in enumerate(found):
        left = 0.0
        for stage, value in seconds.items():
            panel.barh(place, value, left=left, color=_COLOURS.get(stage, "#999999"), height=0.6)
            left += value
        panel.text(left, place, f" {left:.0f} s", va="center", fontsize=8)
    panel.set_yticks(range(len(found)), [name for name, _ in found])
    panel.invert_yaxis()
    panel.set_xlabel("wall time (s)")
    panel.margins(x=0.12)
    handles = [panel.barh(0, 0, color=colour) for colour in _COLOURS.values()]
    figure.legend(
        handles=handles, labels=list(_COLOURS), loc="outside upper center", ncols=4, frameon=False
    )
    return figure


#: Files per figure unless the caller says otherwise, and most figures of a kind: a large sweep
#: has hundreds of conditions, which the page shows and nobody prints.
ENDINGS, MOST_OF_A_KIND = ("png", "pdf"), 3


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
    that have no threads running.
    """
    chosen: list[NamedFigure] = []
    remarks, cut = [], []
    for kind, figures in _kinds(results):
        first = list(islice(figures, most + 1))
        chosen += first[:most]
        if len(first) > most:
            cut.append(kind)
        elif not first:
            remarks.append(f"No figure of {kind}: {_WHY_NONE[kind]}")
    if cut:
        remarks.append(
            f"Only the first {most} figures are drawn of: {', '.join(cut)} "
            "(--most-figures N draws more; report.html shows every condition)."
        )
    target.mkdir(parents=True, exist_ok=True)
    _in_processes(partial(_draw, target=target, endings=endings), chosen, workers)
    files = [target / f"{name}.{ending}" for name, _ in chosen for ending in endings]
    return FigureSet(files, remarks)


def _kinds(results: Results) -> Iterator[tuple[str, Iterator[NamedFigure]]]:
    keyed, means, styles = results.curves.keyed, results.curves.means, results.curves.styles
    if keyed.empty:
        return
    yield "rate-perception grid", grid_figures(means, styles)
    yield "quality against CBR", rate_figures(means, styles)
    for axis, title in _AXES.items():
        yield f"quality against {title}", axis_figures(keyed, styles, axis)
    yield "floating-point mismatch", arithmetic_figures(keyed)
    yield "CBR by part", cbr_figures(means, styles)
    yield "BLER", bler_figures(results.bler)
    yield "shown frames", frame_figures(matched_frames(results.folder, keyed, styles))


_AXES = {"snr_db": "SNR", "csi_nmse_db": "NMSE", "coherence_length": "coherence length"}
_ONE = "the results hold one value of it."
_WHY_NONE = {
    "rate-perception grid": "no metric has a number.",
    "quality against CBR": "no metric has a number.",
    **{f"quality against {title}": _ONE for title in _AXES.values()},
    "floating-point mismatch": "no receiver computes otherwise than its transmitter.",
    "CBR by part": "all channel uses belong to one part.",
    "BLER": "no MCS was measured at two SNRs.",
    "shown frames": "none were kept (--save-frames keeps them).",
}


def _in_processes(
    draw: Callable[[Sequence[NamedFigure]], None], figures: Sequence[NamedFigure], workers: int
) -> None:
    """Share the figures out; raises ``RuntimeError`` if a process did not end well."""
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
    with matplotlib.rc_context(MATPLOTLIB):
        for name, make in figures:
            figure = make()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not once per file
            for ending in endings:
                path = target / f"{name}.{ending}"
                figure.savefig(path, metadata=_no_date(path.suffix))


def _no_date(suffix: str) -> dict:
    """Metadata without a date, so that equal tables give equal files."""
    return {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None},
    }.get(suffix, {})
