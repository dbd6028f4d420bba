"""Channels, equalisers and LDPC decoders that a scenario can name. This file loads no TensorFlow.

A channel is described here and nowhere else. The fields of its ``Condition`` beside ``snr_db`` are
keys of a scenario's ``link``, axes of the grid, columns of the tables and parts of the key of the
cache of block error rates. So are the fields of ``Impairments``, which go with every channel. To
add a channel from outside the package, before a sweep::

    CHANNELS["mine"] = ChannelType("mine", "My channel", NoOptions, "my_package:MyChannel")

``MyChannel(equalizer=..., csi_aware=...)`` must return an object that follows
``pvsc_link.link.channel.Channel``. The fields of its condition become further keyword arguments.
"""

import functools
import importlib.util
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from pvsc_link.link.ofdm_condition import OfdmCondition
from pvsc_link.link.transport_options import Transport
from pvsc_link.options import (
    Implementation,
    NmseDb,
    NoOptions,
    Registry,
    StrictModel,
    load_implementation,
    unit,
    validated,
)
from pvsc_link.storage import digest
from pvsc_link.types import ChannelPoint, InputError

#: Smallest |h|^2 that is divided by (-60 dB); in a deeper fade the estimate shrinks to zero.
CHANNEL_POWER_FLOOR = 1e-6
#: Smallest noise variance (-80 dB); with none at all the LLRs would be infinite.
NOISE_FLOOR = 1e-8


def _perfect_is_none(value: Any) -> Any:
    return None if value == -math.inf else value


class BlockFadingCondition(StrictModel):
    """Condition of a flat channel that is constant over a coherence block and is estimated."""

    csi_nmse_db: Annotated[NmseDb | None, BeforeValidator(_perfect_is_none)] = Field(
        None,
        description="Normalised mean squared error of the channel estimate in dB (eq. 3); "
        "null: perfect CSI.",
        examples=[[-20, -10]],
        json_schema_extra=unit("dB"),
    )
    coherence_length: Annotated[int, Field(ge=1, lt=2**31, strict=True)] = Field(
        1,
        description="Channel uses over which the fading is constant.",
        examples=[64],
        json_schema_extra=unit("channel uses"),
    )


class RicianCondition(BlockFadingCondition):
    """Condition of Rician block fading."""

    k_factor_db: float = Field(
        ge=-100,
        le=100,
        description="K factor of Rician fading in dB: power of the line of sight over that of the "
        "scattered paths.",
        examples=[6],
        json_schema_extra=unit("dB"),
    )


def _as_json(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value


def _json_of_a_mapping(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(
            "block_options", found=text, allowed="a mapping", remedy="Write keys and values."
        )
    return json.dumps(value, sort_keys=True)


@functools.cache
def module_digest(path: str) -> str:
    """Digest of the file of the module in a dotted path, as it is when it is first asked for.

    The module is found, and not run; packages above it are. Raises ``InputError`` where there is no
    such file.
    """
    module = path.partition(":")[0]
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"No module named {module!r}")
        return digest(Path(spec.origin).read_bytes())[:16]
    except (ImportError, ValueError, OSError) as error:
        raise InputError(
            "block",
            found=path,
            allowed='a path "package.module:name" to a module that Python finds',
            remedy=f"{error}. Install the package, or name its folder in PYTHONPATH.",
        ) from error


class SionnaCondition(StrictModel):
    """Condition of a channel that is a block of the user's (``sionna_channel.SionnaChannel``)."""

    block: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] = Field(
        description="Dotted path package.module:make of a class or function that makes the block "
        "of the channel sionna.",
        examples=["my_blocks:Nakagami"],
    )
    block_options: Annotated[
        str,
        BeforeValidator(_as_json),
        AfterValidator(_json_of_a_mapping),
        WithJsonSchema({"type": ["object", "string"]}),
    ] = Field(
        "{}",
        description="Keyword arguments of what block names; in the tables as JSON.",
        examples=[{"m": 4}],
    )
    block_gain_db: Annotated[float, Field(ge=-200, le=200)] = Field(
        0.0,
        description="Mean power E|h|^2 of the block in dB; the SNR is that after this gain.",
        examples=[0.0],
        json_schema_extra=unit("dB"),
    )
    block_digest: str | None = Field(
        None,
        validate_default=True,
        description="Digest of the file that block is in, which need not be given: rows of another "
        "file are other rows. One that is given must be that of the file.",
        examples=["0123456789abcdef"],
    )

    @field_validator("block_digest")
    @classmethod
    def _of_the_file(cls, given: str | None, info: ValidationInfo) -> str | None:
        if "block" not in info.data:  # which is an error of its own
            return given
        found = module_digest(info.data["block"])
        if given not in (None, found):
            raise InputError(
                "block_digest",
                found=given,
                allowed=found,
                remedy="The file of the block has changed: leave the key out, or take that file.",
            )
        return found


