"""``python -m pvsc_link.bench gates``: how far the weights have come, from committed results.

Each gate is a claim about BD-CBR between two systems of a sweep, about drift within a GOP, or about
the symbols of P frames; the verdict and the number come from ``points.csv``, ``drift.csv`` and
``p_frames.csv``, nothing is run. Rows count that
were sent with the default transport; what makes them stale is told first.
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pvsc_link.link import DEFAULT_TRANSPORT
from pvsc_link.models import packaged_identities
from pvsc_link.report import UNTRAINED
from pvsc_link.sweep import MEAN_CLIP, bd_table, read_points, stale_reasons

#: Results that the repository keeps.
_REFERENCE = Path("results/reference")
#: Growth of LPIPS from the second to the last frame of a GOP of 12 that still counts as no drift.
DRIFT_LIMIT_PERCENT = 10.0
_DRIFT_GOP = 12
#: Least share of a GOP's channel uses that symbols of P frames must have at finer quality presets.
SYMBOL_SHARE_LIMIT = 0.2
_Condition = dict[str, str | float]
_AWGN_6_DB: _Condition = {"channel": "awgn", "snr_db": 6.0}
_AWGN_0_DB: _Condition = {"channel": "awgn", "snr_db": 0.0}
_FADING: _Condition = {"channel": "rayleigh", "snr_db": 6.0, "csi_nmse_db": -10.0}
#: The paper's system, the codec of its backbone, and what both are compared with.
_PVSC, _LVC = "pvsc:pvsc_small", "lvc:lvc-perceptual, pvsc_small"
_SNRS_DB = (0.0, 3.0, 6.0, 10.0)
_CODECS = ("x264", "x265", "precoded:VTM-17.0")
#: Gates of drift by the preset whose rows of ``drift.csv`` they read, and its scheme.
_DRIFT_GATES = ((5, "pvsc_mc_small", "pvsc-mc"), (10, "pvsc_small", "pvsc"))


@dataclass(frozen=True)
class Gate:
    """BD-CBR of ``scheme`` against ``anchor`` below ``limit_percent``, mean over clips, GOP 4.

    ``scheme``, ``anchor`` : name, or name:variant; ``condition`` : columns of points.csv;
    ``equalizer``, ``training`` : those that ``scheme`` must have, where a sweep has it with
    several; without ``training`` the weights are the preset's own.
    """

    number: int
    scheme: str
    anchor: str
    metric: str
    condition: _Condition
    limit_percent: float = 0.0
    equalizer: str = ""
    training: str = ""

    @property
    def title(self) -> str:
        place = ", ".join(f"{name} {value}" for name, value in self.condition.items())
        own = filter(None, (self.equalizer, self.training and f"{self.training} weights"))
        scheme = " ".join((self.scheme, " and ".join(own))).strip()
        return f"{scheme} against {self.anchor}, {self.metric}, {place}"


GATES = (
    Gate(1, "lvc:lvc-l1", "x264", "psnr", _AWGN_6_DB, 100.0),
    Gate(2, "pvsc-mc", "lvc:lvc-perceptual", "lpips", _AWGN_0_DB),
    Gate(2, "pvsc-mc", "lvc:lvc-perceptual", "lpips", _FADING, equalizer="zf"),
    Gate(2, "pvsc-mc", "lvc:lvc-perceptual", "lpips", _FADING, equalizer="biased_lmmse"),
    Gate(2, "pvsc-mc", "lvc:lvc-perceptual", "lpips", _FADING, 0.0, "biased_lmmse", "rayleigh"),
    Gate(3, "pvsc-mc", "x265", "lpips", _AWGN_6_DB),
    Gate(3, "pvsc-mc", "x265", "dists", _AWGN_6_DB),
    Gate(4, "pvsc-mc", "precoded:VTM-17.0", "lpips", _AWGN_6_DB),
    Gate(4, "pvsc-mc", "precoded:VTM-17.0", "dists", _AWGN_6_DB),
    # The paper's system against its own networks as a codec, with as many steps of training.
    *(Gate(8, _PVSC, _LVC, "lpips", {"channel": "awgn", "snr_db": s}) for s in _SNRS_DB),
    Gate(8, _PVSC, _LVC, "lpips", _FADING, equalizer="zf"),
    Gate(8, f"{_PVSC}, weights rayleigh", _LVC, "lpips", _FADING, 0.0, "zf", "rayleigh"),
    *(Gate(9, _PVSC, codec, "lpips", _AWGN_6_DB) for codec in _CODECS),
    *(Gate(9, _PVSC, codec, "dists", _AWGN_6_DB) for codec in _CODECS),
)


@dataclass(frozen=True)
class Verdict:
    """``holds`` is None where the results lack what the gate asks for; ``found`` says what is."""

    number: int
    title: str
    holds: bool | None
    found: str

    def __str__(self) -> str:
        word = {True: "holds", False: "fails", None: "not measured"}[self.holds]
        return f"gate {self.number}  {word:12}  {self.title}: {self.found}"


def verdicts(
    points: pd.DataFrame,
    drift: pd.DataFrame | None = None,
    weights: Mapping[str, Collection[str]] | None = None,
) -> Iterator[Verdict]:
    """Every gate on rows of one or more sweeps, then the gates of drift.

    Input: ``points`` : as ``sweep.store.read_points`` gives them; ``drift`` : ``drift.csv`` of
    ``python -m pvsc_link.bench drift``; ``weights`` : identities of the weights in the sweeps by
    scheme, other ones say nothing about them in ``drift`` (default: not compared).
    """
    for gate in GATES:
        yield _verdict(gate, points)
    for number, preset, scheme in _DRIFT_GATES:
        rows = drift
        if drift is not None and "preset" in drift:
            rows = drift[drift["preset"] == preset]
        yield _drift_verdict(rows, (weights or {}).get(scheme, ()), number, scheme)


def _verdict(gate: Gate, points: pd.DataFrame) -> Verdict:
    rows = points[(points["gop"] == 4) & (points["status"] != UNTRAINED)]
    for column, value in gate.condition.items():
        rows = rows[rows[column] == value]
    for column, value in DEFAULT_TRANSPORT.columns().items():
        if column in rows:  # tables leave a column out in which all rows have the default
            rows = rows[rows[column].isna() | (rows[column] == value)]
    tested = _tested(rows, gate)
    rows = rows[~_is(rows, gate.scheme) | rows.index.isin(tested.index)]
    clips = sorted(set(tested["clip"]) & set(rows[_is(rows, gate.anchor)]["clip"]))
    both = rows[(_is(rows, gate.scheme) | _is(rows, gate.anchor)) & rows["clip"].isin(clips)]
    if both.empty:
        return Verdict(
            gate.number, gate.title, None, "no results: no clip has trained rows of both"
        )
    table = bd_table(both, gate.anchor, [gate.metric])
    table = table[_is(table, gate.scheme)]
    wanted = MEAN_CLIP if len(clips) > 1 else clips[0]
    line = table[table["clip"] == wanted].iloc[0]
    each = ", ".join(
        f"{Path(row.clip).stem} {row.bd_cbr_percent:+.1f}"
        for row in table[table["clip"] != MEAN_CLIP].itertuples()
    )
    limit = f"limit {gate.limit_percent:+.0f} %"
    if pd.isna(line["bd_cbr_percent"]):
        return Verdict(gate.number, gate.title, None, f"{line['note']} ({each}; {limit})")
    value = float(line["bd_cbr_percent"])
    interval = "no interval"
    if pd.notna(line["bd_cbr_low"]):
        over = line["interval_over"]
        interval = f"95 % over {over} {line['bd_cbr_low']:+.1f} to {line['bd_cbr_high']:+.1f}"
    found = f"BD-CBR {value:+.1f} %, {interval}, {_behind(line)} ({each}; {limit})"
    return Verdict(gate.number, gate.title, value < gate.limit_percent, found)


def _behind(line: pd.Series) -> str:
    """How many clips, GOPs, seeds and independent fades a BD-CBR rests on, as far as known."""
    counts = (("clip", "num_clips"), ("GOP", "num_gops"), ("seed", "num_seeds"))
    known = [(word, line[name]) for word, name in (*counts, ("fade", "num_fades"))]
    return ", ".join(f"{n:g} {word}{'' if n == 1 else 's'}" for word, n in known if pd.notna(n))


def _tested(rows: pd.DataFrame, gate: Gate) -> pd.DataFrame:
    """Rows of the gate's scheme with its equalizer and its weights."""
    tested = rows[_is(rows, gate.scheme)]
    if gate.equalizer:
        tested = tested[tested["equalizer"] == gate.equalizer]
    weights = tested["variant"].fillna("").str.extract(r"weights ([^,]*)", expand=False).fillna("")
    return tested[weights == gate.training]


