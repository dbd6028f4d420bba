"""A results folder as it is found: whole, half-written or empty, with a list of what is missing.

First what every column means, then how a folder is read and which remarks a reader gets about it,
and last the table of block error rates, which holds every MCS that was measured.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.link import DEFAULT_TRANSPORT
from pvsc_link.metrics import METRICS
from pvsc_link.report.curves import (
    CurveSet,
    condition_columns,
    curve_set,
    is_packets,
    with_curve_keys,
)
from pvsc_link.sweep import (
    BYTES,
    CHOSEN,
    MOSTLY_LOST,
    point_columns,
    read_points,
    read_unfinished,
    stale_reasons,
    with_rate,
)
from pvsc_link.types import InputError


@dataclass(frozen=True)
class Column:
    """One column of ``points.csv``, ``gops.csv``, ``seed_means.csv`` or ``bd_cbr.csv``."""

    name: str
    unit: str  # empty for names, flags and counts without a unit
    meaning: str


_USES = "uses/sample"
_OF_METRICS = tuple(
    Column(m.column, m.unit, f"{m.meaning}; {m.direction}") for m in METRICS.values()
)

POINTS = (
    Column("point_id", "", "16 hex digits of the point's coordinates; equal points, equal id"),
    Column("scheme", "", "transmission scheme as in the scenario: x265, vvenc, pvsc, ..."),
    Column("variant", "", "the scheme's variant, empty if it has none"),
    Column("clip", "", "name or path of the clip"),
    Column("gop", "frames", "frames per group of pictures"),
    Column("rate", "", "the scheme's own rate index: QP of a codec, quality preset of a model"),
    Column("channel", "", "awgn, rayleigh, ..."),
    Column("snr_db", "dB", "Es/N0 per complex symbol after the power constraint, E|h|^2 = 1"),
    Column("csi_nmse_db", "dB", "error of the channel estimate; empty: perfect CSI, or ofdm"),
    Column("coherence_length", "channel uses", "block length of the fading; empty: no blocks"),
    Column("k_factor_db", "dB", "Rician fading: line of sight over scattered power; else empty"),
    Column("channel_model", "", "multipath model of the channel ofdm: tdl_c, umi, ..."),
    Column("cir_file", "", "its file of impulse responses; empty for other models than cir"),
    Column("cir_digest", "", "digest of that file"),
    Column("delay_spread_ns", "ns", "RMS delay spread of TDL and CDL; else empty"),
    Column("speed_kmh", "km/h", "speed of the terminal in the channel ofdm; else empty"),
    Column("carrier_ghz", "GHz", "carrier frequency of the channel ofdm; else empty"),
    Column("num_rx", "", "receive antennas of the channel ofdm"),
    Column("num_tx", "", "transmit antennas of the channel ofdm: 1"),
    Column("subcarrier_spacing_khz", "kHz", "subcarrier spacing of the channel ofdm"),
    Column("num_prb", "", "resource blocks of 12 subcarriers of the channel ofdm"),
    Column("pilots", "", "kronecker- and its OFDM symbols, or dmrs- and its additional positions"),
    Column("channel_estimation", "", "perfect, ls_nearest, ls_linear or lmmse"),
    Column("normalize_channel", "", "whether each slot of the channel ofdm has mean power 1"),
    Column("block", "", "dotted path of the block of the channel sionna; else empty"),
    Column("block_options", "", "JSON of the keyword arguments that made it"),
    Column("block_gain_db", "dB", "its mean power E|h|^2"),
    Column("block_digest", "", "digest of the file that block is in"),
    Column("loss", "", "law of packet losses: iid, gilbert, or its CSV file; else empty"),
    Column("loss_rate", "", "fraction of the packets that the network loses; of a trace empty"),
    Column("loss_burst", "packets", "mean length of a burst of lost packets, of gilbert alone"),
    Column("loss_digest", "", "digest of the trace of losses"),
    Column("mtu", "bytes", "most bytes of a packet with its headers"),
    Column("header_bytes", "bytes", "headers of a packet, which are counted"),
    Column("symbol_bits", "bits", "bits of each part of an analog symbol in a packet"),
    Column("clip_papr_db", "dB", "PAPR at which sent symbols are clipped; empty: no clipping"),
    Column("carrier_offset", "cycles/use", "residual carrier frequency offset; empty: none"),
    Column("phase_noise", "rad^2/use", "variance of Wiener phase noise; empty: none"),
    Column("phase_interval", "channel uses", "between two phase references; empty: one at all"),
    Column("erasure_rate", "", "fraction of erased channel uses; empty: none"),
    Column("erasure_burst", "channel uses", "mean length of their bursts; empty: independent"),
    Column("mcs_table", "", "MCS table of TS 38.214: 1 to 3; a table without this column has 1"),
    Column("block_length", "bits", "most coded bits of a code block; without this column 6144"),
    Column("segmentation", "", "equal blocks at the rate of the MCS, or a shortened last block"),
    Column("transport_unit", "", "what is one transport: the bits of a gop, or of a frame"),
    Column("interleaving", "", "gop: the channel uses of a GOP are permuted; or none"),
    Column("count_headers", "", "whether facts that both ends know are sent and counted"),
    Column("harq", "", "JSON: most retransmissions, combining, round trip; empty: none"),
    Column("latency_budget_ms", "ms", "a frame that comes later is lost; empty: any delay"),
    Column("symbol_rate_hz", "Hz", "channel uses per second"),
    Column("symbol_retransmission", "", "mrc: analog symbols are sent again and combined; or none"),
    Column("equalizer", "", "how the receiver undoes the fading: zf, lmmse, ..."),
    Column("csi_aware", "", "whether equaliser and demapper know the variance of the CSI error"),
    Column("mcs", "", "index in the MCS table: of a codec's bits, or of side information"),
    Column("mcs_mean", "", "mean index over the transports where mcs is the first one (olla)"),
    Column("mcs_policy", "", "what the scenario asked for: an index, best, envelope or olla"),
    Column("mcs_role", "", "given by the scenario, or chosen by the policy"),
    Column("seed", "", "seed of fading, CSI error and noise; shared by all schemes of a point"),
    Column("num_frames", "frames", "frames sent and measured"),
    Column("cbr", _USES, "complex channel uses over frames x height x width x 3, unpadded"),
    Column("cbr_source", _USES, "part of cbr: the source's bitstream or symbols"),
    Column("cbr_side", _USES, "part of cbr: side information; 0 for separated schemes"),
    Column(
        "cbr_headers",
        _USES,
        "what session facts (parameter sets of a codec, 16 bytes of a semantic scheme) take; part "
        "of cbr only where count_headers is true: then within cbr_source of a codec and within "
        "cbr_side of a semantic scheme",
    ),
    Column("cbr_pilot", _USES, "part of cbr: pilots of the channel; 0 for a channel without any"),
    Column(
        "csi_nmse_measured_db",
        "dB",
        "error of the channel estimate as measured on the source's symbols; empty: none is made",
    ),
    Column(
        "snr_equalized_db",
        "dB",
        "power of the source's symbols over that of their error after the equaliser",
    ),
    Column(
        "papr_db",
        "dB",
        "largest over mean power of the source's complex symbols as sent, after clipping, at one "
        "sample per symbol; the largest of all GOPs, so it grows with their number",
    ),
    *_OF_METRICS,
    Column("bler", "", "error rate of the row's blocks at a chosen MCS, measured beforehand"),
    Column("num_blocks", "blocks", "code blocks of this point, each counted once"),
    Column(
        "num_block_errors",
        "blocks",
        "of these, blocks whose CRC failed; with harq those that failed in their last round too",
    ),
    Column(
        "num_fades",
        "fades",
        "blocks of constant fading that were met; empty for a channel without such blocks, also "
        "for every model of ofdm, where each GOP meets a realisation of its own",
    ),
    Column(
        "frames_lost",
        "frames",
        "frames that were not decoded from what was sent for them; of a codec all from the first "
        "lost one to the end of the GOP",
    ),
    Column(
        "frames_concealed",
        "frames",
        "frames shown that are not what a receiver without losses shows: from the first lost one "
        "to the end of the GOP, for every scheme",
    ),
    Column(
        "latency_ms_p50",
        "ms",
        "median latency of a frame, from when it is complete to the end of the last transmission "
        "that carries it, without the time of coding",
    ),
    Column("latency_ms_p95", "ms", "95th percentile of that latency"),
    Column("latency_ms_max", "ms", "largest latency of a frame"),
    Column("deadline_misses", "frames", "frames later than latency_budget_ms: they are lost"),
    Column("freeze_events", "", "runs of frames that only show the frame before again"),
    Column(
        "status",
        "",
        "ok, outage (no frame came), untrained (no weights), bad_clip (could not be sent), or "
        "why the codec failed",
    ),
    Column("seconds", "s", "wall time of this row, without what was cached"),
    Column("decoder", "", "LDPC decoder"),
    Column("num_iter", "", "most iterations of the LDPC decoder"),
    Column("note", "", "what a reader of the row must know"),
)

#: What semantic schemes add to ``points.csv``.
SEMANTIC = (
    Column("cbr_y", _USES, "part of cbr_source: symbols of P frames"),
    Column("cbr_intra", _USES, "part of cbr_source: symbols of I frames"),
    Column("cbr_z", _USES, "part of cbr_side: hyper-latents and motion, with coding overhead"),
    Column("cbr_k", _USES, "part of cbr_side: rate maps, with coding overhead"),
    Column(
        "cbr_motion",
        _USES,
        "of which: the part of cbr_z that motion vectors take; 0 for models without any, empty in "
        "rows of versions that did not count it",
    ),
    Column("side_lost", "frames", "frames whose side information did not arrive"),
)

#: What ``points.csv`` has where receivers compute in another arithmetic than their transmitters.
MISMATCH = (
    Column("receiver_arithmetic", "", "arithmetic of the receiver's networks; same: as sent"),
    Column("out_of_step", "frames", "frames that the receiver's entropy decoder could not decode"),
)

#: What ``points.csv`` has where ``harq`` sends blocks again.
SENT_AGAIN = (
    Column("num_retransmissions", "blocks", "blocks that were sent again, each as often as it was"),
)

_BYTES_OF_PACKETS = "bytes/pixel"
#: What ``points.csv`` has where a packet network carried the bits and symbols; cbr is empty there.
PACKETS = (
    Column(BYTES, _BYTES_OF_PACKETS, "bytes of all packets with headers over the pixels sent"),
    Column(f"{BYTES}_side", _BYTES_OF_PACKETS, "part of it: packets of side information"),
    Column("num_packets", "packets", "packets that were sent"),
    Column("packets_lost", "packets", "of these, packets that the network lost"),
    Column("num_bytes", "bytes", "in gops.csv: bytes of the packets of a GOP with headers"),
)

#: What ``gops.csv`` has: a line per GOP of every point; metrics are means over the GOP's frames.
GOPS = (
    Column("gop_index", "", "place of the GOP in the clip, from 0"),
    Column("channel_uses", "channel uses", "complex channel uses of the GOP, everything counted"),
)


def _with_interval(name: str, unit: str, meaning: str, interval: str) -> tuple[Column, ...]:
    """A mean and the two ends of its 95 % confidence interval."""
    return (
        Column(name, unit, meaning),
        Column(f"{name}_low", unit, f"lower end of its 95 % {interval} interval; empty: see note"),
        Column(f"{name}_high", unit, "upper end of that interval"),
    )


_MEAN = "mean over seeds of"
_OVER = Column("interval_over", "", "what was resampled: seeds of a clip, or clips with all seeds")
_BEHIND = (
    Column("num_clips", "", "clips behind the value"),
    Column("num_gops", "", "GOPs behind the value, of all clips and seeds"),
    Column("num_seeds", "", "seeds behind the value; in seed_means.csv of the same status"),
    Column("num_fades", "fades", "blocks of constant fading behind the value; empty: none there"),
    _OVER,
)

#: What ``seed_means.csv`` has beside columns of points; its counts are sums over seeds and clips.
SEED_MEANS = (
    *_BEHIND,
    *_with_interval("cbr", _USES, f"{_MEAN} cbr", "bootstrap"),
    *(
        column
        for m in METRICS.values()
        for column in (
            *_with_interval(m.column, m.unit, f"{_MEAN} {m.column}", "bootstrap"),
            Column(f"{m.column}_p5", m.unit, "5th percentile over all GOPs; empty: no gops.csv"),
            Column(f"{m.column}_p95", m.unit, "95th percentile over all GOPs"),
        )
    ),
    *_with_interval("block_error_rate", "", "of the blocks that were sent, all seeds", "Wilson"),
)

BD_CBR = (
    Column("anchor", "", "scheme that BD-CBR is measured against"),
    Column("metric", "", f"quality at which CBR is compared: {', '.join(METRICS)}"),
    Column("bd_cbr_percent", "%", "mean CBR difference at equal quality; negative: fewer uses"),
    Column("bd_cbr_low", "%", "lower end of its 95 % bootstrap interval; empty: fewer than three"),
    Column("bd_cbr_high", "%", "upper end of that interval"),
    *_BEHIND,
    Column("overlap", "", "common over joint quality range of the two curves; 0 to 1"),
)

#: Where several results stand side by side.
COMPARED = (Column("run", "", "results that the row is of"),)

# A mean over seeds has the name of what it is the mean of; the meaning for points goes first.
_BY_NAME = {
    c.name: c
    for c in (
        *(*GOPS, *SEED_MEANS, *BD_CBR, *POINTS, *SEMANTIC, *MISMATCH, *SENT_AGAIN),
        *(*COMPARED, *PACKETS),
    )
}


def column(name: str) -> Column:
    """The description of a column; ``cbr_<part>`` that is not listed is a part of ``cbr``."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name.startswith("cbr_"):
        return Column(name, _USES, f"part of cbr: {name.removeprefix('cbr_')}")
    return Column(name, "", "a column of the scheme's own")


