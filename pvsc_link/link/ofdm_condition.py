"""What describes an OFDM link: the condition of the channel ``ofdm``. Loads no TensorFlow.

The channel itself is ``ofdm.OfdmChannel``.
"""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from pvsc_link.link.cir_file import file_digest, read_cir
from pvsc_link.options import PathText, StrictModel, unit
from pvsc_link.types import InputError

#: OFDM symbols of a slot with normal cyclic prefix (TS 38.211, 4.3.2).
SLOT_SYMBOLS = 14
#: OFDM symbols with DMRS by the number of additional positions: TS 38.211, table 6.4.1.1.3-3, PUSCH
#: mapping type A over a whole slot, single-symbol DMRS that begin at symbol 2.
DMRS_SYMBOLS = {0: (2,), 1: (2, 11), 2: (2, 7, 11), 3: (2, 5, 8, 11)}
_SPEED_OF_LIGHT = 299_792_458.0  # m/s


def pilot_symbols(pilots: str) -> tuple[int, ...]:
    """OFDM symbols of a slot that carry pilots, from 0.

    Input: ``kronecker-`` and the symbols, or ``dmrs-`` and the number of additional positions.
    Raises ``InputError`` for anything else, and if no symbol is left for data.
    """
    kind, *words = pilots.split("-")
    numbers = [int(word) if word.isdecimal() else -1 for word in words]
    if kind == "dmrs" and len(numbers) == 1 and numbers[0] in DMRS_SYMBOLS:
        return DMRS_SYMBOLS[numbers[0]]
    symbols = tuple(sorted(set(numbers)))
    exist = all(0 <= number < SLOT_SYMBOLS for number in numbers)
    if kind == "kronecker" and exist and 0 < len(symbols) == len(numbers) < SLOT_SYMBOLS:
        return symbols
    raise InputError(
        "pilots",
        found=pilots,
        allowed="kronecker- and different OFDM symbols from 0 to 13, or dmrs- and the number of "
        "additional positions, 0 to 3",
        remedy="kronecker-2-11 and dmrs-1 are usual; at least one OFDM symbol must carry data.",
    )


def _usual_spelling(pilots: str) -> str:
    """One spelling for equal pilots: symbols in their order, without leading zeros."""
    kind, *words = pilots.split("-")
    symbols = pilot_symbols(pilots)  # raises for what is none
    return "-".join([kind, *map(str, symbols if kind == "kronecker" else map(int, words))])


