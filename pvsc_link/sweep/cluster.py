"""Sweeps on the workers of a Dask cluster: ``--workers``, ``--scheduler`` and ``--slurm``.

The client alone reads and writes the store. A worker gets one task (``sweep.tasks``) with the rows
and choices that the store holds of it, runs it by the ``SweepRunner`` of a sweep in one process,
and gives back the changes of its store, which the client repeats in the store of the sweep. The MCS
choices of a clip are jobs of their own, before the jobs that send. There are never more jobs at the
scheduler than threads at the workers: a worker that dies is known to have died of its one job.
"""

import functools
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pvsc_link._version import __version__
from pvsc_link.metrics import FrameMetrics
from pvsc_link.scenario import Point, Scenario, clip_name, load_yaml, parse_scenario
from pvsc_link.storage import json_digest, num_threads
from pvsc_link.sweep.kept_frames import KeptFrames
from pvsc_link.sweep.mcs import curve_facts, known_mcs, known_rates
from pvsc_link.sweep.plan import Plan, build
from pvsc_link.sweep.rows import failed_row
from pvsc_link.sweep.runner import STREAMS, Progress, SweepRunner
from pvsc_link.sweep.store import Change, SweepStore, TaskStore
from pvsc_link.sweep.tables import MADE_ON, made_on
from pvsc_link.sweep.tasks import SEEDS_PER_TASK, Task, tasks_of
from pvsc_link.types import CodecFailure, InputError

if TYPE_CHECKING:
    from distributed import Client

#: Workers that one job may take down before its points become rows with the status WORKER_LOST.
MOST_DEATHS = 3
WORKER_LOST = "worker_lost"
#: What a worker process sees of the threads that it may use.
_THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "PVSC_LINK_THREADS"),
)


@dataclass(frozen=True)
class Job:
    """What a worker is sent: points of one clip, and what the store holds of them."""

    scenario: str  # JSON
    clip: str
    frame_digests: tuple[str, ...]
    chooses: bool  # whether the MCS of the points is chosen; else the points are sent
    point_ids: frozenset[str]
    rows: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]
    retry_failed: bool
    kept_frames: KeptFrames | None


@dataclass
class _Work:
    """A job that is to be done, with its points."""

    points: Sequence[Point]
    chooses: bool


@dataclass
class _Place:
    """What is still to be done for one clip at one GOP length."""

    encoding: list[_Work] = field(default_factory=list)  # by codec: its first choice
    choices: list[_Work] = field(default_factory=list)
    sending: list[Task] = field(default_factory=list)
    num_running: int = 0


def run_job(job: Job) -> list[Change]:
    """Run one job in a worker process; returns the changes that the store of the sweep gets.

    Raises ``InputError`` as a sweep does, and where the worker reads other frames than the client.
    """
    plan = _plan_of(job.scenario, job.clip)
    if tuple(plan.frame_digests.get(job.clip, ())) != job.frame_digests:
        raise InputError(
            f"the clip {job.clip} on a worker",
            found="other frames than those of the client",
            allowed="the same files on every machine",
            remedy="Put the videos on a file system that all machines see, under one path.",
        )
    points = [point for point in plan.points if point.point_id in job.point_ids]
    store = TaskStore(version=__version__, rows=job.rows, facts=job.facts)
    try:
        runner = SweepRunner(
            plan,
            store,
            FrameMetrics(),
            retry_failed=job.retry_failed,
            kept_frames=job.kept_frames,
            only=job.point_ids,
        )
        if job.chooses:
            runner.choose(points)
        else:
            runner.run([points[0].place])
        store.merge_fact(MADE_ON, made_on())
        return store.changes
    finally:
        store.close()


@functools.lru_cache(maxsize=2)
def _plan_of(scenario: str, clip: str) -> Plan:
    """The plan of one clip of a scenario; kept, because many jobs are of one clip."""
    given = parse_scenario(json.loads(scenario), where="scenario of the client")
    clips = [one for one in given.media.clips if clip_name(one) == clip]
    media = given.media.model_copy(update={"clips": clips})
    return build(given.model_copy(update={"media": media}))