class PacketsCondition(StrictModel):
    """Condition of a lossy packet network (``packets.PacketAir``)."""

    loss: str = Field(
        "iid",
        description="Law of packet losses: iid (independent), gilbert (bursts), or a CSV file of 0 "
        "and 1, in which 1 is a lost packet.",
        examples=[["iid", "gilbert"]],
    )
    loss_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        0.0,
        description="Fraction of the packets that is lost under iid and gilbert.",
        examples=[[0, 0.01, 0.05, 0.1]],
        json_schema_extra=unit("1"),
    )
    loss_burst: Annotated[float, Field(ge=1, le=1e6)] | None = Field(
        None,
        description="Mean length of a burst of lost packets, of gilbert alone.",
        examples=[4],
        json_schema_extra=unit("packets"),
    )
    loss_digest: str | None = Field(
        None,
        description="Digest of the CSV file that loss names, which need not be given: rows of "
        "another file are other rows. One that is given must be that of the file.",
        examples=["0123456789abcdef"],
    )
    mtu: Annotated[int, Field(ge=64, le=65_535, strict=True)] = Field(
        1200,
        description="Most bytes of a packet, its headers included.",
        examples=[1200],
        json_schema_extra=unit("bytes"),
    )
    header_bytes: Annotated[int, Field(ge=0, le=1000, strict=True)] = Field(
        40,
        description="Bytes of the headers of a packet, which are counted: 20 of IPv4, 8 of UDP and "
        "12 of RTP.",
        examples=[40],
        json_schema_extra=unit("bytes"),
    )
    symbol_bits: Annotated[int, Field(ge=2, le=16, strict=True)] = Field(
        8,
        description="Bits to which real and imaginary part of an analog symbol are quantised each.",
        examples=[[4, 8]],
        json_schema_extra=unit("bits"),
    )

    @model_validator(mode="before")
    @classmethod
    def _of_the_law(cls, data: Any) -> Any:
        """What a law of losses does not have is None."""
        if not isinstance(data, dict) or not isinstance(data.get("loss", "iid"), str):
            return data
        loss = data.get("loss", "iid")
        if loss in ("iid", "gilbert"):
            return data | {"loss_digest": None} | ({"loss_burst": None} if loss == "iid" else {})
        found = trace_digest(loss)
        if data.get("loss_digest") not in (None, found):
            raise InputError(
                "loss_digest",
                found=data["loss_digest"],
                allowed=found,
                remedy="The file that loss names has changed: leave the key out, or take that "
                "file.",
            )
        return data | {"loss_rate": None, "loss_burst": None, "loss_digest": found}

    @model_validator(mode="after")
    def _goes_together(self) -> "PacketsCondition":
        if self.mtu - self.header_bytes < _LEAST_PAYLOAD:
            raise InputError(
                "mtu with header_bytes",
                found=f"{self.mtu} and {self.header_bytes}",
                allowed=f"at least {_LEAST_PAYLOAD} bytes between them",
                remedy="Make the packets larger: most networks carry 1200 to 1500 bytes.",
            )
        if self.loss_digest is None and self.loss_rate is None:
            raise InputError(
                "loss_rate",
                found=None,
                allowed="a number from 0 to 1",
                remedy=f"The law {self.loss} needs it.",
            )
        if self.loss == "gilbert":
            self._check_bursts()
        return self

    def _check_bursts(self) -> None:
        """Between two bursts lies a packet at least, so bursts of mean B lose B / (B + 1)."""
        if self.loss_burst is None:
            raise InputError(
                "loss_burst",
                found=None,
                allowed="the mean length of a burst in packets, from 1",
                remedy="Write loss_burst: 4, for instance, or loss: iid.",
            )
        most = self.loss_burst / (self.loss_burst + 1)
        if self.loss_rate is not None and self.loss_rate > most:
            raise InputError(
                "loss_rate",
                found=self.loss_rate,
                allowed=f"at most {most:g} in bursts of mean length {self.loss_burst:g}",
                remedy="Make the bursts longer.",
            )


#: Fewest bytes of a packet beside its headers.
_LEAST_PAYLOAD = 24


