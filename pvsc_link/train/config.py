"""The training file as pydantic models: data, loss terms, and the phases of section III-D.

What changes with the step inside a phase: GOP length, learning rate, ramped loss terms.
"""

import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pvsc_link.options import NmseDb, SnrDb, StrictModel, validated
from pvsc_link.scenario.loader import read_yaml
from pvsc_link.types import InputError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
#: Section IV-A: one weight per quality preset, i.e. per row of the learnable vectors.
PAPER_OMEGA = (0.001, 0.10, 0.21, 0.42, 0.88)


class DataConfig(StrictModel):
    """Sources, and how clips are cut from them."""

    clips: list[str] = []  # folders
    stills: list[str] = []  # folders or tar files of photographs
    exclude: list[str] = []  # words in the names of clips that are never used
    max_clips: Positive | None = None
    max_frames: Positive = 32  # kept of each clip
    max_size: Positive = 512  # the middle of larger frames is kept
    still_fraction: Share = 0.2  # of the clips of a batch that are animated stills
    shrink_fraction: Share = 0.25  # of the clips large enough that are halved in size
    max_skip: Positive = 3  # speed: every n-th frame, n up to this


class LossConfig(StrictModel):
    """Eq. 25 and 27. A weight of 0 switches a term off (Table VI); it is then not computed."""

    rec: float = Field(default=1.0, ge=0)  # lambda_rec, l1
    per: float = Field(default=0.8, ge=0)  # lambda_per, LPIPS
    adv: float = Field(default=0.0, ge=0)  # lambda_adv; the paper's 0.1 from its GAN phase on
    latent: float = Field(default=0.0, ge=0)  # y_bar behind the channel; not in the paper
    rate: bool = True
    side: bool = True  # whether z counts in the rate loss
    #: Rate and distortion of each clip are divided by its omega to this power. 0: as the paper; the
    #: finest presets, of a large omega, outweigh the others. 1: distortion counts alike in all.
    preset_balance: Share = 0.0
    #: Reals that a bit of z stands for; null: eta, as in eq. 25. The side link's MCS needs more:
    #: 1.2 at 6 dB (MCS 12: 1.70 bit per symbol), 2.7 at 0 dB (MCS 5: 0.74).
    side_eta: float | None = Field(default=None, ge=0)
    per_crop: Annotated[int, Field(ge=16, multiple_of=16)] | None = None  # LPIPS on sub-crops
    per_share: Share = 1.0  # of the frames of a step on which LPIPS is computed
    per_dtype: Literal["float32", "mixed_bfloat16"] = "float32"
    per_ramp: int = Field(default=0, ge=0)  # steps from 0 to full weight
    #: Weight of each reconstruction of R_t; null: the paper's, 1 each (``objective.BRANCHES``). A
    #: branch without a weight is not computed.
    branches: dict[Literal["ideal", "tx", "rx"], Annotated[float, Field(gt=0)]] | None = None
    adv_ramp: int = Field(default=0, ge=0)


class ChannelConfig(StrictModel):
    """The channel of stages 2 and 3; with several values, each clip of a batch draws one."""

    channel: Literal["awgn", "rayleigh"] = "awgn"
    equalizer: Literal["zf", "biased_lmmse"] = "zf"
    snr_db: list[SnrDb] = Field(default=[10.0], min_length=1)
    csi_nmse_db: list[NmseDb | None] = Field(default=[None], min_length=1)
    csi_aware: bool = False  # whether the equalizer knows the variance of the CSI error


