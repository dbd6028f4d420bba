"""From points to curves: which rows form one curve, what it is called, its mean over seeds.

A curve is one scheme at one place (clip and GOP length) under one channel condition, over rates.
"""

import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pvsc_link.intervals import bootstrap_ends, bootstrap_interval
from pvsc_link.link import CHANNELS, Harq, Transport, link_fields, packet_fields
from pvsc_link.metrics import METRICS, MetricType
from pvsc_link.report.style import SchemeStyle, channel_label, scheme_style
from pvsc_link.storage import digest
from pvsc_link.sweep import with_rate

#: What a curve shows its quality under.
PLACE = ["clip", "gop"]


def condition_columns() -> list[str]:
    """What a condition is in the tables: channel, its values, impairments and transport."""
    return ["channel", "snr_db", *link_fields()]


#: What tells curves apart at one place and condition; ``run`` too, where there are several.
CURVE = ["scheme", "variant", "equalizer", "csi_aware", "mcs_policy", "decoder"]


@dataclass(frozen=True)
class CurveSet:
    """The sent points of a results folder with what every figure and the page need of them.

    ``keyed`` : points that have a rate, with their ``curve``; ``cbr`` is bytes per pixel over a
    packet network (``rate_words``); ``means`` : over seeds, from
    :func:`averaged`; ``styles`` : by curve.
    """

    keyed: pd.DataFrame
    means: pd.DataFrame
    styles: dict[str, SchemeStyle]


def curve_set(points: pd.DataFrame) -> CurveSet:
    """Curves of all points that were sent; empty tables where there is none."""
    rated = with_rate(points)
    sent = rated[rated["cbr"].notna()]
    if sent.empty:
        return CurveSet(sent, sent, {})
    keyed = with_curve_keys(sent)
    return CurveSet(keyed, averaged(keyed), curve_styles(keyed))


def is_packets(channel: object) -> bool:
    """Whether this is a packet network."""
    return channel in CHANNELS and CHANNELS[str(channel)].is_packets


def rate_words(rows: pd.DataFrame) -> tuple[str, str]:
    """Short and full name of the rate of rows, which stands in their column ``cbr``.

    Where channels of both kinds are among the rows the short name says both.
    """
    kinds = set(rows["channel"].map(is_packets))
    if kinds == {True}:
        return "Bytes per pixel", "Rate (bytes per pixel, headers included)"
    if kinds == {True, False}:
        return "CBR, or bytes per pixel", "CBR, or bytes per pixel of packets"
    return "CBR", "CBR (channel uses per source sample)"


def metrics_in(rows: pd.DataFrame) -> list[MetricType]:
    """The metrics that ``rows`` hold a number of."""
    return [m for m in METRICS.values() if m.column in rows and rows[m.column].notna().any()]


def with_curve_keys(points: pd.DataFrame) -> pd.DataFrame:
    """``points`` with a column ``curve``: a text that is equal for rows of one curve."""
    names = [*CURVE, "run"] if "run" in points else CURVE
    columns = points[names].astype(object).where(points[names].notna(), "").astype(str)
    return points.assign(curve=["|".join(row) for row in columns.itertuples(index=False)])


def curve_styles(keyed: pd.DataFrame) -> dict[str, SchemeStyle]:
    """Style by ``curve``, in order of appearance; labels name only what differs in the scheme.

    Made once from all rows, so that a curve looks the same in every figure.
    """
    styles: dict[str, SchemeStyle] = {}
    first = keyed.drop_duplicates("curve")
    in_packets = first["channel"].map(is_packets).rename("in_packets")
    for (scheme, bare), curves in first.groupby(["scheme", in_packets], sort=False):
        told = [*CURVE[1:], *(["run"] if "run" in curves else [])]
        varying = [name for name in told if curves[name].nunique(dropna=False) > 1]
        variants = [_variant_parts(variant) for variant in curves["variant"]]
        shared = set.intersection(*map(set, variants))
        for order, (_, row) in enumerate(curves.iterrows()):
            own = [part for part in _variant_parts(row["variant"]) if part not in shared]
            others = (_in_words(name, row[name]) for name in varying if name != "variant")
            words = filter(None, [*map(_variant_words, own), *others])
            details, variant = ", ".join(words), str(row["variant"])
            style = scheme_style(str(scheme), details, order, variant)
            if bare:  # there is no LDPC in packets
                label, short = (t.replace(_OVER_LDPC, "") for t in (style.label, style.short))
                style = replace(style, label=label, short=short)
            styles[row["curve"]] = style
    return {key: styles[key] for key in first["curve"]}


