"""The scenario file as pydantic models. Any value that is marked as an axis may be a list.

What metrics, channels, codecs and schemes add to a scenario stands in their registries: the keys of
``link`` beside the fixed ones are the fields of the channels' conditions, of the impairments and of
the transport, those of a scheme entry are the scheme's own options, and every metric has a bound in
``stop``. The registries are read whenever a scenario is read, so that an entry that was assigned to
one of them counts at once.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import core_schema

from pvsc_link.link import (
    CHANNELS,
    DECODERS,
    EQUALIZERS,
    SYMBOL_EQUALIZERS,
    ChannelType,
    Harq,
    Impairments,
    Transport,
    active_impairments,
    condition_fields,
    refuse_unused,
)
from pvsc_link.media import image_clips
from pvsc_link.metrics import METRICS, MetricType
from pvsc_link.options import (
    Axis,
    McsIndex,
    NameIn,
    SnrDb,
    StrictModel,
    check_name,
    documented,
    unit,
    validated,
)
from pvsc_link.schemes import SchemeType, scheme_types
from pvsc_link.types import InputError

Model = TypeVar("Model", bound=BaseModel)
#: What counts of the transport over a packet network.
PACKET_TRANSPORT = ("transport_unit", "count_headers")
#: Keys of ``media.pixels.MATRICES``.
Matrix = Literal["bt709", "bt601", "bt2020", "smpte240m", "fcc"]


class RawClip(StrictModel):
    """A raw planar YUV file, which states nothing about itself."""

    path: str = Field(description="The file.", examples=["foreman.yuv"])
    width: int = Field(
        gt=0, description="Pixels.", examples=[352], json_schema_extra=unit("pixels")
    )
    height: int = Field(
        gt=0, description="Pixels.", examples=[288], json_schema_extra=unit("pixels")
    )
    pixel_format: Literal["yuv420p", "yuv444p", "yuv420p10le", "yuv444p10le"] = Field(
        "yuv420p",
        description="Sampling and bit depth, in the words of ffmpeg.",
        examples=["yuv420p"],
    )
    fps: float = Field(
        default=30.0,
        gt=0,
        description="Frames per second.",
        examples=[29.97],
        json_schema_extra=unit("frames per second"),
    )
    matrix: Matrix | None = Field(
        None, description="Colour matrix; default: BT.709.", examples=["bt601"]
    )
    sample_range: Literal["limited", "full"] | None = Field(
        None, description="Range of the samples; default: limited.", examples=["limited"]
    )
    name: str | None = Field(
        None, description="Name in the results; default: the path.", examples=["foreman"]
    )


def _clips_or_images(schema: dict[str, Any]) -> None:
    """In the JSON schema, ``images`` may stand in place of ``clips``."""
    del schema["required"]
    schema["properties"]["clips"]["default"] = None
    schema["allOf"] = [{"anyOf": [{"required": ["clips"]}, {"required": ["images"]}]}]


class Media(StrictModel):
    """Which video is sent."""

    model_config = ConfigDict(json_schema_extra=_clips_or_images)

    clips: Axis[str | RawClip] = Field(
        description="Names of clips, paths of video files, or raw YUV files with their size.",
        examples=[["carphone", "my/clip.mp4"]],
    )
    images: str | None = Field(
        None,
        description="In place of clips, still images: a folder of pictures of any sizes, or the "
        "name of a set (embedded, kodak, clic2020-valid, clic2021-test, tecnick). Each picture "
        "is a clip of one frame.",
        examples=["kodak"],
    )
    gop: Axis[Annotated[int, Field(ge=1)]] = Field(
        [4],
        description="GOP length in frames.",
        examples=[[4, 8]],
        json_schema_extra=unit("frames"),
    )
    num_gops: int = Field(
        default=3,
        ge=1,
        description="Consecutive GOPs of each clip.",
        examples=[3],
        json_schema_extra=unit("GOPs"),
    )
    first_frame: int = Field(
        default=0,
        ge=0,
        description="Index of the first frame that is sent.",
        examples=[0],
        json_schema_extra=unit("frames"),
    )
    dataset_root: str | None = Field(
        None,
        description="Folder of the standard test sequences that are named in clips.",
        examples=["/data/sequences"],
    )
    matrix: Matrix | None = Field(
        None,
        description="Colour matrix of all clips, in place of what their files state; default: as "
        "stated, and BT.709 where nothing is.",
        examples=["bt709"],
    )
    sample_range: Literal["limited", "full"] | None = Field(
        None,
        description="Range of the samples of all clips, in place of what their files state; "
        "default: as stated, and limited where nothing is.",
        examples=["full"],
    )
    hdr: Literal["refuse", "tone_map"] = Field(
        "refuse",
        description="Whether PQ and HLG are refused or tone-mapped to SDR.",
        examples=["tone_map"],
    )

    @model_validator(mode="before")
    @classmethod
    def _of_images(cls, data: Any) -> Any:
        """Fill in the clips that ``images`` stands for: one frame each."""
        if not isinstance(data, dict) or not isinstance(data.get("images"), str):
            return data
        names = image_clips(data["images"], data.get("dataset_root"))
        stills = {"clips": names, "gop": [1], "num_gops": 1, "first_frame": 0}
        for key, value in stills.items():
            given = data.get(key, value)
            if given != value and given != (value[0] if key == "gop" else value):  # type: ignore[index]
                raise InputError(
                    f"media.{key} with images",
                    found=given,
                    allowed="no such key" if key == "clips" else value,
                    remedy=f"Leave {key} out: every picture is a clip of one frame.",
                )
        return data | stills


class Link(StrictModel):
    """The channel axes (section II-A), impairments, transport, and how LDPC is decoded."""

    channel: Axis[Annotated[str, NameIn("link.channel", CHANNELS)]] = Field(
        ["awgn"], description="Channel law.", examples=[["awgn", "rayleigh"]]
    )
    snr_db: Axis[SnrDb] = Field(
        [],
        description="Es/N0 per complex symbol in dB, with E|h|^2 = 1. The channel packets alone "
        "has none.",
        examples=[[0, 6, 12]],
        json_schema_extra=unit("dB") | {"required_by": "every channel but packets"},
    )
    decoder: Axis[Annotated[str, NameIn("link.decoder", DECODERS)]] = Field(
        ["layered"], description="LDPC decoder.", examples=["layered"]
    )
    num_iter: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Most iterations of the LDPC decoder.",
        examples=[20],
        json_schema_extra=unit("iterations"),
    )
    mcs_metric: Annotated[
        str, NameIn("link.mcs_metric", METRICS, lambda metric: metric.can_choose_mcs)
    ] = Field(
        "psnr",
        description="Metric by which mcs: best weighs what an MCS delivers: one of single frames "
        "that is quick to measure.",
        examples=["psnr"],
    )

    def conditions(self) -> Iterator[tuple[str, float, dict[str, Any]]]:
        """Every channel condition: name of the channel, SNR in dB, values of its condition.

        The axes of a condition that a channel does not have collapse to one point. Impairments
        that are off are not among the values.
        A packet network has no noise: its SNR is infinite.
        Raises ``InputError`` for a value that the channel's condition refuses, for a key that no
        channel here takes, and where there is no SNR and a channel needs it.
        """
        self._check_packets()
        seen = []
        for name in self.channel:
            channel = CHANNELS[name]
            own = list(channel.Condition.model_fields)
            axes = {field: getattr(self, field) for field in [*own, *Impairments.model_fields]}
            snrs = [math.inf] if channel.is_packets else self.snr_db
            for snr_db, *values in product(snrs, *axes.values()):
                given = dict(zip(axes, values, strict=True))
                condition = channel.condition({field: given[field] for field in own}).model_dump()
                stages = {} if channel.is_packets else active_impairments(given)
                point = (name, snr_db, condition | stages)
                if point not in seen:
                    seen.append(point)
        keys = [name for name in self.model_fields_set if name in condition_fields()]
        defaults = type(self).model_fields
        given = {n: getattr(self, n) for n in keys if getattr(self, n) != defaults[n].default}
        refuse_unused(given, [condition for *_, condition in seen])
        yield from seen

    def _check_packets(self) -> None:
        """Refuse a channel of symbols without an SNR, and keys that packets alone do not have."""
        if not all(CHANNELS[name].is_packets for name in self.channel):
            if not self.snr_db:
                raise InputError(
                    "link.snr_db",
                    found="no value",
                    allowed="Es/N0 in dB, such as [0, 6, 12]",
                    remedy=f"{', '.join(self.channel)} needs it; packets alone does not.",
                )
            return
        of_symbols = {"snr_db", "decoder", "num_iter", *Impairments.model_fields}
        of_symbols |= set(Transport.model_fields) - set(PACKET_TRANSPORT)
        for name in sorted(of_symbols & self.model_fields_set):
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default:
                raise InputError(
                    f"link.{name} with packets",
                    found=value,
                    allowed="no such key: a packet network has no symbols, blocks or "
                    "retransmissions",
                    remedy="Leave it out, or add the channel that it is for.",
                )

    def transports(self) -> list[Transport]:
        """Every way of transport, in the order of its axes.

        A latency budget that is not above HARQ's round trip allows no retransmission; rows have
        ``Transport.note`` then. Raises ``InputError`` where this holds for all budgets of a HARQ,
        for other values that do not go together, and for HARQ where the scenario says that a GOP
        is one transport.
        """
        self._check_unit_of_harq()
        axes = {name: getattr(self, name) for name in Transport.model_fields}
        combined = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
        where, example = "transport of the link", "block_length: 6144"
        made = dict.fromkeys(validated(values, Transport, where, example) for values in combined)
        _check_budgets_of_harq(made)
        return list(made)

    def _check_unit_of_harq(self) -> None:
        units, harq = (getattr(self, name) for name in ("transport_unit", "harq"))
        if "transport_unit" in self.model_fields_set and "frame" not in units and any(harq):
            raise InputError(
                "transport_unit with harq",
                found=units,
                allowed="frame",
                remedy="HARQ sends frame by frame: write frame, or leave transport_unit out.",
            )


def _check_budgets_of_harq(made: Iterable[Transport]) -> None:
    """Refuse a HARQ that no latency budget of the scenario allows a retransmission."""
    of_harq: dict[Harq, list[Transport]] = {}
    for transport in made:
        if transport.harq is not None:
            of_harq.setdefault(transport.harq, []).append(transport)
    for harq, transports in of_harq.items():
        if all(transport.note for transport in transports):
            raise InputError(
                "latency_budget_ms with harq",
                found=list(dict.fromkeys(t.latency_budget_ms for t in transports)),
                allowed=f"more than harq's round_trip_ms, which is {harq.round_trip_ms:g}",
                remedy="No retransmission can arrive in time: leave harq out, or add a larger "
                "budget.",
            )


def _known_rule(mcs: Any) -> Any:
    """Refuses a word that is no rule for an MCS, with the nearest one."""
    if isinstance(mcs, str) and not mcs.strip().lstrip("+-").isdigit():
        check_name("mcs", mcs, ("best", "envelope", "olla"))
    return mcs


class SchemeEntry(StrictModel):
    """One transmission scheme and its axes; what is left out takes the scheme's own default."""

    scheme: str = Field(description="Name of the scheme.", examples=["x265"])
    variant: Axis[str | None] = Field(
        [None], description="Variant of the scheme.", examples=["psy-off"]
    )
    rates: Axis[int] | Literal["all"] = Field(
        "all",
        description="The scheme's own rate index: QP of a codec, quality preset of a model.",
        examples=[[27, 32, 37, 42]],
        json_schema_extra=unit("1"),
    )
    mcs: Axis[
        Annotated[McsIndex | Literal["best", "envelope", "olla"], BeforeValidator(_known_rule)]
    ] = Field(
        ["best"],
        description="Index in the MCS table, or the rule that chooses it: best per channel "
        "condition, best per rate (envelope), or an outer loop that follows the acknowledgements "
        "to a block error rate of 10 % (olla).",
        examples=["best"],
        json_schema_extra=unit("1"),
    )
    equalizer: Axis[str | None] = Field(
        [None], description="Equalizer of the receiver.", examples=["lmmse"]
    )
    csi_aware: Axis[bool | None] = Field(
        [None],
        description="Whether the receiver knows the variance of the CSI error.",
        examples=[True],
    )

    def options(self, variant: str | None = None) -> dict[str, Any]:
        """The scheme's own options that the entry gives, with one of its variants."""
        own = [name for name in type(self).model_fields if name not in SchemeEntry.model_fields]
        given = {name: getattr(self, name) for name in own if name in self.model_fields_set}
        given["variant"] = variant
        return {name: value for name, value in given.items() if value is not None}


