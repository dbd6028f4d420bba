"""Shown frames of each scheme at matched CBR, with zoom boxes, for the page."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pvsc_link.report.matched_frames import MatchedFrames, matched_frames, zoom_boxes
from pvsc_link.report.style import SchemeStyle

#: Bytes of base64 that pictures may take on the page, and most comparisons on it.
_BUDGET, _MOST = 4_500_000, 12
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Picture:
    """One frame of a comparison."""

    label: str
    caption: str
    uri: str  # data:image/...;base64,...


@dataclass(frozen=True)
class Comparison:
    """One frame as every scheme shows it at about the same CBR; the reference, if any, first."""

    title: str
    width: int
    height: int
    pictures: list[Picture]
    boxes: list[tuple[float, float, float, float]]  # left, top, width, height; parts of the frame


def comparisons(
    folder: Path, keyed: pd.DataFrame, styles: Mapping[str, SchemeStyle]
) -> tuple[list[Comparison], list[str]]:
    """Comparisons for the page, as many as its size allows, and what a reader must know of them."""
    groups = matched_frames(folder, keyed, styles)
    if not groups:
        return [], [
            "No frames were kept in this folder (frames/*.png), so none can be compared here; "
            "python -m pvsc_link.sweep with --save-frames keeps them."
        ]
    files = {shown.path for group in groups[:_MOST] for shown in group.shown}
    lossless = sum(len(base64.b64encode(content)) for content in _contents(files)) <= _BUDGET
    made: list[Comparison] = []
    remarks = [] if lossless else [f"Frames on the page are JPEG, quality {_JPEG_QUALITY}."]
    pictures: set[str] = set()  # equal pictures take their place once
    for group in groups[:_MOST]:
        comparison = _comparison(group, lossless=lossless)
        if comparison is None:
            remarks.append(f"Frames of {group.clip} cannot be read or differ in size.")
            continue
        pictures |= {picture.uri for picture in comparison.pictures}
        if sum(map(len, pictures)) > _BUDGET:
            break
        made.append(comparison)
    if len(made) < len(groups):
        remarks.append(f"{len(made)} of {len(groups)} comparisons are on the page.")
    return made, remarks


def _contents(files: Iterable[Path]) -> set[bytes]:
    return {path.read_bytes() for path in files}


def _comparison(group: MatchedFrames, *, lossless: bool) -> Comparison | None:
    images = group.images()
    if images is None:
        return None
    pictures = [
        Picture(shown.label, ", ".join(shown.values), _uri(shown.path, image, lossless))
        for shown, image in zip(group.shown, images, strict=True)
    ]
    boxes = zoom_boxes([np.asarray(image) for image in images])
    return Comparison(group.title, *images[0].size, pictures, boxes)


def _uri(path: Path, image: Image.Image, lossless: bool) -> str:
    if lossless:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