#: What the labels of codecs say of the link.
_OVER_LDPC = " + 5G LDPC"


def _variant_parts(variant: object) -> list[str]:
    """``pvsc_small-range, weights rayleigh`` as its parts, each of which stands for one option."""
    first, *others = str("" if pd.isna(variant) else variant).split(", ")
    preset, _, side_format = first.rpartition("-")
    if side_format in ("payload", "range"):
        return [preset, f"map as {side_format}", *others]
    return [first, *others]


def _variant_words(part: str) -> str:
    """``weights rayleigh`` as ``rayleigh training``: a part in a paper's words."""
    kind, _, rest = part.partition(" ")
    if kind == "weights" and rest:
        return f"{rest} training"
    if kind == "receiver" and rest:
        return f"{rest} receiver"
    return part


def _in_words(name: str, value: object) -> str:
    if pd.isna(value) or value == "":
        return ""
    if name == "csi_aware":
        return "CSI-aware" if is_true(value) else ""
    if name == "mcs_policy":
        return f"MCS {value}"
    words = {"zf": "ZF", "lmmse": "LMMSE", "biased_lmmse": "biased LMMSE"}
    return words.get(str(value), str(value))


def is_true(value: object) -> bool:
    """Whether a cell holds true, as any of the writers of tables puts it."""
    return str(value) in ("True", "1", "1.0")


