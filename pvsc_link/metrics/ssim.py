"""SSIM (Wang et al., 2004) and MS-SSIM (Wang et al., 2003), as the papers' code computes them.

Local means and variances are taken under a Gaussian window of 11x11 pixels (sigma 1.5), only where
the whole window lies inside of the picture. R, G and B are measured by themselves and averaged.
"""

import numpy as np
from scipy.ndimage import correlate1d

from pvsc_link.metrics.base import Metric

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 at a range L of 1

#: Exponents of the five scales, finest first (Wang et al., 2003, section 3.2).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: The window must fit into a picture that was halved four times: (11 - 1) * 16 + 1.
MS_SSIM_SMALLEST_SIDE = (_WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1


def _gaussian() -> np.ndarray:
    taps = np.exp(-((np.arange(_WINDOW) - _WINDOW // 2) ** 2) / (2 * _SIGMA**2))
    return taps / taps.sum()


def _local_mean(image: np.ndarray) -> np.ndarray:
    """Gaussian mean [height - 10, width - 10, 3] of ``image`` [height, width, 3]."""
    margin = _WINDOW // 2
    rows = correlate1d(image, _gaussian(), axis=0)[margin:-margin]
    return correlate1d(rows, _gaussian(), axis=1)[:, margin:-margin]


def _halved(image: np.ndarray) -> np.ndarray:
    """Mean of 2x2 pixels.

    An odd size gets a border of zeros on that side of the mean's window, as in ``pytorch_msssim``.
    """
    height, width = image.shape[:2]
    image = np.pad(image, [(height % 2, height % 2), (width % 2, width % 2), (0, 0)])
    height, width = image.shape[0] // 2, image.shape[1] // 2
    blocks = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return blocks.mean(axis=(1, 3))


def _statistics(image: np.ndarray) -> list[np.ndarray]:
    """The picture in double precision, its local mean and its local variance."""
    image = image.astype(np.float64)
    mean = _local_mean(image)
    return [image, mean, _local_mean(image * image) - mean * mean]


def _similarities(
    reference: list[np.ndarray], image_hat: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """SSIM, and its part of contrast and structure, each [3]: means over the picture by colour."""
    image, mean, variance = reference
    _, mean_hat, variance_hat = _statistics(image_hat)
    covariance = _local_mean(image * image_hat) - mean * mean_hat
    structure = (2 * covariance + _C2) / (variance + variance_hat + _C2)
    luminance = (2 * mean * mean_hat + _C1) / (mean**2 + mean_hat**2 + _C1)
    return (luminance * structure).mean(axis=(0, 1)), structure.mean(axis=(0, 1))


class Ssim(Metric):
    """Structural similarity of RGB, 1 for identical frames."""

    smallest_side = _WINDOW

    def _reference(self, frame: np.ndarray) -> list[np.ndarray]:
        return _statistics(frame)

    def _compare(self, reference: list[np.ndarray], frame_hat: np.ndarray) -> float:
        return float(_similarities(reference, frame_hat.astype(np.float64))[0].mean())


class MsSsim(Metric):
    """Multi-scale structural similarity of RGB over five scales, 1 for identical frames.

    Contrast and structure of four scales and SSIM of the coarsest are raised to ``SCALE_WEIGHTS``
    and multiplied; negative ones count as 0. A frame needs 161 pixels on both sides: 176x144 is too
    small.
    """

    smallest_side = MS_SSIM_SMALLEST_SIDE

    def _reference(self, frame: np.ndarray) -> list[np.ndarray]:
        scales = _scales(frame)
        return [array for scale in scales for array in _statistics(scale)]

    def _compare(self, reference: list[np.ndarray], frame_hat: np.ndarray) -> float:
        product = np.ones(3)
        for scale, image_hat in enumerate(_scales(frame_hat)):
            ssim, structure = _similarities(reference[3 * scale : 3 * scale + 3], image_hat)
            last = scale == len(SCALE_WEIGHTS) - 1
            product *= np.maximum(ssim if last else structure, 0.0) ** SCALE_WEIGHTS[scale]
        return float(product.mean())


def _scales(frame: np.ndarray) -> list[np.ndarray]:
    """The picture in double precision, and halved once to four times."""
    scales = [frame.astype(np.float64)]
    while len(scales) < len(SCALE_WEIGHTS):
        scales.append(_halved(scales[-1]))
    return scales
