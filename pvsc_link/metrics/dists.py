"""DISTS (Ding et al., 2020): structure and texture similarity on VGG16 features."""

from importlib.resources import files
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.metrics.vgg import Vgg16Trunk
from pvsc_link.metrics.weights import STAGE_CHANNELS, Vgg16Weights, vgg16_weights

#: ImageNet mean and standard deviation, for RGB in [0, 1].
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

_STABILISER = 1e-6  # c1 and c2 of the similarity ratios
_POOL_EPSILON = 1e-12
_HANNING = np.outer([0.5, 1.0, 0.5], [0.5, 1.0, 0.5]).astype(np.float32) / 4.0


class Dists(keras.layers.Layer):
    """Deep image structure and texture similarity, per image; lower is better.

    Parameters
        weights : ``Vgg16Weights``, by default those of :func:`vgg16_weights`.
    Input
        images, images_hat : [n, height, width, 3], float32 RGB in [0, 1].
    Output
        [n], float32.
    """

    def __init__(self, weights: Vgg16Weights | None = None, *, name: str = "dists"):
        super().__init__(trainable=False, dtype="float32", name=name)
        self.trunk = Vgg16Trunk(weights or vgg16_weights())
        self.alpha, self.beta = _stage_weights()
        self.built = True

    def call(self, images: Any, images_hat: Any) -> Any:
        return self.distance(self.features(images), self.features(images_hat))

    def features(self, images: Any) -> list[Any]:
        """The image itself and five feature maps [n, h_s, w_s, c_s]."""
        x = (images - ops.convert_to_tensor(MEAN)) / ops.convert_to_tensor(STD)
        return [images, *self.trunk(x, pool=_l2_pool)]

    def distance(self, features: list[Any], features_hat: list[Any]) -> Any:
        """DISTS [n] of two results of :meth:`features`."""
        similarity = 0.0
        for f, f_hat, alpha, beta in zip(
            features, features_hat, self.alpha, self.beta, strict=True
        ):
            texture, structure = _similarities(f, f_hat)
            weighted = ops.convert_to_tensor(alpha) * texture
            weighted = weighted + ops.convert_to_tensor(beta) * structure
            similarity = similarity + ops.sum(weighted, axis=-1)
        return 1.0 - similarity


def _similarities(x: Any, y: Any) -> tuple[Any, Any]:
    """Texture (means) and structure (covariance) similarity [n, c] of two feature maps."""
    mean_x = ops.mean(x, axis=(1, 2), keepdims=True)
    mean_y = ops.mean(y, axis=(1, 2), keepdims=True)
    # Centred moments: E[xy] - E[x]E[y] cancels badly in float32.
    var_x = ops.mean(ops.square(x - mean_x), axis=(1, 2))
    var_y = ops.mean(ops.square(y - mean_y), axis=(1, 2))
    covariance = ops.mean((x - mean_x) * (y - mean_y), axis=(1, 2))
    mean_x, mean_y = ops.squeeze(mean_x, axis=(1, 2)), ops.squeeze(mean_y, axis=(1, 2))
    energy = ops.square(mean_x) + ops.square(mean_y)
    texture = (2.0 * mean_x * mean_y + _STABILISER) / (energy + _STABILISER)
    structure = (2.0 * covariance + _STABILISER) / (var_x + var_y + _STABILISER)
    return texture, structure


def _l2_pool(x: Any) -> Any:
    """Root of the Hanning-weighted local energy, every second sample."""
    kernel = np.repeat(_HANNING[:, :, None, None], x.shape[-1], axis=2)
    # One sample on every side, then "valid": "same" would pad even sizes on one side only.
    energy = ops.pad(ops.square(x), [[0, 0], [1, 1], [1, 1], [0, 0]])
    pooled = ops.depthwise_conv(
        energy,
        ops.convert_to_tensor(kernel),
        strides=2,
        padding="valid",
        data_format="channels_last",
    )
    return ops.sqrt(pooled + _POOL_EPSILON)


def _stage_weights() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The learned alpha (texture) and beta (structure), summing to 1, cut into the six stages."""
    with files("pvsc_link.metrics").joinpath("dists_alpha_beta.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        alpha, beta = arrays["alpha"], arrays["beta"]
    total = alpha.sum() + beta.sum()
    cuts = np.cumsum((3, *STAGE_CHANNELS))[:-1]
    return np.split(alpha / total, cuts), np.split(beta / total, cuts)
