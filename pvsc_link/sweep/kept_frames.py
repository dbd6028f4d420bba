"""``--save-frames``: one shown frame per point and its source frame, for the report's pictures."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pvsc_link.scenario import Point
from pvsc_link.storage import atomic_file
from pvsc_link.sweep.store import frame_file, reference_file
from pvsc_link.types import CodecFailure, Reception, Video


class KeptFrames:
    """Keeps the last frame that each point of one seed shows, as ``frames/*.png``.

    The last frame of the last GOP shows most of what errors do, and every scheme is at the end of
    a GOP there. The report compares one seed and one frame, so nothing else is kept.

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
        files = frame_file(self._folder, point.point_id, last), self._reference(point, last)
        return not all(file.is_file() for file in files)

    def keep(self, point: Point, video: Video, receptions: Sequence[Reception]) -> None:
        """Write the point's last frame, and the source frame unless the same is there."""
        if point.seed != self._seed:
            return
        last = sum(len(reception.frames_hat) for reception in receptions) - 1
        write_png(frame_file(self._folder, point.point_id, last), receptions[-1].frames_hat[-1])
        reference = self._reference(point, last)
        if reference not in self._checked:
            if not _holds(reference, video.frames[last]):
                write_png(reference, video.frames[last])
            self._checked.add(reference)

    def _reference(self, point: Point, frame: int) -> Path:
        return reference_file(self._folder, point.clip, frame, self._clips)


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
