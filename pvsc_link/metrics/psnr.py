"""Peak signal-to-noise ratio: over R, G and B together, and over Y, Cb and Cr weighted 6:1:1."""

import numpy as np

from pvsc_link.media import pad_to_multiple, rgb_to_yuv444, yuv444_to_yuv420
from pvsc_link.metrics.base import Metric
from pvsc_link.types import db_to_linear, linear_to_db

#: Value of identical frames, and the largest value reported: BD-CBR and means need finite numbers.
PSNR_CAP_DB = 100.0


def psnr_db(image: np.ndarray, image_hat: np.ndarray) -> float:
    """PSNR = -10 log10(MSE) of one frame, the mean taken over all its samples together.

    Input: ``image``, ``image_hat`` : [height, width, 3], RGB in [0, 1], or a plane of one.
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


#: Weights of the PSNR of Y, Cb and Cr in PSNR-YUV (6 : 1 : 1).
YUV_WEIGHTS = (6 / 8, 1 / 8, 1 / 8)


def yuv420_planes(frame: np.ndarray) -> list[np.ndarray]:
    """Planes Y, Cb, Cr of an RGB frame as an 8-bit video codec takes them.

    The frame is rounded to 8 bits, an odd last row or column is repeated, and the colours become
    BT.709 in limited range, 4:2:0 by the mean of 2x2 chroma samples.

    Input: ``frame`` : [height, width, 3], RGB in [0, 1].
    Output: uint8 [height, width] and twice [height / 2, width / 2], sizes rounded up to even.
    """
    rgb = np.rint(255.0 * frame).astype(np.uint8)
    codes = rgb_to_yuv444(pad_to_multiple(rgb, 2), bits=8)
    return yuv444_to_yuv420(codes.astype(np.uint8))


class PsnrYuv(Metric):
    """PSNR-YUV = (6 PSNR_Y + PSNR_Cb + PSNR_Cr) / 8 in dB, of each frame.

    The weights are those of Ohm et al., "Comparison of the coding efficiency of video coding
    standards", IEEE Trans. Circuits Syst. Video Technol. 22(12), 2012, and of the tests of learned
    codecs in YUV 4:2:0. It is taken here on 8-bit BT.709 4:2:0 planes in limited range
    (:func:`yuv420_planes`), with a peak of 255. Each plane counts at most 100 dB.
    """

    def _reference(self, frame: np.ndarray) -> list[np.ndarray]:
        return yuv420_planes(frame)

    def _compare(self, reference: list[np.ndarray], frame_hat: np.ndarray) -> float:
        planes = zip(reference, yuv420_planes(frame_hat), strict=True)
        values = [psnr_db(plane / 255.0, plane_hat / 255.0) for plane, plane_hat in planes]
        return float(np.dot(YUV_WEIGHTS, values))