def columns_text() -> str:
    """All columns with unit and meaning, as aligned text."""
    lines = []
    for file, columns in (
        ("points.csv", POINTS),
        ("points.csv, where a semantic scheme was sent", SEMANTIC),
        ("points.csv, where receivers compute in another arithmetic", MISMATCH),
        ("points.csv, where harq sends blocks again", SENT_AGAIN),
        ("points.csv, where a packet network was sent over", PACKETS),
        ("gops.csv, beside those of points", GOPS),
        ("seed_means.csv, beside those of points; counts are sums over seeds", SEED_MEANS),
        ("bd_cbr.csv, beside those of points", BD_CBR),
    ):
        lines.append(file)
        lines += [f"  {c.name:<21} {c.unit:<13} {c.meaning}" for c in columns]
    return "\n".join(lines)


#: Status of a sent point whose model has no trained weights: its numbers say nothing.
UNTRAINED = "untrained"
_SENT = ("ok", "outage", UNTRAINED)

#: Columns that are text or numbers in every table, whatever an empty or broken file holds.
_TEXT = ("scheme", "variant", "clip", "channel", "equalizer", "mcs_policy", "decoder", "status")


def _numbers() -> list[str]:
    return [
        *("gop", "rate", "snr_db", "csi_nmse_db", "coherence_length", "seed", "num_frames"),
        *("cbr", "cbr_source", "cbr_side", *(metric.column for metric in METRICS.values())),
        *("bler", "num_blocks", "num_block_errors", "frames_lost"),
    ]


