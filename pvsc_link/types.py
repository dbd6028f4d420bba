"""What the rooms pass to one another, the error of a bad input, and conversions of dB."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

#: Video for networks and metrics: float32 RGB in [0, 1], ``[batch, num_frames, height, width, 3]``.
Frames: TypeAlias = np.ndarray


class InputError(ValueError):
    """A bad input in four parts: what is wrong, what was found, what is allowed, and the remedy.

    ``what`` alone is taken as the whole text, so that frameworks and pickle can raise it again.
    """

    #: AutoGraph raises it as it is where it comes out of a ``tf.function``.
    ag_pass_through = True

    def __init__(
        self, what: str, *, found: object = None, allowed: object = None, remedy: str = ""
    ):
        self.what, self.found, self.allowed, self.remedy = what, found, allowed, remedy
        parts = f"{what}: found {found!r}; allowed: {allowed}. {remedy}" if remedy else what
        super().__init__(parts)


class CodecFailure(RuntimeError):
    """A codec that is absent, crashed or timed out, or a clip that it cannot be given.

    On a cluster also a task that took its worker processes down.

    ``status``, one of ``STATUSES``, is the status of the row in the results.
    """

    STATUSES = (
        *("missing_binary", "missing_stream", "codec_error", "codec_timeout", "bad_clip"),
        "worker_lost",
    )

    def __init__(self, status: str, detail: str):
        self.status, self.detail = status, detail
        super().__init__(f"{status}: {detail}")


@dataclass(frozen=True)
class Video:
    """One clip in memory, as 8-bit RGB (what a display would show)."""

    name: str
    frames: np.ndarray  # uint8 RGB [num_frames, height, width, 3]
    fps: float
    source: str  # file that was read, for the manifest
    first_frame: int = 0  # index of frames[0] in the clip
    notes: tuple[str, ...] = ()  # what the reader converted or left out, for the manifest


@dataclass(frozen=True)
class EncodedGop:
    """One GOP out of a source codec: its own bitstream and its error-free reconstruction."""

    payload: bytes  # the whole GOP; frame t is the t-th run of frame_num_bytes
    frame_num_bytes: tuple[int, ...]  # per frame in display = coding order; sums to len(payload)
    frames_hat: np.ndarray  # uint8 RGB [num_frames, height, width, 3]
    command: str  # literal codec options
    version: str  # codec and container library versions
    note: str = ""  # what a reader of the row must know, e.g. other source bytes were coded
    # Frames that the receiver's decoder decodes when all bits arrive; None: all of them.
    num_decodable: int | None = None
    # Bytes of the first frame that both ends know before it, as pairs of first byte and end.
    fact_spans: tuple[tuple[int, int], ...] = ()
    fps: float = 30.0  # frames per second of the source

    @property
    def num_bits(self) -> int:
        return 8 * len(self.payload)


@dataclass(frozen=True)
class ChannelPoint:
    """One channel condition.

    ``None`` means perfect CSI, or a value that the channel does not have. ``more`` holds the values
    of a channel's condition that have no attribute here, as pairs of name and value.
    """

    channel: str  # key of link.registry.CHANNELS
    # Es/N0 per complex symbol after the power constraint; infinite in a packet network, which adds
    # no noise.
    snr_db: float
    csi_nmse_db: float | None = None  # eq. 3; None = perfect CSI
    coherence_length: int | None = None  # channel uses; None under AWGN
    more: tuple[tuple[str, Any], ...] = ()

    @property
    def condition(self) -> dict[str, Any]:
        """The values beside the SNR by name, as in the tables; the first two are always there."""
        two = {"csi_nmse_db": self.csi_nmse_db, "coherence_length": self.coherence_length}
        return two | dict(self.more)


@dataclass(frozen=True)
class Payload:
    """What a semantic transmitter sends for one frame."""

    symbols: np.ndarray  # complex64 [num_symbols], unit mean power over the frame
    side_bits: dict[str, bytes]  # "z" and "k": hyper-latent and rate-map bitstreams
    num_motion_bits: float = 0.0  # of "z": information of the motion vectors


class LinkStats(NamedTuple):
    """What was measured over ``num_symbols`` symbols that were sent; NaN where nothing was.

    ``csi_nmse`` : power of the error of the channel estimate over that of the channel, linear
    ``snr`` : power of the symbols over that of their error after the equaliser, linear
    ``papr`` : largest power of a symbol over the mean power, linear, of the complex symbols as they
    are sent (after clipping), one sample per symbol: no pulse shape, no OFDM waveform
    """

    num_symbols: int = 0
    csi_nmse: float = math.nan
    snr: float = math.nan
    papr: float = math.nan

    @staticmethod
    def joined(parts: "Iterable[LinkStats]") -> "LinkStats":
        """Of all symbols together: errors are averaged, each symbol with the same weight.

        ``papr`` is the largest of the parts.
        """
        parts = [part for part in parts if part.num_symbols]
        total = sum(part.num_symbols for part in parts)

        def mean(errors: list[float]) -> float:
            sizes = [part.num_symbols for part in parts]
            return sum(n * e for n, e in zip(sizes, errors, strict=True)) / total

        if not total:
            return LinkStats()
        error = mean([1.0 / part.snr for part in parts])
        papr = max((part.papr for part in parts if part.papr > 0), default=math.nan)
        return LinkStats(total, mean([part.csi_nmse for part in parts]), 1.0 / error, papr)

    def columns(self) -> dict[str, float | None]:
        """Columns of a row, in dB; None where nothing was measured, or nothing is estimated."""
        columns = {"csi_nmse_measured_db": self.csi_nmse, "snr_equalized_db": self.snr}
        columns["papr_db"] = self.papr
        return {name: linear_to_db(v) if v > 0 else None for name, v in columns.items()}


@dataclass(frozen=True)
class Reception:
    """What one GOP became at the receiver, for every scheme."""

    frames_hat: np.ndarray  # uint8 RGB [num_frames, height, width, 3]
    # Complex channel uses by part ("source", "side", "pilot"); over a packet network bytes.
    num_channel_uses: dict[str, int]
    frames_lost: int  # frames that were not decoded from what was sent for them
    num_blocks: int  # transport blocks sent
    num_block_errors: int  # of these, CRC failed
    frames_concealed: int = 0  # frames shown that are not what a receiver without losses shows
    freeze_events: int = 0  # runs of frames that repeat the one before; each counts where it begins
    header_uses: int = 0  # channel uses that session facts take, or would take if they were sent
    latency_ms: tuple[float, ...] = ()  # per frame; empty: the scheme states none
    status: str = "ok"
    note: str = ""  # what a reader of the row must know
    finer_channel_uses: dict[str, int] = field(default_factory=dict)  # the same in finer parts
    details: dict[str, float] = field(default_factory=dict)  # columns of this scheme, summed up
    stats: LinkStats = field(default_factory=LinkStats)  # of the symbols that carried the source


def db_to_linear(value_db: Any) -> Any:
    """Power ratio of a value in dB. Works on floats, arrays and tensors, shape kept.

    Parameters: ``value_db`` : any shape, dB. Output: same shape, linear power ratio.
    """
    return 10.0 ** (value_db / 10.0)


def linear_to_db(ratio: float) -> float:
    """Value in dB of a positive power ratio (float).

    Raises ``ValueError`` (from ``math.log10``) for a ratio that is not positive.
    """
    return 10.0 * math.log10(ratio)


def noise_variance(snr_db: Any) -> Any:
    """Noise variance N0 of a complex symbol of unit energy at ``snr_db`` = Es/N0 in dB (eq. 2)."""
    return 1.0 / db_to_linear(snr_db)
