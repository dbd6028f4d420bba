"""Transmitter and receiver of a stream, frame by frame, in the order of Fig. 5.

Each end owns its buffers: F and C_s. An I frame resets them. The transmitter feeds its own as if
the channel were ideal (eq. 22 to 24), through the very steps the receiver runs, so that over a
noise-free channel both ends hold equal numbers. Memory does not grow with the number of frames.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic import side_information, symbol_mapping
from pvsc_link.semantic.inference import Compiler, IntraSteps, PredictedSteps, as_is
from pvsc_link.semantic.intra import IntraModel
from pvsc_link.semantic.model import PvscModel
from pvsc_link.semantic.session_checks import check_session, checked_frame
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


class _StreamEnd:
    """Models, session parameters and buffers of one end."""

    def __init__(
        self,
        intra: IntraModel,
        model: PvscModel,
        *,
        height: int,
        width: int,
        omega_index: int = 0,
        side_format: str = "png",
        compiled: Compiler = as_is,
    ):
        check_session(intra, model, height, width, omega_index, side_format)
        self.height, self.width = height, width
        self.omega_index, self.side_format = omega_index, side_format
        self.intra_steps = IntraSteps(intra, model, compiled)
        self.steps = PredictedSteps(model, compiled)
        self._models = {True: intra, False: model}
        self._pmf_tables = {k: m.z_prior.pmf_table(omega_index) for k, m in self._models.items()}
        self._omega = ops.full((1,), omega_index, dtype="int32")
        self.feature: Any = None  # F, [1, height / 8, width / 8, channels_feature]
        self.state: Any = None  # C_s, [1, Hy, Wy, embed_dim]
        self._intra_frame: Any = None  # the picture while an I frame is the newest

    def _rate_tables(self, z: np.ndarray, intra: bool) -> np.ndarray | None:
        """Per-unit tables of the rate map, which only the format ``range`` needs."""
        if self.side_format != "range":
            return None
        return self._models[intra].rate_map_prior.tables(z, self.omega_index)

    def _padded(self, symbols: np.ndarray, rate_index: np.ndarray, intra: bool) -> Any:
        """Symbols as sent or equalised, back in their units: the input of F_rx at both ends."""
        rate_set = self._models[intra].config.rate_set
        return ops.convert_to_tensor(symbol_mapping.unpack(symbols, rate_index, rate_set)[None])

    def _finish_intra(self, symbols: np.ndarray, rate_index: np.ndarray, parameters: Any) -> None:
        """Decode the I frame and start the buffers from it."""
        padded = self._padded(symbols, rate_index, True)
        indices = _as_batch(rate_index)
        self._intra_frame = self.intra_steps.decode(padded, indices, parameters, self._omega)
        self.feature, self.state = self.intra_steps.start(self._intra_frame)

    def _finish_predicted(
        self, symbols: np.ndarray, rate_index: np.ndarray, parameters: Any, context_f: Any
    ) -> None:
        """Move the buffers on by one P frame (eq. 16 to 21, or eq. 22 to 24)."""
        padded = self._padded(symbols, rate_index, False)
        indices = _as_batch(rate_index)
        self.feature, self.state = self.steps.update(
            padded, indices, parameters, context_f, self.state, self._omega
        )
        self._intra_frame = None

    def _picture(self) -> np.ndarray:
        """The frame the buffers stand for: float32 [height, width, 3], clipped to [0, 1]."""
        frame = self._intra_frame
        if frame is None:
            frame = self.steps.show(self.feature, self._omega)
        return np.clip(ops.convert_to_numpy(frame)[0], 0.0, 1.0)


class Transmitter(_StreamEnd):
    """Frames in, symbols and side bits out (section II-B2, and its buffer update, II-B4).

    Parameters
    ----------
    intra, model : the I-frame and P-frame models; both ends need equal weights
    height, width : coded frame size in pixels, multiples of ``padding_multiple``
    omega_index : quality preset, below ``num_omega``
    side_format : ``png`` (the paper's), ``payload`` or ``range``, for b_k
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
        if intra:
            y, z_hat = self.intra_steps.analyse(pixels, self._omega)
            z = _as_integers(z_hat)
            parameters = self.intra_steps.parameters(_as_floats(z))
            rate_index, symbols = self.intra_steps.map_to_symbols(y, parameters)
            payload, indices = self._payload(z, rate_index, symbols, intra)
            self._finish_intra(payload.symbols, indices, parameters)
            return payload
        self._require_reference()
        context_e, context_f = self.steps.contexts(self.feature, self._omega)
        y, z_hat = self.steps.analyse(pixels, context_f, self._omega)
        z = _as_integers(z_hat)
        parameters = self.steps.parameters(_as_floats(z), context_e)
        rate_index, symbols = self.steps.map_to_symbols(y, parameters, self.state)
        payload, indices = self._payload(z, rate_index, symbols, intra)
        self._finish_predicted(payload.symbols, indices, parameters, context_f)
        return payload

    def frame_hat(self) -> np.ndarray:
        """What an ideal channel would show of the newest frame: float32 [height, width, 3].

        Only computed when asked for: the buffers do not need the picture of a P frame.
        """
        self._require_reference()
        return self._picture()

    def _payload(
        self, z: np.ndarray, rate_index: Any, symbols: Any, intra: bool
    ) -> tuple[Payload, np.ndarray]:
        """Side bitstreams and packed symbols of a frame, and its rate map as integers."""
        indices = ops.convert_to_numpy(rate_index)[0].astype(np.int32)
        rate_set = self._models[intra].config.rate_set
        tables = self._rate_tables(z, intra)
        side_bits = {
            "z": side_information.encode_hyper_latent(z, self._pmf_tables[intra]),
            "k": side_information.encode_rate_map(indices, len(rate_set), self.side_format, tables),
        }
        packed = symbol_mapping.pack(ops.convert_to_numpy(symbols)[0], indices, rate_set)
        return Payload(packed, side_bits), indices

    def _require_reference(self) -> None:
        if self.feature is None:
            raise InputError(
                "no reference frame",
                found="a P frame, or its picture, before any I frame",
                allowed="an I frame first",
                remedy="Start every GOP with encode(frame, intra=True).",
            )


class Receiver(_StreamEnd):
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
        if not intra and self.feature is None:
            return "no_reference"
        z = self._hyper_latent(side_bits.get("z"), intra)
        if z is None:
            return "side_z_lost"
        rate_index = self._rate_map(side_bits.get("k"), z, intra)
        if rate_index is None:
            return "side_k_lost"
        rate_set = self._models[intra].config.rate_set
        symbols = np.asarray(symbols_hat, np.complex64).ravel()
        expected = symbol_mapping.num_symbols(rate_index, rate_set)
        if symbols.size != expected or not np.isfinite(symbols).all():
            return "symbols_mismatch"
        if intra:
            parameters = self.intra_steps.parameters(_as_floats(z))
            self._finish_intra(symbols, rate_index, parameters)
        else:
            context_e, context_f = self.steps.contexts(self.feature, self._omega)
            parameters = self.steps.parameters(_as_floats(z), context_e)
            self._finish_predicted(symbols, rate_index, parameters, context_f)
        return "ok"

    def _hyper_latent(self, message: bytes | None, intra: bool) -> np.ndarray | None:
        channels = self._models[intra].config.channels_z
        shape = (self.height // 64, self.width // 64, channels)
        if message is None:
            return None
        try:
            return side_information.decode_hyper_latent(message, shape, self._pmf_tables[intra])
        except side_information.SideInformationError:
            return None

    def _rate_map(self, message: bytes | None, z: np.ndarray, intra: bool) -> np.ndarray | None:
        shape = (self.height // 16, self.width // 16)
        num_rates = len(self._models[intra].config.rate_set)
        if message is None:
            return None
        try:
            return side_information.decode_rate_map(
                message, shape, num_rates, self.side_format, self._rate_tables(z, intra)
            )
        except side_information.SideInformationError:
            return None


def _as_batch(rate_index: np.ndarray) -> Any:
    return ops.convert_to_tensor(rate_index[None], dtype="int32")


def _as_integers(z_hat: Any) -> np.ndarray:
    return np.rint(ops.convert_to_numpy(z_hat)[0]).astype(np.int32)


def _as_floats(z: np.ndarray) -> Any:
    # Out of integers at both ends: the transmitter's own z_hat may hold a negative zero.
    return ops.convert_to_tensor(z[None].astype(np.float32))
