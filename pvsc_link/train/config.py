"""The training file: data, model, and phases, each with its loss, channel and schedule.

A file may describe several runs that differ in a few keys (``variants``). A run is a list of phases
(section III-D of the paper). What changes with the step inside a phase
is computed here too: the GOP length, the learning rate and the weights of ramped loss terms.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    create_model,
    model_validator,
)

from pvsc_link.link import (
    CHANNELS,
    SYMBOL_EQUALIZERS,
    ChannelType,
    Impairments,
    condition_fields,
    packet_fields,
    refuse_unused,
)
from pvsc_link.models import DVST_PRESETS, PRESETS
from pvsc_link.options import (
    Axis,
    Listed,
    NameIn,
    SnrDb,
    StrictModel,
    check_name,
    documented,
    unit,
    validated,
)
from pvsc_link.scenario import load_yaml
from pvsc_link.types import InputError

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["intra", "inter"]
#: Section IV-A: one weight omega per quality preset, that is, per row of the learnable vectors.
#: The first one stands apart: the others are about a factor of two from each other, and it is a
#: hundredth of its neighbour. Its preset all but ignores the distortion of a frame, so that nearly
#: no symbols are sent and the receiver shows what it can predict.
PAPER_OMEGA = (0.001, 0.10, 0.21, 0.42, 0.88)
_EXAMPLE = "scenarios/train_small.yaml"


class DataConfig(StrictModel):
    """Sources of training pictures, and how clips are cut from them."""

    clips: list[str] = Field(
        default=[],
        description="Folders of video clips to train on, or uncompressed tar files of such folders "
        "(shards; a * in the name stands for anything).",
        examples=[["data/clips", "data/shards/*.tar"]],
    )
    clip_weights: list[Annotated[float, Field(gt=0)]] = Field(
        default=[],
        description="How often clips are drawn from each entry of clips, relative to the others; "
        "empty: every clip is as likely as any other, wherever it lies.",
        examples=[[0.7, 0.3]],
        json_schema_extra=unit("1"),
    )
    whole_frames: bool = Field(
        default=False,
        description="Whether crops come from whole frames; else from their middle 512x512 pixels.",
        examples=[True],
    )
    cache: bool = Field(
        default=True,
        description="Whether all clips are decoded once, into raw files in the cache folder, whose "
        "size a run states; else every draw decodes its clip.",
        examples=[False],
    )
    threads: Positive = Field(
        default=1,
        description="Threads that make batches ahead of the steps. More help where steps wait for "
        "data (column waited of history.csv), as without the cache.",
        examples=[8],
        json_schema_extra=unit("threads"),
    )
    stills: list[str] = Field(
        default=[],
        description="Folders or tar files of photographs, which are animated to clips.",
        examples=[["data/photographs"]],
    )
    exclude: list[str] = Field(
        default=[],
        description="Clips with one of these words in their name are left out.",
        examples=[["carphone"]],
    )
    max_clips: Positive | None = Field(
        default=None,
        description="Most clips that are read; null: all.",
        examples=[50],
        json_schema_extra=unit("clips"),
    )
    still_fraction: Share = Field(
        default=0.2,
        description="Share of the clips of a batch that are animated stills.",
        examples=[0.2],
        json_schema_extra=unit("1"),
    )
    max_skip: Positive = Field(
        default=3,
        description="Speed of motion: every n-th frame is taken, with n up to this.",
        examples=[3],
        json_schema_extra=unit("frames"),
    )

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if self.clip_weights and len(self.clip_weights) != len(self.clips):
            raise InputError(
                "number of entries in clip_weights",
                found=len(self.clip_weights),
                allowed=f"{len(self.clips)}, as in clips",
                remedy="Name one per folder, or leave clip_weights out.",
            )
        return self


class LossConfig(StrictModel):
    """Weights of the loss terms of eq. 25 and 27. A term of weight 0 is not computed."""

    rec: float = Field(
        default=1.0,
        ge=0,
        description="lambda_rec, weight of the l1 error of eq. 25.",
        examples=[1.0],
        json_schema_extra=unit("1"),
    )
    per: float = Field(
        default=0.8,
        ge=0,
        description="lambda_per, weight of LPIPS.",
        examples=[0.8],
        json_schema_extra=unit("1"),
    )
    adv: float = Field(
        default=0.0,
        ge=0,
        description="lambda_adv, weight of the adversarial term; the paper uses 0.1 in its GAN "
        "phase.",
        examples=[0.1],
        json_schema_extra=unit("1"),
    )
    latent: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the error of y_bar behind the channel; not in the paper.",
        examples=[0.1],
        json_schema_extra=unit("1"),
    )
    prediction: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the l1 error of the motion-compensated prediction, which teaches "
        "the motion of DVST; not in the paper.",
        examples=[1.0],
        json_schema_extra=unit("1"),
    )
    flow: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the l1 error of the reference as the flow moves it before the flow "
        "is coded, which teaches the motion estimator of DVST; not in the paper.",
        examples=[1.0],
        json_schema_extra=unit("1"),
    )
    streams: list[Literal["motion", "context"]] = Field(
        default=[],
        description="Streams of DVST whose rate counts; empty: both. A phase in which the motion "
        "alone learns counts the motion alone.",
        examples=[["motion"]],
    )
    preset_balance: Share = Field(
        default=0.0,
        description="The loss of a clip is divided by its omega to this power. 0 is the paper's "
        "rule, under which the presets with a large omega outweigh the others; with 1 "
        "all distortions count alike.",
        examples=[0.5],
        json_schema_extra=unit("1"),
    )
    side_eta: float | None = Field(
        default=None,
        ge=0,
        description="Reals that one bit of z counts as; null takes eta, as in eq. 25. A bit on "
        "the side link costs more: 1.2 reals at 6 dB (MCS 12, 1.70 bit per symbol), "
        "2.7 at 0 dB (MCS 5, 0.74).",
        examples=[1.2],
        json_schema_extra=unit("reals per bit"),
    )
    per_crop: Annotated[int, Field(ge=16, multiple_of=16)] | None = Field(
        default=None,
        description="Side of the squares on which LPIPS is computed; null: the whole crop.",
        examples=[64],
        json_schema_extra=unit("pixels"),
    )
    per_share: Share = Field(
        default=1.0,
        description="Share of the clips of a step on which LPIPS is computed.",
        examples=[0.5],
        json_schema_extra=unit("1"),
    )
    per_dtype: Literal["float32", "mixed_bfloat16"] = Field(
        default="float32", description="Arithmetic of LPIPS.", examples=["mixed_bfloat16"]
    )
    per_ramp: int = Field(
        default=0,
        ge=0,
        description="Steps in which the weight of LPIPS rises from 0 to full.",
        examples=[1000],
        json_schema_extra=unit("steps"),
    )
    branches: dict[Literal["ideal", "tx", "rx"], Annotated[float, Field(gt=0)]] | None = Field(
        default=None,
        description="Weight of each reconstruction in R_t; null takes those of the stage "
        "(objective.BRANCHES). A reconstruction that is not named here is not "
        "computed.",
        examples=[{"ideal": 1.0, "rx": 1.0}],
    )
    adv_ramp: int = Field(
        default=0,
        ge=0,
        description="Steps in which the weight of the adversarial term rises from 0 to full.",
        examples=[1000],
        json_schema_extra=unit("steps"),
    )


class ChannelConfig(StrictModel):
    """The channel of stages 2 and 3: what ``link`` of a scenario says of one channel.

    The fields of the channel's condition (``link.CHANNELS``) are keys too: ``csi_nmse_db`` and
    ``coherence_length`` of ``rayleigh``, for instance, and so are those of ``link.Impairments``. Of
    several SNRs each clip of a batch draws one, of several values of another key each step draws
    one. ``channel_config`` makes one.
    """

    channel: Annotated[str, NameIn("channel", CHANNELS, lambda one: not one.is_packets)] = Field(
        default="awgn", description="Channel law.", examples=["rayleigh"]
    )
    equalizer: Annotated[str, NameIn("equalizer", SYMBOL_EQUALIZERS)] = Field(
        default="zf", description="Equaliser of the receiver.", examples=["biased_lmmse"]
    )
    snr_db: Axis[SnrDb] = Field(
        default=[10.0],
        description="Es/N0 per complex symbol, with E|h|^2 = 1; every clip of a batch draws one "
        "of several.",
        examples=[[0, 6, 12]],
        json_schema_extra=unit("dB"),
    )
    csi_aware: bool = Field(
        default=False,
        description="Whether the equaliser knows the variance of the CSI error.",
        examples=[True],
    )

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


class _EveryChannel:
    """States in the JSON schema the keys of all channels of symbols.

    ``channel_config`` reads those of one.
    """

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        of_packets = packet_fields()
        for name, field in condition_fields().items():
            if name in of_packets:
                continue
            one = (
                Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
            )
            fields[name] = (Axis[one | None], Field([None], **documented(field)))  # type: ignore
        every = create_model("channel", __base__=ChannelConfig, **fields)
        one = handler(TypeAdapter(every).core_schema)
        return {"anyOf": [one, {"type": "null"}]}


class PhaseConfig(StrictModel):
    """One phase: which weights learn, on what, and for how long.

    ``stage`` is the paper's: 1 trains the ideal branch alone, 2 F_tx and F_rx alone, 3 everything.
    The values of ``gop`` divide the steps into equal parts; an intra phase has GOP length 1.
    """

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Name of the phase, which log and checkpoints carry.",
        examples=["intra"],
    )
    model: Kind = Field(
        description="Which model learns: that of I frames (intra) or that of P frames (inter).",
        examples=["inter"],
    )
    rate: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="Rate of DVST whose P-frame model learns, from coarse to fine: the entry of "
        "omega and the quality preset of I frames with this number go with it. A rate without "
        "weights starts from those of the rate nearest to it, if the run has one, with the "
        "quantisation steps of its own omega.",
        examples=[0],
        json_schema_extra=unit("1"),
    )
    stage: Literal[1, 2, 3] = Field(
        description="The paper's stage (III-D): 1 trains the ideal branch alone, 2 F_tx and F_rx "
        "alone, 3 everything.",
        examples=[3],
        json_schema_extra=unit("1"),
    )
    steps: Positive = Field(
        description="Length of the phase.", examples=[20000], json_schema_extra=unit("steps")
    )
    quantiser: Literal["noise", "ste"] = Field(
        description="What stands for rounding: additive uniform noise, or rounding with a "
        "straight-through gradient.",
        examples=["ste"],
    )
    gop: list[Annotated[int, Field(ge=1, le=32)]] = Field(
        default=[1],
        min_length=1,
        description="GOP lengths; they divide the steps into equal parts. An intra phase has GOP "
        "length 1.",
        examples=[[2, 3, 5]],
        json_schema_extra=unit("frames"),
    )
    lead_in: list[Annotated[int, Field(ge=0, le=30)]] = Field(
        default=[0],
        min_length=1,
        description="P frames coded without a gradient between the I frame and the frames that "
        "learn; each step draws one of these numbers. References are then as old as "
        "in a long GOP, at the cost of a forward pass.",
        examples=[[0, 4]],
        json_schema_extra=unit("frames"),
    )
    refresh_every: list[Annotated[int, Field(ge=0)]] = Field(
        default=[0],
        min_length=1,
        description="Every n-th P frame is coded at a finer quality preset, as a scheme of that "
        "name does; 0 is never. Each step draws one of these numbers.",
        examples=[[0, 4]],
        json_schema_extra=unit("frames"),
    )
    crop: Annotated[int, Field(ge=64, multiple_of=64)] = Field(
        default=256,
        description="Height and width of what is cut from a clip.",
        examples=[256],
        json_schema_extra=unit("pixels"),
    )
    batch: Positive = Field(
        default=8, description="Clips of a step.", examples=[8], json_schema_extra=unit("clips")
    )
    accumulate: Positive = Field(
        default=1,
        description="Parts of a batch that are worked on one after the other. Their gradients are "
        "averaged before the step, so a step needs the memory of one part. It divides batch.",
        examples=[4],
        json_schema_extra=unit("parts"),
    )
    rematerialise: bool = Field(
        default=False,
        description="Whether the backward pass computes each P frame again, instead of keeping "
        "its activations. Memory is then that of one P frame whatever the GOP length, for about a "
        "third more time. The results are the same.",
        examples=[True],
    )
    truncate: Positive | None = Field(
        default=None,
        description="Most P frames through which a gradient passes back; the buffers before them "
        "count as constants. null: the whole GOP.",
        examples=[2],
        json_schema_extra=unit("frames"),
    )
    precision: Literal["float32", "mixed_bfloat16"] = Field(
        default="float32",
        description="Arithmetic of the networks. With mixed_bfloat16 their activations have 8 "
        "significant bits; weights, optimiser, entropy model, symbols, channel and losses stay "
        "float32.",
        examples=["mixed_bfloat16"],
    )
    learning_rate: float = Field(
        default=1e-4,
        gt=0,
        description="Learning rate of Adam.",
        examples=[1e-4],
        json_schema_extra=unit("1"),
    )
    final_learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="Where the learning rate ends, on a cosine; null: it stays.",
        examples=[1e-5],
        json_schema_extra=unit("1"),
    )
    warm_up: int = Field(
        default=0,
        ge=0,
        description="Steps in which the learning rate rises from 0.",
        examples=[500],
        json_schema_extra=unit("steps"),
    )
    learn: list[str] = Field(
        default=[],
        description="Only weights with one of these words in their path learn; empty: all of the "
        "stage.",
        examples=[["f_rx"]],
    )
    loss: LossConfig = Field(
        default=LossConfig(),
        description="Weights of the loss terms.",
        examples=[{"per": 0.8, "adv": 0.1}],
    )
    channel: Annotated[
        SerializeAsAny[ChannelConfig] | None, BeforeValidator(channel_config), _EveryChannel()
    ] = Field(
        default=None,
        description="The channel of stages 2 and 3; stage 1 has none.",
        examples=[{"channel": "rayleigh", "snr_db": [0, 6, 12]}],
    )
    rate_set: Literal["overcomplete", "distilled"] = Field(
        default="distilled",
        description="All rates, or those that distillation leaves (section III-D).",
        examples=["distilled"],
    )
    informed_start: bool = Field(
        default=False,
        description="Whether fresh weights make a linear transform codec, from a PCA of the data.",
        examples=[True],
    )
    intra_start: bool = Field(
        default=False,
        description="Whether a fresh P model starts from the intra model.",
        examples=[True],
    )
    coding_start: Literal["linear", "intra"] | None = Field(
        default=None,
        description="How F_tx and F_rx start: as a linear code, or as those of the intra model; "
        "null keeps theirs.",
        examples=["linear"],
    )

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
        if self.rate is not None and (intra or max(self.refresh_every) > 0):
            raise self._refused("rate", self.rate, "for an inter phase without refresh_every")
        if self.intra_start and (intra or self.informed_start):
            raise self._refused("intra_start", True, "for an inter phase without informed_start")
        if self.batch % self.accumulate:
            raise self._refused("accumulate", self.accumulate, f"a divisor of batch {self.batch}")
        if intra and self.truncate is not None:
            raise self._refused("truncate", self.truncate, "null for intra")
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

    clips: list[str] = Field(
        default=[], description="Names or paths of the clips.", examples=[["carphone"]]
    )
    num_frames: Positive = Field(
        default=4,
        description="Frames of each; the first is an I frame.",
        examples=[4],
        json_schema_extra=unit("frames"),
    )
    crop: Annotated[int, Field(ge=64, multiple_of=64)] | None = Field(
        default=256,
        description="Side of the square in the middle that is measured; null: all.",
        examples=[256],
        json_schema_extra=unit("pixels"),
    )
    every: Positive = Field(
        default=2000,
        description="Steps from one evaluation to the next.",
        examples=[2000],
        json_schema_extra=unit("steps"),
    )


class TrainConfig(StrictModel):
    """One training run; ``name`` is its folder, ``preset`` the model that it trains."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Name of the run, and of its folder.",
        examples=["my_training"],
    )
    preset: Annotated[
        str, Listed(*(name for name, config in PRESETS.items() if not config.intra), *DVST_PRESETS)
    ] = Field(description="The model that is trained.", examples=["pvsc_small"])
    seed: int = Field(
        default=1,
        ge=0,
        lt=2**31,
        description="Seed of weights, clips and channel.",
        examples=[1],
        json_schema_extra=unit("1"),
    )
    omega: list[Annotated[float, Field(ge=0)]] = Field(
        default=list(PAPER_OMEGA),
        min_length=1,
        description="Weight omega of the distortion (eq. 27), one per quality preset, from coarse "
        "to fine.",
        examples=[[0.001, 0.1, 0.42]],
        json_schema_extra=unit("1"),
    )
    intra_omega: list[Annotated[float, Field(ge=0)]] | None = Field(
        default=None,
        description="The weights of I frames; null takes omega. A GOP gains from an I frame that "
        "is finer than the frames predicted from it.",
        examples=[[0.01, 0.2, 0.8]],
        json_schema_extra=unit("1"),
    )
    intra_eta_factors: list[Annotated[float, Field(gt=0)]] | None = Field(
        default=None,
        description="Factors of eta (eq. 14) of I frames by quality preset. They matter for fine "
        "presets, where only more reals per bit improve what arrives.",
        examples=[[1.0, 1.0, 2.0]],
        json_schema_extra=unit("1"),
    )
    learning_rate_factors: dict[str, float] = Field(
        default={},
        description="Factor of the learning rate by a word in a weight's path.",
        examples=[{"f_tx": 0.5}],
    )
    deterministic: bool = Field(
        default=True,
        description="Whether equal inputs give equal bits on the same machine. false allows "
        "operations that add in any order, which are faster on GPUs.",
        examples=[False],
    )
    checkpoint_minutes: float = Field(
        default=5.0,
        gt=0,
        description="Time from one checkpoint to the next.",
        examples=[5],
        json_schema_extra=unit("min"),
    )
    initial_weights: str | None = Field(
        default=None,
        description="Fine-tuning: folder weights/ of another run, or a preset with weights in the "
        "package.",
        examples=["pvsc_mc_small"],
    )
    initial_except: list[str] = Field(
        default=[],
        description="Weights with one of these words in their path start afresh.",
        examples=[["f_rx"]],
    )
    initial_models: list[Kind] = Field(
        default=["intra", "inter"],
        min_length=1,
        description="Models that are taken from the initial weights.",
        examples=[["intra"]],
    )
    initial_presets: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None,
        description="Quality presets of the initial weights that become this run's, one per entry "
        "of omega, for weights with another number of them; null takes all.",
        examples=[[0, 2, 4]],
        json_schema_extra=unit("1"),
    )
    distilled_rates: Literal["preset", "used"] = Field(
        default="preset",
        description="How a phase with the distilled rate set chooses it: the preset's, or the "
        "rates that the overcomplete phases before it used most (section III-D).",
        examples=["used"],
    )
    discriminator_filters: Annotated[int, Field(ge=4, multiple_of=4)] = Field(
        default=64,
        description="Filters of the first layer of the discriminator.",
        examples=[64],
        json_schema_extra=unit("filters"),
    )
    data: DataConfig = Field(
        description="Sources of training pictures, and how clips are cut from them.",
        examples=[{"clips": ["data/clips"]}],
    )
    phases: list[PhaseConfig] = Field(
        min_length=1,
        description="The phases, one after the other.",
        examples=[
            [{"name": "intra", "model": "intra", "stage": 1, "steps": 2000, "quantiser": "noise"}]
        ],
    )
    variants: dict[str, dict[str, Any]] = Field(
        default={},
        description="Further runs of this file by name, each with the keys that differ. A mapping "
        "changes key by key, anything else is replaced; phases may be a mapping from the name of "
        "a phase, or all, to its changed keys. --variant chooses them, one over the other, and "
        "their names follow that of the run.",
        examples=[{"l1": {"phases": {"all": {"loss": {"per": 0.0, "adv": 0.0}}}}}],
    )
    evaluation: EvaluationConfig = Field(
        default=EvaluationConfig(),
        description="What is measured during a run.",
        examples=[{"clips": ["carphone"], "every": 2000}],
    )

    def omega_of(self, model: Kind) -> list[float]:
        """Weights of the quality presets of one kind of frame."""
        return self.intra_omega or self.omega if model == "intra" else self.omega

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        of_both = [name for name, config in PRESETS.items() if not config.intra]
        check_name("preset", self.preset, [*of_both, *DVST_PRESETS])
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
        for phase in self.phases:
            self._check_rate(phase)
        names = [phase.name for phase in self.phases]
        if len(set(names)) < len(names):
            raise InputError(
                "phases with one name", found=names, allowed="unique names", remedy="Rename."
            )
        return self

    def _check_rate(self, phase: PhaseConfig) -> None:
        """Raises ``InputError`` unless exactly DVST's P-frame phases name a rate that exists."""
        has_rates = self.preset in DVST_PRESETS and phase.model == "inter"
        allowed: Any = "nothing: this model has all its rates in one"
        if has_rates:
            count = min(len(self.omega), DVST_PRESETS[self.preset].num_rates)
            allowed = f"a rate from 0 to {count - 1}, an entry of omega"
        loss = phase.loss
        if not has_rates and (loss.prediction or loss.flow or loss.streams):
            raise InputError(
                f"loss of phase {phase.name}",
                found=[key for key in ("prediction", "flow", "streams") if getattr(loss, key)],
                allowed="these keys in P-frame phases of DVST alone",
                remedy="Leave them out.",
            )
        if (phase.rate in range(count)) if has_rates else phase.rate is None:
            return
        raise InputError(
            f"rate of phase {phase.name}",
            found=phase.rate,
            allowed=allowed,
            remedy="See scenarios/train_dvst_tiny.yaml.",
        )


