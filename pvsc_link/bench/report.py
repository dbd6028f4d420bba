"""``python -m pvsc_link.bench report``: time and memory of the report of a large results table."""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from pvsc_link.bench.provenance import write_manifest, write_rows
from pvsc_link.metrics import METRICS
from pvsc_link.report import write_report
from pvsc_link.sweep import bd_table, points_table, seed_means, write_csv

_SCHEMES = {"vvenc": 1.3, "x265": 1.0, "x264": 0.8, "hm": 1.1, "vtm": 1.4}
_CHANNELS = [("awgn", None, None), *product(["rayleigh"], (-20.0, -10.0), (1, 16))]


def main(argv: Sequence[str]) -> int:
    """Make up a results table, report it, print seconds, CPU seconds, memory and page size.

    With ``--csv`` the figures are also written there, with their manifest.
    """
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench report")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_results(folder, options.rows)
        start, busy = time.perf_counter(), _cpu_seconds()
        report = write_report(folder, workers=options.workers)
        seconds, busy = time.perf_counter() - start, _cpu_seconds() - busy
        print(f"{options.rows} rows on {options.workers} workers: {seconds:.1f} s,", end=" ")
        print(f"{busy:.1f} CPU seconds, load of the machine {os.getloadavg()[0]:.1f}")
        print(f"{len(report.figures)} files of figures, {len(report.tables)} of tables")
        page_mb, peak = report.page.stat().st_size / 1e6, _peak_mib()
        print(f"page {page_mb:.1f} MB, memory {peak:.0f} MiB")
    if options.csv:
        row = {
            "rows": options.rows,
            "workers": options.workers,
            "wall_s": seconds,
            "cpu_s": busy,
            "resident_mib": peak,
            "page_mb": page_mb,
        }
        write_rows(options.csv, [row])
        write_manifest(options.csv, ["report", *argv])
    return 0


def _write_results(folder: Path, rows: int) -> None:
    """Rows of a plausible sweep: every scheme on every channel, at least four seeds, two clips.

    Beyond 10,000 rows there are up to 20 seeds, and then as many clips as needed.
    """
    num_seeds = min(max(4, -(-rows // 2500)), 20)
    clips = [f"clip{n}" for n in range(max(2, -(-rows // (1250 * num_seeds))))]
    rates = (22, 27, 32, 37, 42)
    grid = product(clips, _CHANNELS, range(0, 20, 2), _SCHEMES, rates, range(num_seeds))
    table = points_table(
        _row(number, *place) for number, place in zip(range(rows), grid, strict=False)
    )
    write_csv(seed_means(table), folder / "seed_means.csv")
    write_csv(table, folder / "points.csv")
    write_csv(bd_table(table, "vtm", list(METRICS)), folder / "bd_cbr.csv")
    (folder / "manifest.json").write_text(json.dumps({"scenario": {"name": "made_up"}}))


def _row(number: int, clip: str, channel: tuple, snr: int, scheme: str, rate: int, seed: int):
    name, nmse_db, coherence = channel
    cbr = 2.0 ** (-rate / 6) / (1 + 0.2 * snr) * (1.5 if nmse_db else 1.0)
    gain = 42 - rate + 6 * _SCHEMES[scheme] + 0.02 * ((number * 7919) % 13)
    condition = {"channel": name, "snr_db": float(snr), "csi_nmse_db": nmse_db}
    quality = {metric.column: 0.4 / (1 + 0.1 * gain) for metric in METRICS.values()}
    return {
        **{"point_id": f"{number:016x}", "scheme": scheme, "variant": "", "clip": clip},
        **{"gop": 4, "rate": rate, **condition, "coherence_length": coherence, "seed": seed},
        **{"equalizer": "lmmse", "csi_aware": True, "decoder": "layered", "num_iter": 20},
        **{"mcs": snr, "mcs_policy": "best", "mcs_role": "chosen", "num_frames": 12},
        **{"cbr": cbr, "cbr_source": 0.9 * cbr, "cbr_side": 0.1 * cbr},
        **quality | {"psnr_db": 25 + 0.6 * gain, "bler": 0.01, "num_blocks": 100},
        **{"num_block_errors": 1, "frames_lost": 0, "status": "ok", "seconds": 1.0, "note": ""},
    }


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _peak_mib() -> float:
    """Largest resident set of this process and of one that drew figures, together."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in whose) / 1024
