"""The terms of eq. 25 and 27, each per clip, for one frame and one reconstruction."""

from typing import Any

from keras import ops

from pvsc_link.metrics.lpips import Lpips
from pvsc_link.train.config import LossConfig


def reconstruction_loss(frame: Any, frame_hat: Any) -> Any:
    """L_rec: mean absolute difference. [batch, H, W, 3] twice -> [batch], float32."""
    return ops.mean(ops.abs(frame - frame_hat), axis=(1, 2, 3))


def rate_loss(
    rate_reals: Any, num_bits_z: Any, eta: float, num_pixels: int, side: bool = True
) -> Any:
    """L_rate of eq. 25 per pixel: (sum of k + eta bits of z) / (H W).

    Eq. 25 is a sum over the frame while the distortions are means; per pixel both balance at the
    paper's omega whatever the crop. The bits of the rate map, b(k), have no gradient (PNG) and
    are only measured, in evaluations and sweeps.

    Input: ``rate_reals`` : [batch, Hy, Wy]; ``num_bits_z`` : [batch]. Output: [batch], reals
    per pixel. Parameters: ``side`` : whether z counts.
    """
    total = ops.sum(rate_reals, axis=(1, 2))
    if side:
        total = total + eta * num_bits_z
    return total / num_pixels


class PerceptualLoss:
    """L_per: LPIPS (VGG) on a sub-crop of some of the clips of a frame.

    LPIPS costs many times what the tiny model does per pixel. A crop of ``config.per_crop``
    pixels of a share ``config.per_share`` of the clips costs a part of it, and as place and clips
    are drawn anew for every frame, the expectation of the gradient stays.

    Parameters
    ----------
    config : LossConfig
    batch : int, clips of a step
    """

    def __init__(self, config: LossConfig, batch: int):
        self.lpips = Lpips(finite_gradient=True, dtype=config.per_dtype)
        self.crop = config.per_crop
        self.count = max(1, round(config.per_share * batch))

    def cut(self, images: Any, rows: Any, place: Any) -> Any:
        """The part that counts: [batch, H, W, 3] -> [count, crop, crop, 3].

        Input: ``rows`` : [count], int32, clips; ``place`` : [2], int32, top left pixel.
        """
        if self.count < images.shape[0]:
            images = ops.take(images, rows, axis=0)
        if self.crop is None or self.crop == images.shape[1]:
            return images
        start = ops.stack([0, place[0], place[1], 0])
        return ops.slice(images, start, (self.count, self.crop, self.crop, 3))

    def features(self, images: Any) -> list[Any]:
        """LPIPS features of the reference, once for all branches, without gradient."""
        return [ops.stop_gradient(f) for f in self.lpips.features(ops.stop_gradient(images))]

    def distance(self, features: list[Any], images_hat: Any) -> Any:
        """LPIPS [count] of cut reconstructions against ``features`` of the cut reference."""
        return self.lpips.distance(features, self.lpips.features(images_hat))


def latent_loss(y_bar: Any, y_bar_hat: Any) -> Any:
    """Mean square difference of features before and after the channel: [batch], float32.

    Not in the paper: a cheap, direct guide for the first steps of stage 2.
    """
    return ops.mean(ops.square(ops.stop_gradient(y_bar) - y_bar_hat), axis=(1, 2, 3))
