"""The channels that a scenario can name. Importing this file loads neither TensorFlow nor Sionna.

A channel is described here and nowhere else. The fields of its ``Condition`` beside ``snr_db`` are
keys of a scenario's ``link``, axes of the grid, columns of the tables and parts of the key of the
cache of block error rates. To add one from outside the package, before a sweep::

    CHANNELS["nakagami"] = ChannelType("nakagami", "Nakagami", MyCondition, my_fading_law)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from pydantic.fields import FieldInfo

from pvsc_link.options import Implementation, NmseDb, NoOptions, StrictModel, load_implementation


class BlockFadingCondition(StrictModel):
    """Condition of a flat channel that is constant over a coherence block and is estimated."""

    csi_nmse_db: NmseDb | None = Field(
        None,
        description="Normalised mean squared error of the channel estimate in dB (eq. 3); "
        "null: perfect CSI.",
    )
    coherence_length: Annotated[int, Field(ge=1)] = Field(
        1, description="Channel uses over which the fading is constant."
    )


@dataclass(frozen=True)
class ChannelType:
    """A channel law.

    Parameters
    ----------
    name : key in scenarios
    label : name in figures and tables
    Condition : pydantic model of what describes the channel beside its SNR
    implementation : fading law, or its dotted path; makes h with E|h|^2 = 1, [...], complex64,
        from the CN(0, 1) sample of each coherence block, [...], complex64
    """

    name: str
    label: str
    Condition: type[StrictModel]
    implementation: Implementation

    @property
    def fades(self) -> bool:
        """Whether the channel varies in time: it then has a coherence length."""
        return "coherence_length" in self.Condition.model_fields

    @property
    def law(self) -> Callable[[Any], Any]:
        """The fading law, imported on first use."""
        return load_implementation(self.implementation)


CHANNELS: dict[str, ChannelType] = {
    "awgn": ChannelType("awgn", "AWGN", NoOptions, "pvsc_link.link.flat:awgn"),
    "rayleigh": ChannelType(
        "rayleigh", "Rayleigh", BlockFadingCondition, "pvsc_link.link.flat:rayleigh"
    ),
}


def condition_fields() -> dict[str, FieldInfo]:
    """Fields of the conditions of all channels by name, in the order of ``CHANNELS``."""
    fields: dict[str, FieldInfo] = {}
    for channel in CHANNELS.values():
        for name, field in channel.Condition.model_fields.items():
            fields.setdefault(name, field)
    return fields
