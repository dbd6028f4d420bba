"""The training file: data, model, and phases, each with its loss, channel and schedule.

A run is a list of phases (section III-D of the paper). What changes with the step inside a phase
is computed here too: the GOP length, the learning rate and the weights of ramped loss terms.
"""

import functools
import itertools
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, create_model, model_validator

from pvsc_link.link import (
    CHANNELS,
    SYMBOL_EQUALIZERS,
    ChannelType,
    Impairments,
    refuse_unused,
)
from pvsc_link.options import Axis, NameIn, SnrDb, StrictModel, check_name, validated
from pvsc_link.scenario import load_yaml
from pvsc_link.types import InputError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["intra", "inter"]
#: Section IV-A: one weight omega per quality preset, that is, per row of the learnable vectors.
PAPER_OMEGA = (0.001, 0.10, 0.21, 0.42, 0.88)
_EXAMPLE = "scenarios/train_small.yaml"


class DataConfig(StrictModel):
    """Sources of training pictures, and how clips are cut from them."""

    clips: list[str] = []  # folders
    stills: list[str] = []  # folders or tar files of photographs
    exclude: list[str] = []  # clips with one of these words in their name are left out
    max_clips: Positive | None = None
    still_fraction: Share = 0.2  # share of the clips of a batch that are animated stills
    max_skip: Positive = 3  # speed: every n-th frame is taken, with n up to this


class LossConfig(StrictModel):
    """Weights of the loss terms of eq. 25 and 27. A term of weight 0 is not computed."""

    rec: float = Field(default=1.0, ge=0)  # lambda_rec, l1
    per: float = Field(default=0.8, ge=0)  # lambda_per, LPIPS
    adv: float = Field(default=0.0, ge=0)  # lambda_adv; the paper uses 0.1 in its GAN phase
    latent: float = Field(default=0.0, ge=0)  # error of y_bar behind the channel; not in the paper
    #: The loss of a clip is divided by its omega to this power. 0 is the paper's rule, under which
    #: the presets with a large omega outweigh the others; with 1 all distortions count alike.
    preset_balance: Share = 0.0
    #: Reals that one bit of z counts as; null takes eta, as in eq. 25. A bit on the side link
    #: costs more: 1.2 reals at 6 dB (MCS 12, 1.70 bit per symbol), 2.7 at 0 dB (MCS 5, 0.74).
    side_eta: float | None = Field(default=None, ge=0)
    per_crop: Annotated[int, Field(ge=16, multiple_of=16)] | None = None  # LPIPS on sub-crops
    per_share: Share = 1.0  # share of the clips of a step on which LPIPS is computed
    per_dtype: Literal["float32", "mixed_bfloat16"] = "float32"
    per_ramp: int = Field(default=0, ge=0)  # steps from 0 to full weight
    #: Weight of each reconstruction in R_t; null takes ``objective.BRANCHES``. A reconstruction
    #: that is not named here is not computed.
    branches: dict[Literal["ideal", "tx", "rx"], Annotated[float, Field(gt=0)]] | None = None
    adv_ramp: int = Field(default=0, ge=0)


class ChannelConfig(StrictModel):
    """The channel of stages 2 and 3: what ``link`` of a scenario says of one channel.

    The fields of the channel's condition (``link.CHANNELS``) are keys too: ``csi_nmse_db`` and
    ``coherence_length`` of ``rayleigh``, for instance, and so are those of ``link.Impairments``. Of
    several SNRs each clip of a batch draws one, of several values of another key each step draws
    one. ``channel_config`` makes one.
    """

    channel: Annotated[str, NameIn("channel", CHANNELS)] = "awgn"
    equalizer: Annotated[str, NameIn("equalizer", SYMBOL_EQUALIZERS)] = "zf"
    snr_db: Axis[SnrDb] = [10.0]
    csi_aware: bool = False  # whether the equaliser knows the variance of the CSI error

    @property
    def condition(self) -> dict[str, list[Any]]:
        """The values of every field of the channel's condition, and of the impairments."""
        own = CHANNELS[self.channel].Condition.model_fields
        return {name: getattr(self, name) for name in (*own, *Impairments.model_fields)}

    @property
    def impairments(self) -> list[str]:
        """Names of the impairments that are on."""
        return [name for name in Impairments.model_fields if getattr(self, name) != [None]]

    @property
    def first(self) -> "ChannelConfig":
        """The same with the first of every list of values."""
        lists = {"snr_db": self.snr_db, **self.condition}
        return self.model_copy(update={name: values[:1] for name, values in lists.items()})

    @model_validator(mode="after")
    def _consistent(self) -> "ChannelConfig":
        kind, condition = CHANNELS[self.channel], self.condition
        points = [
            kind.point(self.snr_db[0], dict(zip(condition, combination, strict=True)))
            for combination in itertools.product(*condition.values())
        ]
        defaults = type(self).model_fields
        given = {n: v for n, v in condition.items() if v != defaults[n].default}
        refuse_unused(given, [point.condition for point in points])
        for name in self.impairments:
            if None in condition[name]:
                raise InputError(
                    name,
                    found=condition[name],
                    allowed="null alone, or numbers: an impairment is on or off in a whole phase",
                    remedy="Write a phase for each.",
                )
        for name, values in condition.items():
            if len(values) > 1 and (
                name in getattr(kind, "static", ()) or not _are_numbers(values)
            ):
                raise InputError(
                    name,
                    found=values,
                    allowed=f"one value: it shapes the graph of the channel {self.channel}",
                    remedy="Write a phase for each value.",
                )
        return self


