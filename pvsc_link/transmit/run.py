"""From a request to its files: a video goes GOP by GOP through every scheme, with bounded memory.

:func:`transmit_video` is the story; :class:`Outputs` writes videos and rows as they come, and a
still and the numbers at the end.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link._version import __version__
from pvsc_link.media import FrameStream, Mp4Writer
from pvsc_link.metrics import METRICS, FrameMetrics
from pvsc_link.models import UNTRAINED
from pvsc_link.report import clip_stem, condition_words, scheme_style
from pvsc_link.storage import atomic_file, write_atomically
from pvsc_link.sweep import Plan, Progress, git_commit, machine, package_versions, write_png
from pvsc_link.transmit.pictures import Caption, Mosaic, still_picture
from pvsc_link.transmit.request import Chosen, Request, choose, open_source, plan_of
from pvsc_link.transmit.sender import COUNTS, Sender
from pvsc_link.types import InputError, Video

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
        channel = {"channel": point.channel, "snr_db": point.snr_db}
        condition = condition_words(channel | point.channel_point.condition)
        self._title = f"{clip_stem(point.clip)}, GOP {point.gop}, {condition}"
        self._mosaic = Mosaic(size, len(sent) + 1, f"{self._title}; means so far")
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
        rows = make(atomic_file(self._folder / ROWS))
        self._rows = make(io.TextIOWrapper(rows, encoding="utf-8", newline=""))
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
    measured = [metric.column for metric in METRICS.values()]
    return {
        key: value
        for key, value in row.items()
        if key in (*COUNTS, "status", "cbr", *measured) or key.startswith(("cbr_", "latency_"))
    }


def _caption(
    chosen: Chosen, total: Mapping[str, Any], row: Mapping[str, Any] | None = None
) -> Caption:
    """``total`` : means so far; ``row`` : of the GOP that is shown, None: of all of them."""
    name, _, variant = chosen.label.partition(":")
    style = scheme_style(name, variant)
    untrained = total["status"] == UNTRAINED
    words = [f"CBR {total['cbr']:.4g}"]
    for metric in METRICS.values():
        if metric.column in total:
            words.append(f"{metric.short_label} {total[metric.column]:.4g} {metric.unit}")
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
    untrained = chosen.scheme.status == UNTRAINED
    return f"{stem}_{UNTRAINED}.mp4" if untrained else f"{stem}.mp4"


NUMBERS = "transmit.json"
#: Called as frames are sent, with (frames done, frames in all if known, what is happening).
FrameProgress = Callable[[int, int | None, str], None]


def transmit_video(
    request: Request,
    folder: Path,
    *,
    command: str,
    choosing: Progress,
    sending: FrameProgress,
) -> dict[str, Any]:
    """Send a video with every scheme of ``request`` and write what came of it into ``folder``.

    Writes a video per scheme, ``side_by_side.mp4``, ``still.png``, ``gops.csv`` (a row per GOP
    and scheme) and ``transmit.json``, each whole or not at all. One GOP is in memory at a time,
    and the one before it.

    Parameters: ``command`` : for the record; ``choosing``, ``sending`` : progress.
    Output: what ``transmit.json`` holds. Raises ``InputError`` for a bad request or source, before
    anything is written. Of a source that breaks off after its first GOP (cut, damaged, or of
    another size from there on) every whole GOP is sent; ``stopped`` then says why it ends there.
    """
    _check_folder(folder)
    plan = plan_of(request)
    for name in request.metrics:
        METRICS[name].measure.require()
    sent = choose(request, plan, choosing)
    folder.mkdir(parents=True, exist_ok=True)
    stream = open_source(request)
    with closing(stream.frames):
        broken: list[InputError] = []
        totals, senders, shape, files = _send(request, plan, sent, stream, folder, sending, broken)
    numbers = {
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "pvsc_link": __version__,
        "git_commit": git_commit(),
        "source": {
            "clip": sent[0].point.clip,
            "first_frame": request.first_frame,
            "num_frames": shape[0],
            "height": shape[1],
            "width": shape[2],
            "fps": stream.fps,
            "gop": sent[0].point.gop,
            "notes": list(stream.notes),
        },
        "stopped": str(broken[0]) if broken else None,
        "link": json.loads(plan.scenario.link.model_dump_json()),
        "seed": request.seed,
        "target_cbr": request.target_cbr,
        "schemes": {
            s.label: total
            | {"note": "; ".join(filter(None, (s.chosen.note, total["note"])))}
            | {"video": files[s.label], "codec_command": s.command}
            for s, total in zip(senders, totals, strict=True)
        },
        "files": [SIDE_BY_SIDE, STILL, ROWS],
        "packages": package_versions(),
        "machine": machine(),
    }
    write_atomically(folder / NUMBERS, json.dumps(numbers, indent=1) + "\n")
    return numbers


def _send(
    request: Request,
    plan: Plan,
    sent: list[Chosen],
    stream: FrameStream,
    folder: Path,
    sending: FrameProgress,
    broken: list[InputError],
) -> tuple[list[dict[str, Any]], list[Sender], tuple[int, int, int], dict[str, str]]:
    """Sums and sender of every scheme, [num_frames, height, width] of the video, and file names.

    Parameters: ``broken`` : takes the error of a source that breaks off after its first GOP.
    """
    senders = [Sender(chosen, request.metrics) for chosen in sent]
    gops = _gops(request, plan, stream)
    first = next(gops)
    size = (first.frames.shape[1], first.frames.shape[2])
    with Outputs(folder, stream, size, sent, _still_frame(request, stream)) as outputs:
        done, before = 0, first.frames[:0]
        for gop in chain([first], _until_broken(gops, broken)):
            here = partial(sending, done, stream.num_frames)
            shown, rows = _send_gop(gop, before, senders, request.metrics, here)
            totals = [sender.totals() for sender in senders]
            outputs.add(gop.frames, shown, rows, totals)
            done, before = done + len(gop.frames), gop.frames
        sending(done, done, "done")
        outputs.finish(totals)
    return totals, senders, (done, *size), outputs.files


def _send_gop(
    gop: Video,
    before: np.ndarray,
    senders: list[Sender],
    metrics: Sequence[str],
    say: Callable[[str], None],
) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """What every scheme shows of a GOP, and its rows."""
    # Some codecs look at source frames before the GOP: the last GOP is enough for all of them.
    start = gop.first_frame - len(before)
    with_history = Video(gop.name, np.concatenate([before, gop.frames]), gop.fps, gop.source, start)
    say("encode")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda sender: sender.encode(with_history, len(before)), senders))
    say("send")
    receptions = [sender.receive() for sender in senders]
    frame_metrics = FrameMetrics()  # a new one: it holds features of the frames that it met
    of_frames = [name for name in metrics if not METRICS[name].of_clip]
    # Features of a whole GOP may not fit in memory; metrics of clips are measured with the rows.
    for index, frame in enumerate(gop.frames if of_frames else ()):
        say(f"measure frame {index + 1} of the GOP")
        for reception in receptions:
            shown = reception.frames_hat[index, None]
            frame_metrics.evaluate(of_frames, frame[None], shown)
    rows = [
        sender.measure(gop, reception, frame_metrics)
        for sender, reception in zip(senders, receptions, strict=True)
    ]
    return [reception.frames_hat for reception in receptions], rows


def _gops(request: Request, plan: Plan, stream: FrameStream) -> Iterator[Video]:
    """The video in GOPs; the last may be shorter. Raises ``InputError`` if its size changes."""
    point = plan.points[0]
    frames = islice(stream.frames, request.num_frames)
    first = request.first_frame
    shape: tuple[int, ...] | None = None
    while stack := list(islice(frames, point.gop)):
        shape = shape or stack[0].shape
        for frame in stack:
            if frame.shape != shape:
                raise InputError(
                    f"size of video {stream.name}",
                    found=f"{frame.shape[1]}x{frame.shape[0]} near frame {first}",
                    allowed=f"{shape[1]}x{shape[0]}, the size of its first frame",
                    remedy="Cut the video where its size changes, or scale it.",
                )
        yield Video(point.clip, np.stack(stack), stream.fps, stream.name, first)
        first += len(stack)


def _until_broken(gops: Iterator[Video], broken: list[InputError]) -> Iterator[Video]:
    """``gops`` up to the first that cannot be read; the error goes into ``broken``."""
    try:
        yield from gops
    except InputError as error:
        broken.append(error)


def _still_frame(request: Request, stream: FrameStream) -> int:
    if request.still_frame is not None:
        return request.still_frame
    return (stream.num_frames or 0) // 2


def _check_folder(folder: Path) -> None:
    """Raises ``InputError`` if the folder is none and cannot become one."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(
            "folder of results",
            found=str(there),
            allowed="a folder that can be written",
            remedy="Give another -o.",
        )
