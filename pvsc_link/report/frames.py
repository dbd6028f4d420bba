"""Kept frames and videos beside each other: one per scheme, at about the same CBR.

A sweep with ``--save-frames`` keeps them in the results folder:

``frames/<point_id>_<frame>.png``
    what the receiver showed; ``point_id`` as in points.csv (16 hex digits), ``frame`` the index
    from the first frame of the point, from 0, four digits (``sweep.store.frame_file``).
``frames/reference_<clip>_<frame>.png``
    the source frame of the same index (``sweep.store.reference_file``); it may be absent.

All are 8-bit RGB, as the metrics see them: unpadded, all of one clip equal in size. A video of the
same name, ``.mp4``, ends with that frame (``sweep.store.video_file``); it may be absent.
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

from pvsc_link.media import Mp4Writer, read_video
from pvsc_link.report.curves import (
    PLACE,
    clip_stem,
    condition_columns,
    condition_slug,
    condition_words,
    metrics_in,
    place_key,
    place_words,
    rate_words,
    short_clip_names,
)
from pvsc_link.report.results import Results
from pvsc_link.sweep import find_reference, video_file
from pvsc_link.types import InputError

_FILE = re.compile(r"([0-9a-f]{16})_(\d+)\.png")
#: A box in a frame: left, top, width and height as parts of the frame's.
Box = tuple[float, float, float, float]
#: A zoom box is this part of the frame's height and width.
_BOX = 0.22
#: How strongly the middle counts: a factor of exp(-_PULL) at the middle of a side.
_PULL = 1.5


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
        return self._title(self.condition)

    @property
    def series(self) -> str:
        """The title without the SNR: equal for frames that differ in it alone."""
        return self._title({n: value for n, value in self.condition.items() if n != "snr_db"})

    def _title(self, condition: Mapping[str, Any]) -> str:
        words = place_words(self.short, self.gop), condition_words(condition)
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


def matched_frames(results: Results) -> list[MatchedFrames]:
    """One entry per place and condition of which frames were kept, in order of the grid."""
    keyed = results.curves.keyed
    kept = pd.DataFrame(
        [
            (run, match[1], int(match[2]), path)
            for run, folder in results.folders.items()
            for path in sorted((folder / "frames").glob("*.png"))
            if (match := _FILE.fullmatch(path.name))
        ],
        columns=["run", "point_id", "frame", "file"],
    )
    if kept.empty or keyed.empty:
        return []
    if "run" not in keyed:
        keyed = keyed.assign(run="")
    clips = list(keyed["clip"].astype(str).unique())
    rows = keyed.merge(kept, on=["run", "point_id"])
    return [_matched(results, group, clips) for group in _groups(rows)]


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


def _matched(results: Results, group: pd.DataFrame, clips: Sequence[str]) -> MatchedFrames:
    first = group.iloc[0]
    clip, frame = str(first["clip"]), int(first["frame"])
    reference = find_reference(results.folders[first["run"]], clip, frame, clips)
    shown = []
    if reference is not None:
        shown.append(ShownFrame("Reference", "Reference", ["source frame"], reference))
    for key, style in results.curves.styles.items():
        for _, row in group[group["curve"] == key].iterrows():
            values = [f"{rate_words(group)[0]} {row['cbr']:.4g}"]
            for metric in metrics_in(row.to_frame().T):
                values.append(f"{metric.label} {float(row[metric.column]):.4g}")
            shown.append(ShownFrame(style.label, style.printed, values, row["file"]))
    condition = first[condition_columns()].to_dict()
    short = short_clip_names(clips)[clip]
    return MatchedFrames(clip, first["gop"], condition, frame, shown, short)


def zoom_boxes(images: Sequence[np.ndarray]) -> list[Box]:
    """Two places worth a look: where schemes differ most, and where the scene has most detail.

    The middle of the frame, where a scene has its subject, counts more than its border.

    Input: ``images`` : uint8 RGB ``[height, width, 3]``, of equal size. Output: boxes as parts of
    the frame (left, top, width, height); they do not overlap.
    """
    grey = np.stack([image.mean(axis=-1) for image in images])
    detail = np.abs(np.gradient(grey[0], axis=0)) + np.abs(np.gradient(grey[0], axis=1))
    boxes: list[tuple[int, int]] = []
    height, width = grey.shape[1:]
    size = (max(int(height * _BOX), 1), max(int(width * _BOX), 1))
    across, down = (np.linspace(-1, 1, length) ** 2 for length in (width, height))
    middle = np.exp(-_PULL * (down[:, None] + across))
    for interest in (grey.std(axis=0) * (1 + detail), detail):
        sums = _box_sums(interest * middle, size)
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
_BUDGET, _MOST = 4_500_000, 60
_JPEG_QUALITY = 95


def page_comparisons(results: Results, videos: Path | None = None) -> dict[str, list]:
    """What the page shows of frames, as JSON values, as much as the page's size allows.

    Parameters: ``videos`` : folder that the videos of the comparisons are written to; None writes
    none.
    Output: ``pictures`` : data URIs, each once; ``comparisons`` : title, series, SNR, size, boxes
    and pictures, whose ``uri`` is a place in ``pictures``, and, where all pictures have a video,
    what :func:`write_video` returns; ``frame_remarks`` : what a reader must know of them.
    """
    groups = matched_frames(results)
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
    room = _VIDEO_BUDGET
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
        comparison: dict[str, Any] = {"title": group.title, "series": group.series, "boxes": boxes}
        comparison |= {"snr_db": float(group.condition["snr_db"]), "pictures": pictures}
        comparison |= {"width": width, "height": height, "video": None}
        if videos is not None and room > 0:
            file = videos / f"{len(made) + 1:02d}_{group.slug[:60]}.mp4"
            comparison["video"] = write_video(group, file)
            room -= file.stat().st_size if comparison["video"] else 0
            if room <= 0:
                remarks.append("Further videos are left out, so that page and videos stay small.")
        made.append(comparison)
    if len(made) < len(groups):
        remarks.append(f"{len(made)} of {len(groups)} comparisons are on the page.")
    return {"comparisons": made, "pictures": list(places), "frame_remarks": remarks}


#: Bytes after which no further video is written, constant rate factor, and most columns and rows
#: of pixels of a tile and of a video, which every player shows.
_VIDEO_BUDGET, _CRF, _MOST_TILE, _MOST_VIDEO = 5_000_000, 18, 640, 3840


def write_video(group: MatchedFrames, path: Path) -> dict[str, Any] | None:
    """All pictures of a comparison as tiles of one H.264 video, in step because they are one.

    Output: file name, ``columns`` of tiles, tile size in pixels, frames per second and number of
    frames; None, and no file, where a picture has no video that can be read or lengths differ.
    """
    try:
        clips = [read_video(video_file(shown.path)) for shown in group.shown]
    except InputError:
        return None
    shapes = {clip.frames.shape for clip in clips}
    if len(shapes) > 1:
        return None
    ((num_frames, height, width, _),) = shapes
    columns = int(np.ceil(np.sqrt(len(clips))))
    share = min(1.0, _MOST_TILE / max(height, width), _MOST_VIDEO / (columns * max(height, width)))
    tile = [2 * max(round(size * share / 2), 1) for size in (height, width)]
    path.parent.mkdir(parents=True, exist_ok=True)
    blank = np.zeros((*tile, 3), np.uint8)
    with Mp4Writer(path, clips[0].fps, quality=_CRF) as writer:
        for number in range(num_frames):
            tiles = [_resized(clip.frames[number], tile) for clip in clips]
            tiles += [blank] * (-len(tiles) % columns)
            rows = [
                np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)
            ]
            writer.write(np.concatenate(rows))
    facts = {"file": f"{path.parent.name}/{path.name}", "columns": columns, "height": tile[0]}
    return facts | {"width": tile[1], "fps": clips[0].fps, "frames": num_frames}


def _resized(frame: np.ndarray, size: Sequence[int]) -> np.ndarray:
    if list(frame.shape[:2]) == list(size):
        return frame
    return np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.LANCZOS))


def _uri(path: Path, image: Image.Image, lossless: bool) -> str:
    if lossless:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
