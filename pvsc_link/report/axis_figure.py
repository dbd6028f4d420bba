"""Quality against the channel, at equal CBR: cliff or grace over SNR, NMSE and coherence length."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pvsc_link.report.curves import (
    CONDITION,
    PLACE,
    clip_stem,
    common_budget,
    condition_slug,
    condition_words,
    metrics_in,
    place_words,
    quality_at_budget,
)
from pvsc_link.report.panels import (
    NamedFigure,
    add_legend,
    draw_line,
    finish_metric_panel,
    stacked_panels,
    styles_in,
)
from pvsc_link.report.style import SchemeStyle

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