class ClusterEngine:
    """Runs a plan by the workers of ``client``; given to ``run_plan`` as ``engine``.

    Parameters: ``scenario`` : what the plan was made of, sent to the workers; ``seeds_per_task`` :
    most seeds of a point in one task; ``job`` : what a worker calls with every job.
    """

    def __init__(
        self,
        client: "Client",
        scenario: Scenario,
        *,
        seeds_per_task: int = SEEDS_PER_TASK,
        job: Callable[[Job], list[Change]] = run_job,
    ):
        self._client, self._job = client, job
        self._scenario = scenario.model_dump_json(exclude_unset=True)
        self._seeds_per_task = seeds_per_task
        self._number = count()

    def __call__(
        self,
        plan: Plan,
        store: SweepStore,
        progress: Progress,
        retry_failed: bool,
        kept_frames: KeptFrames | None,
    ) -> None:
        """Run every task of the plan that the store lacks.

        Raises ``InputError`` as a sweep in one process, where workers differ in a bitstream, where
        frames that they keep do not arrive in the results folder, and where the scheduler is lost.
        """
        self._plan, self._store = plan, store
        self._progress, self._retry_failed = progress, retry_failed
        self._kept_frames = kept_frames
        self._client.run_on_scheduler(_bound_deaths, MOST_DEATHS - 1)
        master = SweepRunner(
            plan,
            store,
            FrameMetrics(),
            progress,
            retry_failed=retry_failed,
            kept_frames=kept_frames,
        )
        master.prepare()
        self._run_bad_clips(master)
        places = self._places(master)
        tasks = [task for place in places for task in place.sending]
        self._done = len(plan.points) - sum(len(task.points) for task in tasks)
        self._say(f"{len(tasks)} tasks for the workers")
        self._drive(places)

    def _run_bad_clips(self, master: SweepRunner) -> None:
        """Rows of clips that cannot be sent, which need no worker."""
        for place in self._plan.places:
            if place[0] in self._plan.bad_clips:
                master.run_place(place)

    def _places(self, master: SweepRunner) -> list[_Place]:
        found: dict[tuple[str, int], _Place] = {}
        semantic: list[Task] = []
        for task in tasks_of(self._plan, self._seeds_per_task):
            if task.place[0] in self._plan.bad_clips:
                continue
            if not self._is_digital(task):
                semantic.append(task)
            elif master.is_needed(task.points):
                found.setdefault(task.place, _Place()).sending.append(task)
        for task in semantic:
            place = found.get(task.place)
            if place is not None or master.is_needed(task.points):
                found.setdefault(task.place, _Place()).sending.append(task)
        for name, place in found.items():
            self._add_choices(place, self._plan.places[name])
        return list(found.values())

    def _is_digital(self, task: Task) -> bool:
        first = task.points[0]
        return self._plan.schemes[first.entry, first.variant].digital

    def _add_choices(self, place: _Place, points: Sequence[Point]) -> None:
        """The choices that the store does not know: one per codec first, which encodes."""
        by_codec: dict[tuple[int, str], list[Point]] = {}
        for point in points:
            if self._plan.schemes[point.entry, point.variant].digital:
                by_codec.setdefault((point.entry, point.variant), []).append(point)
        for of_codec in by_codec.values():
            rates = known_rates(of_codec[0], self._store)
            ruled = {
                (_condition(p), p.mcs): p
                for p in reversed(of_codec)
                if not isinstance(p.mcs, int)
                and not p.is_packets
                and (rates is None or (rates and known_mcs(p, rates, self._store) is None))
            }
            works = [
                _Work([p for p in of_codec if _condition(p) == condition and p.mcs == mcs], True)
                for condition, mcs in reversed(ruled)
            ]
            if works:
                place.encoding.append(works[0])
                place.choices += works[1:]

    def _drive(self, places: Sequence[_Place]) -> None:
        """Keep every thread of the workers busy until all is done."""
        from distributed import as_completed

        waiting, ready = deque(places), deque[tuple[_Place, _Work]]()
        completed = as_completed(with_results=False)
        running: dict[Any, tuple[_Place, _Work]] = {}
        while waiting or ready or running:
            num_slots = self._num_slots()
            while len(running) < num_slots:
                if not ready:
                    if not waiting:
                        break
                    place = waiting.popleft()
                    self._advance(place, ready)
                    continue
                place, work = ready.popleft()
                future = self._submit(work)
                running[future] = place, work
                completed.add(future)
            if not running:
                continue
            future = next(completed)
            place, work = running.pop(future)
            self._take(work, future)
            place.num_running -= 1
            if not place.num_running:
                self._advance(place, ready)
            future.release()

    def _advance(self, place: _Place, ready: deque) -> None:
        """Make the next kind of a place's jobs ready: encode, choose, send."""
        works: list[_Work] = []
        if place.encoding:
            works, place.encoding = place.encoding, []
        elif place.choices:
            works, place.choices = place.choices, []
        elif place.sending:
            works = [_Work(task.points, False) for task in place.sending]
            place.sending = []
        place.num_running += len(works)
        ready.extend((place, work) for work in works)

    def _num_slots(self) -> int:
        """Threads of all workers; 1 while there is no worker yet, so that one job waits."""
        return max(1, sum(self._client.nthreads().values()))

    def _submit(self, work: _Work) -> Any:
        first = work.points[0]
        facts: dict[str, Any] = {}
        for point in {(p.entry, p.variant): p for p in self._plan.places[first.place]}.values():
            if self._plan.schemes[point.entry, point.variant].digital:
                for beginning in curve_facts(point):
                    facts |= self._store.facts_beginning(beginning)
        facts |= self._store.facts_beginning("mcs_fastest_")
        facts[STREAMS] = self._store.fact(STREAMS) or {}
        rows = () if work.chooses else tuple(self._rows_of(work.points))
        job = Job(
            scenario=self._scenario,
            clip=first.clip,
            frame_digests=tuple(self._plan.frame_digests.get(first.clip, ())),
            chooses=work.chooses,
            point_ids=frozenset(point.point_id for point in work.points),
            rows=rows,
            facts=facts,
            retry_failed=self._retry_failed,
            kept_frames=self._kept_frames,
        )
        what = "choose" if work.chooses else "send"
        key = f"{what}-{first.scheme}-{next(self._number)}-{json_digest(sorted(job.point_ids))[:8]}"
        return self._client.submit(self._job, job, key=key, pure=False)

    def _rows_of(self, points: Sequence[Point]) -> Iterator[Mapping[str, Any]]:
        for point in points:
            yield from self._store.rows_of_point(point.point_id)

    def _take(self, work: _Work, future: Any) -> None:
        """Store what a job changed, or rows with a status where it took its workers down."""
        from distributed.scheduler import KilledWorker

        first = work.points[0]
        try:
            changes = future.result()
        except KilledWorker:
            if work.chooses:  # the jobs that send choose again, and get a status if they die too
                return
            detail = f"{MOST_DEATHS} worker processes ended while they ran this task"
            failure = CodecFailure(WORKER_LOST, detail)
            open_points = [p for p in work.points if self._store.row(p.point_id) is None]
            self._store.add(failed_row(point, failure) for point in open_points)
        except CancelledError as error:
            raise InputError(
                "the Dask scheduler was lost",
                found=str(error)[:200],
                allowed="a scheduler that runs until the sweep ends",
                remedy="Start it again; the same command goes on with the rows that are stored.",
            ) from error
        else:
            self._require_same_streams(changes)
            self._store.apply(changes)
            if not work.chooses:
                self._require_frames(work.points)
        if not work.chooses:
            self._done += len(work.points)
        self._say(f"{first.scheme}: {first.clip}, GOP {first.gop}")

    def _require_same_streams(self, changes: Sequence[Change]) -> None:
        known = self._store.fact(STREAMS) or {}
        for kind, *what in changes:
            if kind == "merge" and what[0] == STREAMS:
                for name, found in what[1].items():
                    if known.get(name, found) != found:
                        raise InputError(
                            f"bitstream {name}",
                            found="another one than that of an earlier run or of another worker",
                            allowed="one release of each codec on all machines",
                            remedy="Install the same versions everywhere; begin with --fresh.",
                        )

    def _require_frames(self, points: Sequence[Point]) -> None:
        if self._kept_frames is None:
            return
        for point in points:
            row = self._store.row(point.point_id)
            if row is not None and self._kept_frames.lacks(point, row):
                raise InputError(
                    "frames that a worker keeps",
                    found=f"none of point {point.point_id} in the results folder",
                    allowed="a results folder that all machines see under one path",
                    remedy="Give such a folder by --out, or leave out --save-frames.",
                )

    def _say(self, stage: str) -> None:
        self._progress(self._done, len(self._plan.points), stage)


