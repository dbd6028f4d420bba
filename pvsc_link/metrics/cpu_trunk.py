"""VGG16's feature maps of one frame at a time, on a CPU under TensorFlow.

Most of the time of LPIPS and DISTS is spent in these convolutions. Three things make them faster
than the layer ``perceptual.Vgg16Trunk``, whose feature maps they equal up to float32 rounding:

* Convolutions of at least 128 input channels, 86 % of all multiplications, are computed by
  ``winograd.py``. For 64 channels a direct convolution is as fast.
* Both distances normalise a frame alike, so the first stage is computed once for both.
* Feature maps stay in memory that TensorFlow and numba share, without copies.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pvsc_link.metrics.winograd import WinogradConvolution, shared

_FEWEST_CHANNELS = 128
#: Frames whose first stage is kept: a reference frame and the frame that is compared with it.
_KEPT_FRAMES = 2


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU, where the Keras layers are faster."""
    return bool(tf.config.list_physical_devices("GPU"))


class CpuEngine:
    """Features and distances of single frames, as those of a layer.

    Parameters
        layer : ``perceptual.Lpips`` or ``perceptual.Dists``
        trunk : may serve several engines
    """

    def __init__(self, layer: Any, trunk: "CpuTrunk"):
        self._trunk = trunk
        self._pool = tf.function(layer.pool, autograph=False)
        self._finished = tf.function(layer.finished, autograph=False)
        self._distance = tf.function(layer.distance, autograph=False)

    def features(self, frame: np.ndarray) -> list[Any]:
        """Features of one frame [height, width, 3], float32 RGB in [0, 1]."""
        return self._finished(frame[None], self._trunk(frame, self._pool))

    def distance(self, features: list[Any], features_hat: list[Any]) -> float:
        """Distance of two results of :meth:`features`."""
        return float(self._distance(features, features_hat)[0])


class CpuTrunk:
    """Five feature maps of a frame. Threads may share an object, at once.

    Parameters
        layer : ``Vgg16Trunk``, float32
        stages : indices of its convolutions by stage
        mean, std : normalisation of RGB in [0, 1], each [3]
    """

    def __init__(
        self, layer: Any, stages: tuple[tuple[int, ...], ...], mean: np.ndarray, std: np.ndarray
    ):
        self._stages = stages
        self._mean, self._std = mean, std
        self._direct = tf.function(layer.convolve, autograph=False)
        self._winograd = {
            i: WinogradConvolution(np.asarray(kernel), np.asarray(layer.biases[i]))
            for i, kernel in enumerate(layer.kernels)
            if kernel.shape[2] >= _FEWEST_CHANNELS
        }
        self._of_thread = threading.local()

    def __call__(self, frame: np.ndarray, pool: Callable[[Any], Any]) -> list[tf.Tensor]:
        """Feature maps [1, height / 2**s, width / 2**s, c_s], s = 0 ... 4.

        Input: ``frame`` : [height, width, 3], float32 RGB in [0, 1]; ``pool`` : halves the size
        between two stages.
        """
        maps = [self._first_stage(frame)]
        for stage in self._stages[1:]:
            maps.append(self._stage(pool(maps[-1]), stage))
        return maps

    def _first_stage(self, frame: np.ndarray) -> tf.Tensor:
        if not hasattr(self._of_thread, "first"):
            self._of_thread.first = deque(maxlen=_KEPT_FRAMES)
        first: deque[tuple[np.ndarray, tf.Tensor]] = self._of_thread.first
        for known, features in first:
            if np.array_equal(known, frame):
                return features
        x = tf.constant((frame - self._mean) / self._std)[None]
        features = self._stage(x, self._stages[0])
        first.append((frame.copy(), features))
        return features

    def _stage(self, x: tf.Tensor, stage: tuple[int, ...]) -> tf.Tensor:
        for i in stage:
            if i not in self._winograd:
                x = self._direct(x, i)
                continue
            # The memory of an eager tensor, without a copy; ``shared`` is the way back.
            x = x if isinstance(x, np.ndarray) else np.asarray(memoryview(x))[0]
            x = self._winograd[i](x)
        return shared(x[None]) if isinstance(x, np.ndarray) else x
