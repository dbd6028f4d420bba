"""How bits and symbols of a GOP are transported: one description. This file loads no TensorFlow.

The fields of ``Transport`` are keys of a scenario's ``link``, axes of its grid, columns of the
tables and parts of the identity of every point.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pvsc_link.options import StrictModel, unit
from pvsc_link.types import InputError

#: Most channel uses that the round trips of a block may last: the places of a GOP have 31 bits,
#: and one half of them is left for what is sent.
_MOST_USES = 2**30


class Harq(StrictModel):
    """Hybrid automatic repeat request: blocks that fail are sent again and combined."""

    max_retransmissions: Annotated[int, Field(ge=1, le=31, strict=True)] = Field(
        default=3,
        description="Most retransmissions of a block after its first transmission.",
        examples=[3],
        json_schema_extra=unit("retransmissions"),
    )
    combining: Literal["ir", "chase"] = Field(
        default="ir",
        description="ir: redundancy versions 0, 2, 3, 1 in turn (incremental redundancy); chase: "
        "the same bits again.",
        examples=["ir"],
    )
    round_trip_ms: Annotated[float, Field(gt=0, le=10_000)] = Field(
        default=4.0,
        description="From the end of a transmission to the start of the next one, in ms.",
        examples=[4.0],
        json_schema_extra=unit("ms"),
    )


class _NoneToo:
    """The word ``none`` may stand for null; the JSON schema says so."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema = handler(core_schema)
        return {"anyOf": [*schema["anyOf"], {"const": "none"}]}


def _none_is_null(value: Any) -> Any:
    return None if value == "none" else value


class Transport(StrictModel):
    """Keys of ``link`` that say how bits and symbols are transported, for all schemes alike."""

    mcs_table: Literal[1, 2, 3] = Field(
        default=1,
        description="MCS table of TS 38.214: 1, 2 or 3 for Table 5.1.3.1-1, -2 (up to 256-QAM) or "
        "-3 (low rates).",
        examples=[2],
        json_schema_extra=unit("1"),
    )
    block_length: Annotated[int, Field(ge=24, le=32_768, strict=True)] = Field(
        default=6144,
        description="Most coded bits of a code block; rounded down to whole symbols.",
        examples=[[1536, 6144]],
        json_schema_extra=unit("coded bits"),
    )
    segmentation: Literal["equal", "shortened"] = Field(
        default="equal",
        description="equal: a stream is divided into blocks of one size at the rate of the MCS (TS "
        "38.212, 5.2.2); shortened: all blocks are full, the last one keeps all its parity bits.",
        examples=["equal"],
    )
    transport_unit: Literal["gop", "frame"] = Field(
        default="gop",
        description="What is one transport: the bits of a GOP, or those of a frame.",
        examples=["frame"],
    )
    interleaving: Literal["none", "gop"] = Field(
        default="none",
        description="gop: the channel uses of a GOP are permuted before they are sent.",
        examples=["gop"],
    )
    count_headers: bool = Field(
        default=False,
        description="Whether facts that both ends know before the first frame (parameter sets, "
        "picture size, weights) are sent and counted.",
        examples=[True],
    )
    harq: Annotated[Harq | None, BeforeValidator(_none_is_null), _NoneToo()] = Field(
        default=None,
        description="Retransmission of blocks that failed; none or null: no retransmission. It "
        "sets transport_unit to frame in its own rows, not in those without it.",
        examples=[{"combining": "ir", "max_retransmissions": 3}],
    )
    latency_budget_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="A frame that arrives later than this after it is complete is lost; null: any "
        "delay is accepted.",
        examples=[100.0],
        json_schema_extra=unit("ms"),
    )
    symbol_rate_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=14_976_000.0,
        description="Channel uses per second. The default is that of 52 resource blocks at 30 kHz "
        "with two pilot symbols per slot of 14 (7,488 data symbols in 0.5 ms).",
        examples=[1000000.0],
        json_schema_extra=unit("Hz"),
    )
    symbol_retransmission: Literal["none", "mrc"] = Field(
        default="none",
        description="Retransmission of the analog symbols of a semantic scheme; mrc: receptions "
        "are combined at maximum ratio.",
        examples=["mrc"],
    )

    @model_validator(mode="before")
    @classmethod
    def _harq_sends_frames(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("harq") not in (None, "none"):
            return data | {"transport_unit": "frame"}
        return data

    @model_validator(mode="after")
    def _harq_fits(self) -> "Transport":
        if self.harq is None:
            return self
        if self.segmentation == "shortened":
            raise InputError(
                "segmentation with harq",
                found="shortened",
                allowed="equal",
                remedy="A block that is sent again has no bits that are left out.",
            )
        waited = self.harq.max_retransmissions * self.round_trip_uses
        if waited > _MOST_USES:
            raise InputError(
                "round trips of harq",
                found=f"{waited:.3g} channel uses in all",
                allowed=f"at most {_MOST_USES}, which are max_retransmissions * round_trip_ms * "
                "symbol_rate_hz / 1000",
                remedy="Lower one of the three.",
            )
        return self

    @property
    def note(self) -> str:
        """What a reader of a row must know: that its budget leaves HARQ no retransmission."""
        budget = self.latency_budget_ms
        if self.harq is None or budget is None or budget > self.harq.round_trip_ms:
            return ""
        return (
            f"latency budget {budget:g} ms is not above the round trip of "
            f"{self.harq.round_trip_ms:g} ms: nothing is sent again"
        )

    @property
    def round_trip_uses(self) -> int:
        """Round trip of HARQ in channel uses; 0 without HARQ."""
        return round(self.harq.round_trip_ms * self.symbol_rate_hz / 1000.0) if self.harq else 0

    def columns(self) -> dict[str, Any]:
        """The values by name, as in the tables; ``harq`` as JSON."""
        values = self.model_dump()
        if self.harq is not None:
            values["harq"] = json.dumps(values["harq"], sort_keys=True)
        return values


def require_transport(transport: Any) -> Transport:
    """``transport``; raises ``InputError`` for anything that is no ``Transport``."""
    if not isinstance(transport, Transport):
        raise InputError(
            "transport",
            found=transport,
            allowed="a pvsc_link.link.Transport",
            remedy="Write transport=Transport(block_length=1536), for instance.",
        )
    return transport


#: What is not said otherwise.
DEFAULT_TRANSPORT = Transport()
