"""``python -m pvsc_link.bench NAME [options]``: the benchmarks, by name."""

import importlib
import sys
from collections.abc import Sequence

#: name: module with ``main(argv) -> int``, imported only when it is asked for.
BENCHES = {
    "gates": "pvsc_link.bench.gates",
    "link": "pvsc_link.bench.link",
    "complexity": "pvsc_link.bench.complexity",
    "drift": "pvsc_link.bench.drift",
    "report": "pvsc_link.bench.report",
    "sweep": "pvsc_link.bench.sweep",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark with the remaining arguments; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: python -m pvsc_link.bench {{{','.join(BENCHES)}}} [options]")
        return 0 if arguments else 2
    name, *options = arguments
    if name not in BENCHES:
        print(f"unknown benchmark {name!r}; allowed: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    return importlib.import_module(BENCHES[name]).main(options)


if __name__ == "__main__":
    raise SystemExit(main())
