"""Benchmarks of this package, by name, each printed as ratios measured in one run.

python -m pvsc_link.bench link --quick
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from pvsc_link.commands import run_command

#: Benchmarks: modules of this folder with ``main(argv) -> int``, imported when asked for.
BENCHES = (
    *("complexity", "drift", "faults", "gates", "link", "metrics", "p_frames", "report"),
    *("performance", "scale", "sweep", "train"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark with the remaining arguments; returns its exit status."""
    return run_command("bench", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("benchmark", choices=BENCHES)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the benchmark")


def run(words: argparse.Namespace) -> int:
    """Run the benchmark; returns its exit status."""
    return importlib.import_module(f"pvsc_link.bench.{words.benchmark}").main(words.options)


if __name__ == "__main__":
    sys.exit(main())
