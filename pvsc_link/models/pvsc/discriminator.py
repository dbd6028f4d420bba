"""PatchGAN discriminator and hinge losses for L_adv (eq. 27; the recipe of the paper's [42])."""

from typing import Any

import keras
from keras import ops

from pvsc_link.types import InputError

#: Filters stop growing at this multiple of the first layer's.
MAX_GROWTH = 8
KERNEL_SIZE = 4


class Discriminator(keras.layers.Layer):
    """Realism score per patch of a frame: strided 4x4 convolutions, no fully connected layer.

    The paper names the adversarial loss and no architecture; this is the PatchGAN of [42]. It sees
    the picture alone, where eq. 27 writes every loss given y_t.
    Group normalisation stands where [42] has batch normalisation: it has as many weights, but
    a score then depends on its own frame alone, nothing is assigned while running (a function
    of the weights under every backend), and a batch of one works.

    Parameters
    ----------
    num_filters : int, filters of the first layer (64 gives 2.77 M weights)
    num_layers : int, stride-2 layers; a score sees 2 ** num_layers pixels per step
    num_groups : int, groups of the normalisation; divides num_filters

    Input
    -----
    frames : [batch, H, W, 3], float RGB in [0, 1]; more channels for stacked frames

    Output
    ------
    [batch, H / 2 ** num_layers, W / 2 ** num_layers, 1], float32, higher is more real; sizes
    are rounded up
    """

    def __init__(
        self, num_filters: int = 64, num_layers: int = 3, num_groups: int = 16, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if num_filters % num_groups or num_layers < 1:
            raise InputError(
                "size of the discriminator",
                found=(num_filters, num_layers, num_groups),
                allowed="num_filters a multiple of num_groups, num_layers at least 1",
                remedy="Use num_groups=4 for a tiny one.",
            )
        self.num_filters, self.num_layers, self.num_groups = num_filters, num_layers, num_groups
        # The last hidden layer keeps the resolution, as in the pix2pix PatchGAN.
        filters = [num_filters * min(2**n, MAX_GROWTH) for n in range(num_layers + 1)]
        strides = [2] * num_layers + [1]
        self.convolutions = [
            self._convolution(count, stride, f"conv_{n}", use_bias=n == 0)
            for n, (count, stride) in enumerate(zip(filters, strides, strict=True))
        ]
        self.norms = [
            keras.layers.GroupNormalization(num_groups, dtype=self.dtype_policy, name=f"norm_{n}")
            for n in range(1, num_layers + 1)
        ]
        self.score = self._convolution(1, 1, "score", use_bias=True)

    def _convolution(
        self, filters: int, stride: int, name: str, use_bias: bool
    ) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            filters,
            KERNEL_SIZE,
            strides=stride,
            padding="same",
            use_bias=use_bias,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=self.dtype_policy,
            name=name,
        )

    def get_config(self) -> dict[str, Any]:
        sizes = ("num_filters", "num_layers", "num_groups")
        return {**super().get_config(), **{name: getattr(self, name) for name in sizes}}

    def build(self, frames_shape: Any) -> None:
        shape = (None, None, None, frames_shape[-1])
        for index, convolution in enumerate(self.convolutions):
            convolution.build(shape)
            shape = (None, None, None, convolution.filters)
            if index:
                self.norms[index - 1].build(shape)
        self.score.build(shape)

    def compute_output_shape(self, frames_shape: Any) -> tuple:
        step = 2**self.num_layers
        size = [None if s is None else -(-s // step) for s in frames_shape[1:3]]
        return (frames_shape[0], *size, 1)

    def call(self, frames: Any) -> Any:
        features = ops.leaky_relu(self.convolutions[0](frames * 2.0 - 1.0), 0.2)
        for convolution, norm in zip(self.convolutions[1:], self.norms, strict=True):
            features = ops.leaky_relu(norm(convolution(features)), 0.2)
        return ops.cast(self.score(features), "float32")


def discriminator_loss(score_real: Any, score_fake: Any) -> Any:
    """Hinge loss of the discriminator: scalar, float32.

    Input: scores of real and of reconstructed frames, any shape, the latter computed from
    frames without gradient.
    """
    real, fake = ops.relu(1.0 - score_real), ops.relu(1.0 + score_fake)
    return 0.5 * (ops.mean(real) + ops.mean(fake))


def generator_loss(score_fake: Any) -> Any:
    """L_adv of eq. 27 for a reconstruction: scalar, float32, lower is more real."""
    return -ops.mean(score_fake)
