"""Every PVSC preset, each a frozen config: the one place with widths, depths and rate sets."""

from dataclasses import dataclass, replace

#: The distilled rate set of section IV-A: reals per spatial unit, k in eq. 14.
PAPER_RATE_SET = (0, 4, 8, 12, 16, 20, 24, 28, 36, 44, 52, 60, 68, 84, 100, 128)


@dataclass(frozen=True)
class PvscConfig:
    """Widths, depths and switches of one PVSC model (section IV-A; section 2 of the design notes).

    Channels are counts; ``rate_set`` holds reals per spatial unit in increasing order, starting
    at 0; ``temporal_coding`` and ``spatial_coding`` switch the contextual ViTs (Table V, M_a to
    M_e); ``eta`` is the spectral-efficiency factor of eq. 14 in reals per bit.
    """

    name: str
    channels_y: int = 128  # C_y, latent at 1/16
    channels_z: int = 128  # C_z, hyper-latent at 1/64
    channels_feature: int = 256  # F_t, C_e, C_f at 1/8
    channels_pixel: int = 320  # pixel half of G at 1/8
    channels_prior: int = 384  # fusion of hyperprior and temporal prior at 1/16
    embed_dim: int = 256  # d of F_tx and F_rx
    num_heads: int = 8
    num_vit: int = 6
    mlp_ratio: int = 4
    window_size: int = 8
    temporal_coding: bool = True
    spatial_coding: bool = True
    rate_set: tuple[int, ...] = PAPER_RATE_SET
    num_omega: int = 5  # rows of every learnable vector, one per quality preset
    eta: float = 0.2


PVSC_PAPER = PvscConfig("pvsc_paper")

PRESETS: dict[str, PvscConfig] = {
    config.name: config
    for config in (
        PVSC_PAPER,
        replace(PVSC_PAPER, name="pvsc_paper_m_a", temporal_coding=False, spatial_coding=False),
    )
}
