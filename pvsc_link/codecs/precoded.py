"""Bitstreams coded beforehand: a codec like any other, of which only the encoding is skipped."""

import hashlib
from pathlib import Path

import numpy as np

from pvsc_link.codecs.codec import check_frames, check_option
from pvsc_link.codecs.libav import decode_rgb, libav_version
from pvsc_link.codecs.stream_index import (
    INDEX_FILE,
    StreamEntry,
    frame_hashes,
    read_hashes,
    read_index,
)
from pvsc_link.types import CodecFailure, EncodedGop, InputError

#: Streams that come with the package: ``vtm`` and ``hm`` of the embedded clips.
PACKAGED_STREAMS = Path(__file__).parent / "streams"


class Precoded:
    """Looks a GOP up by clip, first frame, length and QP, and decodes it with libav.

    Parameters
        index : folder with ``index.json``
        variant : codec of the index to take; needed where it holds streams of several

    Raises ``InputError`` for a folder without a usable index, or an unknown variant.
    """

    name = "precoded"

    def __init__(self, *, index: str | Path, variant: str | None = None):
        self.folder = Path(index).expanduser()
        entries = read_index(self.folder)
        codecs = sorted({entry.codec for entry in entries})
        if variant is None and len(codecs) != 1:
            raise InputError(
                f"variant of {self.folder / INDEX_FILE}",
                found=variant,
                allowed=", ".join(codecs) or "(the index is empty)",
                remedy="State the variant.",
            )
        self.variant = codecs[0] if variant is None else variant
        check_option(f"variant of {self.folder / INDEX_FILE}", self.variant, codecs)
        self.entries = [entry for entry in entries if entry.codec == self.variant]
        self._hashes = read_hashes(self.folder)

    @property
    def allowed_rates(self) -> list[int]:
        return sorted({entry.qp for entry in self.entries})

    @property
    def version(self) -> str:
        digest = hashlib.sha256((self.folder / INDEX_FILE).read_bytes()).hexdigest()[:16]
        return f"{self.variant}, index sha256 {digest}, decoded by {libav_version()}"

    def check(self) -> None:
        """Raise ``InputError`` when the index names files that are not there."""
        missing = [e.file for e in self.entries if not (self.folder / e.file).is_file()]
        if missing:
            raise InputError(
                f"streams of {self.folder / INDEX_FILE}",
                found=f"{len(missing)} files absent, first {missing[0]}",
                allowed="every file that the index names",
                remedy="Copy the whole folder.",
            )

    def describe(self, rate: int) -> str:
        """Command that coded the first GOP at ``rate``."""
        found = [entry.options for entry in self.entries if entry.qp == rate]
        return found[0] if found else f"no stream at QP {rate} in {self.folder}"

    def find(self, clip: str, first_frame: int, num_frames: int, rate: int) -> StreamEntry | None:
        """The stream of one GOP, or None."""
        for entry in self.entries:
            wanted = (entry.first_frame, entry.gop, entry.qp) == (first_frame, num_frames, rate)
            if wanted and entry.is_of(clip):
                return entry
        return None

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """Look one GOP up; see ``Codec.encode``.

        ``EncodedGop.note`` says when ``frames`` are not the pictures that were coded.
        Raises ``CodecFailure``: ``missing_stream`` where the index has no such GOP, ``codec_error``
        for a file that is damaged or of another size.
        """
        check_frames(frames)
        entry = self.find(clip, first_frame, len(frames), rate)
        if entry is None:
            raise CodecFailure("missing_stream", self._absent(clip, first_frame, len(frames), rate))
        payload = self._payload(entry)
        if (entry.height, entry.width) != frames.shape[1:3]:
            size = f"{frames.shape[2]}x{frames.shape[1]}"
            detail = f"{entry.file} is {entry.width}x{entry.height}, the clip {size}"
            raise CodecFailure("codec_error", detail)
        sizes = entry.frame_num_bytes
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=decode_rgb(payload, sizes, entry.format, size=(entry.width, entry.height)),
            command=entry.options,
            version=self.version,
            note=self._source_note(entry, frames),
        )

    def _payload(self, entry: StreamEntry) -> bytes:
        try:
            payload = (self.folder / entry.file).read_bytes()
        except OSError as error:
            raise CodecFailure("codec_error", f"{entry.file}: {error}") from error
        if hashlib.sha256(payload).hexdigest() != entry.sha256:
            raise CodecFailure("codec_error", f"{entry.file} differs from its sha256 in the index")
        if sum(entry.frame_num_bytes) != len(payload):
            detail = (
                f"{entry.file}: {len(payload)} bytes, {sum(entry.frame_bits)} bits in the index"
            )
            raise CodecFailure("codec_error", detail)
        return payload

    def _source_note(self, entry: StreamEntry, frames: np.ndarray) -> str:
        known = self._hashes.get(entry.clip, [])[entry.first_frame :][: entry.gop]
        if len(known) < entry.gop:
            return "precoded: the coded pictures have no hashes, the source is unchecked"
        pairs = zip(known, frame_hashes(frames), strict=True)
        changed = sum(coded != own for coded, own in pairs)
        if not changed:
            return ""
        return f"precoded: {changed} of {entry.gop} source frames differ from the coded pictures"

    def _absent(self, clip: str, first_frame: int, num_frames: int, rate: int) -> str:
        held = sorted({(e.clip, e.gop, e.qp) for e in self.entries if e.is_of(clip)})
        others = sorted({entry.clip for entry in self.entries})
        has = f"GOP lengths and QPs {[h[1:] for h in held]}" if held else f"clips {others}"
        return (
            f"no {self.variant} stream of {clip or 'an unnamed clip'}, frames {first_frame} to "
            f"{first_frame + num_frames - 1}, QP {rate} in {self.folder}; it holds {has}"
        )
