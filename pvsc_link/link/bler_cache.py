"""Block error counts on disk, one immutable file per run, shared by every scenario.

``ROOT/bler/<condition>/<seed>.json`` holds one run: so many errors in so many blocks under one
condition with one seed. Files are written whole and never changed, so two processes may fill one
cache, and merging two caches is copying files: runs with other seeds add up, the same run counts
once. A file that is not exactly what this package wrote for that condition is never believed.
"""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pvsc_link.cache_directory import cache_directory

_FORMAT = "pvsc_link bler run 1"


class Run(NamedTuple):
    """One measurement: ``errors`` of ``blocks`` blocks, drawn with ``seed``."""

    seed: int
    errors: int
    blocks: int


class UntrustedRecordWarning(UserWarning):
    """A file in the cache is corrupt or foreign; what it says is measured again."""


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class BlerCache:
    """Runs by condition.

    Parameters: ``root`` : folder of the cache, made when the first run is written.
    A condition is a flat dict of JSON values; equal dicts are the same condition.
    """

    def __init__(self, root: str | Path | None = None):
        self.root = (Path(root) if root is not None else cache_directory()) / "bler"

    def runs(self, condition: Mapping[str, Any]) -> list[Run]:
        """All runs of a condition; a file that cannot be trusted is left out with a warning."""
        return [run for _, stored, run in self._read(self._folder(condition)) if stored]

    def add(self, condition: Mapping[str, Any], run: Run) -> None:
        """Store one run; of two with one seed, the one with more blocks contains the other."""
        path = self._path(condition, run.seed)
        present = self._believe(path) if path.exists() else None
        if present and present[1].blocks >= run.blocks:
            return
        record = {"format": _FORMAT, "condition": dict(condition), **run._asdict()}
        _write_whole(path, json.dumps({**record, "checksum": _digest(record)}, sort_keys=True))

    def __iter__(self) -> Iterator[tuple[dict[str, Any], list[Run]]]:
        """Every condition with its runs."""
        for folder in sorted(self.root.glob("*")):
            found = list(self._read(folder))
            if found:
                yield found[0][1], [run for _, _, run in found]

    def merge(self, other: "BlerCache") -> int:
        """Take over the other cache's runs. Output: number of runs that were new here."""
        num_new = 0
        for condition, runs in other:
            here = {run.seed: run.blocks for run in self.runs(condition)}
            for run in runs:
                num_new += run.blocks > here.get(run.seed, 0)
                self.add(condition, run)
        return num_new

    def _folder(self, condition: Mapping[str, Any]) -> Path:
        return self.root / _digest(condition)[:32]

    def _path(self, condition: Mapping[str, Any], seed: int) -> Path:
        return self._folder(condition) / f"{seed:016x}.json"

    def _read(self, folder: Path) -> Iterator[tuple[Path, dict[str, Any], Run]]:
        for path in sorted(folder.glob("*.json")):
            record = self._believe(path)
            if record:
                yield path, *record

    def _believe(self, path: Path) -> tuple[dict[str, Any], Run] | None:
        """Condition and run of a file, or None (and a warning) unless all of it holds together."""
        try:
            record = json.loads(path.read_text())
            checksum = record.pop("checksum")
            run = Run(*(record[name] for name in Run._fields))
            whole = record["format"] == _FORMAT and checksum == _digest(record)
            if whole and self._path(record["condition"], run.seed) == path and _is_count(run):
                return record["condition"], run
            reason = "its content does not match its checksum or its name"
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            reason = repr(error)
        message = f"{path} is not a block error record of this cache ({reason}); measuring again."
        warnings.warn(message, UntrustedRecordWarning, stacklevel=2)
        return None


def _is_count(run: Run) -> bool:
    return all(type(value) is int for value in run) and 0 <= run.errors <= run.blocks > 0


def _write_whole(path: Path, text: str) -> None:
    """Write beside and rename: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
