"""What I and P frames share: everything between the latent y and its reconstruction y_tilde.

y --> H_enc --> Q --> z_hat (b_z) --> H_dec --> w, mu_0, sigma_0
y --> Q with w, mu_0, and E_s for the later blocks --> y_bar --> rate rule --> k (b_k)
y_bar, k --> F_tx --> s  ~~ channel ~~>  s_hat, k --> F_rx --> y_bar_rx --> w (y_bar_rx + mu)
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.models.entropy import quantisation
from pvsc_link.models.entropy import quantisation as rate_control
from pvsc_link.models.entropy.hyper_latent import (
    Z_MAX,
    ContextTables,
    FactorizedPrior,
    HyperContext,
    PmfTables,
)
from pvsc_link.models.entropy.rate_map import RateMapPrior
from pvsc_link.models.layers.rate_adaptive import (
    LearnableVector,
    gain_index,
    gain_of,
    normalise_power,
)
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc.feature_codec import FeatureDecoder, FeatureEncoder, prior_of
from pvsc_link.models.pvsc.hyperprior import HyperDecoder, HyperEncoder, QuadtreePrior, SpatialPrior
from pvsc_link.types import InputError

#: Which layers learn in each stage of section III-D; I and P models alike.
STAGES = {1: "ideal branch", 2: "feature coding", 3: "everything"}


def quantised_hyper_latent(z: Any, quantiser: str = "round", noise: Any = None) -> Any:
    """z_hat = Q(z) (eq. 8) within the range of the pmf tables. Shape kept."""
    # Past the tables' range the gradient goes on, so that the rate can pull z back.
    z = z + ops.stop_gradient(ops.clip(z, -Z_MAX, Z_MAX) - z)
    return quantisation.quantise(z, quantiser, noise)


def code_units(
    y: Any,
    parameters: tuple[Any, Any, Any],
    config: PvscConfig,
    prior: Any,
    masks: Sequence[Any],
    quantiser: str = "round",
    noise: Any = None,
    eta: Any = None,
) -> dict[str, Any]:
    """y_bar (eq. 12), its entropy per unit (eq. 13) and the rate map (eq. 14).

    Parameters: ``prior``, ``masks``, ``quantiser`` : of ``quantisation.quantise_blocks``; ``eta`` :
    reals per bit, [batch, 1, 1] where it depends on the preset; None: the config's.
    Output: ``y_bar``, ``residual`` (w y_bar), ``y_tilde`` : like ``y``, the last of the ideal
    branch (eq. 26: what ``dequantise_blocks`` would give, without running ``prior`` again);
    ``num_bits_y``, ``rate_reals`` : [batch, Hy, Wy], float32; ``rate_index`` : same, int32.
    """
    y_bar, mu, sigma = quantisation.quantise_blocks(y, parameters, prior, masks, quantiser, noise)
    eta = config.eta if eta is None else eta
    num_bits = rate_control.unit_bits(y_bar, sigma)
    rate_index, rate_reals = rate_control.allocate(num_bits, config.rate_set, eta)
    return {
        "y_bar": y_bar,
        "residual": parameters[0] * y_bar,
        "y_tilde": parameters[0] * (y_bar + mu),
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


class LatentCodingModel(keras.Model):
    """Base of ``PvscModel`` and ``IntraModel``: entropy model, rate rule, feature coding.

    Parameters
    ----------
    config : PvscConfig, or the dict that ``PvscConfig.to_dict`` gives

    Raises ``InputError`` where the config belongs to the other kind of frame, or has another number
    of ``eta_factors`` than quality presets.
    """

    intra: bool
    sends_gain = True  # one byte of b_k says by how much a frame's power was normalised

    def __init__(self, config: PvscConfig | dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config if isinstance(config, PvscConfig) else PvscConfig.from_dict(config)
        if self.config.intra != self.intra:
            raise InputError(
                "config of the wrong kind of frame",
                found=f"{self.config.name}, intra={self.config.intra}",
                allowed=f"intra={self.intra} for {type(self).__name__}",
                remedy="IntraModel takes the *_intra presets, PvscModel the others.",
            )
        if len(factors := self.config.eta_factors) not in (0, self.config.num_omega):
            raise InputError(
                f"eta_factors of {self.config.name}",
                found=factors,
                allowed=f"none, or one for each of {self.config.num_omega} quality presets",
                remedy="Give every preset its factor.",
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
        self.vector_tx = LearnableVector(self.config, name="q_tx", **own)
        self.vector_rx = LearnableVector(self.config, name="q_rx", **own)

    def _build_all(self) -> None:
        """Create every weight: the config holds all widths, no frame is needed."""
        for vector in (self.vector_tx, self.vector_rx):
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
        return z_hat, ops.sum(self.z_prior(z_hat, omega_index), axis=(1, 2, 3))

    def hyper_tables(self, preset_index: int) -> PmfTables | ContextTables:
        """Integer tables of z_hat at a quality preset: of its neighbours, where these are fitted.

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
        """``code_units`` with E_s and its masks; output as there."""
        prior, masks, eta = self.spatial_prior, self._masks(y), self.eta_of(omega_index)
        return code_units(y, parameters, self.config, prior, masks, quantiser, noise, eta)

    def eta_of(self, omega_index: Any) -> Any:
        """eta of eq. 14 by quality preset: [batch, 1, 1], float32."""
        cfg = self.config
        factors = np.array(cfg.eta_factors or (1.0,) * cfg.num_omega, np.float32)
        return ops.take(cfg.eta * factors, omega_index, axis=0)[:, None, None]

    def dequantise(self, y_bar: Any, parameters: tuple[Any, Any, Any]) -> Any:
        """y_tilde of eq. 20, with E_s fed from ``y_bar`` itself (eq. 19, 23)."""
        return quantisation.dequantise_blocks(
            y_bar, parameters, self.spatial_prior, self._masks(y_bar)
        )

    def encode_features(
        self,
        y_bar: Any,
        rate_index: Any,
        omega_index: Any,
        state: Any = None,
        parameters: tuple[Any, Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """Symbols of the features with unit power (eq. 15), and the gain that undoes it.

        F_tx stands behind the preset's vector: how large y_bar is depends on the preset. The
        paper names vectors for C_ext, F_ext and G alone. ``parameters`` : (w, mu_0, sigma_0), which
        ``hyperprior_coding`` needs.
        Output: ``symbols`` as ``FeatureEncoder``, of unit mean power; ``gain`` : [batch], float32,
        one of the values that one byte of side information stands for (``symbol_mapping.gain_of``).
        """
        scaled = self.vector_tx(y_bar, omega_index)
        reals = self.feature_encoder(scaled, rate_index, state, prior=self._prior(parameters))
        symbols, gain = normalise_power(reals, rate_index, self.config.rate_set)
        known = gain_of(gain_index(gain))
        return symbols, gain + ops.stop_gradient(known - gain)

    def over_the_air(self, coded: tuple[Any, Any], rate_index: Any, channel: Any) -> dict[str, Any]:
        """What each end decodes, the gain undone: ``tx`` as sent, ``rx`` behind ``channel``.

        Input: ``coded`` : as ``encode_features`` gives it. Output: like its symbols.
        """
        symbols, gain = coded[0], coded[1][:, None, None, None]
        return {"tx": symbols * gain, "rx": channel(symbols, rate_index) * gain}

    def decode_features(
        self,
        symbols_hat: Any,
        rate_index: Any,
        omega_index: Any,
        state: Any = None,
        parameters: tuple[Any, Any, Any] | None = None,
    ) -> tuple[Any, Any]:
        """(y_bar_rx, C_s,t): F_rx and the preset's vector (eq. 16, 22), the gain undone before.

        ``parameters`` : as for ``encode_features``.
        """
        prior = self._prior(parameters)
        y_bar, state = self.feature_decoder(symbols_hat, rate_index, state, prior=prior)
        return self.vector_rx(y_bar, omega_index), state

    def _prior(self, parameters: tuple[Any, Any, Any] | None) -> Any:
        if parameters is None or not self.config.hyperprior_coding:
            return None
        return prior_of(parameters)

    @property
    def coding_layers(self) -> tuple[Any, ...]:
        """What stage 2 trains: F_tx and F_rx with their vectors."""
        return self.feature_encoder, self.feature_decoder, self.vector_tx, self.vector_rx

    def _masks(self, latent: Any) -> Any:
        return self.spatial_prior.masks(*latent.shape[1:3])

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
