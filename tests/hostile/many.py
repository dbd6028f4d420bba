"""python many.py [--seconds S] [--jobs N] [--csv FILE]: mutated inputs of every reader, counted.

Every reader has a process of its own, whose memory is that of this reader alone. Without
``--seconds`` a parser gets 10^5 inputs and a decoder of pictures 10^4.
"""

import argparse
import multiprocessing
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
    """Mutate the sound inputs of a reader; returns how many it refused and how many were faults.

    A fault is another error than a refusal or an input that takes long. A file outside of
    ``folder`` and memory that grows are an ``AssertionError``.

    Parameters: ``seconds`` : CPU time after which to stop; None: at the number in ``MANY``.
    """
    reader, rng = readers.READERS[name], np.random.default_rng(1)
    refused, faults, longest = 0, 0, 0.0
    inside = folder / "inside"
    inside.mkdir()
    sound, number = reader.sound(), MANY[reader.is_decoder]
    before, begin = _peak_mib(), time.process_time()
    for index in range(number):
        data = readers.mutated(sound[index % len(sound)], rng)
        start = time.process_time()
        try:
            refused += readers.call(name, data, inside)
        except Exception as error:
            faults += 1
            print(f"input {index} of {name}: {error!r:.200} from {data[:200]!r}", file=sys.stderr)
        took = time.process_time() - start
        if took > LONGEST_S:
            faults += 1
            print(f"input {index} of {name} took {took:.0f} s: {data[:200]!r}", file=sys.stderr)
        longest = max(longest, took)
        if seconds is not None and time.process_time() - begin > seconds:
            break
    assert list(folder.iterdir()) == [inside]
    grown = _peak_mib() - before
    assert grown < MOST_MIB, f"{grown:.0f} MiB"
    return {
        "reader": name,
        "inputs": index + 1,
        "refused": refused,
        "faults": faults,
        "longest_s": longest,
        "more_mib": grown,
    }


def _peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _fuzz_apart(given):
    with tempfile.TemporaryDirectory() as folder:
        return fuzz(given[0], Path(folder), given[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="CPU seconds of each reader")
    parser.add_argument("--jobs", type=int, default=1, help="readers at a time")
    parser.add_argument("--only", nargs="+", default=list(readers.READERS))
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    given = [(name, options.seconds) for name in options.only]
    with multiprocessing.get_context("fork").Pool(options.jobs, maxtasksperchild=1) as pool:
        rows = []
        for row in pool.imap(_fuzz_apart, given, chunksize=1):
            print(row, flush=True)
            rows.append(row)
    if options.csv:
        write_rows(options.csv, rows)
        write_manifest(options.csv, " ".join(["python", *sys.argv]))
    return int(any(row["faults"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
