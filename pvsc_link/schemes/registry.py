"""The transmission schemes that a scenario can name, each with the options that it takes.

Importing this file loads no model and no TensorFlow. ``SCHEMES`` holds the schemes that are no
codec; every codec of ``CODECS`` over 5G LDPC and QAM is a scheme too (``scheme_types``). To add a
scheme from outside the package, before a sweep::

    SCHEMES["mine"] = SchemeType("mine", "My scheme", "semantic", MyOptions, MyScheme)
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pvsc_link.codecs.registry import CODECS, CodecType
from pvsc_link.options import (
    Implementation,
    Mark,
    PathText,
    StrictModel,
    load_implementation,
    validated,
)

if TYPE_CHECKING:
    from pvsc_link.schemes.base import Scheme


class DvstOptions(StrictModel):
    """Options of DVST."""

    preset: str = Field("dvst_tiny", description="Network size.")
    weights: PathText | None = Field(
        None,
        description="Folder of weights of a training run, or the name of another training of the "
        "preset that comes with the package; default: the preset's own.",
    )
    side_format: str = Field("png", description="Format of the rate map: png (the paper), range.")
    jit_compile: bool = Field(False, description="Compile transmitter and receiver with XLA.")
    receiver_arithmetic: Annotated[str, Mark.COLUMN] = Field(
        "same", description="Arithmetic of the receiver's networks: same, xla, bfloat16, float16."
    )


class PvscOptions(DvstOptions):
    """Options of PVSC."""

    preset: str = Field("pvsc_small", description="Network size, a preset of P frames.")
    refresh_every: int = Field(
        0, ge=0, description="Every n-th P frame of a GOP is sent finer; 0: none, as in the paper."
    )


@dataclass(frozen=True)
class SchemeType:
    """A whole transmission: video in, what the receiver shows out.

    Parameters
    ----------
    name : key in scenarios
    label : name in figures and tables
    family : ``semantic`` or ``separated``
    Options : pydantic model of the scheme's own options
    implementation : class or function that takes these options as keywords and gives a ``Scheme``,
        or its dotted path
    short_label : for narrow legends; the label by default
    """

    name: str
    label: str
    family: Literal["semantic", "separated"]
    Options: type[StrictModel]
    implementation: Implementation
    short_label: str = ""

    def __call__(self, **options: object) -> "Scheme":
        """The scheme with these options; raises ``InputError`` for an option it does not take."""
        where = f"options of scheme {self.name}"
        given = validated(options, self.Options, where, f"{{scheme: {self.name}}}")
        keywords = given.model_dump(exclude_unset=True, exclude_none=True)
        return load_implementation(self.implementation)(**keywords)


SCHEMES: dict[str, SchemeType] = {
    "pvsc": SchemeType(
        "pvsc", "PVSC", "semantic", PvscOptions, "pvsc_link.schemes.semantic:SemanticScheme"
    ),
    "dvst": SchemeType(
        "dvst", "DVST", "semantic", DvstOptions, "pvsc_link.schemes.semantic:DvstScheme"
    ),
}


def scheme_types() -> dict[str, SchemeType]:
    """Every scheme by name: each codec of ``CODECS`` over the coded link, then ``SCHEMES``."""
    return {name: _separated(codec) for name, codec in CODECS.items()} | SCHEMES


@functools.cache
def _separated(codec: CodecType) -> SchemeType:
    return SchemeType(
        name=codec.name,
        label=f"{codec.label} + 5G LDPC",
        family="separated",
        Options=codec.Options,
        implementation=functools.partial(_over_the_coded_link, codec),
        short_label=codec.short_label or codec.label,
    )


def _over_the_coded_link(codec: CodecType, **options: object) -> "Scheme":
    from pvsc_link.schemes.separated import SeparatedScheme

    return SeparatedScheme(codec(**options))