@dataclass
class Results:
    """Everything that a report draws on.

    ``points``, ``bd``, ``bler``, ``complexity`` : tables, empty where there is nothing.
    ``problems`` : sentences for the reader, each of them what is missing and why; ``runs`` : by
    name, the results that stand side by side in these.
    """

    folder: Path
    points: pd.DataFrame
    bd: pd.DataFrame
    bler: pd.DataFrame
    complexity: pd.DataFrame
    manifest: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    runs: dict[str, "Results"] = field(default_factory=dict)

    @cached_property
    def curves(self) -> CurveSet:
        """Curves of the points that were sent; untrained models only where the scenario says so."""
        parts = [run.points[run.to_compare].assign(run=name) for name, run in self.runs.items()]
        return curve_set(pd.concat(parts) if parts else self.points[self.to_compare])

    @property
    def to_compare(self) -> pd.Series:
        """Which points may stand in curves."""
        return (self.points["status"] != UNTRAINED) | self.with_untrained

    @property
    def folders(self) -> dict[str, Path]:
        """Folder by the name of the run; the name of a single run is empty."""
        return {name: run.folder for name, run in self.runs.items()} or {"": self.folder}

    @property
    def _scenario(self) -> dict[str, Any]:
        scenario = self.manifest.get("scenario")
        return scenario if isinstance(scenario, dict) else {}

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that the scenario asked for, as far as that is on record."""
        named = self._scenario.get("metrics")
        return [str(name) for name in named] if isinstance(named, list) else []

    @property
    def with_untrained(self) -> bool:
        """Whether results of models without trained weights may stand beside the others."""
        return bool(self._scenario.get("with_untrained"))

    @property
    def name(self) -> str:
        """The scenario's name, or the folder's."""
        return str(self._scenario.get("name") or self.folder.resolve().name)


def load_results(path: str | Path) -> pd.DataFrame:
    """The points of a results folder as a pandas table, one row per point.

    ``python -m pvsc_link.report --columns`` prints what each column means. The column of the metric
    ``psnr`` is ``psnr_db``, with its unit; that of ``lpips`` has the same name. A sweep that still
    runs can be read, too. Raises ``InputError`` for a folder that is missing or holds no readable
    row.

    Example::

        points = load_results("results/reference/rayleigh_nmse")
        points.groupby("scheme")["psnr_db"].mean()
    """
    results = read_results(path)
    if results.points.empty:
        raise InputError(
            "results without a row",
            found=str(path),
            allowed="a folder that a sweep wrote",
            remedy=" ".join(results.problems),
        )
    return results.points


def read_results(path: str | Path) -> Results:
    """Read all that is there; what is missing becomes a problem, never an exception.

    Raises ``InputError`` only if the folder itself does not exist or cannot be opened.
    """
    folder = Path(path)
    try:
        is_folder = folder.is_dir()
        if is_folder:
            next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(
            "results folder cannot be opened",
            found=f"{folder} ({error.strerror})",
            allowed="a folder that can be read",
            remedy="Correct its permissions.",
        ) from error
    if not is_folder:
        beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
        raise InputError(
            "results folder is missing",
            found=str(folder),
            allowed=sorted(p.name for p in beside if p.is_dir()) or "a folder that a sweep wrote",
            remedy="Run python -m pvsc_link.sweep SCENARIO first, or correct the path.",
        )
    problems: list[str] = []
    points = _repaired(_points(folder, problems), problems)
    manifest = _manifest(folder, problems)
    bd = _table(folder / "bd_cbr.csv", problems, "BD-CBR tables are left out")
    bler = bler_table(folder, manifest, points)
    results = Results(folder, points, bd, bler, _complexity(folder), manifest, problems)
    if manifest:
        problems += [f"manifest.json: {reason}." for reason in stale_reasons(manifest)]
    problems += _remarks(results)
    return results


def read_runs(folders: Sequence[str | Path]) -> Results:
    """Several results as one: their tables below each other, with a column ``run``.

    A run is called by its folder, with as many of the folders above as tell it from the others.
    ``bd`` is empty unless all runs have the same anchor. Raises ``InputError`` as
    :func:`read_results` does, and for one folder named twice.
    """
    read = [read_results(folder) for folder in folders]
    paths = [results.folder.resolve() for results in read]
    if len(set(paths)) < len(paths):
        raise InputError(
            "results to compare",
            found=", ".join(map(str, folders)),
            allowed="folders that differ",
            remedy="Name every folder once.",
        )
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths):
        depth += 1
    names = ["/".join(path.parts[-depth:]) for path in paths]
    runs = dict(zip(names, read, strict=True))
    tables = {
        kind: pd.concat([getattr(run, kind).assign(run=name) for name, run in runs.items()])
        for kind in ("points", "bd", "bler")
    }
    anchors = set(tables["bd"].get("anchor", pd.Series(dtype=str)).dropna())
    return Results(
        folder=read[0].folder.parent / "+".join(name.replace("/", "_") for name in names),
        points=tables["points"].reset_index(drop=True),
        bd=tables["bd"].reset_index(drop=True) if len(anchors) == 1 else pd.DataFrame(),
        bler=tables["bler"],
        complexity=pd.DataFrame(),
        manifest={"scenario": {"name": ", ".join(names)}},
        problems=[f"{name}: {text}" for name, run in runs.items() for text in run.problems],
        runs=runs,
    )


def _points(folder: Path, problems: list[str]) -> pd.DataFrame:
    """``points.csv``, or what the database of an unfinished sweep holds."""
    if (folder / "points.csv").is_file():
        try:
            return read_points(folder)
        except (ValueError, KeyError, OSError) as error:  # pandas' parser errors are ValueErrors
            problems.append(f"points.csv cannot be read ({_first_line(error)}).")
    else:
        problems.append("points.csv is missing: the sweep has not finished.")
    try:
        unfinished = read_unfinished(folder)
    except (sqlite3.Error, ValueError, KeyError):
        problems.append("There is no readable points.sqlite either, so there is no row to show.")
        return pd.DataFrame(columns=point_columns())
    if "mcs_role" in unfinished:  # rows of the MCS beside a chosen one are not the curve's
        unfinished = unfinished[unfinished["mcs_role"] != "neighbour"]
    problems.append(
        f"Shown are the {len(unfinished)} rows that the sweep has stored so far (points.sqlite)."
    )
    return unfinished


def _repaired(points: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """Every documented column, numbers as numbers, half-written rows left out with a remark."""
    missing = [name for name in point_columns() if name not in points]
    optional = {metric.column for metric in METRICS.values() if not metric.standard}
    used = [name for name in missing if name in {*_TEXT, *_numbers()} - optional]
    if used:
        problems.append(f"points.csv lacks the columns {', '.join(used)}; taken as empty.")
    points = points.reindex(columns=[*points.columns, *missing]).copy()
    for name in _numbers():
        points[name] = pd.to_numeric(points[name], errors="coerce")
    for name in _TEXT:
        points[name] = points[name].fillna("").astype(str)
    failed = ~points["status"].isin((*_SENT, ""))
    half = (points["status"] == "") | (points["scheme"] == "") | (points["channel"] == "")
    rate = with_rate(points)["cbr"]
    in_packets = points["channel"].map(is_packets)
    half |= (points["snr_db"].isna() & ~in_packets) | (rate.isna() & ~failed)
    if half.any():
        lines = ", ".join(str(i + 2) for i in points.index[half][:10])
        problems.append(f"{int(half.sum())} half-written rows are left out (line {lines}).")
    return points[~half].reset_index(drop=True)


def _manifest(folder: Path, problems: list[str]) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        problems.append("manifest.json is missing: what exactly ran is not on record.")
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        problems.append(f"manifest.json cannot be read ({_first_line(error)}).")
        return {}
    return found if isinstance(found, dict) else {}


def _table(path: Path, problems: list[str], consequence: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        problems.append(f"{path.name} is missing: {consequence}.")
    except (ValueError, OSError) as error:
        problems.append(f"{path.name} cannot be read ({_first_line(error)}): {consequence}.")
    return pd.DataFrame()


def _complexity(folder: Path) -> pd.DataFrame:
    """``complexity.csv`` of the folder, else what the benchmark left in a folder beside it."""
    beside = folder.resolve().parent
    for paths in (
        [folder / "complexity.csv"],
        sorted((beside / "complexity").glob("*.csv")),
        sorted((beside / "reference" / "complexity").glob("*.csv")),
    ):
        tables = [_table(path, [], "") for path in paths]
        rows = [table for table in tables if {"preset", "label"} <= set(table.columns)]
        if rows:
            return pd.concat(rows, ignore_index=True)
    return pd.DataFrame()


def _remarks(results: Results) -> list[str]:
    """What is there but cannot be shown, and why."""
    points = results.points
    if points.empty:
        return []
    remarks = []
    failed = points[~points["status"].isin(_SENT)]
    for (scheme, status), rows in failed.groupby(["scheme", "status"]):
        note = str(rows["note"].iloc[0] or "").strip().splitlines()
        why = f": {note[-1][:200]}" if note else ""
        remarks.append(f"{len(rows)} points of {scheme} have no result, status {status}{why}")
    lost = int((points["status"] == "outage").sum())
    if lost:
        remarks.append(f"{lost} points are outages: not one frame arrived.")
    roles, blers = (points.get(name, pd.Series()) for name in ("mcs_role", "bler"))
    mostly = int(((roles == CHOSEN) & (pd.to_numeric(blers) > MOSTLY_LOST)).sum())
    if mostly:
        remarks.append(
            f"At {mostly} points the chosen MCS loses more than half of its blocks: most of what "
            "is shown there is concealed."
        )
    untrained = points[points["status"] == UNTRAINED]
    if len(untrained):
        where = "are shown" if results.with_untrained else "are only in the table of all points"
        remarks.append(
            f"{len(untrained)} points of {', '.join(untrained['scheme'].unique())} come from a "
            f"model without trained weights: their numbers say nothing; they {where}."
        )
    if len(failed) == len(points):
        remarks.append("All points failed, so there is no curve, no figure and no BD-CBR.")
    if with_curve_keys(points)["curve"].nunique() == 1:
        remarks.append(f"Only one scheme ({points['scheme'].iloc[0]}) is here: nothing to compare.")
    sent = points[with_rate(points)["cbr"].notna()]
    asked = results.metrics
    for metric in METRICS.values():
        number = int(sent[metric.column].isna().sum())
        if 0 < number < len(sent):
            remarks.append(f"{metric.column} is missing (NaN) in {number} of {len(sent)} points.")
        elif number and (metric.standard or metric.name in asked):
            remarks.append(f"{metric.column} was not measured.")
    return [*remarks, *_bd_remarks(results.bd)]


def _bd_remarks(bd: pd.DataFrame) -> list[str]:
    if "bd_cbr_percent" not in bd:
        return []
    if bd.empty:
        return ["bd_cbr.csv is empty: the scenario names no anchor."]
    missing = bd[bd["bd_cbr_percent"].isna()]
    missing = missing.fillna({"note": "no reason given"})
    reasons = missing[["scheme", "metric", "note"]].value_counts()
    remarks = [
        f"No BD-CBR of {scheme} by {metric} in {number} {'row' if number == 1 else 'rows'} of "
        f"bd_cbr.csv: {why}."
        for (scheme, metric, why), number in reasons[:5].items()
    ]
    if len(reasons) > 5:
        remarks.append(f"{len(reasons) - 5} further reasons are in bd_cbr.csv, column note.")
    return remarks


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


#: What fixes a block error rate beside the MCS; and the columns of the table.
def _bler_condition() -> list[str]:
    return [*condition_columns(), "equalizer", "csi_aware", "decoder"]


_WORDS = re.compile(r"(\w+)=(\[[^\]]*\]|\{[^}]*\}|\S+)")


def bler_table(folder: Path, manifest: dict[str, Any], points: pd.DataFrame) -> pd.DataFrame:
    """Block error rate by MCS and channel condition, each of them once.

    The rates come from ``bler.csv`` in ``folder`` if there is one (the two counts may be absent),
    from the MCS choices in the manifest, and from the points.
    """
    wanted = ["mcs", *_bler_condition(), "bler"]
    columns = [*wanted, "num_blocks", "num_block_errors"]
    of_points = points[wanted].dropna(subset=["mcs", "bler"]) if len(points) else points
    parts = [_table(folder / "bler.csv", [], ""), pd.DataFrame(_choices(manifest)), of_points]
    found = [part for part in parts if not part.empty]
    if not found:
        return pd.DataFrame(columns=columns)
    table = pd.concat(found, ignore_index=True).reindex(columns=columns)
    for name in ("mcs", "snr_db", "csi_nmse_db", "coherence_length", "bler"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    for name in ("channel", "equalizer", "csi_aware", "decoder"):
        table[name] = table[name].astype(str)
    for name, default in DEFAULT_TRANSPORT.columns().items():
        table[name] = [_unless_default(value, default) for value in table[name]]
    table = table.dropna(subset=["mcs", "snr_db", "bler"])
    table = table.drop_duplicates(subset=["mcs", *_bler_condition()])
    return table.sort_values([*_bler_condition(), "mcs"], kind="stable").reset_index(drop=True)


def _unless_default(value: Any, default: Any) -> Any:
    """A value of the transport, a number where its text is one; None for the default or nothing."""
    text = str(value)
    if pd.isna(value) or text == str(default):
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return None if number == default else number


def _choices(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Candidates of MCS choices: ``{"mcs_worth channel=... snr_db=...": [[mcs, bler, ...]]}``."""
    choices = manifest.get("mcs_choice")
    for key, candidates in choices.items() if isinstance(choices, dict) else ():
        words = {name: word for name, word in _WORDS.findall(key) if word not in ("None", "nan")}
        if not isinstance(candidates, list) or "channel" not in words:
            continue
        condition = {name: words.get(name) for name in _bler_condition()}
        for candidate in candidates:
            if isinstance(candidate, list) and len(candidate) >= 2:
                yield {"mcs": candidate[0], "bler": candidate[1], **condition}
