"""Where training pictures come from: folders of clips in common layouts, and photographs.

Every clip and still is decoded once, into one memory-mapped file of raw uint8 RGB. This cache is a
folder ``<cache>/clips_<key>/`` with ``frames.bin`` (frames end to end) and ``index.json``. The key
is a digest of the names, sizes and dates of the sources, so that changed data make another cache
and equal data share one. Several runs on one machine share the memory, too. With ``cache: false``
only the photographs are kept so, and a clip is decoded when it is drawn.

Photographs become clips by ``animate``: an affine camera path, and a second picture that occludes
the first.
"""

import functools
import io
import json
import logging
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from pvsc_link.media import RAW_SUFFIXES, stream_video
from pvsc_link.storage import cache_directory, digest, exclusive
from pvsc_link.train.config import DataConfig
from pvsc_link.types import InputError

LOG = logging.getLogger(__name__)
#: Frames kept of each clip, and the largest height and width that is kept of a frame.
MAX_FRAMES, MAX_SIZE = 32, 512
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".y4m")
STILL_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".webp")
#: Vimeo-90K lists its training septuplets in this file; the others are its test set.
VIMEO_LIST = "sep_trainlist.txt"
_SIZE = re.compile(r"_(\d{2,5})x(\d{2,5})_")


@dataclass(frozen=True)
class ClipSource:
    """One clip before it is decoded: a file, a folder of PNG images, or members of a tar file.

    Parameters: ``name`` : unique; ``parts`` : name, offset and size in bytes of each member, if
    ``path`` is a tar file; ``root`` : number of the entry of ``data.clips`` that it is from.
    """

    name: str
    path: Path
    parts: tuple[tuple[str, int, int], ...] = ()
    root: int = 0

    def identity(self) -> tuple[str, int, int]:
        """(name, bytes, modification time in ns), from which the key of the cache is made."""
        status = self.path.stat()
        return self.name, status.st_size, status.st_mtime_ns

    def decode(self, max_frames: int) -> np.ndarray:
        """The first frames, uint8 RGB [num_frames, height, width, 3]; fewer if it is shorter.

        All clips are read by BT.709, whatever they state, as those of the released weights were.
        """
        if self.parts and Path(self.parts[0][0]).suffix.lower() in STILL_SUFFIXES:
            few = self.parts[:max_frames]
            frames = [_decode_still(part[0], self._bytes(part)) for part in few]
            if len({frame.shape for frame in frames}) > 1:
                raise InputError(
                    f"clip {self.name} in {self.path}",
                    found="images of several sizes",
                    allowed="frames of one size",
                    remedy="Name tar files of photographs under data.stills.",
                )
            return np.stack(frames)
        if self.parts:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / Path(self.parts[0][0]).name
                copy.write_bytes(self._bytes(self.parts[0]))
                return ClipSource(self.name, copy).decode(max_frames)
        size, pixel_format = _raw_format(self.path)
        stream = stream_video(self.path, size=size, pixel_format=pixel_format, matrix="bt709")
        with closing(stream.frames):
            return np.stack(list(islice(stream.frames, max_frames)))

    def _bytes(self, part: tuple[str, int, int]) -> bytes:
        _, offset, size = part
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def find_clips(roots: list[str]) -> list[ClipSource]:
    """Every clip below the folders ``roots``, or in tar files, in a fixed order.

    Known layouts: any tree of video files; folders of numbered PNG images; Vimeo-90K (folders
    ``sequences/00001/0001/im1.png``, restricted to ``sep_trainlist.txt`` if the root has one);
    BVI-DVC (``Name_1920x1088_25fps_10bit_420.yuv`` or mp4). In a tar file, images in one folder
    and every video are a clip each; ``shards/*.tar`` names several tar files.
    Raises ``InputError`` for a root that is missing or holds no clip, for a folder above or below
    that of a ``sep_trainlist.txt``, whose list would be passed over, and for a clip of the list
    that is missing.
    """
    clips: list[ClipSource] = []
    for number, root in enumerate(map(Path, roots)):
        root = root.expanduser()
        files = sorted(root.parent.glob(root.name)) if "*" in root.name else [root]
        found = [c for f in files for c in (_clips_in_tar(f) if f.is_file() else _clips_below(f))]
        if not found:
            raise _nothing_at(root, "a folder with clips, or an uncompressed tar file of them")
        clips += [replace(clip, root=number) for clip in found]
    return clips


