"""Transmitter and receiver of a stream, frame by frame, in the order of Fig. 5.

Each end owns its buffers: F and C_s. An I frame resets them. The transmitter feeds its own as if
the channel were ideal (eq. 22 to 24), through the very steps the receiver runs, so that over a
noise-free channel both ends hold equal numbers. Memory does not grow with the number of frames.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic import side_information, symbol_mapping
from pvsc_link.semantic.inference import CodedFrame, FrameSteps
from pvsc_link.semantic.motion_search import vectors
from pvsc_link.semantic.session_checks import checked_frame
from pvsc_link.semantic.side_information import SideInformationError
from pvsc_link.semantic.stream_end import Coding, StreamEnd
from pvsc_link.types import InputError, Payload

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
