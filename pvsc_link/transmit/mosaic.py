"""Side by side: the original and every scheme in one picture, each under its caption."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from pvsc_link.transmit.lettering import Caption, caption_strip, heading, strip_height

#: A tile is at least this wide (small videos are enlarged by whole numbers), and the picture at
#: most this large (large ones are shrunk): players stop at 4096.
_LEAST_TILE, _MOST_WIDTH, _MOST_HEIGHT = 320, 3840, 2160
_GAP = 8
_ASPECT = 16 / 9


class Mosaic:
    """Lays out tiles of one size in the grid that comes nearest to 16:9.

    Parameters: ``size`` : (height, width) of the video; ``number`` of tiles; ``title`` above all.
    """

    def __init__(self, size: tuple[int, int], number: int, title: str):
        self._columns = min(range(1, number + 1), key=lambda c: _misfit(size, number, c))
        self._rows = math.ceil(number / self._columns)
        self.tile = self._tile_size(size)
        self._shrunk = self.tile[0] < size[0]
        width = self._columns * (self.tile[1] + _GAP) + _GAP
        self._heading = heading(title, width)

    def compose(self, frames: Sequence[np.ndarray], captions: Sequence[Caption]) -> np.ndarray:
        """The picture, uint8 RGB; ``frames`` : uint8 RGB [height, width, 3], one per caption."""
        height, width = self.tile
        step = strip_height(width) + height + _GAP
        top = len(self._heading)
        shape = (top + self._rows * step, self._heading.shape[1], 3)
        picture = np.full(shape, 255, np.uint8)
        picture[:top] = self._heading
        for place, (frame, caption) in enumerate(zip(frames, captions, strict=True)):
            row, column = divmod(place, self._columns)
            y, x = top + row * step, _GAP + column * (width + _GAP)
            strip = caption_strip(caption, width)
            picture[y : y + len(strip), x : x + width] = strip
            y += len(strip)
            picture[y : y + height, x : x + width] = scaled(frame, self.tile)
        return picture

    def _tile_size(self, size: tuple[int, int]) -> tuple[int, int]:
        larger = enlargement(size[1])
        height, width = size[0] * larger, size[1] * larger
        room = (
            (_MOST_WIDTH / self._columns - _GAP) / width,
            (_MOST_HEIGHT / self._rows - _GAP) / (height + strip_height(width)),
        )
        share = min(1.0, *room)
        return max(int(height * share), 1), max(int(width * share), 1)


def enlargement(width: int, least: int = _LEAST_TILE) -> int:
    """By how much a frame of this width is enlarged so that it can be seen."""
    return max(1, math.ceil(least / width))


def scaled(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB of ``size`` (height, width): larger by repeating pixels, smaller by filtering."""
    if frame.shape[:2] == size:
        return frame
    grows = size[0] % frame.shape[0] == 0 and size[1] % frame.shape[1] == 0
    method = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(frame).resize(size[::-1], method))


def _misfit(size: tuple[int, int], number: int, columns: int) -> float:
    rows = math.ceil(number / columns)
    wide = size[1] * enlargement(size[1])
    high = size[0] * enlargement(size[1]) + strip_height(wide)
    empty = columns * rows - number
    return abs(math.log(columns * wide / (rows * high) / _ASPECT)) + 0.3 * empty
