"""The files of a finished sweep: points, MCS neighbours, means over seeds, BD-CBR, manifest."""

from pathlib import Path

import pandas as pd

from pvsc_link.semantic.pretrained import UNTRAINED
from pvsc_link.sweep.bd_table import bd_table
from pvsc_link.sweep.builder import Plan
from pvsc_link.sweep.manifest import command_line, write_manifest
from pvsc_link.sweep.seed_means import seed_means
from pvsc_link.sweep.store import SweepStore, write_csv


def write_tables(
    folder: Path,
    points: pd.DataFrame,
    beside: pd.DataFrame,
    plan: Plan,
    store: SweepStore,
    *,
    seconds: float,
    command: str | None = None,
) -> None:
    """Write tables and manifest into ``folder``, each whole or not at all.

    ``beside`` : rows of the MCS next to a chosen one, for ``mcs_neighbours.csv``;
    ``command`` : for the manifest, default the command line.
    """
    scenario = plan.scenario
    write_csv(points, folder / "points.csv")
    if not beside.empty:
        write_csv(beside, folder / "mcs_neighbours.csv")
    means = seed_means(points)
    if not means.empty:
        write_csv(means, folder / "seed_means.csv")
    compared = points if scenario.with_untrained else points[points["status"] != UNTRAINED]
    write_csv(bd_table(compared, scenario.anchor, scenario.metrics), folder / "bd_cbr.csv")
    write_manifest(
        folder / "manifest.json",
        scenario=scenario,
        command=command or command_line(),
        codec_commands=store.fact("codec_commands") or {},
        facts=store.facts(),
        seconds=seconds,
        rows=len(points),
    )
