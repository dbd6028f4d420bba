"""Channel and semantic receiver in one TensorFlow graph: symbols on the air in, pictures out.

    symbols, places --> fading, CSI error, noise, equaliser --> F_rx --> E_s --> G --> picture
    LinkTensors ------------^            z, rate map, buffers ----^------^-----^  +--> buffers

One traced function per frame kind and frame size. Whatever a point of a sweep may change (channel,
SNR, NMSE, coherence, realisation, equaliser, quality preset, rate map) is a tensor.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pvsc_link.link.placed_symbols import LinkTensors, transmit_placed
from pvsc_link.schemes.semantic_gop import SentFrame
from pvsc_link.semantic.dvst.model import DvstModel
from pvsc_link.semantic.inference import Buffers, IntraSteps
from pvsc_link.semantic.intra import IntraModel
from pvsc_link.semantic.model import PvscModel
from pvsc_link.semantic.symbol_mapping import to_reals

#: Level of the frame shown as long as nothing has been decoded.
GREY = 128


class ReceiverGraph:
    """Both frame kinds of a pair of models, traced once per frame size and used by every session.

    Parameters
    ----------
    intra, model : the I-frame and P-frame models
    jit_compile : bool, compile with XLA

    ``trace_count`` : how often each kind was traced.
    """

    def __init__(
        self, intra: IntraModel, model: PvscModel | DvstModel, *, jit_compile: bool = False
    ):
        self._intra, self._model = intra, model
        self._intra_steps, self._steps = IntraSteps(intra, model), model.steps()
        self.trace_count = {"intra": 0, "predicted": 0}
        # Keras turns a graph into Python control flow itself: nothing is left for autograph.
        options = {"autograph": False, "jit_compile": jit_compile}
        self.intra: Callable[..., tuple] = tf.function(self._decode_intra, **options)
        self.predicted: Callable[..., tuple] = tf.function(self._decode_predicted, **options)

    def _decode_intra(
        self,
        symbols: tf.Tensor,
        places: tf.Tensor,
        rate_index: tf.Tensor,
        z: tf.Tensor,
        gain: tf.Tensor,
        omega: tf.Tensor,
        link: LinkTensors,
    ) -> tuple:
        """(picture, F, C_s) of an I frame; inputs as in ``SentFrame``, ``omega`` [1], int32."""
        self.trace_count["intra"] += 1
        reals = gain * self._received(symbols, places, link, self._intra)
        frame = self._intra_steps.decode(reals, rate_index, z, None, omega)
        return (_eight_bits(frame), *self._intra_steps.start(frame))

    def _decode_predicted(
        self,
        symbols: tf.Tensor,
        places: tf.Tensor,
        rate_index: tf.Tensor,
        z: tf.Tensor,
        gain: tf.Tensor,
        omega: tf.Tensor,
        link: LinkTensors,
        motion: Any,
        feature: tf.Tensor,
        state: Any,
    ) -> tuple:
        """(picture, F, C_s) of a P frame, out of the buffers of the frame before."""
        self.trace_count["predicted"] += 1
        reals = gain * self._received(symbols, places, link, self._model)
        feature = self._steps.reference(feature, motion)
        feature, state = self._steps.decode(reals, rate_index, z, (feature, state), omega)
        return _eight_bits(self._steps.show(feature, omega)), feature, state

    def _received(
        self, symbols: tf.Tensor, places: tf.Tensor, link: LinkTensors, model: Any
    ) -> tf.Tensor:
        symbols_hat = transmit_placed(symbols, places, link)
        return to_reals(symbols_hat, max(model.config.rate_set))


class ReceiverSession:
    """One receiver watching one stream: its buffers, and the frame it shows.

    A frame whose side information is lost is concealed as by ``semantic.streaming.Receiver``:
    the last frame is shown again, mid-grey before the first, and the buffers stay.
    """

    def __init__(self, graph: ReceiverGraph, size: tuple[int, int]):
        self._graph, self._size = graph, size
        self._shown = np.full((*size, 3), GREY, np.uint8)
        self._buffers: Buffers | None = None

    def decode(
        self, frame: SentFrame, omega: tf.Tensor, link: LinkTensors, *, side_ok: bool
    ) -> tuple[np.ndarray, bool]:
        """The frame as shown, uint8 [height, width, 3], and whether it stands in for a lost one."""
        if not side_ok or (self._buffers is None and not frame.intra):
            return self._shown, True
        sent = (frame.symbols, frame.places, frame.rate_index, frame.z, frame.gain, omega, link)
        if frame.intra:
            picture, *buffers = self._graph.intra(*sent)
        else:
            assert self._buffers is not None
            picture, *buffers = self._graph.predicted(*sent, frame.motion, *self._buffers)
        self._buffers = (buffers[0], buffers[1])
        height, width = self._size
        self._shown = picture.numpy()[:height, :width]
        return self._shown, False


class SharedTraces:
    """A compiler for the steps of many transmitters of one pair of models: each traced once.

    Equal steps of equal models do the same, whichever session's object they hang on.
    """

    def __init__(self, *, jit_compile: bool = False):
        self._options = {"autograph": False, "jit_compile": jit_compile}
        self._traced: dict[str, Callable[..., Any]] = {}

    def __call__(self, step: Callable[..., Any]) -> Callable[..., Any]:
        name = step.__qualname__
        if name not in self._traced:
            self._traced[name] = tf.function(step, **self._options)
        return self._traced[name]


def _eight_bits(frame: tf.Tensor) -> tf.Tensor:
    """[1, height, width, 3], float -> [height, width, 3], uint8."""
    return tf.cast(tf.round(255.0 * tf.clip_by_value(frame[0], 0.0, 1.0)), tf.uint8)


def require_tensorflow() -> None:
    """Raises ``RuntimeError`` under another Keras backend: the link is made of TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError("The link runs under TensorFlow: set KERAS_BACKEND=tensorflow.")