def _are_numbers(values: list[Any]) -> bool:
    return not any(isinstance(v, bool) or not isinstance(v, int | float | None) for v in values)


@functools.cache
def _channel_model(kind: ChannelType) -> type[ChannelConfig]:
    fields: dict[str, Any] = {}
    for name, field in {**kind.Condition.model_fields, **Impairments.model_fields}.items():
        one = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        default = ... if field.is_required() else [field.default]
        fields[name] = (Axis[one], Field(default))  # type: ignore[valid-type]
    return create_model(f"channel {kind.name}", __base__=ChannelConfig, **fields)


def channel_config(keys: Any) -> Any:
    """The ``ChannelConfig`` of a mapping; anything else as it is.

    Raises ``InputError`` for an unknown channel and for a key that the channel does not have.
    """
    if not isinstance(keys, dict):
        return keys
    name = keys.get("channel", ChannelConfig.model_fields["channel"].default)
    check_name("channel", name, CHANNELS)
    kind = CHANNELS[name]
    if not kind.is_estimated and keys.get("csi_nmse_db", [None]) in (None, [None]):
        # Perfect knowledge is all that such a channel has; older run folders state it.
        keys = {key: value for key, value in keys.items() if key != "csi_nmse_db"}
    return _channel_model(kind).model_validate(keys)


