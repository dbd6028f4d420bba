"""``--save-frames``: one shown frame per point and its source frame, for the report's pictures."""

from collections.abc import Mapping, Sequence
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

    Parameters: ``folder`` : results folder; ``seed`` : the seed whose points are kept.
    """

    def __init__(self, folder: Path, seed: int):
        self._folder, self._seed = folder, seed
        self._written: set[Path] = set()

    def lacks(self, point: Point, row: Mapping[str, Any]) -> bool:
        """Whether a finished point should have a frame and has none."""
        if point.seed != self._seed or row["status"] in CodecFailure.STATUSES:
            return False
        return not frame_file(self._folder, point.point_id, row["num_frames"] - 1).is_file()

    def keep(self, point: Point, video: Video, receptions: Sequence[Reception]) -> None:
        """Write the point's last frame, and the source frame once per run: it may have changed."""
        if point.seed != self._seed:
            return
        last = sum(len(reception.frames_hat) for reception in receptions) - 1
        write_png(frame_file(self._folder, point.point_id, last), receptions[-1].frames_hat[-1])
        reference = reference_file(self._folder, point.clip, last)
        if reference not in self._written:
            write_png(reference, video.frames[last])
            self._written.add(reference)


def write_png(path: Path, frame: np.ndarray) -> None:
    """Write uint8 RGB ``[height, width, 3]`` as PNG, whole or not at all."""
    with atomic_file(path) as file:
        Image.fromarray(frame).save(file, "PNG")
