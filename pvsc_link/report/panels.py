"""Parts that every figure is put together from: a page of panels, a line with its band."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pvsc_link.report.style import COLUMN_WIDTH, MetricStyle, SchemeStyle

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
