"""Which frames of a GOP are sent finer than the others. Not in the paper.

A P frame that is sent at little cost refreshes little of the picture, and in a long GOP what is
left of older channel noise and coarse quantisation adds up. Real codecs spend more on every fourth
or eighth frame for the same reason (VTM's low-delay configuration, for instance).

What a stream accepts: its frames, and the parameters of its session.

What both ends of a stream have in common: models, session, buffers and the steps of a frame.

Transmitter and receiver of a stream, frame by frame, in the order of Fig. 5.

Each end owns its buffers: F and C_s. An I frame resets them. The transmitter feeds its own as if
the channel were ideal (eq. 22 to 24), through the very steps the receiver runs, so that over a
noise-free channel both ends hold equal numbers. Memory does not grow with the number of frames.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.entropy import side_information
from pvsc_link.models.entropy.side_information import SIDE_FORMATS, SideInformationError
from pvsc_link.models.layers import rate_adaptive as symbol_mapping
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.pvsc.steps import CodedFrame, Compiler, FrameSteps, IntraSteps, as_is
from pvsc_link.models.pvsc_mc.motion import vectors
from pvsc_link.types import InputError, Payload

#: By how many quality presets a refreshing P frame is finer.
REFRESH_PRESETS = 2


def preset_at(omega_index: int, place: int, refresh_every: int, num_presets: int) -> int:
    """Quality preset of the frame at ``place`` of its GOP (0: the I frame).

    Parameters: ``omega_index`` : of all other frames; ``refresh_every`` : which P frames refresh,
    0: none; ``num_presets`` : of the model, the finest of which is the limit.
    """
    if refresh_every == 0 or place == 0 or place % refresh_every:
        return omega_index
    return min(omega_index + REFRESH_PRESETS, num_presets - 1)


def check_refresh(refresh_every: int) -> None:
    """Raises ``InputError`` for a negative number."""
    if refresh_every < 0:
        raise InputError(
            "refresh_every",
            found=refresh_every,
            allowed="0 (none), or n: every n-th P frame refreshes",
            remedy="2 suits GOPs of 8 and more.",
        )


def checked_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """The frame as float32 in [0, 1]; raises ``InputError`` for anything else."""
    pixels = np.asarray(frame)
    allowed = f"uint8, or float in [0, 1] without NaN, of shape {(height, width, 3)}"
    remedy = "Scale to [0, 1], pad to the session's size, and pass one frame at a time."
    if pixels.shape != (height, width, 3):
        raise InputError(
            "frame of a wrong shape", found=pixels.shape, allowed=allowed, remedy=remedy
        )
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255.0)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(
            "frame of a wrong type", found=pixels.dtype, allowed=allowed, remedy=remedy
        )
    low, high = pixels.min(), pixels.max()
    if not (low >= 0.0 and high <= 1.0):  # False for NaN as well
        raise InputError(
            "frame values out of range",
            found=(float(low), float(high)),
            allowed=allowed,
            remedy=remedy,
        )
    return pixels.astype(np.float32)


def check_session(
    intra: IntraModel,
    model: Any,
    height: int,
    width: int,
    omega_index: int,
    side_format: str,
    refresh_every: int = 0,
) -> None:
    """Raise ``InputError`` for session parameters that the models cannot serve."""
    multiple = max(intra.config.padding_multiple, model.config.padding_multiple)
    num_omega = min(intra.config.num_omega, model.config.num_omega)
    checks = (
        (
            min(height, width) > 0 and height % multiple == 0 and width % multiple == 0,
            ("frame size is not padded", (height, width), f"multiples of {multiple}"),
        ),
        (
            0 <= omega_index < num_omega,
            ("quality preset does not exist", omega_index, f"0 to {num_omega - 1}"),
        ),
        (
            side_format in SIDE_FORMATS,
            ("unknown side_format", side_format, SIDE_FORMATS),
        ),
    )
    for passed, (what, found, allowed) in checks:
        if not passed:
            raise InputError(what, found=found, allowed=allowed, remedy="Change the session.")
    check_refresh(refresh_every)


@dataclass(frozen=True)
class Coding:
    """How a frame is coded: what both ends know of it from its place in the GOP."""

    intra: bool
    preset: int  # quality preset
    row: int  # of the statistics
    hyper_tables: side_information.HyperTables
    omega: Any  # the preset as a tensor, [1], int32


class StreamEnd:
    """Models, session parameters and buffers of one end."""

    def __init__(
        self,
        intra: IntraModel,
        model: PvscModel | DvstModel,
        *,
        height: int,
        width: int,
        omega_index: int = 0,
        side_format: str = "png",
        refresh_every: int = 0,
        compiled: Compiler = as_is,
    ):
        check_session(intra, model, height, width, omega_index, side_format, refresh_every)
        self.height, self.width = height, width
        self.omega_index, self.side_format = omega_index, side_format
        self.refresh_every = refresh_every
        self.intra_steps = IntraSteps(intra, model, compiled)
        self.steps = model.steps(compiled)
        self._models: dict[bool, Any] = {True: intra, False: model}
        self._num_presets = model.config.num_omega
        self._codings: dict[tuple[bool, int], Coding] = {}
        self._place = 0  # of the newest frame in its GOP
        self._shown_with = self.coding(0).omega
        self.feature: Any = None  # F, [1, height / 8, width / 8, channels_feature], or x_hat
        self.state: Any = None  # C_s, [1, Hy, Wy, embed_dim]
        self._intra_frame: Any = None  # the picture while an I frame is the newest

    def preset_at(self, place: int) -> int:
        """Quality preset of the frame at ``place`` of its GOP (0: the I frame)."""
        return preset_at(self.omega_index, place, self.refresh_every, self._num_presets)

    def coding(self, place: int) -> Coding:
        """How the frame at ``place`` of its GOP (0: the I frame) is coded."""
        key = place == 0, self.preset_at(place)
        if key not in self._codings:
            intra, preset = key
            row = self._models[intra].config.row(preset)
            tables = self._models[intra].hyper_tables(row)
            omega = ops.full((1,), preset, dtype="int32")
            self._codings[key] = Coding(intra, preset, row, tables, omega)
        return self._codings[key]

    def _next(self, intra: bool) -> Coding:
        """Of the frame that follows the newest one."""
        self._place = 0 if intra else self._place + 1
        return self.coding(self._place)

    def hyper_latent(self, message: bytes, coding: Coding) -> tuple[np.ndarray, np.ndarray | None]:
        """z_hat out of its b_z, int32 [height / 64, width / 64, channels_z], and the vectors.

        The vectors : int32 [Hy, Wy, 2], or None for a frame without. Raises
        ``SideInformationError`` for a message that no encoder has produced.
        """
        shape = (self.height // 64, self.width // 64)
        return side_information.decode_hyper_latent(
            message, shape, coding.hyper_tables, self._motion_prior(coding.intra)
        )

    def _motion_prior(self, intra: bool) -> Any:
        """Of the vectors; None where frames have none."""
        return None if intra else getattr(self._models[False], "motion_prior", None)

    def _reference(self, motion: np.ndarray | None) -> Any:
        """F as the coding of a P frame sees it."""
        vectors = None if motion is None else ops.convert_to_tensor(motion[None], "int32")
        return self.steps.reference(self.feature, vectors)

    def gain(self, message: bytes, *, intra: bool) -> np.float32:
        """What the received symbols are multiplied with, out of b_k; errors as ``hyper_latent``."""
        gain_byte = self._split(message, intra)[0]
        if not gain_byte:
            return np.float32(1.0)
        return np.float32(ops.convert_to_numpy(symbol_mapping.gain_of(gain_byte[0])))

    def _split(self, message: bytes, intra: bool) -> tuple[bytes, bytes]:
        """b_k as the byte of the gain, where this kind of frame has one, and the rate map."""
        length = 1 if self._models[intra].sends_gain else 0
        if len(message) < length:
            raise SideInformationError("b_k is empty")
        return message[:length], message[length:]

    def rate_map(self, message: bytes, z: np.ndarray, coding: Coding) -> np.ndarray:
        """The rate map out of its b_k: int32 [Hy, Wy]; errors as ``hyper_latent``."""
        message = self._split(message, coding.intra)[1]
        config = self._models[coding.intra].config
        shape = config.rate_map_shape(self.height, self.width)
        tables = self._rate_tables(z, coding)
        return side_information.decode_rate_map(
            message, shape, len(config.rate_set), self.side_format, tables
        )

    def _rate_tables(self, z: np.ndarray, coding: Coding) -> side_information.MapTables | None:
        """Tables of the rate map, which only the format ``range`` needs."""
        if self.side_format != "range":
            return None
        return self._models[coding.intra].rate_map_prior.tables(z, coding.row)

    def _finish(
        self,
        symbols: np.ndarray,
        rate_index: np.ndarray,
        z: np.ndarray,
        reference: Any,
        kept: Any,
        coding: Coding,
    ) -> None:
        """Decode symbols, the gain undone, and move the buffers on (eq. 16 to 24)."""
        intra = coding.intra
        rate_set = self._models[intra].config.rate_set
        padded = symbol_mapping.unpack(symbols, rate_index, rate_set)[None]
        steps: FrameSteps = self.intra_steps if intra else self.steps
        following = steps.decode(
            ops.convert_to_tensor(padded),
            ops.convert_to_tensor(rate_index[None], dtype="int32"),
            ops.convert_to_tensor(z[None].astype(np.float32)),
            (reference, self.state),
            coding.omega,
            kept,
        )
        self._shown_with = coding.omega
        self._intra_frame = following if intra else None
        self.feature, self.state = self.intra_steps.start(following) if intra else following

    def _picture(self) -> np.ndarray:
        """The frame the buffers stand for: float32 [height, width, 3], clipped to [0, 1]."""
        frame = self._intra_frame
        if frame is None:
            frame = self.steps.show(self.feature, self._shown_with)
        return np.clip(ops.convert_to_numpy(frame)[0], 0.0, 1.0)


#: What ``Receiver.decode`` may report. All but ``ok`` mean: last frame repeated, buffers kept.
STATUSES = ("ok", "side_z_lost", "side_k_lost", "symbols_mismatch", "no_reference")
_GREY = 0.5  # shown as long as nothing has been decoded


@dataclass(frozen=True)
class DecodedFrame:
    """One frame as the receiver shows it: float32 [height, width, 3] in [0, 1], and its status."""

    frame: np.ndarray
    status: str

    @property
    def frame_uint8(self) -> np.ndarray:
        """The frame in 8 bits, uint8 [height, width, 3]."""
        return np.rint(self.frame * 255.0).astype(np.uint8)


class Transmitter(StreamEnd):
    """Frames in, symbols and side bits out (section II-B2, and its buffer update, II-B4).

    Parameters
    ----------
    intra, model : the I-frame and P-frame models; both ends need equal weights
    height, width : coded frame size in pixels, multiples of ``padding_multiple``
    omega_index : quality preset, below ``num_omega``
    side_format : of b_k, ``png`` (the paper's), ``payload`` or ``range`` (``RateMapTables.choose``)
    refresh_every : every n-th P frame of a GOP is sent ``REFRESH_PRESETS`` presets finer, so
        that what later frames are predicted from does not decay; 0: none (the paper's)
    compiled : wraps each step once, e.g. ``tf.function``

    Raises ``InputError`` for any of these out of range.
    """

    def encode(self, frame: np.ndarray, *, intra: bool) -> Payload:
        """Code one frame and update the transmitter's buffers.

        Parameters: ``intra`` : an I frame, which starts a GOP; else a P frame.
        Input: ``frame`` : [height, width, 3], uint8, or float32 in [0, 1].
        Output: Payload : unit-power symbols, and ``side_bits`` "z" and "k".
        Raises ``InputError`` for a bad frame, or a P frame before any I frame.
        """
        pixels = ops.convert_to_tensor(checked_frame(frame, self.height, self.width)[None])
        if not intra:
            self._require_reference()
        coding = self._next(intra)
        steps: FrameSteps = self.intra_steps if intra else self.steps
        motion = None if intra else self._search(pixels, coding.preset)
        reference = None if intra else self._reference(motion)
        coded = steps.encode(
            pixels, (reference, self.state), coding.omega, self._choice_of_rates(coding)
        )
        z = ops.convert_to_numpy(coded.z_hat)[0].astype(np.int32)
        rate_index = ops.convert_to_numpy(coded.rate_index)[0].astype(np.int32)
        payload = self._payload(z, motion, rate_index, coded, coding)
        gain = self.gain(payload.side_bits["k"], intra=intra)
        self._finish(gain * payload.symbols, rate_index, z, reference, coded.kept, coding)
        return payload

    def _search(self, pixels: Any, preset: int) -> np.ndarray | None:
        """Vectors [Hy, Wy, 2] of a P frame, where its model has any."""
        if self._motion_prior(intra=False) is None:
            return None
        config = self._models[False].config
        return vectors(config, self.feature, pixels, [preset])[0]  # type: ignore[no-any-return]

    def _choice_of_rates(self, coding: Coding) -> Any:
        """``inference.RateChoice``: with tables of the rate map, what a rate costs counts."""
        prior = self._models[coding.intra].rate_map_prior
        choose = prior.choose if self.side_format == "range" else None
        return choose and partial(choose, preset_index=coding.row)

    def frame_hat(self) -> np.ndarray:
        """What an ideal channel would show of the newest frame: float32 [height, width, 3].

        Only computed when asked for: the buffers do not need the picture of a P frame.
        """
        self._require_reference()
        return self._picture()

    def _payload(
        self,
        z: np.ndarray,
        motion: np.ndarray | None,
        rate_index: np.ndarray,
        coded: CodedFrame,
        coding: Coding,
    ) -> Payload:
        """Side bitstreams and packed symbols of a frame."""
        gain = b""
        if coded.gain is not None:
            gain = bytes([int(symbol_mapping.gain_index(coded.gain)[0])])
        rate_set = self._models[coding.intra].config.rate_set
        tables = self._rate_tables(z, coding)
        moved = None if motion is None else self._motion_prior(coding.intra).parts(motion)
        side_bits = {
            "z": side_information.encode_hyper_latent(z, coding.hyper_tables, moved),
            "k": gain
            + side_information.encode_rate_map(rate_index, len(rate_set), self.side_format, tables),
        }
        symbols = ops.convert_to_numpy(coded.symbols)[0]
        packed = symbol_mapping.pack(symbols, rate_index, rate_set)
        return Payload(packed, side_bits)

    def _require_reference(self) -> None:
        if self.feature is None:
            raise InputError(
                "no reference frame",
                found="a P frame, or its picture, before any I frame",
                allowed="an I frame first",
                remedy="Start every GOP with encode(frame, intra=True).",
            )


class Receiver(StreamEnd):
    """Equalised symbols and side bits in, frames out (section II-B3).

    Parameters: as ``Transmitter``; the session parameters must be those of the transmitter.
    """

    def __init__(self, *models: Any, **session: Any):
        super().__init__(*models, **session)
        self._last = np.full((self.height, self.width, 3), _GREY, np.float32)

    def decode(
        self, symbols_hat: np.ndarray, side_bits: dict[str, bytes | None], *, intra: bool
    ) -> DecodedFrame:
        """Decode one frame, or conceal it; never raises on what a channel may do.

        Concealment: the last frame is shown again and the buffers stay, grey before the first
        frame. The paper leaves this open.

        Parameters: ``intra`` : as at the transmitter (the GOP structure is known to both).
        Input: ``symbols_hat`` : [num_symbols], complex; ``side_bits`` : b_z and b_k under "z" and
        "k", None or absent where the link lost them.
        Output: DecodedFrame with one of ``STATUSES``.
        """
        status = self._decode(symbols_hat, side_bits, intra)
        if status == "ok":
            self._last = self._picture()
        return DecodedFrame(self._last, status)

    def _decode(self, symbols_hat: np.ndarray, side_bits: dict[str, Any], intra: bool) -> str:
        coding = self._next(intra)
        if not intra and self.feature is None:
            return "no_reference"
        try:
            z, motion = self.hyper_latent(_present(side_bits, "z"), coding)
        except SideInformationError:
            return "side_z_lost"
        try:
            message = _present(side_bits, "k")
            rate_index = self.rate_map(message, z, coding)
            gain = self.gain(message, intra=intra)
        except SideInformationError:
            return "side_k_lost"
        rate_set = self._models[intra].config.rate_set
        symbols = np.asarray(symbols_hat, np.complex64).ravel()
        expected = symbol_mapping.num_symbols(rate_index, rate_set)
        if symbols.size != expected or not np.isfinite(symbols).all():
            return "symbols_mismatch"
        reference = None if intra else self._reference(motion)
        self._finish(gain * symbols, rate_index, z, reference, None, coding)
        return "ok"


def _present(side_bits: dict[str, Any], part: str) -> bytes:
    message = side_bits.get(part)
    if message is None:
        raise SideInformationError(f"b_{part} is lost")
    return message
