"""DC blocks [11]-[13] of section III-A, the 2x resampling blocks around them, pixel (un)shuffle."""

from typing import Any

import keras
from keras import layers, ops


def wsilu(features: Any) -> Any:
    """WSiLU(x) = x * sigmoid(4 x), the activation of the DC blocks. Shape and dtype kept."""
    return features * ops.sigmoid(4.0 * features)


def pixel_unshuffle(images: Any, factor: int) -> Any:
    """Space to depth. Input: [batch, height, width, c]; both sizes divisible by ``factor``.

    Output: [batch, height / factor, width / factor, factor * factor * c], channels ordered
    (row in patch, column in patch, c).
    """
    height, width, channels = images.shape[1:]
    rows, columns = height // factor, width // factor
    patches = ops.reshape(images, (-1, rows, factor, columns, factor, channels))
    patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (-1, rows, columns, factor * factor * channels))


def pixel_shuffle(features: Any, factor: int) -> Any:
    """Depth to space, the inverse of ``pixel_unshuffle``.

    Input: [batch, height, width, factor * factor * c].
    Output: [batch, height * factor, width * factor, c].
    """
    rows, columns, depth = features.shape[1:]
    channels = depth // (factor * factor)
    patches = ops.reshape(features, (-1, rows, columns, factor, factor, channels))
    patches = ops.transpose(patches, (0, 1, 3, 2, 4, 5))
    return ops.reshape(patches, (-1, rows * factor, columns * factor, channels))


def convolution(channels: int, kernel_size: int = 1, strides: int = 1, **kwargs: Any) -> Any:
    """Channels-last convolution with "same" padding, whatever the global image format says.

    On even sizes a stride of 2 pads below and to the right only, so that the first 2x2 taps of a
    3x3 kernel see exactly one 2x2 block.
    """
    kwargs.setdefault("kernel_initializer", _fan_in_uniform())
    return layers.Conv2D(
        channels, kernel_size, strides, "same", data_format="channels_last", **kwargs
    )


def _fan_in_uniform() -> keras.initializers.Initializer:
    """Uniform within 1 / sqrt(fan_in): a third of the usual variance, as there are no norms.

    With unit gain in every residual branch, dozens of blocks in a recurrent loop would blow up.
    """
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


class DepthConvBlock(keras.layers.Layer):
    """DC block: a depthwise 3x3 residual branch, then a gated pointwise one.

    x <- x + [1x1, WSiLU, 3x3 depthwise, 1x1](x);
    x <- x + [1x1 to 4C, WSiLU, sum of the two halves, 1x1 from 2C](x).

    Parameters
    ----------
    channels : width C of the block; an input of another width first passes a 1x1 adaptor
    shortcut : adds the adapted input once more at the end (used after resampling)
    zero_init : both residual branches start at zero, so that the block starts as its adaptor

    Input
    -----
    features : [batch, height, width, any], float

    Output
    ------
    features : [batch, height, width, channels], float
    """

    def __init__(
        self, channels: int, *, shortcut: bool = False, zero_init: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.channels, self.shortcut, self.zero_init = channels, shortcut, zero_init
        own = {"dtype": self.dtype_policy}
        last = {**own, "kernel_initializer": "zeros" if zero_init else _fan_in_uniform()}
        self.adaptor: Any = None  # known once the input width is
        self.mix_in = convolution(channels, name="mix_in", **own)
        self.depthwise = layers.DepthwiseConv2D(
            3,
            padding="same",
            data_format="channels_last",
            # Its fan-in is the nine taps; Keras would count all channels and start near zero.
            depthwise_initializer=keras.initializers.RandomUniform(-1 / 3, 1 / 3),
            name="depthwise",
            **own,
        )
        self.mix_out = convolution(channels, name="mix_out", **last)
        self.gate_in = convolution(4 * channels, name="gate_in", **own)
        self.gate_out = convolution(channels, name="gate_out", **last)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] != self.channels:
            self.adaptor = convolution(self.channels, name="adaptor", dtype=self.dtype_policy)
            self.adaptor.build(input_shape)
        inner = (*input_shape[:-1], self.channels)
        for layer in (self.mix_in, self.depthwise, self.mix_out, self.gate_in):
            layer.build(inner)
        self.gate_out.build((*input_shape[:-1], 2 * self.channels))

    def call(self, features: Any) -> Any:
        start = features if self.adaptor is None else self.adaptor(features)
        local = start + self.mix_out(self.depthwise(wsilu(self.mix_in(start))))
        first, second = ops.split(wsilu(self.gate_in(local)), 2, axis=-1)
        end = local + self.gate_out(first + second)
        return end + start if self.shortcut else end

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.channels)

    def get_config(self) -> dict[str, Any]:
        own = {"channels": self.channels, "shortcut": self.shortcut, "zero_init": self.zero_init}
        return {**super().get_config(), **own}


