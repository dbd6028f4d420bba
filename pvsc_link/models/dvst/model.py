"""DVST, the P-frame model: motion first, then what the motion leaves over, each on the channel.

    x_t, x_hat_t-1 --> motion estimation --> v --> motion encoder --> y_m --> [motion stream]
                                                                                 s_m, k_m, z_m
    s_m or s_m_hat --> [motion stream] --> motion decoder --> v_hat
    x_hat_t-1, v_hat --> motion compensation --> prediction, context
    x_t, prediction, context --> context encoder --> y_c --> [context stream] --> s_c, k_c, z_c
    s_c or s_c_hat --> [context stream] --> context decoder --> + prediction --> x_hat_t

A stream lies between a latent and its reconstruction after the channel (``LatentStream``):

    y --> H_enc --> Q --> z_hat (b_z) --> H_dec --> w, mu, sigma
    y / w - mu --> Q --> entropy --> rate rule --> k (b_k)
    y / w - mu, k --> F_tx --> s  ~~ channel ~~>  s_hat, k --> F_rx --> w (. + mu) --> y_tilde

This is the NTSCC recipe: rounding serves the entropy model alone, what is sent is not rounded, and
a unit that is not sent is its prior mean. All layers of a stream are PVSC's.

The transmitter decodes its own symbols as if the channel were ideal, and codes against that; only
the channel noise tells the buffers of both ends apart. The buffer is the frame before. Both streams
of a frame travel in one tensor, like one frame of PVSC: units (rate indices, bits, symbols) one
above the other, motion above context; latents and hyper-latents side by side in channels.

After Wang et al., "Wireless Deep Video Semantic Transmission" (IEEE JSAC 2023), whose code is not
public: networks and sizes are this project's, within the parameters and MACs that the PVSC paper
gives for DVST. A model has one rate; there is no quality preset in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from pvsc_link.models.dvst.config import DvstConfig
from pvsc_link.models.dvst.networks import (
    Compensated,
    ContextDecoder,
    ContextEncoder,
    MotionCompensation,
    MotionDecoder,
    MotionEncoder,
    MotionEstimator,
    warp,
)
from pvsc_link.models.entropy.hyper_latent import FactorizedPrior, PmfTables
from pvsc_link.models.entropy.quantisation import dequantise_blocks
from pvsc_link.models.entropy.range_coder import MessageReader, Part
from pvsc_link.models.entropy.rate_map import RateMapPrior, RateMapTables
from pvsc_link.models.layers.base import Compiler, ConfiguredLayer, as_is
from pvsc_link.models.layers.rate_adaptive import normalise_power
from pvsc_link.models.presets import config_of
from pvsc_link.models.pvsc.feature_codec import FeatureDecoder, FeatureEncoder
from pvsc_link.models.pvsc.hyperprior import HyperDecoder, HyperEncoder
from pvsc_link.models.pvsc.model import (
    check_stage,
    code_units,
    quantised_hyper_latent,
    received,
)
from pvsc_link.models.pvsc.steps import Buffers, CodedFrame, RateChoice, whole


def stack_units(motion: Any, context: Any) -> Any:
    """[batch, Hy, Wy, ...] twice to [batch, 2 Hy, Wy, ...]."""
    return ops.concatenate([motion, context], axis=1)


def split_units(units: Any) -> tuple[Any, Any]:
    """The inverse of ``stack_units``."""
    motion, context = ops.split(units, 2, axis=1)
    return motion, context


def split_noise(no_eff: Any) -> tuple[Any, Any]:
    """Noise variances of the symbols of both streams; None of symbols as sent."""
    return (None, None) if no_eff is None else split_units(no_eff)


def join_channels(motion: Any, context: Any) -> Any:
    """[..., C_m] and [..., C_c] to [..., C_m + C_c]."""
    return ops.concatenate([motion, context], axis=-1)


def split_channels(latents: Any, channels_motion: int) -> tuple[Any, Any]:
    """The inverse of ``join_channels``."""
    return latents[..., :channels_motion], latents[..., channels_motion:]


@dataclass(frozen=True)
class StackedRateMapTables:
    """The map of the motion stream, then that of the context stream."""

    motion: RateMapTables
    context: RateMapTables

    def parts(self, rate_index: np.ndarray) -> list[Part]:
        """As ``RateMapTables.parts``, of the stacked map."""
        motion, context = np.split(rate_index, 2)
        return self.motion.parts(motion) + self.context.parts(context)

    def read(self, reader: MessageReader) -> np.ndarray:
        """As ``RateMapTables.read``: the stacked map."""
        return np.concatenate([self.motion.read(reader), self.context.read(reader)])


class StackedRateMapPrior(ConfiguredLayer):
    """Tables of the rate map of both streams, each a ``RateMapPrior`` over z_hat of both.

    Parameters: ``config`` : StreamConfig with the channels of both streams (``DvstConfig.both``).
    """

    #: Both streams always take the nearest rates (``DvstSteps.encode``).
    choose = None

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.trainable = False
        self.motion = RateMapPrior(self.config, name="motion")
        self.context = RateMapPrior(self.config, name="context")

    def build(self, input_shape: Any = None) -> None:
        for prior in (self.motion, self.context):
            prior.build()

    def tables(self, z_hat: np.ndarray, preset_index: int) -> "StackedRateMapTables":
        """Tables of a map of [8 Hz, 4 Wz]; else as ``RateMapPrior.tables``."""
        priors = (self.motion, self.context)
        return StackedRateMapTables(*(prior.tables(z_hat, preset_index) for prior in priors))

    def fit(self, z_hat: np.ndarray, rate_index: np.ndarray, preset_index: int) -> None:
        """``RateMapPrior.fit`` of both; ``rate_index`` : [frames, 8 Hz, 4 Wz], integers."""
        halves = np.split(rate_index, 2, axis=1)
        for prior, part in zip((self.motion, self.context), halves, strict=True):
            prior.fit(z_hat, part, preset_index)


_ONE_BLOCK = (1.0,)


class LatentStream(ConfiguredLayer):
    """Entropy model, rate rule and feature codecs of one stream.

    Parameters: ``config`` : StreamConfig; without ``channels_context`` H_dec takes no context.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        own = {"dtype": self.dtype_policy}
        self.hyper_encoder = HyperEncoder(self.config, name="hyper_encoder", **own)
        self.hyper_decoder = HyperDecoder(self.config, name="hyper_decoder", **own)
        self.feature_encoder = FeatureEncoder(self.config, name="feature_encoder", **own)
        self.feature_decoder = FeatureDecoder(self.config, name="feature_decoder", **own)

    @property
    def feature_coding(self) -> tuple[Any, Any]:
        """F_tx and F_rx, which learn in a stage of their own."""
        return self.feature_encoder, self.feature_decoder

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.hyper_encoder, self.hyper_decoder, *self.feature_coding):
            layer.build(None)

    def hyper_latent(self, y: Any, quantiser: str = "round", noise: Any = None) -> Any:
        """z_hat: [batch, Hy/4, Wy/4, channels_z], from ``y`` : [batch, Hy, Wy, channels_y]."""
        with keras.name_scope(self.name):
            return quantised_hyper_latent(self.hyper_encoder(y), quantiser, noise)

    def parameters_of(self, z_hat: Any, context_e: Any = None) -> tuple[Any, Any, Any]:
        """(w, mu, sigma), each [batch, Hy, Wy, channels_y]; mu and sigma in units of w."""
        with keras.name_scope(self.name):
            return self.hyper_decoder(z_hat, context_e)

    def quantise(
        self, y: Any, parameters: tuple[Any, Any, Any], quantiser: str = "round", noise: Any = None
    ) -> dict[str, Any]:
        """The rounded latent, and the rate of every unit (eq. 14); output of ``code_units``."""
        return code_units(y, parameters, self.config, None, _ONE_BLOCK, quantiser, noise)

    def transmit(self, y: Any, parameters: tuple[Any, Any, Any], rate_index: Any) -> Any:
        """Symbols of the latent as it is (F_tx): [batch, Hy, Wy, Kmax], float32, unit power."""
        w, mu, _ = parameters
        with keras.name_scope(self.name):
            reals = self.feature_encoder(y / w - mu, rate_index)
        return normalise_power(reals, rate_index, self.config.rate_set)[0]

    def map_to_symbols(
        self, y: Any, z_hat: Any, context_e: Any = None, quantiser: str = "round"
    ) -> tuple[Any, Any, Any]:
        """(rate_index, symbols_padded, k* before it is rounded) of a latent."""
        parameters = self.parameters_of(z_hat, context_e)
        units = self.quantise(y, parameters, quantiser)
        rate_index, wanted = units["rate_index"], self.config.eta * units["num_bits_y"]
        return rate_index, self.transmit(y, parameters, rate_index), wanted

    def receive(
        self,
        symbols_hat: Any,
        rate_index: Any,
        parameters: tuple[Any, Any, Any],
        no_eff: Any = None,
    ) -> tuple[Any, Any]:
        """(y_bar, y_tilde) out of equalised symbols (F_rx), each [batch, Hy, Wy, channels_y].

        Input: ``no_eff`` : as ``LatentCodingModel.decode_features``.
        """
        with keras.name_scope(self.name):
            y_bar, _ = self.feature_decoder(symbols_hat, rate_index, no_eff=no_eff)
        return y_bar, dequantise_blocks(y_bar, parameters, None, _ONE_BLOCK)


