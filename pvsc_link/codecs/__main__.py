"""``python -m pvsc_link.codecs export``: code clips once, keep them as precoded streams."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.progress import Progress

from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.precoded import export_streams
from pvsc_link.codecs.registry import CODECS
from pvsc_link.commands import run_command
from pvsc_link.media import MATRICES, load_clip
from pvsc_link.options import check_name
from pvsc_link.types import Video

_EXAMPLE = """example, on the machine that has VTM:
  python -m pvsc_link.codecs export --codec vtm --option binary=~/VTM-17.0 \\
      --clip bikes --gop 4 --num-gops 3 --rates 22 27 32 37 --workers 8 --folder streams/vtm
then, in a scenario:  {scheme: precoded, index: streams/vtm}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("codecs", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.epilog = _EXAMPLE
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write precoded streams of clips")
    export.add_argument("--codec", required=True, help=", ".join(CODECS))
    export.add_argument("--clip", action="append", required=True, help="name or path; repeatable")
    export.add_argument("--gop", type=int, default=4, help="frames per GOP (default 4)")
    export.add_argument("--num-gops", type=int, default=1, help="GOPs per clip (default 1)")
    export.add_argument("--first-frame", type=int, default=0)
    export.add_argument("--rates", type=int, nargs="+", required=True, help="QPs")
    export.add_argument("--folder", type=Path, required=True, help="where the streams go")
    export.add_argument("--workers", type=int, default=1, help="encoders at a time (default 1)")
    export.add_argument("--dataset-root", help="folder of the standard sets")
    export.add_argument(
        "--matrix", help="colour matrix of all clips, as in a scenario: " + ", ".join(MATRICES)
    )
    export.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="option of the codec, such as variant=psy-off or preset=slower; repeatable",
    )


def run(words: argparse.Namespace) -> int:
    """Write the streams; returns the exit status."""
    check_name("codec", words.codec, CODECS)
    codec = CODECS[words.codec](**dict(option.partition("=")[::2] for option in words.option))
    num_frames = words.gop * words.num_gops
    videos = [
        load_clip(clip, words.first_frame, num_frames, words.dataset_root, matrix=words.matrix)
        for clip in words.clip
    ]
    with Progress() as progress:
        for video in videos:
            _export(codec, video, words, progress)
    print(f"{words.folder}: use it as {{scheme: precoded, index: {words.folder}}}")
    return 0


def _export(codec: Codec, video: Video, words: argparse.Namespace, progress: Progress) -> None:
    total = words.num_gops * len(words.rates)
    task = progress.add_task(escape(f"{codec.name} {video.name}"), total=total)
    export_streams(
        codec,
        video,
        gop=words.gop,
        rates=words.rates,
        folder=words.folder,
        workers=words.workers,
        on_done=lambda _: progress.advance(task),
    )
    progress.update(task, completed=total)


if __name__ == "__main__":
    sys.exit(main())