class DepthConvStack(keras.layers.Layer):
    """A run of DC blocks of one width; with ``depth`` 0 it is the identity.

    Parameters: ``channels`` : width; ``depth`` : number of blocks; ``zero_init`` : as in
    ``DepthConvBlock``.
    Input: [batch, height, width, any]. Output: [batch, height, width, channels].
    """

    def __init__(self, channels: int, depth: int, *, zero_init: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.depth, self.zero_init = channels, depth, zero_init
        own = {"zero_init": zero_init, "dtype": self.dtype_policy}
        self.blocks = [DepthConvBlock(channels, name=f"block_{i}", **own) for i in range(depth)]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for block in self.blocks:
            block.build(input_shape)
            input_shape = block.compute_output_shape(input_shape)

    def call(self, features: Any) -> Any:
        for block in self.blocks:
            features = block(features)
        return features

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.channels) if self.depth else input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"channels": self.channels, "depth": self.depth, "zero_init": self.zero_init}
        return {**super().get_config(), **own}


class ResidualDown(keras.layers.Layer):
    """Halves both sizes: 2x2 convolution of stride 2, then a DC block with shortcut.

    Parameters: ``channels`` : output width; ``zero_init`` : as in ``DepthConvBlock``.
    Input: [batch, height, width, any]. Output: [batch, height / 2, width / 2, channels].
    """

    def __init__(self, channels: int, *, zero_init: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.zero_init = channels, zero_init
        own = {"dtype": self.dtype_policy}
        self.down = convolution(channels, 2, 2, name="down", **own)
        self.block = DepthConvBlock(
            channels, shortcut=True, zero_init=zero_init, name="block", **own
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.down.build(input_shape)
        self.block.build(self.down.compute_output_shape(input_shape))

    def call(self, features: Any) -> Any:
        return self.block(self.down(features))

    def get_config(self) -> dict[str, Any]:
        own = {"channels": self.channels, "zero_init": self.zero_init}
        return {**super().get_config(), **own}


class ResidualUp(keras.layers.Layer):
    """Doubles both sizes: 1x1 convolution and pixel shuffle, then a DC block with shortcut.

    The 1x1 kernel starts with one copy for all four sub-pixels, i.e. as nearest-neighbour
    interpolation, which leaves no checkerboard to unlearn.

    Parameters: ``channels`` : output width; ``zero_init`` : as in ``DepthConvBlock``.
    Input: [batch, height, width, any]. Output: [batch, 2 * height, 2 * width, channels].
    """

    def __init__(self, channels: int, *, zero_init: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.zero_init = channels, zero_init
        own = {"dtype": self.dtype_policy}
        self.up = SubPixelUp(channels, name="up", **own)
        self.block = DepthConvBlock(
            channels, shortcut=True, zero_init=zero_init, name="block", **own
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.up.build(input_shape)
        self.block.build(self.up.compute_output_shape(input_shape))

    def call(self, features: Any) -> Any:
        return self.block(self.up(features))

    def get_config(self) -> dict[str, Any]:
        own = {"channels": self.channels, "zero_init": self.zero_init}
        return {**super().get_config(), **own}


class SubPixelUp(keras.layers.Layer):
    """Doubles both sizes by a convolution to 4C and a pixel shuffle, started as nearest neighbour.

    Parameters: ``channels`` : output width C; ``kernel_size`` : of the convolution.
    Input: [batch, height, width, any]. Output: [batch, 2 * height, 2 * width, channels].
    """

    def __init__(self, channels: int, *, kernel_size: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels, self.kernel_size = channels, kernel_size
        start = {"kernel_initializer": _repeat_sub_pixels, "dtype": self.dtype_policy}
        self.spread = convolution(4 * channels, kernel_size, name="spread", **start)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.spread.build(input_shape)

    def call(self, features: Any) -> Any:
        return pixel_shuffle(self.spread(features), 2)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[Any, ...]:
        batch, height, width, _ = input_shape
        return (batch, height and 2 * height, width and 2 * width, self.channels)

    def get_config(self) -> dict[str, Any]:
        own = {"channels": self.channels, "kernel_size": self.kernel_size}
        return {**super().get_config(), **own}


def _repeat_sub_pixels(shape: tuple[int, ...], dtype: Any = None) -> Any:
    one = _fan_in_uniform()((*shape[:-1], shape[-1] // 4), dtype=dtype)
    return ops.tile(one, (1,) * (len(shape) - 1) + (4,))
