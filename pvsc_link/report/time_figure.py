"""Where the time of sweeps went: one stacked bar per results folder, from its manifest."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

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
