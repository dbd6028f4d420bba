"""The steps of a frame at inference, cut where the two ends of the link share their work.

Transmitter and receiver hold equal buffers over a noise-free channel only if they compute the
shared parts with the same functions on the same shapes. So the order of Fig. 5 is cut into steps,
and both ends call the same step objects:

    P frame   reference, contexts, parameters, update, show: both ends;
              analyse, quantise, map_to_symbols: transmitter
    I frame   parameters, picture, start: both ends;
              analyse, quantise, map_to_symbols: transmitter

``encode`` and ``decode`` put the steps together for one frame, the same way for every kind of
frame and model. The extension with motion changes two of the steps (``pvsc_mc/model.py``); DVST
brings its own (``dvst/model.py``).

``compiled`` wraps every step once, for instance with ``tf.function``; without it the steps run
eagerly. ``quantiser`` is ``round``, or ``ste``: the same values with the gradient of the identity.
Shapes are [batch, height, width, channels], as everywhere in this room.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from keras import ops

from pvsc_link.models.layers.base import Compiler, as_is

#: The buffers of one end: F of the previous frame (in the extension and in DVST the previous
#: picture) and C_s. Each is None before the first frame, C_s also where a model has none.
Buffers = tuple[Any, Any]

#: (z_hat, k*) of a frame, tensors, to its rate map. A transmitter that knows what b_k costs may
#: choose other rates than the nearest ones of eq. 14.
#: Shapes [1, Hz, Wz, channels_z], [1, Hy, Wy] -> [1, Hy, Wy], int32.
RateChoice = Callable[[Any, Any], Any]


class CodedFrame(NamedTuple):
    """One frame out of a transmitter's steps, shapes as in ``PvscModel.forward``."""

    z_hat: Any  # whole numbers, float32
    rate_index: Any
    symbols: Any
    kept: Any  # what decoding would compute again; a receiver passes None
    gain: Any = None  # undoes the power normalisation, [1], where the model sends it
    wanted: Any = None  # k* of eq. 14 before it is rounded, like rate_index, float32


class FrameSteps(Protocol):
    """Coding of one kind of frame at both ends."""

    def encode(
        self, frame: Any, buffers: Buffers, omega_index: Any, choose: RateChoice | None = None
    ) -> CodedFrame:
        """A frame [1, height, width, 3] given the transmitter's own buffers."""
        ...

    def decode(
        self,
        symbols_hat: Any,
        rate_index: Any,
        z_hat: Any,
        buffers: Buffers,
        omega_index: Any,
        kept: Any = None,
        no_eff: Any = None,
    ) -> Any:
        """Decode symbols as sent, or as equalised.

        Input: ``no_eff`` : as ``LatentCodingModel.decode_features``; None for symbols as sent.
        Output: of a P frame, the next buffers; of an I frame, the picture.
        """
        ...


class PredictedFrameSteps(FrameSteps, Protocol):
    """Coding of a P frame: a reference before it, a picture after it."""

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """The reference of the frame: the buffer F, moved by ``motion`` where there are vectors."""
        ...

    def show(self, feature: Any, omega_index: Any) -> Any:
        """x_hat [1, height, width, 3] from the buffer F that the frame left."""
        ...


class StreamModel(Protocol):
    """A model of P frames that a stream can use: PVSC, its extension with motion, or DVST."""

    config: Any
    #: Whether a byte of b_k says by how much a frame's power was normalised.
    sends_gain: bool
    #: Whether the bits of the rate map count when rates are chosen (``side_format: range``).
    weighs_maps: bool
    #: Tables of the motion vectors that travel with z_hat; None where a model sends none.
    motion_prior: Any
    #: Tables of the rate map. Its ``choose`` is None where the nearest rates are always taken.
    rate_map_prior: Any

    def hyper_tables(self, preset_index: int) -> Any:
        """Integer tables of z_hat."""
        ...

    def search_motion(self, feature: Any, frames: Any, omega_index: Any) -> Any:
        """Vectors from the buffer F to the frames; None where a model sends none."""
        ...

    def start_buffers(self, frame_tx: Any, frame_rx: Any = None) -> dict[str, Any]:
        """Buffers after an I frame."""
        ...

    def num_bits_z(self, z_hat: Any, omega_index: Any) -> Any:
        """Entropy of z_hat, [batch], float32."""
        ...

    def steps(self, compiled: Compiler = as_is, quantiser: str = "round") -> PredictedFrameSteps:
        """The steps of a P frame."""
        ...


