"""From a request to its files: GOP after GOP through every scheme, with bounded memory."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import pvsc_link
from pvsc_link.media.reader import FrameStream
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.sweep.builder import Plan
from pvsc_link.sweep.manifest import git_commit, machine, package_versions
from pvsc_link.sweep.runner import Progress
from pvsc_link.sweep.store import write_text
from pvsc_link.transmit.first_gop import Chosen, choose
from pvsc_link.transmit.outputs import ROWS, SIDE_BY_SIDE, STILL, Outputs
from pvsc_link.transmit.request import Request, open_source, plan_of
from pvsc_link.transmit.sender import Sender
from pvsc_link.types import InputError, Video

NUMBERS = "transmit.json"
#: Told as the transmission goes: (frames done, frames in all if known, what is happening).
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
    anything is written; for a source that ends in the middle of a frame, when it is reached.
    """
    _check_folder(folder)
    plan = plan_of(request)
    sent = choose(request, plan, choosing)
    folder.mkdir(parents=True, exist_ok=True)
    stream = open_source(request)
    with closing(stream.frames):
        totals, senders, shape, files = _send(request, plan, sent, stream, folder, sending)
    numbers = {
        "command": command,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "pvsc_link": pvsc_link.__version__,
        "git_commit": git_commit(),
        "source": {
            "clip": sent[0].point.clip,
            "first_frame": request.first_frame,
            "num_frames": shape[0],
            "height": shape[1],
            "width": shape[2],
            "fps": stream.fps,
            "gop": sent[0].point.gop,
        },
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
    write_text(json.dumps(numbers, indent=1) + "\n", folder / NUMBERS)
    return numbers


def _send(
    request: Request,
    plan: Plan,
    sent: list[Chosen],
    stream: FrameStream,
    folder: Path,
    sending: FrameProgress,
) -> tuple[list[dict[str, Any]], list[Sender], tuple[int, int, int], dict[str, str]]:
    """Sums of every scheme, and [num_frames, height, width] of what was sent."""
    senders = [Sender(chosen, request.metrics) for chosen in sent]
    gops = _gops(request, plan, stream)
    first = next(gops)
    size = (first.frames.shape[1], first.frames.shape[2])
    with Outputs(folder, stream, size, sent, _still_frame(request, stream)) as outputs:
        done, before = 0, first.frames[:0]
        for gop in _again(first, gops):
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
    for index, frame in enumerate(gop.frames):  # those of a whole GOP may not fit in memory
        say(f"measure frame {index + 1} of the GOP")
        for reception in receptions:
            shown = reception.frames_hat[index, None]
            frame_metrics.evaluate(metrics, frame[None], shown)
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


def _again(first: Video, gops: Iterator[Video]) -> Iterator[Video]:
    yield first
    yield from gops


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
