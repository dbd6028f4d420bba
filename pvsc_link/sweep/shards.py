"""``--shard i/n`` and ``sweep merge``: one sweep by several processes that never speak.

Every process runs its own tasks into a store of its own, ``shards/i-of-n/`` in the results folder.
``merge`` joins the stores into the results folder, checks that nothing is missing, doubled or made
by other versions, and writes the tables. A process that needs the MCS of a baseline which another
one sends chooses it itself, from the same bitstreams and the same block error rates; so no process
waits for another.
"""

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from pvsc_link._version import __version__
from pvsc_link.metrics import FrameMetrics
from pvsc_link.sweep.plan import Plan
from pvsc_link.sweep.runner import (
    COMMANDS,
    SECONDS,
    SweepRunner,
    finish,
    frames_kept_in,
    opened,
)
from pvsc_link.sweep.store import GOPS, IDENTITIES, SweepStore, kept_files
from pvsc_link.sweep.tables import MADE_ON
from pvsc_link.sweep.tasks import SEEDS_PER_TASK, Shard, tasks_of
from pvsc_link.types import InputError

#: Folder of the shards within the results folder.
SHARDS = "shards"
#: Relative difference up to which two numbers of one point count as the same.
TOLERANCE = 1e-5
_FACT = "shard"


def run_shard(
    plan: Plan,
    folder: Path,
    shard: Shard,
    *,
    seeds_per_task: int = SEEDS_PER_TASK,
    fresh: bool = False,
    retry_failed: bool = False,
    save_frames: bool = False,
    console: Console | None = None,
) -> int:
    """Run one shard into ``folder/shards/i-of-n``; returns the number of its rows.

    ``folder`` is the results folder of the whole sweep. No tables are written: those of a part
    would be wrong means. Raises ``InputError`` as ``run_plan`` does.
    """
    own = folder / SHARDS / shard.folder
    tasks = shard.tasks(tasks_of(plan, seeds_per_task))
    ids = frozenset().union(*(task.point_ids for task in tasks))
    with opened(plan, own, total=len(ids), fresh=fresh, console=console) as (store, progress):
        known = store.fact(_FACT)
        about = {"index": shard.index, "of": shard.of, "seeds_per_task": seeds_per_task}
        if known not in (None, about):
            raise InputError(
                f"{own} is another shard",
                found=known,
                allowed=about,
                remedy="Give the same --seeds-per-task as before, or start again with --fresh.",
            )
        store.set_fact(_FACT, about)
        runner = SweepRunner(
            plan,
            store,
            FrameMetrics(),
            progress,
            retry_failed=retry_failed,
            kept_frames=frames_kept_in(own, plan.scenario) if save_frames else None,
            only=ids,
        )
        runner.run()
        return sum(point_id in ids for point_id in store.heads(["status"]))


@dataclass(frozen=True)
class Merged:
    """What ``merge`` found: the table of points, and how many rows were in two shards."""

    table: pd.DataFrame
    num_shards: int
    num_doubled: int
    num_missing: int


def merge(
    plan: Plan,
    folder: Path,
    *,
    partial: bool = False,
    console: Console | None = None,
    command: str | None = None,
) -> Merged:
    """Join ``folder/shards/*`` into ``folder`` and write the tables.

    A row in two shards counts once, if both are the same up to ``TOLERANCE``. Rows that the folder
    holds already stay. Nothing is written before everything has been checked.

    Parameters: ``partial`` : join what is there, although points are missing; ``sweep`` then runs
    the rest.
    Raises ``InputError`` where there are no shards, shards of different divisions, a shard or a
    point is missing (unless ``partial``), and where shards differ in a version, a video, a
    bitstream, the choice of an MCS, or the numbers of one point.
    """
    start = time.perf_counter()
    stores = _stores_of(folder)
    _check_division(folder, stores, partial)
    merger = _Merger(SweepStore(None, version=__version__))
    try:
        for path, store in stores.items():
            merger.take(path.name, store)
    finally:
        for store in stores.values():
            store.close()
    missing = _missing(plan, merger.store)
    if missing and not partial:
        raise InputError(
            f"shards of {folder}",
            found=f"{len(missing)} of {len(plan.points)} points without a result, such as "
            f"{', '.join(missing[:3])}",
            allowed="a row for every point",
            remedy="Start the shards again that were stopped, or that ran another text of the "
            "scenario; rows that are stored stay. With --partial the rest is run by the sweep.",
        )
    num_points = len(plan.points)
    with opened(plan, folder, total=num_points, console=console) as (store, _):
        merger.take_into(store)
        for path in stores:
            _copy_frames(path, folder)
        seconds = time.perf_counter() - start
        table = finish(plan, folder, store, seconds=seconds, command=command)
    return Merged(table, len(stores), merger.num_doubled, len(missing))


def _stores_of(folder: Path) -> dict[Path, SweepStore]:
    paths = sorted(path.parent for path in (folder / SHARDS).glob("*-of-*/points.sqlite"))
    if not paths:
        raise InputError(
            f"no shards in {folder / SHARDS}",
            found="nothing to merge",
            allowed="folders i-of-n of a sweep with --shard i/n",
            remedy="Run the shards with the same --out.",
        )
    return {path: SweepStore(path, version=__version__) for path in paths}


