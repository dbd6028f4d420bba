"""``python -m pvsc_link.bench drift``: quality frame by frame in long GOPs over AWGN.

Rate maps are range-coded for PVSC-MC, and the PNG of the paper for PVSC.

The receiver's buffers differ from the transmitter's by channel noise, and what it shows at one
frame it predicts the next from: this shows whether the difference grows.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pvsc_link.bench.provenance import write_manifest
from pvsc_link.media import load_clip
from pvsc_link.metrics import Lpips, psnr_db
from pvsc_link.schemes import LinkOptions, PvscMcScheme, SemanticScheme, scheme_of_preset
from pvsc_link.types import ChannelPoint, Video

#: MCS of the side information: 16QAM at R = 0.37, without a block error at 6 dB and above.
SIDE_MCS = 11


def main(argv: Sequence[str] | None = None) -> int:
    """Send GOPs, print the mean LPIPS of each place in the GOP, write ``drift.csv``."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.bench drift", description=__doc__)
    parser.add_argument("--clips", nargs="+", default=["carphone"])
    parser.add_argument("--preset", default="pvsc_mc_small")
    parser.add_argument("--weights", help="weights folder of a training run")
    parser.add_argument("--gop", type=int, default=12)
    parser.add_argument("--gops", type=int, default=2, help="GOPs of each clip")
    parser.add_argument(
        "--refresh-every", nargs="+", type=int, default=[0], help="each in turn (0: none; PVSC-MC)"
    )
    parser.add_argument("--snr-db", type=float, default=6.0)
    parser.add_argument("--rates", nargs="*", type=int, help="quality presets (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("results/drift"))
    given = parser.parse_args(argv)
    table = pd.DataFrame(_rows(given))
    shown = table.assign(place=table["frame"] % given.gop).groupby(["refresh_every", "place"])
    print(shown[["lpips", "psnr_db"]].mean().unstack(0).round(4).to_string())
    print(table.groupby(["refresh_every", "rate"])["cbr"].mean().unstack(0).to_string())
    given.folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.folder / "drift.csv", index=False)
    write_manifest(given.folder / "drift.csv", ["drift", *(argv or [])])
    return 0


def _rows(given: argparse.Namespace) -> Iterator[dict]:
    for every in given.refresh_every:
        kind = scheme_of_preset(given.preset)
        side_format = "range" if kind is PvscMcScheme else "png"
        options = {"preset": given.preset, "side_format": side_format, "weights": given.weights}
        if every:
            options["refresh_every"] = every
        scheme = kind(**options)
        yield from _rows_of(scheme, given)


def _rows_of(scheme: SemanticScheme, given: argparse.Namespace) -> Iterator[dict]:
    lpips = Lpips()
    rates = given.rates or scheme.default_rates
    link = LinkOptions(scheme.default_equalizer, scheme.default_csi_aware, "layered", 20)
    point = ChannelPoint("awgn", given.snr_db)
    for clip in given.clips:
        video = load_clip(clip, 0, given.gop * given.gops)
        for rate in rates:
            sent = scheme.encode(video, given.gop, rate)
            received = scheme.transmit(sent, point, link, SIDE_MCS, list(range(len(sent))))
            uses = sum(sum(reception.num_channel_uses.values()) for reception in received)
            for gop, reception in enumerate(received):
                for place, frame_hat in enumerate(reception.frames_hat):
                    frame = gop * given.gop + place
                    yield {
                        "clip": Path(clip).stem,
                        "preset": scheme.preset,
                        "weights": scheme.weights_id,
                        "snr_db": given.snr_db,
                        "refresh_every": scheme.refresh_every,
                        "rate": rate,
                        "cbr": round(uses / video.frames.size, 6),
                        "frame": frame,
                        **_measured(lpips, video, frame, frame_hat),
                    }


def _measured(lpips: Lpips, video: Video, frame: int, frame_hat) -> dict[str, float]:
    a, b = (image.astype("float32") / 255 for image in (video.frames[frame], frame_hat))
    return {
        "lpips": round(float(lpips(a[None], b[None])[0]), 5),
        "psnr_db": round(psnr_db(a, b), 3),
    }
