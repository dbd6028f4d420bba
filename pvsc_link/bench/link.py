"""``python -m pvsc_link.bench link``: LDPC decoders side by side, on the same noise, in one run.

Throughput is information bits per CPU-second (all threads of the process added up), so that
ratios between decoders hold on a machine that does other work as well. The SNR of each MCS is
the lowest, in steps of 0.1 dB, at which the layered decoder's block error rate is at most 1e-2.
"""

import argparse
import csv
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np

from pvsc_link.bench.link_decoders import CONTENDERS, NOT_QUICK
from pvsc_link.bench.link_figure import draw_stages
from pvsc_link.link.block_sampler import BlockSampler, get_block_sampler
from pvsc_link.link.ldpc import get_decoder
from pvsc_link.link.mcs import MCS_TABLE, Mcs, get_mcs
from pvsc_link.types import ChannelPoint

Row = dict[str, Any]
REFERENCE = "sionna-xla"
#: One row of the table near each of the rates 0.30, 0.50, 0.75 and 0.93.
QUICK_MCS = (4, 19, 24, 28)
TARGET_BLER = 1e-2
#: CPU-seconds of timed calls after which no more are needed.
LONG_ENOUGH_S = 1.0
_COLUMNS = (
    "mcs k decoder num_iter snr_db mbit_per_cpu_s ratio bler errors blocks "
    "first_call_s memory_mib chain_ms"
).split()


def operating_point(mcs: Mcs, num_iter: int, num_blocks: int = 512) -> ChannelPoint:
    """AWGN at the lowest Es/N0, on a grid of 0.1 dB, with a BLER of at most ``TARGET_BLER``."""
    sampler, decode = _sampler(mcs), get_decoder("layered", mcs, num_iter)

    def fails(tenths: int) -> bool:
        point = ChannelPoint("awgn", tenths / 10)
        return sampler.count_block_errors(point, num_blocks, 1, decode) > TARGET_BLER * num_blocks

    low, high = -120, 300  # tenths of a dB: at the first all blocks fail, at the last none
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return ChannelPoint("awgn", high / 10)


def _sampler(mcs: Mcs) -> BlockSampler:
    return get_block_sampler(mcs, "awgn", equalizer="lmmse", csi_aware=True)


