"""How schemes look and what things are called: the same colour, marker and label everywhere.

Labels come from the registries of schemes, channels and metrics. Colours are apart for the
colour-blind, and every scheme has a marker of its own.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from pvsc_link.link import CHANNELS
from pvsc_link.schemes import scheme_types

# Okabe and Ito's palette, its yellow (which vanishes on paper) replaced by purple: distinct under
# protanopia and deuteranopia. Schemes beyond eight share a colour, never a marker.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#4B2E83")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h", "d")
#: Schemes in the order of the colours and markers above; any other takes one of the spare markers.
_LOOKS = (
    *("pvsc", "vtm", "hm", "vvenc", "x265", "x264", "lvc", "pvsc-mc"),
    *("glc-video", "dcvc-rt", "dcvc-fm", "plvc", "dvst"),
)
_SPARE_MARKERS = ("H", "8")
_LINES = ("-", "--", ":", "-.")
_LONGEST_LABEL = 30
#: Colours of the two zoom boxes in printed figures.
BOX_COLOURS = ("#D55E00", "#56B4E9")

#: The same markers and lines in plotly's words.
PLOTLY_MARKERS = {
    **{"o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down"},
    **{"P": "cross", "X": "x", "*": "star", "<": "triangle-left", ">": "triangle-right"},
    **{"p": "pentagon", "h": "hexagon", "d": "diamond-tall", "H": "hexagon2", "8": "octagon"},
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


def scheme_style(scheme: str, details: str = "", order: int = 0, variant: str = "") -> SchemeStyle:
    """Style of a curve of ``scheme``, known or not: the same in every run.

    Parameters: ``details`` : what tells the scheme's curves apart, for the label; ``order`` : the
    curve's place among those of its scheme, which changes only the line; ``variant`` : of the
    scheme. Where it names a preset (``psy, fast``), the label names that one. A foreign model is
    labelled by its variant.
    """
    if scheme == "precoded" and (name := variant.split(", ")[0]):
        # The codec whose streams these are, where there is one of that name.
        named = (one.name for one in scheme_types().values() if one.label.split(" +")[0] == name)
        style = scheme_style(next(named, "precoded"), "", order)
        others = ", ".join(word for word in details.split(", ") if word != name)
        label = f"{name} ({others})" if others else name
        return replace(style, label=label, short=label)
    if scheme in _LOOKS:
        place = _LOOKS.index(scheme)
        marker = _MARKERS[place]
    else:
        place = sum(scheme.encode())
        marker = _SPARE_MARKERS[place % len(_SPARE_MARKERS)]
    known = scheme_types().get(scheme)
    label = known.label if known else scheme
    short = known.short_label or label if known else scheme
    # x265 says its preset behind its tuning; presets of models have an underscore and come first.
    first, *further = variant.split(", ")
    preset = next((word for word in further if word.isalpha()), first if "_" in first else None)
    if known and preset and "preset" in known.Options.model_fields:
        label = label.replace(str(known.Options.model_fields["preset"].default), preset)
    if known and variant and "model_options" in known.Options.model_fields:
        label = short = variant  # a model of the user's: its own name says more
    suffix = f" ({details})" if details else ""
    colour, line = _COLOURS[place % len(_COLOURS)], _LINES[order % len(_LINES)]
    return SchemeStyle(colour, marker, line, label + suffix, short + suffix)


def channel_label(channel: str) -> str:
    """A channel as readers write it; a channel without a registry entry keeps its name."""
    return CHANNELS[channel].label if channel in CHANNELS else channel


#: Printed widths in inches: one column and both columns of a two-column page.
COLUMN_WIDTH, PAGE_WIDTH = 3.5, 7.16

#: matplotlib settings of every figure. A user's own figures take them by
#: ``plt.style.use("pvsc_link.report.paper")``, or from a copy of the file.
STYLE_FILE = Path(__file__).with_name("paper.mplstyle")
