"""The convolutions of VGG16 up to relu5_3, the trunk that LPIPS and DISTS share."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.metrics.weights import CONV_CHANNELS, Vgg16Weights

#: Convolutions of each stage; the features are the last ReLU of a stage.
STAGES = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))


class Vgg16Trunk(keras.layers.Layer):
    """VGG16 without its classifier, frozen: five feature maps, 1/1 to 1/16 of the size.

    Parameters
        weights : ``Vgg16Weights``; dtype : "float32", or "mixed_bfloat16" as a training loss.
    Input
        images : [n, height, width, 3], already normalised as the metric wants it.
        pool : function of a feature map, between two stages (keyword: Keras takes only tensors
        by position).
    Output
        five tensors [n, height / 2**s, width / 2**s, c_s], s = 0 ... 4, in the compute dtype.
    """

    def __init__(self, weights: Vgg16Weights, *, dtype: str = "float32", name: str = "vgg16"):
        super().__init__(trainable=False, dtype=dtype, name=name)
        inputs = (3, *CONV_CHANNELS[:-1])
        self.kernels = [
            self._frozen(f"kernel_{i}", weights.kernels[i], (3, 3, inputs[i], c))
            for i, c in enumerate(CONV_CHANNELS)
        ]
        self.biases = [
            self._frozen(f"bias_{i}", weights.biases[i], (c,)) for i, c in enumerate(CONV_CHANNELS)
        ]
        self.built = True

    def _frozen(self, name: str, value: np.ndarray, shape: tuple[int, ...]) -> Any:
        variable = self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)
        variable.assign(value)
        return variable

    def call(self, images: Any, *, pool: Callable[[Any], Any]) -> list[Any]:
        features = []
        x = images
        for stage, convolutions in enumerate(STAGES):
            x = pool(x) if stage else x
            for i in convolutions:
                x = self._convolve(x, i)
            features.append(x)
        return features

    def _convolve(self, x: Any, i: int) -> Any:
        kernel = ops.cast(self.kernels[i], x.dtype)
        x = ops.conv(x, kernel, padding="same", data_format="channels_last")
        return ops.relu(x + ops.cast(self.biases[i], x.dtype))