def _clips_in_tar(path: Path) -> Iterator[ClipSource]:
    folders: dict[str, list[tuple[str, int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                place = Path(member.name)
                part = (str(place), member.offset_data, member.size)
                if not member.isfile() or place.name[0] == ".":
                    continue
                if place.suffix.lower() in STILL_SUFFIXES:
                    folders.setdefault(str(place.parent), []).append(part)
                elif place.suffix.lower() in (*VIDEO_SUFFIXES, *RAW_SUFFIXES):
                    folders[str(place)] = [part]
    except tarfile.TarError:
        return  # find_clips says what is allowed
    for name, parts in sorted(folders.items()):
        if len(parts) > 1 or parts[0][0] == name:
            in_order = sorted(parts, key=lambda part: (len(part[0]), part[0]))
            yield ClipSource(f"{path.stem}/{name}", path, tuple(in_order))


def _clips_below(root: Path) -> Iterator[ClipSource]:
    if not root.is_dir():
        return
    listed = root / VIMEO_LIST
    if listed.is_file():
        for line in listed.read_text().split():
            clip = root / "sequences" / line
            if not clip.is_dir():
                raise InputError(
                    f"clip of {listed}",
                    found=f"{clip} is missing",
                    allowed=f"a folder of PNG images for every line of {VIMEO_LIST}",
                    remedy="Unpack all of Vimeo-90K, or take the line out of the list.",
                )
            yield ClipSource(line, clip)
        return
    for above in root.parents:
        if root.is_relative_to(above / "sequences"):
            _check_no_list(root, above)
    for folder in [root, *sorted(p for p in root.rglob("*") if p.is_dir())]:
        _check_no_list(root, folder)
        images = sum(p.suffix.lower() == ".png" and p.name[0] != "." for p in folder.iterdir())
        if images > 1:
            yield ClipSource(str(folder.relative_to(root)), folder)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in (*VIDEO_SUFFIXES, *RAW_SUFFIXES) and path.name[0] != ".":
            yield ClipSource(str(path.relative_to(root)), path)


def _check_no_list(root: Path, folder: Path) -> None:
    """Raises ``InputError`` if ``folder`` is Vimeo-90K, whose test clips ``root`` would bring."""
    if (folder / VIMEO_LIST).is_file():
        raise InputError(
            "training data",
            found=f"{root}, but {VIMEO_LIST} lies in {folder}",
            allowed=f"the folder of {VIMEO_LIST} itself, so that its test clips are left out",
            remedy=f"Write {folder} in data.clips.",
        )


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
            raise _nothing_at(root.expanduser(), "a folder or tar file with photographs")


def _still_bytes(root: Path) -> Iterator[tuple[str, bytes]]:
    if root.is_dir():
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in STILL_SUFFIXES and path.name[0] != ".":
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
    state = "which is missing"
    if root.is_file():
        state = "a file, but no uncompressed tar file with such data"
    elif root.is_dir():
        state = "a folder without any"
    elif "*" in root.name:
        state = "which no file is like"
    return InputError(
        "training data",
        found=f"{root}, {state}",
        allowed=allowed,
        remedy="Correct data.clips or data.stills in the training file.",
    )


_FORMAT = 1


@dataclass(frozen=True)
class CachedClip:
    """Where one clip lies: offset in bytes, and shape [num_frames, height, width, 3]."""

    name: str
    offset: int
    shape: tuple[int, int, int, int]


class ClipCache:
    """Read access to a cache folder: ``clips`` (several frames) and ``stills`` (one frame).

    Parameters: ``folder`` : of the cache; ``roots`` : number of the entry of ``data.clips`` of
    every clip, in the order of the cache.
    """

    def __init__(self, folder: Path, roots: Sequence[int] = ()):
        index = json.loads((folder / "index.json").read_text())
        self.folder, self.digest = folder, index["sha256"]
        pixels = folder / "frames.bin"
        empty = not pixels.stat().st_size  # which memmap refuses
        self._frames = np.zeros(0, np.uint8) if empty else np.memmap(pixels, np.uint8, mode="r")
        entries = [CachedClip(e["name"], e["offset"], tuple(e["shape"])) for e in index["clips"]]
        self.clips: list[Any] = [e for e in entries if e.shape[0] > 1]
        self.stills = [e for e in entries if e.shape[0] == 1]
        known = zip(entries, roots, strict=False)  # photographs come last and have no root
        self.roots = np.array([root for entry, root in known if entry.shape[0] > 1], int)

    def frames(self, clip: Any) -> np.ndarray:
        """uint8 RGB [num_frames, height, width, 3], a view of the memory-mapped file."""
        size = int(np.prod(clip.shape))
        return self._frames[clip.offset : clip.offset + size].reshape(clip.shape)


class ClipsOnDemand(ClipCache):
    """Clips that are decoded when they are drawn; only the photographs lie in the cache.

    Parameters: ``folder`` : cache of the photographs; ``clips`` : list of ClipSource; ``max_size``
    : of what is kept of a frame, None: all.
    """

    def __init__(self, folder: Path, clips: list[ClipSource], max_size: int | None):
        super().__init__(folder)
        self.clips, self.roots = clips, np.array([clip.root for clip in clips], int)
        self._decoded = functools.lru_cache(maxsize=16)(
            lambda clip: window(clip.decode(MAX_FRAMES), max_size)
        )

    def frames(self, clip: Any) -> np.ndarray:
        """As ``ClipCache.frames``; a clip that was drawn a moment ago is still there."""
        return self._decoded(clip) if isinstance(clip, ClipSource) else super().frames(clip)


def open_cache(config: DataConfig) -> ClipCache:
    """The cache of these sources, which are decoded now if it does not exist yet.

    The log states its size, and an estimate of it before it is written. Of two processes that
    start together, the second waits for the first. An interrupted decoding leaves no cache behind.
    Raises ``InputError`` for missing or unreadable sources.
    """
    clips = _selected(find_clips(config.clips), config) if config.clips else []
    kept = clips if config.cache else []
    key = _key(kept, config)
    root = cache_directory()
    folder = root / f"clips_{key}"
    with exclusive(root / f"clips_{key}.lock"):
        if not (folder / "index.json").exists():
            _announce(folder, kept, config)
            _build(folder, kept, config)
    size = (folder / "frames.bin").stat().st_size
    LOG.info("%d clips; the cache %s holds %.2f GB", len(clips), folder, size / 1e9)
    if config.cache:
        return ClipCache(folder, [clip.root for clip in clips])
    return ClipsOnDemand(folder, clips, _max_size(config))


def _announce(folder: Path, clips: list[ClipSource], config: DataConfig) -> None:
    """State about how large the cache will be, from the first clip of every entry of ``clips``.

    Raises ``InputError`` if the file system has less room.
    """
    firsts = {clip.root: clip for clip in reversed(clips)}
    pictures = {n: window(c.decode(MAX_FRAMES), _max_size(config)) for n, c in firsts.items()}
    size = sum(pictures[clip.root].nbytes for clip in clips) / 1e9
    words = "decoding %d clips, about %.2f GB, into %s (data.cache: false avoids it)"
    LOG.info(words, len(clips), size, folder)
    free = shutil.disk_usage(folder.parent).free / 1e9
    if size > free:
        raise InputError(
            f"room in {folder.parent} for the decoded clips",
            found=f"{free:.2f} GB",
            allowed=f"about {size:.2f} GB",
            remedy="Set PVSC_LINK_CACHE to a folder on a larger disk, or data.cache: false.",
        )


def _max_size(config: DataConfig) -> int | None:
    return None if config.whole_frames else MAX_SIZE


def _selected(clips: list[ClipSource], config: DataConfig) -> list[ClipSource]:
    clips = [c for c in clips if not any(word in c.name for word in config.exclude)]
    if config.max_clips is not None and len(clips) > config.max_clips:
        chosen = np.random.default_rng(0).permutation(len(clips))[: config.max_clips]
        clips = [clips[i] for i in sorted(chosen)]
    return clips


def _key(clips: list[ClipSource], config: DataConfig) -> str:
    for still in config.stills:
        if not Path(still).expanduser().exists():
            raise _nothing_at(Path(still), "a folder or tar file with photographs")
    stills = [(p, os.stat(Path(p).expanduser()).st_mtime_ns) for p in config.stills]
    identity = [_FORMAT, [c.identity() for c in clips], stills, MAX_FRAMES, _max_size(config)]
    return digest(json.dumps(identity))[:16]


def _build(folder: Path, clips: list[ClipSource], config: DataConfig) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with (partial / "frames.bin").open("wb") as file:
            entries, pixels = _write_all(file, _pictures(clips, config))
            file.flush()
            os.fsync(file.fileno())
        index = {"sha256": pixels, "clips": entries}
        (partial / "index.json").write_text(json.dumps(index, indent=0))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pictures(clips: list[ClipSource], config: DataConfig) -> Iterator[tuple[str, np.ndarray]]:
    for clip in clips:
        yield clip.name, window(clip.decode(MAX_FRAMES), _max_size(config))
    for name, image in iter_stills(config.stills):
        yield name, window(image[None], _max_size(config))


def _write_all(
    file: BinaryIO, pictures: Iterator[tuple[str, np.ndarray]]
) -> tuple[list[dict], str]:
    entries, total, offset = [], sha256(), 0
    for name, frames in pictures:
        data = np.ascontiguousarray(frames).tobytes()
        file.write(data)
        total.update(name.encode() + data)
        entries.append({"name": name, "offset": offset, "shape": frames.shape})
        offset += len(data)
    return entries, total.hexdigest()


def window(frames: np.ndarray, max_size: int | None) -> np.ndarray:
    """The middle of frames larger than ``max_size``: [..., min(height, max_size), ...]."""
    if max_size is None:
        return frames
    top = max(0, (frames.shape[1] - max_size) // 2)
    left = max(0, (frames.shape[2] - max_size) // 2)
    return frames[:, top : top + max_size, left : left + max_size]


def animate(
    still: np.ndarray,
    cover: np.ndarray,
    num_frames: int,
    size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A clip of a moving photograph with a moving object in front of it.

    The camera moves by up to 6 pixels and turns and zooms a little from frame to frame, with
    slowly changing speed, as in video at 25 to 60 frames per second. In half of the clips an
    ellipse cut out of ``cover`` moves on its own path, which hides and uncovers the background.

    Input: ``still``, ``cover`` : [height, width, 3], uint8.
    Output: [num_frames, size, size, 3], uint8.
    """
    frames = [_sample(still, grid) for grid in _path(still.shape, num_frames, size, rng)]
    if rng.random() < 0.5:
        layer = [_sample(cover, grid) for grid in _path(cover.shape, num_frames, size, rng)]
        masks = _ellipses(num_frames, size, rng)
        frames = [
            m * top + (1 - m) * below for m, top, below in zip(masks, layer, frames, strict=True)
        ]
    return np.rint(np.stack(frames)).astype(np.uint8)


def _path(
    shape: tuple[int, ...], num_frames: int, size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Source coordinates [2, size, size] (row, column) of every frame."""
    height, width = shape[:2]
    pixel = np.arange(size) - (size - 1) / 2
    local = np.stack(np.meshgrid(pixel, pixel, indexing="ij"))
    centre = np.array([rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width])
    speed = rng.normal(0, 1, 2) * rng.choice([0.3, 1.0, 3.0])
    angle, turn = rng.uniform(-0.3, 0.3), rng.normal(0, 0.5) * np.pi / 180
    zoom, growth = rng.uniform(0.7, 1.3), 1 + np.clip(rng.normal(0, 0.007), -0.02, 0.02)
    grids = []
    for _ in range(num_frames):
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        turned = np.stack([cos * local[0] - sin * local[1], sin * local[0] + cos * local[1]])
        grids.append(turned + centre[:, None, None])
        centre = centre + np.clip(speed, -6, 6)
        speed = speed + rng.normal(0, 0.2, 2)
        angle, zoom = angle + turn, zoom * growth
    return grids


def _sample(image: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of ``image`` at ``grid``, mirrored at the borders: float32."""
    height, width = image.shape[:2]
    rows, columns = _mirror(grid[0], height), _mirror(grid[1], width)
    top = np.minimum(rows.astype(np.int32), height - 2)
    left = np.minimum(columns.astype(np.int32), width - 2)
    a = (rows - top).astype(np.float32)[..., None]
    b = (columns - left).astype(np.float32)[..., None]
    upper = image[top, left] * (1 - b) + image[top, left + 1] * b
    lower = image[top + 1, left] * (1 - b) + image[top + 1, left + 1] * b
    return upper * (1 - a) + lower * a


def _mirror(position: np.ndarray, length: int) -> np.ndarray:
    last = length - 1
    folded = np.mod(position, 2 * last)
    return np.where(folded > last, 2 * last - folded, folded)


def _ellipses(num_frames: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks [size, size, 1] in [0, 1] of a moving ellipse with an edge about 1 pixel soft."""
    pixel = np.arange(size, dtype=np.float32)
    centre = rng.uniform(0.1, 0.9, 2) * size
    speed = rng.normal(0, 2.5, 2)
    radii = rng.uniform(0.1, 0.35, 2) * size
    masks = []
    for _ in range(num_frames):
        rows = ((pixel - centre[0]) / radii[0])[:, None]
        columns = ((pixel - centre[1]) / radii[1])[None, :]
        inside = (1 - np.hypot(rows, columns)) * radii.min() + 0.5
        masks.append(np.clip(inside, 0, 1).astype(np.float32)[..., None])
        centre = centre + speed
    return masks