class Stop(StrictModel):
    """When a point has met enough seeds: as soon as one of the given bounds is reached."""

    frame_errors: int | None = Field(
        default=None,
        ge=1,
        description="Frames lost in all seeds.",
        examples=[100],
        json_schema_extra=unit("frames"),
    )
    seconds: float | None = Field(
        default=None,
        gt=0,
        description="Seconds spent on all seeds.",
        examples=[600],
        json_schema_extra=unit("s"),
    )
    max_seeds: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="Most seeds of a point.",
        examples=[32],
        json_schema_extra=unit("seeds"),
    )

    @property
    def intervals(self) -> dict[str, float]:
        """Wanted width of the 95 % confidence interval by metric, of those that are given."""
        widths = {name: getattr(self, f"{name}_interval", None) for name in METRICS}
        return {name: width for name, width in widths.items() if width is not None}


class _FromRegistries:
    """Pydantic annotation of a section whose keys come from the registries.

    Parameters: ``base`` : the section's fixed keys; ``model_of`` : the model with all keys that
    some data is read by; ``union`` : the type that the JSON schema shows.
    """

    def __init__(
        self,
        base: type[BaseModel],
        model_of: Callable[[dict[str, Any]], type[BaseModel]],
        union: Callable[[], Any],
    ):
        self._base, self._model_of, self._union = base, model_of, union

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return handler(TypeAdapter(self._union()).core_schema)

    def _read(self, data: Any) -> Any:
        if type(data) is self._base:  # made in Python, without the keys of the registries
            data = data.model_dump(exclude_unset=True)
        return self._model_of(data).model_validate(data) if isinstance(data, dict) else data