def _condition(point: Point) -> tuple:
    return (
        *(point.channel_point, point.equalizer, point.csi_aware),
        *(point.decoder, point.num_iter, point.transport, point.mcs_metric),
    )


def _bound_deaths(most: int, dask_scheduler: Any = None) -> None:
    """Let the scheduler give a job up after so many deaths of its workers and one more."""
    dask_scheduler.allowed_failures = most


@contextmanager
def cluster_client(
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    threads: int | None = None,
    dashboard: bool = False,
    preload: Sequence[str] = (),
    console: Console,
) -> Iterator["Client"]:
    """A client of a cluster: processes on this machine, a running scheduler, or SLURM jobs.

    Parameters: ``workers`` : worker processes on this machine; ``scheduler`` : address such as
    ``tcp://node1:8786``; ``slurm`` : YAML file with the arguments of
    ``dask_jobqueue.SLURMCluster`` and ``jobs``, or ``allocation`` for the tasks of ``srun``;
    ``threads`` : of each worker process (default: the processors divided by ``workers``);
    ``dashboard`` : serve Dask's dashboard and print its address; ``preload`` : Python that each of
    ``workers`` runs at its start.
    Raises ``InputError`` without the package ``distributed`` (extra ``cluster``), for a bad file,
    and for a scheduler that does not answer.
    """
    distributed = _imported("distributed")
    address = ":0" if dashboard else None
    with ExitStack() as stack:
        if workers is not None:
            each = threads or max(1, num_threads() // workers)
            console.print(f"{workers} worker processes, threads of each: {each}", markup=False)
            import dask

            environment = dict.fromkeys(_THREAD_VARIABLES, str(each))
            stack.enter_context(
                dask.config.set({"distributed.nanny.pre-spawn-environ": environment})
            )
            target: Any = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=address,
                    preload=list(preload),
                )
            )
        elif slurm is not None:
            target = stack.enter_context(_slurm_cluster(slurm, address, console))
        else:
            target = scheduler
        try:
            client = stack.enter_context(distributed.Client(target, timeout="30s"))
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                "the Dask scheduler",
                found=f"{scheduler} ({type(error).__name__}: {str(error)[:200]})",
                allowed="the address of a running scheduler, such as tcp://node1:8786",
                remedy="Take the address that the scheduler prints at its start. Where none runs, "
                "start one with: dask scheduler",
            ) from error
        if dashboard:
            console.print(f"dashboard: {client.dashboard_link}", markup=False, soft_wrap=True)
        wait_for_workers(client, console)
        yield client


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"the Python package {name} is absent",
            found=str(error),
            allowed="an installation with the extra cluster",
            remedy="Install it: pip install 'pvsc-link[cluster]'. --shard needs no package.",
        ) from error


