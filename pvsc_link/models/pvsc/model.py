"""PVSC, the P-frame model: sections II-B and III of the paper, block by block. And the I frames.

Fig. 2 and Fig. 3(b), transmitter:

     F^tx_t-1 --> C_ext --> C_e ------------------+
                      |                           v
                      +---> C_f   H_enc --> z_hat --> H_dec --> w, mu_0, sigma_0
                             |      ^        |                     |
     x_t ----------------> F_ext -> y        | b_z       +---------+
                                    |        v           v
                                    +-----> side   Q(y_0/w - mu_0) --> E_s --> Q(y_1/w - mu_1)
                                            link         |                           |
                                             ^           +----------> y_bar <--------+
                                         b_k |                          |
                          C^tx_s,t-1         +---- k = RM(entropy) <----+
                              |                          |              |
                              +----------------------> F_tx <-----------+
                                                         |
                                                         v
                                                     s (channel)

Fig. 3(a) and Fig. 5, the same decoding at both ends ("tx": s as sent; "rx": s_hat equalised):

     s or s_hat, k --> F_rx --> y_bar_0 + mu_0 --> E_s --> y_bar_1 + mu_1 --> * w --> y_tilde
           C_s,t-1 -----^ |                                                              |
                          +--> C_s,t            C_f ----------------------------------> G --> x_hat
                                                                                        +--> F_t

The transmitter keeps its own buffers F^tx and C^tx_s, fed as if the channel were ideal (eq. 22
to 24); the receiver keeps F^rx and C^rx_s. Only the channel noise tells them apart.

I frames are the same family without a past:

    x --> F_ext --> y --> H_enc, Q --> z_hat (b_z) --> H_dec --> w, mu_0, sigma_0
                    y --> Q, four quadtree steps --> y_bar --> k (b_k) --> F_tx --> s
    s_hat, k --> F_rx --> y_bar_rx --> w (y_bar_rx + mu), four steps --> G --> x_hat

The paper transmits I frames with the model of its reference [24], which is not public. The model
here stands in for it: transforms in the style of DCVC-RT's intra model, a four-step quadtree
prior, the same F_tx and F_rx without their temporal path, the same multi-rate vectors.

Example::

    intra, pvsc = IntraModel(PRESETS["pvsc_tiny_intra"]), PvscModel(PRESETS["pvsc_tiny"])
    frames = np.random.rand(2, 1, 64, 64, 3).astype("float32")       # [T, batch, height, width, 3]
    omega_index = np.array([2])                                      # quality preset of the clip
    first = intra.forward(frames[0], omega_index)
    second = pvsc.forward(frames[1], pvsc.start_buffers(first["frame_ideal"]), omega_index)
    second["frame_ideal"], second["rate_index"], second["buffers"]
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.models.entropy.hyper_latent import (
    Z_MAX,
    ContextTables,
    FactorizedPrior,
    HyperContext,
    PmfTables,
)
from pvsc_link.models.entropy.quantisation import (
    allocate,
    dequantise_blocks,
    quantise,
    quantise_blocks,
    unit_bits,
)
from pvsc_link.models.entropy.rate_map import RateMapPrior
from pvsc_link.models.layers.base import Compiler, as_is
from pvsc_link.models.layers.rate_adaptive import (
    LearnableVector,
    gain_index,
    gain_of,
    normalise_power,
)
from pvsc_link.models.presets import config_of
from pvsc_link.models.pvsc.feature_codec import FeatureDecoder, FeatureEncoder
from pvsc_link.models.pvsc.hyperprior import HyperDecoder, HyperEncoder, QuadtreePrior, SpatialPrior
from pvsc_link.models.pvsc.steps import PredictedSteps
from pvsc_link.models.pvsc.transforms import (
    ContextExtractor,
    FeatureExtractor,
    FeatureGenerator,
    FrameGenerator,
    IntraFeatureAdaptor,
    PredictingExtractor,
    PredictingGenerator,
)
from pvsc_link.types import InputError

#: What learns in each stage of section III-D; I and P models alike.
STAGES = {1: "ideal branch", 2: "feature coding", 3: "everything"}

#: ``(symbols_padded, rate_index) -> symbols_padded_hat``: channel and equaliser on padded reals.
#: For models with ``noise_input`` it returns the pair of that and ``no_eff``, noise variances in
#: the same form (``feature_codec.NoiseInput``).
PaddedChannel = Callable[[Any, Any], Any]


class LatentCodingModel(keras.Model):
    """Common part of I and P frames: everything between the latent y and its reconstruction.

    Parameters
    ----------
    config : IntraConfig or PvscConfig, or the dict that its ``to_dict`` gives

    Raises ``InputError`` where the config belongs to the other kind of frame.
    """

    intra: bool
    sends_gain = True  # one byte of b_k says by how much a frame's power was normalised

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config_of(config) if isinstance(config, dict) else config
        if self.config.intra != self.intra:
            raise InputError(
                "config of the wrong kind of frame",
                found=f"{self.config.name}, intra={self.config.intra}",
                allowed=f"intra={self.intra} for {type(self).__name__}",
                remedy="IntraModel takes the *_intra presets, PvscModel the others.",
            )
        own = {"dtype": self.dtype_policy}
        self.hyper_encoder = HyperEncoder(self.config, name="hyper_encoder", **own)
        self.hyper_decoder = HyperDecoder(self.config, name="hyper_decoder", **own)
        self.z_prior = FactorizedPrior(self.config, name="z_prior", dtype="float32")
        self.hyper_context = HyperContext(self.config, name="hyper_context")
        self.rate_map_prior = RateMapPrior(self.config, name="rate_map_prior")
        prior = QuadtreePrior if self.intra else SpatialPrior
        self.spatial_prior = prior(self.config, name="spatial_prior", **own)
        self.feature_encoder = FeatureEncoder(self.config, name="feature_encoder", **own)
        self.feature_decoder = FeatureDecoder(self.config, name="feature_decoder", **own)
        self.vector_tx: Any = None
        self.vector_rx: Any = None
        if self.config.coding_vectors:
            self.vector_tx = LearnableVector(self.config, name="q_tx", **own)
            self.vector_rx = LearnableVector(self.config, name="q_rx", **own)

    def _build_all(self) -> None:
        """Create every weight. The config holds all widths, so no frame is needed."""
        for vector in self._vectors:
            vector.build((None, None, None, self.config.channels_y))
        for layer in self.layers:
            if not layer.built:
                layer.build(None)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}

    def hyper_latent(
        self, y: Any, omega_index: Any, quantiser: str = "round", noise: Any = None
    ) -> tuple[Any, Any]:
        """z_hat = Q(H_enc(y)) within the range of the pmf tables (eq. 8), and its bits.

        Input: ``y`` : [batch, Hy, Wy, channels_y]; ``noise`` : like z_hat, for ``noise`` only.
        Output: ``z_hat`` : [batch, Hy/4, Wy/4, channels_z]; ``num_bits_z`` : [batch], float32.
        """
        z_hat = quantised_hyper_latent(self.hyper_encoder(y), quantiser, noise)
        return z_hat, self.num_bits_z(z_hat, omega_index)

    def num_bits_z(self, z_hat: Any, omega_index: Any) -> Any:
        """Entropy of z_hat under the factorised prior: [batch], float32."""
        return ops.sum(self.z_prior(z_hat, omega_index), axis=(1, 2, 3))

    def hyper_tables(self, preset_index: int) -> PmfTables | ContextTables:
        """Integer tables of z_hat at a quality preset: given its neighbours where these are fitted.

        Raises ``InputError`` for a preset that does not exist.
        """
        plain = self.z_prior.pmf_table(preset_index)
        return self.hyper_context.tables(preset_index) or plain

    def parameters_of(self, z_hat: Any, context_e: Any = None) -> tuple[Any, Any, Any]:
        """(w, mu_0, sigma_0) of eq. 10 and 18, each [batch, Hy, Wy, channels_y]."""
        return self.hyper_decoder(z_hat, context_e)

    def quantise(
        self,
        y: Any,
        parameters: tuple[Any, Any, Any],
        omega_index: Any,
        quantiser: str = "round",
        noise: Any = None,
    ) -> dict[str, Any]:
        """y_bar, its bits and the rate map (eq. 11 to 14): ``code_units`` with E_s."""
        prior, masks, eta = self.spatial_prior, self._masks(y), self.eta_of(omega_index)
        return code_units(y, parameters, self.config, prior, masks, quantiser, noise, eta)

    def eta_of(self, omega_index: Any) -> Any:
        """eta of eq. 14 at each clip's quality preset: [batch, 1, 1], float32, reals per bit."""
        scales = np.array(self.config.eta_scales, np.float32)
        return ops.take(self.config.eta * scales, omega_index, axis=0)[:, None, None]

    def encode_features(
        self, y_bar: Any, rate_index: Any, omega_index: Any, state: Any = None
    ) -> tuple[Any, Any]:
        """Symbols of the features with unit power (eq. 15), and the gain that undoes it.

        With ``coding_vectors`` a vector of the quality preset comes before F_tx, since the size of
        y_bar depends on the preset. The paper names vectors for C_ext, F_ext and G alone.
        Output: ``symbols`` : [batch, Hy, Wy, Kmax], float32, of unit mean power per complex symbol;
        ``gain`` : [batch], float32, one of the values of one byte (``rate_adaptive.gain_of``).
        """
        scaled = y_bar if self.vector_tx is None else self.vector_tx(y_bar, omega_index)
        reals = self.feature_encoder(scaled, rate_index, state)
        symbols, gain = normalise_power(reals, rate_index, self.config.rate_set)
        known = gain_of(gain_index(gain))
        return symbols, gain + ops.stop_gradient(known - gain)

    def over_the_air(
        self, coded: tuple[Any, Any], rate_index: Any, channel: PaddedChannel
    ) -> dict[str, tuple[Any, Any]]:
        """What each end decodes: ``tx`` the symbols as sent, ``rx`` those received.

        Input: ``coded`` : as ``encode_features`` gives it. Output: pairs of the symbols times the
        gain, and ``no_eff`` of ``decode_features``. Raises ``InputError`` for a channel without
        noise variances where ``noise_input`` is on.
        """
        symbols, gain = coded[0], coded[1][:, None, None, None]
        symbols_hat, no_eff = received(channel(symbols, rate_index), self.config)
        return {"tx": (symbols * gain, None), "rx": (symbols_hat * gain, no_eff)}

    def decode_features(
        self,
        symbols_hat: Any,
        rate_index: Any,
        omega_index: Any,
        state: Any = None,
        no_eff: Any = None,
    ) -> tuple[Any, Any]:
        """(y_bar_rx, C_s,t) from symbols times the gain: F_rx, and any vector (eq. 16, 22).

        Input: ``no_eff`` : noise variances before the gain, relative to symbols of unit power,
        like ``symbols_hat``; None for symbols without noise. Only ``noise_input`` uses them.
        """
        y_bar, state = self.feature_decoder(symbols_hat, rate_index, state, no_eff)
        return y_bar if self.vector_rx is None else self.vector_rx(y_bar, omega_index), state

    def dequantise(self, y_bar: Any, parameters: tuple[Any, Any, Any]) -> Any:
        """y_tilde of eq. 20, with E_s fed from ``y_bar`` itself (eq. 19, 23)."""
        return dequantise_blocks(y_bar, parameters, self.spatial_prior, self._masks(y_bar))

    def _masks(self, latent: Any) -> Any:
        return self.spatial_prior.masks(*latent.shape[1:3])

    @property
    def coding_layers(self) -> tuple[Any, ...]:
        """The layers of training stage 2: F_tx and F_rx, with their vectors if they have any."""
        return self.feature_encoder, self.feature_decoder, *self._vectors

    @property
    def _vectors(self) -> tuple[Any, ...]:
        return tuple(v for v in (self.vector_tx, self.vector_rx) if v is not None)

    def select_stage(self, stage: int) -> None:
        """Make exactly the weights of one training stage trainable (section III-D).

        Parameters: ``stage`` : 1, the ideal branch without F_tx and F_rx; 2, these two alone;
        3, everything. Raises ``InputError`` for another stage.
        """
        check_stage(stage)
        coding = self.coding_layers
        for layer in self.layers:
            if layer in (self.rate_map_prior, self.hyper_context):
                continue  # statistics, never trained
            layer.trainable = stage == 3 or (layer in coding) == (stage == 2)