class PhaseConfig(StrictModel):
    """One phase: which weights learn, on what, and for how long.

    ``stage`` is the paper's: 1 trains the ideal branch alone, 2 F_tx and F_rx alone, 3 everything.
    The values of ``gop`` divide the steps into equal parts; an intra phase has GOP length 1.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: Kind
    stage: Literal[1, 2, 3]
    steps: Positive
    quantiser: Literal["noise", "ste"]
    gop: list[Annotated[int, Field(ge=1, le=32)]] = Field(default=[1], min_length=1)
    #: P frames coded without a gradient between the I frame and the frames that learn; each step
    #: draws one of these numbers. References are then as old as in a long GOP, at the cost of a
    #: forward pass.
    lead_in: list[Annotated[int, Field(ge=0, le=30)]] = Field(default=[0], min_length=1)
    #: Every n-th P frame is coded at a finer quality preset, as a scheme of that name does; 0 is
    #: never. Each step draws one of these numbers.
    refresh_every: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    crop: Annotated[int, Field(ge=64, multiple_of=64)] = 256
    batch: Positive = 8
    learning_rate: float = Field(default=1e-4, gt=0)
    final_learning_rate: float | None = Field(default=None, gt=0)  # cosine down to this
    warm_up: int = Field(default=0, ge=0)  # steps from 0 to ``learning_rate``
    learn: list[str] = []  # only weights with one of these words in their path learn
    loss: LossConfig = LossConfig()
    channel: Annotated[SerializeAsAny[ChannelConfig] | None, BeforeValidator(channel_config)] = None
    rate_set: Literal["overcomplete", "distilled"] = "distilled"
    informed_start: bool = False  # fresh weights come from a PCA of the data
    intra_start: bool = False  # a fresh P model starts from the intra model
    coding_start: Literal["linear", "intra"] | None = None  # F_tx and F_rx; null keeps theirs

    @model_validator(mode="after")
    def _consistent(self) -> "PhaseConfig":
        intra = self.model == "intra"
        if (self.channel is None) != (self.stage == 1):
            raise self._refused("channel", self.channel, "one in stages 2 and 3, none in stage 1")
        if max(self.gop) > 1 if intra else min(self.gop) < 2:
            raise self._refused("gop", self.gop, "1 for intra, 2 or more for inter")
        for key in ("lead_in", "refresh_every"):
            if intra and max(getattr(self, key)) > 0:
                raise self._refused(key, getattr(self, key), "0 for intra")
        if self.intra_start and (intra or self.informed_start):
            raise self._refused("intra_start", True, "for an inter phase without informed_start")
        if self.loss.branches is not None:
            allowed = {"ideal"} if self.stage == 1 else {"ideal", "tx", "rx"}
            if not self.loss.branches or not set(self.loss.branches) <= allowed:
                found = sorted(self.loss.branches)
                raise self._refused("loss.branches", found, f"some of {sorted(allowed)}")
        if self.coding_start and self.stage == 1:
            raise self._refused("coding_start", self.coding_start, "none in stage 1")
        if self.coding_start == "intra" and intra:
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
    """What is measured during a run: a few frames of clips that are not trained on."""

    clips: list[str] = []
    num_frames: Positive = 4  # the first is an I frame
    crop: Annotated[int, Field(ge=64, multiple_of=64)] | None = 256  # of the middle; null: all
    every: Positive = 2000  # steps


class TrainConfig(StrictModel):
    """One training run; ``name`` is its folder, ``preset`` the model that it trains."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    preset: str
    seed: int = Field(default=1, ge=0, lt=2**31)
    omega: list[Annotated[float, Field(ge=0)]] = Field(default=list(PAPER_OMEGA), min_length=1)
    #: The weights of I frames; null takes ``omega``. A GOP gains from an I frame that is finer
    #: than the frames predicted from it.
    intra_omega: list[Annotated[float, Field(ge=0)]] | None = None
    #: Factors of eta (eq. 14) of I frames by quality preset. They matter for fine presets, where
    #: only more reals per bit improve what arrives.
    intra_eta_factors: list[Annotated[float, Field(gt=0)]] | None = None
    learning_rate_factors: dict[str, float] = {}  # word in a weight's path: factor
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    #: Fine-tuning: folder ``weights/`` of another run, or a preset with weights in the package.
    initial_weights: str | None = None
    initial_except: list[str] = []  # weights with one of these words in their path start afresh
    initial_models: list[Kind] = Field(default=["intra", "inter"], min_length=1)  # those taken
    #: Quality presets of the initial weights that become this run's, one per entry of omega, for
    #: weights with another number of them; null takes all.
    initial_presets: list[Annotated[int, Field(ge=0)]] | None = None
    #: How a phase with the distilled rate set chooses it: the preset's, or the rates that the
    #: overcomplete phases before it used most (section III-D).
    distilled_rates: Literal["preset", "used"] = "preset"
    discriminator_filters: Annotated[int, Field(ge=4, multiple_of=4)] = 64
    data: DataConfig
    phases: list[PhaseConfig] = Field(min_length=1)
    evaluation: EvaluationConfig = EvaluationConfig()

    def omega_of(self, model: Kind) -> list[float]:
        """Weights of the quality presets of one kind of frame."""
        return self.intra_omega or self.omega if model == "intra" else self.omega

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        for key in ("intra_omega", "intra_eta_factors"):
            entries = getattr(self, key)
            if entries is not None and len(entries) != len(self.omega):
                raise InputError(
                    f"number of entries in {key}",
                    found=len(entries),
                    allowed=f"{len(self.omega)}, as in omega",
                    remedy=f"Name one per quality preset, or leave {key} out.",
                )
        if self.initial_presets is not None and len(self.initial_presets) != len(self.omega):
            raise InputError(
                "number of entries in initial_presets",
                found=len(self.initial_presets),
                allowed=f"{len(self.omega)}, as in omega",
                remedy="Name one quality preset of the initial weights for each of this run's.",
            )
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
    document = load_yaml(path)
    return validated(document.data, TrainConfig, Path(path).name, _EXAMPLE, lines=document.lines)


#: Keys of earlier versions by section, which the file in an older run folder still names, with
#: the only value under which such a run can go on.
_RETIRED: dict[str, dict[str, Any]] = {
    "run": {
        "eta_factors": None,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "clip_norm": 1.0,
        "ema_decay": 0.999,
    },
    "data": {"max_frames": 32, "max_size": 512, "shrink_fraction": 0.25},
    "loss": {"rate": True, "side": True},
    "evaluation": {"pictures": True},
}


def load_run_config(folder: Path) -> TrainConfig:
    """The config that a run folder was started with (``config.yaml``), older versions' too."""
    path = folder / "config.yaml"
    fields = load_yaml(path).data
    if isinstance(fields, dict):
        losses = [("loss", phase.get("loss", {})) for phase in fields.get("phases", ())]
        parts = [(name, fields.get(name, {})) for name in ("data", "evaluation")]
        for section, values in [("run", fields), *parts, *losses]:
            for key, value in _RETIRED[section].items():
                if key in values and values[key] == value:
                    del values[key]
    return validated(fields, TrainConfig, path.name, _EXAMPLE)


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
    """A loss weight that rises linearly from 0 over ``steps`` steps."""
    return full if step >= steps else full * (step + 1) / (steps + 1)
