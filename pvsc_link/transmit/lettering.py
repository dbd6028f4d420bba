"""Words on pictures: the label of a tile and what was measured, in a strip above it."""

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_INK, _QUIET, _ALARM, _PAPER = "#111111", "#555555", "#B00020", "#FFFFFF"
_LINE = 1.35  # line height over type size
_CHARACTERS = 50  # a line of so many fits the width


@dataclass(frozen=True)
class Caption:
    """A label in bold beside a patch of the scheme's colour, two lines, and an alarm or none."""

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
    size = _type_size(width)
    image = Image.new("RGB", (width, strip_height(width)), _PAPER)
    draw = ImageDraw.Draw(image)
    margin, step = size // 2, round(size * _LINE)
    patch = round(size * 0.8)
    top = margin // 2
    draw.rectangle((margin, top + 2, margin + patch, top + 2 + patch), fill=caption.colour)
    left = 2 * margin + patch
    _write(draw, (left, top), caption.label, size, width - left, _INK, bold=True)
    rows = [(line, _QUIET) for line in caption.lines] + [(caption.alarm, _ALARM)]
    for number, (text, ink) in enumerate(rows, start=1):
        place = (margin, top + number * step)
        _write(draw, place, text, size, width - margin, ink, bold=ink == _ALARM)
    return np.asarray(image)


def heading(text: str, width: int) -> np.ndarray:
    """One line across a picture, uint8 RGB [height, width, 3]."""
    size = max(14, min(width // 60, 32))
    image = Image.new("RGB", (width, round(size * 1.8)), _PAPER)
    _write(ImageDraw.Draw(image), (size // 2, size // 3), text, size, width - size, _INK, bold=True)
    return np.asarray(image)


def _type_size(width: int) -> int:
    return max(9, min(round(width * 2 / _CHARACTERS), 30))


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    room: float,
    ink: str,
    *,
    bold: bool,
) -> None:
    """Write a line, smaller where it would not fit."""
    font = _font(size, bold)
    while size > 6 and font.getlength(text) > room:
        size -= 1
        font = _font(size, bold)
    draw.text(place, text, fill=ink, font=font)


@functools.lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    from matplotlib.font_manager import FontProperties, findfont  # the font that figures have

    properties = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(findfont(properties), size)
