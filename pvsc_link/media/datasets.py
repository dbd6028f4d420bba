"""Standard test sets that a user points at with one folder: HEVC A to E, UVG, MCL-JCV."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pvsc_link.types import InputError

#: Folder that holds the sequences, in any sub-folder.
DATASETS_VARIABLE = "PVSC_LINK_DATASETS"
_VIDEO_SUFFIXES = (".yuv", ".y4m", ".mp4", ".mkv", ".avi", ".mov")


@dataclass(frozen=True)
class Sequence:
    """One sequence of a test set, as its publishers distribute it."""

    name: str  # what a scenario writes
    dataset: str
    width: int
    height: int
    fps: float
    num_frames: int
    file: str  # usual file name
    bits: int = 8

    @property
    def pixel_format(self) -> str:
        """Raw planar format of the usual file."""
        return "yuv420p" if self.bits == 8 else "yuv420p10le"

    @property
    def prefix(self) -> str:
        """Beginning of the names under which the sequence is found, e.g. ``BQMall_832x480``."""
        return self.file.split(f"_{self.width}x{self.height}")[0]


def _hevc(dataset: str, width: int, height: int, rows: str) -> Iterator[Sequence]:
    """Rows ``name fps frames [bits [file stem]]`` of one class of the HEVC test conditions."""
    cropped = "_crop" if dataset == "HEVC-A" else ""
    for row in rows.split("|"):
        name, fps, num_frames, *rest = row.split()
        bits = int(rest[0]) if rest else 8
        stem = rest[1] if len(rest) > 1 else name
        depth = "_10bit" if bits == 10 else ""
        file = f"{stem}_{width}x{height}_{fps}{depth}{cropped}.yuv"
        yield Sequence(name, dataset, width, height, float(fps), int(num_frames), file, bits)


def _uvg() -> Iterator[Sequence]:
    names = "Beauty Bosphorus HoneyBee Jockey ReadySteadyGo ShakeNDry YachtRide"
    for name in names.split():
        num_frames = 300 if name == "ShakeNDry" else 600
        file = f"{name}_1920x1080_120fps_420_8bit_YUV.yuv"
        yield Sequence(name, "UVG", 1920, 1080, 120.0, num_frames, file)


def _mcl_jcv() -> Iterator[Sequence]:
    """Thirty clips of five seconds."""
    at_25, at_24 = {5, 6, 7, 8, 9, 18, 20}, {17, 21, 22, 23, 24, 25, 29}
    for number in range(1, 31):
        fps = 25 if number in at_25 else 24 if number in at_24 else 30
        name = f"videoSRC{number:02d}"
        file = f"{name}_1920x1080_{fps}.yuv"
        yield Sequence(name, "MCL-JCV", 1920, 1080, float(fps), 5 * fps, file)


_ALL = [
    *_hevc(
        "HEVC-A",
        2560,
        1600,
        "Traffic 30 150|PeopleOnStreet 30 150|NebutaFestival 60 300 10"
        "|SteamLocomotiveTrain 60 300 10",
    ),
    *_hevc(
        "HEVC-B",
        1920,
        1080,
        "Kimono1 24 240|ParkScene 24 240|Cactus 50 500|BasketballDrive 50 500|BQTerrace 60 600",
    ),
    *_hevc(
        "HEVC-C",
        832,
        480,
        "BasketballDrill 50 500|BQMall 60 600|PartyScene 50 500|RaceHorsesC 30 300 8 RaceHorses",
    ),
    *_hevc(
        "HEVC-D",
        416,
        240,
        "BasketballPass 50 500|BQSquare 60 600|BlowingBubbles 50 500|RaceHorses 30 300",
    ),
    *_hevc("HEVC-E", 1280, 720, "FourPeople 60 600|Johnny 60 600|KristenAndSara 60 600"),
    *_uvg(),
    *_mcl_jcv(),
]

#: Sequences by the name that a scenario writes.
SEQUENCES: dict[str, Sequence] = {sequence.name: sequence for sequence in _ALL}


def find_sequence(sequence: Sequence, dataset_root: str | Path | None = None) -> Path:
    """File or PNG folder of a sequence under ``dataset_root`` (default: ``$PVSC_LINK_DATASETS``).

    The usual file name wins; otherwise the one entry whose name begins with the sequence's name
    (and, where several do, also holds its WIDTHxHEIGHT).

    Raises ``InputError`` when no folder is stated, nothing is found, or several entries fit.
    """
    root = _root(sequence, dataset_root)
    candidates = [path for path in sorted(root.rglob("*")) if _is_candidate(path, sequence)]
    exact = [path for path in candidates if path.name == sequence.file]
    sized = [path for path in candidates if f"{sequence.width}x{sequence.height}" in path.name]
    for found in (exact, sized, candidates):
        if len(found) == 1:
            return found[0]
    raise InputError(
        f"sequence {sequence.name} of {sequence.dataset} under {root}",
        found=[str(path.relative_to(root)) for path in candidates] or "nothing",
        allowed=f"{sequence.file}, or one entry whose name begins with {sequence.prefix}",
        remedy="Download the sequence, or give the path of the file itself as the clip.",
    )


def _root(sequence: Sequence, dataset_root: str | Path | None) -> Path:
    stated = dataset_root or os.environ.get(DATASETS_VARIABLE)
    if not stated or not Path(stated).expanduser().is_dir():
        raise InputError(
            f"folder of the test sets, for clip {sequence.name}",
            found=stated,
            allowed="an existing folder",
            remedy=f"Set {DATASETS_VARIABLE} (or the scenario's dataset folder) to it.",
        )
    return Path(stated).expanduser()


def _is_candidate(path: Path, sequence: Sequence) -> bool:
    if not path.name.lower().startswith(sequence.prefix.lower()):
        return False
    if path.is_dir():
        return any(path.glob("*.png"))
    return path.suffix.lower() in _VIDEO_SUFFIXES
