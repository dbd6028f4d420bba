"""The files of a finished sweep.

``points.csv`` and ``mcs_neighbours.csv`` : a row per point, and per neighbour of a chosen MCS.
``bd_cbr.csv`` : BD-CBR of every scheme against the anchor, per channel condition and clip.
``gops.csv`` : a row per GOP of every point, from which percentiles come.
``seed_means.csv`` : every point averaged over its seeds, with confidence intervals; and over clips.
``manifest.json`` : what exactly ran, so that a table can be traced and made again.
"""

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pvsc_link._version import __version__
from pvsc_link.intervals import (
    MIN_UNITS,
    Interval,
    bootstrap_interval,
    percentile_interval,
    wilson_interval,
)
from pvsc_link.link import link_fields
from pvsc_link.metrics import METRICS, BdResult, bd_cbr
from pvsc_link.models import UNTRAINED
from pvsc_link.scenario import Scenario
from pvsc_link.storage import json_digest, num_threads, write_atomically
from pvsc_link.sweep.plan import Plan, scheme_label
from pvsc_link.sweep.store import (
    IDENTITIES,
    RULES,
    SweepStore,
    without_default_transport,
    write_csv,
)

#: What tells curves apart at one place.
_CURVE = ["scheme", "variant", "equalizer", "csi_aware", "mcs_policy", "decoder"]
#: Clip of the rows that are means over clips.
MEAN_CLIP = "mean"
#: What ``bd_cbr.csv`` says of a curve beside the coordinates.
_BD_VALUES = (
    "bd_cbr_percent bd_cbr_low bd_cbr_high interval_over num_clips num_gops num_seeds num_fades "
    "overlap note"
).split()
#: Resamples of the seeds of one clip; each is a BD-CBR of its own, so they are few.
_NUM_SEED_RESAMPLES = 400


def _place() -> list[str]:
    """Where curves are compared: columns of the channel condition, GOP length and clip."""
    return ["channel", "snr_db", *link_fields(), "gop", "clip"]


def bd_columns() -> list[str]:
    """Columns of ``bd_cbr.csv``."""
    return [*_CURVE, "anchor", *_place(), "metric", *_BD_VALUES]


def bd_table(points: pd.DataFrame, anchor: str | None, metrics: Sequence[str]) -> pd.DataFrame:
    """BD-CBR in percent (negative: fewer channel uses than the anchor at equal quality).

    Curves are means over seeds. Each clip has its own row; ``clip = mean`` is the plain mean of the
    clips' values where there are several, as in the paper's tables. Without an anchor the table is
    empty.

    ``bd_cbr_low`` and ``bd_cbr_high`` are the ends of a 95 % bootstrap interval, and
    ``interval_over`` says what was resampled: the seeds of a clip, the same ones for both curves,
    because they met the same channel; for a mean the clips, each with all its seeds. The ends are
    empty where fewer than three seeds or clips say nothing about the spread.

    Parameters: ``points`` : as read or made by ``sweep.store``; ``metrics`` : names in ``METRICS``.
    """
    if anchor is None or points.empty:
        return pd.DataFrame(columns=bd_columns())
    absent = {name: None for name in link_fields() if name not in points}
    rows = list(_rows(points.assign(**absent), anchor, metrics))
    table = pd.DataFrame(rows, columns=bd_columns())
    return pd.concat([table, _means(table)], ignore_index=True)


def _rows(points: pd.DataFrame, anchor: str, metrics: Sequence[str]) -> Iterator[dict]:
    for place, here in points.groupby(_place(), dropna=False, sort=False):
        curves = dict(list(here.groupby(_CURVE, dropna=False, sort=False)))
        anchors = [key for key in curves if anchor in (key[0], f"{key[0]}:{key[1]}")]
        several = ""
        if len(anchors) > 1:
            words = ", ".join(
                f"{n} {v}" for n, v in zip(_CURVE, anchors[0], strict=True) if v != ""
            )
            several = f"the anchor has {len(anchors)} curves here; taken is {words}"
        for key, curve in curves.items():
            for metric in metrics:
                row = _against(curves[anchors[0]] if anchors else None, curve, metric)
                yield {
                    **dict(zip(_CURVE, key, strict=True)),
                    **dict(zip(_place(), place, strict=True)),
                    "anchor": anchor,
                    "metric": metric,
                    "num_clips": 1,
                    "num_gops": _least(curve, _num_gops(curve)),
                    "num_seeds": curve["seed"].nunique(),
                    "num_fades": _least(curve, curve.get("num_fades")),
                    **row,
                    "note": "; ".join(filter(None, (row["note"], several))),
                }


