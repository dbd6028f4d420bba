"""The separated source codecs that a scenario can name, each with the options that it takes.

Importing this file loads no codec and no TensorFlow. The fields of a codec's ``Options`` are the
keywords of its class and keys of a scenario's scheme entry. To add a codec from outside the
package, before a sweep::

    CODECS["mine"] = CodecType("mine", "My codec", MyOptions, MyCodec)
"""

from typing import Annotated

from pydantic import Field

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

_LIBAV_PRESETS = (
    "ultrafast superfast veryfast faster fast medium slow slower veryslow placebo".split()
)
_TIMEOUT = "Seconds after which an encoder that still runs is killed."


class LibavOptions(StrictModel):
    """Options of x264 and x265."""

    variant: Annotated[str, Listed("psy", "psy-off")] = Field(
        "psy",
        description="psy: the encoder's own psychovisual tuning; psy-off: without it.",
        examples=["psy-off"],
    )
    preset: Annotated[str, Listed(*_LIBAV_PRESETS)] = Field(
        "veryslow", description="Preset of the encoder, as in its manual.", examples=["veryslow"]
    )
    timeout_s: Seconds = Field(
        600.0, description=_TIMEOUT, examples=[600], json_schema_extra=unit("s")
    )


class VVenCOptions(StrictModel):
    """Options of VVenC."""

    preset: Annotated[str, Listed("faster", "fast", "medium", "slow", "slower")] = Field(
        "medium", description="Preset of VVenC.", examples=["fast"]
    )
    binary: Annotated[PathText | None, Mark.PROGRAM] = Field(
        None,
        description="A ffmpeg that has libvvenc; default: the one of imageio-ffmpeg.",
        examples=["/opt/ffmpeg/bin/ffmpeg"],
    )
    timeout_s: Seconds = Field(
        1800.0, description=_TIMEOUT, examples=[1800], json_schema_extra=unit("s")
    )


class ReferenceSoftwareOptions(StrictModel):
    """Options of VTM and HM."""

    binary: Annotated[PathText | None, Mark.PROGRAM] = Field(
        None,
        description="Folder of the compiled reference software; default: streams that were "
        "coded before and come with the package.",
        examples=["/opt/VVCSoftware_VTM"],
    )
    timeout_s: Seconds = Field(
        86400.0, description=_TIMEOUT, examples=[86400], json_schema_extra=unit("s")
    )


class PrecodedOptions(StrictModel):
    """Options of streams that were coded elsewhere."""

    index: PathText = Field(
        description="Folder with index.json and the streams.", examples=["streams/my_codec"]
    )
    variant: str | None = Field(
        None,
        description="Name of the codec in the index; needed if the index has several.",
        examples=["my_codec"],
    )


class ExternalOptions(StrictModel):
    """Options of a learned codec that runs in the user's checkout of its repository."""

    variant: Annotated[str | None, Listed("bit-exact", "rate-only")] = Field(
        None,
        description="bit-exact: the codec's own bitstream; rate-only: a filler of its length.",
        examples=["rate-only"],
    )
    checkout: Annotated[PathText | None, Mark.PROGRAM] = Field(
        None,
        description="Folder of the codec's repository.",
        examples=["/src/DCVC/DCVC-family/DCVC-FM"],
    )
    python: PathText | None = Field(
        None, description="Python interpreter of the codec.", examples=["/envs/dcvc/bin/python"]
    )
    checkpoints: PathText | None = Field(
        None, description="Folder of the codec's weights.", examples=["/src/DCVC/checkpoints"]
    )
    device: Annotated[str, Listed("cuda", "cpu")] = Field(
        "cuda", description="Device of the codec: cuda or cpu.", examples=["cpu"]
    )
    timeout_s: Seconds = Field(
        3600.0, description=_TIMEOUT, examples=[3600], json_schema_extra=unit("s")
    )


class LvcOptions(StrictModel):
    """Options of PVSC's ideal branch as a codec."""

    variant: Annotated[str, Listed("lvc-l1", "lvc-perceptual", "pvsc-digital")] = Field(
        "lvc-l1",
        description="Training of the weights: lvc-l1, lvc-perceptual, or pvsc-digital, which sends "
        "y_bar of the weights of pvsc or pvsc-mc as range-coded bits.",
        examples=["lvc-perceptual"],
    )
    preset: str | None = Field(
        None,
        description="Network size, a preset of P frames; default: pvsc_small where it has weights "
        "of the variant, else pvsc_mc_small.",
        examples=["pvsc_mc_small"],
    )
    weights: PathText | None = Field(
        None,
        description="Folder of weights of a training run.",
        examples=["runs/my_training/weights"],
    )
    receiver_arithmetic: Annotated[
        str, Listed("same", "xla", "bfloat16", "float16"), Mark.COLUMN
    ] = Field(
        "same",
        description="Arithmetic of the receiver's networks: same, xla, bfloat16, float16.",
        examples=["float16"],
    )


