"""Fig. 1, measured: what a receiver loses that computes otherwise than its transmitter."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pvsc_link.report.curves import (
    CONDITION,
    PLACE,
    clip_stem,
    condition_slug,
    condition_words,
    metrics_in,
    place_words,
)
from pvsc_link.report.panels import NamedFigure, add_legend, stacked_panels
from pvsc_link.report.style import SchemeStyle, scheme_style

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
