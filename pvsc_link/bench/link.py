"""``python -m pvsc_link.bench link``: LDPC decoders side by side, on the same noise, in one run.

Throughput is information bits per CPU-second (all threads of the process added up), so that
ratios between decoders hold on a machine that does other work as well. The SNR of each MCS is
the lowest, in steps of 0.1 dB, at which the layered decoder's block error rate is at most 1e-2.
Every decoder is called as LLRs in, information bits out; the time of encoding, channel and LLRs
stands beside it. The last line compares the whole link on arrays (layered decoder) with the whole
link inside a ``tf.function`` (layered-xla decoder).
"""

import argparse
import importlib.util
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numba
import numpy as np
import tensorflow as tf

from pvsc_link.bench.provenance import write_rows
from pvsc_link.link import (
    MCS_TABLE,
    ChannelFunction,
    CodedLink,
    Decoder,
    LayeredDecoder,
    LdpcCode,
    Mcs,
    find_channel,
    get_coded_link,
    get_decoder,
    get_mcs,
    layered_xla,
    sionna_decoder,
)
from pvsc_link.types import ChannelPoint

#: Groups at which Sionna's decoder is about as fast as it gets on a CPU.
_SIONNA_BATCH = 32


@dataclass(frozen=True)
class Contender:
    """A decoder, the batch size at which it is fastest, and the most blocks it is timed on."""

    build: Callable[[LdpcCode, int], Decoder]
    batch_size: int
    max_blocks: int = 100_000
    package: str = "sionna"

    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


def _sionna(compiled: dict[str, Any] | None, cn_update: str = "boxplus-phi") -> Callable:
    def build(code: LdpcCode, num_iter: int) -> Decoder:
        decode = sionna_decoder(code, num_iter, cn_update)
        call = decode if compiled is None else tf.function(decode, **compiled)
        return lambda llr: call(tf.constant(llr))

    return build


def _py3gpp(code: LdpcCode, num_iter: int) -> Decoder:
    """py3gpp's ``nrLDPCDecode`` behind our rate recovery; its LLRs are log p(0)/p(1)."""
    from py3gpp import nrLDPCDecode

    mother = code.mother
    first = 2 * mother.z  # it adds the two punctured columns itself
    received = code.emitted - first
    fillers = np.arange(code.k, mother.num_info_columns * mother.z) - first

    def decode(llr: np.ndarray) -> np.ndarray:
        heard = np.zeros((mother.num_columns * mother.z - first, len(llr)))
        heard[received] = -llr.T
        heard[fillers] = np.inf
        bits, _ = nrLDPCDecode(heard, mother.base_graph, num_iter)
        return np.asarray(bits)[: code.k].T

    return decode


#: Name in the table: decoder. Sionna's graph and eager modes give the bits of its XLA mode.
CONTENDERS: dict[str, Contender] = {
    "sionna-eager": Contender(_sionna(None), _SIONNA_BATCH, max_blocks=64),
    "sionna-graph": Contender(_sionna({}), _SIONNA_BATCH, max_blocks=128),
    "sionna-xla": Contender(_sionna({"jit_compile": True}), _SIONNA_BATCH),
    "sionna-xla-offset-minsum": Contender(
        _sionna({"jit_compile": True}, "offset-minsum"), _SIONNA_BATCH
    ),
    "layered": Contender(LayeredDecoder, 256),
    "layered-xla": Contender(layered_xla, 64),
    "py3gpp": Contender(_py3gpp, 1, max_blocks=4, package="py3gpp"),
}
#: Left out of the quick table unless asked for: each compiles or decodes for tens of seconds.
NOT_QUICK = ("sionna-xla-offset-minsum", "py3gpp")


_SHOWN = ("sionna-xla", "layered-xla", "layered")


