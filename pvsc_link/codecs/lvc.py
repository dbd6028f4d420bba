"""``lvc``: the ideal branch of PVSC-MC as a video codec, behind the same 5G LDPC as every other.

Transforms, entropy model, training data and training budget are those of PVSC-MC. Range-coded bits,
LDPC and QAM replace only the joint source-channel coding (F_tx, F_rx), so that the difference
between PVSC-MC and this codec is the gain of joint coding alone. The variants differ by weights:

* ``lvc-l1``: trained for l1 distortion (``scenarios/train_lvc_l1.yaml``).
* ``lvc-perceptual``: the ideal branch after stage 1 of PVSC-MC's training.

This is the only codec that imports ``models``, because it runs the networks of PVSC-MC themselves.
"""

import threading
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np
import tensorflow as tf

from pvsc_link.codecs.base import Codec, check_frames, check_rate
from pvsc_link.codecs.concealment import freeze
from pvsc_link.media import pad_to_multiple
from pvsc_link.models import (
    LAYOUT,
    PRESETS,
    SAME,
    SIZE_SPAN,
    UNTRAINED,
    CodedGop,
    IdealCodec,
    SideInformationError,
    check_preset,
    find_arithmetic,
    find_weights,
    load_models,
    receiving,
    run_label,
)
from pvsc_link.options import check_name
from pvsc_link.types import CodecFailure, EncodedGop, InputError

#: The files of a variant in the package are named ``<preset>_<training>``.
TRAININGS = {"lvc-l1": "lvc_l1", "lvc-perceptual": "lvc_perceptual"}


class LearnedCodec(Codec):
    """The ideal branch of section II-C with its entropy model, really coded.

    Parameters
    ----------
    variant : ``lvc-l1`` or ``lvc-perceptual``
    preset : name of a P-frame preset, such as ``pvsc_mc_small``
    weights : folder of a training run's weights; None: those of the package, if it has them
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
        preset: str = "pvsc_mc_small",
        weights: str | None = None,
        receiver_arithmetic: str = SAME,
    ):
        check_name("variant of lvc", variant, tuple(TRAININGS))
        check_preset(preset)
        self._arithmetic = find_arithmetic(receiver_arithmetic)
        self._preset, self._receiver = preset, receiver_arithmetic
        self._files = find_weights(preset, weights, TRAININGS[variant])
        self.variant = variant if preset == "pvsc_mc_small" else f"{variant}, {preset}"
        self.variant += run_label(weights)
        if receiver_arithmetic != SAME:
            self.variant += f", receiver {receiver_arithmetic}"
        self.weights_id = self._files.identity
        self.status = UNTRAINED if self.weights_id == UNTRAINED else "ok"
        self.allowed_rates = self.default_rates = tuple(range(PRESETS[preset].num_omega))
        self._lock = threading.Lock()
        self._codecs: tuple[IdealCodec, IdealCodec] | None = None

    @property
    def version(self) -> str:
        """Weights, layout and libraries: what the bits depend on."""
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
        return (SIZE_SPAN,)

    def decode(self, payload: bytes) -> np.ndarray:
        """The frames of a bitstream as the receiver decodes them: uint8 [n, height, width, 3].

        Raises ``CodecFailure`` (codec_error) for a stream that no encoder writes.
        """
        with self._lock:
            try:
                return np.stack(list(self._ends()[1].decode(payload)))
            except SideInformationError as error:
                raise CodecFailure("codec_error", f"lvc bitstream: {error}") from error

    def _mismatched(self, coded: CodedGop, receiver: IdealCodec, rate: int) -> EncodedGop:
        """The GOP as shown by a receiver whose entropy decoder may lose synchronisation."""
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
            models = load_models(self._preset, self._files)
            sender = IdealCodec(*models, tf.function)
            receiver = sender
            if self._receiver != SAME:
                compiled = partial(tf.function, jit_compile=self._arithmetic.xla)
                intra, model = receiving(models, self._arithmetic)
                receiver = IdealCodec(intra, model, compiled)
            self._codecs = sender, receiver
        return self._codecs
