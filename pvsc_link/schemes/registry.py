"""The transmission schemes that a scenario can name, each with the options that it takes.

Importing this file loads no model and no TensorFlow. ``SCHEMES`` holds the schemes that are no
codec; every codec of ``CODECS`` over 5G LDPC and QAM is a scheme too (``scheme_types``). To add a
scheme from outside the package, before a sweep::

    SCHEMES["mine"] = SchemeType("mine", "My scheme", MyOptions, MyScheme)
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pvsc_link.codecs import CODECS, CodecType
from pvsc_link.models import DVST_PRESETS, PRESETS
from pvsc_link.options import (
    Described,
    Listed,
    Mark,
    PathText,
    Registry,
    Seconds,
    StrictModel,
    registry,
    unit,
)
from pvsc_link.types import InputError

if TYPE_CHECKING:
    from pvsc_link.schemes.base import Scheme


def _presets(family: str) -> list[str]:
    configs = PRESETS.items()
    return [name for name, config in configs if not config.intra and config.family == family]


class DvstOptions(StrictModel):
    """Options of DVST."""

    preset: Annotated[str, Listed(*DVST_PRESETS)] = Field(
        "dvst_tiny", description="Network size.", examples=["dvst_tiny"]
    )
    weights: PathText | None = Field(
        None,
        description="Folder of weights of a training run, or the name of another training of the "
        "preset that comes with the package; default: the preset's own.",
        examples=["runs/my_training/weights"],
    )
    side_format: Annotated[str, Listed("png", "payload", "range")] = Field(
        "png",
        description="Format of the rate map: png (the paper), payload, or range (range coding; "
        "pvsc-mc then weighs the bits of the map when it chooses rates).",
        examples=["range"],
    )
    jit_compile: bool = Field(
        False, description="Compile transmitter and receiver with XLA.", examples=[False]
    )
    receiver_arithmetic: Annotated[
        str, Listed("same", "xla", "bfloat16", "float16"), Mark.COLUMN
    ] = Field(
        "same",
        description="Arithmetic of the receiver's networks: same, xla, bfloat16, float16.",
        examples=["float16"],
    )


class PvscOptions(DvstOptions):
    """Options of PVSC."""

    preset: Annotated[str, Listed(*_presets("pvsc"))] = Field(
        "pvsc_small", description="Network size, a preset of P frames.", examples=["pvsc_tiny"]
    )


class PvscMcOptions(DvstOptions):
    """Options of the extension of PVSC by motion vectors."""

    preset: Annotated[str, Listed(*_presets("pvsc_mc"))] = Field(
        "pvsc_mc_small",
        description="Network size, a preset of P frames.",
        examples=["pvsc_mc_small"],
    )
    refresh_every: int = Field(
        0,
        ge=0,
        description="Every n-th P frame of a GOP is sent finer; 0: none.",
        examples=[4],
        json_schema_extra=unit("frames"),
    )


class PvscIntraOptions(DvstOptions):
    """Options of the I-frame model alone."""

    preset: Annotated[str, Listed(*_presets("pvsc"), *_presets("pvsc_mc"))] = Field(
        "pvsc_mc_small",
        description="Preset of P frames whose I-frame model is used.",
        examples=["pvsc_mc_small"],
    )


class InstalledModelOptions(StrictModel):
    """Options of a model that an installed package names."""

    python: PathText | None = Field(
        None,
        description="Python interpreter of the model; default: it is called in this process.",
        examples=["/envs/torch/bin/python"],
    )
    checkout: PathText | None = Field(
        None,
        description="Folder that is put on the path of that Python, and is where it runs.",
        examples=["~/src/SomeModel"],
    )
    checkpoints: PathText | None = Field(
        None,
        description="File or folder of weights, which the class gets as checkpoints.",
        examples=["weights.pt"],
    )
    model_options: dict[str, Any] | None = Field(
        None, description="Keyword arguments of the class.", examples=[{"width": 64}]
    )
    variant: str | None = Field(
        None,
        description="Label in the results; default: the name of the class.",
        examples=["my model"],
    )
    timeout_s: Seconds = Field(
        600.0,
        description="Seconds after which a call is ended, in a Python of its own.",
        examples=[120],
        json_schema_extra=unit("s"),
    )
    max_cbr: float = Field(
        1.0,
        gt=0,
        description="Most symbols of a frame, over 3 height width; more is an error.",
        examples=[0.25],
        json_schema_extra=unit("1"),
    )


class ForeignOptions(InstalledModelOptions):
    """Options of a model that is not of this package."""

    implementation: str = Field(
        description="Class of the model: package.module:Class, file.py:Class, a ready driver "
        "(swinjscc, witt, ntscc_plus), or the name of an entry point of the group "
        "pvsc_link.schemes.",
        examples=["my_model.py:MyModel"],
    )


@dataclass(frozen=True)
class SchemeType(Described):
    """A whole transmission; called with its options it gives a ``Scheme``.

    Parameters: as ``Described``; ``family`` : ``separated`` if the source travels as coded bits,
    which allows only equalisers that a demapper can follow, else ``semantic``.
    """

    family: Literal["semantic", "separated"] = "semantic"


def _of_model(name: str, found: Any) -> SchemeType | None:
    """The scheme of a model class that an entry point of the group pvsc_link.schemes names."""
    if not isinstance(found, type) or not hasattr(found, "encode"):
        return None
    return SchemeType(
        name,
        getattr(found, "label", name),
        InstalledModelOptions,
        functools.partial(_foreign, name, f"{found.__module__}:{found.__qualname__}"),
    )


def _foreign(name: str, path: str, **options: Any) -> "Scheme":
    from pvsc_link.schemes.foreign import ForeignScheme

    named = type("InstalledModel", (ForeignScheme,), {"name": name})
    return named(implementation=path, **options)


SCHEMES: Registry[SchemeType] = registry(
    (
        SchemeType("pvsc", "PVSC", PvscOptions, "pvsc_link.schemes.semantic:SemanticScheme"),
        SchemeType("pvsc-mc", "PVSC-MC", PvscMcOptions, "pvsc_link.schemes.semantic:PvscMcScheme"),
        SchemeType("dvst", "DVST", DvstOptions, "pvsc_link.schemes.semantic:DvstScheme"),
        SchemeType(
            "pvsc-intra",
            "I frames of pvsc_mc_small",
            PvscIntraOptions,
            "pvsc_link.schemes.semantic:PvscIntraScheme",
        ),
        SchemeType("foreign", "Foreign", ForeignOptions, "pvsc_link.schemes.foreign:ForeignScheme"),
    ),
    group="pvsc_link.schemes",
    described=_of_model,
)


def scheme_types() -> dict[str, SchemeType]:
    """Every scheme by name: each codec of ``CODECS`` over the coded link, then ``SCHEMES``.

    Raises ``InputError`` for a name that stands in both.
    """
    if both := sorted(CODECS.keys() & SCHEMES.keys()):
        raise InputError(
            "names of a codec and of a scheme",
            found=both,
            allowed="another name for each",
            remedy="Rename the codec or the scheme.",
        )
    return {name: _separated(codec) for name, codec in CODECS.items()} | dict(SCHEMES)


@functools.cache
def _separated(codec: CodecType) -> SchemeType:
    return SchemeType(
        name=codec.name,
        label=f"{codec.label} + 5G LDPC",
        family="separated",
        Options=codec.Options,
        implementation=functools.partial(_over_the_coded_link, codec),
        short_label=codec.short_label,
    )


def _over_the_coded_link(codec: CodecType, **options: object) -> "Scheme":
    from pvsc_link.schemes.separated import SeparatedScheme

    return SeparatedScheme(codec(**options))