def _link_model(data: object = None) -> type[Link]:
    return _link_model_of(tuple(CHANNELS.values()))


@functools.cache
def _link_model_of(channels: tuple[ChannelType, ...]) -> type[Link]:
    fields: dict[str, Any] = {}
    for channel in channels:
        for name, field in channel.Condition.model_fields.items():
            kind, default = _annotation(field), field.default
            if field.is_required():  # by this channel: a scenario without it leaves the key out
                kind, default = kind | None, None
            fresh = (_axis(kind), Field([default], **documented(field)))
            taken = any(name in m.model_fields for m in (Link, Impairments, Transport))
            if fields.setdefault(name, fresh)[0] != fresh[0] or taken:
                raise InputError(
                    f"condition of channel {channel.name}",
                    found=f"a field {name} of type {field.annotation}",
                    allowed="a name that is free, or the type that another channel gives it",
                    remedy="Give the field another name.",
                )
    for name, field in Impairments.model_fields.items():
        fields[name] = (_axis(_annotation(field)), Field([None], **documented(field)))
    for name, field in Transport.model_fields.items():
        default = Field([field.default], **documented(field))
        fields[name] = (_axis(_annotation(field)), default)
    return _extended(Link, fields)


def _stop_model(data: object = None) -> type[Stop]:
    return _stop_model_of(tuple(METRICS.values()))


