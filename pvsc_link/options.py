"""Building blocks of option models: a strict pydantic base and the field types that several share.

Scenario, training configuration, channels, schemes and codecs describe their options with these.
"""

import difflib
from typing import Annotated, Any, TypeVar

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
    """Base of all option models: an unknown key is an ``InputError`` that names the nearest key."""

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
