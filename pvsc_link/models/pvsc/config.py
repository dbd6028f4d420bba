"""Every PVSC preset, each a frozen config: the one place with widths, depths and rate sets."""

from dataclasses import asdict, dataclass, replace
from typing import Any

#: The distilled rate set of section IV-A: reals per spatial unit, k in eq. 14.
PAPER_RATE_SET = (0, 4, 8, 12, 16, 20, 24, 28, 36, 44, 52, 60, 68, 84, 100, 128)
#: The same idea for 64 latent channels: dense where low-rate units live, coarse above.
TINY_RATE_SET = (0, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64)


@dataclass(frozen=True)
class PvscConfig:
    """Widths, depths and switches of one model: P frames, or I frames where ``intra`` is set.

    Channels and depths are counts; a depth counts DC blocks. ``rate_set`` holds reals per spatial
    unit in increasing order, starting at 0; ``temporal_coding`` and ``spatial_coding`` switch the
    contextual ViTs (Table V, M_a to M_e); ``eta`` is the spectral-efficiency factor of eq. 14 in
    reals per bit. The paper gives C_y, C_z, eta, the rate set and the multiple of 128; the other
    widths and depths reproduce its Tables IV and V.
    """

    name: str
    intra: bool = False
    channels_y: int = 128  # C_y, latent at 1/16
    channels_z: int = 128  # C_z, hyper-latent at 1/64
    channels_feature: int = 256  # F_t, C_e, C_f at 1/8
    channels_pixel: int = 320  # pixel half of G at 1/8
    channels_prior: int = 384  # fusion of hyperprior and temporal prior at 1/16, and E_s
    depth_context: tuple[int, int] = (2, 3)  # C_ext up to C_e, then on to C_f
    depth_extractor: int = 3  # F_ext
    depth_hyper: int = 2  # H_enc and H_dec, each at 1/64
    depth_fusion: int = 3  # H_dec, after the temporal branch joins
    kernel_up: int = 3  # G, from 1/16 to 1/8
    depth_feature: int = 3  # G up to F_t
    depth_pixel: int = 4  # G from F_t to the frame, at 1/8
    depth_deblock: int = 0  # G at 1/4, across the borders of the 8x8 patches
    zero_init_residual: bool = False  # every residual branch starts as the identity
    embed_dim: int = 256  # d of F_tx and F_rx
    num_heads: int = 8
    num_vit: int = 6
    mlp_ratio: int = 4
    window_size: int = 8
    temporal_coding: bool = True
    spatial_coding: bool = True
    predict_latent: bool = False  # F_ext and G of P frames predict y from C_f; not in the paper
    motion_compensation: bool = (
        False  # of the previous picture, with sent vectors; not in the paper
    )
    #: Levels of summed differences that a bit of the vectors must save the transmitter, coarsest
    #: quality preset and finest: a choice of the search, the receiver does not know it.
    motion_penalty: tuple[float, float] = (60.0, 24.0)
    hyperprior_coding: bool = False  # F_tx and F_rx know sigma_0: ``prior_guide``; not in the paper
    blend_reference: bool = False  # G's picture with the moved previous one; not in the paper
    rate_set: tuple[int, ...] = PAPER_RATE_SET
    num_omega: int = 5  # rows of every learnable vector, one per quality preset
    eta: float = 0.2
    eta_factors: tuple[float, ...] = ()  # of eta by quality preset; empty: 1; not in the paper

    @property
    def padding_multiple(self) -> int:
        """Frame height and width must be multiples of this: whole ViT windows on the 1/16 grid.

        It explains the paper's 128 (8x8 windows); 64 is the least the hyper-latent at 1/64 needs.
        """
        return max(64, 16 * self.window_size)

    def rate_map_shape(self, height: int, width: int) -> tuple[int, int]:
        """Units (Hy, Wy) of a coded frame of ``height`` x ``width`` pixels: the latent at 1/16."""
        return height // 16, width // 16

    def row(self, omega_index: int) -> int:
        """Row of a quality preset in the prior of z and in the statistics of the rate map."""
        return omega_index

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of every field, for ``get_config`` and manifests."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "PvscConfig":
        """Config from ``to_dict``, also after a trip through JSON (which turns tuples to lists)."""
        tuples = {name: tuple(v) for name, v in fields.items() if isinstance(v, list)}
        return cls(**{**fields, **tuples})