def _num_gops(points: pd.DataFrame) -> pd.Series | None:
    return points["num_frames"] / points["gop"] if "num_frames" in points else None


def _least(curve: pd.DataFrame, counts: pd.Series | None) -> float:
    """Sum over seeds of a count, at the rate where it is least; NaN where a row lacks it."""
    if counts is None:
        return math.nan
    return counts.astype(float).groupby(curve["rate"]).sum(min_count=1).min(skipna=False)


def _against(anchor: pd.DataFrame | None, curve: pd.DataFrame, metric: str) -> dict[str, Any]:
    """The columns ``_BD_VALUES`` of one curve."""
    measured = METRICS[metric]
    if anchor is None:
        reason = "the anchor has no row at this condition"
        return {"bd_cbr_percent": math.nan, "overlap": math.nan, "note": reason}
    of_seeds = _by_rate(anchor, measured.column), _by_rate(curve, measured.column)

    def compare(drawn: np.ndarray | None = None) -> BdResult:
        curves = (_means_over_seeds(rates, drawn) for rates in of_seeds)
        (cbr_anchor, quality_anchor), (cbr_test, quality_test) = curves
        better = measured.higher_is_better
        return bd_cbr(cbr_anchor, quality_anchor, cbr_test, quality_test, higher_is_better=better)

    result = compare()
    found = {
        "bd_cbr_percent": result.bd_cbr_percent,
        "overlap": result.overlap,
        "note": result.note,
    }
    num_seeds = min((len(seeds) for rates in of_seeds for seeds in rates), default=0)
    if num_seeds < MIN_UNITS or math.isnan(result.bd_cbr_percent):
        return found
    random = np.random.default_rng(0).random((_NUM_SEED_RESAMPLES, num_seeds))
    resampled = np.array([compare(drawn).bd_cbr_percent for drawn in random])
    if np.isnan(resampled).any():
        share = f"{np.isnan(resampled).mean():.0%} of the resamples have no BD-CBR: no interval"
        return found | {"note": "; ".join(filter(None, (result.note, share)))}
    interval = percentile_interval(result.bd_cbr_percent, resampled.tolist(), num_seeds)
    return found | _ends(interval, "seeds")


def _ends(interval: Interval | None, over: str) -> dict[str, Any]:
    if interval is None:
        return {}
    return {"bd_cbr_low": interval.low, "bd_cbr_high": interval.high, "interval_over": over}


def _by_rate(rows: pd.DataFrame, column: str) -> list[np.ndarray]:
    """CBR and quality of each rate, one line per seed that has both: [num_seeds, 2]."""
    ordered = rows.dropna(subset=["cbr", column]).sort_values("seed").groupby("rate")
    return [of_rate[["cbr", column]].to_numpy(float) for _, of_rate in ordered]


