"""Quality against CBR: the grid of the paper's Fig. 6, and one figure per channel condition."""

from collections.abc import Iterator, Mapping
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pvsc_link.report.curves import (
    PLACE,
    by_condition,
    clip_stem,
    condition_slug,
    condition_words,
    metrics_in,
    place_words,
)
from pvsc_link.report.panels import (
    NamedFigure,
    add_legend,
    draw_line,
    finish_metric_panel,
    label_cbr_ticks,
    stacked_panels,
    styles_in,
)
from pvsc_link.report.style import PAGE_WIDTH, MetricStyle, SchemeStyle

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
