"""Descriptions that pvsc-link reads. They name what does the work, so no framework is loaded."""

from pydantic import Field

from pvsc_link.codecs import CodecType
from pvsc_link.link import ChannelType
from pvsc_link.metrics import MetricType
from pvsc_link.options import StrictModel


class JpegOptions(StrictModel):
    """Options of JPEG: keys of its entry in a scenario."""

    subsampling: str = Field("4:4:4", description="Chroma format: 4:4:4 or 4:2:0.")


class OnOffCondition(StrictModel):
    """Condition of the channel on-off: keys of link, axes of the grid, columns of the tables."""

    off_fraction: float = Field(
        0.1, ge=0, lt=1, description="Fraction of channel uses without signal."
    )


JPEG = CodecType("jpeg", "JPEG", JpegOptions, "pvsc_link_example.codec:Jpeg")
ON_OFF = ChannelType("on-off", "On-off", OnOffCondition, "pvsc_link_example.channel:OnOff")
MAE = MetricType(
    "mae",
    "MAE",
    higher_is_better=False,
    implementation="pvsc_link_example.metric:MeanAbsoluteError",
    meaning="mean over frames of the absolute error in 8-bit RGB",
    source="example",
)
