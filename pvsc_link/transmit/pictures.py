"""The pictures of a transmission: captions, all schemes side by side, and a still with zooms.

Every frame stands under a caption that says what it is and what was measured. :class:`Mosaic` puts
the original and every scheme into one picture for the video; :func:`still_picture` shows one frame
with two zoomed regions below it (the paper's Fig. 7).
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pvsc_link.report import Box, zoom_boxes

_INK, _QUIET, _ALARM, _PAPER = "#111111", "#555555", "#B00020", "#FFFFFF"
_LINE = 1.35  # line height over type size
_CHARACTERS = 50  # a line of so many fits the width
#: Type size of a still over its width: 7 points where a page of two columns (7.16 inches) shows it.
_STILL_TYPE = 1 / 72


@dataclass(frozen=True)
class Caption:
    """A label in bold beside a patch of the scheme's colour, two lines, and a warning in red."""

    label: str
    colour: str
    lines: tuple[str, str]
    alarm: str = ""


def strip_height(width: int) -> int:
    """Height of the strip of a tile of this width."""
    return round(_type_size(width) * _LINE * 4.2)


@functools.lru_cache(maxsize=8)  # those of the GOP that is shown
def caption_strip(caption: Caption, width: int) -> np.ndarray:
    """The strip as uint8 RGB [strip_height(width), width, 3]."""
    rows = [(line, _QUIET) for line in caption.lines] + [(caption.alarm, _ALARM)]
    return _strip(caption, rows, (strip_height(width), width), _type_size(width))


def wrapped_strips(captions: Sequence[Caption], width: int, size: int) -> list[np.ndarray]:
    """Strips of one height in type of ``size`` pixels, whose lines go on where they do not fit."""
    rows_of = []
    for caption in captions:
        told = [*((line, _QUIET) for line in caption.lines), (caption.alarm, _ALARM)]
        rows_of.append(
            [
                (part, ink)
                for line, ink in told
                for part in _wrapped(line, size, width - size, bold=ink == _ALARM)
            ]
        )
    height = round(size * _LINE * (max(map(len, rows_of)) + 1.2))
    return [
        _strip(caption, rows, (height, width), size)
        for caption, rows in zip(captions, rows_of, strict=True)
    ]


def _strip(
    caption: Caption, rows: Sequence[tuple[str, str]], shape: tuple[int, int], size: int
) -> np.ndarray:
    """Patch and label, and below them a line per (text, ink); uint8 RGB [*shape, 3]."""
    height, width = shape
    image = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(image)
    margin, step = size // 2, round(size * _LINE)
    patch = round(size * 0.8)
    top = margin // 2
    draw.rectangle((margin, top + 2, margin + patch, top + 2 + patch), fill=caption.colour)
    left = 2 * margin + patch
    _write(draw, (left, top), caption.label, size, width - left, _INK, bold=True)
    for number, (text, ink) in enumerate(rows, start=1):
        place = (margin, top + number * step)
        _write(draw, place, text, size, width - margin, ink, bold=ink == _ALARM)
    return np.asarray(image)


def _wrapped(text: str, size: int, room: float, *, bold: bool) -> list[str]:
    """Lines of at most ``room`` pixels; broken at the commas of a list, else between words."""
    lines: list[str] = []
    for item in text.replace(", ", ",\n").replace("; ", ";\n").splitlines():
        for word in [item] if _font(size, bold).getlength(item) <= room else item.split(" "):
            longer = f"{lines[-1]} {word}" if lines else ""
            if longer and _font(size, bold).getlength(longer) <= room:
                lines[-1] = longer
            else:
                lines.append(word)
    return lines