@functools.cache
def _stop_model_of(metrics: tuple[MetricType, ...]) -> type[Stop]:
    fields: dict[str, Any] = {}
    for metric in metrics:
        measured_in = f", in {metric.unit}" if metric.unit else ""
        text = (
            f"Width of the 95 % confidence interval of mean {metric.label} over seeds{measured_in}."
        )
        fields[f"{metric.name}_interval"] = (
            float | None,
            Field(
                None,
                gt=0,
                description=text,
                examples=[0.01],
                json_schema_extra=unit(metric.unit or "1"),
            ),
        )
    return _extended(Stop, fields)


def _entry_model(data: dict[str, Any]) -> type[SchemeEntry]:
    if "scheme" not in data:
        return SchemeEntry  # which says that it is missing
    types = scheme_types()
    check_name("schemes.scheme", data["scheme"], types)
    return _entry_model_of(types[data["scheme"]])


def _entry_union() -> Any:
    models = [_entry_model_of(scheme) for scheme in scheme_types().values()]
    return Annotated[functools.reduce(operator.or_, models), Field(discriminator="scheme")]


@functools.cache
def _entry_model_of(scheme: SchemeType) -> type[SchemeEntry]:
    common = SchemeEntry.model_fields
    equalizers = EQUALIZERS if scheme.family == "separated" else SYMBOL_EQUALIZERS
    known = NameIn(f"equalizer of scheme {scheme.name}", equalizers)
    fields: dict[str, Any] = {
        "scheme": (Literal[scheme.name], Field(**documented(common["scheme"]))),
        # No key of this scheme, unless its options have it; the sweep puts the label here.
        "variant": (SkipJsonSchema[list[str | None]], Field([None], exclude=True)),
        "equalizer": (
            Axis[Annotated[str, known] | None],
            Field([None], **documented(common["equalizer"])),
        ),
    }
    for name, field in scheme.Options.model_fields.items():
        kind = _annotation(field)
        if name == "variant":
            fields[name] = (_axis(kind | None), Field([None], **documented(field)))
        elif name not in common:
            fields[name] = (kind if field.is_required() else kind | None, field)
        else:
            raise InputError(
                f"option of scheme {scheme.name}",
                found=name,
                allowed=f"names other than {', '.join(common)}",
                remedy="Give the option another name.",
            )
    return _extended(SchemeEntry, fields, f"scheme {scheme.name}")


