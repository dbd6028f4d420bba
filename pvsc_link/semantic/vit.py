"""ViT and contextual ViT blocks of F_tx and F_rx (section III-A), pre-norm, windowed attention.

The paper takes the blocks of its reference [24], whose code is not public; pre-norm, an MLP of
``mlp_ratio`` and 8x8 windows (the frame is padded to 128 = 16 * 8 pixels) are choices that fit
its Table V. Weights per block, d = ``embed_dim`` and ``mlp_ratio`` 4: ViT 12 d^2, contextual
ViT 16 d^2, plus vectors.
"""

import math
from typing import Any

import keras
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.token_grid import TokenGrid
from pvsc_link.semantic.window_attention import WindowAttention

NORM_EPSILON = 1e-5


def layer_norm(name: str, policy: Any) -> keras.layers.Layer:
    """Layer normalisation over the channels of a token."""
    return keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype=policy, name=name)


class Mlp(ConfiguredLayer):
    """Two-layer perceptron with GELU, applied to every token.

    Parameters: ``config`` : PvscConfig; ``embed_dim`` and ``mlp_ratio`` are used.
    Input and output: [..., embed_dim], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        dim, policy = self.config.embed_dim, self.dtype_policy
        self.expand = keras.layers.Dense(dim * self.config.mlp_ratio, dtype=policy, name="expand")
        self.reduce = keras.layers.Dense(dim, dtype=policy, name="reduce")

    def build(self, input_shape: Any = None) -> None:
        dim = self.config.embed_dim
        self.expand.build((None, dim))
        self.reduce.build((None, dim * self.config.mlp_ratio))

    def call(self, tokens: Any) -> Any:
        return self.reduce(ops.gelu(self.expand(tokens)))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map."""
        kernels = (self.expand.kernel, self.reduce.kernel)
        return height * width * sum(math.prod(kernel.shape) for kernel in kernels)


class VitBlock(ConfiguredLayer):
    """Self-attention in windows, then an MLP, each behind a norm and a shortcut (section III-A).

    Parameters
    ----------
    config : PvscConfig
    shifted : bool, windows moved by half a window (every second block of a stack)

    Input
    -----
    tokens : [batch, H, W, embed_dim], float
    grid : TokenGrid when some places hold no unit, else None

    Output
    ------
    [batch, H, W, embed_dim], float; what stands in places without a unit has no meaning
    """

    def __init__(self, config: Any, shifted: bool = False, **kwargs: Any):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.shifted = shifted
        self.attention_norm = layer_norm("attention_norm", policy)
        self.attention = WindowAttention(self.config, shifted, dtype=policy, name="attention")
        self.mlp_norm = layer_norm("mlp_norm", policy)
        self.mlp = Mlp(self.config, dtype=policy, name="mlp")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifted": self.shifted}

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp):
            layer.build((None, None, None, self.config.embed_dim))

    def call(self, tokens: Any, grid: TokenGrid | None = None) -> Any:
        tokens = tokens + self.attention(self.attention_norm(tokens), key_grid=grid)
        return tokens + self.mlp(self.mlp_norm(tokens))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map (norms and shortcuts not counted)."""
        return self.attention.macs(height, width) + self.mlp.macs(height, width)


class ContextualVitBlock(ConfiguredLayer):
    """Self-attention, cross-attention to a context map, MLP (section III-A, Fig. 4(a)).

    The context is the previous decoded state C_s,t-1, or the block that was processed first.
    A token sees the context in its own window.

    Parameters
    ----------
    config : PvscConfig
    shifted : bool, windows moved by half a window

    Input
    -----
    tokens, context : [batch, H, W, embed_dim], float
    grid, context_grid : TokenGrid of either map when some places hold no unit, else None

    Output
    ------
    [batch, H, W, embed_dim], float; what stands in places without a unit has no meaning
    """

    def __init__(self, config: Any, shifted: bool = False, **kwargs: Any):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.shifted = shifted
        self.self_norm = layer_norm("self_norm", policy)
        self.self_attention = WindowAttention(
            self.config, shifted, dtype=policy, name="self_attention"
        )
        self.cross_norm = layer_norm("cross_norm", policy)
        self.context_norm = layer_norm("context_norm", policy)
        self.cross_attention = WindowAttention(
            self.config, shifted, dtype=policy, name="cross_attention"
        )
        self.mlp_norm = layer_norm("mlp_norm", policy)
        self.mlp = Mlp(self.config, dtype=policy, name="mlp")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifted": self.shifted}

    def build(self, input_shape: Any = None) -> None:
        norms = (self.self_norm, self.cross_norm, self.context_norm, self.mlp_norm)
        for layer in (*norms, self.self_attention, self.cross_attention, self.mlp):
            layer.build((None, None, None, self.config.embed_dim))

    def call(
        self,
        tokens: Any,
        context: Any,
        grid: TokenGrid | None = None,
        context_grid: TokenGrid | None = None,
    ) -> Any:
        tokens = tokens + self.self_attention(self.self_norm(tokens), key_grid=grid)
        tokens = tokens + self.cross_attention(
            self.cross_norm(tokens), self.context_norm(context), key_grid=context_grid
        )
        return tokens + self.mlp(self.mlp_norm(tokens))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map (norms and shortcuts not counted)."""
        attention = (self.self_attention, self.cross_attention)
        return sum(layer.macs(height, width) for layer in (*attention, self.mlp))