def heading(text: str, width: int, most: int = 32) -> np.ndarray:
    """One line across a picture, uint8 RGB [height, width, 3], in type of ``most`` pixels."""
    size = max(14, min(width // 60, most))
    image = Image.new("RGB", (width, round(size * 1.8)), _PAPER)
    _write(ImageDraw.Draw(image), (size // 2, size // 3), text, size, width - size, _INK, bold=True)
    return np.asarray(image)


def _type_size(width: int) -> int:
    return max(9, min(round(width * 2 / _CHARACTERS), 30))


def _write(draw, place, text: str, size: int, room: float, ink: str, *, bold: bool) -> None:
    """Write a line, smaller where it would not fit."""
    while size > 6 and _font(size, bold).getlength(text) > room:
        size -= 1
    draw.text(place, text, fill=ink, font=_font(size, bold))


@functools.lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import FontProperties, findfont  # the font that figures have

    properties = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(findfont(properties), size)


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
    return abs(math.log(columns * wide / (rows * high) / _ASPECT)) + 0.6 * empty


#: Colours of the two boxes, as on the report's page.
_BOX_COLOURS = ("#D55E00", "#0072B2")
_LEAST_WIDTH, _MOST_WIDTH, _MOST_COLUMNS = 480, 960, 4
_STILL_GAP = 10


def still_picture(
    frames: Sequence[np.ndarray], captions: Sequence[Caption], title: str
) -> np.ndarray:
    """The picture, uint8 RGB: caption, frame with boxes, and the boxes enlarged, for each scheme.

    Input: ``frames`` : uint8 RGB [height, width, 3], the original first; the boxes are those of
    ``report.frames.zoom_boxes``: where schemes differ most, and where detail is.
    """
    boxes = zoom_boxes(frames)
    height, width = frames[0].shape[:2]
    share = max(enlargement(width, _LEAST_WIDTH), 1) * min(1.0, _MOST_WIDTH / width)
    size = (round(height * share), round(width * share))
    columns = math.ceil(len(frames) / math.ceil(len(frames) / _MOST_COLUMNS))  # rows of one length
    total = columns * (size[1] + _STILL_GAP) + _STILL_GAP
    strips = wrapped_strips(captions, size[1], max(_type_size(size[1]), round(total * _STILL_TYPE)))
    panels = [
        _panel(frame, size, boxes, strip) for frame, strip in zip(frames, strips, strict=True)
    ]
    rows = [_beside(panels[i : i + columns], columns) for i in range(0, len(panels), columns)]
    return np.concatenate([heading(title, total, most=total), *rows])


def _panel(
    frame: np.ndarray,
    size: tuple[int, int],
    boxes: Sequence[Box],
    strip: np.ndarray,
) -> np.ndarray:
    height, width = size
    image = Image.fromarray(scaled(frame, size))
    draw = ImageDraw.Draw(image)
    line = max(2, width // 240)
    for (left, top, wide, high), colour in zip(boxes, _BOX_COLOURS, strict=True):
        corners = (left * width, top * height, (left + wide) * width, (top + high) * height)
        draw.rectangle(corners, outline=colour, width=line)
    zooms = [
        _zoom(frame, box, (width - _STILL_GAP) // 2, colour, 2 * line)
        for box, colour in zip(boxes, _BOX_COLOURS, strict=True)
    ]
    top = len(strip)
    panel = np.full((top + height + 2 * _STILL_GAP + len(zooms[0]), width, 3), 255, np.uint8)
    panel[:top] = strip
    panel[top : top + height] = np.asarray(image)
    top += height + _STILL_GAP
    for zoom, left in zip(zooms, (0, width - zooms[1].shape[1]), strict=True):
        panel[top : top + len(zoom), left : left + zoom.shape[1]] = zoom
    return panel


def _zoom(
    frame: np.ndarray,
    box: Box,
    width: int,
    colour: str,
    line: int,
) -> np.ndarray:
    """A box of the frame enlarged to ``width`` by repeating pixels, in a border of its colour."""
    rows, columns = frame.shape[:2]
    left, top = round(box[0] * columns), round(box[1] * rows)
    cut = frame[top : top + round(box[3] * rows), left : left + round(box[2] * columns)]
    high = round(width * cut.shape[0] / cut.shape[1])
    large = Image.fromarray(cut).resize((width, high), Image.Resampling.NEAREST)
    ImageDraw.Draw(large).rectangle((0, 0, width - 1, high - 1), outline=colour, width=line)
    return np.asarray(large)


def _beside(panels: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Panels in a row, margins around, blank where there are fewer than ``columns``."""
    height, width = panels[0].shape[:2]
    row = np.full(
        (height + _STILL_GAP, columns * (width + _STILL_GAP) + _STILL_GAP, 3), 255, np.uint8
    )
    for place, panel in enumerate(panels):
        left = _STILL_GAP + place * (width + _STILL_GAP)
        row[:height, left : left + width] = panel
    return row
