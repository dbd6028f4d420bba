"""LPIPS and DISTS as metrics: the Keras layers, compiled once per frame size."""

import functools
from typing import Any, ClassVar

import keras
import numpy as np

from pvsc_link.metrics.dists import Dists
from pvsc_link.metrics.lpips import Lpips
from pvsc_link.metrics.metric import Metric


class ReferenceModel(keras.Model):
    """Features of the reference frames; ``predict_on_batch`` compiles it."""

    def __init__(self, layer: Any):
        super().__init__(dtype="float32")
        self.layer = layer
        _compile(self)

    def call(self, images: Any) -> list[Any]:
        return self.layer.features(images)


class ComparisonModel(keras.Model):
    """Distance of shown frames, given the features of their references."""

    def __init__(self, layer: Any):
        super().__init__(dtype="float32")
        self.layer = layer
        _compile(self)

    def call(self, inputs: list[Any]) -> Any:
        images_hat, *features = inputs
        return self.layer.distance(features, self.layer.features(images_hat))


def _compile(model: keras.Model) -> None:
    # TensorFlow's XLA is slower than its plain graph on a CPU (VGG16 at 416x240: 1.32 s against
    # 1.14 s, DISTS 2.61 s against 1.21 s); JAX has nothing but XLA.
    model.compile(jit_compile=keras.backend.backend() == "jax")


class PerceptualMetric(Metric):
    """A distance of VGG16 features, one frame at a time.

    Memory grows with the area, not with the number of frames: a reference holds 49 MB (LPIPS) or
    50 MB (DISTS) at 416x240 and 1.0 GB at 1920x1080, where the process peaks at 5.3 GB (LPIPS)
    or 6.9 GB (DISTS). Time on one core at 416x240: 0.6 s for a reference, 0.65 s to compare.
    """

    higher_is_better = False
    version = 1
    layer: ClassVar[type]

    @functools.cached_property
    def _models(self) -> tuple[ReferenceModel, ComparisonModel]:
        layer = self.layer()
        return ReferenceModel(layer), ComparisonModel(layer)

    def _reference(self, frame: np.ndarray) -> list[np.ndarray]:
        return self._models[0].predict_on_batch(frame[None])

    def _compare(self, reference: list[np.ndarray], frame_hat: np.ndarray) -> float:
        return float(self._models[1].predict_on_batch([frame_hat[None], *reference])[0])


class LpipsMetric(PerceptualMetric):
    """LPIPS v0.1 with VGG16, RGB."""

    name = "lpips"
    column = "lpips"
    layer = Lpips


class DistsMetric(PerceptualMetric):
    """DISTS, RGB."""

    name = "dists"
    column = "dists"
    layer = Dists