def intra_of(config: PvscConfig) -> PvscConfig:
    """The I-frame config that goes with a P-frame config: same latent grid, no temporal path."""
    small = config.channels_feature <= 128
    return replace(
        config,
        name=f"{config.name}_intra",
        intra=True,
        temporal_coding=False,
        predict_latent=False,
        motion_compensation=False,
        motion_penalty=PvscConfig.motion_penalty,
        blend_reference=False,
        # A wide, deeper transform for I frames at 1/8 is DCVC-RT-Intra's choice: 368 channels.
        # Nothing is known of a previous frame: no width is needed for what it predicts.
        channels_prior=(
            min(config.channels_prior, config.channels_feature) if small else config.channels_prior
        ),
        channels_feature=config.channels_feature if small else 368,
        channels_pixel=config.channels_pixel if small else 368,
        depth_extractor=config.depth_extractor if small else 6,
        depth_feature=config.depth_feature if small else 6,
        depth_pixel=config.depth_pixel if small else 6,
    )


def ablations_of(config: PvscConfig) -> tuple[PvscConfig, ...]:
    """M_a to M_e of Table V: temporal and spatial coding, overcomplete rate set, full model."""
    overcomplete = tuple(range(config.channels_y + 1))
    return (
        replace(config, name=f"{config.name}_m_a", temporal_coding=False, spatial_coding=False),
        replace(config, name=f"{config.name}_m_b", spatial_coding=False),
        replace(config, name=f"{config.name}_m_c", temporal_coding=False),
        replace(config, name=f"{config.name}_m_d", rate_set=overcomplete),
        replace(config, name=f"{config.name}_m_e"),
    )


PVSC_PAPER = PvscConfig("pvsc_paper")

#: For CPUs. One width at 1/8 lets the informed start copy features through every block; fewer,
#: wider blocks keep the slow depthwise convolutions rare; 4x4 windows allow crops of 64 pixels.
PVSC_TINY = PvscConfig(
    "pvsc_tiny",
    channels_y=64,
    channels_z=32,
    channels_feature=96,
    channels_pixel=96,
    channels_prior=96,
    depth_context=(1, 2),
    depth_extractor=2,
    depth_hyper=0,
    depth_fusion=1,
    kernel_up=1,
    depth_feature=2,
    depth_pixel=1,
    depth_deblock=1,
    zero_init_residual=True,
    embed_dim=64,
    num_heads=4,
    num_vit=2,
    mlp_ratio=2,
    window_size=4,
    rate_set=TINY_RATE_SET,
)

#: One octave a step: an index costs half the bits of ``TINY_RATE_SET``'s (at 0 dB the rate map is
#: the largest part of the side information), and a k off by half an octave next to nothing.
OCTAVE_RATE_SET = (0, 4, 8, 16, 32, 64, 128)

#: 6.3 M parameters, I and P: twice the latents, since what lies beyond the strongest components
#: of a block is lost at any rate (64 of 768 end at 24 to 30 dB on textured clips), for P frames
#: motion compensation and a prior wide enough for the mean that the previous frame predicts
#: (``train.intra_start``). The preset that two cores train, and that has weights.
PVSC_SMALL = replace(
    PVSC_TINY,
    name="pvsc_small",
    channels_y=128,
    channels_prior=192,
    embed_dim=96,
    predict_latent=True,
    motion_compensation=True,
    # What lvc's P frames use costs PVSC's too much: a reference with channel noise seems to move.
    motion_penalty=(180.0, 40.0),
    blend_reference=True,
    rate_set=OCTAVE_RATE_SET,
)

_WITH_ABLATIONS = (PVSC_PAPER, PVSC_TINY, PVSC_SMALL)
_INTER = tuple(c for config in _WITH_ABLATIONS for c in (config, *ablations_of(config)))

PRESETS: dict[str, PvscConfig] = {
    config.name: config for config in (*_INTER, *(intra_of(config) for config in _INTER))
}
