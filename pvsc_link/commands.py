"""The console script ``pvsc-link``, and what all of its subcommands share.

``pvsc-link sweep FILE`` and ``python -m pvsc_link.sweep FILE`` are the same command. Every command
lives in the ``__main__`` module of its room and has two functions: ``add_arguments(parser)``
declares its options without importing TensorFlow, so that ``--help`` answers at once, and
``run(words)`` does the work and returns the exit status.

Exit statuses: 0 done, 1 the work failed, 2 bad input (nothing was written).
"""

import argparse
import atexit
import gc
import importlib
import importlib.abc
import importlib.machinery
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import shtab

from pvsc_link._version import __version__
from pvsc_link.types import CodecFailure, InputError

#: Subcommand: the module that implements it, and one line for ``--help``.
COMMANDS = {
    "sweep": ("pvsc_link.sweep.__main__", "run a scenario into a results folder"),
    "report": ("pvsc_link.report.__main__", "tables, figures and a page from a results folder"),
    "transmit": ("pvsc_link.transmit.__main__", "send your own video over a link"),
    "train": ("pvsc_link.train.__main__", "train the weights of a preset"),
    "bench": ("pvsc_link.bench.__main__", "benchmarks, each printed as ratios of one run"),
    "codecs": ("pvsc_link.codecs.__main__", "code clips once and keep the streams"),
    "schemes": ("pvsc_link.schemes.__main__", "list the schemes, check a model of your own"),
    "bler": ("pvsc_link.bler", "measure, list, merge and plot block error rates"),
}
FAILED, BAD_INPUT = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``pvsc-link``; returns the exit status.

    Parameters: ``argv`` : the words after ``pvsc-link``; None takes those of the process.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in COMMANDS:
        return run_command(given[0], given[1:], prog=f"pvsc-link {given[0]}")
    parser = argparse.ArgumentParser(
        prog="pvsc-link",
        description="Link-level simulation of video semantic communication over Sionna channels.",
    )
    parser.add_argument("--version", action="version", version=f"pvsc-link {__version__}")
    shtab.add_argument_to(parser, "--print-completion", help="print a completion script, stop")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        subcommand = subcommands.add_parser(name, help=summary)
        if "--print-completion" in given:  # only a completion script needs every option
            _module(name).add_arguments(subcommand)
    parser.parse_args(given)
    return 0


def run_command(name: str, argv: Sequence[str] | None = None, prog: str = "") -> int:
    """Parse ``argv``, run one command, and turn its errors into a message and an exit status.

    Parameters: ``name`` : key of ``COMMANDS``; ``argv`` : words after the command, None for those
    of the process; ``prog`` : what ``--help`` calls the command.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    module = _module(name)
    parser = argparse.ArgumentParser(
        prog=prog or f"python -m {module.__name__.removesuffix('.__main__')}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="show what TensorFlow prints when it starts"
    )
    words = parser.parse_args(given)
    if not words.verbose:
        start_quietly()
    words.command_line = f"{parser.prog} {shlex.join(given)}"
    try:
        return module.run(words)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except CodecFailure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return FAILED


def start_quietly() -> None:
    """Hold back what TensorFlow prints while it is imported; a failure shows all of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if not is_quiet():
        sys.meta_path.insert(0, _QuietTensorFlow())


def is_quiet() -> bool:
    """Whether this process holds back what TensorFlow prints while it is imported."""
    return any(isinstance(finder, _QuietTensorFlow) for finder in sys.meta_path)


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as ever, and holds back its lines on the standard error while it is loaded.

    They come from C++ and are printed before a level can be set: oneDNN, and CUDA that is absent.
    """

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module: Any) -> None:
                with _standard_error_held(), _garbage_left_alone():
                    load(module)
                    module.config.list_physical_devices()  # looks for a GPU, and says so
                # Each size of a clip is traced on purpose; TensorFlow warns of it.
                logging.getLogger("tensorflow").setLevel(logging.ERROR)

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


#: New objects before a search for garbage among them, and searches before one among older ones.
_RARE = 20_000, 20, 20


@contextmanager
def _garbage_left_alone() -> Iterator[None]:
    """Make objects that live until the process ends, without Python's search for garbage.

    While TensorFlow's modules are made, their objects would be searched again and again: a third of
    the import's time. They would be searched once more when the process ends, together with all
    graphs: two seconds, although the system gives back whatever is there at the end. Between, the
    search is made rarer: layers and graphs are hundreds of thousands of objects that stay.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*_RARE)
        if was_on:
            gc.enable()
        atexit.register(gc.freeze)


@contextmanager
def _standard_error_held() -> Iterator[None]:
    """What is written to descriptor 2 is shown only if the block raises."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
            except BaseException:
                held.seek(0)
                os.write(kept, held.read())
                raise
            finally:
                os.dup2(kept, 2)
    finally:
        os.close(kept)


def _module(name: str) -> Any:
    return importlib.import_module(COMMANDS[name][0])


if __name__ == "__main__":
    sys.exit(main())
