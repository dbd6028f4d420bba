"""Figures and tables for notebooks: pick rows of a results table, get a figure."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pvsc_link.options import check_name
from pvsc_link.report.curves import CurveSet, curve_set
from pvsc_link.report.figures import AXES, NamedFigure, axis_figures, bler_figures, grid_figures
from pvsc_link.report.results import read_results
from pvsc_link.report.style import STYLE_FILE
from pvsc_link.report.table_formats import Table
from pvsc_link.report.tables import comparison_tables
from pvsc_link.types import InputError

#: Dots per inch on a screen; files are saved finer.
_SCREEN_DPI = 110


def plot_rate(points: pd.DataFrame, **where: Hashable) -> Figure:
    """Quality against CBR (the paper's Fig. 6): conditions down, metrics across.

    Input: ``points`` : from ``pvsc_link.load_results``; ``where`` : columns and the value that
    rows must have; ``None`` stands for an empty cell. Raises ``InputError`` if nothing is left.

    Example::

        plot_rate(pvsc_link.load_results("results/quickstart"), clip="bikes", snr_db=6)
    """
    curves = _curves(points, where)
    return _first(grid_figures(curves.means, curves.styles), where)


def plot_against(points: pd.DataFrame, axis: str, **where: Hashable) -> Figure:
    """Quality at equal CBR against ``snr_db``, ``csi_nmse_db`` or ``coherence_length``.

    Input and errors as in :func:`plot_rate`.
    """
    check_name("axis", axis, AXES)
    curves = _curves(points, where)
    return _first(axis_figures(curves.keyed, curves.styles, axis), where)


def plot_bler(folder: str | Path) -> Figure:
    """Block error rate against SNR of every MCS that a sweep measured at two SNRs or more."""
    return _first(bler_figures(read_results(folder).bler), {"folder": str(folder)})


def plot_frames(*clips: np.ndarray, most: int = 4) -> Figure:
    """Clips below each other, frame by frame: the source, and what arrived.

    Input: ``clips`` : [num_frames, height, width, 3], uint8, all of one shape; ``most`` : frames
    that are shown, spread over the clip. Raises ``InputError`` for clips of other shapes.
    """
    shapes = [np.shape(clip) for clip in clips]
    if not clips or len(set(shapes)) > 1 or len(shapes[0]) != 4 or not shapes[0][0]:
        raise InputError(
            "clips to show",
            found=shapes,
            allowed="clips of one shape [num_frames, height, width, 3]",
            remedy="Crop them to the frames and pixels that all of them have.",
        )
    num_frames = shapes[0][0]
    shown = np.unique(np.linspace(0, num_frames - 1, min(most, num_frames)).round().astype(int))
    rows = [np.concatenate([clip[frame] for frame in shown], axis=1) for clip in clips]
    picture = np.concatenate(rows, axis=0)
    figure = Figure(figsize=(picture.shape[1] / 100, picture.shape[0] / 100), dpi=100)
    panel = figure.add_axes((0, 0, 1, 1))  # a notebook shows no figure without axes
    panel.imshow(picture, aspect="auto", interpolation="nearest")
    panel.set_axis_off()
    return figure


def paper_tables(folder: str | Path) -> list[Table]:
    """Tables of BD-CBR of a results folder in the paper's form; a notebook shows them as tables."""
    return comparison_tables(read_results(folder))


def _curves(points: pd.DataFrame, where: dict[str, Any]) -> CurveSet:
    """Curves of the rows asked for, drawn as they would be among all rows."""
    curves = curve_set(points)
    keyed = curves.keyed
    means = curves.means
    for name, value in where.items():
        check_name("column", name, points.columns)
        keyed = keyed[keyed[name].isna() if value is None else keyed[name] == value]
        if name in means:
            means = means[means[name].isna() if value is None else means[name] == value]
    return CurveSet(keyed, means[means["curve"].isin(keyed["curve"])], curves.styles)


def _first(figures: Iterator[NamedFigure], where: dict[str, Any]) -> Figure:
    with matplotlib.rc_context({"figure.dpi": _SCREEN_DPI}, STYLE_FILE):
        for _, draw in figures:
            return draw()
    raise InputError(
        "nothing to draw",
        found=where or "no row with a number",
        allowed="rows with a CBR and a metric, at two values of an axis",
        remedy="Leave out a condition, or look at points.status.",
    )