def with_gradient_of(values: Any, source: Any) -> Any:
    """Exactly ``values``, with the gradient that ``source`` has."""
    return ops.stop_gradient(values) + (source - ops.stop_gradient(source))


def whole(z_hat: Any) -> Any:
    """Rounded values by way of integers, as a receiver has them: no negative zero is left."""
    values = ops.cast(ops.cast(ops.round(z_hat), "int32"), "float32")
    return with_gradient_of(values, z_hat)


def _quantised(
    model: Any, y: Any, parameters: Any, omega_index: Any, quantiser: str
) -> tuple[Any, Any, Any]:
    coded = model.quantise(y, parameters, omega_index, quantiser)
    return coded["y_bar"], coded["rate_index"], model.eta_of(omega_index) * coded["num_bits_y"]


class PredictedSteps:
    """Steps of a P frame.

    Parameters: ``model`` : PvscModel; ``compiled`` : wraps each step; ``quantiser`` : ``round`` or
    ``ste``.
    """

    def __init__(self, model: Any, compiled: Compiler = as_is, quantiser: str = "round"):
        self.model, self.quantiser = model, quantiser
        names = "reference contexts parameters analyse quantise map_to_symbols update show"
        for step in names.split():
            setattr(self, step, compiled(getattr(self, step)))

    def encode(
        self, frame: Any, buffers: Buffers, omega_index: Any, choose: RateChoice | None = None
    ) -> CodedFrame:
        """``FrameSteps.encode``, after ``reference``."""
        reference, state = buffers
        context_e, context_f = self.contexts(reference, omega_index)
        y, z_hat = self.analyse(frame, context_f, omega_index)
        z_hat = whole(z_hat)
        parameters = self.parameters(z_hat, context_e)
        y_bar, rate_index, wanted = self.quantise(y, parameters, omega_index)
        if choose is not None:
            rate_index = choose(z_hat, wanted)
        symbols, gain = self.map_to_symbols(y_bar, rate_index, state, omega_index)
        return CodedFrame(z_hat, rate_index, symbols, (parameters, context_f), gain, wanted)

    def decode(
        self,
        symbols_hat: Any,
        rate_index: Any,
        z_hat: Any,
        buffers: Buffers,
        omega_index: Any,
        kept: Any = None,
        no_eff: Any = None,
    ) -> Buffers:
        """``FrameSteps.decode``, after ``reference``."""
        reference, state = buffers
        if kept is None:
            context_e, context_f = self.contexts(reference, omega_index)
            kept = self.parameters(z_hat, context_e), context_f
        parameters, context_f = kept
        return self.update(
            symbols_hat, rate_index, parameters, context_f, reference, state, omega_index, no_eff
        )

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """The reference of the frame, from the buffer and the frame's vectors."""
        return self.model.reference(feature, motion)

    def contexts(self, reference: Any, omega_index: Any) -> tuple[Any, Any]:
        """(C_e, C_f) from what is known of the previous frame (eq. 6, 17)."""
        return self.model.contexts(reference, omega_index)

    def analyse(self, frame: Any, context_f: Any, omega_index: Any) -> tuple[Any, Any]:
        """y (eq. 7) and z_hat (eq. 8)."""
        y = self.model.feature_extractor(frame, omega_index, context_f)
        return y, self.model.hyper_latent(y, omega_index, self.quantiser)[0]

    def parameters(self, z_hat: Any, context_e: Any) -> tuple[Any, Any, Any]:
        """(w, mu_0, sigma_0) (eq. 10, 18)."""
        return self.model.parameters_of(z_hat, context_e)

    def quantise(self, y: Any, parameters: Any, omega_index: Any) -> tuple[Any, Any, Any]:
        """(y_bar, rate_index, k*): eq. 11 to 14, k* before it is rounded."""
        return _quantised(self.model, y, parameters, omega_index, self.quantiser)

    def map_to_symbols(
        self, y_bar: Any, rate_index: Any, state: Any, omega_index: Any
    ) -> tuple[Any, Any]:
        """(symbols_padded, gain): eq. 15."""
        return self.model.encode_features(y_bar, rate_index, omega_index, state)

    def update(
        self,
        symbols_hat: Any,
        rate_index: Any,
        parameters: Any,
        context_f: Any,
        reference: Any,
        state: Any,
        omega_index: Any,
        no_eff: Any = None,
    ) -> Buffers:
        """(F_t, C_s,t), the next buffers (eq. 16, 19, 20, 21; eq. 22 to 24)."""
        _, feature, state = self.model.update(
            symbols_hat, rate_index, parameters, context_f, state, omega_index, no_eff
        )
        return feature, state

    def show(self, feature: Any, omega_index: Any) -> Any:
        """x_hat from F_t (eq. 21)."""
        return self.model.frame_generator(feature, omega_index)


