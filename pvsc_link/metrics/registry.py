"""The quality metrics a scenario can name; a new one is a class and its line here."""

from pvsc_link.metrics.base import Metric
from pvsc_link.metrics.perceptual import DistsMetric, LpipsMetric
from pvsc_link.metrics.psnr import Psnr

METRICS: dict[str, Metric] = {
    "psnr": Psnr(),
    "lpips": LpipsMetric(),
    "dists": DistsMetric(),
}
