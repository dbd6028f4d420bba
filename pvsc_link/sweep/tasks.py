"""The parts that a sweep is divided into, for shards and for the workers of a cluster.

A task is one clip at one GOP length, one variant of a scheme entry, and a block of seeds: within it
encodings and traced graphs are shared. Tasks do not wait for one another. Where the MCS of one
rests on another scheme, it makes that choice itself, or is given it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pvsc_link.types import InputError

if TYPE_CHECKING:
    from pvsc_link.scenario import Point
    from pvsc_link.sweep.plan import Plan

#: Seeds of a point that one task sends.
SEEDS_PER_TASK = 8


@dataclass(frozen=True)
class Task:
    """Points of one clip, GOP length, scheme entry with its variant, and block of seeds."""

    points: "tuple[Point, ...]"

    @property
    def place(self) -> tuple[str, int]:
        """Clip and GOP length."""
        return self.points[0].place

    @property
    def point_ids(self) -> frozenset[str]:
        """Ids of the points."""
        return frozenset(point.point_id for point in self.points)


def tasks_of(plan: "Plan", seeds_per_task: int = SEEDS_PER_TASK) -> list[Task]:
    """Every point of the plan in exactly one task, in the order of the grid.

    With a stop rule all seeds of a point are in one task, because a seed is sent only if those
    before it do not suffice.
    """
    seeds = plan.scenario.seeds
    size = len(seeds) if plan.scenario.stop else seeds_per_task
    block = {seed: index // size for index, seed in enumerate(seeds)}
    groups: dict[tuple, list[Point]] = {}
    for point in plan.points:
        key = (*point.place, point.entry, point.variant, block[point.seed])
        groups.setdefault(key, []).append(point)
    return [Task(tuple(points)) for points in groups.values()]


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``of`` parts of a sweep, counted from 1."""

    index: int
    of: int

    @classmethod
    def parsed(cls, text: str) -> "Shard":
        """The shard that ``2/8`` names. Raises ``InputError`` for anything else."""
        index, slash, of = text.partition("/")
        if slash and index.isdecimal() and of.isdecimal() and max(len(index), len(of)) < 7:
            shard = cls(int(index), int(of))
            if 1 <= shard.index <= shard.of:
                return shard
        raise InputError(
            "--shard",
            found=text[:40],
            allowed="i/n with 1 <= i <= n, such as 2/8",
            remedy="Start n processes with i from 1 to n.",
        )

    @property
    def folder(self) -> str:
        """Name of the shard's folder among the ``shards`` of a results folder."""
        return f"{self.index}-of-{self.of}"

    def tasks(self, tasks: Sequence[Task]) -> list[Task]:
        """Those of the tasks that belong to this shard.

        The tasks of one scheme are dealt out in turn, so that every shard gets its part of the
        slow schemes.
        """
        dealt = sorted(tasks, key=lambda task: (task.points[0].entry, task.points[0].variant))
        mine = set(map(id, dealt[self.index - 1 :: self.of]))
        return [task for task in tasks if id(task) in mine]