def _means_over_seeds(
    rates: Sequence[np.ndarray], drawn: np.ndarray | None
) -> tuple[list[float], list[float]]:
    """(CBR, quality) of one curve, mean over its seeds, one entry per rate.

    ``drawn`` : numbers in [0, 1), one per seed of a resample, each of which picks the seed at that
    place of the list; None takes every seed once.
    """
    taken = rates
    if drawn is not None:
        taken = [of_rate[(drawn * len(of_rate)).astype(int)] for of_rate in rates]
    means = np.array([of_rate.mean(axis=0) for of_rate in taken]).reshape(-1, 2)
    return means[:, 0].tolist(), means[:, 1].tolist()


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over clips of every scheme, condition and metric that has more than one clip."""
    keys = [name for name in table.columns if name not in ("clip", *_BD_VALUES)]
    rows = []
    for place, group in table.groupby(keys, dropna=False, sort=False):
        if len(group) < 2:
            continue
        values = group["bd_cbr_percent"]
        missing = int(values.isna().sum())
        interval = None if missing else bootstrap_interval(values.tolist())
        rows.append(
            {
                **dict(zip(keys, place, strict=True)),
                "clip": MEAN_CLIP,
                "bd_cbr_percent": values.mean(skipna=False),
                **_ends(interval, "clips"),
                "num_clips": len(group),
                "num_gops": group["num_gops"].sum(skipna=False),
                "num_seeds": group["num_seeds"].min(),
                "num_fades": group["num_fades"].sum(skipna=False),
                "overlap": group["overlap"].min(),
                "note": f"{missing} of {len(group)} clips have no value" if missing else "",
            }
        )
    return pd.DataFrame(rows, columns=table.columns)


_COUNTS = (
    *("num_frames", "frames_lost", "frames_concealed", "freeze_events", "deadline_misses"),
    *("num_blocks", "num_block_errors"),
)


def seed_keys() -> list[str]:
    """Columns that all seeds of a point share."""
    return [
        *("scheme", "variant", "clip", "gop", "rate", "channel", "snr_db", *link_fields()),
        *("equalizer", "csi_aware", "mcs_policy", "decoder", "num_iter", "status"),
    ]


def _measured() -> list[str]:
    return [metric.column for metric in METRICS.values()]


#: Percentiles over GOPs, by the ending of their columns.
_PERCENTILES = {"_p5": 5, "_p95": 95}


def seed_means_columns() -> list[str]:
    """Columns of ``seed_means.csv``."""
    ends = ("", "_low", "_high")
    columns = [f"cbr{end}" for end in ends]
    for name in _measured():
        columns += [f"{name}{end}" for end in (*ends, *_PERCENTILES)]
    columns += [f"block_error_rate{end}" for end in ends]
    behind = ["num_clips", "num_gops", "num_seeds", "num_fades", "interval_over"]
    return [*seed_keys(), *behind, *columns, *_COUNTS, "note"]


def seed_means(points: pd.DataFrame, gops: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per point without its seed, and behind them their means over clips (``clip = mean``).

    The 95 % bootstrap interval of the mean of a column ``x`` stands in ``x_low`` and ``x_high``.
    ``interval_over`` says what was resampled: the seeds of a clip; for a mean over three clips or
    more the clips, each with all its seeds; for one over two clips the seeds, each with both clips.
    The ends are empty, and ``note`` says why, where fewer than three say nothing about the spread.
    ``x_p5`` and ``x_p95`` are the 5th and 95th percentile over all GOPs of all seeds and clips,
    empty without ``gops``. ``block_error_rate`` counts the blocks that were sent, with Wilson's
    interval. ``num_fades`` are the independent fades of a channel with blocks of constant fading.
    Seeds of different ``status`` are averaged apart: the quality of an outage means nothing.

    Input: ``points`` and ``gops`` as ``points_table`` and ``gops_table`` give them. Output:
    ``seed_means_columns``; no row where no point was sent.
    """
    absent = {name: None for name in (*seed_keys(), *_COUNTS, "num_fades") if name not in points}
    sent = points[points["cbr"].notna()].assign(**absent)
    measured = [n for n in ("cbr", *_measured()) if n in sent and sent[n].notna().any()]
    of_point = dict(list(gops.groupby("point_id"))) if gops is not None and len(gops) else {}
    rows = []
    for keys in (seed_keys(), [name for name in seed_keys() if name != "clip"]):
        pooled = "clip" not in keys
        for key, group in sent.groupby(keys, dropna=False, sort=False):
            if pooled and group["clip"].nunique() < 2:
                continue
            found = [of_point[name] for name in group["point_id"] if name in of_point]
            # Percentiles are of every point or of none.
            shown = pd.concat(found) if len(found) == len(group) else None
            named = dict(zip(keys, key, strict=True)) | ({"clip": MEAN_CLIP} if pooled else {})
            rows.append(named | dict(_of_group(group, shown, measured)))
    return pd.DataFrame(rows, columns=seed_means_columns())


