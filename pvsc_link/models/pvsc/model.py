"""The I-frame model: the family of ``model.py`` without a past (after reference [24]).

    x --> F_ext --> y --> H_enc, Q --> z_hat (b_z) --> H_dec --> w, mu_0, sigma_0
                    y --> Q, four quadtree steps --> y_bar --> k (b_k) --> F_tx --> s
    s_hat, k --> F_rx --> y_bar_rx --> w (y_bar_rx + mu), four steps --> G --> x_hat

The paper transmits I frames with the model of [24], which is not public; this stands in for it:
transforms in the style of DCVC-RT's intra model, a four-step quadtree prior, the same F_tx and
F_rx without their temporal path, the same multi-rate vectors.

PVSC, the P-frame model: sections II-B and III of the paper, block by block.

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
"""

from typing import Any

from keras import ops

from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc.latent_coding import LatentCodingModel
from pvsc_link.models.pvsc.steps import Compiler, PredictedSteps, as_is
from pvsc_link.models.pvsc.transforms import (
    ContextExtractor,
    FeatureExtractor,
    FeatureGenerator,
    FrameGenerator,
    IntraFeatureAdaptor,
)
from pvsc_link.models.pvsc_mc.motion import MotionPrior, compensate
from pvsc_link.models.pvsc_mc.reference_blend import ReferenceBlend
from pvsc_link.types import InputError


class IntraModel(LatentCodingModel):
    """I frames over the ideal, tx and rx branches.

    Without a past the transmitter's own reconstruction equals the receiver's over a noise-free
    channel, and F_rx needs no state.

    Parameters: ``config`` : PvscConfig with ``intra`` set. All weights exist after construction.
    """

    intra = True

    def __init__(self, config: PvscConfig | dict[str, Any], **kwargs: Any):
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
        channel: Any = None,
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
        channel: Any = None,
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
        sent = self.encode_features(
            coded["y_bar"], coded["rate_index"], omega_index, parameters=parameters
        )
        received = self.over_the_air(sent, coded["rate_index"], channel)
        for end, symbols_hat in received.items():
            output[f"y_bar_{end}"], output[f"frame_{end}"] = self.receive(
                symbols_hat, coded["rate_index"], parameters, omega_index
            )
        return {**output, "symbols": sent[0]}

    def receive(
        self, symbols_hat: Any, rate_index: Any, parameters: tuple[Any, Any, Any], omega_index: Any
    ) -> tuple[Any, Any]:
        """(y_bar, frame) from equalised symbols, at either end (eq. 16, 20, 21)."""
        y_bar, _ = self.decode_features(symbols_hat, rate_index, omega_index, parameters=parameters)
        return y_bar, self.generate(self.dequantise(y_bar, parameters), omega_index)

    def generate(self, y_tilde: Any, omega_index: Any) -> Any:
        """The frame from its latent (eq. 21 without context): [batch, height, width, 3]."""
        return self.frame_generator(self.feature_generator(y_tilde, omega_index), omega_index)


