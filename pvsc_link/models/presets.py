"""Every preset of PVSC, of its extension with motion, and of DVST; configs from files."""

from dataclasses import fields, replace
from typing import Any, TypeAlias

from pvsc_link.models.dvst.config import DvstConfig, StreamConfig
from pvsc_link.models.pvsc.config import PAPER_RATE_SET, IntraConfig, PvscConfig
from pvsc_link.models.pvsc_mc.config import IntraMcConfig, PvscMcConfig

#: Formats of the rate map b_k (``entropy.side_information``): that of the paper is png.
SIDE_FORMATS = ("png", "payload", "range")

PictureConfig: TypeAlias = IntraConfig | PvscConfig

_FAMILIES: tuple[Any, ...] = (
    *(PvscConfig, IntraConfig, PvscMcConfig, IntraMcConfig, DvstConfig, StreamConfig),
)


def config_of(given: dict[str, Any]) -> Any:
    """The config that a dict describes: ``to_dict`` of any family, or a file of an older version.

    Older files do not name the family: there I frames have ``intra``, and the extension with
    motion has ``motion_compensation`` (P frames) or ``eta_factors`` (I frames).
    Raises ``InputError`` for a model that no family is.
    """
    for kind in _FAMILIES:
        if given.get("family") == kind.family:
            return kind.from_dict(given)
    if "intra_preset" in given:
        return DvstConfig.from_dict(given)
    if given.get("intra"):
        kind = IntraMcConfig if given.get("eta_factors") else IntraConfig
        return kind.from_dict({k: v for k, v in given.items() if v or k != "eta_factors"})
    return (PvscMcConfig if given.get("motion_compensation") else PvscConfig).from_dict(given)


def intra_of(config: PvscConfig) -> IntraConfig:
    """The I-frame config that goes with a P-frame config: same latent grid, no temporal path."""
    kind = IntraMcConfig if isinstance(config, PvscMcConfig) else IntraConfig
    shared = {f.name: getattr(config, f.name) for f in fields(IntraConfig)}
    intra = kind(**{**shared, "name": f"{config.name}_intra"})
    if config.channels_feature > 128:
        # A wide, deeper transform for I frames at 1/8 is DCVC-RT-Intra's choice: 368 channels.
        intra = replace(intra, channels_feature=368, channels_pixel=368)
        return replace(intra, depth_extractor=6, depth_feature=6, depth_pixel=6)
    # Nothing is known of a previous frame, so no width is needed for what it predicts.
    return replace(intra, channels_prior=min(config.channels_prior, config.channels_feature))


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

#: The paper's idea of 16 rates for 64 latent channels: dense where units of low rate are.
TINY_RATE_SET = (0, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64)
#: Rates an octave apart: an index costs half the bits of one into ``TINY_RATE_SET``.
OCTAVE_RATE_SET = (0, 4, 8, 16, 32, 64, 128)

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

#: The paper's PVSC for CPUs with twice the latents of ``pvsc_tiny``, its 16 rates, and a prior wide
#: enough for the mean of y that the previous frame predicts (``train.starts.intra``).
PVSC_SMALL = replace(
    PVSC_TINY,
    name="pvsc_small",
    channels_y=128,
    channels_prior=192,
    embed_dim=96,
    rate_set=PAPER_RATE_SET,
    predict_latent=True,
)

#: The extension with motion vectors: 6.3 M parameters, I and P, with released weights.
PVSC_MC_SMALL = PvscMcConfig(
    **{f.name: getattr(PVSC_SMALL, f.name) for f in fields(PvscConfig)}
    | {"name": "pvsc_mc_small", "rate_set": OCTAVE_RATE_SET, "reweight": False},
    # High, since a reference picture with channel noise seems to move everywhere.
    motion_penalty=(180.0, 40.0),
    blend_reference=True,
)

#: ``pvsc_mc_small`` whose F_rx knows the noise variance of every symbol. Its training starts from
#: the weights of ``pvsc_mc_small`` (``scenarios/train_noise_input.yaml``).
PVSC_MC_SMALL_NOISE = replace(PVSC_MC_SMALL, name="pvsc_mc_small_noise", noise_input=True)

_FULL = (PVSC_PAPER, PVSC_TINY, PVSC_SMALL, PVSC_MC_SMALL)
_INTER: tuple[PvscConfig, ...] = (
    *(c for one in _FULL for c in (one, *ablations_of(one))),
    PVSC_MC_SMALL_NOISE,
)

#: I and P frames of PVSC and of its extension. ``<name>_intra`` goes with ``<name>``.
PRESETS: dict[str, PictureConfig] = {config.name: config for config in _INTER}
PRESETS |= {intra.name: intra for intra in map(intra_of, _INTER)}

DVST_PAPER = DvstConfig(
    "dvst_paper",
    "pvsc_paper_intra",
    motion=StreamConfig(
        "dvst_paper_motion",
        channels_z=64,
        channels_prior=128,
        depth_hyper=0,
        depth_fusion=1,
        embed_dim=128,
        num_heads=4,
        num_vit=2,
        rate_set=PAPER_RATE_SET,
    ),
    context=StreamConfig(
        "dvst_paper_context",
        channels_z=64,
        channels_context=128,
        channels_prior=192,
        depth_hyper=0,
        depth_fusion=2,
        embed_dim=160,
        num_vit=4,
        rate_set=PAPER_RATE_SET,
    ),
)

_TINY_STREAM: dict[str, Any] = {
    "channels_y": 64,
    "depth_hyper": 0,
    "depth_fusion": 1,
    "zero_init_residual": True,
    "mlp_ratio": 2,
    "num_heads": 4,
    "window_size": 4,
    "rate_set": TINY_RATE_SET,
}
#: For CPUs: the grid, windows and rate set of ``pvsc_tiny``.
DVST_TINY = DvstConfig(
    "dvst_tiny",
    "pvsc_tiny_intra",
    motion=StreamConfig(
        "dvst_tiny_motion",
        **_TINY_STREAM,
        channels_z=16,
        channels_prior=48,
        embed_dim=32,
        num_vit=1,
    ),
    context=StreamConfig(
        "dvst_tiny_context",
        **_TINY_STREAM,
        channels_z=32,
        channels_context=32,
        channels_prior=96,
        embed_dim=64,
        num_vit=2,
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