class DvstModel(keras.Model):
    """P frames of DVST over the ideal, tx and rx branches.

    Parameters: ``config`` : DvstConfig, or the dict that ``DvstConfig.to_dict`` gives. All weights
    exist after construction.
    """

    weighs_maps = False
    sends_gain = False  # its streams are normalised apart, and share one rate map
    motion_prior = None  # the motion is a stream of its own, not part of z_hat

    def __init__(self, config: DvstConfig | dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        cfg = config_of(config) if isinstance(config, dict) else config
        own = {"dtype": self.dtype_policy}
        self.config = cfg
        self.motion_estimator = MotionEstimator(cfg, name="motion_estimator", **own)
        self.motion_encoder = MotionEncoder(cfg, name="motion_encoder", **own)
        self.motion_stream = LatentStream(cfg.motion, name="motion_stream", **own)
        self.motion_decoder = MotionDecoder(cfg, name="motion_decoder", **own)
        self.compensation = MotionCompensation(cfg, name="compensation", **own)
        self.context_encoder = ContextEncoder(cfg, name="context_encoder", **own)
        self.context_stream = LatentStream(cfg.context, name="context_stream", **own)
        self.context_decoder = ContextDecoder(cfg, name="context_decoder", **own)
        self.z_prior = FactorizedPrior(cfg.both, name="z_prior", dtype="float32")
        self.rate_map_prior = StackedRateMapPrior(cfg.both, name="rate_map_prior")
        for layer in self.layers:
            layer.build(None)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def start_buffers(self, frame_tx: Any, frame_rx: Any = None) -> dict[str, Any]:
        """Buffers of a new GOP: the I frame as each end decoded it; as ``PvscModel``'s."""
        frames = {"feature_tx": frame_tx} if frame_rx is None else {"feature_rx": frame_rx}
        return {"feature_tx": frame_tx, **frames}

    def search_motion(self, feature: Any, frames: Any, omega_index: Any) -> None:
        """None: there are no vectors beside the streams."""

    def steps(self, compiled: Compiler = as_is, quantiser: str = "round") -> "DvstSteps":
        """The steps of a P frame; arguments as ``DvstSteps``."""
        return DvstSteps(self, compiled, quantiser)

    def select_stage(self, stage: int) -> None:
        """As ``LatentCodingModel.select_stage``: 1, all but F_tx and F_rx; 2, these; 3, all."""
        check_stage(stage)
        self.trainable = True
        for layer in self.layers:
            layer.trainable = layer is not self.rate_map_prior and stage != 2
        for stream in (self.motion_stream, self.context_stream):
            stream.trainable = True
            for layer in (stream.hyper_encoder, stream.hyper_decoder):
                layer.trainable = stage != 2
            for layer in stream.feature_coding:
                layer.trainable = stage != 1

    def num_bits_z(self, z_hat: Any, omega_index: Any = None) -> Any:
        """Bits of the hyper-latents of both streams: [batch], float32; no preset matters."""
        first = ops.zeros((ops.shape(z_hat)[0],), dtype="int32")
        return ops.sum(self.z_prior(z_hat, first), axis=(1, 2, 3))

    def num_bits_z_of_streams(self, z_hat: Any) -> tuple[Any, Any]:
        """Bits of the hyper-latents of motion and of context: [batch], float32, each."""
        first = ops.zeros((ops.shape(z_hat)[0],), dtype="int32")
        motion, context = self.split_z(self.z_prior(z_hat, first))
        return ops.sum(motion, axis=(1, 2, 3)), ops.sum(context, axis=(1, 2, 3))

    def hyper_tables(self, preset_index: int) -> PmfTables:
        """Integer tables of the hyper-latents of both streams."""
        return self.z_prior.pmf_table(preset_index)

    def motion_latent(self, frame: Any, reference: Any) -> Any:
        """y_m of the motion from ``reference`` to ``frame``."""
        return self.motion_encoder(self.motion_estimator(frame, reference))

    def compensate(self, y_tilde: Any, reference: Any) -> Compensated:
        """The reference, moved by the motion that a latent decodes to."""
        return self.compensation(reference, self.motion_decoder(y_tilde))

    def call(
        self,
        frame: Any,
        buffers: dict[str, Any],
        omega_index: Any = None,
        noise: dict[str, Any] | None = None,
        *,
        quantiser: str = "round",
        channel: Callable[[Any, Any], Any] | None = None,
    ) -> dict[str, Any]:
        """``forward``, reachable through ``stateless_call`` as well."""
        return self.forward(
            frame, buffers, omega_index, noise, quantiser=quantiser, channel=channel
        )

    def forward(
        self,
        frame: Any,
        buffers: dict[str, Any],
        omega_index: Any = None,
        noise: dict[str, Any] | None = None,
        *,
        quantiser: str = "round",
        channel: Callable[[Any, Any], Any] | None = None,
    ) -> dict[str, Any]:
        """One P frame over the branches of section II-C, for training.

        Arguments and output as ``PvscModel.forward``, with both streams in every tensor
        (module docstring): latents side by side in channels, units one above the other.
        ``omega_index`` is not used. Besides, ``prediction`` and with a channel
        ``prediction_tx``, ``prediction_rx`` : like ``frame``, the motion-compensated reference of
        each branch, and ``prediction_flow`` , the reference moved by the flow before it is coded,
        for losses that teach the motion.
        """
        reference, (noise_m, noise_c) = buffers["feature_tx"], self._noise(noise)
        flow = self.motion_estimator(frame, reference)
        motion = self._code(self.motion_stream, self.motion_encoder(flow), None, quantiser, noise_m)
        known = ideal = self.compensate(motion.units["y_tilde"], reference)
        if channel is not None:
            # What the frame is coded against is what the transmitter will hold of the motion.
            symbols_m = motion.symbols()
            _, y_tilde = self.motion_stream.receive(symbols_m, motion.rate_index, motion.parameters)
            known = self.compensate(y_tilde, reference)
        y = self.context_encoder(frame, known.prediction, known.context_f)
        context = self._code(self.context_stream, y, known.context_e, quantiser, noise_c)
        output = {**self._ideal(motion, context, ideal), "prediction_flow": warp(reference, flow)}
        if channel is None:
            return {**output, "buffers": {**buffers, "feature_tx": output["frame_ideal"]}}
        symbols = stack_units(symbols_m, context.symbols())
        sent = channel(symbols, output["rate_index"])
        ends = {"tx": (symbols, None), "rx": received(sent, self.config)}
        output |= {"symbols": symbols, "buffers": {}}
        for end, (symbols_hat, no_eff) in ends.items():
            coded = (symbols_hat, output["rate_index"], output["z_hat"])
            decoded = self.receive(*coded, buffers[f"feature_{end}"], no_eff)
            output |= {f"{name}_{end}": value for name, value in decoded.items()}
            output["buffers"][f"feature_{end}"] = decoded["frame"]
        return output

    def receive(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, reference: Any, no_eff: Any = None
    ) -> dict[str, Any]:
        """One end's decoding out of its own buffer, from the tensors of both streams.

        Output: ``y_bar``, ``prediction``, ``frame``, as in ``forward``.
        """
        symbols_m, symbols_c = split_units(symbols_hat)
        rates_m, rates_c = split_units(rate_index)
        noise_m, noise_c = split_noise(no_eff)
        z_m, z_c = self.split_z(z_hat)
        y_bar_m, known = self.receive_motion(symbols_m, rates_m, z_m, reference, noise_m)
        y_bar_c, frame = self.receive_context(symbols_c, rates_c, z_c, known, noise_c)
        y_bar = join_channels(y_bar_m, y_bar_c)
        return {"y_bar": y_bar, "prediction": known.prediction, "frame": frame}

    def receive_motion(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, reference: Any, no_eff: Any = None
    ) -> tuple[Any, Compensated]:
        """y_bar of the motion stream, and what its motion makes of the reference."""
        stream = self.motion_stream
        parameters = stream.parameters_of(z_hat)
        y_bar, y_tilde = stream.receive(symbols_hat, rate_index, parameters, no_eff)
        return y_bar, self.compensate(y_tilde, reference)

    def receive_context(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, known: Compensated, no_eff: Any = None
    ) -> tuple[Any, Any]:
        """y_bar of the context stream, and the frame."""
        stream = self.context_stream
        parameters = stream.parameters_of(z_hat, known.context_e)
        y_bar, y_tilde = stream.receive(symbols_hat, rate_index, parameters, no_eff)
        return y_bar, self.context_decoder(y_tilde, known.prediction, known.context_f)

    def split_z(self, z_hat: Any) -> tuple[Any, Any]:
        """Hyper-latents of motion and of context."""
        return split_channels(z_hat, self.config.motion.channels_z)

    def _ideal(self, motion: "_Coded", context: "_Coded", known: Compensated) -> dict[str, Any]:
        """The ideal branch: rounded latents instead of symbols."""
        y_tilde = context.units["y_tilde"]
        z_hat = join_channels(motion.z_hat, context.z_hat)
        every = {"y_bar": join_channels, "num_bits_y": stack_units}
        every |= dict.fromkeys(("rate_index", "rate_reals"), stack_units)
        return {
            **{name: join(motion.units[name], context.units[name]) for name, join in every.items()},
            "z_hat": z_hat,
            "num_bits_z": self.num_bits_z(z_hat),
            "prediction": known.prediction,
            "frame_ideal": self.context_decoder(y_tilde, known.prediction, known.context_f),
        }

    def _code(
        self, stream: LatentStream, y: Any, context_e: Any, quantiser: str, noise: dict[str, Any]
    ) -> "_Coded":
        z_hat = stream.hyper_latent(y, quantiser, noise.get("z"))
        parameters = stream.parameters_of(z_hat, context_e)
        units = stream.quantise(y, parameters, quantiser, noise.get("y"))
        return _Coded(stream, y, z_hat, parameters, units)

    def _noise(self, noise: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Quantisation noise of motion and of context."""
        widths = {"y": self.config.motion.channels_y, "z": self.config.motion.channels_z}
        parts = {k: split_channels(v, widths[k]) for k, v in (noise or {}).items()}
        first, second = ({k: pair[i] for k, pair in parts.items()} for i in range(2))
        return first, second


class _Coded(NamedTuple):
    """A latent of either stream after its entropy model."""

    stream: LatentStream
    y: Any
    z_hat: Any
    parameters: tuple[Any, Any, Any]
    units: dict[str, Any]  # ``code_units``

    @property
    def rate_index(self) -> Any:
        return self.units["rate_index"]

    def symbols(self) -> Any:
        return self.stream.transmit(self.y, self.parameters, self.rate_index)


_STEPS = ("estimate", "map_motion", "compensate", "analyse", "map_context", "reconstruct")


class DvstSteps:
    """Steps of a P frame, as ``pvsc.steps.PredictedSteps``; the buffer is the frame before.

    Parameters: ``model`` : DvstModel; ``compiled`` : wraps each step; ``quantiser`` : ``round`` or
    ``ste``.
    """

    def __init__(self, model: "DvstModel", compiled: Compiler = as_is, quantiser: str = "round"):
        self.model, self.quantiser = model, quantiser
        for step in _STEPS:
            setattr(self, step, compiled(getattr(self, step)))

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """The frame before, as it is: its motion is a part of the coding."""
        return feature

    def encode(
        self, frame: Any, buffers: Buffers, omega_index: Any, choose: RateChoice | None = None
    ) -> CodedFrame:
        """``FrameSteps.encode``; no quality preset to choose, and always the nearest rates."""
        reference, _ = buffers
        y, z_m = self.estimate(frame, reference)
        z_m = whole(z_m)
        rates_m, symbols_m, wanted_m = self.map_motion(y, z_m)
        known = self.compensate(symbols_m, rates_m, z_m, reference)
        y, z_c = self.analyse(frame, known)
        z_c = whole(z_c)
        rates_c, symbols_c, wanted_c = self.map_context(y, z_c, known)
        return CodedFrame(
            join_channels(z_m, z_c),
            stack_units(rates_m, rates_c),
            stack_units(symbols_m, symbols_c),
            known,
            wanted=stack_units(wanted_m, wanted_c),
        )

    def decode(
        self,
        symbols_hat: Any,
        rate_index: Any,
        z_hat: Any,
        buffers: Buffers,
        omega_index: Any,
        kept: Compensated | None = None,
        no_eff: Any = None,
    ) -> Buffers:
        """``FrameSteps.decode``."""
        symbols_m, symbols_c = split_units(symbols_hat)
        rates_m, rates_c = split_units(rate_index)
        noise_m, noise_c = split_noise(no_eff)
        z_m, z_c = self.model.split_z(z_hat)
        if kept is None:
            kept = self.compensate(symbols_m, rates_m, z_m, buffers[0], noise_m)
        return self.reconstruct(symbols_c, rates_c, z_c, kept, noise_c), None

    def show(self, feature: Any, omega_index: Any) -> Any:
        """x_hat: the buffer itself."""
        return feature

    def estimate(self, frame: Any, reference: Any) -> tuple[Any, Any]:
        """Latent and hyper-latent of the motion."""
        y = self.model.motion_latent(frame, reference)
        return y, self.model.motion_stream.hyper_latent(y, self.quantiser)

    def map_motion(self, y: Any, z_hat: Any) -> tuple[Any, Any, Any]:
        """``LatentStream.map_to_symbols`` of the motion."""
        return self.model.motion_stream.map_to_symbols(y, z_hat, quantiser=self.quantiser)

    def compensate(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, reference: Any, no_eff: Any = None
    ) -> Compensated:
        """The frame before, moved by the decoded motion."""
        return self.model.receive_motion(symbols_hat, rate_index, z_hat, reference, no_eff)[1]

    def analyse(self, frame: Any, known: Compensated) -> tuple[Any, Any]:
        """Latent and hyper-latent of the frame, given what its motion predicts."""
        y = self.model.context_encoder(frame, known.prediction, known.context_f)
        return y, self.model.context_stream.hyper_latent(y, self.quantiser)

    def map_context(self, y: Any, z_hat: Any, known: Compensated) -> tuple[Any, Any, Any]:
        """``LatentStream.map_to_symbols`` of the frame."""
        return self.model.context_stream.map_to_symbols(y, z_hat, known.context_e, self.quantiser)

    def reconstruct(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, known: Compensated, no_eff: Any = None
    ) -> Any:
        """x_hat."""
        return self.model.receive_context(symbols_hat, rate_index, z_hat, known, no_eff)[1]