def _slurm_cluster(slurm: str, address: str | None, console: Console) -> Any:
    """The jobs that a file describes, or the tasks of the SLURM allocation this process is in."""
    jobqueue = _imported("dask_jobqueue")
    if slurm == "allocation":
        runner = _imported("dask_jobqueue.slurm").SLURMRunner
        try:
            name = f"scheduler-{os.environ.get('SLURM_JOB_ID')}.json"
            return runner(scheduler_file=name, worker_options={"nthreads": 1})
        except RuntimeError as error:
            raise InputError(
                "--slurm allocation",
                found=str(error),
                allowed="a process that srun started in an allocation",
                remedy="Start it by srun with at least three tasks, or give a YAML file.",
            ) from error
    given = load_yaml(Path(slurm)).data
    jobs = given.pop("jobs", None) if isinstance(given, dict) else None
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InputError(
            f"SLURM file {slurm}",
            found=f"jobs: {jobs!r}",
            allowed="a mapping with jobs: N and arguments of dask_jobqueue.SLURMCluster",
            remedy="See docs/cluster.md for a whole file.",
        )
    options = {"processes": 1} | given
    _check_counts(slurm, options)
    threads = max(1, options["cores"] // options["processes"])
    lines = [f"export {name}={threads}" for name in _THREAD_VARIABLES]
    options["job_script_prologue"] = [*lines, *options.get("job_script_prologue", [])]
    options["worker_extra_args"] = ["--nthreads", "1", *options.get("worker_extra_args", [])]
    if address is not None:
        options["scheduler_options"] = {"dashboard_address": address}
    try:
        cluster = jobqueue.SLURMCluster(**options)
        cluster.scale(jobs=jobs)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"SLURM file {slurm}",
            found=f"{type(error).__name__}: {str(error)[:300]}",
            allowed="arguments of dask_jobqueue.SLURMCluster",
            remedy="Correct the file; cores, memory and walltime are needed.",
        ) from error
    console.print(f"{jobs} SLURM jobs are asked for", markup=False)
    return cluster


def _check_counts(slurm: str, options: Mapping[str, Any]) -> None:
    for name in ("cores", "processes"):
        value = options.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"SLURM file {slurm}",
                found=f"{name}: {value!r}",
                allowed=f"an integer {name} from 1",
                remedy=f"State {name} of one job.",
            )


def wait_for_workers(client: "Client", console: Console, patience_s: float = 5.0) -> None:
    """Say that workers are awaited, where none is there after ``patience_s``; jobs may queue."""
    start = time.monotonic()
    while not client.nthreads() and time.monotonic() - start < patience_s:
        time.sleep(0.1)
    if not client.nthreads():
        console.print("waiting for workers ...")
