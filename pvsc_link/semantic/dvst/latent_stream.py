"""One of the two streams of DVST: between a latent and what is left of it after the channel.

    y --> H_enc --> Q --> z_hat (b_z) --> H_dec --> w, mu, sigma
    y / w - mu --> Q --> entropy --> rate rule --> k (b_k)
    y / w - mu, k --> F_tx --> s  ~~ channel ~~>  s_hat, k --> F_rx --> w (. + mu) --> y_tilde

The NTSCC recipe: rounding serves the entropy model alone, what is sent is not rounded, and a unit
that is not sent is its prior mean. All layers are PVSC's; neither a neighbouring unit nor a frame
before has a part in coding or feature coding.
"""

from typing import Any

import keras

from pvsc_link.semantic import quantisation
from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.feature_codec import FeatureDecoder, FeatureEncoder
from pvsc_link.semantic.hyperprior import HyperDecoder, HyperEncoder
from pvsc_link.semantic.latent_coding import code_units, quantised_hyper_latent
from pvsc_link.semantic.symbol_mapping import normalise_power

_ONE_BLOCK = (1.0,)


class LatentStream(ConfiguredLayer):
    """Entropy model, rate rule and feature codecs of one stream.

    Parameters: ``config`` : PvscConfig without temporal and spatial coding; with ``intra`` H_dec
    takes no context.
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

    def map_to_symbols(self, y: Any, z_hat: Any, context_e: Any = None) -> tuple[Any, Any]:
        """(rate_index, symbols_padded) of a latent, at inference."""
        parameters = self.parameters_of(z_hat, context_e)
        rate_index = self.quantise(y, parameters)["rate_index"]
        return rate_index, self.transmit(y, parameters, rate_index)

    def receive(
        self, symbols_hat: Any, rate_index: Any, parameters: tuple[Any, Any, Any]
    ) -> tuple[Any, Any]:
        """(y_bar, y_tilde) out of equalised symbols (F_rx), each [batch, Hy, Wy, channels_y]."""
        with keras.name_scope(self.name):
            y_bar, _ = self.feature_decoder(symbols_hat, rate_index)
        return y_bar, quantisation.dequantise_blocks(y_bar, parameters, None, _ONE_BLOCK)
