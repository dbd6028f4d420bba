"""Train the weights of a preset, or go on where a run stopped.

python -m pvsc_link.train scenarios/train_small.yaml
python -m pvsc_link.train doctor scenarios/train_small.yaml
python -m pvsc_link.train scenarios/train_paper.yaml --variant l1
"""

import argparse
import errno
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pvsc_link.commands import FAILED, run_command
from pvsc_link.scenario import explain
from pvsc_link.types import InputError

if TYPE_CHECKING:
    from pvsc_link.train.config import TrainConfig

STOPPED, INTERRUPTED = 3, 130
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    It is 3 for a run that was stopped behind a checkpoint, and 130 for Ctrl-C before the first step
    and in ``doctor``.
    """
    return run_command("train", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "config",
        nargs="*",
        metavar="[doctor] CONFIG",
        help="training file, for instance scenarios/train_small.yaml. With the word doctor before "
        "it, three steps of each phase are tried, their memory and time printed, and that of the "
        "whole run estimated",
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the files")
    parser.add_argument(
        "--explain", metavar="KEY", help="print what a key of the file means, such as phases.stage"
    )
    parser.add_argument(
        "--variant",
        nargs="+",
        default=[],
        metavar="NAME",
        help="runs that the file names under variants, one over the other",
    )
    parser.add_argument("--folder", help="run folder (default: runs/<name>)")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument("--devices", type=int, help="devices to use under JAX (default: all)")
    parser.add_argument(
        "--hosts",
        action="store_true",
        help="this process is one of several, one per host, which find each other by Slurm, Open "
        "MPI or the variables KERAS_DISTRIBUTION_*",
    )
    parser.add_argument(
        "--small", action="store_true", help="doctor: the smallest crops, batches and GOPs"
    )
    parser.add_argument(
        "--phases", nargs="+", default=[], metavar="NAME", help="doctor: try these phases alone"
    )
    parser.add_argument(
        "--compile-only",
        action="store_true",
        help="doctor: compile each phase under JAX and print XLA's account of its memory, no step",
    )


def run(words: argparse.Namespace) -> int:
    """Train; returns the exit status."""
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%d.%m. %H:%M:%S")
    logging.getLogger("pvsc_link").setLevel(logging.INFO)
    # A wrong word in the file is reported before TensorFlow is loaded, which takes seconds.
    from pvsc_link.train.config import TrainConfig, load_train_config

    if words.schema or words.explain:
        schema = TrainConfig.model_json_schema()
        print(explain(schema, words.explain) if words.explain else json.dumps(schema, indent=1))
        return 0
    examine = words.config[:1] == ["doctor"]
    files = words.config[1:] if examine else words.config
    if len(files) != 1:
        raise InputError(
            "training files",
            found=files,
            allowed="one YAML file",
            remedy="For instance: python -m pvsc_link.train scenarios/train_small.yaml",
        )
    if (words.small or words.compile_only or words.phases) and not examine:
        raise InputError(
            "--small, --compile-only or --phases in a training",
            found=words.config,
            allowed="with doctor",
            remedy="Write doctor before the training file.",
        )
    for option in ("threads", "devices"):
        number = getattr(words, option)
        if number is not None and number < 1:
            raise InputError(
                f"--{option}", found=number, allowed="1 or more", remedy="Leave it out for all."
            )
    config = load_train_config(files[0], words.variant)
    try:
        return _work(config, words, examine)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _work(config: "TrainConfig", words: argparse.Namespace, examine: bool) -> int:
    from pvsc_link.train.step import prepare

    prepare(
        words.threads,
        deterministic=config.deterministic,
        num_devices=words.devices,
        several_hosts=words.hosts,
    )
    if examine:
        from pvsc_link.train.doctor import examined

        how = {"small": words.small, "compile_only": words.compile_only, "only": words.phases}
        for line in examined(config, **how):
            print(line, flush=True)
        return 0
    from pvsc_link.train.trainer import Diverged, Trainer

    folder = Path(words.folder) if words.folder else Path("runs") / config.name
    try:
        return 0 if Trainer(config, folder).run() else STOPPED
    except Diverged as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        place = error.filename or f"the run folder {folder}"
        print(
            f"error: {place}: {error.strerror}. The last checkpoint is whole. Make room; the same "
            "command then goes on from it.",
            file=sys.stderr,
        )
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