def averaged(keyed: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean over seeds at every place, condition, curve and rate.

    Output: per row the keys, ``num_seeds``, mean ``cbr`` and ``cbr_*``, and for each metric its
    mean in the metric's column with ``<column>_low`` and ``<column>_high``: bootstrap interval
    over seeds, NaN where there are fewer than three.
    """
    keys = [*PLACE, *condition_columns(), "curve", "scheme", "rate"]
    sent = keyed[keyed["cbr"].notna()]
    parts = [name for name in sent if name == "cbr" or str(name).startswith("cbr_")]
    means = [*parts, *(m.column for m in METRICS.values() if m.column in sent)]
    groups = sent.groupby(keys, dropna=False, sort=False)
    table = groups[means].mean().assign(num_seeds=groups.size()).reset_index()
    for metric in metrics_in(sent):
        values = sent[metric.column].to_numpy()
        table = table.join(_bands(values, groups.ngroup().to_numpy(), metric.column, confidence))
    return table


def _bands(values: np.ndarray, group: np.ndarray, column: str, confidence: float) -> pd.DataFrame:
    """Ends of the interval of every group, in the order of their numbers."""
    known = np.isfinite(values)
    num_groups = int(group.max()) + 1
    ends = bootstrap_ends(values[known], group[known], num_groups, confidence)
    return pd.DataFrame(ends, columns=[f"{column}_low", f"{column}_high"])


def _ends(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """Ends of the interval of a mean; NaN where the values are too few to say their spread."""
    interval = bootstrap_interval(values.tolist(), confidence) if len(values) else None
    return (np.nan, np.nan) if interval is None else interval[1:]


def by_condition(rows: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(condition, rows) in order of appearance."""
    return grouped(rows, condition_columns())


def grouped(rows: pd.DataFrame, names: list[str]) -> Iterator[tuple[dict, pd.DataFrame]]:
    """(values by name, rows) of every combination of columns ``names``, in order of appearance."""
    for key, here in rows.groupby(names, dropna=False, sort=False):
        yield dict(zip(names, key, strict=True)), here


def common_budget(rows: pd.DataFrame) -> float:
    """The least CBR that every curve under every condition can be sent at."""
    least = rows.groupby([*condition_columns(), "curve"], dropna=False)["cbr"].min()
    return float(least.max())


def quality_at_budget(
    keyed: pd.DataFrame, metric: MetricType, budget: float, confidence: float = 0.95
) -> pd.DataFrame:
    """Quality that each curve reaches with at most ``budget`` CBR, under every condition.

    Linear in log CBR between the curve's rates; above the highest rate its quality stays, below
    the lowest there is none. Output: keys, ``value``, ``low``, ``high`` over seeds.
    """
    rows = []
    sent = keyed[keyed["cbr"].notna() & keyed[metric.column].notna()]
    for key, curve in sent.groupby(
        [*PLACE, *condition_columns(), "curve"], dropna=False, sort=False
    ):
        of_seeds = curve.groupby("seed", dropna=False)
        values = np.array([_at_budget(seed, metric.column, budget) for _, seed in of_seeds])
        known = values[np.isfinite(values)]
        if len(known):
            rows.append((*key, float(np.mean(known)), *_ends(known, confidence)))
    return pd.DataFrame(
        rows, columns=[*PLACE, *condition_columns(), "curve", "value", "low", "high"]
    )


def _at_budget(curve: pd.DataFrame, column: str, budget: float) -> float:
    order = np.argsort(curve["cbr"].to_numpy())
    cbr, quality = curve["cbr"].to_numpy()[order], curve[column].to_numpy()[order]
    if budget < cbr[0] * (1 - 1e-9):
        return float("nan")
    return float(np.interp(np.log(budget), np.log(cbr), quality))


def condition_words(condition: Mapping, varying: Collection[str] = ()) -> str:
    """A channel condition for titles; what the mapping lacks is left out.

    Values that are the defaults of channel and transport are not said, unless their names are in
    ``varying``.
    """
    channel = str(condition.get("channel", ""))
    words = [channel_label(channel)] if channel else []
    if "snr_db" in condition and not pd.isna(condition["snr_db"]):
        words.append(f"SNR {condition['snr_db']:g} dB")
    if fades(channel):
        if "csi_nmse_db" in condition:
            nmse = condition["csi_nmse_db"]
            words.append("perfect CSI" if pd.isna(nmse) else f"NMSE {nmse:g} dB")
        length = condition.get("coherence_length")
        if length is not None and not pd.isna(length):
            words.append(f"coherence {length:g}")
    words += [_value_words(name, value) for name, value in _further(condition, varying)]
    return ", ".join(words)


#: Units at the end of the names of conditions.
_UNITS = {
    **{"ns": "ns", "ms": "ms", "kmh": "km/h", "hz": "Hz", "khz": "kHz", "ghz": "GHz", "db": "dB"},
}
_ACRONYMS = {name.lower(): name for name in ("PAPR", "HARQ", "MCS", "CSI")}


def _name_and_unit(name: str) -> tuple[str, str]:
    *words, last = name.split("_")
    unit = _UNITS.get(last, "")
    words = words if unit else [*words, last]
    return " ".join(_ACRONYMS.get(w, w) for w in words).removeprefix("num "), unit


def value_title(name: str) -> str:
    """``delay_spread_ns`` as ``Delay spread (ns)``."""
    said, unit = _name_and_unit(name)
    return said[:1].upper() + said[1:] + (f" ({unit})" if unit else "")


def _value_words(name: str, value: Any) -> str:
    """``delay_spread_ns`` of 300 as ``delay spread 300 ns``."""
    said, unit = _name_and_unit(name)
    if value is None:
        return f"no {said}"
    if name == "harq":
        return f"{said} ({harq_words(value)})"
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    return f"{said} {f'{value:g}' if number else value} {unit}".strip()


def harq_words(cell: str) -> str:
    """The column ``harq`` in words: ``ir, 4 rounds, round trip 4 ms``."""
    harq = _harq_of(cell)
    if harq is None:
        return str(cell)
    rounds = harq.max_retransmissions + 1
    return f"{harq.combining}, {rounds} rounds, round trip {harq.round_trip_ms:g} ms"


def _harq_of(cell: str) -> Harq | None:
    """What a cell of the column ``harq`` says; None if it says something else."""
    try:
        return Harq.model_validate_json(cell)
    except ValueError:
        return None


def _further(condition: Mapping, varying: Collection[str] = ()) -> list[tuple[str, Any]]:
    """Values of a condition beside those that block fading has, less defaults.

    None stands for what the transport lacks and other conditions have, such as HARQ.
    """
    known = ("channel", "snr_db", "csi_nmse_db", "coherence_length")
    channel = CHANNELS.get(str(condition.get("channel")))
    of_channel = channel.Condition.model_fields if channel else {}
    fields = dict(Transport.model_fields) | of_channel
    further: list[tuple[str, Any]] = []
    for name in condition_columns():
        value = condition.get(name)
        if name in known or value is None or pd.isna(value):
            if name in varying and name in condition and name in _CAN_LACK:
                further.append((name, None))
            continue
        if name in varying or name not in fields or value != fields[name].default:
            further.append((name, value))
    return further


#: Parts of the transport that can be left out altogether.
_CAN_LACK = {name for name, value in Transport().columns().items() if value is None}


def varying_conditions(rows: pd.DataFrame) -> list[str]:
    """Names of the parts of a condition that have several values in ``rows``.

    That other channels lack what a packet network has counts as no value.
    """
    of_packets = packet_fields()
    here = [name for name in condition_columns() if name in rows]
    return [n for n in here if rows[n].nunique(dropna=n in of_packets) > 1]


def fades(channel: str) -> bool:
    """Whether a channel varies in time; one that no registry knows is taken to do so."""
    return channel not in CHANNELS or CHANNELS[channel].fades


def condition_slug(condition: Mapping) -> str:
    """A condition as part of a file name."""
    parts = [str(condition["channel"])]
    for name, short in (("snr_db", "snr"), ("csi_nmse_db", "nmse"), ("coherence_length", "coh")):
        value = condition.get(name)
        if value is not None and not pd.isna(value):
            parts.append(f"{short}{value:g}")
    parts += [_short(name, value) for name, value in _further(condition)]
    return "_".join(parts)


#: Short forms of conditions in file names; a word as a value stands alone.
_SHORT = {
    **{"delay_spread": "ds", "speed": "v", "carrier": "fc", "subcarrier_spacing": "scs"},
    **{"clip PAPR": "papr", "block_length": "n", "latency_budget": "budget", "symbol_rate": "rs"},
    **{"MCS_table": "table"},
}


def _short(name: str, value: Any) -> str:
    """``delay_spread_ns`` of 300 as ``ds300``, ``channel_estimation`` of lmmse as ``lmmse``."""
    if name == "harq" and (harq := _harq_of(value)):
        return f"harq-{harq.combining}-{harq.max_retransmissions}-{harq.round_trip_ms:g}ms"
    if name == "interleaving":  # alone, its value would be read as the transport unit
        return f"interleaving-{value}"
    if isinstance(value, str):
        return re.sub(r"[^A-Za-z0-9.+-]+", "-", clip_stem(value)).strip("-")
    said, _ = _name_and_unit(name)
    said = _SHORT.get(said.replace(" ", "_"), _SHORT.get(said, said)).replace(" ", "")
    flag = isinstance(value, (bool, np.bool_))
    return f"{said}{value if flag else f'{value:g}'}"


def place_words(clip: str, gop: float) -> str:
    """A clip, as :func:`short_clip_names` calls it, and its GOP length for titles."""
    return f"{clip}, GOP {gop:g}"


def clip_stem(clip: str) -> str:
    """A clip's name without folders; the ending goes too if it is a path."""
    last = str(clip).replace("\\", "/").rsplit("/", 1)[-1]
    return last.rsplit(".", 1)[0] if "." in last[1:] else last


def short_clip_names(clips: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Clip -> its stem; the full name where that of two clips, or a name in ``taken``, is equal."""
    stems = {clip: clip_stem(clip) for clip in dict.fromkeys(map(str, clips))}
    counts = Counter(stems.values())
    return {
        clip: stem if counts[stem] == 1 and stem not in taken else clip
        for clip, stem in stems.items()
    }


#: Most bytes of a file name without its ending.
_LONGEST_NAME = 100


def file_names(names: Mapping[Hashable, str]) -> dict[Hashable, str]:
    """File name of each thing, different for different things.

    Input: ``names`` : thing -> the name that it would have alone. Output: that name where no other
    thing has it; else a digest of the thing follows it, which does not depend on the others. Names
    that differ in upper and lower case alone count as equal, because some file systems say so.
    """
    counts = Counter(name.lower() for name in names.values())
    return {
        thing: name
        if counts[name.lower()] == 1 and len(name.encode()) <= _LONGEST_NAME
        else f"{_cut(name)}-{digest(repr(thing))[:8]}"
        for thing, name in names.items()
    }


def _cut(name: str) -> str:
    return name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")


def place_key(clip: str, gop: float, condition: Mapping | None = None) -> tuple[str, ...]:
    """A clip, GOP length and condition as a value that is hashable and equal in every run."""
    given = {name: value for name, value in (condition or {}).items() if not pd.isna(value)}
    return (str(clip), f"{gop:g}", *(f"{name}={_exact(value)}" for name, value in given.items()))


def _exact(value: object) -> str:
    text = str(value)
    try:
        return repr(float(text))
    except ValueError:
        return text
