"""Run a plan into its results folder: the sweep without its command line."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

import pvsc_link
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.sweep.builder import Plan
from pvsc_link.sweep.kept_frames import KeptFrames
from pvsc_link.sweep.restore import restore
from pvsc_link.sweep.rows import rows_of
from pvsc_link.sweep.runner import Progress, SweepRunner
from pvsc_link.sweep.store import SweepStore, points_table
from pvsc_link.sweep.tables import write_tables
from pvsc_link.types import InputError


def run_plan(
    plan: Plan,
    folder: Path,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
    save_frames: bool = False,
    restored: bool = False,
    console: Console | None = None,
    command: str | None = None,
) -> pd.DataFrame:
    """Run what ``folder`` does not hold yet, write tables and manifest; returns the points.

    Parameters: ``fresh`` : forget earlier rows; ``retry_failed`` : run rows again whose codec
    failed; ``save_frames`` : keep a frame per point for the report, and send rows again that have
    none; ``restored`` : start with the rows of the tables in ``folder``, where their database is
    gone (``sweep.restore``); ``console`` : where progress is shown; ``command`` : for the manifest,
    default the command line.
    Raises ``InputError`` if another sweep holds the folder, its rows are of another version, or
    there is nothing to restore.
    """
    with _locked(folder):
        start = time.perf_counter()
        if restored:
            restore(folder, version=pvsc_link.__version__)
        store = SweepStore(folder, fresh=fresh, version=pvsc_link.__version__)
        # Plain text in notebooks: rich's live display there needs packages of its own.
        shown = console or Console(stderr=True, force_jupyter=False)
        with _progress(shown, len(plan.points)) as progress:
            frame_metrics = FrameMetrics(None)
            SweepRunner(
                plan,
                store,
                frame_metrics,
                progress,
                retry_failed=retry_failed,
                kept_frames=KeptFrames(folder, plan.scenario.seed[0]) if save_frames else None,
            ).run()
        rows, beside = rows_of(plan.points, store.finished())
        table = points_table(rows)
        write_tables(
            folder,
            table,
            points_table(beside),
            plan,
            store,
            seconds=time.perf_counter() - start,
            command=command,
        )
        store.close()
    return table


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                "results folder is in use",
                found=str(folder),
                allowed="one sweep at a time",
                remedy="Wait for the other sweep or give --out.",
            ) from error
        yield
    (folder / ".lock").unlink(missing_ok=True)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Progress]:
    bar = Bar(
        TextColumn("{task.description:<48.48}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done, _, stage: bar.update(task, completed=done, description=stage)
