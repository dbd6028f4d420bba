"""One colour, marker and label per scheme: the same everywhere, colour-blind safe."""

from dataclasses import dataclass
from typing import Any

# Okabe and Ito's palette, its yellow (which vanishes on paper) replaced by purple: distinct under
# protanopia and deuteranopia. Schemes beyond eight share a colour, never a marker.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#4B2E83")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
_SPARE_MARKERS = ("d", "H", "8")
_LONGEST_LABEL = 30
_LINES = ("-", "--", ":", "-.")
_KNOWN = {
    "pvsc": ("PVSC", "PVSC"),
    "vtm": ("VTM-17.0 + 5G LDPC", "VTM"),
    "hm": ("HM-16.25 + 5G LDPC", "HM"),
    "vvenc": ("VVenC (4:2:0) + 5G LDPC", "VVenC"),
    "x265": ("x265 (veryslow) + 5G LDPC", "x265"),
    "x264": ("x264 (veryslow) + 5G LDPC", "x264"),
    "lvc": ("LVC (ideal branch) + 5G LDPC", "LVC"),
    "dvst": ("DVST", "DVST"),
    "glc-video": ("GLC-Video + 5G LDPC", "GLC-Video"),
    "dcvc-rt": ("DCVC-RT + 5G LDPC", "DCVC-RT"),
    "dcvc-fm": ("DCVC-FM + 5G LDPC", "DCVC-FM"),
    "plvc": ("PLVC + 5G LDPC", "PLVC"),
}

#: Same markers in plotly's words.
PLOTLY_MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "*": "star",
    "<": "triangle-left",
    ">": "triangle-right",
    "p": "pentagon",
    "h": "hexagon",
    "d": "diamond-tall",
    "H": "hexagon2",
    "8": "octagon",
}
PLOTLY_LINES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}


@dataclass(frozen=True)
class SchemeStyle:
    """How one curve is drawn and named."""

    colour: str
    marker: str
    linestyle: str
    label: str
    short: str  # for narrow legends

    @property
    def printed(self) -> str:
        """The label, or the short one where the label would not fit half a column."""
        return self.label if len(self.label) <= _LONGEST_LABEL else self.short


def scheme_style(scheme: str, details: str = "", order: int = 0) -> SchemeStyle:
    """Style of a curve of ``scheme``.

    Parameters: ``details`` : what tells the scheme's curves apart, for the label; ``order`` : the
    curve's place among those of its scheme, which changes the line only.
    """
    full, short = _KNOWN.get(scheme, (scheme, scheme))
    colour, marker = _colour_and_marker(scheme)
    suffix = f" ({details})" if details else ""
    return SchemeStyle(colour, marker, _LINES[order % len(_LINES)], full + suffix, short + suffix)


def _colour_and_marker(scheme: str) -> tuple[str, str]:
    """A fixed pair for every name, known or not: the same in every run."""
    if scheme in _KNOWN:
        place = list(_KNOWN).index(scheme)
        return _COLOURS[place % len(_COLOURS)], _MARKERS[place]
    place = sum(scheme.encode())
    return _COLOURS[place % len(_COLOURS)], _SPARE_MARKERS[place % len(_SPARE_MARKERS)]


@dataclass(frozen=True)
class MetricStyle:
    """A metric: its column in points.csv, its words, and which way is better."""

    key: str  # as in bd_cbr.csv and scenarios
    column: str
    title: str
    unit: str
    higher_is_better: bool

    @property
    def axis_label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def arrow(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"


METRICS = (
    MetricStyle("psnr", "psnr_db", "PSNR", "dB", True),
    MetricStyle("lpips", "lpips", "LPIPS (VGG)", "", False),
    MetricStyle("dists", "dists", "DISTS", "", False),
)

#: Channel names as readers write them.
CHANNEL_TITLES = {"awgn": "AWGN", "rayleigh": "Rayleigh", "rician": "Rician"}

#: Printed widths in inches: one column and both columns of a two-column page.
COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.16

#: matplotlib settings of every figure: 7 to 8 pt type at the printed width, TrueType fonts, and
#: no salt of the moment in SVG ids, so that equal tables give equal files.
MATPLOTLIB: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "pvsc_link",
    "savefig.dpi": 300,
}