class BpgLikeOptions(LibavOptions):
    """Options of x265 intra."""

    variant: Annotated[str, Listed("psy", "psy-off")] = Field(
        "psy-off",
        description="psy: the encoder's own psychovisual tuning; psy-off: without it.",
        examples=["psy-off"],
    )


class SvtAv1Options(StrictModel):
    """Options of SVT-AV1."""

    preset: int = Field(
        4,
        ge=0,
        le=13,
        description="Preset of SVT-AV1, 0 is the slowest.",
        examples=[4],
        json_schema_extra=unit("1"),
    )
    timeout_s: Seconds = Field(
        600.0, description=_TIMEOUT, examples=[600], json_schema_extra=unit("s")
    )


class AvifOptions(StrictModel):
    """Options of AVIF."""

    speed: int = Field(
        4,
        ge=0,
        le=10,
        description="Speed of libavif, 0 is the slowest.",
        examples=[4],
        json_schema_extra=unit("1"),
    )


class JpegXlOptions(StrictModel):
    """Options of JPEG XL."""

    effort: int = Field(
        7,
        ge=1,
        le=9,
        description="Effort of libjxl, 9 is the slowest.",
        examples=[7],
        json_schema_extra=unit("1"),
    )


class CodecType(Described):
    """A separated source codec; called with its options it gives a ``Codec``."""


_EXTERNAL = "pvsc_link.codecs.external.codec"
CODECS: Registry[CodecType] = registry(
    (
        CodecType(
            "x264", "x264 (veryslow)", LibavOptions, "pvsc_link.codecs.x264_x265:X264", "x264"
        ),
        CodecType(
            "x265", "x265 (veryslow)", LibavOptions, "pvsc_link.codecs.x264_x265:X265", "x265"
        ),
        CodecType("vvenc", "VVenC (4:2:0)", VVenCOptions, "pvsc_link.codecs.vvenc:VVenC", "VVenC"),
        CodecType(
            "vtm",
            "VTM-17.0",
            ReferenceSoftwareOptions,
            "pvsc_link.codecs.reference_software:vtm",
            "VTM",
        ),
        CodecType(
            "hm",
            "HM-16.25",
            ReferenceSoftwareOptions,
            "pvsc_link.codecs.reference_software:hm",
            "HM",
        ),
        CodecType(
            "bpg-like",
            "x265 intra 4:4:4 (BPG-like)",
            BpgLikeOptions,
            "pvsc_link.codecs.x264_x265:BpgLike",
            "BPG-like",
        ),
        CodecType(
            "svt-av1", "SVT-AV1 (4:2:0)", SvtAv1Options, "pvsc_link.codecs.av1:SvtAv1", "SVT-AV1"
        ),
        CodecType("avif", "AVIF", AvifOptions, "pvsc_link.codecs.stills:Avif"),
        CodecType("jpegxl", "JPEG XL", JpegXlOptions, "pvsc_link.codecs.stills:JpegXl"),
        CodecType("precoded", "precoded", PrecodedOptions, "pvsc_link.codecs.precoded:Precoded"),
        CodecType("dcvc-rt", "DCVC-RT", ExternalOptions, f"{_EXTERNAL}:dcvc_rt"),
        CodecType("dcvc-fm", "DCVC-FM", ExternalOptions, f"{_EXTERNAL}:dcvc_fm"),
        CodecType("dcvc-uf", "DCVC-UF", ExternalOptions, f"{_EXTERNAL}:dcvc_uf"),
        CodecType("glc-video", "GLC-Video", ExternalOptions, f"{_EXTERNAL}:glc_video"),
        CodecType("plvc", "PLVC", ExternalOptions, f"{_EXTERNAL}:plvc"),
        CodecType(
            "lvc", "LVC (ideal branch)", LvcOptions, "pvsc_link.codecs.lvc:LearnedCodec", "LVC"
        ),
    ),
    group="pvsc_link.codecs",
)
