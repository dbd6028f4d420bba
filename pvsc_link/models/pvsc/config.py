"""Configurations of the I-frame and the P-frame model: one frozen dataclass per family.

A config holds the widths, depths and switches that the layers of its family read, and nothing
else. Channels and depths are counts; a depth counts DC blocks. The presets are in ``presets.py``.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from pvsc_link.types import InputError

#: The distilled rate set of section IV-A: the values of k in eq. 14, in reals per spatial unit.
PAPER_RATE_SET = (0, 4, 8, 12, 16, 20, 24, 28, 36, 44, 52, 60, 68, 84, 100, 128)


@dataclass(frozen=True)
class LatentConfig:
    """Sizes of all layers between a latent y and its reconstruction: hyperprior, F_tx and F_rx.

    The paper gives C_y, C_z, eta and the rate set. The other widths and depths are chosen so that
    parameters and MACs agree with its Tables IV and V.
    """

    name: str
    channels_y: int = 128  # C_y, latent at 1/16 of the frame size
    channels_z: int = 128  # C_z, hyper-latent at 1/64
    channels_prior: int = 384  # fusion of hyperprior and temporal prior at 1/16, and E_s
    depth_hyper: int = 2  # H_enc and H_dec, each at 1/64
    depth_fusion: int = 3  # H_dec, after the temporal branch joins
    zero_init_residual: bool = False  # every residual branch starts as the identity
    embed_dim: int = 256  # d of F_tx and F_rx
    num_heads: int = 8
    num_vit: int = 6
    mlp_ratio: int = 4
    window_size: int = 8
    rate_set: tuple[int, ...] = PAPER_RATE_SET  # reals per spatial unit, increasing, from 0
    #: F_tx scales the features of a unit, each channel by a learned factor of the unit's rate
    #: (section III-A: it uses k to "reweight the features").
    reweight: bool = False
    num_omega: int = 5  # quality presets: rows of every learnable vector
    eta: float = 0.2  # spectral-efficiency factor of eq. 14, reals per bit
    noise_input: bool = False  # F_rx knows the noise variance of every symbol; not in the paper

    #: Whether vectors of the quality preset stand around F_tx and F_rx; the paper names none there.
    coding_vectors: ClassVar[bool] = True
    #: Written into every dict, so that ``presets.config_of`` finds the class again.
    family: ClassVar[str]
    #: Keys of older config files that this family does not read, whatever their value.
    unread: ClassVar[frozenset[str]] = frozenset()
    #: Switches of older config files, and the value that this family stands for.
    implied: ClassVar[dict[str, Any]] = {"hyperprior_coding": False}

    @property
    def padding_multiple(self) -> int:
        """Frame height and width must be multiples of this: whole ViT windows on the 1/16 grid.

        It explains the paper's 128 (8x8 windows); 64 is the least the hyper-latent at 1/64 needs.
        """
        return max(64, 16 * self.window_size)

    @property
    def eta_scales(self) -> tuple[float, ...]:
        """Factor of eta at each quality preset; the paper has one eta for all."""
        return (1.0,) * self.num_omega

    def rate_map_shape(self, height: int, width: int) -> tuple[int, int]:
        """Units (Hy, Wy) of a coded frame of ``height`` x ``width`` pixels: the latent at 1/16."""
        return height // 16, width // 16

    def row(self, omega_index: int) -> int:
        """Row of a quality preset in the prior of z and in the statistics of the rate map."""
        return omega_index

    def to_dict(self) -> dict[str, Any]:
        """Plain dict of every field, with the family; for ``get_config``, files and manifests."""
        return {"family": self.family, **asdict(self)}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Self:
        """Config of this family from ``to_dict``, after a trip through JSON, or from older files.

        Keys of older files are left out where the family does not read them, or where they say
        what the family stands for. Raises ``InputError`` for any other key.
        """
        own = {field.name for field in fields(cls)}
        for key, value in given.items():
            if key in own | cls.unread | {"family"}:
                continue
            if key not in cls.implied or _plain(value) != cls.implied[key]:
                raise InputError(
                    f"config of a model of family {cls.family}",
                    found=f"{key}={value}",
                    allowed=sorted(own),
                    remedy="Use the version of pvsc_link that wrote the file, or train anew.",
                )
        return cls(**{key: _plain(value) for key, value in given.items() if key in own})


def _plain(value: Any) -> Any:
    """JSON turns tuples to lists."""
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class IntraConfig(LatentConfig):
    """I frames: transforms without a past, and a four-step spatial prior."""

    channels_feature: int = 256  # features at 1/8
    channels_pixel: int = 320  # pixel half of G at 1/8
    depth_extractor: int = 3  # F_ext
    kernel_up: int = 3  # G, from 1/16 to 1/8
    depth_feature: int = 3  # G up to the feature
    depth_pixel: int = 4  # G from the feature to the frame, at 1/8
    depth_deblock: int = 0  # G at 1/4, across the borders of the 8x8 patches
    spatial_coding: bool = True  # spatial contextual ViT (Table V)

    family = "intra"
    intra: ClassVar[bool] = True
    temporal_coding: ClassVar[bool] = False
    channels_context: ClassVar[int] = 0  # of C_e in H_dec: there is none
    unread = frozenset({"depth_context", "motion_penalty"})
    implied = LatentConfig.implied | {
        "intra": True,
        "coding_vectors": True,
        "temporal_coding": False,
        "predict_latent": False,
        "motion_compensation": False,
        "blend_reference": False,
        "eta_factors": (),
    }


@dataclass(frozen=True)
class PvscConfig(LatentConfig):
    """P frames of the paper.

    ``predict_latent`` : F_ext takes a linear prediction of y out of C_f away, and G adds it again.
    A region that stands still then has a y of zero. It is a form of F_ext(x | C_f) and of
    G(y_tilde | C_f), which the paper leaves open.
    """

    reweight: bool = True
    channels_feature: int = 256  # F_t, C_e, C_f at 1/8
    channels_pixel: int = 320  # pixel half of G at 1/8
    depth_context: tuple[int, int] = (2, 3)  # C_ext up to C_e, then on to C_f
    depth_extractor: int = 3  # F_ext
    kernel_up: int = 3  # G, from 1/16 to 1/8
    depth_feature: int = 3  # G up to F_t
    depth_pixel: int = 4  # G from F_t to the frame, at 1/8
    depth_deblock: int = 0  # G at 1/4, across the borders of the 8x8 patches
    temporal_coding: bool = True  # temporal contextual ViT (Table V)
    spatial_coding: bool = True  # spatial contextual ViT (Table V)
    predict_latent: bool = False

    family = "pvsc"
    coding_vectors: ClassVar[bool] = False
    intra: ClassVar[bool] = False
    unread = frozenset({"motion_penalty"})
    implied = LatentConfig.implied | {
        "intra": False,
        "coding_vectors": False,
        "motion_compensation": False,
        "blend_reference": False,
        "eta_factors": (),
    }

    @property
    def channels_context(self) -> int:
        """Channels of C_e, which H_dec sees."""
        return self.channels_feature