class PvscModel(LatentCodingModel):
    """P frames over the ideal, tx and rx branches of section II-C.

    Parameters: ``config`` : PvscConfig. All weights exist after construction. Raises
    ``InputError`` for ``blend_reference`` without ``motion_compensation``.
    """

    intra = False

    def __init__(self, config: PvscConfig | dict[str, Any], **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"dtype": self.dtype_policy}
        self.intra_adaptor = IntraFeatureAdaptor(cfg, name="intra_adaptor", **own)
        self.context_extractor = ContextExtractor(cfg, name="context_extractor", **own)
        self.feature_extractor = FeatureExtractor(cfg, name="feature_extractor", **own)
        self.feature_generator = FeatureGenerator(cfg, name="feature_generator", **own)
        self.frame_generator = FrameGenerator(cfg, name="frame_generator", **own)
        if cfg.motion_compensation:
            self.motion_prior = MotionPrior(cfg, name="motion_prior")
        self.reference_blend: Any = None
        if cfg.blend_reference:
            _check_blend(cfg)
            self.reference_blend = ReferenceBlend(cfg, name="reference_blend", **own)
        self._build_all()

    def steps(self, compiled: Compiler = as_is) -> PredictedSteps:
        """What runs per frame at inference; ``compiled`` wraps each step."""
        return PredictedSteps(self, compiled)

    def start_buffers(self, frame_tx: Any, frame_rx: Any = None) -> dict[str, Any]:
        """Buffers of a new GOP, from the I frame as each end decoded it.

        Input: ``frame_tx``, ``frame_rx`` : [batch, height, width, 3], float32; without a channel
        there is no ``frame_rx``.
        Output: ``feature_tx`` and, given ``frame_rx``, ``feature_rx`` : F, [batch, height/8,
        width/8, channels_feature], or the frame itself with motion
        compensation; with temporal coding also ``state_tx`` and ``state_rx`` : C_s,
        [batch, Hy, Wy, embed_dim], the learned constant.
        """
        frames = {"tx": frame_tx} if frame_rx is None else {"tx": frame_tx, "rx": frame_rx}
        buffers = {}
        for end, frame in frames.items():
            moves = self.config.motion_compensation
            buffers[f"feature_{end}"] = (
                self.kept(None, frame) if moves else self.intra_adaptor(frame)
            )
            batch, height, width = ops.shape(frame)[:3]
            state = self.feature_decoder.initial_state(batch, height // 16, width // 16)
            if state is not None:
                buffers[f"state_{end}"] = state
        return buffers

    def reference(self, feature: Any, motion: Any = None) -> Any:
        """What a frame is coded by, out of a buffer: F, or with motion compensation a picture.

        The buffer then holds the previous frame, and ``motion`` : [batch, Hy, Wy, 2], int32, moves
        it; None: nothing moves.
        """
        if motion is None or not self.config.motion_compensation:
            return feature
        return compensate(feature, motion)

    def contexts(self, reference: Any, omega_index: Any) -> tuple[Any, Any]:
        """(C_e, C_f) of eq. 6 and 17 from ``reference``."""
        moves = self.config.motion_compensation
        feature = self.intra_adaptor(reference) if moves else reference
        return self.context_extractor(feature, omega_index)  # type: ignore[no-any-return]

    def picture(self, feature: Any, reference: Any, omega_index: Any) -> Any:
        """x_hat from F_t (eq. 21, 26), and with ``blend_reference`` from what moved as well."""
        frame = self.frame_generator(feature, omega_index)
        if self.reference_blend is None:
            return frame
        return self.reference_blend(frame, reference, feature, omega_index)

    def kept(self, feature: Any, frame: Any) -> Any:
        """What the buffer holds of a coded frame: F_t, or with motion compensation the frame."""
        return ops.clip(frame, 0.0, 1.0) if self.config.motion_compensation else feature

    def call(
        self,
        frame: Any,
        buffers: dict[str, Any],
        omega_index: Any,
        noise: dict[str, Any] | None = None,
        *,
        motion: Any = None,
        quantiser: str = "round",
        channel: Any = None,
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
        channel: Any = None,
    ) -> dict[str, Any]:
        """One P frame through the branches of section II-C, for training.

        Parameters
        ----------
        motion : vectors of ``block_motion``, [batch, Hy, Wy, 2], int32; None: nothing moves
        quantiser : ``round``, ``noise`` or ``ste`` (``quantisation.quantise``)
        channel : ``(symbols_padded, rate_index) -> symbols_padded_hat``, channel and equaliser on
            padded reals; None runs the ideal branch alone (stage 1)

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
            coded["y_bar"], rate_index, omega_index, buffers.get("state_tx"), parameters
        )  # (15)
        received = self.over_the_air(sent, rate_index, channel)  # (1) to (4)
        output |= {"symbols": sent[0], "buffers": {}}
        for end, symbols_hat in received.items():
            decoded = self.receive(
                symbols_hat, rate_index, z_hat, buffers, omega_index, end, motion
            )
            output["buffers"] |= decoded.pop("buffers")
            output |= decoded
        return output

    def receive(
        self,
        symbols_hat: Any,
        rate_index: Any,
        z_hat: Any,
        buffers: dict[str, Any],
        omega_index: Any,
        end: str,
        motion: Any = None,
    ) -> dict[str, Any]:
        """One end's decoding out of its own buffers: eq. 16 to 21, or eq. 22 to 24.

        Parameters: ``end`` : ``tx`` (symbols as sent) or ``rx`` (equalised); ``motion`` : as
        ``forward``.
        Output: ``y_bar_<end>``, ``frame_<end>``, and ``buffers`` of this end.
        """
        reference = self.reference(buffers[f"feature_{end}"], motion)
        context_e, context_f = self.contexts(reference, omega_index)
        parameters = self.parameters_of(z_hat, context_e)
        y_bar, feature, state = self.update(
            symbols_hat, rate_index, parameters, context_f, buffers.get(f"state_{end}"), omega_index
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
    ) -> tuple[Any, Any, Any]:
        """(y_bar, F_t, C_s,t) from symbols: F_rx, E_s and the buffer's half of G (eq. 22 to 24)."""
        y_bar, state = self.decode_features(symbols_hat, rate_index, omega_index, state, parameters)
        y_tilde = self.dequantise(y_bar, parameters)
        return y_bar, self.feature_generator(y_tilde, omega_index, context_f), state


def _check_blend(config: PvscConfig) -> None:
    if not config.motion_compensation:
        raise InputError(
            f"blend_reference of {config.name}",
            found="motion_compensation=False",
            allowed="motion_compensation=True, whose buffer is the previous picture",
            remedy="Set both, or neither.",
        )
