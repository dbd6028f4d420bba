"""``--save-frames``: what a point shows and its source, for the report's pictures and videos."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pvsc_link.media import Mp4Writer
from pvsc_link.scenario import Point
from pvsc_link.storage import atomic_file
from pvsc_link.sweep.store import frame_file, reference_file, video_file
from pvsc_link.types import CodecFailure, InputError, Reception, Video


class KeptFrames:
    """Keeps what each point of one seed shows: its last frame as PNG, and its video as MP4.

    The last frame of the last GOP shows most of what errors do, and every scheme is at the end of
    a GOP there. The report compares one seed and one frame, so no other frame is kept without
    loss. The video has all frames (H.264, 4:2:0); a point of one frame has none.

    Parameters: ``folder`` : results folder; ``seed`` : the seed whose points are kept; ``clips`` :
    names of all clips.
    """

    def __init__(self, folder: Path, seed: int, clips: Collection[str]):
        self._folder, self._seed, self._clips = folder, seed, clips
        self._checked: set[Path] = set()

    def lacks(self, point: Point, row: Mapping[str, Any]) -> bool:
        """Whether a finished point should have a frame and its source frame, and has not."""
        if point.seed != self._seed or row["status"] in CodecFailure.STATUSES:
            return False
        last = row["num_frames"] - 1
        stills = frame_file(self._folder, point.point_id, last), self._reference(point, last)
        videos = [video_file(still) for still in stills] if last else []
        return not all(file.is_file() for file in (*stills, *videos))

    def keep(self, point: Point, video: Video, receptions: Sequence[Reception]) -> None:
        """Write what the point shows, and the source unless the same is there.

        Raises ``InputError`` where the disk is full or cannot be written.
        """
        if point.seed != self._seed:
            return
        try:
            self._keep(point, video, receptions)
        except OSError as error:
            raise InputError(
                f"frames in {self._folder} cannot be written",
                found=str(error),
                allowed="a folder that can be written and has space",
                remedy="Make room; the same command then goes on with the rows that are stored.",
            ) from error

    def _keep(self, point: Point, video: Video, receptions: Sequence[Reception]) -> None:
        shown = [frame for reception in receptions for frame in reception.frames_hat]
        last = len(shown) - 1
        _write(frame_file(self._folder, point.point_id, last), shown, video.fps)
        reference = self._reference(point, last)
        if reference not in self._checked:
            is_whole = not last or video_file(reference).is_file()
            if not (is_whole and _holds(reference, video.frames[last])):
                _write(reference, video.frames[: last + 1], video.fps)
            self._checked.add(reference)

    def _reference(self, point: Point, frame: int) -> Path:
        return reference_file(self._folder, point.clip, frame, self._clips)


def _write(still: Path, frames: Sequence[np.ndarray] | np.ndarray, fps: float) -> None:
    """Write the last of ``frames`` to ``still``, and all of them, if several, to its video."""
    write_png(still, frames[-1])
    if len(frames) > 1:
        with Mp4Writer(video_file(still), fps) as writer:
            for frame in frames:
                writer.write(frame)


def _holds(path: Path, frame: np.ndarray) -> bool:
    """Whether the picture at ``path`` is ``frame``: a clip may have changed since it was kept."""
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image.convert("RGB")), frame)
    except (OSError, ValueError):
        return False


def write_png(path: Path, frame: np.ndarray) -> None:
    """Write uint8 RGB ``[height, width, 3]`` as PNG, whole or not at all."""
    with atomic_file(path) as file:
        Image.fromarray(frame).save(file, "PNG")
