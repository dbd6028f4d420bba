"""Write the GOPs of any codec as a folder of precoded streams, so that slow encoders run once."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from pvsc_link.codecs.base import Codec, check_rate
from pvsc_link.codecs.external.codec import ExternalCodec
from pvsc_link.codecs.libav import decode_frames
from pvsc_link.codecs.precoded import (
    FORMATS,
    INDEX_FILE,
    StreamEntry,
    frame_hashes,
    read_hashes,
    read_index,
    write_hashes,
    write_index,
)
from pvsc_link.types import CodecFailure, EncodedGop, InputError, Video

_SLICES = {1: "I", 2: "P", 3: "B"}


@dataclass(frozen=True)
class ExportJob:
    """One GOP at one rate."""

    gop_index: int
    first_frame: int
    rate: int


def export_streams(
    codec: Codec,
    video: Video,
    *,
    gop: int,
    rates: Sequence[int],
    folder: Path,
    workers: int = 1,
    on_done: Callable[[StreamEntry], None] = lambda entry: None,
) -> list[StreamEntry]:
    """Encode every whole GOP of ``video`` at every rate into ``folder`` and its ``index.json``.

    Parameters: ``gop`` : frames per GOP; ``workers`` : encoders at a time; ``on_done`` : called
    after each stream. Streams that the folder already holds (same codec, clip, GOP and QP, with
    an intact file) are kept, so a stopped export goes on where it was.
    Output: the entries of this video, in order of GOP and rate.
    Raises ``InputError`` for a video shorter than a GOP, pictures other than the folder's, or a
    learned codec, whose bitstreams libav cannot decode again;
    ``CodecFailure`` of the first encode that fails, with everything before it kept.
    """
    _check_decodable(codec)
    codec.check()
    for rate in rates:
        check_rate(codec, rate)
    _check_length(video, gop)
    folder.mkdir(parents=True, exist_ok=True)
    _add_hashes(folder, video)
    index = {_key(entry): entry for entry in _held(folder)}
    jobs = list(_jobs(video, gop, rates))
    missing = [job for job in jobs if _job_key(codec, video, gop, job) not in index]
    for entry in _encode_all(codec, video, gop, missing, folder, workers):
        index[_key(entry)] = entry
        write_index(folder, index.values())
        on_done(entry)
    return [index[_job_key(codec, video, gop, job)] for job in jobs]


def _check_decodable(codec: Codec) -> None:
    if isinstance(codec, ExternalCodec):
        raise InputError(
            "codec to export",
            found=codec.name,
            allowed=f"codecs of the formats that libav decodes: {', '.join(FORMATS)}",
            remedy="Run the sweep where the checkout is; its GOPs are kept in the cache.",
        )


def _jobs(video: Video, gop: int, rates: Sequence[int]) -> Iterator[ExportJob]:
    for start in range(0, len(video.frames) - gop + 1, gop):
        first_frame = video.first_frame + start
        yield from (ExportJob(start // gop, first_frame, rate) for rate in rates)


def _key(entry: StreamEntry) -> tuple:
    return entry.codec, entry.clip, entry.gop, entry.first_frame, entry.qp


def _job_key(codec: Codec, video: Video, gop: int, job: ExportJob) -> tuple:
    return _label(codec), video.name, gop, job.first_frame, job.rate


def _label(codec: Codec) -> str:
    """What rows of the exported streams carry as their variant."""
    return f"{codec.name} ({codec.variant})" if codec.variant else codec.name


def _held(folder: Path) -> list[StreamEntry]:
    if not (folder / INDEX_FILE).exists():
        return []
    return [entry for entry in read_index(folder) if _is_intact(folder / entry.file, entry)]


def _is_intact(path: Path, entry: StreamEntry) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def _encode_all(
    codec: Codec, video: Video, gop: int, jobs: Sequence[ExportJob], folder: Path, workers: int
) -> Iterator[StreamEntry]:
    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(_encode, codec, video, gop, job, folder) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _encode(codec: Codec, video: Video, gop: int, job: ExportJob, folder: Path) -> StreamEntry:
    start = job.first_frame - video.first_frame
    frames = video.frames[start : start + gop]
    coded = codec.encode(frames, video.fps, job.rate, clip=video.name, first_frame=job.first_frame)
    stream_format, pixel_format, slices = _probe(coded)
    file = f"{video.name}_gop{gop}/qp{job.rate}_f{job.first_frame}.bin"
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(coded.payload)
    return StreamEntry(
        codec=_label(codec),
        clip=video.name,
        width=frames.shape[2],
        height=frames.shape[1],
        fps=video.fps,
        gop=gop,
        gop_index=job.gop_index,
        first_frame=job.first_frame,
        qp=job.rate,
        file=file,
        frame_bits=tuple(8 * n for n in coded.frame_num_bytes),
        options=coded.command,
        sha256=hashlib.sha256(coded.payload).hexdigest(),
        format=stream_format,
        pixel_format=f"{pixel_format}, BT.709 limited range, from 8-bit RGB",
        source=f"{Path(video.source).name}; {coded.version}",
        slice_types=slices,
    )


def _probe(coded: EncodedGop) -> tuple[str, str, str]:
    """Format of the stream (whichever libav decoder gives the frames), pixel format, slices."""
    for stream_format in FORMATS:
        try:
            frames = decode_frames(coded.payload, coded.frame_num_bytes, stream_format)
        except CodecFailure:
            continue
        slices = "".join(_SLICES.get(int(frame.pict_type), "?") for frame in frames)
        return stream_format, frames[0].format.name, slices
    raise CodecFailure("codec_error", f"no libav decoder of {FORMATS} gives every frame")


def _check_length(video: Video, gop: int) -> None:
    if gop < 1 or len(video.frames) < gop:
        raise InputError(
            f"GOP of {video.name}",
            found=gop,
            allowed=f"1 to {len(video.frames)} frames",
            remedy="Choose a shorter GOP, or read more frames.",
        )


def _add_hashes(folder: Path, video: Video) -> None:
    """Hashes of the clip's pictures from frame 0 on; unknown ones before the first stay empty."""
    hashes = read_hashes(folder)
    own = frame_hashes(video.frames)
    known = list(hashes.get(video.name, []))
    known += [""] * (video.first_frame + len(own) - len(known))
    span = slice(video.first_frame, video.first_frame + len(own))
    if any(old and old != new for old, new in zip(known[span], own, strict=True)):
        raise InputError(
            f"pictures of {video.name}",
            found="other pictures than those already coded",
            allowed=f"the source of the streams in {folder}",
            remedy="Export into a folder of its own.",
        )
    known[span] = own
    write_hashes(folder, hashes | {video.name: known})