def _is(rows: pd.DataFrame, label: str) -> pd.Series:
    scheme, _, variant = label.partition(":")
    chosen = rows["scheme"] == scheme
    return chosen & (rows["variant"] == variant) if variant else chosen


def _drift_verdict(
    drift: pd.DataFrame | None,
    weights: Collection[str] = (),
    number: int = 5,
    scheme: str = "pvsc-mc",
) -> Verdict:
    title = f"{scheme}, LPIPS of the last against the second frame, GOP {_DRIFT_GOP}"
    if drift is None or drift.empty:
        return Verdict(number, title, None, "no results: no rows of it in drift.csv")
    if weights and "weights" in drift:
        measured = sorted(drift["weights"].unique())
        drift = drift[drift["weights"].isin(weights)]
        if drift.empty:
            found = f"drift.csv is of weights {', '.join(measured)}, the results of "
            return Verdict(number, title, None, f"{found}{', '.join(sorted(weights))}")
    if "clip" in drift:
        title += f", {', '.join(sorted(drift['clip'].unique()))}"
    ways = drift.groupby("refresh_every") if "refresh_every" in drift else [(0, drift)]
    growths, words = [], []
    for every, rows in ways:
        place = rows["frame"] % _DRIFT_GOP
        second, last = (rows.loc[place == n, "lpips"].mean() for n in (1, _DRIFT_GOP - 1))
        if pd.isna(last) or pd.isna(second):
            return Verdict(number, title, None, f"no GOP of {_DRIFT_GOP} in drift.csv")
        growths.append(100.0 * (last / second - 1.0))
        way = f"refresh every {every}" if every else "no refresh"
        words.append(f"{way} {second:.4f} to {last:.4f}, {growths[-1]:+.1f} %")
    found = f"{'; '.join(words)} (limit {DRIFT_LIMIT_PERCENT:+.0f} %)"
    return Verdict(number, title, bool(min(growths) <= DRIFT_LIMIT_PERCENT), found)


