"""``python -m pvsc_link.train scenarios/train_tiny.yaml``: train, or go on where a run stopped."""

import argparse
import sys
from pathlib import Path

from pvsc_link.train.console import run_logged


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 at the end, 2 for bad input, 3 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.train", description=__doc__)
    parser.add_argument("config", help="training file, for instance scenarios/train_tiny.yaml")
    parser.add_argument("--folder", help="run folder (default: runs/<name>)")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    parser.add_argument("--measure", action="store_true", help="print what a step costs and stop")
    given = parser.parse_args(arguments)
    return run_logged(lambda: _train(given))


def _train(given: argparse.Namespace) -> int:
    # Imported late: a wrong word in the file is answered at once, not after TensorFlow's start.
    from pvsc_link.train.config import load_train_config

    config = load_train_config(given.config)
    from pvsc_link.train.step import make_repeatable

    make_repeatable(given.threads)
    if given.measure:
        from pvsc_link.train.throughput import measure

        for line in measure(config):
            print(line, flush=True)
        return 0
    from pvsc_link.train.trainer import Trainer

    folder = Path(given.folder) if given.folder else Path("runs") / config.name
    return 0 if Trainer(config, folder).run() else 3


if __name__ == "__main__":
    sys.exit(main())
