"""``python -m pvsc_link.bench p_frames``: what the symbols of P frames cost, and what they bring.

A P frame that sends nothing has not learnt to transmit. So a second receiver gets the side
information of every P frame and none of its symbols, and predicts from what it showed itself; and
the I frame is measured in the place of all P frames.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pvsc_link.bench.drift import SIDE_MCS
from pvsc_link.bench.provenance import write_manifest
from pvsc_link.link import get_channel_function, get_coded_link
from pvsc_link.media import load_clip, pad_to_multiple
from pvsc_link.metrics import Lpips, psnr_db
from pvsc_link.models import Receiver, Transmitter
from pvsc_link.schemes import SemanticScheme, scheme_of_preset
from pvsc_link.types import ChannelPoint, Video

#: What is shown of P frames: with their symbols, without them, and the I frame instead.
_SHOWN = ("", "_silent", "_frozen")


def main(argv: Sequence[str] | None = None) -> int:
    """Send one GOP of each clip at every quality preset, print the means, write the table."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench p_frames", description=__doc__)
    parser.add_argument("--clips", nargs="+", default=["carphone", "bikes"])
    parser.add_argument("--preset", default="pvsc_small")
    parser.add_argument("--weights", help="weights folder of a training run")
    parser.add_argument("--gop", type=int, default=4)
    parser.add_argument("--snr-db", type=float, default=6.0)
    parser.add_argument("--rates", nargs="*", type=int, help="quality presets (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("results/p_frames"))
    given = parser.parse_args(argv)
    scheme = scheme_of_preset(given.preset)(given.preset, side_format="png", weights=given.weights)
    table = pd.DataFrame(_rows(scheme, given))
    print(table.groupby("rate").mean(numeric_only=True).round(4).to_string())
    given.folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.folder / "p_frames.csv", index=False)
    write_manifest(given.folder / "p_frames.csv", ["p_frames", *(argv or [])])
    return 0


def _rows(scheme: SemanticScheme, given: argparse.Namespace) -> Iterator[dict]:
    point = ChannelPoint("awgn", given.snr_db)
    for clip in given.clips:
        video = load_clip(clip, 0, given.gop)
        for rate in given.rates or scheme.default_rates:
            yield {
                "clip": Path(clip).stem,
                "scheme": scheme.name,
                "preset": scheme.preset,
                "weights": scheme.weights_id,
                "snr_db": given.snr_db,
                "gop": given.gop,
                "rate": rate,
                **_gop(scheme, video, rate, point),
            }


def _gop(scheme: SemanticScheme, video: Video, rate: int, point: ChannelPoint) -> dict[str, float]:
    """Channel uses and quality of the P frames of one GOP."""
    engine, channel = scheme.engine(rate), get_channel_function("awgn", "zf", False)
    models = engine.steps.models.values()
    multiple = max(model.config.padding_multiple for model in models)
    frames = pad_to_multiple(video.frames, multiple)
    height, width = video.frames.shape[1:3]
    session = {"height": frames.shape[1], "width": frames.shape[2], "omega_index": rate}
    transmitter = Transmitter(*models, steps=engine.steps, **session)
    hears, silent = (
        Receiver(*models, steps=engine.received, decoder=engine.decoder, **session)
        for _ in range(2)
    )
    symbols, side_bits = [], []
    shown: dict[str, list[np.ndarray]] = {name: [] for name in _SHOWN}
    for t, frame in enumerate(frames):
        payload = transmitter.encode(frame, intra=t == 0)
        received = channel(payload.symbols, point, t)
        symbols.append(payload.symbols.size)
        side_bits.append(8 * sum(map(len, payload.side_bits.values())))
        known = hears.read_side(payload.side_bits, t)
        none = replace(known, rate_index=np.zeros_like(known.rate_index))
        picture = hears.receive(known, received.symbols_hat, received.no_eff).frame_uint8
        if t == 0:
            silent.receive(known, received.symbols_hat, received.no_eff)
            first = picture
            continue
        empty = np.zeros(0, np.complex64)
        alone = silent.receive(none, empty, np.zeros(0, np.float32)).frame_uint8
        for name, one in zip(_SHOWN, (picture, alone, first), strict=True):
            shown[name].append(one[:height, :width])
    link = get_coded_link(SIDE_MCS, "awgn")
    side = [link.num_channel_uses(bits) for bits in side_bits]
    total = sum(symbols) + sum(side)
    row = {
        "cbr": round(total / video.frames.size, 6),
        "symbol_share": round(sum(symbols[1:]) / total, 4),
        "side_share": round(sum(side[1:]) / total, 4),
        "intra_share": round((symbols[0] + side[0]) / total, 4),
    }
    lpips = Lpips()
    true = video.frames[1:].astype(np.float32) / 255
    for name, pictures in shown.items():
        seen = np.stack(pictures).astype(np.float32) / 255
        values = [float(lpips(a[None], b[None])[0]) for a, b in zip(true, seen, strict=True)]
        row[f"lpips{name}"] = round(float(np.mean(values)), 5)
        row[f"psnr_db{name}"] = round(
            float(np.mean([psnr_db(a, b) for a, b in zip(true, seen, strict=True)])), 3
        )
    return row