class PhaseConfig(StrictModel):
    """One phase: which weights learn, on what, for how long.

    ``stage`` is the paper's: 1 trains the ideal branch alone, 2 F_tx and F_rx alone, 3 all.
    A curriculum in ``gop`` divides the steps into equal parts; an intra phase has GOP 1.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: Literal["intra", "inter"]
    stage: Literal[1, 2, 3]
    steps: Positive
    quantiser: Literal["noise", "ste"]
    gop: list[Annotated[int, Field(ge=1, le=32)]] = Field(default=[1], min_length=1)
    #: P frames coded between the I frame and those that learn, without a gradient; each step draws
    #: one of these numbers. So frames learn from references as old as a long GOP's, at the price
    #: of the forward pass.
    lead_in: list[Annotated[int, Field(ge=0, le=30)]] = Field(default=[0], min_length=1)
    #: As a scheme's (``semantic.refresh``); each step draws one of these numbers.
    refresh_every: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    crop: Annotated[int, Field(ge=64, multiple_of=64)] = 256
    batch: Positive = 8
    learning_rate: float = Field(default=1e-4, gt=0)
    final_learning_rate: float | None = Field(default=None, gt=0)  # cosine down to this
    warm_up: int = Field(default=0, ge=0)  # steps from 0 to ``learning_rate``
    learn: list[str] = []  # words: of the weights of the stage, only those with one in their path
    loss: LossConfig = LossConfig()
    channel: ChannelConfig | None = None
    rate_set: Literal["overcomplete", "distilled"] = "distilled"
    informed_start: bool = False  # weights from a PCA of the data before the first step
    intra_start: bool = False  # a P model without weights starts as the intra model
    coding_start: Literal["linear", "intra"] | None = None  # of F_tx and F_rx; None: as they are

    @model_validator(mode="after")
    def _consistent(self) -> "PhaseConfig":
        if (self.channel is None) != (self.stage == 1):
            raise self._refused("channel", self.channel, "one in stages 2 and 3, none in stage 1")
        if (self.model == "intra") != (max(self.gop) == 1):
            raise self._refused("gop", self.gop, "1 for intra, 2 or more for inter")
        if self.model == "inter" and min(self.gop) < 2:
            raise self._refused("gop", self.gop, "2 or more for inter")
        if self.model == "intra" and max(self.lead_in) > 0:
            raise self._refused("lead_in", self.lead_in, "0 for intra")
        if self.model == "intra" and max(self.refresh_every) > 0:
            raise self._refused("refresh_every", self.refresh_every, "0 for intra")
        if self.intra_start and (self.model == "intra" or self.informed_start):
            raise self._refused("intra_start", True, "for an inter phase without informed_start")
        if self.loss.branches is not None:
            allowed = {"ideal"} if self.stage == 1 else {"ideal", "tx", "rx"}
            if not self.loss.branches or not set(self.loss.branches) <= allowed:
                found = sorted(self.loss.branches)
                raise self._refused("loss.branches", found, f"some of {sorted(allowed)}")
        if self.coding_start and self.stage == 1:
            raise self._refused("coding_start", self.coding_start, "none in stage 1")
        if self.coding_start == "intra" and self.model == "intra":
            raise self._refused("coding_start", "intra", "linear, or none, for an intra phase")
        if self.loss.per_crop and self.loss.per_crop > self.crop:
            raise self._refused("loss.per_crop", self.loss.per_crop, f"at most {self.crop}")
        return self

    def _refused(self, what: str, found: object, allowed: str) -> InputError:
        return InputError(
            f"{what} of phase {self.name}",
            found=found,
            allowed=allowed,
            remedy="See scenarios/train_paper.yaml.",
        )


class EvaluationConfig(StrictModel):
    """What is measured on the way: a few frames of clips that are not trained on."""

    clips: list[str] = []
    num_frames: Positive = 4  # the first is an I frame
    crop: Annotated[int, Field(ge=64, multiple_of=64)] | None = 256  # middle; null: all
    every: Positive = 2000  # steps
    pictures: bool = True


class TrainConfig(StrictModel):
    """One training run; ``name`` is its folder, ``preset`` the model it trains."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    preset: str
    seed: int = Field(default=1, ge=0, lt=2**31)
    omega: list[Annotated[float, Field(ge=0)]] = Field(default=list(PAPER_OMEGA), min_length=1)
    #: The weights of I frames, where they are not ``omega``: a GOP gains when its I frame, from
    #: which all others are predicted, is finer than they are.
    intra_omega: list[Annotated[float, Field(ge=0)]] | None = None
    #: Factors of eta by quality preset, of P and of I frames: from some preset on y is as fine as
    #: it gets, and only more reals per bit make finer what arrives.
    eta_factors: list[Annotated[float, Field(gt=0)]] | None = None
    intra_eta_factors: list[Annotated[float, Field(gt=0)]] | None = None
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.999, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    learning_rate_factors: dict[str, float] = {}  # word in a weight's path: factor
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    #: Fine-tuning: folder ``weights/`` of another run, or a preset with weights in the package.
    initial_weights: str | None = None
    initial_except: list[str] = []  # words in the paths of weights that start afresh all the same
    distilled_rates: Literal["preset", "used"] = "preset"
    discriminator_filters: Annotated[int, Field(ge=4, multiple_of=4)] = 64
    data: DataConfig
    phases: list[PhaseConfig] = Field(min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()

    def omega_of(self, model: Literal["intra", "inter"]) -> list[float]:
        """Weights of the quality presets of one kind of frame."""
        return self.intra_omega or self.omega if model == "intra" else self.omega

    def eta_factors_of(self, model: Literal["intra", "inter"]) -> tuple[float, ...]:
        """Factors of eta by quality preset of one kind of frame; empty: 1."""
        return tuple((self.intra_eta_factors if model == "intra" else self.eta_factors) or ())

    @model_validator(mode="after")
    def _one_entry_per_preset(self) -> "TrainConfig":
        for key in ("intra_omega", "eta_factors", "intra_eta_factors"):
            entries = getattr(self, key)
            if entries is not None and len(entries) != len(self.omega):
                raise InputError(
                    f"number of entries in {key}",
                    found=len(entries),
                    allowed=f"{len(self.omega)}, as in omega",
                    remedy=f"Name one per quality preset, or leave {key} out.",
                )
        return self

    @model_validator(mode="after")
    def _unique_phases(self) -> "TrainConfig":
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise InputError(
                "phases with one name", found=names, allowed="unique names", remedy="Rename."
            )
        return self


def load_train_config(path: str | Path) -> TrainConfig:
    """Read and validate a training file.

    Raises ``InputError`` for a missing file, broken YAML, an unknown key (with the nearest
    name), a wrong type or a value out of range.
    """
    return validated(read_yaml(path), TrainConfig, Path(path).name, "scenarios/train_tiny.yaml")


def gop_at(phase: PhaseConfig, step: int) -> int:
    """GOP length of a step: the curriculum divides the phase into equal parts (section III-D)."""
    return phase.gop[min(len(phase.gop) - 1, step * len(phase.gop) // phase.steps)]


def learning_rate_at(phase: PhaseConfig, step: int) -> float:
    """Linear warm-up, then constant, or a cosine down to ``final_learning_rate``."""
    if step < phase.warm_up:
        return phase.learning_rate * (step + 1) / phase.warm_up
    if phase.final_learning_rate is None:
        return phase.learning_rate
    progress = (step - phase.warm_up) / max(1, phase.steps - phase.warm_up)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    low = phase.final_learning_rate
    return low + (phase.learning_rate - low) * swing


def ramp(full: float, steps: int, step: int) -> float:
    """A loss weight that rises linearly from 0 over ``steps`` steps: a sudden one breaks runs."""
    return full if step >= steps else full * (step + 1) / (steps + 1)
