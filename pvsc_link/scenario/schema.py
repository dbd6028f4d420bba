"""The scenario file as pydantic models: no extra keys, any scalar may be a list (an axis)."""

import difflib
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pvsc_link.types import InputError

T = TypeVar("T")


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class _ScalarToo:
    """Tells editors, through the JSON schema, that a scalar may stand for a list of one."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema = handler(core_schema)
        return {"anyOf": [schema["items"], schema]}


#: A scalar or a list of scalars; always a list once read.
Axis = Annotated[list[T], BeforeValidator(_as_list), Field(min_length=1), _ScalarToo()]
SnrDb = Annotated[float, Field(ge=-30, le=60)]
NmseDb = Annotated[float, Field(ge=-100, le=20)]
McsIndex = Annotated[int, Field(ge=0, le=28)]


class StrictModel(BaseModel):
    """Base of every section of a user's file: forbids unknown keys, names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _nearest_key(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise _unknown_key(str(key), list(cls.model_fields), cls.__name__.lower())
        return data


def _unknown_key(key: str, known: list[str], where: str) -> InputError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else "Remove it or see scenarios/schema.json."
    return InputError(f"unknown key in {where}", found=key, allowed=known, remedy=hint)


class RawClip(StrictModel):
    """A raw planar YUV file, which states nothing about itself."""

    path: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    pixel_format: Literal["yuv420p", "yuv444p", "yuv420p10le", "yuv444p10le"] = "yuv420p"
    fps: float = Field(default=30.0, gt=0)
    name: str | None = None


class Media(StrictModel):
    """Which video: clips, GOP lengths in frames, how many consecutive GOPs."""

    clips: Axis[str | RawClip]
    gop: Axis[Annotated[int, Field(ge=1)]] = [4]
    num_gops: int = Field(default=3, ge=1)
    first_frame: int = Field(default=0, ge=0)
    dataset_root: str | None = None


class Link(StrictModel):
    """The channel axes (section II-A) and how LDPC is decoded."""

    channel: Axis[str] = ["awgn"]
    snr_db: Axis[SnrDb]
    csi_nmse_db: Axis[NmseDb | None] = [None]
    coherence_length: Axis[Annotated[int, Field(ge=1)]] = [1]
    decoder: Axis[str] = ["layered"]
    num_iter: int = Field(default=20, ge=1, le=200)
    mcs_metric: Literal["psnr", "lpips", "dists"] = "psnr"


class SchemeEntry(StrictModel):
    """One transmission scheme and its own axes; what is left out takes the scheme's default."""

    scheme: str
    variant: Axis[str | None] = [None]
    rates: Axis[int] | Literal["all"] = "all"
    mcs: Axis[McsIndex | Literal["best", "envelope"]] = ["best"]
    equalizer: Axis[str | None] = [None]
    csi_aware: Axis[bool | None] = [None]
    preset: str | None = None
    index: str | None = None
    binary: str | None = None
    checkout: str | None = None
    python: str | None = None
    checkpoints: str | None = None
    device: str | None = None
    timeout_s: float | None = Field(default=None, gt=0)
    side_format: str | None = None
    refresh_every: int | None = Field(default=None, ge=0)
    weights: str | None = None
    receiver_arithmetic: str | None = None
    jit_compile: bool | None = None


class Stop(StrictModel):
    """When a point has met enough seeds: as soon as one of the given bounds is reached.

    ``lpips_interval`` : width of the 95 % confidence interval of mean LPIPS over seeds;
    ``frame_errors`` : frames lost in all; ``seconds`` : spent on the point in all.
    """

    lpips_interval: float | None = Field(default=None, gt=0)
    frame_errors: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    max_seeds: int = Field(default=32, ge=1, le=10_000)


class Scenario(StrictModel):
    """One sweep: ``name`` is its results folder, ``anchor`` the reference of every BD-CBR.

    ``stop`` goes on to further seeds after those of ``seed``; ``with_untrained`` lets results of
    models without trained weights into figures and BD-CBR.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: Axis[Annotated[int, Field(ge=0, lt=2**31)]] = [1]
    media: Media
    link: Link
    schemes: list[SchemeEntry] = Field(min_length=1)
    anchor: str | None = None
    metrics: Axis[Literal["psnr", "lpips", "dists"]] = ["psnr", "lpips", "dists"]
    stop: Stop | None = None
    with_untrained: bool = False

    @property
    def seeds(self) -> list[int]:
        """Those of ``seed``, and after them those that ``stop`` may go on to."""
        further = range(max(self.seed) + 1, max(self.seed) + 1 + self._num_further)
        return [*self.seed, *further]

    @property
    def _num_further(self) -> int:
        return max(0, self.stop.max_seeds - len(self.seed)) if self.stop else 0
