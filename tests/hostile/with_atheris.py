"""python with_atheris.py READER [options of libFuzzer]: inputs that coverage leads to."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pvsc_link", "yaml", "json"]):
    sys.path.insert(0, str(Path(__file__).parent))
    import readers


def main():
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as corpus:
        for index, data in enumerate(readers.READERS[name].sound()):
            (Path(corpus) / str(index)).write_bytes(data)
        atheris.Setup(
            [sys.argv[0], corpus, *sys.argv[1:]],
            lambda data: readers.call(name, bytes(data), Path(folder)) and None,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
