"""Mean absolute error."""

import numpy as np

from pvsc_link.metrics import Metric


class MeanAbsoluteError(Metric):
    """Mean of |x - x_hat| in levels of 255."""

    def _reference(self, frame):
        return frame

    def _compare(self, reference, frame_hat):
        return 255.0 * float(np.abs(reference - frame_hat).mean())
