"""The quality metrics that a scenario can name. Importing this file loads no Keras.

A metric is described here and nowhere else: schema of scenarios, columns of tables, BD-CBR, axes
of figures and command lines read ``METRICS``. To add one from outside the package, before a sweep::

    METRICS["mae"] = MetricType("mae", "MAE", higher_is_better=False, implementation=MyMetric)
"""

import functools
from dataclasses import dataclass

from pvsc_link.metrics.base import FVD_FEWEST_FRAMES, VGG_SMALLEST_SIDE, Metric
from pvsc_link.options import Implementation, Registry, load_implementation, registry


@dataclass(frozen=True)
class MetricType:
    """A full-reference quality metric with one value per frame.

    Parameters
    ----------
    name : key in scenarios, in ``bd_cbr.csv`` and in the cache of metric values
    label : name on axes and in tables, for instance ``LPIPS (VGG)``
    higher_is_better : bool
    implementation : a ``Metric`` class without arguments, or its dotted path
    unit : ``"dB"``, or ``""`` for a number without unit
    column : column of ``points.csv``; the name itself by default
    smallest_side : smallest height and width in pixels that can be measured
    fewest_frames : shortest clip that can be measured
    meaning : one sentence for the list of columns
    source : the paper or the program that defines it
    of_clip : whether a clip is measured as a whole (``ClipMetric``), because a value depends on
        neighbouring frames or because a program takes all frames at once
    standard : measured where a scenario names no metrics; a report says where it is absent
    is_slow : whether a value takes so long that it is not measured for what is not sent
    """

    name: str
    label: str
    higher_is_better: bool
    implementation: Implementation
    unit: str = ""
    column: str = ""
    smallest_side: int = 1
    fewest_frames: int = 1
    meaning: str = ""
    source: str = ""
    of_clip: bool = False
    standard: bool = False
    is_slow: bool = False

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
    def can_choose_mcs(self) -> bool:
        """Whether ``link.mcs_metric`` may name it.

        A choice weighs frames of which a part is lost, one by one, in every way in which a GOP can
        break off. A metric of whole clips has no such value, or NaN, and a slow one takes hours.
        """
        return not self.of_clip and not self.is_slow

    @property
    def measure(self) -> Metric:
        """The object that measures; made on first use, then shared by the whole process."""
        return _made(self)


@functools.cache
def _made(metric: MetricType) -> Metric:
    return load_implementation(metric.implementation)()


METRICS: Registry[MetricType] = registry(
    (
        MetricType(
            name="psnr",
            column="psnr_db",
            label="PSNR",
            unit="dB",
            higher_is_better=True,
            implementation="pvsc_link.metrics.psnr:Psnr",
            standard=True,
            meaning="mean over frames of PSNR in 8-bit RGB",
            source="mean squared error over R, G and B together, at most 100 dB",
        ),
        MetricType(
            name="lpips",
            label="LPIPS (VGG)",
            higher_is_better=False,
            smallest_side=VGG_SMALLEST_SIDE,
            implementation="pvsc_link.metrics.perceptual:LpipsMetric",
            standard=True,
            is_slow=True,
            meaning="mean over frames of LPIPS v0.1 with VGG16",
            source="Zhang et al., CVPR 2018; package lpips 0.1.4, net=vgg",
        ),
        MetricType(
            name="dists",
            label="DISTS",
            higher_is_better=False,
            smallest_side=VGG_SMALLEST_SIDE,
            implementation="pvsc_link.metrics.perceptual:DistsMetric",
            standard=True,
            is_slow=True,
            meaning="mean over frames of DISTS",
            source="Ding et al., TPAMI 2020; package DISTS_pytorch 0.1",
        ),
        MetricType(
            name="psnr_yuv",
            column="psnr_yuv_db",
            label="PSNR-YUV (6:1:1)",
            unit="dB",
            higher_is_better=True,
            implementation="pvsc_link.metrics.psnr:PsnrYuv",
            meaning="mean over frames of (6 Y + Cb + Cr) / 8, PSNR of 8-bit BT.709 4:2:0 planes",
            source="Ohm et al., IEEE TCSVT 22(12), 2012",
        ),
        MetricType(
            name="ssim",
            label="SSIM",
            higher_is_better=True,
            smallest_side=11,
            implementation="pvsc_link.metrics.ssim:Ssim",
            meaning="mean over frames of SSIM in RGB, Gaussian window of 11x11",
            source="Wang et al., IEEE Trans. Image Process. 13(4), 2004",
        ),
        MetricType(
            name="ms_ssim",
            label="MS-SSIM",
            higher_is_better=True,
            smallest_side=161,
            implementation="pvsc_link.metrics.ssim:MsSsim",
            meaning="mean over frames of MS-SSIM in RGB, five scales",
            source="Wang et al., Asilomar 2003; package pytorch-msssim 1.0.0",
        ),
        MetricType(
            name="vmaf",
            label="VMAF",
            higher_is_better=True,
            smallest_side=17,
            of_clip=True,
            implementation="pvsc_link.metrics.ffmpeg:Vmaf",
            meaning="mean over frames of VMAF, model vmaf_v0.6.1, 0 to 100",
            source="Netflix libvmaf, filter libvmaf of FFmpeg",
        ),
        MetricType(
            name="vmaf_neg",
            label="VMAF-NEG",
            higher_is_better=True,
            smallest_side=17,
            of_clip=True,
            implementation="pvsc_link.metrics.ffmpeg:VmafNeg",
            meaning="mean over frames of VMAF without enhancement gain, model vmaf_v0.6.1neg",
            source="Netflix libvmaf, filter libvmaf of FFmpeg",
        ),
        MetricType(
            name="xpsnr",
            column="xpsnr_db",
            label="XPSNR (luma)",
            unit="dB",
            higher_is_better=True,
            smallest_side=45,
            of_clip=True,
            implementation="pvsc_link.metrics.ffmpeg:Xpsnr",
            meaning="mean over frames of XPSNR of luma",
            source="Helmrich et al., ICASSP 2020; filter xpsnr of FFmpeg",
        ),
        MetricType(
            name="tlp",
            label="tLP (VGG)",
            higher_is_better=False,
            smallest_side=VGG_SMALLEST_SIDE,
            of_clip=True,
            implementation="pvsc_link.metrics.perceptual:TlpMetric",
            meaning="mean over pairs of consecutive frames of tLP on LPIPS with VGG16",
            source="Chu et al., ACM Trans. Graph. 39(4), 2020 (TecoGAN)",
        ),
        MetricType(
            name="clip_similarity",
            label="CLIP similarity",
            higher_is_better=True,
            of_clip=True,
            implementation="pvsc_link.metrics.external:clip_similarity",
            meaning="mean over frames of the cosine similarity of image embeddings, CLIP ViT-B/32",
            source="Radford et al., ICML 2021; package open_clip_torch, weights of OpenAI",
        ),
        MetricType(
            name="fvd",
            label="FVD",
            higher_is_better=False,
            fewest_frames=FVD_FEWEST_FRAMES,
            of_clip=True,
            implementation="pvsc_link.metrics.external:fvd",
            meaning="Fréchet distance of I3D features of windows of 16 frames, every 8 frames",
            source="Unterthiner et al., ICLR workshop DeepGenStruct 2019",
        ),
    ),
    group="pvsc_link.metrics",
)
