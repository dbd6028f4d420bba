"""Rate-perception figures from a results folder (the paper's Fig. 6)."""

from pathlib import Path

import pandas as pd

from pvsc_link.report.style import METRIC_LABELS, scheme_style
from pvsc_link.sweep.store import read_points

_CONDITION = ["clip", "gop", "channel", "snr_db", "csi_nmse_db", "coherence_length"]
_CURVE = ["scheme", "variant", "equalizer", "csi_aware", "mcs_policy"]


def write_figures(folder: str | Path) -> list[Path]:
    """One figure per clip, GOP length and channel condition: quality against CBR, PNG and PDF.

    Reads ``points.csv`` in ``folder``, writes into ``folder/figures/`` and returns the paths.
    Rows without a number are left out; a condition without any gives no figure.
    """
    points = read_points(folder)
    target = Path(folder) / "figures"
    written: list[Path] = []
    if "cbr" not in points or points["cbr"].isna().all():
        return written
    target.mkdir(exist_ok=True)
    for place, rows in points.dropna(subset=["cbr"]).groupby(_CONDITION, dropna=False, sort=False):
        condition = dict(zip(_CONDITION, place, strict=True))
        figure = rate_perception_figure(rows, condition_title(condition))
        for ending in ("png", "pdf"):
            path = target / f"rate_{_file_name(condition)}.{ending}"
            figure.savefig(path, dpi=150, metadata=_no_date(ending))
            written.append(path)
    return written


def rate_perception_figure(rows: pd.DataFrame, title: str):
    """A row of panels, one per metric column in ``rows``; returns the matplotlib figure."""
    from matplotlib.figure import Figure

    columns = [name for name in METRIC_LABELS if name in rows and rows[name].notna().any()]
    figure = Figure(figsize=(4.2 * max(len(columns), 1), 3.9), layout="constrained")
    panels = figure.subplots(1, max(len(columns), 1), squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=False):
        _draw_curves(panel, rows, column)
        panel.set_ylabel(METRIC_LABELS[column])
        if column != "psnr_db":
            panel.invert_yaxis()  # better is up in every panel
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def _draw_curves(panel, rows: pd.DataFrame, column: str) -> None:
    curves = list(rows.groupby(_CURVE, dropna=False, sort=False))
    main = {}
    for (scheme, variant, *_), _rows in curves:
        main.setdefault(scheme, variant)
    for (scheme, variant, *_), curve in curves:
        style = scheme_style(scheme, variant, main_variant=main[scheme] == variant)
        mean = curve.groupby("rate")[["cbr", column]].mean().sort_values("cbr")
        panel.plot(
            mean["cbr"],
            mean[column],
            color=style.colour,
            marker=style.marker,
            linestyle=style.linestyle,
            markersize=5,
            linewidth=1.4,
            label=style.label,
        )
    panel.set_xscale("log")
    panel.set_xlabel("CBR (channel uses per source sample)")
    panel.grid(True, which="both", linewidth=0.3, alpha=0.6)


def condition_title(condition: dict) -> str:
    """A channel condition in words, for titles."""
    words = [f"{condition['clip']}, GOP {condition['gop']}", _channel_words(condition)]
    return ", ".join(words)


def _channel_words(condition: dict) -> str:
    words = f"{str(condition['channel']).upper() if condition['channel'] == 'awgn' else 'Rayleigh'}"
    words += f", SNR {condition['snr_db']:g} dB"
    if condition["channel"] == "awgn":
        return words
    nmse = condition["csi_nmse_db"]
    words += ", perfect CSI" if pd.isna(nmse) else f", NMSE {nmse:g} dB"
    return words + f", coherence {condition['coherence_length']:g}"


def _file_name(condition: dict) -> str:
    parts = [Path(str(condition["clip"])).stem, f"gop{condition['gop']}", condition["channel"]]
    parts.append(f"snr{condition['snr_db']:g}")
    if not pd.isna(condition["csi_nmse_db"]):
        parts.append(f"nmse{condition['csi_nmse_db']:g}")
    if not pd.isna(condition["coherence_length"]):
        parts.append(f"coh{condition['coherence_length']:g}")
    return "_".join(map(str, parts))


def _no_date(ending: str) -> dict:
    """Metadata without a date, so that equal tables give equal files."""
    return {"Software": None} if ending == "png" else {"CreationDate": None}
