"""Shown frames of each scheme at matched CBR, for print (the paper's Fig. 7)."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from pvsc_link.report.matched_frames import MatchedFrames, ShownFrame, zoom_boxes
from pvsc_link.report.panels import NamedFigure
from pvsc_link.report.style import PAGE_WIDTH

_COLUMNS = 4
_CAPTION = 0.4  # inches
_BOX_COLOURS = ("#D55E00", "#56B4E9")


def frame_figures(matched: Sequence[MatchedFrames]) -> Iterator[NamedFigure]:
    """Per place and condition of which at least two comparable frames were kept."""
    for group in matched:
        if len(group.shown) > 1 and group.images() is not None:
            yield f"frames_{group.slug}", partial(frame_figure, group)


def frame_figure(group: MatchedFrames) -> Figure:
    """Every frame, its two zoom boxes below it, its CBR and metrics above; four fill a page."""
    images = group.images() or []
    boxes = zoom_boxes([np.asarray(image) for image in images])
    columns = min(len(images), _COLUMNS)
    rows = -(-len(images) // columns)
    width, height = images[0].size
    cell = PAGE_WIDTH / _COLUMNS
    size = columns * cell, rows * (1.5 * cell * height / width + _CAPTION) + 0.2
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, shown, image in zip_longest(panels, group.shown, images):
        panel.set_axis_off()
        if image is not None:
            _draw(panel, shown, image, boxes)
    figure.suptitle(group.title, fontsize=8)
    return figure


def _draw(
    panel: Axes,
    shown: ShownFrame,
    image: Image.Image,
    boxes: Sequence[tuple[float, float, float, float]],
) -> None:
    width, height = image.size
    panel.imshow(with_zoom(image, boxes), interpolation="none")
    for (left, top, wide, high), place, colour in zip(boxes, (0, 1), _BOX_COLOURS, strict=True):
        inside = (left * width, top * height), wide * width, high * height
        below = (place * width / 2, height), width / 2, height / 2
        for corner, *size in (inside, below):
            panel.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=0.8))
    pairs = (", ".join(shown.values[i : i + 2]) for i in range(0, len(shown.values), 2))
    panel.set_title("\n".join([shown.printed, *pairs]), fontsize=6)


def with_zoom(image: Image.Image, boxes: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """A frame with its two zoom boxes below it, each half as wide as the frame.

    Input: ``boxes`` : as ``zoom_boxes`` gives them. Output: uint8 ``[3 * height / 2, width, 3]``,
    pixels of the boxes repeated, not smoothed.
    """
    width, height = image.size
    page = Image.new("RGB", (width, height + height // 2))
    page.paste(image)
    for place, (left, top, wide, high) in enumerate(boxes):
        box = left * width, top * height, (left + wide) * width, (top + high) * height
        half = image.resize((width // 2, height // 2), Image.Resampling.NEAREST, box)
        page.paste(half, (place * (width // 2), height))
    return np.asarray(page)