def _of_group(
    rows: pd.DataFrame, gops: pd.DataFrame | None, measured: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """What stands behind the rows of one point and all its seeds, in one clip or in several."""
    over, why = _units(rows)
    yield "num_clips", rows["clip"].nunique()
    yield "num_gops", int((rows["num_frames"].astype(float) / rows["gop"].astype(float)).sum())
    yield "num_seeds", rows["seed"].nunique()
    yield "num_fades", rows["num_fades"].astype(float).sum(min_count=len(rows))
    yield "interval_over", over
    yield "note", why
    for name in measured:
        known = rows[["clip", "seed", name]].dropna()
        if known.empty:
            continue
        yield name, float(known.groupby("clip")[name].mean().mean())
        interval = _over_units(known, name, over)
        if interval is not None:
            yield f"{name}_low", interval.low
            yield f"{name}_high", interval.high
        if gops is not None and name in gops and len(values := gops[name].dropna()):
            for ending, percent in _PERCENTILES.items():
                yield f"{name}{ending}", float(np.percentile(values.astype(float), percent))
    for name in _COUNTS:
        yield name, int(rows[name].sum()) if rows[name].notna().all() else math.nan
    num_blocks = int(rows["num_blocks"].sum())
    if num_blocks:
        interval = wilson_interval(int(rows["num_block_errors"].sum()), num_blocks)
        for end, value in zip(("", "_low", "_high"), interval, strict=True):
            yield f"block_error_rate{end}", value


def _units(rows: pd.DataFrame) -> tuple[str, str]:
    """What the interval of a mean resamples; or empty, and why there is none."""
    num_clips, num_seeds = rows["clip"].nunique(), rows["seed"].nunique()
    if num_clips >= MIN_UNITS:
        return "clips", ""
    if num_seeds >= MIN_UNITS:
        return "seeds", ""
    counted = (
        f"{n} {word}{'' if n == 1 else 's'}"
        for n, word in ((num_clips, "clip"), (num_seeds, "seed"))
    )
    return "", f"no interval: {' and '.join(counted)}, fewer than {MIN_UNITS} of either"


def _over_units(rows: pd.DataFrame, name: str, over: str) -> Interval | None:
    """Interval of the mean over clips of a column; None where too little of it is known."""
    if not over:
        return None
    if over == "clips":
        units = rows.groupby("clip")[name].mean()
    else:
        in_all_clips = rows.groupby("seed")["clip"].transform("size") == rows["clip"].nunique()
        units = rows[in_all_clips].groupby("seed")[name].mean()
    return bootstrap_interval(units.tolist()) if len(units) else None


_PACKAGES = (
    "tensorflow keras sionna-no-rt numpy pandas av imageio-ffmpeg bjontegaard constriction numba "
    "pydantic scikit-video pillow"
).split()


def write_manifest(
    path: Path,
    *,
    scenario: Scenario,
    clip_notes: Mapping[str, Sequence[str]],
    bad_clips: Mapping[str, str],
    command: str,
    codec_commands: Mapping[str, str],
    weights: Mapping[str, str],
    facts: Mapping[str, Any],
    seconds: float,
    rows: int,
) -> None:
    """Write the manifest of a sweep: scenario, versions, literal codec options, seeds, machine.

    Parameters: ``weights`` : by scheme as ``scheme_label`` names it, the digest of its weights.
    """
    manifest = {
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds_last_run": round(seconds, 1),
        "rows": rows,
        "pvsc_link": __version__,
        "rules": RULES,
        "weights": dict(weights),
        "git_commit": git_commit(),
        "scenario": json.loads(scenario.model_dump_json()),
        "clip_notes": {clip: list(notes) for clip, notes in clip_notes.items()},
        "bad_clips": dict(bad_clips),
        "seeds": list(scenario.seed),
        "codec_commands": dict(codec_commands),
        "seconds_by_stage": facts.get("seconds_by_stage", {}),
        "mcs_choice": {key: value for key, value in facts.items() if key.startswith("mcs_")},
        "made_of": {key: facts[key] for key in IDENTITIES if key in facts},
        "packages": package_versions(),
        "machine": machine(),
        "made_on": list(facts.get(MADE_ON, {}).values()),
        "made_on_differs_in": differences(facts.get(MADE_ON, {})),
    }
    write_atomically(path, json.dumps(manifest, indent=1) + "\n")


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that a number can depend on, of those that are there."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


#: Fact of a store: machines, packages and threads that its rows were made with, by a digest.
MADE_ON = "made_on"


def made_on() -> dict[str, dict[str, Any]]:
    """What numbers may depend on here, under a digest of it: machine, packages, threads."""
    here = {
        "machine": machine(),
        "packages": package_versions(),
        "threads": num_threads(),
        "git_commit": git_commit(),
    }
    return {json_digest(here)[:16]: here}


def differences(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of what differed between the places where rows were made."""
    flat = [
        {"threads": one.get("threads"), "git_commit": one.get("git_commit")}
        | {f"{part} {name}": v for part in ("machine", "packages") for name, v in one[part].items()}
        for one in made.values()
    ]
    names = dict.fromkeys(name for one in flat for name in one)
    return [name for name in names if len({str(one.get(name)) for one in flat}) > 1]


def machine() -> dict[str, Any]:
    """Processor, cores and memory, as far as the system tells."""
    facts: dict[str, Any] = {"system": platform.platform(), "cores": os.cpu_count()}
    for path, key, label in (
        ("/proc/cpuinfo", "model name", "processor"),
        ("/proc/meminfo", "MemTotal", "memory"),
    ):
        lines = Path(path).read_text().splitlines() if Path(path).exists() else []
        found = [line.split(":", 1)[1].strip() for line in lines if line.startswith(key)]
        if found:
            facts[label] = found[0]
    return facts


def git_commit() -> str | None:
    """Commit of the checkout that the package runs from, ``+`` if it has changes; else ``None``."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout.strip()


def command_line() -> str:
    """The command as typed, for the manifest."""
    module = f"python -m {__package__}" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
    return " ".join([module, *sys.argv[1:]])


def write_tables(
    folder: Path,
    points: pd.DataFrame,
    beside: pd.DataFrame,
    gops: pd.DataFrame,
    plan: Plan,
    store: SweepStore,
    *,
    seconds: float,
    command: str | None = None,
) -> None:
    """Write tables and manifest into ``folder``, each whole or not at all.

    Parameters: ``beside`` : rows of the neighbours of a chosen MCS; ``gops`` : as ``gops_table``
    gives them; ``command`` : for the manifest, default the command line.
    """
    scenario = plan.scenario
    write_csv(without_default_transport(points), folder / "points.csv")
    if not beside.empty:
        write_csv(without_default_transport(beside), folder / "mcs_neighbours.csv")
    if not gops.empty:
        write_csv(gops, folder / "gops.csv")
    means = seed_means(points, gops)
    if not means.empty:
        write_csv(without_default_transport(means), folder / "seed_means.csv")
    compared = points if scenario.with_untrained else points[points["status"] != UNTRAINED]
    bd = bd_table(compared, scenario.anchor, scenario.metrics)
    write_csv(without_default_transport(bd), folder / "bd_cbr.csv")
    write_manifest(
        folder / "manifest.json",
        scenario=scenario,
        clip_notes=plan.clip_notes,
        bad_clips=plan.bad_clips,
        command=command or command_line(),
        codec_commands=store.fact("codec_commands") or {},
        weights={
            scheme_label(scheme.name, scheme.variant): scheme.weights_id
            for scheme in plan.schemes.values()
            if scheme.weights_id not in (None, UNTRAINED)
        },
        facts=store.facts(),
        seconds=seconds,
        rows=len(points),
    )
