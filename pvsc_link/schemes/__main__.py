"""List the schemes that a scenario can name, or check a semantic model of one's own.

pvsc-link schemes list
pvsc-link schemes check my_package.my_model:Model
pvsc-link schemes check my_model.py:Model --python /envs/torch/bin/python --checkpoints model.pt
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import yaml
from rich.console import Console
from rich.markup import escape

from pvsc_link.commands import FAILED, run_command
from pvsc_link.schemes.registry import scheme_types
from pvsc_link.types import ChannelPoint, CodecFailure, InputError, Video


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("schemes", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.epilog = f"schemes: {', '.join(scheme_types())}"
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print every scheme with its label and its options")
    check = commands.add_parser("check", help="try whether a model keeps the contract")
    check.add_argument(
        "implementation", help="package.module:Class, file.py:Class, or the name of an entry point"
    )
    check.add_argument("--python", help="interpreter that the model runs in (default: this one)")
    check.add_argument("--checkout", help="folder that is put on the path of that interpreter")
    check.add_argument("--checkpoints", help="file or folder of weights")
    check.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="keyword argument of the class, its value as YAML; repeatable",
    )
    check.add_argument("--size", default="192x128", help="WIDTHxHEIGHT of the test frames")
    check.add_argument("--frames", type=int, default=2, help="frames of a GOP (default 2)")
    check.add_argument("--timeout", type=float, default=600.0, help="seconds of one call")


def run(words: argparse.Namespace) -> int:
    """List or check; returns the exit status, which is 1 where a check fails."""
    if words.command == "list":
        for name, scheme in scheme_types().items():
            options = ", ".join(scheme.Options.model_fields) or "none"
            print(f"{name:<12} {scheme.label:<28} options: {options}")
        return 0
    console = Console(width=100, highlight=False)
    failed = 0
    for name, found in _checks(words):
        failed += isinstance(found, CodecFailure)
        word = "[red]FAILED[/red]" if isinstance(found, CodecFailure) else "passed"
        text = found.detail if isinstance(found, CodecFailure) else found
        console.print(f"{word}  {escape(name)}: {escape(text)}", soft_wrap=True)
    console.print("The model keeps the contract." if not failed else f"{failed} checks failed.")
    return FAILED if failed else 0


def _options(words: argparse.Namespace) -> dict[str, object]:
    pairs = (option.partition("=")[::2] for option in words.option)
    given = {
        "implementation": words.implementation,
        "python": words.python,
        "checkout": words.checkout,
        "checkpoints": words.checkpoints,
        "model_options": {name: yaml.safe_load(value) for name, value in pairs} or None,
        "timeout_s": words.timeout,
    }
    return {name: value for name, value in given.items() if value is not None}


def _test_video(words: argparse.Namespace) -> Video:
    """Frames of smooth colour with an edge and some noise, which move."""
    width, _, height = words.size.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) * int(height) and words.frames > 0):
        raise InputError(
            "size and frames of the check",
            found=f"{words.size}, {words.frames} frames",
            allowed="WIDTHxHEIGHT in pixels, and a frame at least",
            remedy="For instance: --size 192x128 --frames 2",
        )
    y, x = np.mgrid[: int(height), : int(width)].astype(np.float32)
    rng = np.random.default_rng(1)
    frames = []
    for t in range(words.frames):
        waves = [np.sin((x + 4 * t) / (11 + 7 * c)) + np.cos(y / (13 + 5 * c)) for c in range(3)]
        frame = 128 + 45 * np.stack(waves, axis=-1) + 40 * ((x + y + 4 * t) % 64 < 20)[..., None]
        frames.append(frame + rng.normal(0, 3, frame.shape))
    return Video("check", np.clip(frames, 0, 255).astype(np.uint8), 30.0, "made here")


def _checks(words: argparse.Namespace) -> Iterator[tuple[str, str | CodecFailure]]:
    """Every check by name: what was found, or how the model failed."""
    from pvsc_link.schemes import ForeignScheme, LinkOptions

    video, options = _test_video(words), _options(words)
    link = LinkOptions("zf", csi_aware=False, decoder="layered", num_iter=20)

    def made() -> ForeignScheme:
        return ForeignScheme(**options)  # type: ignore[arg-type]

    def shown(scheme: ForeignScheme, gops: Sequence, snr_db: float, mcs: int = 0) -> list:
        point = ChannelPoint("awgn", snr_db)
        return scheme.transmit(gops, point, link, mcs, range(len(gops)))

    scheme = made()
    try:
        scheme.check()
    except CodecFailure as failure:
        yield "load", failure
        return
    facts = scheme.facts
    said = ", ".join(f"{k} {v}" for k, v in facts.items() if k not in ("source", "versions"))
    yield "load", f"{said}; {', '.join(f'{k} {v}' for k, v in facts['versions'].items())}"
    pixels = video.frames.shape[1] * video.frames.shape[2]
    for rate in scheme.allowed_rates:
        try:
            gops = scheme.encode(video, len(video.frames), rate)
            sent, note = scheme.coded(gops[0], 30.0)
        except CodecFailure as failure:
            yield f"encode, rate {rate}", failure
            continue
        symbols = [len(payload.symbols) for payload in sent]
        side = [len(payload.side_bits["side"]) for payload in sent]
        cbr = sum(symbols) / (3 * pixels * len(symbols))
        text = f"symbols {symbols}, side bytes {side}, CBR of the symbols {cbr:.4f}"
        yield f"encode, rate {rate}", f"{text}{'; ' if note else ''}{note}"
        yield f"equal input, equal symbols, rate {rate}", _same_symbols(made(), gops[0], sent)
        pictures = {}
        for snr_db in (40.0, 10.0, 0.0):
            try:
                (got,) = shown(scheme, gops, snr_db)
                pictures[snr_db] = got.frames_hat
                text = f"PSNR {_psnr(video.frames, got.frames_hat):.2f} dB"
                yield f"decode at {snr_db:g} dB, rate {rate}", f"{text}, {got.frames_lost} lost"
            except CodecFailure as failure:
                yield f"decode at {snr_db:g} dB, rate {rate}", failure
        if 40.0 in pictures:
            name = f"a receiver that never encoded shows the same, rate {rate}"
            yield name, _same_pictures(made(), sent, gops[0], pictures[40.0], shown)
        if any(side) or not facts["scheduled"]:
            try:
                (got,) = shown(scheme, gops, -10.0, mcs=28)
                text = f"{got.frames_lost} of {len(symbols)} frames lost"
                yield f"all side information lost, rate {rate}", text
            except CodecFailure as failure:
                yield f"all side information lost, rate {rate}", failure


def _same_symbols(other, gop, sent) -> str | CodecFailure:
    """Whether another object of the class sends the same for the same frames."""
    try:
        again, _ = other.coded(gop, 30.0)
    except CodecFailure as failure:
        return failure
    for t, (one, two) in enumerate(zip(sent, again, strict=True)):
        if one.side_bits != two.side_bits or not np.array_equal(one.symbols, two.symbols):
            return CodecFailure(
                "codec_error", f"frame {t} differs: fix the seeds; rows would not be repeatable"
            )
    return "the same"


def _same_pictures(other, sent, gop, pictures, shown) -> str | CodecFailure:
    """Whether an object that did not encode decodes the same: nothing is passed in memory."""
    other.keep(gop, 40.0, sent)
    try:
        (got,) = shown(other, [gop], 40.0)
    except CodecFailure as failure:
        return CodecFailure("codec_error", f"{failure.detail}; does it keep what it encoded?")
    difference = int(np.abs(got.frames_hat.astype(int) - pictures).max())
    if difference > 1:
        return CodecFailure("codec_error", f"differs by {difference} levels of 255")
    return "the same"


def _psnr(frames: np.ndarray, frames_hat: np.ndarray) -> float:
    error = np.mean((frames.astype(np.float64) - frames_hat) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


if __name__ == "__main__":
    sys.exit(main())
