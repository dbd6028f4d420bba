"""Every DVST preset, each a frozen config: widths and depths of the networks, of both streams."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from pvsc_link.models.pvsc.config import PAPER_RATE_SET, TINY_RATE_SET, PvscConfig
from pvsc_link.types import InputError


@dataclass(frozen=True)
class DvstConfig:
    """Widths and depths of one model of P frames; a depth counts DC blocks.

    ``motion`` and ``context`` are the configs of the two streams, read by the layers that they
    share with PVSC; fields of those that no such layer reads mean nothing. A model has one rate:
    ``num_rates`` models, trained apart, make a rate curve. The paper gives parameters, MACs and
    the number of rates alone; the widths and depths are chosen to agree with these.

    Raises ``InputError`` for streams with different rate sets: one rate map holds both.
    """

    name: str
    intra_preset: str  # I frames: a preset of PVSC's intra model
    motion: PvscConfig
    context: PvscConfig
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

    def __post_init__(self) -> None:
        if self.motion.rate_set != self.context.rate_set or self.motion.eta != self.context.eta:
            raise InputError(
                "streams with different rate rules",
                found=(self.motion.rate_set, self.context.rate_set),
                allowed="one rate set and one eta",
                remedy="Give both streams the same rate_set and eta.",
            )

    @property
    def both(self) -> PvscConfig:
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
    def intra(self) -> bool:
        """Never: I frames are another model's."""
        return False

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
        """Plain dict of every field, for ``get_config`` and manifests."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "DvstConfig":
        """Config from ``to_dict``, also after a trip through JSON (which turns tuples to lists)."""
        tuples = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
        streams = {name: PvscConfig.from_dict(fields[name]) for name in ("motion", "context")}
        return cls(**{**fields, **tuples, **streams})


def _stream(name: str, **fields: Any) -> PvscConfig:
    """A stream: NTSCC's feature codec sees one frame, its entropy model no neighbouring unit."""
    return PvscConfig(name, temporal_coding=False, spatial_coding=False, num_omega=1, **fields)


DVST_PAPER = DvstConfig(
    "dvst_paper",
    "pvsc_paper_intra",
    # ``intra`` without a temporal branch in H_dec: nothing predicts the motion.
    motion=_stream(
        "dvst_paper_motion",
        intra=True,
        channels_y=128,
        channels_z=64,
        channels_prior=128,
        depth_hyper=0,
        depth_fusion=1,
        embed_dim=128,
        num_heads=4,
        num_vit=2,
        rate_set=PAPER_RATE_SET,
    ),
    context=_stream(
        "dvst_paper_context",
        channels_y=128,
        channels_z=64,
        channels_feature=128,
        channels_prior=192,
        depth_hyper=0,
        depth_fusion=2,
        embed_dim=160,
        num_vit=4,
        rate_set=PAPER_RATE_SET,
    ),
)

#: For CPUs: the grid, windows and rate set of ``pvsc_tiny``.
_TINY = {"channels_y": 64, "depth_hyper": 0, "depth_fusion": 1, "zero_init_residual": True}
_TINY_VIT = {"mlp_ratio": 2, "num_heads": 4, "window_size": 4, "rate_set": TINY_RATE_SET}
DVST_TINY = DvstConfig(
    "dvst_tiny",
    "pvsc_tiny_intra",
    motion=_stream(
        "dvst_tiny_motion",
        intra=True,
        channels_z=16,
        channels_prior=48,
        embed_dim=32,
        num_vit=1,
        **_TINY,
        **_TINY_VIT,
    ),
    context=_stream(
        "dvst_tiny_context",
        channels_z=32,
        channels_feature=32,
        channels_prior=96,
        embed_dim=64,
        num_vit=2,
        **_TINY,
        **_TINY_VIT,
    ),
    num_levels=4,
    flow_channels=(8, 12, 8),
    flow_kernel=5,
    channels_motion=(16, 24, 32),
    channels_pixel=12,
    channels_context=(24, 40, 64),
    depth_reference=1,
    depth_refine=1,
    depth_encoder=1,
    depth_decoder=1,
    zero_init_residual=True,
)

DVST_PRESETS: dict[str, DvstConfig] = {config.name: config for config in (DVST_PAPER, DVST_TINY)}