def resident_mib() -> float:
    """Resident memory of this process; NaN where the system does not tell it this way."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * 4096 / 2**20


def timed(work: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, float]:
    """Result of a call and the median CPU time of the process for one; one long call is enough."""
    times: list[float] = []
    while not times or (len(times) < repeats and sum(times) < LONG_ENOUGH_S):
        start = time.process_time()
        result = work()
        times.append(time.process_time() - start)
    return result, float(np.median(times))


def bench(mcs: Mcs, name: str, noise: tuple, options: argparse.Namespace) -> Row:
    """One row: a decoder on the blocks (b, llr) of one MCS."""
    contender = CONTENDERS[name]
    b, llr = (part[: contender.max_blocks] for part in noise)
    memory, start = resident_mib(), time.perf_counter()
    decode = contender.build(_sampler(mcs).code, options.num_iter)
    groups = [llr[i : i + contender.batch_size] for i in range(0, len(llr), contender.batch_size)]
    decode(groups[0])
    first_call, memory = time.perf_counter() - start, resident_mib() - memory

    def decode_all() -> np.ndarray:
        return np.concatenate([np.asarray(decode(group)) for group in groups])

    bits, seconds = timed(decode_all, options.repeats)
    errors = int(np.any(bits != b, axis=1).sum())
    return {
        "mcs": mcs.index,
        "k": mcs.k,
        "decoder": name,
        "num_iter": options.num_iter,
        "mbit_per_cpu_s": mcs.k * len(b) / seconds / 1e6,
        "bler": errors / len(b),
        "errors": errors,
        "blocks": len(b),
        "first_call_s": first_call,
        "memory_mib": memory,
    }


def bench_mcs(index: int, options: argparse.Namespace) -> list[Row]:
    """All decoders of one MCS; ``ratio`` is throughput over that of ``REFERENCE``."""
    mcs = get_mcs(index)
    point = operating_point(mcs, options.num_iter)
    start = time.process_time()
    blocks = list(_sampler(mcs).blocks(point, options.blocks, seed=2))
    chain_ms = (time.process_time() - start) / options.blocks * 1e3
    noise = tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))
    rows = []
    for name in options.decoders:
        row = bench(mcs, name, noise, options)
        rows.append({**row, "snr_db": point.snr_db, "chain_ms": chain_ms})
    speed = {row["decoder"]: row["mbit_per_cpu_s"] for row in rows}
    for row in rows:
        row["ratio"] = row["mbit_per_cpu_s"] / speed.get(REFERENCE, float("nan"))
        print(_format(row), flush=True)
    return rows


def thread_scaling(index: int, num_iter: int, num_blocks: int) -> float:
    """Wall-clock gain of the layered decoder with all threads over one."""
    mcs = get_mcs(index)
    point, decode = operating_point(mcs, num_iter), get_decoder("layered", mcs, num_iter)
    llr = np.concatenate([llr for _, llr in _sampler(mcs).blocks(point, num_blocks, seed=2)])
    num_threads, seconds = numba.get_num_threads(), {}
    try:
        for threads in (1, num_threads):
            numba.set_num_threads(threads)
            times = []
            for _ in range(9):
                start = time.perf_counter()
                decode(llr)
                times.append(time.perf_counter() - start)
            seconds[threads] = min(times)  # the run that other work disturbed least
    finally:
        numba.set_num_threads(num_threads)
    return seconds[1] / seconds[num_threads]


def _format(row: Row) -> str:
    return (
        f"{row['mcs']:>3} {row['k']:>5} {row['decoder']:<24} {row['num_iter']:>4} "
        f"{row['snr_db']:>6.1f} {row['mbit_per_cpu_s']:>9.3f} {row['ratio']:>7.1f} "
        f"{row['bler']:>8.4f} {row['blocks']:>6} {row['first_call_s']:>7.2f} "
        f"{row['memory_mib']:>7.0f}"
    )


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Options of the command."""
    installed = [name for name, contender in CONTENDERS.items() if contender.is_installed()]
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench link", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="four MCS, fewer blocks: about a minute")
    add("--mcs", type=int, nargs="+", help="rows of the MCS table; default all, or four if quick")
    add("--decoders", nargs="+", choices=installed, help="default: all installed (quick: most)")
    add("--num-iter", type=int, default=20)
    add("--blocks", type=int, help="blocks per MCS (default 1024, quick 256)")
    add("--repeats", type=int, help="timed runs of which the median counts")
    add("--csv", type=Path)
    add("--figure", type=Path, help="PNG: CPU time of a block by stage")
    options = parser.parse_args(argv)
    options.mcs = options.mcs or (QUICK_MCS if options.quick else [m.index for m in MCS_TABLE])
    wanted = [n for n in installed if not (options.quick and n in NOT_QUICK)]
    options.decoders = options.decoders or wanted
    options.blocks = options.blocks or (256 if options.quick else 1024)
    options.repeats = options.repeats or (5 if options.quick else 9)
    return options


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it as CSV where asked; returns the exit status."""
    options = parse(argv)
    print(f"{platform.processor() or platform.machine()}, {numba.get_num_threads()} threads")
    print("mcs     k decoder                  iter Es/N0  Mbit/CPU-s  ratio     BLER blocks "
          "1st s  MiB")  # fmt: skip
    rows = [row for index in options.mcs for row in bench_mcs(index, options)]
    scaling = thread_scaling(options.mcs[0], options.num_iter, 256)
    print(f"layered, {numba.get_num_threads()} threads against one, wall clock: {scaling:.2f}x")
    if options.csv:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    if options.figure:
        draw_stages(rows, options.figure)
    return 0
