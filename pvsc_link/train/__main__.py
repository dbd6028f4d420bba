"""Train the weights of a preset, or go on where a run stopped.

python -m pvsc_link.train scenarios/train_small.yaml
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pvsc_link.commands import run_command
from pvsc_link.scenario import explain
from pvsc_link.types import InputError

STOPPED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, which is 3 for a run that was stopped."""
    return run_command("train", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "config", nargs="?", help="training file, for instance scenarios/train_small.yaml"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the files")
    parser.add_argument(
        "--explain", metavar="KEY", help="print what a key of the file means, such as phases.stage"
    )
    parser.add_argument("--folder", help="run folder (default: runs/<name>)")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument("--measure", action="store_true", help="print what a step costs and stop")


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
    if words.config is None:
        raise InputError(
            "no training file",
            found=None,
            allowed="a YAML file",
            remedy="For instance: python -m pvsc_link.train scenarios/train_small.yaml",
        )
    config = load_train_config(words.config)
    from pvsc_link.train.step import make_repeatable

    make_repeatable(words.threads)
    from pvsc_link.train.trainer import Trainer, measure_costs

    if words.measure:
        for line in measure_costs(config):
            print(line, flush=True)
        return 0
    folder = Path(words.folder) if words.folder else Path("runs") / config.name
    return 0 if Trainer(config, folder).run() else STOPPED


if __name__ == "__main__":
    sys.exit(main())
