"""Block error rate against SNR, one line per MCS, per fading and receiver."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pvsc_link.metrics.statistics import wilson_interval
from pvsc_link.report.curves import condition_slug, condition_words
from pvsc_link.report.panels import NamedFigure, add_legend, stacked_panels

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
