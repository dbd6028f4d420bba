"""``python -m pvsc_link.transmit IN.mp4 --scheme x265 ... -o OUT``: your own video over the link.

Writes each scheme's reconstruction and a labelled side-by-side video (for looking at: H.264
4:2:0), a still with zoomed regions, and the numbers. Sound is dropped.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pvsc_link.commands import FAILED, run_command
from pvsc_link.metrics import METRICS
from pvsc_link.options import validated
from pvsc_link.scenario import RawClip
from pvsc_link.types import InputError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("transmit", argv)


def run(words: argparse.Namespace) -> int:
    """Send the video; returns the exit status."""
    _check_source(words.source)
    from pvsc_link.transmit.run import transmit_video

    with _bars(Console(stderr=True)) as (choosing, sending):
        numbers = transmit_video(
            _request(words),
            Path(words.out),
            command=words.command_line,
            choosing=choosing,
            sending=sending,
        )
    for label, row in numbers["schemes"].items():
        quality = "".join(
            f", {metric.short_label} {row[metric.column]:.4g}"
            for metric in METRICS.values()
            if metric.column in row
        )
        lost = f"{row['frames_lost']} of {row['num_frames']} frames lost"
        print(
            f"{label}: rate {row['rate']}, CBR {row['cbr']:.4g}{quality}, {lost}, {row['status']}"
        )
        if row["note"]:
            print(f"  {row['note']}")
    print(f"{words.out}: side_by_side.mp4, still.png, a video per scheme, transmit.json, gops.csv")
    if numbers["stopped"]:
        sent = numbers["source"]["num_frames"]
        print(f"error: only {sent} frames were sent. {numbers['stopped']}", file=sys.stderr)
        return FAILED
    return 0


def _request(words: argparse.Namespace) -> Any:
    from pvsc_link.transmit.request import Request, parse_link, parse_options, parse_rates

    named = {
        "channel": words.channel,
        "snr_db": words.snr_db,
        "csi_nmse_db": words.nmse_db,
        "coherence_length": words.coherence_length,
    }
    return Request(
        source=_source(words),
        schemes=words.scheme,
        link=parse_link(words.link, named),
        gop=words.gop,
        first_frame=words.first_frame,
        num_frames=words.frames,
        mcs=int(words.mcs) if words.mcs.isdigit() else words.mcs,
        seed=words.seed,
        metrics=words.metrics,
        rates=parse_rates(words.rates),
        options=parse_options(words.option),
        target_cbr=words.target_cbr,
        still_frame=words.still_frame,
        matrix=words.matrix,
        sample_range=words.sample_range,
        hdr=words.hdr,
        with_untrained=words.with_untrained,
    )


def _check_source(source: str) -> None:
    """A missing file is told before anything is loaded."""
    from pvsc_link.media import clip_names

    there = source in clip_names()
    with suppress(OSError, RuntimeError, ValueError):  # a name too long, or of an unknown user
        there = there or Path(source).expanduser().exists()
    if not there:
        raise InputError(
            "video",
            found=source,
            allowed="an existing file or folder, or the name of a clip",
            remedy="Check the path.",
        )


def _source(words: argparse.Namespace) -> str | RawClip:
    if words.size is None:
        return words.source
    width, _, height = words.size.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InputError(
            "--size", found=words.size, allowed="WIDTHxHEIGHT", remedy="For instance 416x240."
        )
    raw = {"path": words.source, "width": int(width), "height": int(height)}
    told = raw | {"pixel_format": words.pixel_format, "fps": words.fps}
    return validated(told, RawClip, "options", "--size 416x240")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("source", help="mp4, mkv, y4m, ..., a folder of pictures, bikes, ...")
    parser.add_argument("--scheme", nargs="+", required=True, help="NAME or NAME:VARIANT")
    parser.add_argument("-o", "--out", required=True, help="folder of results")
    _add_link(parser.add_argument_group("the link"))
    _add_rates(parser.add_argument_group("the schemes"))
    _add_video(parser.add_argument_group("the video"))


def _add_link(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--channel", default="awgn", help="awgn (default), rayleigh, ...")
    group.add_argument("--snr-db", type=float, required=True, help="Es/N0 per symbol")
    group.add_argument("--nmse-db", type=float, help="CSI error (default: perfect CSI)")
    group.add_argument("--coherence-length", type=int, default=1, help="channel uses (default: 1)")
    group.add_argument(
        "--link",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further keys of link in a scenario: of the channel, such as k_factor_db=6, "
        "channel_model=tdl_c or block=package.module:make, and impairments such as erasure_rate=.1",
    )
    group.add_argument("--mcs", default="best", help="best (default) or an index, 0 to 28")
    group.add_argument("--seed", type=int, default=1, help="of fading, CSI error and noise")


def _add_rates(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--target-cbr",
        type=float,
        help="CBR at which schemes are compared: each takes its nearest rate "
        "(default: that of the first scheme at its middle rate)",
    )
    group.add_argument(
        "--rates", nargs="+", default=[], metavar="SCHEME=RATE", help="fixed rates, e.g. x265=32"
    )
    group.add_argument(
        "--option",
        nargs="+",
        default=[],
        metavar="SCHEME.KEY=VALUE",
        help="keys of a scheme in a scenario, e.g. pvsc.weights=runs/tiny/weights",
    )
    group.add_argument(
        "--with-untrained",
        action="store_true",
        help="send a scheme without trained weights too; it is labelled so in every picture",
    )


def _add_video(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--gop", type=int, default=4, help="frames per GOP (default: 4)")
    group.add_argument("--frames", type=int, help="most frames to send (default: all)")
    group.add_argument("--first-frame", type=int, default=0)
    group.add_argument("--still-frame", type=int, help="frame of the still (default: the middle)")
    group.add_argument(
        "--metrics",
        nargs="+",
        default=["psnr", "lpips"],
        help=f"{' '.join(METRICS)} (default: psnr lpips; psnr alone is fast)",
    )
    group.add_argument("--size", help="WIDTHxHEIGHT of a raw .yuv")
    group.add_argument("--pixel-format", default="yuv420p", help="of a raw .yuv")
    group.add_argument("--fps", type=float, default=30.0, help="of a raw .yuv")
    group.add_argument("--matrix", help="bt709, bt601, ...: in place of what the file states")
    group.add_argument("--sample-range", help="limited or full: in place of what the file states")
    group.add_argument(
        "--hdr", default="refuse", help="tone_map: make SDR of PQ and HLG (default: refuse)"
    )


@contextmanager
def _bars(console: Console) -> Iterator[tuple[Any, Any]]:
    """A bar for the rows of the first GOP's sweep, then one for the frames of the video."""
    bar = Progress(
        TextColumn("{task.description:<44.44}", markup=False),  # names may hold brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        choice = bar.add_task("first GOP: rates and MCS", total=None, visible=False)
        frames = bar.add_task("frames", total=None, visible=False)
        yield (
            lambda done, total, stage: bar.update(
                choice,
                completed=done,
                total=total,
                description=f"first GOP: {stage}",
                visible=True,
            ),
            lambda done, total, stage: bar.update(
                frames, completed=done, total=total, description=stage, visible=True
            ),
        )


if __name__ == "__main__":
    sys.exit(main())