class PvscModel(LatentCodingModel):
    """P frames over the ideal, tx and rx branches of section II-C.

    ``search_motion``, ``start``, ``reference``, ``contexts``, ``picture``, ``kept`` and ``steps``
    say how a frame is predicted from the one before; the extension with motion overrides them.

    Parameters: ``config`` : PvscConfig. All weights exist after construction.
    """

    intra = False
    weighs_maps = False  # the rate nearest to what eq. 14 asks for
    motion_prior: Any = None  # no vectors are sent

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        self.intra_adaptor = IntraFeatureAdaptor(cfg, name="intra_adaptor", **own)
        self.context_extractor = ContextExtractor(cfg, name="context_extractor", **own)
        extractor = PredictingExtractor if cfg.predict_latent else FeatureExtractor
        generator = PredictingGenerator if cfg.predict_latent else FeatureGenerator
        self.feature_extractor = extractor(cfg, name="feature_extractor", **own)
        self.feature_generator = generator(cfg, name="feature_generator", **own)
        self.frame_generator = FrameGenerator(cfg, name="frame_generator", **own)
        self._add_extension()
        self._build_all()

    def _add_extension(self) -> None:
        """Layers that a family beyond the paper has besides; they are built with the others."""

    def steps(self, compiled: Compiler = as_is, quantiser: str = "round") -> PredictedSteps:
        """The steps of a P frame; arguments as ``PredictedSteps``."""
        return PredictedSteps(self, compiled, quantiser)

    def start_buffers(self, frame_tx: Any, frame_rx: Any = None) -> dict[str, Any]:
        """Buffers of a new GOP, from the I frame as each end decoded it.

        Input: ``frame_tx``, ``frame_rx`` : [batch, height, width, 3], float32; without a channel
        there is no ``frame_rx``.
        Output: ``feature_tx`` and, given ``frame_rx``, ``feature_rx`` : F, as ``start`` gives it;
        with temporal coding also ``state_tx`` and ``state_rx`` : C_s, [batch, Hy, Wy, embed_dim],
        the learned constant.
        """
        frames = {"tx": frame_tx} if frame_rx is None else {"tx": frame_tx, "rx": frame_rx}
        buffers = {}
        for end, frame in frames.items():
            buffers[f"feature_{end}"] = self.start(frame)
            batch, height, width = ops.shape(frame)[:3]
            state = self.feature_decoder.initial_state(batch, height // 16, width // 16)
            if state is not None:
                buffers[f"state_{end}"] = state
        return buffers

    def start(self, frame: Any) -> Any:
        """F after an I frame: [batch, height/8, width/8, channels_feature].

        Of the picture as it is shown: clipped, with the gradient of the picture before.
        """
        shown = ops.stop_gradient(ops.clip(frame, 0.0, 1.0)) + (frame - ops.stop_gradient(frame))
        return self.intra_adaptor(shown)

    def search_motion(self, feature: Any, frames: Any, omega_index: Any) -> Any:
        """Vectors that are sent with z_hat: none in the paper's model."""
        return None

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """The reference of the next frame from the buffer ``feature``: F itself."""
        return feature

    def contexts(self, reference: Any, omega_index: Any) -> tuple[Any, Any]:
        """(C_e, C_f) of eq. 6 and 17, each [batch, height/8, width/8, channels_feature]."""
        return self.context_extractor(reference, omega_index)  # type: ignore[no-any-return]

    def picture(self, feature: Any, reference: Any, omega_index: Any) -> Any:
        """x_hat from F_t (eq. 21, 26): [batch, height, width, 3], not clipped."""
        return self.frame_generator(feature, omega_index)

    def kept(self, feature: Any, frame: Any) -> Any:
        """The buffer after a coded frame: F_t."""
        return feature

    def call(
        self,
        frame: Any,
        buffers: dict[str, Any],
        omega_index: Any,
        noise: dict[str, Any] | None = None,
        *,
        motion: Any = None,
        quantiser: str = "round",
        channel: PaddedChannel | None = None,
    ) -> dict[str, Any]:
        """``forward``, reachable through ``stateless_call`` as well."""
        return self.forward(
            frame, buffers, omega_index, noise, motion=motion, quantiser=quantiser, channel=channel
        )

    def forward(
        self,
        frame: Any,
        buffers: dict[str, Any],
        omega_index: Any,
        noise: dict[str, Any] | None = None,
        *,
        motion: Any = None,
        quantiser: str = "round",
        channel: PaddedChannel | None = None,
    ) -> dict[str, Any]:
        """One P frame through the branches of section II-C, for training.

        Parameters
        ----------
        motion : vectors of the extension, [batch, Hy, Wy, 2], int32; None: nothing moves
        quantiser : ``round``, ``noise`` or ``ste`` (``quantisation.quantise``)
        channel : channel and equaliser on padded reals; None runs the ideal branch alone (stage 1)

        Input
        -----
        frame : [batch, height, width, 3], float32 in [0, 1]
        buffers : of the previous frame, or ``start_buffers``; ``*_rx`` only with a channel
        omega_index : [batch], int32, quality preset of each clip
        noise : with ``noise``, {"y", "z"} uniform in [-0.5, 0.5), shaped like y and z

        Output
        ------
        frame_ideal, and with a channel frame_tx, frame_rx : like ``frame``, not clipped
        y_bar, and with a channel y_bar_tx, y_bar_rx : [batch, Hy, Wy, channels_y]
        symbols : [batch, Hy, Wy, Kmax], with a channel
        rate_index : [batch, Hy, Wy], int32; rate_reals, num_bits_y : same shape, float32
        num_bits_z : [batch], float32; z_hat : [batch, Hy/4, Wy/4, channels_z]
        buffers : for the next frame; without a channel F^tx is the ideal branch's
        """
        noise = noise or {}
        reference = self.reference(buffers["feature_tx"], motion)
        context_e, context_f = self.contexts(reference, omega_index)  # (6)
        y = self.feature_extractor(frame, omega_index, context_f)  # (7)
        z_hat, num_bits_z = self.hyper_latent(y, omega_index, quantiser, noise.get("z"))  # (8)
        parameters = self.parameters_of(z_hat, context_e)  # (10)
        coded = self.quantise(y, parameters, omega_index, quantiser, noise.get("y"))  # (11) to (14)
        feature = self.feature_generator(coded.pop("y_tilde"), omega_index, context_f)
        frame_ideal = self.picture(feature, reference, omega_index)  # (26)
        output = {**coded, "z_hat": z_hat, "num_bits_z": num_bits_z, "frame_ideal": frame_ideal}
        if channel is None:
            kept = self.kept(feature, frame_ideal)
            return {**output, "buffers": {**buffers, "feature_tx": kept}}
        rate_index = coded["rate_index"]
        sent = self.encode_features(
            coded["y_bar"], rate_index, omega_index, buffers.get("state_tx")
        )  # (15)
        ends = self.over_the_air(sent, rate_index, channel)  # (1) to (4)
        output |= {"symbols": sent[0], "buffers": {}}
        # The transmitter decodes with the contexts that it coded with.
        contexts = {"tx": (reference, parameters, context_f)}
        for end, (symbols_hat, no_eff) in ends.items():
            known = contexts.get(end) or self.known(
                buffers[f"feature_{end}"], z_hat, omega_index, motion
            )
            decoded = self.receive(
                symbols_hat, rate_index, known, buffers, omega_index, end, no_eff
            )
            output["buffers"] |= decoded.pop("buffers")
            output |= decoded
        return output

    def known(
        self, feature: Any, z_hat: Any, omega_index: Any, motion: Any = None
    ) -> tuple[Any, tuple[Any, Any, Any], Any]:
        """(reference, parameters, C_f) of one end, before symbols arrive (eq. 17, 18)."""
        reference = self.reference(feature, motion)
        context_e, context_f = self.contexts(reference, omega_index)
        return reference, self.parameters_of(z_hat, context_e), context_f

    def receive(
        self,
        symbols_hat: Any,
        rate_index: Any,
        known: tuple[Any, tuple[Any, Any, Any], Any],
        buffers: dict[str, Any],
        omega_index: Any,
        end: str,
        no_eff: Any = None,
    ) -> dict[str, Any]:
        """One end's decoding out of its own buffers: eq. 16 to 21, or eq. 22 to 24.

        Parameters: ``known`` : of this end, out of ``known``; ``end`` : ``tx`` (symbols as sent) or
        ``rx`` (equalised); ``no_eff`` : as ``decode_features``.
        Output: ``y_bar_<end>``, ``frame_<end>``, and ``buffers`` of this end.
        """
        reference, parameters, context_f = known
        y_bar, feature, state = self.update(
            symbols_hat,
            rate_index,
            parameters,
            context_f,
            buffers.get(f"state_{end}"),
            omega_index,
            no_eff,
        )
        frame = self.picture(feature, reference, omega_index)
        following = {f"feature_{end}": self.kept(feature, frame)}
        if state is not None:
            following[f"state_{end}"] = state
        return {f"y_bar_{end}": y_bar, f"frame_{end}": frame, "buffers": following}

    def update(
        self,
        symbols_hat: Any,
        rate_index: Any,
        parameters: tuple[Any, Any, Any],
        context_f: Any,
        state: Any,
        omega_index: Any,
        no_eff: Any = None,
    ) -> tuple[Any, Any, Any]:
        """(y_bar, F_t, C_s,t) from symbols: F_rx, E_s and the buffer's half of G (eq. 22 to 24)."""
        y_bar, state = self.decode_features(symbols_hat, rate_index, omega_index, state, no_eff)
        y_tilde = self.dequantise(y_bar, parameters)
        return y_bar, self.feature_generator(y_tilde, omega_index, context_f), state


class IntraModel(LatentCodingModel):
    """I frames over the ideal, tx and rx branches; F_rx needs no state.

    Parameters: ``config`` : IntraConfig. All weights exist after construction.
    """

    intra = True

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        self.feature_extractor = FeatureExtractor(cfg, name="feature_extractor", **own)
        self.feature_generator = FeatureGenerator(cfg, name="feature_generator", **own)
        self.frame_generator = FrameGenerator(cfg, name="frame_generator", **own)
        self._build_all()

    def call(
        self,
        frame: Any,
        omega_index: Any,
        noise: dict[str, Any] | None = None,
        *,
        quantiser: str = "round",
        channel: PaddedChannel | None = None,
    ) -> dict[str, Any]:
        """``forward``, reachable through ``stateless_call`` as well."""
        return self.forward(frame, omega_index, noise, quantiser=quantiser, channel=channel)

    def forward(
        self,
        frame: Any,
        omega_index: Any,
        noise: dict[str, Any] | None = None,
        *,
        quantiser: str = "round",
        channel: PaddedChannel | None = None,
    ) -> dict[str, Any]:
        """One I frame, for training; arguments and output as ``PvscModel.forward`` less buffers."""
        noise = noise or {}
        y = self.feature_extractor(frame, omega_index)
        z_hat, num_bits_z = self.hyper_latent(y, omega_index, quantiser, noise.get("z"))
        parameters = self.parameters_of(z_hat)
        coded = self.quantise(y, parameters, omega_index, quantiser, noise.get("y"))
        frame_ideal = self.generate(coded.pop("y_tilde"), omega_index)
        output = {**coded, "z_hat": z_hat, "num_bits_z": num_bits_z, "frame_ideal": frame_ideal}
        if channel is None:
            return output
        sent = self.encode_features(coded["y_bar"], coded["rate_index"], omega_index)
        ends = self.over_the_air(sent, coded["rate_index"], channel)
        for end, (symbols_hat, no_eff) in ends.items():
            output[f"y_bar_{end}"], output[f"frame_{end}"] = self.receive(
                symbols_hat, coded["rate_index"], parameters, omega_index, no_eff
            )
        return {**output, "symbols": sent[0]}

    def receive(
        self,
        symbols_hat: Any,
        rate_index: Any,
        parameters: tuple[Any, Any, Any],
        omega_index: Any,
        no_eff: Any = None,
    ) -> tuple[Any, Any]:
        """(y_bar, frame) from equalised symbols, at either end (eq. 16, 20, 21)."""
        y_bar, _ = self.decode_features(symbols_hat, rate_index, omega_index, no_eff=no_eff)
        return y_bar, self.generate(self.dequantise(y_bar, parameters), omega_index)

    def generate(self, y_tilde: Any, omega_index: Any) -> Any:
        """The frame from its latent (eq. 21 without context): [batch, height, width, 3]."""
        return self.frame_generator(self.feature_generator(y_tilde, omega_index), omega_index)


def received(output: Any, config: Any) -> tuple[Any, Any]:
    """(symbols_padded_hat, no_eff) out of what a ``PaddedChannel`` returns.

    ``no_eff`` is None unless ``noise_input`` of the config is on. Raises ``InputError`` where it is
    and the channel gives none.
    """
    symbols_hat, no_eff = output if isinstance(output, tuple) else (output, None)
    if not config.noise_input:
        return symbols_hat, None
    if no_eff is None:
        raise missing_noise(config)
    return symbols_hat, no_eff


def missing_noise(config: Any) -> InputError:
    """The error of symbols that come without noise variances to a model that wants them."""
    return InputError(
        f"noise variances for the model {config.name}",
        found=None,
        allowed="no_eff of every symbol, since noise_input is on",
        remedy="Hand on no_eff of the channel, or choose a model without noise_input.",
    )


def quantised_hyper_latent(z: Any, quantiser: str = "round", noise: Any = None) -> Any:
    """z_hat = Q(z) (eq. 8) within the range of the pmf tables. Shape kept."""
    # Past the tables' range the gradient goes on, so that the rate can pull z back.
    z = ops.cast(z, "float32")
    z = z + ops.stop_gradient(ops.clip(z, -Z_MAX, Z_MAX) - z)
    return quantise(z, quantiser, noise)


def code_units(
    y: Any,
    parameters: tuple[Any, Any, Any],
    config: Any,
    prior: Any,
    masks: Sequence[Any],
    quantiser: str = "round",
    noise: Any = None,
    eta: Any = None,
) -> dict[str, Any]:
    """y_bar (eq. 12), its entropy per unit (eq. 13) and the rate map (eq. 14).

    Parameters: ``prior``, ``masks``, ``quantiser`` : of ``quantisation.quantise_blocks``; ``eta`` :
    reals per bit, [batch, 1, 1] where it depends on the preset; None: the config's.
    Output: ``y_bar``, ``y_tilde`` : like ``y``, the latter of the ideal branch (eq. 26: what
    ``dequantise_blocks`` would give, without running ``prior`` again);
    ``num_bits_y``, ``rate_reals`` : [batch, Hy, Wy], float32; ``rate_index`` : same, int32.
    """
    y_bar, mu, sigma = quantise_blocks(y, parameters, prior, masks, quantiser, noise)
    eta = config.eta if eta is None else eta
    num_bits = unit_bits(y_bar, sigma)
    rate_index, rate_reals = allocate(num_bits, config.rate_set, eta)
    return {
        "y_bar": y_bar,
        "y_tilde": ops.cast(parameters[0], "float32") * (y_bar + mu),
        "num_bits_y": num_bits,
        "rate_index": rate_index,
        "rate_reals": rate_reals,
    }


def check_stage(stage: int) -> None:
    """Raise ``InputError`` unless ``stage`` is one of ``STAGES``."""
    if stage not in STAGES:
        raise InputError(
            "unknown training stage", found=stage, allowed=STAGES, remedy="See section III-D."
        )
