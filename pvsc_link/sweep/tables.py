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
from dataclasses import dataclass
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
    bootstrap_ends,
    bootstrap_interval,
    percentile_interval,
    wilson_interval,
)
from pvsc_link.link import link_fields
from pvsc_link.metrics import METRICS, bd_cbr, bd_cbr_percents
from pvsc_link.models import UNTRAINED
from pvsc_link.scenario import Scenario
from pvsc_link.storage import json_digest, num_threads, write_atomically
from pvsc_link.sweep.plan import Plan, scheme_label
from pvsc_link.sweep.store import (
    BYTES,
    IDENTITIES,
    RULES,
    SweepStore,
    with_rate,
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
    empty. Over a packet network bytes are compared in place of channel uses.

    ``bd_cbr_low`` and ``bd_cbr_high`` are the ends of a 95 % bootstrap interval, and
    ``interval_over`` says what was resampled: the seeds of a clip, the same ones for both curves,
    because they met the same channel; for a mean the clips, each with all its seeds. The ends are
    empty where fewer than three seeds or clips say nothing about the spread.

    Parameters: ``points`` : as read or made by ``sweep.store``; ``metrics`` : names in ``METRICS``.
    """
    if anchor is None or points.empty:
        return pd.DataFrame(columns=bd_columns())
    points = with_rate(points)
    absent = {name: None for name in link_fields() if name not in points}
    rows = list(_rows(points.assign(**absent), anchor, metrics))
    table = pd.DataFrame(rows, columns=bd_columns())
    return pd.concat([table, _means(table)], ignore_index=True)


def _rows(points: pd.DataFrame, anchor: str, metrics: Sequence[str]) -> Iterator[dict]:
    for place, curves in _curves_by_place(points, metrics):
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
                    **curve.behind,
                    **row,
                    "note": "; ".join(filter(None, (row["note"], several))),
                }


@dataclass(frozen=True)
class _Curve:
    """The points of one curve, in order of rate and seed."""

    rates: np.ndarray  # [num_points]
    values: Mapping[str, np.ndarray]  # [num_points], by column: cbr and those of metrics
    behind: Mapping[str, Any]  # columns that count GOPs, seeds and fades

    def by_rate(self, column: str) -> list[np.ndarray]:
        """CBR and quality of each rate, one line per seed that has both: [num_seeds, 2]."""
        pairs = np.column_stack([self.values["cbr"], self.values[column]])
        known = ~np.isnan(pairs).any(axis=1) & ~np.isnan(self.rates)
        (changes,) = np.nonzero(np.diff(self.rates[known]))
        return [of_rate for of_rate in np.split(pairs[known], changes + 1) if len(of_rate)]


def _curves_by_place(
    points: pd.DataFrame, metrics: Sequence[str]
) -> Iterator[tuple[tuple, dict[tuple, _Curve]]]:
    """Every place with its curves, both in order of appearance."""
    keys = [*_place(), *_CURVE]
    number = points.groupby(keys, dropna=False, sort=False).ngroup().to_numpy()
    first_of_curve = np.flatnonzero(~pd.Series(number).duplicated().to_numpy())
    heads = _with_nan(points[keys].iloc[first_of_curve]).to_numpy(object)
    columns = ["cbr", *dict.fromkeys(METRICS[metric].column for metric in metrics)]
    values = {name: points[name].to_numpy(float) for name in ("rate", "seed", *columns)}
    order = np.lexsort([values["seed"], values["rate"], number])
    ordered = {name: of_name[order] for name, of_name in values.items()}
    sizes = np.bincount(number)
    starts = np.cumsum(sizes) - sizes
    num_gops = points["num_frames"] / points["gop"] if "num_frames" in points else None
    behind = pd.DataFrame(
        {
            "num_gops": _least(points, number, num_gops),
            "num_seeds": points["seed"].groupby(number).nunique(),
            "num_fades": _least(points, number, points.get("num_fades")),
        }
    ).to_dict("records")
    of_place = points.groupby(_place(), dropna=False, sort=False).ngroup().to_numpy()
    by_place: dict[int, list[int]] = {}
    for curve, first in enumerate(first_of_curve):
        by_place.setdefault(int(of_place[first]), []).append(curve)
    width = len(_place())
    for curves in by_place.values():
        found = {}
        for curve in curves:
            part = slice(starts[curve], starts[curve] + sizes[curve])
            found[tuple(heads[curve][width:])] = _Curve(
                ordered["rate"][part],
                {name: ordered[name][part] for name in columns},
                behind[curve],
            )
        yield tuple(heads[curves[0]][:width]), found


def _least(points: pd.DataFrame, number: np.ndarray, counts: pd.Series | None) -> pd.Series:
    """Sum over seeds of a count, at the rate where it is least; NaN where a row lacks it."""
    if counts is None:
        return pd.Series(np.nan, index=np.unique(number))
    sums = counts.astype(float).groupby([number, points["rate"]]).sum(min_count=1)
    least = sums.groupby(level=0)
    return least.min().where(least.count() == least.size()).reindex(np.unique(number))


def _against(anchor: _Curve | None, curve: _Curve, metric: str) -> dict[str, Any]:
    """The columns ``_BD_VALUES`` of one curve, without those that stand in ``_Curve.behind``."""
    measured = METRICS[metric]
    if anchor is None:
        reason = "the anchor has no row at this condition"
        return {"bd_cbr_percent": math.nan, "overlap": math.nan, "note": reason}
    better = measured.higher_is_better
    of_seeds = [c.by_rate(measured.column) for c in (anchor, curve)]
    means = [
        np.array([of_rate.mean(axis=0) for of_rate in rates]).reshape(-1, 2).T.tolist()
        for rates in of_seeds
    ]
    result = bd_cbr(*means[0], *means[1], higher_is_better=better)
    found = {
        "bd_cbr_percent": result.bd_cbr_percent,
        "overlap": result.overlap,
        "note": result.note,
    }
    num_seeds = min((len(seeds) for rates in of_seeds for seeds in rates), default=0)
    if num_seeds < MIN_UNITS or math.isnan(result.bd_cbr_percent):
        return found
    drawn = np.random.default_rng(0).random((_NUM_SEED_RESAMPLES, num_seeds))
    curves = [_means_over_drawn(rates, drawn) for rates in of_seeds]
    resampled = bd_cbr_percents(*curves[0], *curves[1], higher_is_better=better)
    if np.isnan(resampled).any():
        share = f"{np.isnan(resampled).mean():.0%} of the resamples have no BD-CBR: no interval"
        return found | {"note": "; ".join(filter(None, (result.note, share)))}
    interval = percentile_interval(result.bd_cbr_percent, resampled.tolist(), num_seeds)
    return found | _ends(interval, "seeds")


def _means_over_drawn(rates: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    """CBR and quality of one curve in every resample of its seeds: [2, num_resamples, num_rates].

    ``drawn`` : numbers in [0, 1), [num_resamples, num_seeds], each of which picks the seed at that
    place of the list.
    """
    taken = [of_rate[(drawn * len(of_rate)).astype(int)].mean(axis=1) for of_rate in rates]
    return np.stack(taken, axis=-1).transpose(1, 0, 2)


def _ends(interval: Interval | None, over: str) -> dict[str, Any]:
    if interval is None:
        return {}
    return {"bd_cbr_low": interval.low, "bd_cbr_high": interval.high, "interval_over": over}


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

#: Counts of rows that were sent in packets.
_PACKETS = ("num_packets", "packets_lost")


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
    ``seed_means_columns``, and behind them the rate and the counts of packets where there are any;
    no row where no point was sent.
    """
    absent = {name: None for name in (*seed_keys(), *_COUNTS, "num_fades") if name not in points}
    is_sent = with_rate(points)["cbr"].notna()
    sent = points[is_sent].assign(**absent).reset_index(drop=True)
    measured = [n for n in ("cbr", BYTES, *_measured()) if n in sent and sent[n].notna().any()]
    tables = [pd.DataFrame(columns=seed_means_columns())]
    if len(sent):
        tables.append(_means_of(sent, seed_keys(), gops, measured))
        of_clips = [name for name in seed_keys() if name != "clip"]
        num_clips = sent.groupby(of_clips, dropna=False, sort=False)["clip"].transform("nunique")
        if len(several := sent[num_clips > 1].reset_index(drop=True)):
            tables.append(_means_of(several, of_clips, gops, measured).assign(clip=MEAN_CLIP))
    rows = [row for table in tables for row in table.to_dict("records")]
    of_packets = [BYTES, f"{BYTES}_low", f"{BYTES}_high", *_PACKETS] if BYTES in points else []
    return pd.DataFrame(rows, columns=[*seed_means_columns(), *of_packets])


def _means_of(
    sent: pd.DataFrame,
    keys: Sequence[str],
    gops: pd.DataFrame | None,
    measured: Sequence[str],
) -> pd.DataFrame:
    """A row per value of ``keys``: what stands behind the points of it, in one clip or several."""
    groups = sent.groupby(list(keys), dropna=False, sort=False)
    group, num_groups = groups.ngroup().to_numpy(), groups.ngroups
    of_group = sent.assign(group=group).groupby("group")
    first = ~pd.Series(group).duplicated().to_numpy()
    table = _with_nan(sent.loc[first, list(keys)]).reset_index(drop=True)
    num_clips, num_seeds = (of_group[name].nunique().to_numpy() for name in ("clip", "seed"))
    over = np.where(num_clips >= MIN_UNITS, "clips", np.where(num_seeds >= MIN_UNITS, "seeds", ""))
    num_gops = sent["num_frames"].astype(float) / sent["gop"].astype(float)
    fades = sent["num_fades"].astype(float).groupby(group)
    table = table.assign(
        num_clips=num_clips,
        num_gops=num_gops.groupby(group).sum().astype(int),
        num_seeds=num_seeds,
        num_fades=fades.sum().where(fades.count() == fades.size()),
        interval_over=over,
        note=[
            "" if o else _why_no_interval(int(c), int(s))
            for o, c, s in zip(over, num_clips, num_seeds, strict=True)
        ],
    )
    rows_of_gops = None if gops is None or not len(gops) else _shown(sent["point_id"], group, gops)
    columns: dict[str, Any] = {}
    for name in measured:
        known = pd.DataFrame({"group": group, **sent[["clip", "seed", name]]}).dropna()
        known[name] = known[name].astype(float)
        of_clips = known.groupby(["group", "clip"])[name].mean().reset_index()
        columns[name] = of_clips.groupby("group")[name].mean().reindex(range(num_groups))
        units = [
            of_clips[over[of_clips["group"]] == "clips"],
            _means_of_seeds(known[over[known["group"]] == "seeds"], name),
        ]
        joined = pd.concat(units)
        ends = bootstrap_ends(joined[name].to_numpy(), joined["group"].to_numpy(), num_groups)
        columns[f"{name}_low"], columns[f"{name}_high"] = ends.T
        if rows_of_gops is not None and name in rows_of_gops:
            values = rows_of_gops[name].astype(float).groupby(rows_of_gops["group"])
            for ending, percent in _PERCENTILES.items():
                percentile = values.quantile(percent / 100)
                columns[f"{name}{ending}"] = percentile.reindex(range(num_groups))
    for name in (*_COUNTS, *(name for name in _PACKETS if name in sent)):
        counts = sent[name].astype(float).groupby(group)
        columns[name] = _whole(counts.sum().where(counts.count() == counts.size()))
    sums = (sent[n].astype(float).groupby(group).sum() for n in ("num_block_errors", "num_blocks"))
    rates = [
        wilson_interval(int(errors), int(blocks)) if blocks else Interval(*3 * (math.nan,))
        for errors, blocks in zip(*sums, strict=True)
    ]
    names = [f"block_error_rate{end}" for end in ("", "_low", "_high")]
    parts = [table, pd.DataFrame(columns), pd.DataFrame(list(rates), columns=names)]
    return pd.concat(parts, axis=1)


def _with_nan(table: pd.DataFrame) -> pd.DataFrame:
    """``table`` with NaN in empty cells, so that a column without a value is one of numbers."""
    return table.astype(object).where(table.notna(), np.nan).infer_objects()


def _shown(point_ids: pd.Series, group: np.ndarray, gops: pd.DataFrame) -> pd.DataFrame:
    """The GOPs of every group of which all points have GOPs, with the number of the ``group``."""
    here = pd.Series(point_ids.isin(gops["point_id"]).to_numpy())
    whole = here.groupby(group).transform("all").to_numpy()
    places = pd.DataFrame({"point_id": point_ids[whole], "group": group[whole]})
    return places.merge(gops, on="point_id")


def _means_of_seeds(known: pd.DataFrame, name: str) -> pd.DataFrame:
    """Mean over clips of a column for every seed that all clips of its group have."""
    num_clips = known.groupby("group")["clip"].transform("nunique")
    in_all = known.groupby(["group", "seed"])["clip"].transform("size") == num_clips
    return known[in_all].groupby(["group", "seed"])[name].mean().reset_index()


def _whole(counts: pd.Series) -> pd.Series:
    """Counts as integers, where all are known."""
    return counts.astype(int) if counts.notna().all() else counts


def _why_no_interval(num_clips: int, num_seeds: int) -> str:
    counted = ((num_clips, "clip"), (num_seeds, "seed"))
    words = " and ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counted)
    return f"no interval: {words}, fewer than {MIN_UNITS} of either"


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
