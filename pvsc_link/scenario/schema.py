"""The scenario file as pydantic models: no extra keys, any scalar may be a list (an axis)."""

from typing import Annotated, Literal

from pydantic import Field

from pvsc_link.options import Axis, McsIndex, NmseDb, SnrDb, StrictModel


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
