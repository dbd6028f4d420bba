"""The I-frame model: the family of ``model.py`` without a past (after reference [24]).

    x --> F_ext --> y --> H_enc, Q --> z_hat (b_z) --> H_dec --> w, mu_0, sigma_0
                    y --> Q, four quadtree steps --> y_bar --> k (b_k) --> F_tx --> s
    s_hat, k --> F_rx --> y_bar_rx --> w (y_bar_rx + mu), four steps --> G --> x_hat

The paper transmits I frames with the model of [24], which is not public; this stands in for it:
transforms in the style of DCVC-RT's intra model, a four-step quadtree prior, the same F_tx and
F_rx without their temporal path, the same multi-rate vectors.
"""

from typing import Any

from pvsc_link.semantic.feature_extractor import FeatureExtractor
from pvsc_link.semantic.generator import FeatureGenerator, FrameGenerator
from pvsc_link.semantic.latent_coding import LatentCodingModel
from pvsc_link.semantic.presets import PvscConfig


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
