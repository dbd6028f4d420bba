"""What a file says of its colours, and 8-bit BT.709 RGB by it.

Samples become R'G'B' by the matrix and range of their tags (``pixels.decoded_source_to_rgb``). This
module decides by the other two tags, primaries and transfer:

* PQ (SMPTE ST 2084) and HLG (ARIB STD-B67) are HDR: shown as they are they would look grey. They
  are refused, unless the reader asks for ``hdr="tone_map"`` (:func:`tone_mapped`).
* Wide primaries (BT.2020, DCI-P3, Display P3) become BT.709 in linear light
  (:func:`to_bt709_primaries`). Those of BT.601 lie so near that they are kept.
* Linear and logarithmic transfers are refused; every other one is taken as it is.

What is done with a frame stands in its notes, which go into the manifest of the results.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import av
import numpy as np

from pvsc_link.media.pixels import (
    MATRICES,
    decoded_source_to_rgb,
    decoded_source_to_unit_rgb,
    is_transparent,
    matrix_of,
    range_of,
    to_8_bits,
)
from pvsc_link.types import InputError

#: Chromaticities x, y of R, G, B and white, by code points of H.273 (``ColourPrimaries``).
_WHITE = (0.3127, 0.3290)  # D65
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _WHITE)
_WIDE = {
    9: ("BT.2020", ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _WHITE)),
    11: ("DCI-P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351))),
    12: ("Display P3", ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _WHITE)),
}
_NEAR = {4: "BT.470 M", 5: "BT.601 (625 lines)", 6: "BT.601 (525 lines)", 7: "SMPTE 240M"}
_PQ, _HLG = 16, 18
_NO_VIDEO_TRANSFER = {8: "linear", 9: "logarithmic", 10: "logarithmic", 17: "SMPTE ST 428"}
#: Gamma of the display that SDR is made for (BT.1886).
_GAMMA = 2.4
#: cd/m2 at which the tone mapping clips: the usual peak of HDR material.
PEAK = 1000.0
#: cd/m2 of reference white in HDR (Report BT.2408), which is the peak of the SDR picture.
REFERENCE_WHITE = 203.0


@dataclass(frozen=True)
class ColourOptions:
    """What a reader states of the colours of a file, or wants of them.

    Parameters
    ----------
    matrix : key of ``pixels.MATRICES`` that counts in place of the file's tag
    sample_range : ``"limited"`` or ``"full"``, in place of the file's tag
    hdr : ``"refuse"``, or ``"tone_map"`` to make SDR of PQ and HLG
    """

    matrix: str | None = None
    sample_range: str | None = None
    hdr: Literal["refuse", "tone_map"] = "refuse"

    def __post_init__(self) -> None:
        allowed = {
            "matrix": (None, *MATRICES),
            "sample_range": (None, "limited", "full"),
            "hdr": ("refuse", "tone_map"),
        }
        for name, values in allowed.items():
            if (value := getattr(self, name)) not in values:
                raise InputError(
                    f"{name} of a video", found=value, allowed=values[1:], remedy="Correct it."
                )


def shown_rgb(frame: av.VideoFrame, options: ColourOptions, *, upright: bool = True) -> np.ndarray:
    """A frame as an SDR display of BT.709 shows it: uint8 RGB [height, width, 3].

    Parameters: ``upright`` : turn and mirror it as its display matrix says.

    Raises ``InputError`` for HDR unless ``options`` ask for tone mapping, for a transparent frame,
    for a display matrix that is no quarter turn, and as ``pixels.decoded_source_to_rgb`` does.
    """
    _check_transfer(frame, options)
    _check_alpha(frame)
    stated = {"matrix": options.matrix, "sample_range": options.sample_range}
    wide, transfer = _WIDE.get(int(frame.color_primaries)), int(frame.color_trc)
    if transfer in (_PQ, _HLG):
        unit = decoded_source_to_unit_rgb(frame, **stated)
        linear = pq_to_linear(unit) if transfer == _PQ else hlg_to_linear(unit)
        rgb = tone_mapped(linear, wide[1] if wide else _WIDE[9][1])
    elif wide:
        unit = np.clip(decoded_source_to_unit_rgb(frame, **stated), 0, 1)
        linear = to_bt709_primaries(unit**_GAMMA, wide[1])
        rgb = to_8_bits(np.clip(linear, 0, 1) ** (1 / _GAMMA))
    else:
        rgb = decoded_source_to_rgb(frame, **stated)
    return _turned(rgb, _display_matrix(frame)) if upright else rgb


def colour_notes(
    frame: av.VideoFrame, options: ColourOptions, *, upright: bool = True
) -> Iterator[str]:
    """What :func:`shown_rgb` does with a frame, in words."""
    is_yuv = not frame.format.is_rgb and len(frame.format.components) >= 3
    if is_yuv and frame.format.name != "pal8":
        tag = matrix_of(frame) if options.matrix is None else None
        by = "as stated by the reader" if options.matrix else "by its tag" if tag else "no tag"
        yield f"colour matrix {options.matrix or tag or 'bt709'} ({by})"
        tagged = range_of(frame)
        by = "as stated by the reader" if options.sample_range else "by its tag"
        yield (
            f"{options.sample_range or tagged or 'limited'} range "
            f"({by if options.sample_range or tagged else 'no tag'})"
        )
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if transfer in (_PQ, _HLG):
        yield (
            f"{'PQ' if transfer == _PQ else 'HLG'} tone-mapped to SDR: reference white "
            f"{REFERENCE_WHITE:.0f} cd/m2, peak {PEAK:.0f} cd/m2, BT.2390 curve, BT.709 primaries"
        )
    elif primaries in _WIDE:
        yield f"primaries {_WIDE[primaries][0]} converted to BT.709 and clipped to its gamut"
    elif primaries in _NEAR:
        yield f"primaries {_NEAR[primaries]} kept: they lie near those of BT.709"
    if upright and _display_matrix(frame) not in (None, (1, 0, 0, 1)):
        yield "turned or mirrored as the display matrix of the file says"
    if frame.interlaced_frame:
        yield "interlaced: both fields of a frame are read as one picture"
    if is_transparent(frame) is not None:
        yield "alpha channel dropped, all of it opaque"


def _check_transfer(frame: av.VideoFrame, options: ColourOptions) -> None:
    transfer = int(frame.color_trc)
    remedy = "Convert the video to SDR with BT.709"
    if transfer in (_PQ, _HLG) and options.hdr == "refuse":
        raise InputError(
            "transfer function of the video",
            found=f"{'PQ (SMPTE ST 2084)' if transfer == _PQ else 'HLG (ARIB STD-B67)'}, HDR",
            allowed="SDR",
            remedy=f"{remedy}, or ask for hdr: tone_map (transmit: --hdr tone_map).",
        )
    if transfer in _NO_VIDEO_TRANSFER:
        raise InputError(
            "transfer function of the video",
            found=_NO_VIDEO_TRANSFER[transfer],
            allowed="that of BT.709, BT.601, BT.2020, sRGB or another gamma",
            remedy=f"{remedy}.",
        )
    dolby = any(name.startswith("DOVI") for name in _side_data(frame))
    if dolby and int(frame.color_trc) == 2 and int(frame.colorspace) in (2, 15):
        raise InputError(
            "colours of the video",
            found="Dolby Vision without a base layer that other players show (profile 5)",
            allowed="SDR, or HDR in PQ or HLG with tone mapping",
            remedy=f"{remedy} by a player that knows Dolby Vision.",
        )


def _check_alpha(frame: av.VideoFrame) -> None:
    if is_transparent(frame):
        raise InputError(
            "picture",
            found="transparent pixels",
            allowed="opaque pictures",
            remedy="Put the pictures onto a background first.",
        )


# The display matrix.


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """a, b, c, d with x' = a x + c y and y' = b x + d y, each -1, 0 or 1; ``None``: no matrix."""
    data = _side_data(frame).get("DISPLAYMATRIX")
    if data is None:
        if frame.rotation:  # beside data that PyAV does not know, which hides whether it mirrors
            raise InputError(
                "display matrix of the video",
                found=f"a turn by {frame.rotation} degrees that cannot be read exactly",
                allowed="no turn in this kind of file",
                remedy="Turn the video with ffmpeg.",
            )
        return None
    entries = np.frombuffer(data, np.int32)[[0, 1, 3, 4]] / 65536
    largest = max(float(np.abs(entries).max()), 1e-9)
    turn = np.rint(entries / largest).astype(int)
    exact = np.abs(entries - turn * np.abs(entries)).max() < 0.02 * largest
    a, b, c, d = turn.tolist()
    if not exact or abs(a) + abs(b) + abs(c) + abs(d) != 2 or abs(a * d - b * c) != 1:
        raise InputError(
            "display matrix of the video",
            found=np.round(entries, 3).tolist(),
            allowed="quarter turns and mirrors",
            remedy="Turn the video with ffmpeg, or strip its rotation.",
        )
    return a, b, c, d


def _side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    """Data beside a frame by the name of its kind; of several of a kind the first, as in ffmpeg."""
    try:
        entries: list[Any] = list(cast(Any, frame.side_data))
    except ValueError:  # a kind that this PyAV has no name for
        return {}
    return {entry.type.name: bytes(entry) for entry in reversed(entries)}


def _turned(rgb: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    if matrix is None:
        return rgb
    a, b, c, d = matrix
    if a == 0:
        rgb = rgb.transpose(1, 0, 2)
    return np.ascontiguousarray(rgb[:: b + d, :: a + c])


# Primaries and transfers.


def to_bt709_primaries(
    linear: np.ndarray, primaries: tuple[tuple[float, float], ...]
) -> np.ndarray:
    """Linear RGB of ``primaries`` (x, y of R, G, B, white) in BT.709's; not clipped.

    Input, output: [..., 3], float. White stays white, without an adaptation between whites.
    """
    return linear @ (np.linalg.inv(_to_xyz(_BT709)) @ _to_xyz(primaries)).T.astype(np.float32)


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Matrix from linear RGB, scaled so that RGB = (1, 1, 1) is BT.709's white at Y = 1."""
    columns = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    own = columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3])
    x, y = _WHITE
    adapted = np.array([x / y, 1.0, (1 - x - y) / y]) / own.sum(axis=1)
    return adapted[:, None] * own