def _axis(kind: Any) -> Any:
    return Axis[kind]  # type: ignore[valid-type]


def _annotation(field: FieldInfo) -> Any:
    """The type of a field with its bounds."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def _extended(base: type[Model], fields: dict[str, Any], name: str = "") -> type[Model]:
    """``base`` with further fields; ``name`` : in messages, by default that of ``base``."""
    return create_model(name or base.__name__, __base__=base, __doc__=base.__doc__, **fields)


class Scenario(StrictModel):
    """One sweep over channel conditions, clips and schemes."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="Name of the folder of results.",
        examples=["my_curve"],
    )
    seed: Axis[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        [1],
        description="Seeds of fading, CSI error and noise.",
        examples=[[1, 2, 3]],
        json_schema_extra=unit("1"),
    )
    media: Media = Field(
        description="Which video is sent.", examples=[{"clips": "carphone", "gop": 4}]
    )
    link: Annotated[SerializeAsAny[Link], _FromRegistries(Link, _link_model, _link_model)] = Field(
        description="Over which channels, and how LDPC is decoded.",
        examples=[{"channel": "awgn", "snr_db": 6}],
    )
    schemes: list[
        Annotated[
            SerializeAsAny[SchemeEntry], _FromRegistries(SchemeEntry, _entry_model, _entry_union)
        ]
    ] = Field(
        min_length=1,
        description="By which schemes.",
        examples=[[{"scheme": "x265", "rates": [32]}]],
    )
    anchor: str | None = Field(
        None,
        description="Reference of BD-CBR: a scheme, or scheme:variant as in the results.",
        examples=["x265"],
    )
    metrics: Axis[Annotated[str, NameIn("metrics", METRICS)]] = Field(
        ["psnr", "lpips", "dists"],
        description="Quality metrics that are measured.",
        examples=[["psnr", "lpips"]],
    )
    stop: (
        Annotated[SerializeAsAny[Stop], _FromRegistries(Stop, _stop_model, _stop_model)] | None
    ) = Field(
        None,
        description="Go on to further seeds until one of these bounds is reached.",
        examples=[{"lpips_interval": 0.01, "max_seeds": 32}],
    )
    with_untrained: bool = Field(
        False,
        description="Results of models without trained weights enter figures and BD-CBR.",
        examples=[True],
    )

    @property
    def seeds(self) -> list[int]:
        """Those of ``seed``, and after them those that ``stop`` may go on to."""
        further = range(max(self.seed) + 1, max(self.seed) + 1 + self._num_further)
        return [*self.seed, *further]

    @property
    def _num_further(self) -> int:
        return max(0, self.stop.max_seeds - len(self.seed)) if self.stop else 0