def _check_division(folder: Path, stores: Mapping[Path, SweepStore], partial: bool) -> None:
    """Raise ``InputError`` for shards of several divisions, or (unless ``partial``) not all."""
    about = [store.fact(_FACT) or {} for store in stores.values()]
    divisions = {(one.get("of"), one.get("seeds_per_task")) for one in about}
    here = {one.get("index") for one in about}
    if len(divisions) > 1:
        told = (f"n = {of} with --seeds-per-task {seeds}" for of, seeds in divisions)
        problem = f"several divisions: {'; '.join(sorted(told))}"
        remedy = "Remove the folders i-of-n of the division that is not meant."
    elif not partial and here != (wanted := set(range(1, about[0].get("of", 0) + 1))):
        problem = f"shards {sorted(here, key=str)}, but not {sorted(wanted - here)[:20]}"
        remedy = "Run the others, or join what is there with --partial."
    else:
        return
    raise InputError(
        f"shards in {folder / SHARDS}",
        found=problem,
        allowed="every shard i/n of one n, with one --seeds-per-task",
        remedy=remedy,
    )


class _Merger:
    """Joins stores into ``store``, which is empty at first, and compares what two of them hold."""

    def __init__(self, store: SweepStore):
        self.store = store
        self.num_doubled = 0

    def take(self, name: str, other: SweepStore) -> None:
        """Add what the store of a shard holds."""
        rows, here = other.finished(), self.store.heads(["status"])
        for point_id in rows.keys() & here:
            self.num_doubled += 1
            _require_same_row(name, self.store.row(point_id) or {}, rows[point_id])
        self.store.add(row for point_id, row in rows.items() if point_id not in here)
        for key, value in other.facts().items():
            self._take_fact(name, key, value)

    def take_into(self, target: SweepStore) -> None:
        """Add everything to the store of the results folder."""
        _Merger(target).take("the join of the shards", self.store)

    def _take_fact(self, name: str, key: str, value: Any) -> None:
        before = self.store.fact(key)
        if key in ("version", _FACT):
            return
        if key == SECONDS:
            self.store.count_fact(key, value)
        elif key in (*IDENTITIES, COMMANDS, MADE_ON):
            for entry in value.keys() & (before or {}).keys():
                if not _is_alike(key, before[entry], value[entry]):
                    raise _differing(name, f"{key}: {entry}", value[entry], before[entry])
            self.store.merge_fact(key, _longer(before or {}, value))
        elif before is not None and not _is_close(before, value):
            raise _differing(name, key, value, before)
        else:
            self.store.set_fact(key, value)


def _is_alike(key: str, first: Any, second: Any) -> bool:
    """Whether two identities agree in what both have (a clip may be read further by one)."""
    if isinstance(first, list) and isinstance(second, list):
        return all(a == b for a, b in zip(first, second, strict=False))
    if isinstance(first, dict) and isinstance(second, dict) and key != MADE_ON:
        return all(first[name] == second[name] for name in first.keys() & second.keys())
    return first == second


def _longer(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """``new`` with what ``before`` has beyond it: more frames, more streams."""
    joined = dict(new)
    for name in new.keys() & before.keys():
        if isinstance(new[name], list):
            joined[name] = max(before[name], new[name], key=len)
        elif isinstance(new[name], dict):
            joined[name] = before[name] | new[name]
    return joined


def _is_close(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=1e-9)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_is_close, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_is_close(first[n], second[n]) for n in first)
    return bool(first == second)


def _require_same_row(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    for column in sorted(first.keys() | second.keys()):
        if column != "seconds" and not _is_close(first.get(column), second.get(column)):
            shown = f"column {column} of point {first['point_id']}"
            if column == GOPS:
                shown = f"the GOPs of point {first['point_id']}"
            raise _differing(name, shown, second.get(column), first.get(column))


def _differing(name: str, what: str, found: Any, other: Any) -> InputError:
    return InputError(
        f"{name} differs from another shard in {what[:300]}",
        found=json.dumps(found)[:200],
        allowed=json.dumps(other)[:200],
        remedy="Run all shards with the same versions on the same files; start the one that "
        "differs again with --fresh.",
    )


def _missing(plan: Plan, store: SweepStore) -> list[str]:
    """Ids of points that a sweep of this store would still send.

    Where only the choice of an MCS is in doubt, the first point of its task stands for all.
    """
    runner = SweepRunner(plan, store, FrameMetrics())
    runner.prepare()
    missing: list[str] = []
    rows = store.heads(["status"])
    for task in tasks_of(plan):
        if task.place[0] in plan.bad_clips:
            missing += [point_id for point_id in sorted(task.point_ids) if point_id not in rows]
        elif runner.is_needed(task.points):
            missing += runner.open_points(task.points) or [task.points[0].point_id]
    return missing


def _copy_frames(source: Path, target: Path) -> None:
    for file in sorted(kept_files(source)):
        (target / "frames").mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target / "frames" / file.name)
