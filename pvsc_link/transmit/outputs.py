"""The files of a transmission: videos and rows as they come, a still and the numbers at the end."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pvsc_link.media.reader import FrameStream
from pvsc_link.media.writer import Mp4Writer
from pvsc_link.report.curves import clip_stem, condition_words
from pvsc_link.report.style import METRICS, scheme_style
from pvsc_link.semantic.pretrained import UNTRAINED
from pvsc_link.sweep.kept_frames import write_png
from pvsc_link.transmit.first_gop import Chosen
from pvsc_link.transmit.lettering import Caption
from pvsc_link.transmit.mosaic import Mosaic
from pvsc_link.transmit.sender import COUNTS
from pvsc_link.transmit.still import still_picture
from pvsc_link.types import InputError

_NO_WEIGHTS = "no trained weights"
SIDE_BY_SIDE, STILL, ROWS = "side_by_side.mp4", "still.png", "gops.csv"


class Outputs:
    """Writes what was shown, GOP by GOP; holds one frame per scheme for the still.

    Parameters: ``still_frame`` : index of the frame of the still; where the video ends before,
    its last frame is taken.
    """

    def __init__(
        self,
        folder: Path,
        stream: FrameStream,
        size: tuple[int, int],
        sent: Sequence[Chosen],
        still_frame: int,
    ):
        self._folder, self._sent, self._still_frame = folder, sent, still_frame
        self._original = Caption(
            "Original", "#000000", (f"{size[1]}x{size[0]}, {stream.fps:.4g} frames/s", "as sent")
        )
        point = sent[0].point
        condition = condition_words(
            {
                "channel": point.channel,
                "snr_db": point.snr_db,
                "csi_nmse_db": point.csi_nmse_db,
                "coherence_length": point.coherence_length,
            }
        )
        self._title = f"{clip_stem(point.clip)}, GOP {point.gop}, {condition}"
        title = f"{self._title}; means so far"
        self._mosaic = Mosaic(size, len(sent) + 1, title)
        self._count = 0
        self._still: tuple[int, list[np.ndarray]] | None = None
        self.files = {c.label: _file_name(c) for c in sent}
        self._open_files = ExitStack()
        self._fps = stream.fps

    def __enter__(self) -> "Outputs":
        make = self._open_files.enter_context
        self._videos = [
            make(Mp4Writer(self._folder / name, self._fps)) for name in self.files.values()
        ]
        self._together = make(Mp4Writer(self._folder / SIDE_BY_SIDE, self._fps))
        self._rows = make(_whole_file(self._folder / ROWS))
        self._writer: csv.DictWriter | None = None
        return self

    def __exit__(self, *error: Any) -> None:
        self._open_files.__exit__(*error)

    def add(
        self,
        frames: np.ndarray,
        shown: Sequence[np.ndarray],
        rows: Sequence[Mapping[str, Any]],
        totals: Sequence[Mapping[str, Any]],
    ) -> None:
        """A GOP: source frames, what each scheme showed, its row, and its sums so far."""
        captions = [self._original, *map(_caption, self._sent, totals, rows)]
        for place, frame in enumerate(frames):
            tiles = [frame, *(of_scheme[place] for of_scheme in shown)]
            for video, tile in zip(self._videos, tiles[1:], strict=True):
                video.write(tile)
            self._together.write(self._mosaic.compose(tiles, captions))
            if self._count <= self._still_frame:
                self._still = (self._count, tiles)
            self._count += 1
        self._write_rows(rows)

    def finish(self, totals: Sequence[Mapping[str, Any]]) -> None:
        """Write the still; raises ``InputError`` if no frame came."""
        if self._still is None:
            raise InputError(
                "video", found="no frame", allowed="at least one", remedy="Check the file."
            )
        index, tiles = self._still
        captions = [self._original, *map(_caption, self._sent, totals)]
        title = f"{self._title}; frame {index}; means of {self._count} frames"
        write_png(self._folder / STILL, still_picture(tiles, captions, title))

    def _write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        start = self._count - rows[0]["num_frames"]
        named = [
            {"first_frame": start, "label": c.label} | _told(row)
            for c, row in zip(self._sent, rows, strict=True)
        ]
        if self._writer is None:
            columns = list(dict.fromkeys(key for row in named for key in row))
            self._writer = csv.DictWriter(self._rows, columns, lineterminator="\n")
            self._writer.writeheader()
        self._writer.writerows(named)


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row what differs from GOP to GOP."""
    measured = [metric.column for metric in METRICS]
    return {
        key: value
        for key, value in row.items()
        if key in (*COUNTS, "status", *measured) or key == "cbr" or key.startswith("cbr_")
    }


def _caption(
    chosen: Chosen, total: Mapping[str, Any], row: Mapping[str, Any] | None = None
) -> Caption:
    """``total`` : means so far; ``row`` : of the GOP that is shown, None: of all of them."""
    name, _, variant = chosen.label.partition(":")
    style = scheme_style(name, variant)
    untrained = total["status"] == UNTRAINED
    words = [f"CBR {total['cbr']:.4g}"]
    for metric in METRICS:
        if metric.column in total:
            words.append(f"{metric.title.split()[0]} {total[metric.column]:.4g} {metric.unit}")
    judged = row or total
    lost = judged["frames_lost"]
    alarms = [_NO_WEIGHTS] if untrained else []
    if lost:
        alarms.append(
            f"{lost} of {judged['num_frames']} frames lost{' in this GOP' if row else ''}"
        )
    what = "" if chosen.scheme.digital else "side information at "
    mcs = f"rate {chosen.point.rate}, {what}MCS {chosen.mcs.mcs}"
    label = f"{style.short} (untrained)" if untrained else style.short
    lines = (", ".join(word.strip() for word in words), mcs)
    return Caption(label, style.colour, lines, "; ".join(alarms))


def _file_name(chosen: Chosen) -> str:
    stem = re.sub(r"[^A-Za-z0-9.-]+", "_", chosen.label)
    untrained = getattr(chosen.scheme, "status", "ok") == UNTRAINED
    return f"{stem}_{UNTRAINED}.mp4" if untrained else f"{stem}.mp4"


@contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    """A text file that appears under its name when it is whole."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
