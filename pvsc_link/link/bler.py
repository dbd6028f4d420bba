"""Block error rate of one MCS at one channel point, measured once to a stated confidence."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from pvsc_link.link.bler_cache import BlerCache, Run
from pvsc_link.link.block_sampler import get_block_sampler
from pvsc_link.link.channels import CHANNELS
from pvsc_link.link.equalizers import EQUALIZERS
from pvsc_link.link.ldpc import DECODERS, get_decoder
from pvsc_link.link.mcs import get_mcs
from pvsc_link.types import ChannelPoint, InputError

#: Raise it whenever a change to the link or a decoder may move a block error rate.
ALGORITHM_VERSION = 1
#: Decoders that agree bit by bit share their measurements.
_SAME_BITS = {"layered-xla": "layered"}
#: Blocks of a run: enough to meet 100 errors at once where all fail, and seconds at most.
_SMALLEST_RUN, _LARGEST_RUN = 128, 8192
_Z_95 = 1.959964


@dataclass(frozen=True)
class BlerEstimate:
    """Block errors counted, and the 95 % confidence interval of the block error rate."""

    errors: int
    blocks: int
    bler: float
    low: float
    high: float


def wilson_interval(errors: float, blocks: float) -> tuple[float, float]:
    """95 % interval of a probability from ``errors`` in ``blocks`` trials (Wilson's score)."""
    z2 = _Z_95**2
    p, scale = errors / blocks, 1.0 / (1.0 + z2 / blocks)
    centre = (p + z2 / (2 * blocks)) * scale
    half = scale * math.sqrt(z2 * p * (1 - p) / blocks + (z2 / (2 * blocks)) ** 2)
    # At 0 and at 1 the bound is the estimate itself; rounding must not put it on the wrong side.
    return max(min(centre - half, p), 0.0), min(max(centre + half, p), 1.0)


def _require_names(channel: str, equalizer: str, decoder: str) -> None:
    tables: tuple[tuple[str, str, Any], ...] = (
        ("channel", channel, CHANNELS),
        ("equalizer", equalizer, EQUALIZERS),
        ("decoder", decoder, DECODERS),
    )
    for what, name, table in tables:
        if name not in table:
            remedy = "Name one of these."
            raise InputError(what, found=name, allowed=", ".join(sorted(table)), remedy=remedy)


def condition_of(
    mcs_index: int,
    point: ChannelPoint,
    *,
    equalizer: str,
    csi_aware: bool,
    decoder: str,
    num_iter: int,
) -> dict[str, Any]:
    """All that a block error rate depends on, as flat JSON: the key of the cache.

    What makes no difference is levelled out: AWGN has no coherence and no CSI error, and an
    error of -inf dB is perfect CSI. Raises ``InputError`` for an unknown name or MCS.
    """
    _require_names(point.channel, equalizer, decoder)
    mcs, nmse_db, fades = get_mcs(mcs_index), point.csi_nmse_db, point.channel != "awgn"
    perfect = nmse_db is None or nmse_db == -math.inf
    return {
        "version": ALGORITHM_VERSION,
        "mcs": mcs.index,
        "n": mcs.n,
        "channel": point.channel,
        "snr_db": float(point.snr_db),
        "csi_nmse_db": None if perfect or nmse_db is None else float(nmse_db),
        "coherence_length": point.coherence_length if fades else None,
        "equalizer": equalizer,
        "csi_aware": bool(csi_aware),
        "decoder": _SAME_BITS.get(decoder, decoder),
        "num_iter": int(num_iter),
    }


def estimate_of(condition: dict[str, Any], runs: list[Run]) -> BlerEstimate:
    """Sum of the runs; the interval counts blocks that share one fade as a single trial."""
    errors, blocks = sum(run.errors for run in runs), sum(run.blocks for run in runs)
    if not blocks:
        return BlerEstimate(0, 0, math.nan, 0.0, 1.0)
    symbols = condition["n"] // get_mcs(condition["mcs"]).num_bits_per_symbol
    share = min(1.0, symbols / (condition["coherence_length"] or 1))
    low, high = wilson_interval(errors * share, blocks * share)
    return BlerEstimate(errors, blocks, errors / blocks, low, high)


def _run_seed(condition: dict[str, Any], seed: int, index: int) -> int:
    text = json.dumps([condition, seed, index], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _run_size(total: BlerEstimate, target_errors: int, max_blocks: int) -> int:
    """Blocks of the next run: what the errors still missing should take, judged by those seen."""
    size = 3 * total.blocks
    if total.errors:
        missing = target_errors - total.errors
        expected = math.ceil(1.1 * missing * total.blocks / total.errors)
        size = min(expected, 3 * total.blocks)  # few errors say little about how rare they are
    size = min(max(size, _SMALLEST_RUN), _LARGEST_RUN)
    return min(size, max_blocks - total.blocks)


def _count_errors(
    mcs_index: int,
    point: ChannelPoint,
    num_blocks: int,
    seed: int,
    *,
    equalizer: str,
    csi_aware: bool,
    decoder: str,
    num_iter: int,
) -> int:
    mcs = get_mcs(mcs_index)
    sampler = get_block_sampler(mcs, point.channel, equalizer=equalizer, csi_aware=csi_aware)
    decode = get_decoder(decoder, mcs, num_iter)
    return sampler.count_block_errors(point, num_blocks, seed, decode)


def measure_bler(
    mcs_index: int,
    point: ChannelPoint,
    *,
    equalizer: str = "lmmse",
    csi_aware: bool = True,
    decoder: str = "layered",
    num_iter: int = 20,
    target_errors: int = 100,
    max_blocks: int = 20_000,
    seed: int = 0,
    cache: BlerCache | None = None,
) -> BlerEstimate:
    """Block error rate from the cache, topped up until ``target_errors`` or ``max_blocks``.

    Runs are numbered and seeded from condition, ``seed`` and number: another machine repeats
    them exactly, and caches filled with different ``seed`` add up when merged.

    Parameters: link options as in ``BitLink``; ``cache`` : default, that of the user.
    Raises ``InputError`` for an unknown MCS, channel, equalizer or decoder, and for bounds below 1.
    """
    if target_errors < 1 or max_blocks < 1:
        raise InputError(
            "bounds of a BLER measurement",
            found=f"target_errors={target_errors}, max_blocks={max_blocks}",
            allowed="integers from 1",
            remedy="100 errors in at most 20000 blocks resolves a BLER of 1e-2 to about 20 %.",
        )
    options: dict[str, Any] = {"equalizer": equalizer, "csi_aware": csi_aware}
    options |= {"decoder": decoder, "num_iter": num_iter}
    condition = condition_of(mcs_index, point, **options)
    cache = cache or BlerCache()
    runs = {run.seed: run for run in cache.runs(condition)}
    index = 0
    while True:
        total = estimate_of(condition, list(runs.values()))
        if total.errors >= target_errors or total.blocks >= max_blocks:
            return total
        run_seed = _run_seed(condition, seed, index)
        index += 1
        if run_seed not in runs:
            size = _run_size(total, target_errors, max_blocks)
            errors = _count_errors(mcs_index, point, size, run_seed, **options)
            runs[run_seed] = Run(run_seed, errors, size)
            cache.add(condition, runs[run_seed])
