"""The quality metrics that a scenario can name. Importing this file loads no Keras.

A metric is described here and nowhere else: schema of scenarios, columns of tables, BD-CBR, axes
of figures and command lines read ``METRICS``. To add one from outside the package, before a sweep::

    METRICS["mae"] = MetricType("mae", "MAE", higher_is_better=False, implementation=MyMetric)
"""

import functools
from dataclasses import dataclass

from pvsc_link.metrics.base import VGG_SMALLEST_SIDE, Metric
from pvsc_link.options import Implementation, load_implementation


@dataclass(frozen=True)
class MetricType:
    """A full-reference quality metric of one frame.

    Parameters
    ----------
    name : key in scenarios, in ``bd_cbr.csv`` and in the cache of metric values
    label : name on axes and in tables, for instance ``LPIPS (VGG)``
    higher_is_better : bool
    implementation : a ``Metric`` class without arguments, or its dotted path
    unit : ``"dB"``, or ``""`` for a number without unit
    column : column of ``points.csv``; the name itself by default
    smallest_side : smallest height and width in pixels that can be measured
    meaning : one sentence for the list of columns
    """

    name: str
    label: str
    higher_is_better: bool
    implementation: Implementation
    unit: str = ""
    column: str = ""
    smallest_side: int = 1
    meaning: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", self.column or self.name)

    @property
    def axis_label(self) -> str:
        """Label with unit, as on an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def short_label(self) -> str:
        """First word of the label, for narrow tables."""
        return self.label.split(" ")[0]

    @property
    def direction(self) -> str:
        """``higher is better`` or ``lower is better``."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def measure(self) -> Metric:
        """The object that measures; made on first use, then shared by the whole process."""
        return _made(self)


@functools.cache
def _made(metric: MetricType) -> Metric:
    return load_implementation(metric.implementation)()


METRICS: dict[str, MetricType] = {
    metric.name: metric
    for metric in (
        MetricType(
            name="psnr",
            column="psnr_db",
            label="PSNR",
            unit="dB",
            higher_is_better=True,
            implementation="pvsc_link.metrics.psnr:Psnr",
            meaning="mean over frames of PSNR in 8-bit RGB",
        ),
        MetricType(
            name="lpips",
            label="LPIPS (VGG)",
            higher_is_better=False,
            smallest_side=VGG_SMALLEST_SIDE,
            implementation="pvsc_link.metrics.perceptual:LpipsMetric",
            meaning="mean over frames of LPIPS v0.1 with VGG16",
        ),
        MetricType(
            name="dists",
            label="DISTS",
            higher_is_better=False,
            smallest_side=VGG_SMALLEST_SIDE,
            implementation="pvsc_link.metrics.perceptual:DistsMetric",
            meaning="mean over frames of DISTS",
        ),
    )
}