def p_frame_verdicts(table: pd.DataFrame | None) -> Iterator[Verdict]:
    """Whether the P frames of ``pvsc`` send symbols in ``bench p_frames``, and whether these help.

    Gate 6: from preset 2 on, more than ``SYMBOL_SHARE_LIMIT`` of all channel uses of a GOP of 4 are
    symbols of P frames (mean over clips). Gate 7: at every preset LPIPS is lower with them.
    """
    titles = (
        (6, f"pvsc, symbols of P frames over {SYMBOL_SHARE_LIMIT:.0%} of the CBR from preset 2 on"),
        (7, "pvsc, LPIPS of P frames lower with their symbols than without"),
    )
    if table is not None and "preset" in table:
        table = table[table["preset"] == "pvsc_small"]
    if table is None or table.empty:
        missing = "no results: no rows of it in p_frames.csv"
        yield from (Verdict(number, title, None, missing) for number, title in titles)
        return
    means = table.groupby("rate")[["symbol_share", "lpips", "lpips_silent"]].mean()
    shares = means.loc[means.index >= 2, "symbol_share"]
    sending = means[means["symbol_share"] > 0]
    helps = bool((sending["lpips"] < sending["lpips_silent"]).all()) and not sending.empty
    texts = (
        ", ".join(f"preset {rate} {share:.0%}" for rate, share in means["symbol_share"].items()),
        ", ".join(
            f"preset {rate} {row.lpips:.3f} with, {row.lpips_silent:.3f} without"
            for rate, row in sending.iterrows()
        ),
    )
    held = (bool(len(shares) and (shares > SYMBOL_SHARE_LIMIT).all()), helps)
    for (number, title), holds, found in zip(titles, held, texts, strict=True):
        yield Verdict(number, title, holds, found)


def _manifests(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """The manifests of the results that have one, by the name of the folder."""
    paths = ((folder.name, folder / "manifest.json") for folder in folders)
    return {name: json.loads(path.read_text()) for name, path in paths if path.is_file()}


def _weights_of(manifests: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Digests of the weights of every scheme, as the manifests of the results state them."""
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        for label, identity in manifest.get("weights", {}).items():
            found.setdefault(label.split(":")[0], set()).add(identity)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every gate; returns 0 if all hold, else 1."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench gates", description=__doc__)
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[_REFERENCE / "trained_awgn", _REFERENCE / "trained_rayleigh"],
        help="results folders of sweeps (default: %(default)s)",
    )
    parser.add_argument(
        "--drift",
        nargs="+",
        type=Path,
        default=[_REFERENCE / "drift/drift.csv", _REFERENCE / "drift_pvsc/drift.csv"],
        help="tables of bench drift (default: %(default)s)",
    )
    parser.add_argument("--p-frames", type=Path, default=_REFERENCE / "p_frames/p_frames.csv")
    given = parser.parse_args(arguments)
    found = [read_points(folder) for folder in given.folders if (folder / "points.csv").is_file()]
    if not found:
        print(f"no results in {', '.join(map(str, given.folders))}", file=sys.stderr)
        return 2
    tables = [pd.read_csv(path) for path in given.drift if path.is_file()]
    drift = pd.concat(tables, ignore_index=True) if tables else None
    points = pd.concat(found, ignore_index=True)
    manifests = _manifests(given.folders)
    for name, manifest in manifests.items():
        for reason in stale_reasons(manifest, packaged_identities()):
            print(f"{name}: {reason}", file=sys.stderr)
    every = list(verdicts(points, drift, _weights_of(manifests.values())))
    every += p_frame_verdicts(pd.read_csv(given.p_frames) if given.p_frames.is_file() else None)
    for verdict in every:
        print(verdict)
    return 0 if all(verdict.holds for verdict in every) else 1
