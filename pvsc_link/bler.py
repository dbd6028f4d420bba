"""``python -m pvsc_link.bler``: fill, list, merge and plot measured block error rates.

python -m pvsc_link.bler --channel rayleigh --snr-db 0:14:2 --mcs all --plot curves.png
python -m pvsc_link.bler --merge /other/machine/.cache/pvsc_link
python -m pvsc_link.bler --list
"""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pvsc_link.commands import run_command
from pvsc_link.link import MCS_TABLES, Transport, condition_fields, find_channel, packet_fields
from pvsc_link.options import validated
from pvsc_link.types import InputError

if TYPE_CHECKING:
    from pvsc_link.link import BlerCache, BlerEstimate

Row = dict[str, Any]
_COUNTED = ("errors", "blocks", "bler", "low", "high")


def numbers(text: str) -> list[float]:
    """Values of ``first:last:step`` (both ends included) or of a comma-separated list."""
    if ":" not in text:
        return [float(value) for value in text.split(",")]
    first, last, step = (float(value) for value in text.split(":"))
    if step <= 0 or last < first:
        raise ValueError("first:last:step goes up by a positive step")
    return [first + i * step for i in range(int((last - first) / step + 1.5 - 1e-9))]


def mcs_indices(text: str) -> list[int] | None:
    """A list of rows, or ``first:last:step``; None for ``all``."""
    if text == "all":
        return None
    return [int(value) for value in numbers(text if text.count(":") != 1 else text + ":1")]