class OfdmCondition(StrictModel):
    """Condition of an OFDM link over a multipath channel, with pilots and channel estimation.

    What a channel model does not have is None: ``cir`` has no delay spread, speed and carrier, and
    only TDL and CDL have a delay spread to choose.
    """

    channel_model: Literal[
        "tdl_a",
        "tdl_b",
        "tdl_c",
        "tdl_d",
        "tdl_e",
        "cdl_a",
        "cdl_b",
        "cdl_c",
        "cdl_d",
        "cdl_e",
        "umi",
        "uma",
        "rma",
        "cir",
    ] = Field(
        "tdl_c",
        description="Multipath model of TR 38.901 (TDL, CDL, UMi, UMa, RMa), or cir: impulse "
        "responses from cir_file.",
        examples=[["tdl_c", "umi"]],
    )
    cir_file: PathText | None = Field(
        None,
        description="NPZ file of impulse responses, of channel_model cir alone.",
        examples=["street.npz"],
    )
    cir_digest: str | None = Field(
        None,
        description="Digest of cir_file, which need not be given: rows of another file are other "
        "rows. One that is given must be that of the file.",
        examples=["0123456789abcdef"],
    )
    delay_spread_ns: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        100.0,
        description="RMS delay spread of a TDL or CDL model in ns.",
        examples=[[30, 300]],
        json_schema_extra=unit("ns"),
    )
    speed_kmh: Annotated[float, Field(ge=0, le=2000)] | None = Field(
        3.0,
        description="Speed of the terminal in km/h.",
        examples=[30],
        json_schema_extra=unit("km/h"),
    )
    carrier_ghz: Annotated[float, Field(ge=0.5, le=100)] | None = Field(
        3.5, description="Carrier frequency in GHz.", examples=[3.5], json_schema_extra=unit("GHz")
    )
    num_rx: int = Field(
        1,
        ge=1,
        le=64,
        description="Receive antennas.",
        examples=[[1, 2]],
        json_schema_extra=unit("antennas"),
    )
    num_tx: int = Field(
        1,
        ge=1,
        le=64,
        description="Transmit antennas: 1.",
        examples=[1],
        json_schema_extra=unit("antennas"),
    )
    subcarrier_spacing_khz: int = Field(
        30,
        description="Subcarrier spacing in kHz: 15, 30, 60 or 120.",
        examples=[30],
        json_schema_extra=unit("kHz"),
    )
    num_prb: int = Field(
        52,
        ge=1,
        le=275,
        description="Physical resource blocks of 12 subcarriers.",
        examples=[52],
        json_schema_extra=unit("resource blocks"),
    )
    pilots: Annotated[str, AfterValidator(_usual_spelling)] = Field(
        "kronecker-2-11",
        description="kronecker-2-11: all subcarriers of these OFDM symbols; dmrs-1: DMRS of NR "
        "with so many additional positions, 0 to 3.",
        examples=["dmrs-1"],
    )
    channel_estimation: Literal["perfect", "ls_nearest", "ls_linear", "lmmse"] = Field(
        "ls_linear",
        description="Channel estimate: the truth, least squares with nearest or linear "
        "interpolation, or LMMSE with the statistics of a TDL or CDL model.",
        examples=[["ls_linear", "lmmse"]],
    )
    normalize_channel: bool = Field(
        False,
        description="Whether the grid of every slot is scaled to mean power 1; if not, E|h|^2 = 1 "
        "over realisations.",
        examples=[False],
    )

    @property
    def static_fields(self) -> frozenset[str]:
        """What is static for this model beside ``ChannelType.static``."""
        return frozenset({"carrier_ghz"} if self.is_system_level else ())

    @property
    def is_system_level(self) -> bool:
        return self.channel_model in ("umi", "uma", "rma")

    @model_validator(mode="before")
    @classmethod
    def _without_what_the_model_lacks(cls, data: Any) -> Any:
        model = data.get("channel_model", "tdl_c")
        if model == "cir":
            lacks = dict.fromkeys(("delay_spread_ns", "speed_kmh", "carrier_ghz"))
            found = file_digest(data.get("cir_file"))
            if data.get("cir_digest") not in (None, found):
                raise InputError(
                    "cir_digest",
                    found=data["cir_digest"],
                    allowed=found,
                    remedy="cir_file has changed: leave the key out, or take that file.",
                )
            return data | lacks | {"cir_digest": found}
        of_file = {"cir_file": None, "cir_digest": None}
        return (
            data | of_file | ({"delay_spread_ns": None} if model in ("umi", "uma", "rma") else {})
        )

    @model_validator(mode="after")
    def _check(self) -> "OfdmCondition":
        if self.num_tx != 1:
            raise InputError(
                "num_tx",
                found=self.num_tx,
                allowed=1,
                remedy="One stream of symbols is sent, and nothing precodes it: a second transmit "
                "antenna would only share its power. Receive antennas are num_rx.",
            )
        if self.subcarrier_spacing_khz not in (15, 30, 60, 120):
            raise InputError(
                "subcarrier_spacing_khz",
                found=self.subcarrier_spacing_khz,
                allowed=(15, 30, 60, 120),
                remedy="These are the spacings of TS 38.211, 4.2, for data.",
            )
        for name in ("delay_spread_ns", "speed_kmh", "carrier_ghz"):
            needed = self.channel_model != "cir"
            needed &= not (self.is_system_level and name == "delay_spread_ns")
            if needed and getattr(self, name) is None:
                raise InputError(
                    f"{name} of the channel model {self.channel_model}",
                    found=None,
                    allowed="a number",
                    remedy=f"Leave {name} out for its default, or give a number.",
                )
        self._check_estimation()
        if self.channel_model == "cir":
            read_cir(self.cir_file, self.num_rx, self.num_prb, self.subcarrier_spacing_khz)
        return self

    def _check_estimation(self) -> None:
        profile = self.channel_model.startswith(("tdl", "cdl"))
        if self.channel_estimation == "lmmse" and not profile:
            raise InputError(
                "channel_estimation",
                found=f"lmmse with the channel model {self.channel_model}",
                allowed="perfect, ls_nearest, ls_linear",
                remedy="LMMSE needs the power-delay profile, which TDL and CDL models have.",
            )
        if self.channel_estimation == "perfect" or not self.speed_kmh or not self.carrier_ghz:
            return
        most = self.highest_doppler_hz
        doppler = self.speed_kmh / 3.6 * self.carrier_ghz * 1e9 / _SPEED_OF_LIGHT
        if doppler > most:
            raise InputError(
                "speed_kmh and carrier_ghz",
                found=f"{self.speed_kmh:g} km/h at {self.carrier_ghz:g} GHz: a Doppler shift of "
                f"{doppler:.0f} Hz",
                allowed=f"a Doppler shift up to {most:.0f} Hz, half the rate of the pilots "
                f"{self.pilots} at {self.subcarrier_spacing_khz} kHz",
                remedy="Lower the speed or the carrier, widen the subcarrier spacing, set more "
                "pilots, or take channel_estimation: perfect.",
            )

    @property
    def highest_doppler_hz(self) -> float:
        """Half the rate of the pilots: 1 / (2 T), T the longest time in a slot without any."""
        symbols = pilot_symbols(self.pilots)
        edges = (symbols[0], SLOT_SYMBOLS - 1 - symbols[-1])
        longest = max(*edges, *(b - a for a, b in pairwise(symbols)), 1)
        return SLOT_SYMBOLS * 1000 * self.subcarrier_spacing_khz / 15 / (2 * longest)
