"""Results folders made up for the report: the columns of a sweep, curves of a plausible shape."""

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest

from pvsc_link.sweep.store import points_table, write_csv
from pvsc_link.sweep.tables import bd_table

EFFICIENCY = {"pvsc": 4.0, "vvenc": 1.4, "x265": 1.0, "x264": 0.8}


def made_up_points(
    *,
    schemes=("pvsc", "vvenc", "x265", "x264"),
    clips=("bikes", "carphone"),
    gops=(4,),
    channels=(("awgn", None, None), ("rayleigh", -20.0, 1), ("rayleigh", -10.0, 1)),
    snrs=(0.0, 6.0),
    seeds=(1, 2, 3),
    rates=(27, 32, 37, 42),
):
    """Rows of points.csv: quality grows with log2(CBR), each scheme with its own efficiency."""
    noise = np.random.default_rng(7)
    rows = []
    for number, (clip, gop, (channel, nmse, length), snr, scheme, rate, seed) in enumerate(
        product(clips, gops, channels, snrs, schemes, rates, seeds)
    ):
        capacity = np.log2(1 + 10 ** ((snr - (0 if channel == "awgn" else 3)) / 10))
        if nmse is not None:
            capacity *= 1 - 10 ** (nmse / 10)
        bits = 2.0 ** ((42 - rate) / 6) * 0.02
        cbr = bits / capacity / (EFFICIENCY.get(scheme, 1.0) if scheme == "pvsc" else 1.0)
        gain = np.log2(bits * 50 * EFFICIENCY.get(scheme, 1.0))
        side = 0.1 * cbr if scheme == "pvsc" else 0.0
        rows.append(
            {
                "point_id": f"{number:016x}",
                "scheme": scheme,
                "variant": "psy" if scheme.startswith("x26") else "",
                "clip": clip,
                "gop": gop,
                "rate": rate,
                "channel": channel,
                "snr_db": snr,
                "csi_nmse_db": nmse,
                "coherence_length": length,
                "equalizer": "lmmse",
                "csi_aware": True,
                "mcs": None if scheme == "pvsc" else int(4 + snr),
                "mcs_policy": "best",
                "seed": seed,
                "num_frames": 3 * gop,
                "cbr": cbr,
                "cbr_source": cbr - side,
                "cbr_side": side,
                "psnr_db": 28 + 2.5 * gain + noise.normal(0, 0.1),
                "lpips": 0.5 / (1.5 + gain) + noise.normal(0, 0.002),
                "dists": 0.25 / (1.5 + gain) + noise.normal(0, 0.001),
                "bler": 0.01,
                "num_blocks": 40,
                "num_block_errors": 0,
                "frames_lost": 0,
                "status": "ok",
                "seconds": 0.1,
                "decoder": "layered",
                "num_iter": 20,
                "note": "",
            }
        )
    return points_table(rows)


def mcs_choice(snrs=(0.0, 3.0, 6.0)):
    """Facts as a sweep's manifest keeps them: candidates with their BLER."""
    return {
        f"mcs_worth scheme=x265 variant=psy options={{}} clip=bikes gop=4 channel=awgn "
        f"snr_db={snr} csi_nmse_db=None coherence_length=None equalizer=lmmse csi_aware=True "
        f"decoder=layered num_iter=20 mcs_metric=psnr rates=[27, 32]": [
            [mcs, min(1.0, 10.0 ** (mcs - 6 - snr)), [[27, 0.1]]] for mcs in range(4, 9)
        ]
        for snr in snrs
    }


def write_results(folder, points, *, anchor="vvenc", metrics=("psnr", "lpips", "dists")):
    """points.csv, bd_cbr.csv and manifest.json as a finished sweep leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(points, folder / "points.csv")
    write_csv(bd_table(points, anchor, metrics), folder / "bd_cbr.csv")
    manifest = {
        "command": "python -m pvsc_link.sweep scenarios/made_up.yaml",
        "finished": "2026-01-01T00:00:00+00:00",
        "rows": len(points),
        "scenario": {"name": folder.name, "anchor": anchor},
        "codec_commands": {"x265:psy rate 27": "-c:v libx265 -x265-params qp=27"},
        "mcs_choice": mcs_choice(),
        "packages": {"python": "3.11"},
        "machine": {"system": "Linux", "cores": 2},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals of BD-CBR are tested with the sweep: here they only have to be there, and quick."""
    monkeypatch.setattr("pvsc_link.sweep.tables._NUM_SEED_RESAMPLES", 40)


@pytest.fixture
def make_points():
    return made_up_points


@pytest.fixture
def make_results(tmp_path):
    """Writes a results folder from points (default: made up) and returns its path."""

    def make(points=None, name="made_up", **options):
        table = made_up_points() if points is None else points
        return write_results(tmp_path / name, table, **options)

    return make


@pytest.fixture
def read():
    return pd.read_csv
