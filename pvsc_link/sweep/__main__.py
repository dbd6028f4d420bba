"""Run a scenario into ``results/NAME/``, or go on where an earlier run stopped.

python -m pvsc_link.sweep quickstart
python -m pvsc_link.sweep my/scenario.yaml
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from pvsc_link.commands import FAILED, run_command
from pvsc_link.storage import cache_directory, require_writable
from pvsc_link.types import InputError

if TYPE_CHECKING:
    import pandas as pd

    from pvsc_link.sweep.plan import Plan


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("sweep", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "scenario", nargs="?", help="YAML file, or the name of a scenario of the package"
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
        help="keep the last frame of every point of the first seed for the report's pictures; "
        "finished rows that have none are sent again",
    )
    parser.add_argument(
        "--with-untrained",
        action="store_true",
        help="let results of models without trained weights into figures and BD-CBR",
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
    if words.scenario is None:
        raise InputError(
            "no scenario",
            found=None,
            allowed="a YAML file, or a name that --list prints",
            remedy="For instance: python -m pvsc_link.sweep quickstart",
        )
    scenario = load_scenario(words.scenario)
    if not words.dry_run:
        cache_directory()  # raises for one that cannot be used
        require_writable(Path(words.out) / scenario.name)
    from pvsc_link.sweep.plan import build

    if words.with_untrained:
        scenario = scenario.model_copy(update={"with_untrained": True})
    plan = build(scenario)
    status = FAILED if plan.bad_clips else 0
    if words.dry_run:
        _print_grid(plan)
        _print_time(plan, Path(words.out))
        _print_bad_clips(plan)
        return status
    from pvsc_link.report import write_figures
    from pvsc_link.sweep.runner import run_plan

    console, folder = Console(stderr=True), Path(words.out) / scenario.name
    before = _times_of_rows(folder)
    table = run_plan(
        plan,
        folder,
        fresh=words.fresh,
        retry_failed=words.retry_failed,
        save_frames=words.save_frames,
        restored=words.restore,
        console=console,
    )
    _print_end(console, folder, table, write_figures(folder))
    if dict(zip(table["point_id"], table["seconds"], strict=True)) == before:
        told = f"Nothing was left to run: all {len(table)} rows were there. --fresh starts anew."
        console.print(told, markup=False, soft_wrap=True)
    _print_where_to_look(console, folder)
    _print_bad_clips(plan)
    return status


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
            f"gop {point.gop} rate {point.rate}  {point.channel} {point.snr_db:g} dB "
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
