"""Kept frames beside each other: one per scheme, at about the same CBR.

A sweep with ``--save-frames`` keeps them in the results folder:

``frames/<point_id>_<frame>.png``
    what the receiver showed; ``point_id`` as in points.csv (16 hex digits), ``frame`` the index
    from the first frame of the point, from 0, four digits (``sweep.store.frame_file``).
``frames/reference_<clip>_<frame>.png``
    the source frame of the same index (``sweep.store.reference_file``); it may be absent.

All are 8-bit RGB, as the metrics see them: unpadded, all of one clip equal in size.
"""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pvsc_link.report.curves import (
    PLACE,
    clip_stem,
    condition_columns,
    condition_slug,
    condition_words,
    metrics_in,
    place_key,
    place_words,
    short_clip_names,
)
from pvsc_link.report.style import SchemeStyle
from pvsc_link.sweep import find_reference

_FILE = re.compile(r"([0-9a-f]{16})_(\d+)\.png")
#: A box in a frame: left, top, width and height as parts of the frame's.
Box = tuple[float, float, float, float]
#: A zoom box is this part of the frame's height and width.
_BOX = 0.22


@dataclass(frozen=True)
class ShownFrame:
    """What one scheme shows, or the source frame."""

    label: str
    printed: str  # the label where room is scarce
    values: list[str]  # CBR and metrics, in words
    path: Path


@dataclass(frozen=True)
class MatchedFrames:
    """One frame as every scheme shows it at about the same CBR; the reference, if any, first."""

    clip: str
    gop: float
    condition: dict[str, Any]
    frame: int
    shown: list[ShownFrame]
    short: str  # what the clip is called in titles

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from the others of a results folder."""
        return place_key(self.clip, self.gop, self.condition)

    @property
    def title(self) -> str:
        """Place, condition and frame in words."""
        words = place_words(self.short, self.gop), condition_words(self.condition)
        return f"{', '.join(words)}, frame {self.frame}"

    @property
    def slug(self) -> str:
        """The same for a file name; another clip may have the same."""
        return f"{clip_stem(self.clip)}_gop{self.gop:g}_{condition_slug(self.condition)}"

    def images(self) -> list[Image.Image] | None:
        """The pictures in RGB; None where one cannot be read, or their sizes differ."""
        try:
            images = [Image.open(shown.path).convert("RGB") for shown in self.shown]
        except OSError:
            return None
        return images if len({image.size for image in images}) == 1 else None


def matched_frames(
    folder: Path, keyed: pd.DataFrame, styles: Mapping[str, SchemeStyle]
) -> list[MatchedFrames]:
    """One entry per place and condition of which frames were kept, in order of the grid."""
    found = [(_FILE.fullmatch(p.name), p) for p in sorted((folder / "frames").glob("*.png"))]
    kept = pd.DataFrame(
        [(match[1], int(match[2]), path) for match, path in found if match],
        columns=["point_id", "frame", "file"],
    )
    if kept.empty or keyed.empty:
        return []
    clips = list(keyed["clip"].astype(str).unique())
    return [
        _matched(folder, rows, styles, clips) for rows in _groups(keyed.merge(kept, on="point_id"))
    ]


def _groups(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Per place and condition: one row per curve, rates chosen so that CBRs are near each other."""
    for _, here in rows.groupby([*PLACE, *condition_columns()], dropna=False, sort=False):
        counts = here.groupby("frame")["curve"].nunique()
        frame = counts[counts == counts.max()].index.max()  # a late frame shows what drifted
        here = here[(here["frame"] == frame) & (here["seed"] == here["seed"].min())]
        candidates = [
            here.assign(off=np.abs(np.log(here["cbr"] / target)))
            .sort_values("off", kind="stable")
            .drop_duplicates("curve")
            for target in here["cbr"].unique()
        ]
        if candidates:
            yield min(candidates, key=lambda chosen: chosen["off"].sum())


def _matched(
    folder: Path, group: pd.DataFrame, styles: Mapping[str, SchemeStyle], clips: Sequence[str]
) -> MatchedFrames:
    first = group.iloc[0]
    clip, frame = str(first["clip"]), int(first["frame"])
    reference = find_reference(folder, clip, frame, clips)
    shown = []
    if reference is not None:
        shown.append(ShownFrame("Reference", "Reference", ["source frame"], reference))
    for key, style in styles.items():
        for _, row in group[group["curve"] == key].iterrows():
            values = [f"CBR {row['cbr']:.4g}"]
            for metric in metrics_in(row.to_frame().T):
                values.append(f"{metric.label} {float(row[metric.column]):.4g}")
            shown.append(ShownFrame(style.label, style.printed, values, row["file"]))
    condition = first[condition_columns()].to_dict()
    short = short_clip_names(clips)[clip]
    return MatchedFrames(clip, first["gop"], condition, frame, shown, short)


def zoom_boxes(images: Sequence[np.ndarray]) -> list[Box]:
    """Two places worth a look: where schemes differ most, and where the scene has most detail.

    Input: ``images`` : uint8 RGB ``[height, width, 3]``, of equal size. Output: boxes as parts of
    the frame (left, top, width, height); they do not overlap.
    """
    grey = np.stack([image.mean(axis=-1) for image in images])
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


#: Bytes of base64 that pictures may take on the page, and most comparisons on it.
_BUDGET, _MOST = 4_500_000, 12
_JPEG_QUALITY = 95


def page_comparisons(
    folder: Path, keyed: pd.DataFrame, styles: Mapping[str, SchemeStyle]
) -> dict[str, list]:
    """What the page shows of frames, as JSON values, as much as the page's size allows.

    Output: ``pictures`` : data URIs, each once; ``comparisons`` : title, size, boxes and pictures,
    whose ``uri`` is a place in ``pictures``; ``frame_remarks`` : what a reader must know of them.
    """
    groups = matched_frames(folder, keyed, styles)
    if not groups:
        remark = (
            "No frames were kept in this folder (frames/*.png), so none can be compared here; "
            "python -m pvsc_link.sweep with --save-frames keeps them."
        )
        return {"comparisons": [], "pictures": [], "frame_remarks": [remark]}
    files = {shown.path for group in groups[:_MOST] for shown in group.shown}
    contents = {path.read_bytes() for path in files}
    lossless = sum(len(base64.b64encode(content)) for content in contents) <= _BUDGET
    remarks = [] if lossless else [f"Frames on the page are JPEG, quality {_JPEG_QUALITY}."]
    made: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for group in groups[:_MOST]:
        images = group.images()
        if images is None:
            remarks.append(f"Frames of {group.clip} cannot be read or differ in size.")
            continue
        uris = [_uri(s.path, i, lossless) for s, i in zip(group.shown, images, strict=True)]
        if sum(map(len, {*places, *uris})) > _BUDGET:
            break
        pictures = [
            {
                "label": shown.label,
                "caption": ", ".join(shown.values),
                "uri": places.setdefault(uri, len(places)),
            }
            for shown, uri in zip(group.shown, uris, strict=True)
        ]
        width, height = images[0].size
        boxes = zoom_boxes([np.asarray(image) for image in images])
        size = {"width": width, "height": height}
        made.append({"title": group.title, **size, "pictures": pictures, "boxes": boxes})
    if len(made) < len(groups):
        remarks.append(f"{len(made)} of {len(groups)} comparisons are on the page.")
    return {"comparisons": made, "pictures": list(places), "frame_remarks": remarks}


def _uri(path: Path, image: Image.Image, lossless: bool) -> str:
    if lossless:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