class IntraSteps:
    """Steps of an I frame, and the buffers that it leaves.

    Parameters: ``intra`` : IntraModel; ``model`` : that of the P frames that follow, of any family,
    or None where none follow; ``compiled`` : wraps each step; ``quantiser`` : ``round`` or ``ste``.
    """

    def __init__(
        self,
        intra: Any,
        model: StreamModel | None,
        compiled: Compiler = as_is,
        quantiser: str = "round",
    ):
        self.intra, self.model, self.quantiser = intra, model, quantiser
        for step in "analyse parameters quantise map_to_symbols picture start".split():
            setattr(self, step, compiled(getattr(self, step)))

    def encode(
        self, frame: Any, buffers: Any, omega_index: Any, choose: RateChoice | None = None
    ) -> CodedFrame:
        """``FrameSteps.encode``; the buffers have no part in it."""
        y, z_hat = self.analyse(frame, omega_index)
        z_hat = whole(z_hat)
        parameters = self.parameters(z_hat)
        y_bar, rate_index, wanted = self.quantise(y, parameters, omega_index)
        if choose is not None:
            rate_index = choose(z_hat, wanted)
        symbols, gain = self.map_to_symbols(y_bar, rate_index, omega_index)
        return CodedFrame(z_hat, rate_index, symbols, parameters, gain, wanted)

    def decode(
        self,
        symbols_hat: Any,
        rate_index: Any,
        z_hat: Any,
        buffers: Any,
        omega_index: Any,
        kept: Any = None,
        no_eff: Any = None,
    ) -> Any:
        """``FrameSteps.decode``: x_hat."""
        parameters = self.parameters(z_hat) if kept is None else kept
        return self.picture(symbols_hat, rate_index, parameters, omega_index, no_eff)

    def analyse(self, frame: Any, omega_index: Any) -> tuple[Any, Any]:
        """y and z_hat of the I frame."""
        y = self.intra.feature_extractor(frame, omega_index)
        return y, self.intra.hyper_latent(y, omega_index, self.quantiser)[0]

    def parameters(self, z_hat: Any) -> tuple[Any, Any, Any]:
        """(w, mu_0, sigma_0) from z_hat alone."""
        return self.intra.parameters_of(z_hat)

    def quantise(self, y: Any, parameters: Any, omega_index: Any) -> tuple[Any, Any, Any]:
        """(y_bar, rate_index, k*)."""
        return _quantised(self.intra, y, parameters, omega_index, self.quantiser)

    def map_to_symbols(self, y_bar: Any, rate_index: Any, omega_index: Any) -> tuple[Any, Any]:
        """(symbols_padded, gain)."""
        return self.intra.encode_features(y_bar, rate_index, omega_index)

    def picture(
        self,
        symbols_hat: Any,
        rate_index: Any,
        parameters: Any,
        omega_index: Any,
        no_eff: Any = None,
    ) -> Any:
        """x_hat of the I frame."""
        return self.intra.receive(symbols_hat, rate_index, parameters, omega_index, no_eff)[1]

    def start(self, frame_hat: Any) -> Buffers:
        """(F, C_s) for the first P frame, from the decoded I frame."""
        assert self.model is not None, "no P frame follows"
        buffers = self.model.start_buffers(frame_hat)
        return buffers["feature_tx"], buffers.get("state_tx")
