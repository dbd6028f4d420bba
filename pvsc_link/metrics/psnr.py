"""Peak signal-to-noise ratio over R, G and B together."""

import numpy as np

from pvsc_link.metrics.base import Metric
from pvsc_link.types import db_to_linear, linear_to_db

#: Value of identical frames, and the largest value reported: BD-CBR and means need finite numbers.
PSNR_CAP_DB = 100.0


def psnr_db(image: np.ndarray, image_hat: np.ndarray) -> float:
    """PSNR = -10 log10(MSE) of one frame, the mean taken over R, G and B together.

    Input: ``image``, ``image_hat`` : [height, width, 3], RGB in [0, 1].
    Output: dB, at most ``PSNR_CAP_DB`` = 100 (identical frames give exactly that).
    """
    difference = image.astype(np.float64) - image_hat
    mse = float(np.mean(np.square(difference)))
    return linear_to_db(1.0 / max(mse, 1.0 / db_to_linear(PSNR_CAP_DB)))


class Psnr(Metric):
    """PSNR on RGB; the reference is the frame itself."""

    def _reference(self, frame: np.ndarray) -> np.ndarray:
        return frame

    def _compare(self, reference: np.ndarray, frame_hat: np.ndarray) -> float:
        return psnr_db(reference, frame_hat)
