"""Configurations of DVST: the networks around two streams, and the streams themselves."""

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from pvsc_link.models.pvsc.config import LatentConfig
from pvsc_link.types import InputError


@dataclass(frozen=True)
class StreamConfig(LatentConfig):
    """One of the two streams of DVST, coded by layers of PVSC.

    NTSCC's feature codec sees one frame, and its entropy model no neighbouring unit.
    """

    num_omega: int = 1
    channels_context: int = 0  # of the context in H_dec; 0: nothing predicts this stream

    family = "dvst_stream"
    coding_vectors: ClassVar[bool] = False
    temporal_coding: ClassVar[bool] = False
    spatial_coding: ClassVar[bool] = False
    unread = frozenset(
        {"intra", "channels_feature", "channels_pixel", "depth_context", "depth_extractor"}
        | {"kernel_up", "depth_feature", "depth_pixel", "depth_deblock", "motion_penalty"}
    )
    implied = LatentConfig.implied | {
        "temporal_coding": False,
        "spatial_coding": False,
        "predict_latent": False,
        "motion_compensation": False,
        "blend_reference": False,
        "eta_factors": (),
    }

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """As ``LatentConfig.from_dict``; older files say ``intra`` where there is no context."""
        if "intra" in given:
            width = 0 if given["intra"] else given["channels_feature"]
            given = {"channels_context": width, **given}
        return super().from_dict(given)


@dataclass(frozen=True)
class DvstConfig:
    """Widths and depths of one model of P frames; a depth counts DC blocks.

    ``motion`` and ``context`` are the configs of the two streams. A model has one rate:
    ``num_rates`` models, trained apart, make a rate curve. The paper gives parameters, MACs and
    the number of rates alone; the widths and depths are chosen to agree with these.

    Raises ``InputError`` for streams with different rate sets, since one rate map holds both, and
    for streams with different ``noise_input``.
    """

    name: str
    intra_preset: str  # I frames: a preset of PVSC's intra model
    motion: StreamConfig
    context: StreamConfig
    num_levels: int = 5  # of the motion pyramid, from full size down
    flow_channels: tuple[int, ...] = (32, 64, 32, 16)  # of every pyramid level
    flow_kernel: int = 7
    channels_motion: tuple[int, int, int] = (64, 96, 128)  # motion transforms at 1/2, 1/4, 1/8
    channels_pixel: int = 96  # context at full size
    channels_context: tuple[int, int, int] = (128, 160, 192)  # transforms at 1/2, 1/4, 1/8
    depth_reference: int = 2  # features of the previous frame, before the warp
    depth_refine: int = 2  # after the warp
    depth_encoder: int = 10  # context encoder at full size
    depth_decoder: int = 3  # context decoder at full size
    num_rates: int = 4
    zero_init_residual: bool = False

    family: ClassVar[str] = "dvst"
    intra: ClassVar[bool] = False  # I frames are another model's

    def __post_init__(self) -> None:
        if self.motion.rate_set != self.context.rate_set or self.motion.eta != self.context.eta:
            raise InputError(
                "streams with different rate rules",
                found=(self.motion.rate_set, self.context.rate_set),
                allowed="one rate set and one eta",
                remedy="Give both streams the same rate_set and eta.",
            )
        if self.motion.noise_input != self.context.noise_input:
            raise InputError(
                "noise_input of the two streams",
                found=(self.motion.noise_input, self.context.noise_input),
                allowed="the same for both",
                remedy="Give both streams the same noise_input.",
            )

    @property
    def both(self) -> StreamConfig:
        """The streams side by side, for layers that see the latents of both."""
        y, z = self.channels_y, self.channels_z
        return replace(self.context, name=self.name, channels_y=y, channels_z=z)

    @property
    def channels_y(self) -> int:
        return self.motion.channels_y + self.context.channels_y

    @property
    def channels_z(self) -> int:
        return self.motion.channels_z + self.context.channels_z

    @property
    def rate_set(self) -> tuple[int, ...]:
        return self.context.rate_set

    @property
    def eta(self) -> float:
        return self.context.eta

    @property
    def noise_input(self) -> bool:
        """Whether F_rx of both streams knows the noise variance of every symbol."""
        return self.context.noise_input

    @property
    def num_omega(self) -> int:
        """Quality presets of I frames that a model goes with: one for each of the rates."""
        return self.num_rates

    @property
    def padding_multiple(self) -> int:
        """Frame height and width must be multiples of this: windows of both streams."""
        return max(self.motion.padding_multiple, self.context.padding_multiple)

    def rate_map_shape(self, height: int, width: int) -> tuple[int, int]:
        """Units of a coded frame: those of the motion, and below them those of the context."""
        rows, columns = self.context.rate_map_shape(height, width)
        return 2 * rows, columns

    def row(self, omega_index: int) -> int:
        """The only row of the prior of z: a model has one rate."""
        return 0

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of every field, with the family."""
        return {"family": self.family, **asdict(self)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """Config from ``to_dict``, also after a trip through JSON, which turns tuples to lists."""
        own: dict[str, Any] = {key: value for key, value in given.items() if key != "family"}
        for key, value in own.items():
            if key in ("motion", "context"):
                own[key] = StreamConfig.from_dict(value)
            elif isinstance(value, list):
                own[key] = tuple(value)
        return cls(**own)