def draw_stages(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a PNG of stacked bars: CPU time per block, one bar per MCS and decoder.

    Input: rows of this benchmark with ``mcs``, ``k``, ``decoder``, ``mbit_per_cpu_s``,
    ``chain_ms``.
    """
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["decoder"] in _SHOWN]
    shown.sort(key=lambda row: (row["mcs"], _SHOWN.index(row["decoder"])))
    labels = [f"MCS {row['mcs']}  {row['decoder']}" for row in shown]
    chain = [row["chain_ms"] for row in shown]
    decode = [row["k"] / row["mbit_per_cpu_s"] / 1e3 for row in shown]
    figure = Figure(figsize=(8, 0.28 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(labels, chain, color="0.7", label="encode, channel, LLRs")
    axes.barh(labels, decode, left=chain, color="tab:blue", label="decode")
    for place, (before, own) in enumerate(zip(chain, decode, strict=True)):
        axes.text(before + own, place, f" {own:.2f}", va="center", fontsize="x-small")
    axes.invert_yaxis()
    axes.set(xlabel="CPU time per block of 6144 coded bits in ms (label: decoding)")
    axes.tick_params(axis="y", labelsize="small")
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


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
    link = _link(mcs, num_iter)

    def fails(tenths: int) -> bool:
        point = ChannelPoint("awgn", tenths / 10)
        return link.count_block_errors(point, num_blocks, 1) > TARGET_BLER * num_blocks

    low, high = -120, 300  # tenths of a dB: at the first all blocks fail, at the last none
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fails(middle) else (low, middle)
    return ChannelPoint("awgn", high / 10)


def _link(mcs: Mcs, num_iter: int) -> CodedLink:
    return get_coded_link(mcs.index, "awgn", num_iter=num_iter)


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
    decode = contender.build(_link(mcs, options.num_iter).code, options.num_iter)
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
    blocks = list(_link(mcs, options.num_iter).full_blocks(point, options.blocks, seed=2))
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
    link, point = _link(mcs, num_iter), operating_point(mcs, num_iter)
    decode = get_decoder("layered", link.code, num_iter)
    llr = np.concatenate([llr for _, llr in link.full_blocks(point, num_blocks, seed=2)])
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


def graph_speed(index: int, num_iter: int, num_blocks: int) -> tuple[float, float]:
    """Blocks per CPU-second of the whole link: of arrays, and of tensors inside a graph.

    Both send the same bits at the operating point; the first call, which compiles, is not counted.
    """
    mcs = get_mcs(index)
    link, point = _link(mcs, num_iter), operating_point(mcs, num_iter)
    num_bits = num_blocks * link.block_payload
    bits = np.random.default_rng(4).integers(0, 2, num_bits, dtype=np.uint8)
    call: dict[str, Any] = {"snr_db": point.snr_db, "seed": 2}
    graph = tf.function(lambda rows: link(rows, **call), autograph=False)
    speeds = []
    for work in (lambda: link(bits, **call)[0], lambda: graph(tf.constant(bits[None]))[0].numpy()):
        work()
        speeds.append(num_blocks / timed(work, 5)[1])
    return speeds[0], speeds[1]


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
    add("--ofdm-only", action="store_true", help="time OFDM channels alone")
    add("--csv", type=Path)
    add("--figure", type=Path, help="PNG: CPU time of a block by stage")
    options = parser.parse_args(argv)
    options.mcs = options.mcs or (QUICK_MCS if options.quick else [m.index for m in MCS_TABLE])
    wanted = [n for n in installed if not (options.quick and n in NOT_QUICK)]
    options.decoders = options.decoders or wanted
    options.blocks = options.blocks or (256 if options.quick else 1024)
    options.repeats = options.repeats or (5 if options.quick else 9)
    return options


OFDM_MODELS, OFDM_SYMBOLS, OFDM_POINTS = ("tdl_c", "cdl_c"), 20_000, 8


def ofdm_speed(model: str, num_rx: int, estimation: str) -> tuple[float, int]:
    """CPU-seconds of 20,000 analog symbols over OFDM in graph mode, and the number of traces.

    Every call has another SNR, speed and delay spread; the median is of all calls but the first.
    """
    kind = find_channel("ofdm")
    channel = ChannelFunction(kind, "lmmse", csi_aware=True)
    symbols = np.exp(2j * np.pi * np.random.default_rng(0).random(OFDM_SYMBOLS))
    fixed = {"channel_model": model, "num_rx": num_rx, "channel_estimation": estimation}
    times = []
    for index in range(OFDM_POINTS):
        moving = {"speed_kmh": 3.0 + index, "delay_spread_ns": 50.0 + index}
        point, start = kind.point(10.0 + index, fixed | moving), time.process_time()
        channel(symbols.astype(np.complex64), point, index)
        times.append(time.process_time() - start)
    return float(np.median(times[1:])), channel.trace_count


def print_ofdm() -> None:
    """CPU time and traces of OFDM by model, estimator and receive antennas."""
    for model, estimation, num_rx in product(OFDM_MODELS, ("ls_linear", "lmmse"), (1, 2)):
        seconds, traces = ofdm_speed(model, num_rx, estimation)
        print(
            f"OFDM {model} {estimation:<9} {num_rx} rx: {seconds:.3f} CPU-s per {OFDM_SYMBOLS} "
            f"symbols, {traces} traces for {OFDM_POINTS} points",
            flush=True,
        )


def main(argv: Sequence[str]) -> int:
    """Print the table, and write it as CSV where asked; returns the exit status."""
    options = parse(argv)
    if options.ofdm_only:
        print_ofdm()
        return 0
    print(f"{platform.processor() or platform.machine()}, {numba.get_num_threads()} threads")
    print("mcs     k decoder                  iter Es/N0  Mbit/CPU-s  ratio     BLER blocks "
          "1st s  MiB")  # fmt: skip
    rows = [row for index in options.mcs for row in bench_mcs(index, options)]
    scaling = thread_scaling(options.mcs[0], options.num_iter, 256)
    print(f"layered, {numba.get_num_threads()} threads against one, wall clock: {scaling:.2f}x")
    of_arrays, in_graph = graph_speed(options.mcs[0], options.num_iter, 64)
    print(
        f"whole link, MCS {options.mcs[0]}, blocks per CPU-second: {of_arrays:.0f} of arrays, "
        f"{in_graph:.0f} in a graph, ratio {in_graph / of_arrays:.2f}"
    )
    print_ofdm()
    if options.csv:
        write_rows(options.csv, [{name: row[name] for name in _COLUMNS} for row in rows])
    if options.figure:
        draw_stages(rows, options.figure)
    return 0