@functools.cache
def loss_trace(path: str) -> tuple[bool, ...]:
    """Which packets a CSV file of 0 and 1 loses, as it is when it is first asked for.

    The numbers are separated by commas, semicolons, spaces or ends of lines. Raises ``InputError``
    for a name that does not end in ``.csv``, and for a file that is missing or holds anything else.
    """
    remedy = "Write 0 for a packet that arrives and 1 for one that is lost."
    if not path.lower().endswith(".csv"):
        raise InputError(
            "loss",
            found=path,
            allowed="iid, gilbert, or a file whose name ends in .csv",
            remedy="Name one of these.",
        )
    try:
        words = re.split(r"[\s,;]+", Path(path).expanduser().read_text().strip())
    except (OSError, ValueError) as error:
        raise InputError(
            "trace of losses",
            found=path,
            allowed="a text file that can be read",
            remedy=f"{error}. {remedy}",
        ) from error
    bad = next((word for word in words if word not in ("0", "1")), None)
    if bad is not None:
        raise InputError(
            f"trace of losses {path}",
            found=bad[:40] or "no number",
            allowed="0 and 1",
            remedy=remedy,
        )
    return tuple(word == "1" for word in words)


def trace_digest(path: str) -> str:
    """Digest of what a trace of losses says; raises ``InputError`` as ``loss_trace`` does."""
    return digest("".join("01"[lost] for lost in loss_trace(path)))[:16]


class Impairments(StrictModel):
    """Stages around any channel (``impairments.Impaired``): keys of ``link`` beside its own."""

    clip_papr_db: Annotated[float, Field(ge=0, le=40)] | None = Field(
        None,
        description="Peak-to-average power ratio in dB at which symbols are clipped before they "
        "are sent; null: no clipping.",
        examples=[6.0],
        json_schema_extra=unit("dB"),
    )
    carrier_offset: Annotated[float, Field(ge=-0.5, le=0.5)] | None = Field(
        None,
        description="Residual carrier frequency offset in cycles per channel use.",
        examples=[0.0001],
        json_schema_extra=unit("cycles per channel use"),
    )
    phase_noise: Annotated[float, Field(ge=0, le=10)] | None = Field(
        None,
        description="Variance of Wiener phase noise per channel use in rad^2, 2 pi linewidth / "
        "symbol rate.",
        examples=[0.001],
        json_schema_extra=unit("rad^2 per channel use"),
    )
    phase_interval: Annotated[int, Field(ge=1, lt=2**31, strict=True)] | None = Field(
        None,
        description="Channel uses between perfect phase references of the receiver; null: the "
        "only one is at the start of a stream.",
        examples=[1000],
        json_schema_extra=unit("channel uses"),
    )
    erasure_rate: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="Fraction of the channel uses that a Gilbert-Elliott channel erases.",
        examples=[0.05],
        json_schema_extra=unit("1"),
    )
    erasure_burst: Annotated[float, Field(ge=1, le=1e6)] | None = Field(
        None,
        description="Mean length of a burst of erasures in channel uses; null: independent "
        "erasures.",
        examples=[100.0],
        json_schema_extra=unit("channel uses"),
    )

    @model_validator(mode="after")
    def _bursts_leave_room(self) -> "Impairments":
        """Between two bursts lies a symbol at least, so bursts of mean B erase B / (B + 1)."""
        if self.erasure_rate is not None and self.erasure_burst is not None:
            most = self.erasure_burst / (self.erasure_burst + 1)
            if self.erasure_rate > most:
                raise InputError(
                    "erasure_rate",
                    found=self.erasure_rate,
                    allowed=f"at most {most:g} in bursts of mean length {self.erasure_burst:g}",
                    remedy="Make the bursts longer, or leave erasure_burst out.",
                )
        return self


