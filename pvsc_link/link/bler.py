"""Block error rate of one MCS at one channel point, measured once and kept.

A measurement adds runs of random blocks of one length over the link
(``CodedLink.count_block_errors``) until it has met enough errors or sent enough blocks. The file
``bler/<condition>/<seed>.json`` in the cache folder holds one run: so many errors in so many blocks
under one condition with one seed. Files are written whole and never changed, so two processes may
fill one cache, and merging two caches is copying files: runs with different seeds add up, the same
run counts once. A file that is not exactly what this module wrote for that condition is ignored
with a warning.
"""

import json
import math
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pvsc_link.intervals import wilson_interval
from pvsc_link.link.channel import as_snr_db
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.link.mcs import NUM_CRC_BITS, Mcs, get_mcs
from pvsc_link.link.registry import DECODERS, EQUALIZERS, active_impairments, find, find_channel
from pvsc_link.link.transport_options import DEFAULT_TRANSPORT, Transport, require_transport
from pvsc_link.storage import cache_directory, json_digest, write_atomically
from pvsc_link.types import ChannelPoint, InputError

_FORMAT = "pvsc_link bler run 1"


class Run(NamedTuple):
    """One measurement: ``errors`` of ``blocks`` blocks, drawn with ``seed``."""

    seed: int
    errors: int
    blocks: int


class UntrustedRecordWarning(UserWarning):
    """A file in the cache is corrupt or foreign; what it says is measured again."""


class BlerCache:
    """Runs by condition.

    Parameters: ``root`` : folder of the cache, made when the first run is written.
    A condition is a flat dict of JSON values; equal dicts are the same condition.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = (Path(root) if root is not None else cache_directory()) / "bler"

    def runs(self, condition: Mapping[str, Any]) -> list[Run]:
        """All runs of a condition; a file that cannot be trusted is left out with a warning."""
        return [run for _, stored, run in self._read(self._folder(condition)) if stored]

    def add(self, condition: Mapping[str, Any], run: Run) -> None:
        """Store one run; of two with one seed, the one with more blocks contains the other."""
        path = self._path(condition, run.seed)
        present = self._believe(path) if path.exists() else None
        if present and present[1].blocks >= run.blocks:
            return
        record: dict[str, Any] = {"format": _FORMAT, "condition": dict(condition), **run._asdict()}
        text = json.dumps({**record, "checksum": json_digest(record)}, sort_keys=True)
        try:
            write_atomically(path, text)
        except OSError as error:  # a full or read-only disk costs time later, but not this result
            warnings.warn(f"block error rate not kept in {path.parent}: {error}", stacklevel=2)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[Run]]]:
        """Every condition with its runs."""
        for folder in sorted(self.root.glob("*")):
            found = list(self._read(folder))
            if found:
                yield found[0][1], [run for _, _, run in found]

    def merge(self, other: "BlerCache") -> int:
        """Take over the other cache's runs. Output: number of runs that were new here."""
        num_new = 0
        for condition, runs in other:
            here = {run.seed: run.blocks for run in self.runs(condition)}
            for run in runs:
                num_new += run.blocks > here.get(run.seed, 0)
                self.add(condition, run)
        return num_new

    def _folder(self, condition: Mapping[str, Any]) -> Path:
        return self.root / json_digest(condition)[:32]

    def _path(self, condition: Mapping[str, Any], seed: int) -> Path:
        return self._folder(condition) / f"{seed:016x}.json"

    def _read(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any], Run]]:
        for path in sorted(folder.glob("*.json")):
            record = self._believe(path)
            if record:
                yield path, *record

    def _believe(self, path: Path) -> tuple[dict[str, Any], Run] | None:
        """Condition and run of a file, or None (and a warning) unless all of it holds together."""
        try:
            record = json.loads(path.read_text())
            checksum = record.pop("checksum")
            run = Run(*(record[name] for name in Run._fields))
            whole = record["format"] == _FORMAT and checksum == json_digest(record)
            if whole and self._path(record["condition"], run.seed) == path and _is_count(run):
                return record["condition"], run
            reason = "its content does not match its checksum or its name"
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            reason = repr(error)
        message = f"{path} is not a block error record of this cache ({reason}); measuring again."
        warnings.warn(message, UntrustedRecordWarning, stacklevel=2)
        return None


def _is_count(run: Run) -> bool:
    return all(type(value) is int for value in run) and 0 <= run.errors <= run.blocks > 0


#: Part of every condition; it grows with each change that may move a block error rate.
ALGORITHM_VERSION = 1
#: Decoders that give the same bits share their measurements.
_SAME_BITS = {"layered-xla": "layered"}
#: Blocks of a run: enough for 100 errors where all blocks fail, and seconds of work at most.
_SMALLEST_RUN, _LARGEST_RUN = 128, 8192


@dataclass(frozen=True)
class BlerEstimate:
    """Block errors counted, and the 95 % confidence interval of the block error rate."""

    errors: int
    blocks: int
    bler: float
    low: float
    high: float