def load_train_config(path: str | Path, variants: Sequence[str] = ()) -> TrainConfig:
    """Read and validate a training file.

    Parameters: ``variants`` : names in the file's ``variants``, each applied over those before it.
    Output: the run, without ``variants``. Its name ends in the chosen ones.
    Raises ``InputError`` for a missing file, broken YAML, an unknown key (with the nearest
    name), a wrong type or a value out of range, and a variant or phase that the file lacks.
    """
    document, file = load_yaml(path), Path(path).name
    config = validated(document.data, TrainConfig, file, _EXAMPLE, lines=document.lines)
    known = document.data.pop("variants", {}) or {}
    if not variants:
        return config.model_copy(update={"variants": {}})
    fields = document.data
    if not known:
        raise InputError(
            f"variant of {file}",
            found=", ".join(variants),
            allowed="none, because the file has no key variants",
            remedy="Leave --variant out, or choose a file with variants, such as "
            "scenarios/train_paper_channels.yaml.",
        )
    for name in variants:
        check_name("variant", name, known)
        fields = _changed(fields, known[name])
    if "name" not in _keys_of(known, variants):
        fields["name"] = "_".join([fields["name"], *variants])
    return validated(fields, TrainConfig, f"{file}, variant {' '.join(variants)}", _EXAMPLE)


def _keys_of(known: dict[str, Any], variants: Sequence[str]) -> set[str]:
    return {key for name in variants for key in known[name]}


def _changed(fields: Any, changes: Any) -> Any:
    """``fields`` with ``changes``, as ``TrainConfig.variants`` says. Nothing given is altered."""
    if isinstance(fields, list) and isinstance(changes, dict):
        names = [phase["name"] for phase in fields]
        for name in changes:
            check_name("phase of a variant", name, ["all", *names])
        of_all = changes.get("all", {})
        return [_changed(_changed(p, of_all), changes.get(p["name"], {})) for p in fields]
    if not isinstance(fields, dict) or not isinstance(changes, dict):
        return changes
    both = {key: _changed(fields[key], new) for key, new in changes.items() if key in fields}
    return {**fields, **changes, **both}


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


def num_perceptual(loss: LossConfig, batch: int) -> int:
    """Clips of so many on which LPIPS is computed."""
    return max(1, round(loss.per_share * batch))