def _value(text: str) -> int | float | None:
    """A number of a channel's condition; ``null`` is None."""
    if text in ("null", "none"):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("bler", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command; their defaults are those of a scenario."""
    add = parser.add_argument
    add("--channel", help="measure over this channel")
    add("--snr-db", type=numbers, default=numbers("0:14:2"), help="first:last:step or a,b,c")
    add("--mcs", type=mcs_indices, default=None, help="all, a,b,c or first:last")
    of_table = Transport.model_fields
    add("--mcs-table", type=int, default=1, help=of_table["mcs_table"].description)
    add("--block-length", type=int, default=6144, help="coded bits of a block")
    of_packets = packet_fields()
    for name, field in condition_fields().items():
        if name in of_packets:
            continue
        option, text = f"--{name.replace('_', '-')}", str(field.description).replace("%", "%%")
        add(option, type=_value, default=argparse.SUPPRESS, help=text)
    add("--equalizer", default="lmmse")
    add("--csi-unaware", dest="csi_aware", action="store_false", help="LLRs ignore the CSI error")
    add("--decoder", default="layered")
    add("--num-iter", type=int, default=20)
    add("--target-errors", type=int, default=100, help="stop a point after these errors")
    add("--max-blocks", type=int, default=20_000, help="... or after these blocks")
    add("--seed", type=int, default=0, help="another seed gives runs that add up when merged")
    add("--cache", type=Path, default=None, help="folder; default $PVSC_LINK_CACHE, else ~/.cache")
    add("--merge", type=Path, action="append", default=[], help="take over another cache folder")
    add("--list", action="store_true", help="print everything that the cache holds")
    add("--csv", type=Path, help="write the rows measured (or listed)")
    add("--plot", type=Path, help="draw them as BLER over SNR (PNG)")


def measure(options: argparse.Namespace, cache: "BlerCache") -> Iterator[Row]:
    """One row per MCS and SNR, from the cache or newly measured."""
    from pvsc_link.link import measure_bler

    channel = find_channel(options.channel)
    keys = {"mcs_table": options.mcs_table, "block_length": options.block_length}
    transport = validated(keys, Transport, "options", "--mcs-table 1 --block-length 6144")
    everything = range(len(MCS_TABLES[transport.mcs_table]))
    for mcs in everything if options.mcs is None else options.mcs:
        for snr_db in options.snr_db:
            point = channel.point(snr_db, vars(options))
            estimate = measure_bler(
                mcs,
                point,
                equalizer=options.equalizer,
                csi_aware=options.csi_aware,
                decoder=options.decoder,
                num_iter=options.num_iter,
                transport=transport,
                target_errors=options.target_errors,
                max_blocks=options.max_blocks,
                seed=options.seed,
                cache=cache,
            )
            yield {"mcs": mcs, "snr_db": snr_db, **_columns(estimate)}


def _columns(estimate: "BlerEstimate") -> Row:
    return {name: getattr(estimate, name) for name in _COUNTED}


def stored(cache: "BlerCache") -> list[Row]:
    """Everything in the cache, one row per condition."""
    from pvsc_link.link import estimate_of

    rows = [{**condition, **_columns(estimate_of(condition, runs))} for condition, runs in cache]
    return sorted(rows, key=lambda row: (row["channel"], row["mcs"], row["snr_db"]))


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """BLER over SNR, one curve per MCS, with 95 % intervals; open marks: no error seen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    indices = sorted({row["mcs"] for row in rows})
    colours = plt.colormaps["viridis"]
    for place, mcs in enumerate(indices):
        curve = sorted((r for r in rows if r["mcs"] == mcs), key=lambda r: r["snr_db"])
        seen = [row for row in curve if row["errors"]]
        colour = colours(place / max(len(indices) - 1, 1))
        spread = [[r["bler"] - r["low"] for r in seen], [r["high"] - r["bler"] for r in seen]]
        axes.errorbar([r["snr_db"] for r in seen], [r["bler"] for r in seen], spread,
                      color=colour, marker="o", markersize=3, label=str(mcs))  # fmt: skip
        none = [row for row in curve if row["blocks"] and not row["errors"]]
        axes.plot([r["snr_db"] for r in none], [r["high"] for r in none], "v", color=colour,
                  markersize=3, fillstyle="none", alpha=0.5)  # fmt: skip
    axes.set(yscale="log", ylim=(5e-5, 1.5), xlabel="Es/N0 in dB", ylabel="block error rate")
    axes.set_title(title, fontsize="small")
    axes.grid(alpha=0.3)
    axes.legend(title="MCS", fontsize="xx-small", ncols=2, loc="center left",
                bbox_to_anchor=(1.0, 0.5))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Rows as CSV; columns of all rows together, in order of appearance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def _print_row(row: Row) -> None:
    interval = f"[{row['low']:.2e}, {row['high']:.2e}]"
    key = " ".join(f"{n}={v}" for n, v in row.items() if n not in _COUNTED)
    counts = f"{row['errors']} of {row['blocks']}"
    print(f"{key}  bler {row['bler']:.3e} {interval}  ({counts})", flush=True)


def run(options: argparse.Namespace) -> int:
    """Do what the options ask, in the order merge, measure, list; returns the exit status."""
    if not (options.channel or options.merge or options.list or options.plot or options.csv):
        raise InputError(
            "nothing to do",
            found=None,
            allowed="--channel, --merge, --list, --csv or --plot",
            remedy="For instance: python -m pvsc_link.bler --channel awgn --snr-db 6",
        )
    from pvsc_link.link import BlerCache

    cache, start, rows = BlerCache(options.cache), time.monotonic(), []
    for folder in options.merge:
        print(f"{cache.merge(BlerCache(folder))} new runs from {folder}")
    for row in measure(options, cache) if options.channel else stored(cache):
        rows.append(row)
        if options.channel or options.list:
            _print_row(row)
    if options.channel:
        cpu = time.process_time()
        print(f"{len(rows)} points, {time.monotonic() - start:.1f} s, {cpu:.1f} CPU-s")
    if rows and options.csv:
        write_csv(rows, options.csv)
    if rows and options.plot:
        given = {name: getattr(options, name, None) for name in condition_fields()}
        condition = [f"{name} {value}" for name, value in given.items() if value is not None]
        decoder = f"{options.decoder}, {options.num_iter} iterations"
        what = ", ".join([str(options.channel), *condition, decoder])
        plot(rows, options.plot, what if options.channel else "all of the cache")
    return 0


if __name__ == "__main__":
    sys.exit(main())
