"""How long a sweep will take, from the times that earlier sweeps recorded. Nothing is run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from pvsc_link.media import EMBEDDED_CLIPS, load_clip
from pvsc_link.scenario import Point
from pvsc_link.sweep.plan import Plan

_COLUMNS = ["point_id", "scheme", "clip", "num_frames", "seconds"]


@dataclass(frozen=True)
class Estimate:
    """Seconds that the points without a row will take, and what the figure rests on.

    ``num_points`` : points that have no row yet; ``num_timed`` : of these, how many are of a scheme
    with earlier rows; ``folders`` : the results folders with these rows
    """

    seconds: float
    num_points: int
    num_timed: int
    folders: tuple[Path, ...]

    def __str__(self) -> str:
        if not self.num_points:
            return "nothing to run: every point has a row"
        if not self.num_timed:
            return "time: unknown, since no earlier run of these schemes was found"
        others = self.num_points - self.num_timed
        beside = f", without {others} points of schemes that never ran" if others else ""
        places = ", ".join(map(str, self.folders[:3])) + (" ..." if len(self.folders) > 3 else "")
        return f"time: about {duration(self.seconds)}{beside} (from the times in {places})"


def duration(seconds: float) -> str:
    """Seconds in the two largest units: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours else f"{minutes} min"


def estimate(plan: Plan, own: Path, folders: Iterable[Path]) -> Estimate:
    """The time of the points of ``plan`` that have no row in the folder ``own``.

    A row costs the seconds that it states, and its share of what its sweep spent on encoders and on
    the choice of MCS (``seconds_by_stage``). The mean over rows of a scheme is taken by frame: over
    those of the same clip, and else by pixel over those of the clips that the package holds.

    Parameters: ``folders`` : results folders with the rows of earlier sweeps.
    """
    done = set(_rows(own)["point_id"])
    todo = [point for point in plan.points if point.point_id not in done]
    tables = {folder: _rows(folder) for folder in dict.fromkeys([own, *folders])}
    wanted = {point.scheme for point in todo}
    tables = {f: t[t["scheme"].isin(wanted)] for f, t in tables.items()}
    tables = {folder: table for folder, table in tables.items() if len(table)}
    if not tables:
        return Estimate(0.0, len(todo), 0, ())
    rows = pd.concat(tables.values(), ignore_index=True)
    costs = {(p.scheme, p.clip): _cost_of_a_frame(rows, p, plan.sizes) for p in todo}
    timed = [(point, costs[point.scheme, point.clip]) for point in todo]
    seconds = sum(cost * point.gop * point.num_gops for point, cost in timed if cost is not None)
    num_timed = sum(cost is not None for _, cost in timed)
    return Estimate(seconds, len(todo), num_timed, tuple(tables))


def _rows(folder: Path) -> pd.DataFrame:
    """Rows with their cost in seconds; none where the folder has no table that can be read."""
    try:
        rows = pd.read_csv(folder / "points.csv", usecols=_COLUMNS)
        stages = json.loads((folder / "manifest.json").read_text()).get("seconds_by_stage", {})
    except (OSError, ValueError):
        return pd.DataFrame(columns=[*_COLUMNS, "cost"])
    rows = rows.dropna(subset=["seconds", "num_frames"])
    beside = max(sum(stages.values()) - rows["seconds"].sum(), 0.0)
    return rows.assign(cost=rows["seconds"] + beside / max(len(rows), 1))


def _cost_of_a_frame(
    rows: pd.DataFrame, point: Point, sizes: Mapping[str, tuple[int, int]]
) -> float | None:
    of_scheme = rows[rows["scheme"] == point.scheme]
    of_clip = of_scheme[of_scheme["clip"] == point.clip]
    if len(of_clip):
        return float((of_clip["cost"] / of_clip["num_frames"]).mean())
    known = of_scheme[of_scheme["clip"].isin(EMBEDDED_CLIPS)]
    if known.empty or point.clip not in sizes:
        return None
    pixels = known["clip"].map(_pixels_of_embedded)
    height, width = sizes[point.clip]
    return float((known["cost"] / known["num_frames"] / pixels).mean() * height * width)


@cache
def _pixels_of_embedded(clip: str) -> int:
    height, width = load_clip(clip, num_frames=1).frames.shape[1:3]
    return int(height * width)
