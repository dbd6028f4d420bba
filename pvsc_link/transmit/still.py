"""One frame of every scheme with two zoomed regions under it (the paper's Fig. 7)."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pvsc_link.report.matched_frames import zoom_boxes
from pvsc_link.transmit.lettering import Caption, caption_strip, heading, strip_height
from pvsc_link.transmit.mosaic import enlargement, scaled

#: Colours of the two boxes, as on the report's page.
_BOX_COLOURS = ("#D55E00", "#0072B2")
_LEAST_WIDTH, _MOST_WIDTH, _MOST_COLUMNS = 480, 960, 4
_GAP = 10


def still_picture(
    frames: Sequence[np.ndarray], captions: Sequence[Caption], title: str
) -> np.ndarray:
    """The picture, uint8 RGB: caption, frame with boxes, and the boxes enlarged, for each scheme.

    Input: ``frames`` : uint8 RGB [height, width, 3], the original first; the boxes are those of
    ``report.matched_frames.zoom_boxes``: where schemes differ most, and where detail is.
    """
    boxes = zoom_boxes(frames)
    height, width = frames[0].shape[:2]
    share = max(enlargement(width, _LEAST_WIDTH), 1) * min(1.0, _MOST_WIDTH / width)
    size = (round(height * share), round(width * share))
    panels = [
        _panel(frame, size, boxes, caption) for frame, caption in zip(frames, captions, strict=True)
    ]
    columns = min(len(panels), _MOST_COLUMNS)
    rows = [_beside(panels[i : i + columns], columns) for i in range(0, len(panels), columns)]
    return np.concatenate([heading(title, rows[0].shape[1]), *rows])


def _panel(
    frame: np.ndarray,
    size: tuple[int, int],
    boxes: Sequence[tuple[float, float, float, float]],
    caption: Caption,
) -> np.ndarray:
    height, width = size
    image = Image.fromarray(scaled(frame, size))
    draw = ImageDraw.Draw(image)
    line = max(2, width // 240)
    for (left, top, wide, high), colour in zip(boxes, _BOX_COLOURS, strict=True):
        corners = (left * width, top * height, (left + wide) * width, (top + high) * height)
        draw.rectangle(corners, outline=colour, width=line)
    zooms = [
        _zoom(frame, box, (width - _GAP) // 2, colour, 2 * line)
        for box, colour in zip(boxes, _BOX_COLOURS, strict=True)
    ]
    strip = strip_height(width)
    panel = np.full((strip + height + 2 * _GAP + len(zooms[0]), width, 3), 255, np.uint8)
    panel[:strip] = caption_strip(caption, width)
    panel[strip : strip + height] = np.asarray(image)
    top = strip + height + _GAP
    for zoom, left in zip(zooms, (0, width - zooms[1].shape[1]), strict=True):
        panel[top : top + len(zoom), left : left + zoom.shape[1]] = zoom
    return panel


def _zoom(
    frame: np.ndarray,
    box: tuple[float, float, float, float],
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
    row = np.full((height + _GAP, columns * (width + _GAP) + _GAP, 3), 255, np.uint8)
    for place, panel in enumerate(panels):
        left = _GAP + place * (width + _GAP)
        row[:height, left : left + width] = panel
    return row
