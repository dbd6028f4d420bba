"""What both ends of a stream have in common: models, session, buffers and the steps of a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic import side_information, symbol_mapping
from pvsc_link.semantic.dvst.model import DvstModel
from pvsc_link.semantic.inference import Compiler, FrameSteps, IntraSteps, as_is
from pvsc_link.semantic.intra import IntraModel
from pvsc_link.semantic.model import PvscModel
from pvsc_link.semantic.refresh import preset_at
from pvsc_link.semantic.session_checks import check_session
from pvsc_link.semantic.side_information import SideInformationError


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
