"""The separated source codecs that a scenario can name, each with the options that it takes.

Importing this file loads no codec and no TensorFlow. The fields of a codec's ``Options`` are the
keywords of its class and keys of a scenario's scheme entry. To add a codec from outside the
package, before a sweep::

    CODECS["mine"] = CodecType("mine", "My codec", MyOptions, MyCodec)
"""

from typing import Annotated

from pydantic import Field

from pvsc_link.options import Described, Mark, PathText, Registry, Seconds, StrictModel, registry

_TIMEOUT = "Seconds after which an encoder that still runs is killed."


class LibavOptions(StrictModel):
    """Options of x264 and x265."""

    variant: str = Field(
        "psy", description="psy: the encoder's own psychovisual tuning; psy-off: without it."
    )
    preset: str = Field("veryslow", description="Preset of the encoder, as in its manual.")
    timeout_s: Seconds = Field(600.0, description=_TIMEOUT)


class VVenCOptions(StrictModel):
    """Options of VVenC."""

    preset: str = Field("medium", description="Preset of VVenC: faster, fast, medium, slow.")
    binary: Annotated[PathText | None, Mark.PROGRAM] = Field(
        None, description="A ffmpeg that has libvvenc; default: the one of imageio-ffmpeg."
    )
    timeout_s: Seconds = Field(1800.0, description=_TIMEOUT)


class ReferenceSoftwareOptions(StrictModel):
    """Options of VTM and HM."""

    binary: Annotated[PathText | None, Mark.PROGRAM] = Field(
        None,
        description="Folder of the compiled reference software; default: streams that were "
        "coded before and come with the package.",
    )
    timeout_s: Seconds = Field(86400.0, description=_TIMEOUT)


class PrecodedOptions(StrictModel):
    """Options of streams that were coded elsewhere."""

    index: PathText = Field(description="Folder with index.json and the streams.")
    variant: str | None = Field(
        None, description="Name of the codec in the index; needed if the index has several."
    )


class ExternalOptions(StrictModel):
    """Options of a learned codec that runs in the user's checkout of its repository."""

    variant: str | None = Field(
        None, description="bit-exact: the codec's own bitstream; rate-only: a filler of its length."
    )
    checkout: Annotated[PathText | None, Mark.PROGRAM] = Field(
        None, description="Folder of the codec's repository."
    )
    python: PathText | None = Field(None, description="Python interpreter of the codec.")
    checkpoints: PathText | None = Field(None, description="Folder of the codec's weights.")
    device: str = Field("cuda", description="Device of the codec: cuda or cpu.")
    timeout_s: Seconds = Field(3600.0, description=_TIMEOUT)


class LvcOptions(StrictModel):
    """Options of PVSC's ideal branch as a codec."""

    variant: str = Field(
        "lvc-l1",
        description="Training of the weights: lvc-l1, lvc-perceptual, or pvsc-digital, which sends "
        "y_bar of the weights of pvsc or pvsc-mc as range-coded bits.",
    )
    preset: str | None = Field(
        None,
        description="Network size, a preset of P frames; default: pvsc_small where it has weights "
        "of the variant, else pvsc_mc_small.",
    )
    weights: PathText | None = Field(None, description="Folder of weights of a training run.")
    receiver_arithmetic: Annotated[str, Mark.COLUMN] = Field(
        "same", description="Arithmetic of the receiver's networks: same, xla, bfloat16, float16."
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
        CodecType("precoded", "precoded", PrecodedOptions, "pvsc_link.codecs.precoded:Precoded"),
        CodecType("dcvc-rt", "DCVC-RT", ExternalOptions, f"{_EXTERNAL}:dcvc_rt"),
        CodecType("dcvc-fm", "DCVC-FM", ExternalOptions, f"{_EXTERNAL}:dcvc_fm"),
        CodecType("glc-video", "GLC-Video", ExternalOptions, f"{_EXTERNAL}:glc_video"),
        CodecType("plvc", "PLVC", ExternalOptions, f"{_EXTERNAL}:plvc"),
        CodecType(
            "lvc", "LVC (ideal branch)", LvcOptions, "pvsc_link.codecs.lvc:LearnedCodec", "LVC"
        ),
    )
)