def active_impairments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of these values, those of the impairments that are on, checked.

    A burst length without erasures and a phase interval without a phase error are left out, as a
    condition is that a channel does not have. Raises ``InputError`` for a bad value.
    """
    known = {name: values[name] for name in Impairments.model_fields if name in values}
    given = validated(known, Impairments, "impairments of the link", "clip_papr_db: 6")
    on = {name: value for name, value in given.model_dump().items() if value is not None}
    if not on.get("erasure_rate"):
        on.pop("erasure_burst", None)
    if "carrier_offset" not in on and "phase_noise" not in on:
        on.pop("phase_interval", None)
    return on


def refuse_unused(given: Mapping[str, list[Any]], conditions: Iterable[Mapping[str, Any]]) -> None:
    """Raise ``InputError`` for a key of a channel with a value that no condition has.

    Impairments may be without effect (``active_impairments``).

    Parameters: ``given`` : the values of keys that a user wrote, without those that are the
    default; ``conditions`` : the values of every channel condition.
    """
    used = {name for one in conditions for name, value in one.items() if value is not None}
    for name, values in given.items():
        if name not in {*used, *Impairments.model_fields} and any(
            value is not None for value in values
        ):
            raise InputError(
                name,
                found=values,
                allowed="a key that a channel of this file takes",
                remedy="Leave it out, or add the channel that it is for. "
                f"{condition_fields()[name].description}",
            )


@dataclass(frozen=True, eq=False)
class ChannelType:
    """A kind of channel.

    Parameters
    ----------
    name : key in scenarios
    label : name in figures and tables
    Condition : pydantic model of what describes the channel beside its SNR
    implementation : class of the channel, or its dotted path. It is called with ``equalizer``,
        ``csi_aware``, ``options`` and the fields of the condition as keyword arguments; inside
        traced functions numbers of the condition are scalar tensors, and None is -inf, except in
        the fields that ``static`` names
    options : keyword arguments that belong to this name
    jit_compile : whether XLA can compile the channel
    check : called with the values of a condition before a sweep begins, or a dotted path; raises
        ``InputError`` for a channel that cannot work
    static : names of fields of the condition that shape the graph, such as a number of antennas;
        they stay as they are, so that each of their values is traced once
    independent_blocks : whether block error rates are measured on blocks that meet a realisation
        each. It is for fading that may last longer than a block without a coherence length that
        says how long: blocks of one stream would then fail together
    is_packets : whether it carries packets of bytes and no symbols (``packets.PacketAir``): it has
        neither SNR nor MCS, equaliser, impairments or channel uses
    """

    name: str
    label: str
    Condition: type[StrictModel]
    implementation: Implementation
    options: Mapping[str, Any] = field(default_factory=dict)
    jit_compile: bool = True
    static: frozenset[str] = frozenset()
    independent_blocks: bool = False
    is_packets: bool = False
    check: Implementation | None = None

    def static_of(self, condition: StrictModel) -> frozenset[str]:
        """``static``, and what a property ``static_fields`` of the condition adds to it."""
        return self.static | getattr(condition, "static_fields", frozenset())

    @property
    def fades(self) -> bool:
        """Whether the channel varies in time: it then has a coherence length."""
        return "coherence_length" in self.Condition.model_fields

    @property
    def is_estimated(self) -> bool:
        """Whether the receiver has an estimate of the channel that can be wrong."""
        return "csi_nmse_db" in self.Condition.model_fields

    def condition(self, values: Mapping[str, Any]) -> StrictModel:
        """The checked condition of these values; a field that is absent has its default.

        Raises ``InputError`` that names the field, for a bad value or an unknown name.
        """
        where = f"condition of the channel {self.name}"
        return validated(dict(values), self.Condition, where, "scenarios/rayleigh_nmse.yaml")

    def point(self, snr_db: float, values: Mapping[str, Any]) -> ChannelPoint:
        """The channel point of these values; those that this channel lacks are left out.

        Raises ``InputError`` for a bad value.
        """
        names = self.Condition.model_fields
        condition = self.condition({n: v for n, v in values.items() if n in names}).model_dump()
        condition |= {} if self.is_packets else active_impairments(values)
        two = {name: condition.pop(name, None) for name in ("csi_nmse_db", "coherence_length")}
        return ChannelPoint(self.name, snr_db, **two, more=tuple(condition.items()))

    def condition_of(self, point: ChannelPoint) -> StrictModel:
        """The condition of a channel point; fields of the point that this channel lacks are unused.

        Raises ``InputError`` for a bad value, and for an error of the channel estimate on a channel
        that is not estimated.
        """
        if not self.is_estimated and _perfect_is_none(point.csi_nmse_db) is not None:
            raise InputError(
                f"csi_nmse_db under {self.label}",
                found=point.csi_nmse_db,
                allowed="null",
                remedy="Only block fading has an error of the estimate to choose.",
            )
        given = point.condition
        return self.condition({n: given[n] for n in self.Condition.model_fields if n in given})

    def check_point(self, point: ChannelPoint) -> None:
        """What can be told of a channel point before anything is sent over it.

        Raises ``InputError`` for a bad value, and for what ``check`` refuses.
        """
        condition = self.condition_of(point).model_dump()
        if self.check is not None:
            load_implementation(self.check)(**self.options, **condition)

    def make(self, *, equalizer: Any, csi_aware: bool, **condition: Any) -> Any:
        """The channel object, which follows ``pvsc_link.link.channel.Channel``.

        Parameters: ``equalizer`` : name or callable; ``csi_aware`` : whether the receiver knows the
        variance of its channel estimation error; ``condition`` : values or scalar tensors by name,
        those of ``Impairments`` among them where these are on.
        """
        stages = {n: condition.pop(n) for n in Impairments.model_fields if n in condition}
        made = load_implementation(self.implementation)
        channel = made(**self.options, **condition, equalizer=equalizer, csi_aware=csi_aware)
        if not stages:
            return channel
        return load_implementation("pvsc_link.link.impairments:Impaired")(channel, **stages)


CHANNELS: Registry[ChannelType] = Registry(
    {
        "awgn": ChannelType("awgn", "AWGN", NoOptions, "pvsc_link.link.flat_fading:Awgn"),
        "rayleigh": ChannelType(
            "rayleigh",
            "Rayleigh",
            BlockFadingCondition,
            "pvsc_link.link.flat_fading:BlockFading",
            {"law": "rayleigh"},
        ),
        "rician": ChannelType(
            "rician",
            "Rician",
            RicianCondition,
            "pvsc_link.link.flat_fading:BlockFading",
            {"law": "rician"},
        ),
        "ofdm": ChannelType(
            "ofdm",
            "OFDM",
            OfdmCondition,
            "pvsc_link.link.ofdm:OfdmChannel",
            jit_compile=False,
            independent_blocks=True,
            static=frozenset(
                {"channel_model", "cir_file", "cir_digest", "num_rx", "num_tx", "num_prb"}
                | {"subcarrier_spacing_khz", "pilots", "channel_estimation", "normalize_channel"}
            ),
        ),
        "sionna": ChannelType(
            "sionna",
            "Sionna block",
            SionnaCondition,
            "pvsc_link.link.sionna_channel:named_channel",
            jit_compile=False,
            static=frozenset({"block_gain_db"}),
            check="pvsc_link.link.sionna_channel:check_named",
        ),
        "packets": ChannelType(
            "packets",
            "Packet network",
            PacketsCondition,
            "pvsc_link.link.packets:no_symbols",
            is_packets=True,
        ),
    },
    group="pvsc_link.channels",
)

#: Equalisers for coded bits. They are unbiased, as a demapper needs it.
EQUALIZERS: dict[str, Implementation] = {
    "zf": "pvsc_link.link.equalizers:zf",
    "lmmse": "pvsc_link.link.equalizers:lmmse",
}

#: Equalisers for analog symbols, which no demapper reads.
SYMBOL_EQUALIZERS: dict[str, Implementation] = {
    **EQUALIZERS,
    "biased_lmmse": "pvsc_link.link.equalizers:biased_lmmse",
}

#: LDPC decoders: callables ``(code, num_iter) -> (llr -> bits)``.
DECODERS: dict[str, Implementation] = {
    "layered": "pvsc_link.link.ldpc.decoder:LayeredDecoder",
    "layered-xla": "pvsc_link.link.ldpc.decoder:layered_xla",
    "sionna": "pvsc_link.link.ldpc.decoder:sionna",
}


def condition_fields() -> dict[str, FieldInfo]:
    """Fields of the conditions of all channels, in the order of ``CHANNELS``, and impairments."""
    fields: dict[str, FieldInfo] = {}
    for channel in CHANNELS.values():
        for name, info in channel.Condition.model_fields.items():
            fields.setdefault(name, info)
    return fields | dict(Impairments.model_fields)


def packet_fields() -> dict[str, FieldInfo]:
    """Fields of the conditions of packet networks alone."""
    of = [dict(one.Condition.model_fields) for one in CHANNELS.values() if one.is_packets]
    others = [name for one in CHANNELS.values() if not one.is_packets
              for name in one.Condition.model_fields]  # fmt: skip
    return {name: info for fields in of for name, info in fields.items() if name not in others}


def link_fields() -> dict[str, FieldInfo]:
    """``condition_fields`` and the fields of ``Transport``: what tells two links apart."""
    return condition_fields() | dict(Transport.model_fields)


def find(what: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry ``name`` of ``table``; raises ``InputError`` with all names if there is none."""
    if not isinstance(name, str) or name not in table:
        allowed = ", ".join(sorted(table))
        raise InputError(what, found=name, allowed=allowed, remedy="Name one of these.")
    return table[name]


def find_channel(name: str) -> ChannelType:
    """The entry of ``CHANNELS``; raises ``InputError`` for an unknown name."""
    return find("channel", name, CHANNELS)


def find_equalizer(equalizer: Any, table: Mapping[str, Any] = SYMBOL_EQUALIZERS) -> Any:
    """The equaliser of this name in ``table``; a callable is returned as it is."""
    if callable(equalizer):
        return equalizer
    return load_implementation(find("equalizer", equalizer, table))
