"""``seed_means.csv``: every point averaged over its seeds, with confidence intervals."""

from collections.abc import Iterator

import pandas as pd

from pvsc_link.metrics.statistics import Interval, mean_interval, wilson_interval

#: What all seeds of a point share.
KEYS = (
    "scheme variant clip gop rate channel snr_db csi_nmse_db coherence_length equalizer csi_aware "
    "mcs_policy decoder num_iter status"
).split()
#: Columns that are averaged: Student's t interval over seeds, 95 %.
MEANS = ("cbr", "psnr_db", "lpips", "dists")
_COUNTS = ("num_frames", "frames_lost", "num_blocks", "num_block_errors")
_INTERVALS = [
    f"{name}{end}" for name in (*MEANS, "block_error_rate") for end in ("", "_low", "_high")
]
SEED_MEANS_COLUMNS = [*KEYS, "num_seeds", *_INTERVALS, *_COUNTS]


def seed_means(points: pd.DataFrame) -> pd.DataFrame:
    """One row per point without its seed; empty where no point has met two seeds.

    Input: ``points`` as ``points_table`` gives them. Output: ``SEED_MEANS_COLUMNS``; a column
    ``x`` has its interval in ``x_low`` and ``x_high``, NaN for a single seed. ``block_error_rate``
    counts the blocks that were sent, with Wilson's interval. Seeds of different ``status`` are
    averaged apart: an outage is no quality.
    """
    sent = points[points["cbr"].notna()]
    groups = sent.groupby(KEYS, dropna=False, sort=False)
    if sent.empty or groups.size().max() < 2:
        return pd.DataFrame(columns=SEED_MEANS_COLUMNS)
    rows = [
        dict(zip(KEYS, key, strict=True)) | dict(_of_seeds(of_seeds)) for key, of_seeds in groups
    ]
    return pd.DataFrame(rows, columns=SEED_MEANS_COLUMNS)


def _of_seeds(rows: pd.DataFrame) -> Iterator[tuple[str, float]]:
    yield "num_seeds", len(rows)
    for name in MEANS:
        values = rows[name].astype(float).dropna().to_list()
        if values:
            yield from _columns(name, mean_interval(values), known=len(values) > 1)
    for name in _COUNTS:
        yield name, int(rows[name].sum())
    num_blocks = int(rows["num_blocks"].sum())
    if num_blocks:
        interval = wilson_interval(int(rows["num_block_errors"].sum()), num_blocks)
        yield from _columns("block_error_rate", interval, known=True)


def _columns(name: str, interval: Interval, *, known: bool) -> Iterator[tuple[str, float]]:
    yield name, interval.estimate
    if known:
        yield f"{name}_low", interval.low
        yield f"{name}_high", interval.high
