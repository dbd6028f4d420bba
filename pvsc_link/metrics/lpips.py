"""LPIPS v0.1 with VGG16 (Zhang et al., 2018), as a measure and as a training loss."""

from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.metrics.vgg import Vgg16Trunk
from pvsc_link.metrics.weights import Vgg16Weights, vgg16_weights

#: Input normalisation of LPIPS, for RGB in [-1, 1].
SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)

_MEASURE_EPSILON = 1e-10  # beside the norm, as in the official code
_LOSS_EPSILON = 1e-8  # under the root: bounds the gradient by 1 / sqrt(1e-8)


class Lpips(keras.layers.Layer):
    """Learned perceptual image patch similarity, per image; lower is better.

    Parameters
        weights : ``Vgg16Weights``, by default those of :func:`vgg16_weights`.
        finite_gradient : False gives the official value, whose normalisation has a gradient of
        up to 1e10 (or NaN, by backend) where all features are zero; True bounds it by 1e4 (the
        epsilon goes under the root) and moves the value by less than 1e-5: use it in a loss.
        dtype : "float32", or "mixed_bfloat16" for a faster loss (norms and sums stay float32).
    Input
        images, images_hat : [n, height, width, 3], RGB in [0, 1], height and width >= 16.
    Output
        [n], float32.
    """

    def __init__(
        self,
        weights: Vgg16Weights | None = None,
        *,
        finite_gradient: bool = False,
        dtype: str = "float32",
        name: str = "lpips",
    ):
        super().__init__(trainable=False, dtype="float32", name=name)
        weights = weights or vgg16_weights()
        self.finite_gradient = finite_gradient
        self.trunk = Vgg16Trunk(weights, dtype=dtype)
        self.linear = list(weights.linear)
        self.built = True

    def call(self, images: Any, images_hat: Any) -> Any:
        return self.distance(self.features(images), self.features(images_hat))

    def features(self, images: Any) -> list[Any]:
        """Five unit-norm feature maps [n, h_s, w_s, c_s], float32, of ``images``."""
        x = (2.0 * images - 1.0 - ops.convert_to_tensor(SHIFT)) / ops.convert_to_tensor(SCALE)
        return [self._unit(ops.cast(f, "float32")) for f in self.trunk(x, pool=_max_pool)]

    def distance(self, features: list[Any], features_hat: list[Any]) -> Any:
        """LPIPS [n] of two results of :meth:`features`."""
        total = 0.0
        for f, f_hat, linear in zip(features, features_hat, self.linear, strict=True):
            per_channel = ops.mean(ops.square(f - f_hat), axis=(1, 2))
            total = total + ops.sum(per_channel * ops.convert_to_tensor(linear), axis=-1)
        return total

    def _unit(self, x: Any) -> Any:
        energy = ops.sum(ops.square(x), axis=-1, keepdims=True)
        if self.finite_gradient:
            return x * ops.rsqrt(energy + _LOSS_EPSILON)
        return x / (ops.sqrt(energy) + _MEASURE_EPSILON)


def _max_pool(x: Any) -> Any:
    # The published weights were trained with floor division of odd sizes, hence "valid".
    return ops.max_pool(x, 2, strides=2, padding="valid", data_format="channels_last")
