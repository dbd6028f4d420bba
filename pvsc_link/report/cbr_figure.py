"""What the channel uses were spent on: CBR by part, for every curve and rate."""

from collections.abc import Iterator, Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from pvsc_link.report.curves import (
    PLACE,
    by_condition,
    clip_stem,
    condition_slug,
    condition_words,
    place_words,
)
from pvsc_link.report.panels import NamedFigure, styles_in
from pvsc_link.report.style import COLUMN_WIDTH, SchemeStyle

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