_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128


def pq_to_linear(signal: np.ndarray) -> np.ndarray:
    """PQ signal, 0 to 1, to cd/m2 (SMPTE ST 2084, BT.2100-2 Table 4)."""
    power = np.clip(signal, 0, 1).astype(np.float64) ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def linear_to_pq(light: np.ndarray | float) -> np.ndarray:
    """cd/m2 to PQ signal; inverse of :func:`pq_to_linear`."""
    power = (np.maximum(light, 0) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_to_linear(signal: np.ndarray) -> np.ndarray:
    """HLG signal [..., 3] to cd/m2 of a display of 1000 cd/m2 (BT.2100-2 Table 5, gamma 1.2)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0, 1).astype(np.float64)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    return PEAK * scene * (np.maximum(luminance, 1e-9) ** 0.2)[..., None]


def tone_mapped(light: np.ndarray, primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """HDR light as an 8-bit SDR picture.

    1. The primaries become BT.709's in linear light; negative light is cut to 0.
    2. The largest of R, G and B goes from 0 .. ``PEAK`` to 0 .. ``REFERENCE_WHITE`` cd/m2 by the
       curve of Report BT.2390, 5.4.1: the identity up to a knee (92 cd/m2), then a Hermite spline
       in the PQ domain. R, G and B are scaled by the same factor, so that hue and saturation stay.
    3. ``REFERENCE_WHITE`` is code 255 of a display of gamma 2.4 (BT.1886) with a black of 0.

    Input: ``light`` : [..., 3], cd/m2. Output: [..., 3], uint8. No metadata of the file is used, so
    that one picture always gives the same result.
    """
    light = np.maximum(to_bt709_primaries(light, primaries), 0)
    largest = light.max(axis=-1, keepdims=True)
    top = linear_to_pq(PEAK)
    given = np.minimum(linear_to_pq(largest) / top, 1)
    most = linear_to_pq(REFERENCE_WHITE) / top
    knee = 1.5 * most - 0.5
    t = np.maximum(given - knee, 0) / (1 - knee)
    spline = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (-2 * t**3 + 3 * t**2) * most
    )
    wanted = pq_to_linear(np.where(given < knee, given, spline) * top)
    scale = np.where(given < knee, 1.0, wanted / np.maximum(largest, 1e-9))
    return to_8_bits(np.clip(light * scale / REFERENCE_WHITE, 0, 1) ** (1 / _GAMMA))
