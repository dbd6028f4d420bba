"""Shown frames of each scheme at matched CBR, with zoom boxes (the paper's Fig. 7).

Contract with whoever keeps frames (``python -m pvsc_link.sweep ... --save-frames``):

``<results>/frames/<point_id>_<frame>.png``
    what the receiver showed; ``point_id`` as in points.csv (16 hex digits), ``frame`` the index
    from the first frame of the point, from 0, four digits (``sweep.store.frame_file``).
``<results>/frames/reference_<clip>_<frame>.png``
    the source frame of the same index; in the clip's name everything but letters, digits, ``.``
    and ``-`` becomes ``-`` (``sweep.store.reference_file``).

8-bit RGB, as the metrics see it: unpadded, all of one clip equal in size. Any subset of points
and frames will do; a reference may be absent.
"""

import base64
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pvsc_link.report.curves import CONDITION, PLACE, condition_words, metrics_in, place_words
from pvsc_link.report.style import SchemeStyle
from pvsc_link.sweep.store import reference_file

_FILE = re.compile(r"([0-9a-f]{16})_(\d+)\.png")
#: Bytes of base64 that pictures may take on the page, and most comparisons on it.
_BUDGET, _MOST = 4_500_000, 12
_JPEG_QUALITY = 95
#: A zoom box is this part of the frame's height and width.
_BOX = 0.22


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
    kept = _kept_frames(folder)
    if kept.empty or keyed.empty:
        return [], [
            "No frames were kept in this folder (frames/*.png), so none can be compared here; "
            "python -m pvsc_link.sweep with --save-frames keeps them."
        ]
    rows = keyed.merge(kept, on="point_id")
    groups = list(_matched(rows))
    files = (path.read_bytes() for group in groups[:_MOST] for path in group["file"])
    lossless = sum(len(base64.b64encode(content)) for content in set(files)) <= _BUDGET
    made: list[Comparison] = []
    remarks = [] if lossless else [f"Frames on the page are JPEG, quality {_JPEG_QUALITY}."]
    shown: set[str] = set()  # equal pictures take their place once
    for group in groups[:_MOST]:
        comparison = _comparison(folder, group, styles, lossless=lossless)
        if comparison is None:
            remarks.append(f"Frames of {group['clip'].iloc[0]} cannot be read or differ in size.")
            continue
        shown |= {picture.uri for picture in comparison.pictures}
        if sum(map(len, shown)) > _BUDGET:
            break
        made.append(comparison)
    if len(made) < len(groups):
        remarks.append(f"{len(made)} of {len(groups)} comparisons are on the page.")
    return made, remarks


def _kept_frames(folder: Path) -> pd.DataFrame:
    found = []
    for path in sorted((folder / "frames").glob("*.png")):
        match = _FILE.fullmatch(path.name)
        if match:
            found.append((match[1], int(match[2]), path))
    return pd.DataFrame(found, columns=["point_id", "frame", "file"])


def _matched(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Per place and condition: one row per curve, rates chosen so that CBRs are near each other."""
    for _, here in rows.groupby([*PLACE, *CONDITION], dropna=False, sort=False):
        counts = here.groupby("frame")["curve"].nunique()
        frame = counts[counts == counts.max()].index.max()  # a late frame shows what drifted
        here = here[(here["frame"] == frame) & (here["seed"] == here["seed"].min())]
        distances = {
            target: here.assign(off=np.abs(np.log(here["cbr"] / target)))
            .sort_values("off", kind="stable")
            .drop_duplicates("curve")
            for target in here["cbr"].unique()
        }
        if distances:
            yield min(distances.values(), key=lambda chosen: chosen["off"].sum())


def _comparison(
    folder: Path, group: pd.DataFrame, styles: Mapping[str, SchemeStyle], *, lossless: bool
) -> Comparison | None:
    first = group.iloc[0]
    reference = reference_file(folder, str(first["clip"]), int(first["frame"]))
    files = {"Reference": (reference, "source frame")} if reference.is_file() else {}
    for key in styles:
        for _, row in group[group["curve"] == key].iterrows():
            files[styles[key].label] = (row["file"], _caption(row))
    try:
        images = {label: Image.open(path).convert("RGB") for label, (path, _) in files.items()}
    except OSError:
        return None
    if len({image.size for image in images.values()}) != 1:
        return None
    width, height = next(iter(images.values())).size
    place = place_words(str(first["clip"]), first["gop"])
    return Comparison(
        title=f"{place}, {condition_words(first[CONDITION].to_dict())}, frame {first['frame']}",
        width=width,
        height=height,
        pictures=[
            Picture(label, caption, _uri(path, images[label], lossless))
            for label, (path, caption) in files.items()
        ],
        boxes=zoom_boxes({label: np.asarray(image) for label, image in images.items()}),
    )


def _caption(row: pd.Series) -> str:
    words = [f"CBR {row['cbr']:.4g}"]
    for metric in metrics_in(row.to_frame().T):
        words.append(f"{metric.title} {float(row[metric.column]):.4g}")
    return ", ".join(words)


def _uri(path: Path, image: Image.Image, lossless: bool) -> str:
    if lossless:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def zoom_boxes(images: Mapping[str, np.ndarray]) -> list[tuple[float, float, float, float]]:
    """Two places worth a look: where schemes differ most, and where the scene has most detail.

    Input: ``images`` : uint8 RGB ``[height, width, 3]`` by label. Output: boxes as parts of the
    frame (left, top, width, height); they do not overlap.
    """
    grey = np.stack([image.mean(axis=-1) for image in images.values()])
    detail = np.abs(np.gradient(grey[0], axis=0)) + np.abs(np.gradient(grey[0], axis=1))
    boxes: list[tuple[int, int]] = []
    height, width = grey.shape[1:]
    size = (max(int(height * _BOX), 1), max(int(width * _BOX), 1))
    for interest in (grey.std(axis=0) * (1 + detail), detail):
        sums = _box_sums(interest, size)
        for top, left in boxes:  # keep clear of the boxes before
            low_y, low_x = max(top - size[0] + 1, 0), max(left - size[1] + 1, 0)
            sums[low_y : top + size[0], low_x : left + size[1]] = -1
        place = np.unravel_index(int(sums.argmax()), sums.shape)
        boxes.append((int(place[0]), int(place[1])))
    return [(left / width, top / height, size[1] / width, size[0] / height) for top, left in boxes]


def _box_sums(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Sum over every window of ``size``, by integral image."""
    table = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    high, wide = size
    return table[high:, wide:] - table[:-high, wide:] - table[high:, :-wide] + table[:-high, :-wide]
