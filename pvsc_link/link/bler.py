"""Many full blocks through the link, fast: what a block error rate is measured with.

The same blocks, fading, noise and LLRs as ``BitLink`` draws for a seed, without what sending a
payload needs (the shortened last block, CRC verdicts). Encoding leaves the compiled graph, so
that one compilation serves all MCS of a modulation; batches run on as many threads as numba has.

Block error counts on disk, one immutable file per run, shared by every scenario.

``ROOT/bler/<condition>/<seed>.json`` holds one run: so many errors in so many blocks under one
condition with one seed. Files are written whole and never changed, so two processes may fill one
cache, and merging two caches is copying files: runs with other seeds add up, the same run counts
once. A file that is not exactly what this package wrote for that condition is never believed.

Block error rate of one MCS at one channel point, measured once to a stated confidence.
"""

import functools
import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import tensorflow as tf

from pvsc_link.intervals import wilson_interval
from pvsc_link.link.channel import PointTensors, point_tensors
from pvsc_link.link.coded_link import BATCH_SIZE, get_air
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.equalizers import EQUALIZERS
from pvsc_link.link.flat import CHANNELS
from pvsc_link.link.ldpc.code import get_ldpc_code
from pvsc_link.link.ldpc.decoder import DECODERS, Decoder, get_decoder
from pvsc_link.link.ldpc.encoder import QuasiCyclicEncoder
from pvsc_link.link.mcs import Mcs, get_mcs
from pvsc_link.link.transport import NUM_CRC_BITS, BlockCrc
from pvsc_link.storage import cache_directory
from pvsc_link.types import ChannelPoint, InputError


class BlockSampler:
    """Full blocks of one MCS over a flat-fading channel.

    Parameters: ``mcs`` : Mcs; ``channel``, ``equalizer``, ``csi_aware`` : as in ``BitLink``.
    """

    def __init__(self, mcs: Mcs, channel: str, *, equalizer: str, csi_aware: bool):
        self.mcs = mcs
        self.code = get_ldpc_code(mcs.k, mcs.n, mcs.num_bits_per_symbol)
        self._air = get_air(
            mcs.n, mcs.num_bits_per_symbol, channel, EQUALIZERS[equalizer], csi_aware
        )
        self._encode = QuasiCyclicEncoder(self.code.encoder)
        self._order = self.code.transmit_order(0)
        self._crc = BlockCrc()

    def blocks(
        self, point: ChannelPoint, num_blocks: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches of the blocks that ``BitLink.measure_block_errors`` sends with this seed.

        Output: pairs ``b`` : [batch, k], uint8 and ``llr`` : [batch, mother_n], float32.
        Raises ``InputError`` for a bad point.
        """
        return (send() for send in self._batches(point, num_blocks, seed))

    def count_block_errors(
        self, point: ChannelPoint, num_blocks: int, seed: int, decoder: Decoder
    ) -> int:
        """Blocks in error, of ``num_blocks``: those that differ in a payload bit."""

        def count(send: Callable[[], tuple[np.ndarray, np.ndarray]]) -> int:
            b, llr = send()
            wrong = np.asarray(decoder(llr)) != b
            return int(np.any(wrong[:, : self.mcs.k - NUM_CRC_BITS], axis=1).sum())

        with ThreadPoolExecutor(numba.get_num_threads()) as pool:
            return sum(pool.map(count, self._batches(point, num_blocks, seed)))

    def _batches(self, point: ChannelPoint, num_blocks: int, seed: int) -> Iterator[Any]:
        arguments = (point_tensors(point), seed_tensor(seed))
        for first in range(0, num_blocks, BATCH_SIZE):
            size = min(BATCH_SIZE, num_blocks - first)
            yield functools.partial(self._send, first, size, seed, arguments)

    def _send(
        self, first: int, size: int, seed: int, arguments: tuple[PointTensors, tf.Tensor]
    ) -> tuple[np.ndarray, np.ndarray]:
        payload = np.zeros((BATCH_SIZE, self.mcs.k - NUM_CRC_BITS), np.uint8)
        generator = np.random.default_rng([seed, self.mcs.index, first])
        payload[:size] = generator.integers(0, 2, (size, payload.shape[1]), dtype=np.uint8)
        b = self._crc.attach(payload)
        c = self._encode(b)
        c = c[:, self._order] if self.code.is_repeated else c
        index = np.arange(first, first + BATCH_SIZE, dtype=np.int32)
        llr = self._air(c, index, *arguments)
        return b[:size], self.code.combine(llr).numpy()[:size]


@functools.lru_cache(maxsize=64)
def get_block_sampler(mcs: Mcs, channel: str, *, equalizer: str, csi_aware: bool) -> BlockSampler:
    """The sampler of these parameters, built once per process."""
    return BlockSampler(mcs, channel, equalizer=equalizer, csi_aware=csi_aware)


_FORMAT = "pvsc_link bler run 1"


class Run(NamedTuple):
    """One measurement: ``errors`` of ``blocks`` blocks, drawn with ``seed``."""

    seed: int
    errors: int
    blocks: int


class UntrustedRecordWarning(UserWarning):
    """A file in the cache is corrupt or foreign; what it says is measured again."""


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


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
        record = {"format": _FORMAT, "condition": dict(condition), **run._asdict()}
        _write_whole(path, json.dumps({**record, "checksum": _digest(record)}, sort_keys=True))

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
        return self.root / _digest(condition)[:32]

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
            whole = record["format"] == _FORMAT and checksum == _digest(record)
            if whole and self._path(record["condition"], run.seed) == path and _is_count(run):
                return record["condition"], run
            reason = "its content does not match its checksum or its name"
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            reason = repr(error)
        message = f"{path} is not a block error record of this cache ({reason}); measuring again."
        warnings.warn(message, UntrustedRecordWarning, stacklevel=2)
        return None


def _is_count(run: Run) -> bool:
    return all(type(value) is int for value in run) and 0 <= run.errors <= run.blocks > 0


def _write_whole(path: Path, text: str) -> None:
    """Write beside and rename: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


#: Raise it whenever a change to the link or a decoder may move a block error rate.
ALGORITHM_VERSION = 1
#: Decoders that agree bit by bit share their measurements.
_SAME_BITS = {"layered-xla": "layered"}
#: Blocks of a run: enough to meet 100 errors at once where all fail, and seconds at most.
_SMALLEST_RUN, _LARGEST_RUN = 128, 8192


@dataclass(frozen=True)
class BlerEstimate:
    """Block errors counted, and the 95 % confidence interval of the block error rate."""

    errors: int
    blocks: int
    bler: float
    low: float
    high: float


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
    _, low, high = wilson_interval(errors * share, blocks * share)
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
