"""Run a scenario into ``results/NAME/``, or go on where an earlier run stopped.

python -m pvsc_link.sweep quickstart
python -m pvsc_link.sweep my/scenario.yaml
python -m pvsc_link.sweep quickstart --workers 4      # worker processes on this machine
python -m pvsc_link.sweep quickstart --shard 2/8      # one of eight processes that never speak
python -m pvsc_link.sweep merge quickstart            # joins the shards

docs/cluster.md tells how to use workers, SLURM and shards.
"""

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from pvsc_link.commands import FAILED, is_quiet, run_command
from pvsc_link.storage import cache_directory, require_writable
from pvsc_link.sweep.stopping import Stopped, stoppable, stored_text
from pvsc_link.types import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pvsc_link.scenario import Scenario
    from pvsc_link.sweep.plan import Plan


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("sweep", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="YAML file, or the name of a scenario of the package; after the word merge: the "
        "scenario whose shards are joined",
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios of the package")
    parser.add_argument("--out", default="results", help="folder of results (default: results)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the grid, its size and an estimate of the time, stop",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of scenarios")
    parser.add_argument(
        "--explain", metavar="KEY", help="print what a key of a scenario means, such as link.snr_db"
    )
    parser.add_argument("--fresh", action="store_true", help="forget earlier rows of this scenario")
    parser.add_argument(
        "--retry-failed", action="store_true", help="run rows again whose codec failed"
    )
    parser.add_argument(
        "--restore",
        action="store_true",
        help="start from the rows of an earlier points.csv: in the results folder, or else in "
        "results/reference/NAME",
    )
    parser.add_argument(
        "--save-frames",
        action="store_true",
        help="keep the last frame and the video of every point of the first seed for the report; "
        "finished rows that have none are sent again",
    )
    parser.add_argument(
        "--with-untrained",
        action="store_true",
        help="let results of models without trained weights into figures and BD-CBR",
    )
    cluster = parser.add_argument_group("cluster: workers by Dask (extra cluster)")
    cluster.add_argument("--workers", type=int, metavar="N", help="processes on this machine")
    cluster.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask scheduler")
    cluster.add_argument(
        "--slurm",
        metavar="CONFIG",
        help="YAML file of SLURM jobs (docs/cluster.md), or allocation: the tasks of srun",
    )
    cluster.add_argument(
        "--threads", type=int, metavar="T", help="of each of --workers (default: cores / N)"
    )
    cluster.add_argument(
        "--dashboard", action="store_true", help="serve Dask's dashboard, print its address"
    )
    shards = parser.add_argument_group("shards: several processes that never speak")
    shards.add_argument("--shard", metavar="I/N", help="run the tasks of part I of N, see merge")
    shards.add_argument(
        "--seeds-per-task", type=int, metavar="S", help="most seeds of a point in one task"
    )
    shards.add_argument(
        "--partial", action="store_true", help="merge what is there, although points are missing"
    )


def run(words: argparse.Namespace) -> int:
    """Run the scenario; returns the exit status."""
    from pvsc_link.scenario import Scenario, explain, load_scenario, shipped_scenarios

    if words.schema:
        print(json.dumps(Scenario.model_json_schema(), indent=1))
        return 0
    if words.explain:
        print(explain(Scenario.model_json_schema(), words.explain))
        return 0
    if words.list:
        for name, file in shipped_scenarios().items():
            print(f"{name:<18} {_first_sentence(file)}")
        return 0
    merging = words.scenario[:1] == ["merge"]
    given = words.scenario[merging:]
    if len(given) != 1:
        raise InputError(
            "no scenario" if not given else "several scenarios",
            found=given,
            allowed="a YAML file, or a name that --list prints",
            remedy="For instance: python -m pvsc_link.sweep quickstart",
        )
    _check_engine(words, merging)
    from pvsc_link.sweep.tasks import Shard

    scenario = load_scenario(given[0])
    folder = Path(words.out) / scenario.name
    if words.shard is not None:
        folder = folder / "shards" / Shard.parsed(words.shard).folder

    def told() -> str:
        return stored_text(folder, words.command_line)

    try:
        with stoppable(told):
            return _run(words, scenario, merging)
    except Stopped as stopped:
        with suppress(OSError):  # the program behind a pipe may be gone
            print(told(), file=sys.stderr, flush=True)
        return stopped.status


def _run(words: argparse.Namespace, scenario: "Scenario", merging: bool) -> int:
    """Run, merge or print a scenario that has been read."""
    if not words.dry_run:
        cache_directory()  # raises for one that cannot be used
        require_writable(Path(words.out) / scenario.name)
    from pvsc_link.sweep.plan import build

    if words.with_untrained:
        scenario = scenario.model_copy(update={"with_untrained": True})
    plan = build(scenario, ask_programs=not words.dry_run)
    status = FAILED if plan.bad_clips else 0
    if words.dry_run:
        _print_grid(plan)
        _print_time(plan, Path(words.out))
        _print_bad_clips(plan)
        return status
    from pvsc_link.sweep.runner import run_plan

    console, folder = Console(stderr=True), Path(words.out) / scenario.name
    if words.shard is not None:
        _run_shard(plan, folder, words, console)
        _print_bad_clips(plan)
        return status
    if merging:
        table = _merge(plan, folder, words, console)
        _print_end(console, folder, table, _figures(folder))
        _print_bad_clips(plan)
        return status
    before = _times_of_rows(folder)
    options: dict[str, Any] = {
        "fresh": words.fresh,
        "retry_failed": words.retry_failed,
        "restored": words.restore,
        "save_frames": words.save_frames,
    }
    if words.workers or words.scheduler or words.slurm:
        table = _run_on_cluster(plan, scenario, folder, words, console, options)
    else:
        table = run_plan(plan, folder, console=console, **options)
    _print_end(console, folder, table, _figures(folder))
    if dict(zip(table["point_id"], table["seconds"], strict=True)) == before:
        told = f"Nothing was left to run: all {len(table)} rows were there. --fresh starts anew."
        console.print(told, markup=False, soft_wrap=True)
    _print_where_to_look(console, folder)
    _print_bad_clips(plan)
    return status


def _figures(folder: Path) -> list[Path]:
    from pvsc_link.report import write_figures

    try:
        return write_figures(folder)
    except OSError as error:
        raise InputError(
            f"the figures in {folder} cannot be written",
            found=str(error),
            allowed="a folder that can be written and has space",
            remedy="Make room; pvsc-link report then draws them from the tables.",
        ) from error


def _check_engine(words: argparse.Namespace, merging: bool) -> None:
    """Refuse options that do not go together."""
    from pvsc_link.sweep.tasks import Shard

    if words.shard is not None:
        Shard.parsed(words.shard)
    for name in ("seeds_per_task", "workers", "threads"):
        value = getattr(words, name)
        if value is not None and value < 1:
            raise InputError(
                f"--{name.replace('_', '-')}",
                found=value,
                allowed="an integer from 1",
                remedy="Leave it out for the default.",
            )
    chosen = [f"--{n}" for n in _ENGINES if getattr(words, n) is not None]
    if words.partial and not merging:
        chosen.append("--partial")
    chosen += ["merge"] if merging and chosen else []
    if words.restore and (words.shard is not None or merging):
        chosen.append("--restore")
    alone = [n for n in ("threads", "dashboard") if getattr(words, n) not in (None, False)]
    if alone and not chosen:
        chosen = [f"--{name} without --workers" for name in alone] + [""]
    if len(chosen) > 1 or chosen == ["--partial"]:
        raise InputError(
            "options that do not go together",
            found=", ".join(chosen),
            allowed="one way of running a sweep; --partial with merge",
            remedy="Leave the others out.",
        )


#: What a worker process runs at its start where this one holds back TensorFlow's lines.
_QUIET = "from pvsc_link.commands import start_quietly; start_quietly()"
#: Options that say what runs the points.
_ENGINES = ("workers", "scheduler", "slurm", "shard")


def _run_on_cluster(
    plan: "Plan",
    scenario: "Scenario",
    folder: Path,
    words: argparse.Namespace,
    console: Console,
    options: dict[str, Any],
) -> "pd.DataFrame":
    from pvsc_link.sweep.cluster import ClusterEngine, cluster_client
    from pvsc_link.sweep.runner import run_plan
    from pvsc_link.sweep.tasks import SEEDS_PER_TASK

    with cluster_client(
        workers=words.workers,
        scheduler=words.scheduler,
        slurm=words.slurm,
        threads=words.threads,
        dashboard=words.dashboard,
        preload=[_QUIET] if is_quiet() else [],
        console=console,
    ) as client:
        seeds = words.seeds_per_task or SEEDS_PER_TASK
        engine = ClusterEngine(client, scenario, seeds_per_task=seeds)
        return run_plan(plan, folder, console=console, engine=engine, **options)


def _run_shard(plan: "Plan", folder: Path, words: argparse.Namespace, console: Console) -> None:
    from pvsc_link.sweep.shards import SHARDS, run_shard
    from pvsc_link.sweep.tasks import SEEDS_PER_TASK, Shard

    shard = Shard.parsed(words.shard)
    num_rows = run_shard(
        plan,
        folder,
        shard,
        seeds_per_task=words.seeds_per_task or SEEDS_PER_TASK,
        fresh=words.fresh,
        retry_failed=words.retry_failed,
        save_frames=words.save_frames,
        console=console,
    )
    merge = ["pvsc-link", "sweep", "merge", *words.scenario, "--out", words.out]
    console.print(
        f"{num_rows} rows of shard {words.shard} in {folder / SHARDS / shard.folder}; when all are "
        f"done: {shlex.join(merge)}",
        markup=False,
        soft_wrap=True,
    )


def _merge(
    plan: "Plan", folder: Path, words: argparse.Namespace, console: Console
) -> "pd.DataFrame":
    from pvsc_link.sweep.shards import merge

    merged = merge(plan, folder, partial=words.partial, console=console)
    console.print(
        f"{merged.num_shards} shards joined: {merged.num_doubled} rows in more than one, "
        f"{merged.num_missing} points missing",
        markup=False,
    )
    return merged.table


def _first_sentence(file: Path) -> str:
    """The first sentence of the comment at the top of a scenario."""
    lines = takewhile(lambda line: line.startswith("#"), file.read_text("utf-8").splitlines())
    told = (line.lstrip("# ") for line in lines if "yaml-language-server" not in line)
    text = " ".join(told)
    return re.split(r"\.(?= [A-Za-z]|$)", text)[0]


def _print_grid(plan: "Plan") -> None:
    from pvsc_link.link import DEFAULT_TRANSPORT
    from pvsc_link.sweep.plan import scheme_label

    defaults = DEFAULT_TRANSPORT.columns()
    for point in plan.points:
        transport = point.transport.columns().items()
        told = [(name, value) for name, value in transport if value != defaults[name]]
        condition = [*point.channel_point.condition.items(), *told]
        print(
            f"{point.point_id}  {scheme_label(point.scheme, point.variant):<16} {point.clip} "
            f"gop {point.gop} rate {point.rate}  {point.channel_words} "
            f"{' '.join(f'{name} {value}' for name, value in condition)}  "
            f"{point.equalizer} mcs {point.mcs} seed {point.seed}"
        )
    by_scheme = Counter(scheme_label(p.scheme, p.variant) for p in plan.points)
    parts = ", ".join(f"{name} {count}" for name, count in by_scheme.items())
    print(f"{len(plan.points)} points: {parts}")


def _print_time(plan: "Plan", out: Path) -> None:
    """Times of own runs come first; those of the committed results stand in for them."""
    from pvsc_link.sweep.estimate import estimate

    committed = Path("results") / "reference"
    for place in (out, committed):
        told = estimate(plan, out / plan.scenario.name, sorted(place.glob("*")))
        if told.num_timed == told.num_points:
            break
    print(told)


def _print_bad_clips(plan: "Plan") -> None:
    if not plan.bad_clips:
        return
    from pvsc_link.sweep.runner import bad_clips_text

    for told in bad_clips_text(plan):
        print(f"error: {told}", file=sys.stderr)


def _print_end(console: Console, folder: Path, table: "pd.DataFrame", figures: list[Path]) -> None:
    statuses = ", ".join(f"{name} {count}" for name, count in Counter(table["status"]).items())
    console.print(
        f"{len(table)} rows ({statuses}) in {folder}/points.csv; also bd_cbr.csv,\n"
        f"manifest.json and {len(figures)} figures in {folder}/figures/",
        markup=False,
    )


def _times_of_rows(folder: Path) -> dict[str, float]:
    """Seconds of the rows of an earlier run by point id; they tell which rows were sent again."""
    from pvsc_link.sweep.store import read_points

    try:
        rows = read_points(folder)
        return dict(zip(rows["point_id"], rows["seconds"], strict=True))
    except (OSError, KeyError, ValueError, InputError):
        return {}


def _print_where_to_look(console: Console, folder: Path) -> None:
    text = f"Curves: {folder}/figures/. Tables and one page with everything: "
    console.print(f"{text}pvsc-link report {folder}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