def condition_of(
    mcs_index: int,
    point: ChannelPoint,
    *,
    equalizer: str,
    csi_aware: bool,
    decoder: str,
    num_iter: int,
    transport: Transport = DEFAULT_TRANSPORT,
    n: int | None = None,
) -> dict[str, Any]:
    """All that a block error rate depends on, as flat JSON: the key of the cache.

    What makes no difference has one value: conditions that a channel lacks are None, and so is
    perfect channel knowledge; impairments that are off are left out, and so is MCS table 1. Raises
    ``InputError`` for an unknown name or MCS, or a bad value.
    """
    kind = find_channel(point.channel)
    find("equalizer", equalizer, EQUALIZERS)
    find("decoder", decoder, DECODERS)
    require_transport(transport)
    as_snr_db(point.snr_db)  # raises for what is no number
    mcs = get_mcs(mcs_index, transport.mcs_table, transport.block_length)
    return {
        "version": ALGORITHM_VERSION,
        "mcs": mcs.index,
        **({"mcs_table": mcs.table} if mcs.table != 1 else {}),
        "n": n or mcs.n,
        "channel": point.channel,
        "snr_db": float(point.snr_db),
        "csi_nmse_db": None,
        "coherence_length": None,
        **kind.condition_of(point).model_dump(mode="json"),
        **active_impairments(point.condition),
        "equalizer": equalizer,
        "csi_aware": bool(csi_aware),
        "decoder": _SAME_BITS.get(decoder, decoder),
        "num_iter": int(num_iter),
    }


def estimate_of(condition: dict[str, Any], runs: list[Run]) -> BlerEstimate:
    """Sum of the runs; the interval counts blocks that share a fade or a burst as one trial."""
    errors, blocks = sum(run.errors for run in runs), sum(run.blocks for run in runs)
    if not blocks:
        return BlerEstimate(0, 0, math.nan, 0.0, 1.0)
    mcs = get_mcs(condition["mcs"], condition.get("mcs_table", 1))
    symbols = condition["n"] // mcs.num_bits_per_symbol
    together = max(condition["coherence_length"] or 1, condition.get("erasure_burst") or 1)
    share = min(1.0, symbols / together)
    _, low, high = wilson_interval(errors * share, blocks * share)
    return BlerEstimate(errors, blocks, errors / blocks, low, high)


def _run_seed(condition: dict[str, Any], seed: int, index: int) -> int:
    return int(json_digest([condition, seed, index])[:16], 16)


def _run_size(total: BlerEstimate, target_errors: int, max_blocks: int) -> int:
    """Blocks of the next run: as many as the missing errors should take at the rate seen so far."""
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
    n: int | None,
    **options: Any,
) -> int:
    link = get_coded_link(mcs_index, point.channel, **options)
    return link.count_block_errors(point, num_blocks, seed, n)


def measure_bler(
    mcs_index: int,
    point: ChannelPoint,
    *,
    equalizer: str = "lmmse",
    csi_aware: bool = True,
    decoder: str = "layered",
    num_iter: int = 20,
    transport: Transport = DEFAULT_TRANSPORT,
    target_errors: int = 100,
    max_blocks: int = 20_000,
    seed: int = 0,
    cache: BlerCache | None = None,
    n: int | None = None,
) -> BlerEstimate:
    """Block error rate from the cache, with further runs until ``target_errors`` or ``max_blocks``.

    The seed of a run follows from condition, ``seed`` and the number of the run, so another machine
    repeats it exactly, and caches filled with different ``seed`` add up when merged.

    Parameters: link options as in ``CodedLink``; ``cache`` : None for that of the user; ``n`` :
    coded bits of a block at the rate of the MCS, None for those of a full block.
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
    options |= {"decoder": decoder, "num_iter": num_iter, "transport": transport}
    condition = condition_of(mcs_index, point, **options, n=n)
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
            errors = _count_errors(mcs_index, point, size, run_seed, n=n, **options)
            runs[run_seed] = Run(run_seed, errors, size)
            cache.add(condition, runs[run_seed])


#: Blocks of fewer coded bits than this are not measured: they are taken to fail like the shortest.
SHORTEST_MEASURED = 192


def measured_lengths(mcs: Mcs) -> list[int]:
    """Coded bits of the blocks whose error rate is measured, ascending.

    They are n of the MCS, n / 2, n / 4, ... down to ``SHORTEST_MEASURED``, in whole symbols, as far
    as there is a payload beside the CRC.
    """
    lengths, n = [mcs.n], mcs.n
    while n // 2 >= SHORTEST_MEASURED:
        n //= 2
        whole = n - n % mcs.num_bits_per_symbol
        if replace(mcs, n=whole).k > NUM_CRC_BITS:
            lengths.insert(0, whole)
    return lengths


def bler_of_length(
    mcs_index: int,
    point: ChannelPoint,
    n: int,
    *,
    transport: Transport = DEFAULT_TRANSPORT,
    **options: Any,
) -> float:
    """Block error rate of blocks of ``n`` coded bits, read between those of measured lengths.

    log(BLER) is linear in log(n) between two lengths of ``measured_lengths``; where one of the two
    has no error at all, BLER itself is. Beyond the shortest and the longest nothing changes.
    Only the lengths that are needed are measured (``measure_bler``, which has the parameters).
    """
    lengths = measured_lengths(get_mcs(mcs_index, transport.mcs_table, transport.block_length))

    def measured(length: int) -> float:
        return measure_bler(mcs_index, point, transport=transport, n=length, **options).bler

    if n <= lengths[0] or n >= lengths[-1]:
        return measured(lengths[0] if n <= lengths[0] else lengths[-1])
    above = bisect_left(lengths, n)
    if lengths[above] == n:
        return measured(n)
    low, high = lengths[above - 1 : above + 1]
    share = math.log(n / low) / math.log(high / low)
    ends = measured(low), measured(high)
    if not all(ends):
        return (1.0 - share) * ends[0] + share * ends[1]
    return ends[0] ** (1.0 - share) * ends[1] ** share
