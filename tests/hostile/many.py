"""python many.py [--seconds S] [--csv FILE]: many mutated inputs of every reader, counted.

Without ``--seconds`` a parser gets 10^5 inputs and a decoder of pictures 10^4.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import readers

from pvsc_link.bench.provenance import write_manifest, write_rows

#: Inputs of a parser (False) and of a decoder (True), and seconds that one input may take.
MANY = {False: 100_000, True: 10_000}
LONGEST_S = 10.0
MOST_MIB = 1024


def fuzz(name, folder, seconds=None):
    """Mutate the sound inputs of a reader; returns how many it refused, and raises for a fault.

    A fault is another error than a refusal, an input that takes long, a file outside of ``folder``
    or memory that grows. ``seconds`` : after which to stop; None: at the number in ``MANY``.
    """
    reader, rng, refused, longest = readers.READERS[name], np.random.default_rng(1), 0, 0.0
    inside = folder / "inside"
    inside.mkdir()
    sound, number = reader.sound(), MANY[reader.is_decoder]
    before, begin = _peak_mib(), time.process_time()
    for index in range(number):
        data = readers.mutated(sound[index % len(sound)], rng)
        start = time.process_time()
        try:
            refused += readers.call(name, data, inside)
        except BaseException:
            print(f"input {index} of {name}: {data[:200]!r}", file=sys.stderr)
            raise
        longest = max(longest, time.process_time() - start)
        assert longest < LONGEST_S, f"input {index} takes too long"
        if seconds is not None and time.process_time() - begin > seconds:
            break
    assert list(folder.iterdir()) == [inside]
    grown = _peak_mib() - before
    assert grown < MOST_MIB, f"{grown:.0f} MiB"
    return {
        "reader": name,
        "inputs": index + 1,
        "refused": refused,
        "faults": 0,
        "longest_s": longest,
        "more_mib": grown,
    }


def _peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="CPU seconds of each reader")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    rows = []
    for name in readers.READERS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(fuzz(name, Path(folder), options.seconds))
        print(rows[-1], flush=True)
        if options.csv:
            write_rows(options.csv, rows)
            write_manifest(options.csv, " ".join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
