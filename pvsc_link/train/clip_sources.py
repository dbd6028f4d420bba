"""Where training pictures come from: folders of clips in the layouts people have, and stills."""

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pvsc_link.media.raw_yuv import RAW_SUFFIXES
from pvsc_link.media.reader import read_video
from pvsc_link.types import InputError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".y4m")
STILL_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".webp")
#: Vimeo-90K names its training septuplets here; the others are its test set.
VIMEO_LIST = "sep_trainlist.txt"
_SIZE = re.compile(r"_(\d{2,5})x(\d{2,5})_")


@dataclass(frozen=True)
class ClipSource:
    """One clip that is not decoded yet: a file or a folder of PNG images, with a unique name."""

    name: str
    path: Path

    def identity(self) -> tuple[str, int, int]:
        """(name, bytes, modification time in ns): what the cache compares."""
        status = self.path.stat()
        return self.name, status.st_size, status.st_mtime_ns

    def decode(self, max_frames: int) -> np.ndarray:
        """The first frames, uint8 RGB [num_frames, height, width, 3]; fewer if it is shorter."""
        size, pixel_format = _raw_format(self.path)
        try:
            video = read_video(
                self.path, num_frames=max_frames, size=size, pixel_format=pixel_format
            )
        except InputError:  # shorter than that; a damaged file fails again
            video = read_video(self.path, size=size, pixel_format=pixel_format)
        return video.frames


def find_clips(roots: list[str]) -> list[ClipSource]:
    """Every clip below the folders ``roots``, in a fixed order.

    Known layouts: any tree of video files; folders of numbered PNG images; Vimeo-90K (folders
    ``sequences/00001/0001/im1.png``, restricted to ``sep_trainlist.txt`` where that lies at the
    root); BVI-DVC (``Name_1920x1088_25fps_10bit_420.yuv`` or mp4).
    Raises ``InputError`` for a root that is missing or holds no clip.
    """
    clips: list[ClipSource] = []
    for root in map(Path, roots):
        found = list(_clips_below(root.expanduser()))
        if not found:
            raise _nothing_at(root, "a folder with clips")
        clips += found
    return clips


def _clips_below(root: Path) -> Iterator[ClipSource]:
    listed = root / VIMEO_LIST
    if listed.is_file():
        for line in listed.read_text().split():
            yield ClipSource(line, root / "sequences" / line)
        return
    for folder in [root, *sorted(p for p in root.rglob("*") if p.is_dir())]:
        images = sum(p.suffix.lower() == ".png" for p in folder.iterdir())
        if images > 1:
            yield ClipSource(str(folder.relative_to(root)), folder)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in (*VIDEO_SUFFIXES, *RAW_SUFFIXES):
            yield ClipSource(str(path.relative_to(root)), path)


def _raw_format(path: Path) -> tuple[tuple[int, int] | None, str | None]:
    if path.suffix.lower() not in RAW_SUFFIXES:
        return None, None
    match = _SIZE.search(path.stem + "_")
    if match is None:
        raise InputError(
            "raw file without its size",
            found=path.name,
            allowed="..._WIDTHxHEIGHT_... in the file name",
            remedy="Rename it, as BVI-DVC names its files.",
        )
    chroma = "444" if "444" in path.stem else "420"
    depth = "10le" if re.search(r"10_?b", path.stem) else ""
    return (int(match[1]), int(match[2])), f"yuv{chroma}p{depth}"


def iter_stills(roots: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and uint8 RGB [height, width, 3] of every still in folders or tar files ``roots``."""
    for root in map(Path, roots):
        count = 0
        for name, data in _still_bytes(root.expanduser()):
            count += 1
            yield name, _decode_still(name, data)
        if not count:
            raise _nothing_at(root, "a folder or tar file with photographs")


def _still_bytes(root: Path) -> Iterator[tuple[str, bytes]]:
    if root.is_dir():
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in STILL_SUFFIXES:
                yield path.name, path.read_bytes()
    elif root.is_file():
        with tarfile.open(root) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream and Path(member.name).suffix.lower() in STILL_SUFFIXES:
                    yield member.name, stream.read()


def _decode_still(name: str, data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(
            f"still {name}", found=str(error), allowed="a readable image", remedy="Remove it."
        ) from error


def _nothing_at(root: Path, allowed: str) -> InputError:
    return InputError(
        "training data", found=str(root), allowed=allowed, remedy="Correct data: in the config."
    )
