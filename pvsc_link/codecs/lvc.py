"""``lvc``: the ideal branch of PVSC as a video codec, behind the same 5G LDPC as every other.

Transforms and entropy model are those of PVSC (preset ``pvsc_small``) or of PVSC-MC
(``pvsc_mc_small``), and the training data too. Range-coded bits, LDPC and QAM replace the joint
source-channel coding (F_tx, F_rx). The variants differ by weights:

* ``lvc-l1``: trained for l1 distortion (``scenarios/train_lvc_l1.yaml``).
* ``lvc-perceptual``: trained for l1 and LPIPS without a channel. The model card
  (``models/weights/README.md``) states its training beside that of the system with symbols.
* ``pvsc-digital``: the weights of the system with symbols itself, with digital symbols: y_bar is
  range-coded and sent as bits. Against ``pvsc`` with the same weights only the transport differs.

This is the only codec that imports ``models``, because it runs the networks of PVSC-MC themselves.
They are imported, and TensorFlow with them, when a GOP is coded.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.codecs.concealment import freeze
from pvsc_link.media import pad_to_multiple
from pvsc_link.models import (
    SAME,
    UNTRAINED,
    PvscConfig,
    check_preset,
    family_of,
    find_arithmetic,
    find_weights,
    num_quality_presets,
    preset_of,
    run_label,
)
from pvsc_link.options import check_name
from pvsc_link.types import CodecFailure, EncodedGop, InputError

if TYPE_CHECKING:
    from pvsc_link.models import CodedGop, IdealCodec

#: The files of a variant in the package are named ``<preset>_<training>``; None: ``<preset>``.
TRAININGS: dict[str, str | None] = {
    "lvc-l1": "lvc_l1",
    "lvc-perceptual": "lvc_perceptual",
    "pvsc-digital": None,
}
#: The preset whose name a variant leaves out, and the one that comes first where it has weights.
_EXTENSION, _PAPER = "pvsc_mc_small", "pvsc_small"


class LearnedCodec(Codec):
    """The ideal branch of section II-C with its entropy model, really coded.

    Parameters
    ----------
    variant : ``lvc-l1``, ``lvc-perceptual`` or ``pvsc-digital``
    preset : name of a P-frame preset; None: ``pvsc_small`` where there are weights of it for this
        variant, else ``pvsc_mc_small``. The variant in the rows names every preset but
        ``pvsc_mc_small``; that of ``pvsc-digital`` names this one too
    weights : folder of a training run's weights; None: those of the package, if it has them. For
        ``pvsc-digital`` also a training of the package, as for ``pvsc``
    receiver_arithmetic : key of ``models.zoo.ARITHMETICS``; another than ``same`` has the
        GOP decoded by a receiver whose networks round differently (Fig. 1)

    Raises ``InputError`` for an unknown variant, preset or arithmetic, and for a folder without
    weights.
    """

    name = "lvc"

    def __init__(
        self,
        *,
        variant: str = "lvc-l1",
        preset: str | None = None,
        weights: str | None = None,
        receiver_arithmetic: str = SAME,
    ):
        check_name("variant of lvc", variant, tuple(TRAININGS))
        preset = preset or _default_preset(weights, TRAININGS[variant])
        check_preset(preset)
        self._arithmetic = find_arithmetic(receiver_arithmetic)
        self._files = find_weights(preset, weights, TRAININGS[variant])
        preset = preset_of(preset, self._files)
        self._preset, self._receiver = preset, receiver_arithmetic
        self.variant = variant
        if preset != _EXTENSION or TRAININGS[variant] is None:
            self.variant += f", {preset}"
        self.variant += run_label(weights)
        if receiver_arithmetic != SAME:
            self.variant += f", receiver {receiver_arithmetic}"
        self.weights_id = self._files.identity
        self.status = UNTRAINED if self.weights_id == UNTRAINED else "ok"
        number = num_quality_presets(preset, self._files)
        self.allowed_rates = self.default_rates = tuple(range(number))
        self._lock = threading.Lock()
        self._codecs: tuple[IdealCodec, IdealCodec] | None = None

    @property
    def version(self) -> str:
        """Weights, layout and libraries: what the bits depend on."""
        from pvsc_link.models import LAYOUT

        names = ("tensorflow", "keras", "constriction")
        libraries = ", ".join(f"{name} {version(name)}" for name in names)
        return f"weights {self.weights_id}; bitstream layout {LAYOUT}; {libraries}"

    def describe(self, rate: int) -> str:
        """Preset, quality preset and the two ends' arithmetic."""
        ends = f"float32 sent, {self._receiver} received"
        return f"{self._preset}, ideal branch, quality preset {rate}, {ends}"

    def check(self) -> None:
        """Do nothing: without weights the codec still runs, and its rows are ``untrained``."""

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """One GOP; see ``Codec.encode``.

        ``num_decodable`` is the number of frames that a receiver in other arithmetic decodes.
        Raises ``CodecFailure`` (codec_error) for weights whose latents exceed the coder's range.
        """
        check_frames(frames)
        check_rate(self, rate)
        with self._lock:  # models and traces are shared by all rates
            sender, receiver = self._ends()
            padded = pad_to_multiple(frames, sender.padding_multiple)
            try:
                coded = sender.encode(padded, rate, frames.shape[1:3])
            except InputError as error:
                raise CodecFailure("codec_error", str(error)) from error
            if receiver is sender:
                return self._gop(coded, rate)
            return self._mismatched(coded, receiver, rate)

    def fact_spans(self, payload: bytes) -> tuple[tuple[int, int], ...]:
        """Height and width in the header of a GOP; its quality preset and length are sent."""
        from pvsc_link.models import SIZE_SPAN

        return (SIZE_SPAN,)

    def decode(self, payload: bytes) -> np.ndarray:
        """The frames of a bitstream as the receiver decodes them: uint8 [n, height, width, 3].

        Raises ``CodecFailure`` (codec_error) for a stream that no encoder writes.
        """
        from pvsc_link.models import SideInformationError

        with self._lock:
            try:
                return np.stack(list(self._ends()[1].decode(payload)))
            except SideInformationError as error:
                raise CodecFailure("codec_error", f"lvc bitstream: {error}") from error

    def _mismatched(self, coded: CodedGop, receiver: IdealCodec, rate: int) -> EncodedGop:
        """The GOP as shown by a receiver whose entropy decoder may lose synchronisation."""
        from pvsc_link.models import SideInformationError

        frames, failure = np.zeros_like(coded.frames_hat), ""
        num_decoded = 0
        try:
            for frame in receiver.decode(coded.payload):
                frames[num_decoded] = frame
                num_decoded += 1
        except SideInformationError:
            failure = f"entropy decoder out of step at receiver_arithmetic {self._receiver}"
        followed = np.arange(len(frames)) < num_decoded
        shown = freeze(frames, followed, None).frames
        received = replace(coded, frames_hat=shown)
        return replace(self._gop(received, rate), note=failure, num_decodable=num_decoded)

    def _gop(self, coded: CodedGop, rate: int) -> EncodedGop:
        return EncodedGop(
            payload=coded.payload,
            frame_num_bytes=coded.frame_num_bytes,
            frames_hat=coded.frames_hat,
            command=self.describe(rate),
            version=self.version,
        )

    def _ends(self) -> tuple[IdealCodec, IdealCodec]:
        """Encoder and decoder, built when first asked for; the same object in equal arithmetic."""
        if self._codecs is None:
            import tensorflow as tf

            from pvsc_link.models import IdealCodec, load_models, receiving

            models = load_models(self._preset, self._files)
            # AutoGraph parses source, which Python 3.11 cannot do in two threads at once.
            traced = partial(tf.function, autograph=False)
            sender = IdealCodec(*models, traced)
            receiver = sender
            if self._receiver != SAME:
                compiled = partial(traced, jit_compile=self._arithmetic.xla)
                intra, model = receiving(models, self._arithmetic)
                receiver = IdealCodec(intra, model, compiled)
            self._codecs = sender, receiver
        return self._codecs


def _default_preset(weights: str | None, training: str | None) -> str:
    """``pvsc_small`` where its weights are found, and are of its family; else ``pvsc_mc_small``."""
    if weights is not None and not Path(weights).expanduser().is_dir():
        return _EXTENSION  # a training in the package; ``find_weights`` refuses anything else
    files = find_weights(_PAPER, weights, training)
    is_of_paper = family_of(_PAPER, files) == PvscConfig.family
    return _PAPER if files.identity != UNTRAINED and is_of_paper else _EXTENSION
