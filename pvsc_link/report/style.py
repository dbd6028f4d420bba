"""One colour, marker and label per scheme: the same everywhere, colour-blind safe."""

from dataclasses import dataclass

# Okabe and Ito's palette (black last): distinguishable under every common colour blindness.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_ORDER = ("pvsc", "vtm", "hm", "vvenc", "x265", "x264", "lvc", "dvst")
_LABELS = {
    "pvsc": "PVSC",
    "vtm": "VTM-17.0 + 5G LDPC",
    "hm": "HM-16.25 + 5G LDPC",
    "vvenc": "VVenC (4:2:0) + 5G LDPC",
    "x265": "x265 + 5G LDPC",
    "x264": "x264 + 5G LDPC",
    "lvc": "lvc + 5G LDPC",
    "dvst": "DVST",
}


@dataclass(frozen=True)
class SchemeStyle:
    colour: str
    marker: str
    linestyle: str
    label: str


def scheme_style(scheme: str, variant: str = "", *, main_variant: bool = True) -> SchemeStyle:
    """Style of a scheme; a variant beside the main one is dashed and named in the label."""
    place = _ORDER.index(scheme) if scheme in _ORDER else hash_place(scheme)
    label = _LABELS.get(scheme, f"{scheme} + 5G LDPC")
    if variant and not main_variant:
        label = f"{label} ({variant})"
    return SchemeStyle(
        colour=_COLOURS[place % len(_COLOURS)],
        marker=_MARKERS[place % len(_MARKERS)],
        linestyle="-" if main_variant else "--",
        label=label,
    )


def hash_place(scheme: str) -> int:
    """A fixed place in the palette for a scheme without one of its own (the same in every run)."""
    return sum(scheme.encode()) % len(_COLOURS)


#: Axis label of each metric column of points.csv.
METRIC_LABELS = {
    "psnr_db": "PSNR (dB), higher is better",
    "lpips": "LPIPS (VGG), lower is better",
    "dists": "DISTS, lower is better",
}
