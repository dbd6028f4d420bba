"""Configurations of the extension with explicit motion (``model.py``), and which frames refresh.

Nothing of this is in the paper.
"""

from dataclasses import dataclass, replace

from pvsc_link.models.pvsc.config import IntraConfig, LatentConfig, PvscConfig
from pvsc_link.types import InputError


@dataclass(frozen=True)
class IntraMcConfig(IntraConfig):
    """I frames that P frames with motion follow.

    ``eta_factors`` : factor of eta of eq. 14 by quality preset; none: one eta for all. Raises
    ``InputError`` for another number of factors than quality presets.
    """

    eta_factors: tuple[float, ...] = ()

    family = "intra_mc"

    @property
    def eta_scales(self) -> tuple[float, ...]:
        """Factor of eta at each quality preset."""
        return self.eta_factors or super().eta_scales

    def __post_init__(self) -> None:
        if len(self.eta_factors) not in (0, self.num_omega):
            raise InputError(
                f"eta_factors of {self.name}",
                found=self.eta_factors,
                allowed=f"none, or one for each of {self.num_omega} quality presets",
                remedy="Give every preset its factor.",
            )


@dataclass(frozen=True)
class PvscMcConfig(PvscConfig):
    """P frames with motion vectors, a predicted latent and, if wanted, a blended picture.

    ``motion_penalty`` : levels of summed absolute differences that one bit of the vectors must
    save, at the coarsest quality preset and at the finest. It is a choice of the transmitter's
    search; the receiver does not need it.
    """

    motion_penalty: tuple[float, float] = (60.0, 24.0)
    blend_reference: bool = False  # x_hat mixes G's picture with the moved previous picture
    reweight: bool = False
    predict_latent: bool = True

    family = "pvsc_mc"
    coding_vectors = True
    unread = frozenset()
    implied = LatentConfig.implied | {
        "intra": False,
        "coding_vectors": True,
        "motion_compensation": True,
        "eta_factors": (),
    }


def with_eta_factors(intra: IntraConfig, factors: tuple[float, ...]) -> IntraConfig:
    """The I-frame config with eta by quality preset; without factors, the config as it is.

    Raises ``InputError`` for factors and a config of the paper's own I frames.
    """
    if not factors:
        return intra
    if not isinstance(intra, IntraMcConfig):
        raise InputError(
            f"eta_factors of {intra.name}",
            found=factors,
            allowed="none: the paper has one eta",
            remedy="Leave the factors out, or choose a preset of the extension (pvsc_mc_small).",
        )
    return replace(intra, eta_factors=factors)


#: By how many quality presets a refreshing P frame is finer.
REFRESH_PRESETS = 2


def preset_at(omega_index: int, place: int, refresh_every: int, num_presets: int) -> int:
    """Quality preset of the frame at ``place`` of its GOP (0: the I frame).

    A P frame that is sent with few symbols refreshes little of the picture, and in a long GOP the
    rest of older channel noise and coarse quantisation adds up. So every ``refresh_every``-th P
    frame is sent finer, as real codecs do (VTM's low-delay configuration, for instance).

    Parameters: ``omega_index`` : of all other frames; ``refresh_every`` : 0: no frame refreshes;
    ``num_presets`` : of the model, the finest of which is the limit.
    """
    if refresh_every == 0 or place == 0 or place % refresh_every:
        return omega_index
    return min(omega_index + REFRESH_PRESETS, num_presets - 1)


def check_refresh(refresh_every: int) -> None:
    """Raises ``InputError`` for a negative number."""
    if refresh_every < 0:
        raise InputError(
            "refresh_every",
            found=refresh_every,
            allowed="0 (none), or n: every n-th P frame refreshes",
            remedy="2 suits GOPs of 8 and more.",
        )
