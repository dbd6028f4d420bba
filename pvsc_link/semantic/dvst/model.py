"""DVST, the P-frame model: motion first, then what the motion leaves over, each on the channel.

    x_t, x_hat_t-1 --> motion estimation --> v --> motion encoder --> y_m --> [motion stream]
                                                                                 s_m, k_m, z_m
    s_m or s_m_hat --> [motion stream] --> motion decoder --> v_hat
    x_hat_t-1, v_hat --> motion compensation --> prediction, context
    x_t, prediction, context --> context encoder --> y_c --> [context stream] --> s_c, k_c, z_c
    s_c or s_c_hat --> [context stream] --> context decoder --> + prediction --> x_hat_t

[.] is ``latent_stream``: hyperprior, rate rule of eq. 14, F_tx and F_rx. As in ``model`` of PVSC
the transmitter decodes its own symbols as if the channel were ideal, and codes against that; only
the channel noise tells the buffers of both ends apart. The buffer is the frame before.

After Wang et al., "Wireless Deep Video Semantic Transmission" (IEEE JSAC 2023), whose code is not
public: networks and sizes are this project's, within the parameters and MACs that the PVSC paper
gives for DVST. A model has one rate; there is no quality preset in it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from pvsc_link.semantic.dvst import stacking
from pvsc_link.semantic.dvst.context_codec import ContextDecoder, ContextEncoder
from pvsc_link.semantic.dvst.latent_stream import LatentStream
from pvsc_link.semantic.dvst.motion_codec import MotionDecoder, MotionEncoder
from pvsc_link.semantic.dvst.motion_compensation import Compensated, MotionCompensation
from pvsc_link.semantic.dvst.motion_estimator import MotionEstimator
from pvsc_link.semantic.dvst.presets import DvstConfig
from pvsc_link.semantic.dvst.steps import DvstSteps
from pvsc_link.semantic.factorized_prior import FactorizedPrior, PmfTables
from pvsc_link.semantic.inference import Compiler, as_is
from pvsc_link.semantic.latent_coding import check_stage


class DvstModel(keras.Model):
    """P frames of DVST over the ideal, tx and rx branches.

    Parameters: ``config`` : DvstConfig, or the dict that ``DvstConfig.to_dict`` gives. All weights
    exist after construction.
    """

    sends_gain = False  # its streams are normalised apart, and share one rate map

    def __init__(self, config: DvstConfig | dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        cfg = config if isinstance(config, DvstConfig) else DvstConfig.from_dict(config)
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
        self.rate_map_prior = stacking.StackedRateMapPrior(cfg.both, name="rate_map_prior")
        for layer in self.layers:
            layer.build(None)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def start_buffers(self, frame_tx: Any, frame_rx: Any = None) -> dict[str, Any]:
        """Buffers of a new GOP: the I frame as each end decoded it; as ``PvscModel``'s."""
        frames = {"feature_tx": frame_tx} if frame_rx is None else {"feature_rx": frame_rx}
        return {"feature_tx": frame_tx, **frames}

    def steps(self, compiled: Compiler = as_is) -> DvstSteps:
        """What runs per frame at inference; ``compiled`` wraps each step."""
        return DvstSteps(self, compiled)

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

    def num_bits_z(self, z_hat: Any) -> Any:
        """Bits of the hyper-latents of both streams: [batch], float32."""
        first = ops.zeros((ops.shape(z_hat)[0],), dtype="int32")
        return ops.sum(self.z_prior(z_hat, first), axis=(1, 2, 3))

    def hyper_tables(self, preset_index: int) -> PmfTables:
        """Integer tables of the hyper-latents of both streams."""
        return self.z_prior.pmf_table(preset_index)

    def motion_latent(self, frame: Any, reference: Any) -> Any:
        """y_m of the motion from ``reference`` to ``frame``."""
        return self.motion_encoder(self.motion_estimator(frame, reference))

    def compensate(self, y_tilde: Any, reference: Any) -> Compensated:
        """What the motion out of its latent makes of the reference."""
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
        (``stacking``): latents side by side in channels, units one above the other.
        ``omega_index`` is not used. Besides, ``prediction`` and with a channel
        ``prediction_tx``, ``prediction_rx`` : like ``frame``, the motion-compensated reference of
        each branch, for a loss that teaches the motion.
        """
        reference, (noise_m, noise_c) = buffers["feature_tx"], self._noise(noise)
        motion = self._code(
            self.motion_stream, self.motion_latent(frame, reference), None, quantiser, noise_m
        )
        known = ideal = self.compensate(motion.units["y_tilde"], reference)
        if channel is not None:
            # What the frame is coded against is what the transmitter will hold of the motion.
            symbols_m = motion.symbols()
            _, y_tilde = self.motion_stream.receive(symbols_m, motion.rate_index, motion.parameters)
            known = self.compensate(y_tilde, reference)
        y = self.context_encoder(frame, known.prediction, known.context_f)
        context = self._code(self.context_stream, y, known.context_e, quantiser, noise_c)
        output = self._ideal(motion, context, ideal)
        if channel is None:
            return {**output, "buffers": {**buffers, "feature_tx": output["frame_ideal"]}}
        symbols = stacking.stack_units(symbols_m, context.symbols())
        received = {"tx": symbols, "rx": channel(symbols, output["rate_index"])}
        output |= {"symbols": symbols, "buffers": {}}
        for end, symbols_hat in received.items():
            coded = (symbols_hat, output["rate_index"], output["z_hat"])
            decoded = self.receive(*coded, buffers[f"feature_{end}"])
            output |= {f"{name}_{end}": value for name, value in decoded.items()}
            output["buffers"][f"feature_{end}"] = decoded["frame"]
        return output

    def receive(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, reference: Any
    ) -> dict[str, Any]:
        """One end's decoding out of its own buffer, from the tensors of both streams.

        Output: ``y_bar``, ``prediction``, ``frame``, as in ``forward``.
        """
        symbols_m, symbols_c = stacking.split_units(symbols_hat)
        rates_m, rates_c = stacking.split_units(rate_index)
        z_m, z_c = self.split_z(z_hat)
        y_bar_m, known = self.receive_motion(symbols_m, rates_m, z_m, reference)
        y_bar_c, frame = self.receive_context(symbols_c, rates_c, z_c, known)
        y_bar = stacking.join_channels(y_bar_m, y_bar_c)
        return {"y_bar": y_bar, "prediction": known.prediction, "frame": frame}

    def receive_motion(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, reference: Any
    ) -> tuple[Any, Compensated]:
        """y_bar of the motion stream, and what its motion makes of the reference."""
        stream = self.motion_stream
        y_bar, y_tilde = stream.receive(symbols_hat, rate_index, stream.parameters_of(z_hat))
        return y_bar, self.compensate(y_tilde, reference)

    def receive_context(
        self, symbols_hat: Any, rate_index: Any, z_hat: Any, known: Compensated
    ) -> tuple[Any, Any]:
        """y_bar of the context stream, and the frame."""
        stream = self.context_stream
        parameters = stream.parameters_of(z_hat, known.context_e)
        y_bar, y_tilde = stream.receive(symbols_hat, rate_index, parameters)
        return y_bar, self.context_decoder(y_tilde, known.prediction, known.context_f)

    def split_z(self, z_hat: Any) -> tuple[Any, Any]:
        """Hyper-latents of motion and of context."""
        return stacking.split_channels(z_hat, self.config.motion.channels_z)

    def _ideal(self, motion: "_Coded", context: "_Coded", known: Compensated) -> dict[str, Any]:
        """The ideal branch: rounded latents instead of symbols."""
        y_tilde = context.units["y_tilde"]
        z_hat = stacking.join_channels(motion.z_hat, context.z_hat)
        every = {"y_bar": stacking.join_channels, "num_bits_y": stacking.stack_units}
        every |= dict.fromkeys(("rate_index", "rate_reals"), stacking.stack_units)
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
        parts = {k: stacking.split_channels(v, widths[k]) for k, v in (noise or {}).items()}
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
