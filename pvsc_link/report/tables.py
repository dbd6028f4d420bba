"""Tables in the form of the paper's Tables I to VI, ours beside what the paper prints.

First the model of a table and its formats: CSV for programs, Markdown for reading, LaTeX (booktabs)
for a paper. Then the paper's own numbers, the tables of BD-CBR (I to III), of quality over GOPs and
of losses and latency, and the tables about models: complexity (IV), ablation (V) and loss terms
(VI).
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import ImageFont

from pvsc_link.intervals import MIN_UNITS, bootstrap_interval
from pvsc_link.link import CHANNELS
from pvsc_link.metrics import METRICS
from pvsc_link.report.curves import (
    condition_columns,
    condition_words,
    curve_styles,
    harq_words,
    is_packets,
    short_clip_names,
    value_title,
    varying_conditions,
    with_curve_keys,
)
from pvsc_link.report.results import Results
from pvsc_link.report.style import channel_label, scheme_style
from pvsc_link.storage import write_atomically
from pvsc_link.types import InputError

OURS, PUBLISHED = "ours", "published"
BEST, SECOND = 1, 2
NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """One line: who says so (``OURS`` or ``PUBLISHED``), what it is about, and its numbers.

    ``cells`` : per column one number for each measure, NaN where there is none; ``ends`` : by
    column and measure the ends of the number's 95 % interval, of those that have one;
    ``is_anchor`` : the row of the anchor against itself, whose numbers are 0 and win nothing.
    """

    source: str
    keys: tuple[str, ...]
    cells: tuple[tuple[float, ...], ...]
    ends: Mapping[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    is_anchor: bool = False


def make_row(
    source: str,
    keys: Sequence[object],
    cells: Sequence[Sequence[float]],
    ends: Mapping[tuple[int, int], tuple[float, float]] | None = None,
    is_anchor: bool = False,
) -> Row:
    """A row from plain values."""
    numbers = tuple(tuple(float(value) for value in cell) for cell in cells)
    return Row(source, tuple(str(key) for key in keys), numbers, ends or {}, is_anchor)


@dataclass(frozen=True)
class Table:
    """A table of the report.

    ``name`` : of its files; ``measures`` : what stands in one cell, in order, e.g. LPIPS / DISTS;
    ``group_by`` : places of the keys within whose equal values rows compete, None: no ranking;
    ``digits`` : after the point, per column.
    """

    name: str
    title: str
    key_names: tuple[str, ...]
    column_names: tuple[str, ...]
    measures: tuple[str, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    digits: tuple[int, ...] = ()
    group_by: tuple[int, ...] | None = None

    def text(self, row: int, column: int, measure: int) -> str:
        """A number as printed; an empty text where there is none."""
        return self._as_text(self.rows[row].cells[column][measure], column)

    def interval_text(self, row: int, column: int, measure: int) -> str:
        """The interval of a number as printed behind it; an empty text where there is none."""
        ends = self.rows[row].ends.get((column, measure))
        if ends is None:
            return ""
        low, high = (self._as_text(end, column) for end in ends)
        return f" [{low}, {high}]"

    def _as_text(self, value: float, column: int) -> str:
        if not math.isfinite(value):
            return ""
        digits = self.digits[column] if self.digits else 1
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"

    @cached_property
    def ranks(self) -> dict[tuple[int, int, int], int]:
        """``BEST`` and ``SECOND`` by (row, column, measure): the lowest two numbers of ours.

        Every group, column and measure is ranked alone, by the numbers as printed; equal numbers
        share a rank; a group of one has no best. The row of the anchor has no rank.
        """
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, line in enumerate(self.rows):
            if line.source == OURS and not line.is_anchor and self.group_by is not None:
                groups[tuple(line.keys[i] for i in self.group_by)].append(place)
        ranks = {}
        for rows in groups.values():
            for column in range(len(self.column_names)):
                for measure in range(len(self.measures)):
                    texts = {row: self.text(row, column, measure) for row in rows}
                    shown = {row: float(text) for row, text in texts.items() if text}
                    lowest = sorted(set(shown.values()))[:2] if len(shown) > 1 else []
                    for row, value in shown.items():
                        if value in lowest:
                            ranks[row, column, measure] = BEST + lowest.index(value)
        return ranks

    @property
    def legend(self) -> list[str]:
        """Sentences for below the table."""
        anchored = any(row.is_anchor for row in self.rows)
        words = "Best of ours in bold, second-best underlined"
        words += ", without the anchor." if anchored else "."
        ranked = [words] if self.ranks else []
        return [*ranked, *self.notes]

    def printed(self, mark: Callable[[str, int], str], absent: str) -> Iterator[list[str]]:
        """Cells of every row as texts; ``mark`` sets a number of rank 1 or 2 apart."""
        for row, line in enumerate(self.rows):
            cells = []
            for column, cell in enumerate(line.cells):
                shown = []
                for measure in range(len(cell)):
                    text = self.text(row, column, measure)
                    rank = self.ranks.get((row, column, measure))
                    interval = self.interval_text(row, column, measure)
                    shown.append((mark(text, rank) if rank else text or absent) + interval)
                cells.append(absent if set(shown) == {absent} else " / ".join(shown))
            yield cells

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return as_markdown(self)


def write_formats(table: Table, folder: Path) -> list[Path]:
    """``NAME.csv``, ``NAME.md`` and ``NAME.tex`` in ``folder``; returns the files."""
    texts = {"csv": as_csv(table), "md": as_markdown(table), "tex": as_latex(table)}
    for ending, text in texts.items():
        write_atomically(folder / f"{table.name}.{ending}", text)
    return [folder / f"{table.name}.{ending}" for ending in texts]


def as_csv(table: Table) -> str:
    """One column per number, unrounded, and ``source`` (ours or published) as the first.

    Where numbers have intervals, columns of their ends follow each of them.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    several = len(table.measures) > 1
    names = [
        ((column, measure), f"{name} {word}" if several else name)
        for column, name in enumerate(table.column_names)
        for measure, word in enumerate(table.measures)
    ]
    bounded = {place for row in table.rows for place in row.ends}
    heads = []
    for place, name in names:
        heads += [name, f"{name} low", f"{name} high"] if place in bounded else [name]
    writer.writerow(["source", *table.key_names, *heads])
    for row in table.rows:
        numbers: list[float] = []
        for (column, measure), _ in names:
            numbers.append(row.cells[column][measure])
            if (column, measure) in bounded:
                numbers += row.ends.get((column, measure), (NAN, NAN))
        values = ["" if math.isnan(value) else f"{value:.10g}" for value in numbers]
        writer.writerow([row.source, *row.keys, *values])
    return out.getvalue()


def as_markdown(table: Table) -> str:
    """Best in bold, second-best underlined, published rows in italics."""

    def pipe(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    heads = [*table.key_names, "Source", *table.column_names]
    lines = [f"**{table.title}**", "", pipe(heads), pipe(["---"] * len(heads))]
    marked = table.printed(
        lambda text, rank: f"**{text}**" if rank == BEST else f"<u>{text}</u>", "–"
    )
    for row, cells in zip(table.rows, marked, strict=True):
        cells = [*row.keys, row.source, *cells]
        lines.append(pipe([f"*{c}*" for c in cells] if row.source == PUBLISHED else cells))
    return "\n".join([*lines, "", *table.legend, ""])


_LATEX_SPECIAL = str.maketrans(
    {c: rf"\{c}" for c in "&%#_${}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


#: A hyphen that stands for a minus: before a number, behind no letter or digit.
_MINUS = re.compile(r"(?<![\w.}])-(?=\d)")


#: Width of one column and of both, in points, less 4 % for what is estimated.
_COLUMN_PT, _PAGE_PT = 0.96 * 252.0, 0.96 * 516.0
#: Points between two columns of a table; most points of a key, which else goes on in another line;
#: lines of a float beside its caption and legend.
_BETWEEN_PT, _WIDEST_KEY_PT, _MOST_LINES = 6.0, 140.0, 52
#: What most labels end with, and a note says instead.
_BEHIND_LDPC = " + 5G LDPC"


def as_latex(table: Table) -> str:
    """A float for booktabs alone, one column wide where the table fits, else both columns wide.

    Left out are columns without a number, the mean over a single column, and the source, because
    published rows are in italics. A table that is wider than both columns goes on below itself; one
    of many rows goes on in another float. The caption is the title; what the numbers mean stands
    below.
    """
    marked = list(
        table.printed(
            lambda text, rank: rf"\{'textbf' if rank == BEST else 'underline'}{{{text}}}", "--"
        )
    )
    shown = [
        i for i in range(len(table.column_names)) if any(row[i].strip("-/ ") for row in marked)
    ]
    if len(shown) == 2 and table.column_names[shown[1]] == AVERAGE:
        shown.pop()
    heads = [_tex(name) for name in table.key_names]
    columns = [_tex(table.column_names[i]) for i in shown]
    keys, cells = _latex_rows(table, marked, shown)
    widths = _key_widths(keys, heads, cells, columns)
    blocks = _blocks(sum(widths) + _BETWEEN_PT * len(widths), cells, columns)
    parts = _parts(keys, widths, _MOST_LINES // len(blocks))
    kinds = _kinds(keys, heads, widths)
    legend = _latex_legend(table)
    tabulars = [
        [
            _tabular(
                [*heads, *(columns[i] for i in block)],
                _once([[*keys[row], *(cells[row][i] for i in block)] for row in part]),
                kinds + "r" * len(block),
            )
            for block in blocks
        ]
        for part in parts
    ]
    fits = max(latex_width(tabular) for part in tabulars for tabular in part) <= _COLUMN_PT
    kind = "table" if fits else "table*"
    lines = ["% needs \\usepackage{booktabs}"]
    for number, part in enumerate(tabulars, start=1):
        lines += [
            *(rf"\begin{{{kind}}}[t]", r"\centering", r"\footnotesize"),
            rf"\setlength{{\tabcolsep}}{{{_BETWEEN_PT / 2:g}pt}}",
            rf"\caption{{{_tex(table.title)}{' (continued)' if number > 1 else ''}.}}",
            rf"\label{{tab:{table.name.replace('_', '-')}{f'-{number}' if number > 1 else ''}}}",
            "\n\\par\\medskip\n".join(part),
            *(
                [r"\par\smallskip", _tex(" ".join(legend))]
                if number == len(parts) and legend
                else []
            ),
            *(rf"\end{{{kind}}}", ""),
        ]
    return "\n".join(lines)


def _latex_legend(table: Table) -> list[str]:
    """The sentences of the legend, and what the cells of LaTeX leave to them."""
    behind = any(row.keys[0].endswith(_BEHIND_LDPC) for row in table.rows)
    italics = any(row.source == PUBLISHED for row in table.rows)
    more = {"Codecs: behind 5G LDPC.": behind, "Published rows in italics.": italics}
    return [*table.legend, *(sentence for sentence, said in more.items() if said)]


def _tex(text: str) -> str:
    return text.translate(_LATEX_SPECIAL)


def _latex_rows(
    table: Table, marked: list[list[str]], shown: Sequence[int]
) -> tuple[list[list[str]], list[list[str]]]:
    """Keys and shown cells of every row as LaTeX; rows of the paper in italics."""
    keys, cells = [], []
    for row, line in zip(table.rows, marked, strict=True):
        first, *others = row.keys
        own = [_MINUS.sub("$-$", _tex(key)) for key in (first.removesuffix(_BEHIND_LDPC), *others)]
        numbers = [_MINUS.sub("$-$", line[i]) for i in shown]
        if row.source == PUBLISHED:
            own, numbers = ([rf"\textit{{{text}}}" for text in texts] for texts in (own, numbers))
        keys.append(own)
        cells.append(numbers)
    return keys, cells


def _key_widths(
    keys: list[list[str]], heads: list[str], cells: list[list[str]], columns: list[str]
) -> list[float]:
    """Points of every key: what it needs, or less, so that the widest column stands beside them."""
    needed = [_widest([head, *(row[i] for row in keys)]) for i, head in enumerate(heads)]
    widest = _widest([*columns, *(cell for row in cells for cell in row)])
    room = _PAGE_PT - widest - _BETWEEN_PT * (len(heads) + 1)
    cap = _WIDEST_KEY_PT
    while cap > 20 and sum(min(width, cap) for width in needed) > room:
        cap -= 2
    return [min(width, cap) for width in needed]


def _kinds(keys: list[list[str]], heads: list[str], widths: list[float]) -> str:
    """Kinds of the columns of keys: one that needs more than its width has lines of that width."""
    needed = (_widest([head, *(row[i] for row in keys)]) for i, head in enumerate(heads))
    pairs = zip(needed, widths, strict=True)
    return "".join("l" if own <= width else f"p{{{width:.0f}pt}}" for own, width in pairs)


def _blocks(start: float, cells: list[list[str]], columns: list[str]) -> list[list[int]]:
    """Columns by the tabular that they stand in; ``start`` : points of the keys before them."""
    blocks: list[list[int]] = [[]]
    room = _PAGE_PT - start
    for i, head in enumerate(columns):
        width = _widest([head, *(row[i] for row in cells)]) + _BETWEEN_PT
        if width > room and blocks[-1]:
            blocks.append([])
            room = _PAGE_PT - start
        blocks[-1].append(i)
        room -= width
    return blocks


def _parts(keys: list[list[str]], widths: list[float], most: int) -> list[list[int]]:
    """Rows by the float that they stand in, with at most ``most`` lines for each tabular."""
    parts: list[list[int]] = [[]]
    lines = 3.0  # of the head and its rules
    for place, row in enumerate(keys):
        # Words are not broken: a line is on the average four fifths full.
        own = max(_points_of(key) / width for key, width in zip(row, widths, strict=True))
        height = 1.0 if own <= 1 else math.ceil(own / 0.8)
        height += 0.5 * (place > 0 and row[0] != keys[place - 1][0])
        if lines + height > most and parts[-1]:
            parts.append([])
            lines = 3.0
        parts[-1].append(place)
        lines += height
    return parts


def _once(rows: list[list[str]]) -> list[list[str] | None]:
    """The first key where it changes alone; None stands for the space before another one."""
    spaced: list[list[str] | None] = []
    before = None
    for row in rows:
        if before is not None and row[0] != before:
            spaced.append(None)
        spaced.append(["" if row[0] == before else row[0], *row[1:]])
        before = row[0]
    return spaced


def _tabular(heads: list[str], rows: list[list[str] | None], kinds: str) -> str:
    """Rows between the rules of booktabs; ``kinds`` : of the columns."""
    body = [r"\addlinespace" if row is None else " & ".join(row) + r" \\" for row in rows]
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{kinds}}}",
            *(r"\toprule", " & ".join(heads) + r" \\", r"\midrule", *body, r"\bottomrule"),
            r"\end{tabular}",
        ]
    )


_COMMAND = re.compile(r"\\(textbf|textit|underline)\{([^{}]*)\}")
#: Points per pixel of Computer Modern at 100 pixels, for type of 8 points: cmr8 is 1/16 wider than
#: cmr10 made smaller, and cmbx8, the bold of ``\footnotesize``, 18 % wider.
_ROMAN, _BOLD = 0.08 * 1.0625, 0.08 * 1.18


@cache
def _computer_modern() -> ImageFont.FreeTypeFont:
    from matplotlib import get_data_path  # which carries it

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"), 100)


def _widest(texts: Sequence[str]) -> float:
    r"""Points of the longest of some texts in LaTeX, set in ``\footnotesize``."""
    return max(map(_points_of, texts), default=0.0)


@lru_cache(maxsize=2**16)
def _points_of(text: str) -> float:
    bold = "".join(found[2] for found in _COMMAND.finditer(text) if found[1] == "textbf")
    other = _COMMAND.sub(lambda found: "" if found[1] == "textbf" else found[2], text)
    lengths = [_computer_modern().getlength(_as_set(part)) for part in (other, bold)]
    return lengths[0] * _ROMAN + lengths[1] * _BOLD


def _as_set(tex: str) -> str:
    """A text in LaTeX without commands, each sign by one of its width."""
    plain = tex.replace("$-$", "+").replace("--", "–")
    return re.sub(r"\\text\w+\{\}", "~", plain).replace("\\", "")


def latex_width(tabular: str) -> float:
    """Points that a tabular of :func:`as_latex` is wide, by the metrics of Computer Modern."""
    first, *lines = tabular.splitlines()
    kinds = re.findall(r"p\{([\d.]+)pt\}|[lr]", first.removeprefix(r"\begin{tabular}"))
    cells = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r"\\")]
    columns = zip(kinds, zip(*cells, strict=True), strict=True)
    widths = [float(fixed) if fixed else _widest(column) for fixed, column in columns]
    return sum(widths) + _BETWEEN_PT * len(widths)


# ---- the paper's numbers -------------------------------------------------------------------------

#: Data sets in the order of the paper's columns; the mean over them is its last column.
DATASETS = ("UVG", "MCL-JCV", "HEVC A", "HEVC B", "HEVC C", "HEVC D", "HEVC E")
AVERAGE = "Average"
_CLIPS = {
    "UVG": "Beauty Bosphorus HoneyBee Jockey ReadySteadyGo ShakeNDry YachtRide",
    "MCL-JCV": " ".join(f"videoSRC{number:02d}" for number in range(1, 31)),
    "HEVC A": "Traffic PeopleOnStreet NebutaFestival SteamLocomotiveTrain",
    "HEVC B": "Kimono1 ParkScene Cactus BasketballDrive BQTerrace",
    "HEVC C": "BasketballDrill BQMall PartyScene RaceHorsesC",
    "HEVC D": "BasketballPass BQSquare BlowingBubbles RaceHorses",
    "HEVC E": "FourPeople Johnny KristenAndSara",
}
#: Name of the data set by clip; a clip of no data set is not listed.
DATASET_OF = {clip: name for name, clips in _CLIPS.items() for clip in clips.split()}

#: What a reader must know wherever a published number stands beside one of ours.
CAVEAT = (
    "Rows marked published are the paper's own values: full test sets, anchor VTM-17.0, the "
    "authors' weights. Rows marked ours are measured here, on the clips and against the anchor "
    "named; compare the order of schemes before the numbers."
)


@cache
def published(name: str) -> pd.DataFrame:
    """What the paper prints: ``bd_cbr`` (Tables I to III), ``complexity`` (IV), ``ablation`` (V)
    or ``loss_terms`` (VI), with units in the names of the columns."""
    with files("pvsc_link.report").joinpath(f"paper_{name}.csv").open("rb") as file:
        return pd.read_csv(file)


# ---- BD-CBR: Tables I (data sets and GOP), II (SNR) and III (NMSE) -------------------------------

#: The SNR of Table I; without it, the nearest there is.
_TABLE_I_SNR_DB = 6.0
_KEY_TITLES = {
    "gop": "GOP",
    "snr_db": "SNR (dB)",
    "csi_nmse_db": "CSI NMSE (dB)",
    "coherence_length": "Coherence",
}
_PUBLISHED_COLUMN = {"gop": "gop", "snr_db": "snr_db", "csi_nmse_db": "nmse_db"}
#: PSNR has tables of its own; the paper's tables hold the perceptual metrics.
_PSNR = ["psnr"]
#: Numbers by column for each (method, *keys).
_Lines = dict[tuple, dict[str, list[float]]]


@dataclass(frozen=True)
class _Form:
    """One table to make: the paper's number, its rows, what its lines are told apart by."""

    number: str
    name: str
    rows: pd.DataFrame
    keys: tuple[str, ...]
    under: str  # the condition that all lines share


def comparison_tables(results: Results) -> list[Table]:
    """Every table of BD-CBR that the results have rows for; perceptual metrics first, then PSNR."""
    bd = results.bd
    if bd.empty or not {"metric", "clip", "bd_cbr_percent", "channel"} <= set(bd.columns):
        return []
    bd = with_curve_keys(bd[bd["clip"] != "mean"].assign(variant=bd["variant"].fillna("")))
    labels = {key: style.label for key, style in curve_styles(bd).items()}
    tables = []
    for metrics in ([name for name in METRICS if name not in _PSNR], _PSNR):
        here = bd[bd["metric"].isin(metrics)]
        present = [name for name in metrics if (here["metric"] == name).any()]
        if present:
            tables += [_comparison(form, present, labels) for form in _forms(here)]
    return tables


def _forms(bd: pd.DataFrame) -> Iterator[_Form]:
    flat = bd[bd["channel"] == "awgn"]
    if len(flat):
        more = tuple(_further_keys(flat))
        snrs = sorted(flat["snr_db"].unique())
        snr = min(snrs, key=lambda value: abs(value - _TABLE_I_SNR_DB))
        under = f"{channel_label('awgn')}, SNR = {snr:g} dB"
        yield _Form("I", "table_1_datasets_gop", flat[flat["snr_db"] == snr], ("gop", *more), under)
        if len(snrs) > 1:
            under = channel_label("awgn")
            yield _Form("II", "table_2_snr", flat, ("snr_db", "gop", *more), under)
    for channel, fading in bd[bd["channel"] != "awgn"].groupby("channel", sort=False):
        label, estimated = channel_label(str(channel)), _has_nmse(str(channel))
        words = [f"{label} fading" if estimated else label]
        keys = ["csi_nmse_db"] if estimated else []
        for name in ("snr_db", "coherence_length", "gop"):
            value = fading[name].iloc[0]
            if fading[name].nunique(dropna=False) > 1:
                keys.append(name)
            elif not pd.isna(value):
                title, unit = _KEY_TITLES[name].split(" ")[0], " dB" if name == "snr_db" else ""
                words.append(f"{title} = {value:g}{unit}")
        keys += _further_keys(fading)
        name = f"table_3_nmse_{channel}" if estimated else f"table_3_{channel}"
        yield _Form("III", name, fading, tuple(keys) or ("gop",), ", ".join(words))


def _has_nmse(channel: str) -> bool:
    return channel not in CHANNELS or CHANNELS[channel].is_estimated


def _further_keys(rows: pd.DataFrame) -> list[str]:
    """Parts of the condition that vary and that the paper's tables do not have."""
    return [name for name in varying_conditions(rows) if name not in (*_KEY_TITLES, "channel")]


def _key_title(key: str) -> str:
    return _KEY_TITLES.get(key) or value_title(key)


def _key_text(key: str, value: Any) -> str:
    """A value of a key; NaN is a perfect estimate, or something that is off."""
    if pd.isna(value):
        return "perfect" if key == "csi_nmse_db" else "none"
    if key == "harq":
        return harq_words(value)
    if key == "channel":
        return channel_label(str(value))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:g}" if is_number else str(value)


def _comparison(form: _Form, metrics: list[str], labels: dict[str, str]) -> Table:
    short = short_clip_names(form.rows["clip"], taken=(*DATASETS, AVERAGE))
    rows = form.rows.assign(
        column=[DATASET_OF.get(clip) or short[str(clip)] for clip in form.rows["clip"]]
    )
    theirs = _published_lines(form, metrics)
    columns = list(dict.fromkeys(rows["column"]))
    if theirs:
        columns += [name for name in DATASETS if name not in columns]
    columns.append(AVERAGE)
    anchor = scheme_style(str(rows["anchor"].iloc[0]).split(":")[0]).label
    measures = tuple(METRICS[name].short_label for name in metrics)
    lines = list(_lines(rows, form, metrics, columns, labels, theirs))
    what = "BD-rate in bytes" if rows["channel"].map(is_packets).all() else "BD-CBR"
    return Table(
        name=form.name + ("_psnr" if metrics == _PSNR else ""),
        title=f"{what} (%) on {' / '.join(measures)}, {form.under} (form of Table {form.number})",
        key_names=("Method", *map(_key_title, form.keys)),
        column_names=tuple(columns),
        measures=measures,
        rows=lines,
        notes=[
            f"Smaller is better. Anchor of ours: {anchor}.",
            *_behind(rows, any(line.ends for line in lines)),
            *([CAVEAT] if theirs else []),
        ],
        group_by=tuple(range(1, 1 + len(form.keys))),
    )


def _lines(
    rows: pd.DataFrame,
    form: _Form,
    metrics: Sequence[str],
    columns: Sequence[str],
    labels: dict[str, str],
    theirs: _Lines,
) -> Iterator[Row]:
    """Ours by curve and keys; after the last curve of a scheme, what the paper prints for it."""
    for scheme, of_scheme in rows.groupby("scheme", sort=False):
        method = scheme_style(str(scheme)).label
        for key, group in of_scheme.groupby(list(form.keys), dropna=False):
            shown = [_key_text(*pair) for pair in zip(form.keys, key, strict=True)]
            for curve, own in group.groupby("curve", sort=False):
                cells, ends = _own_cells(own, metrics, columns)
                yield make_row(OURS, [labels[curve], *shown], cells, ends, _is_of_anchor(own))
            found = theirs.get((method, *map(_comparable, key))) if theirs else None
            if found:
                cells = [found.get(name, [NAN] * len(metrics)) for name in columns]
                yield make_row(PUBLISHED, [method, *shown], cells)


def _is_of_anchor(own: pd.DataFrame) -> bool:
    """Whether the rows compare the anchor, ``scheme`` or ``scheme:variant``, with itself."""
    scheme, variant, anchor = (str(own[name].iloc[0]) for name in ("scheme", "variant", "anchor"))
    is_named = anchor in (scheme, f"{scheme}:{variant}")
    return is_named and bool((own["bd_cbr_percent"].fillna(0.0) == 0.0).all())


def _own_cells(
    own: pd.DataFrame, metrics: Sequence[str], columns: Sequence[str]
) -> tuple[list[list[float]], dict[tuple[int, int], tuple[float, float]]]:
    """Mean over the clips of each column, and over columns (NaN if one has none); interval ends.

    The interval of a single clip is that of ``bd_cbr.csv``; that of a mean resamples its clips, and
    that of the average the columns.
    """
    cells: list[list[float]] = [[] for _ in columns]
    ends = {}
    for measure, metric in enumerate(metrics):
        by_column = own[own["metric"] == metric].groupby("column")
        found = {name: _mean_and_ends(rows) for name, rows in by_column}
        means = [mean for mean, _ in found.values()]
        average = float(np.mean(means)) if means else NAN
        found[AVERAGE] = (average, _ends(means)) if len(means) != 1 else next(iter(found.values()))
        for column, name in enumerate(columns):
            mean, bounds = found.get(name, (NAN, None))
            cells[column].append(mean)
            if bounds is not None:
                ends[column, measure] = bounds
    return cells, ends


def _mean_and_ends(rows: pd.DataFrame) -> tuple[float, tuple[float, float] | None]:
    values = rows["bd_cbr_percent"].astype(float).tolist()
    if len(values) > 1:
        return float(np.mean(values)), _ends(values)
    named = [rows[name].iloc[0] for name in ("bd_cbr_low", "bd_cbr_high") if name in rows]
    known = len(named) == 2 and pd.notna(named).all()
    return values[0], (float(named[0]), float(named[1])) if known else None


def _ends(values: Sequence[float]) -> tuple[float, float] | None:
    """Ends of the interval of a mean; None for too few values, or where one is missing."""
    interval = bootstrap_interval(values) if values and np.isfinite(values).all() else None
    return None if interval is None else (interval.low, interval.high)


def _behind(rows: pd.DataFrame, with_intervals: bool) -> Iterator[str]:
    """Sentences: what stands behind the numbers, and which intervals there are, or why none."""
    num_clips = rows["clip"].nunique()
    of_clip = [
        f"{_span(rows[name])} {word}"
        for name, word in (
            ("num_gops", "GOPs"),
            ("num_seeds", "seeds"),
            ("num_fades", "independent fades"),
        )
        if name in rows and rows[name].notna().any()
    ]
    of_each = f", of each {', '.join(of_clip)}" if of_clip else ""
    yield f"Clips behind the table: {num_clips}{of_each}."
    if with_intervals:
        yield (
            "In brackets: 95 % bootstrap intervals, over the seeds of a clip or over the clips of "
            f"a mean; none for fewer than {MIN_UNITS}."
        )
    else:
        yield f"No intervals: fewer than {MIN_UNITS} clips in a mean, and seeds of a clip."


def _span(counts: pd.Series) -> str:
    low, high = counts.min(), counts.max()
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _published_lines(form: _Form, metrics: list[str]) -> _Lines:
    """The paper's numbers by (method, *keys), for the lines that stand below one of ours."""
    names = [_PUBLISHED_COLUMN.get(key) for key in form.keys]
    if None in names or metrics == _PSNR:
        return {}
    places = form.rows[["scheme", *form.keys]].drop_duplicates().itertuples(index=False)
    ours = {(scheme_style(str(p[0])).label, *map(_comparable, p[1:])) for p in places}
    paper = published("bd_cbr")
    paper = paper[paper["table"] == form.number]
    for name in ("snr_db", "gop"):
        if name not in form.keys:  # a condition that our lines share must be the paper's too
            paper = paper[paper[name].isna() | paper[name].isin(form.rows[name].unique())]
    found: _Lines = defaultdict(dict)
    for _, line in paper.iterrows():
        place = (line["method"], *(_comparable(line[name]) for name in names))
        if place in ours:
            values = [line.get(f"bd_cbr_{metric}_percent", NAN) for metric in metrics]
            found[place][line["dataset"]] = values
    return found


def _comparable(value: object) -> float | None:
    return None if pd.isna(value) else float(value)  # type: ignore[arg-type]


# ---- how quality is distributed over GOPs --------------------------------------------------------


def distribution_tables(results: Results) -> list[Table]:
    """Per metric: mean, interval, 5th and 95th percentile over GOPs, of ``seed_means.csv``.

    No table where the results have no percentiles. With several clips only their mean is shown.
    """
    path = results.folder / "seed_means.csv"
    means = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    if means.empty:
        return []
    pooled = means["clip"] == "mean"
    means = means[pooled] if pooled.any() else means
    wanted = [*_OF_CURVE, *told_apart(means), "clip", "status"]
    names = [n for n in dict.fromkeys(wanted) if n in means and means[n].nunique(dropna=False) > 1]
    tables = []
    for metric in METRICS.values():
        column = metric.column
        if f"{column}_p5" not in means or means[f"{column}_p5"].isna().all():
            continue
        rows = []
        for _, line in means[means[column].notna()].iterrows():
            keys = [_key_text(name, line[name]) for name in (*names, "rate")]
            places = (column, f"{column}_p5", f"{column}_p95", "num_gops", "num_seeds")
            bounds = (float(line[f"{column}_low"]), float(line[f"{column}_high"]))
            ends = {(0, 0): bounds} if np.isfinite(bounds).all() else {}
            rows.append(make_row(OURS, keys, _cells(line, places), ends))
        tables.append(
            Table(
                name=f"distribution_{metric.name}",
                title=f"{metric.axis_label} over GOPs",
                key_names=tuple(_key_title(name) for name in (*names, "rate")),
                column_names=("Mean", "5th percentile", "95th percentile", "GOPs", "Seeds"),
                measures=("",),
                rows=rows,
                notes=["In brackets: 95 % bootstrap intervals; none: see note in seed_means.csv."],
                digits=(4, 4, 4, 0, 0),
            )
        )
    return tables


# ---- losses and latency --------------------------------------------------------------------------

#: Columns of ``points.csv`` with their titles and digits, by what a line makes of its rows.
_LOSS_COUNTS = {
    "num_frames": "Frames",
    "frames_lost": "Frames lost",
    "frames_concealed": "Frames concealed",
    "freeze_events": "Freeze events",
    "deadline_misses": "Deadline misses",
}
_LATENCIES = {
    "latency_ms_p50": "Latency p50 (ms)",
    "latency_ms_p95": "Latency p95 (ms)",
    "latency_ms_max": "Latency max (ms)",
}


def loss_tables(results: Results) -> list[Table]:
    """One table of what was lost and how late frames came, per curve and condition.

    A line is over rates, clips and seeds. A column whose numbers are all 0 or absent is left out;
    a number of clips, rates, seeds or GOPs that all lines share stands in a note. There is no table
    for results without losses that do not state a latency either.
    """
    sent = results.curves.keyed
    titles = _LOSS_COUNTS | _LATENCIES
    numbers = {
        name: pd.to_numeric(sent[name], errors="coerce") if name in sent else NAN for name in titles
    }
    sent = sent.assign(**numbers)
    shown = {n: title for n, title in titles.items() if (sent[n].fillna(0.0) != 0.0).any()}
    if not set(shown) - {"num_frames"}:
        return []
    keys = told_apart(sent)
    lines, behind = [], []
    for place, group in sent.groupby(["curve", *keys], dropna=False, sort=False):
        label = results.curves.styles[place[0]].label
        texts = [_key_text(*pair) for pair in zip(keys, place[1:], strict=True)]
        lines.append(([label, *texts], _losses_of(group, shown)))
        behind.append(_counts_behind(group))
    counts = pd.DataFrame(behind)
    columns = [name for name in counts if counts[name].nunique() > 1]
    rows = [
        make_row(OURS, texts, [[value] for value in (*losses, *counts.loc[line, columns])])
        for line, (texts, losses) in enumerate(lines)
    ]
    order = {label: place for place, label in enumerate(dict.fromkeys(r.keys[0] for r in rows))}
    rows.sort(key=lambda row: order[row.keys[0]])
    return [
        Table(
            name="losses_and_latency",
            title="Losses and latency of frames",
            key_names=("Method", *map(_key_title, keys)),
            column_names=(*shown.values(), *columns),
            measures=("",),
            rows=rows,
            notes=list(_notes_on_losses(sent, keys, counts, shown)),
            digits=(*(1 if name in _LATENCIES else 0 for name in shown), *(0 for _ in columns)),
        )
    ]


def told_apart(rows: pd.DataFrame) -> list[str]:
    """Columns that tell the conditions of ``rows`` apart: channel, GOP, and what varies in one.

    A value that follows from the channel, such as a coherence length that only one of them has, is
    not among them.
    """
    of_channels = [of_channel for _, of_channel in rows.groupby("channel", dropna=False)]
    varying = {name for of_channel in of_channels for name in varying_conditions(of_channel)}
    several = [name for name in ("channel", "gop") if rows[name].nunique() > 1]
    return [name for name in [*condition_columns(), "gop"] if name in {*several, *varying}]


def _losses_of(rows: pd.DataFrame, shown: Mapping[str, str]) -> list[float]:
    """Sums of counts; means of the rows' percentiles, and the largest latency."""
    values = []
    for name in shown:
        numbers = rows[name].to_numpy(float)  # a sum that lacks a row is none
        how = np.sum if name in _LOSS_COUNTS else np.max if name == "latency_ms_max" else np.mean
        values.append(float(how(numbers)))
    return values


def _counts_behind(rows: pd.DataFrame) -> dict[str, float]:
    gops = (rows["num_frames"] / rows["gop"]).sum()
    distinct = {"Clips": "clip", "Rates": "rate", "Seeds": "seed"}
    return {title: rows[name].nunique() for title, name in distinct.items()} | {"GOPs": gops}


def _notes_on_losses(
    sent: pd.DataFrame, keys: Sequence[str], counts: pd.DataFrame, shown: Mapping[str, str]
) -> Iterator[str]:
    shared = ["channel", *(n for n in condition_columns() if n in sent and n not in keys)]
    of_channels = (rows for _, rows in sent.groupby("channel", sort=False))
    words = [condition_words({n: rows[n].iloc[0] for n in shared}) for rows in of_channels]
    yield f"Conditions: {'; '.join(words)}."
    same = [
        f"{counts[title].iloc[0]:g} {title if title == 'GOPs' else title.lower()}"
        for title in counts
        if counts[title].nunique() == 1
    ]
    same = [words.removesuffix("s") if words.startswith("1 ") else words for words in same]
    behind = f"; behind every line: {', '.join(same)}" if same else ""
    yield f"Counts are sums over rates, clips and seeds{behind}."
    if set(_LATENCIES) & set(shown):
        yield (
            "Latency p50 and p95: means over the rows of a line. The time of coding is not counted."
        )
        if (sent["transport_unit"].fillna("gop") == "gop").any():
            yield "With the transport unit gop a frame waits until its GOP is complete."
    stated = {name: sent[name].notna().any() for name in _LOSS_COUNTS}
    left_out = [t.lower() for n, t in _LOSS_COUNTS.items() if n not in shown and stated[n]]
    if left_out:
        yield f"0 everywhere, and left out: {', '.join(left_out)}."


# ---- two results of one scenario -----------------------------------------------------------------

_OF_CURVE = ["scheme", "variant", "equalizer", "csi_aware", "mcs_policy"]


def old_and_new_table(old: Results, new: Results) -> Table:
    """BD-CBR of the same curves in two results folders side by side, with their intervals.

    Rows of one curve, anchor, condition, GOP length, clip and metric stand in one line; with
    several clips only their mean is shown. Rows of the anchor itself are left out; so are those
    that one folder alone has, which a note counts. Rows of ``pvsc`` with a preset ``pvsc_small``
    that were made under the rules 1 or before are those of ``pvsc-mc`` with ``pvsc_mc_small``,
    which has the same networks. Raises ``InputError`` if no line is left.
    """
    tables = [_named_as_today(results) for results in (old, new)]
    fixed = [*_OF_CURVE, "anchor", "channel", "snr_db", "csi_nmse_db", "coherence_length"]
    more = varying_conditions(pd.concat(tables)) if all(map(len, tables)) else []
    wanted = [*fixed, *(name for name in more if name not in fixed), "gop", "clip", "metric"]
    keys = [name for name in wanted if all(name in table for table in tables)]
    lines = [{_key_of(row, keys): row for _, row in table.iterrows()} for table in tables]
    both = [key for key in lines[1] if key in lines[0]]
    if not both:
        raise InputError(
            f"results beside {new.folder}",
            found=f"no row of bd_cbr.csv in {old.folder} with an equal curve and condition",
            allowed="two results of one scenario",
            remedy="Name the folders of two runs of one scenario.",
        )
    shown = [name for name in keys if len({key[keys.index(name)] for key in both}) > 1]
    rows = []
    for key in both:
        found = [of_folder[key] for of_folder in lines]
        cells, ends = [], {}
        for column, line in enumerate(found):
            mean, bounds = _mean_and_ends(pd.DataFrame([line]))
            cells.append([mean])
            if bounds is not None:
                ends[column, 0] = bounds
        cells.append([cells[1][0] - cells[0][0]])
        rows.append(make_row(OURS, [key[keys.index(name)] for name in shown], cells, ends))
    alone = sum(len(set(of_folder) - set(both)) for of_folder in lines)
    return Table(
        name="old_and_new",
        title=f"BD-CBR (%) of {new.name}, earlier and now",
        key_names=tuple(_key_title(name) for name in shown),
        column_names=("Old", "New", "New - old (points)"),
        measures=("",),
        rows=rows,
        notes=[
            f"Old: {_made(old)}. New: {_made(new)}.",
            "In brackets: 95 % bootstrap intervals.",
            *([f"Left out are {alone} rows that one of the folders alone has."] if alone else []),
        ],
    )


#: The last rules under which ``pvsc`` and ``pvsc_small`` named what is ``pvsc-mc`` since.
_RULES_OF_OLD_NAMES = 1


def _named_as_today(results: Results) -> pd.DataFrame:
    """Rows of the means over clips where there are several, with today's names of schemes."""
    bd = results.bd
    if bd.empty:
        return bd
    bd = bd.assign(variant=bd["variant"].fillna("").astype(str))
    is_old = (results.manifest.get("rules") or 0) <= _RULES_OF_OLD_NAMES
    moved = is_old & (bd["scheme"] == "pvsc") & bd["variant"].str.startswith("pvsc_small")
    renamed = bd["variant"].str.replace("^pvsc_small", "pvsc_mc_small", regex=True)
    bd = bd.assign(
        scheme=bd["scheme"].mask(moved, "pvsc-mc"), variant=bd["variant"].mask(moved, renamed)
    )
    bd = bd[bd["scheme"] != bd["anchor"].astype(str).str.split(":").str[0]]
    means = bd["clip"] == "mean"
    return bd[means] if means.any() else bd


def _key_of(row: pd.Series, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(_key_text(name, row[name]) for name in keys)


def _made(results: Results) -> str:
    rules = results.manifest.get("rules")
    stated = "rules not stated" if rules is None else f"rules {rules}"
    weights = dict.fromkeys((results.manifest.get("weights") or {}).values())
    return ", ".join([stated, *(["weights " + " ".join(weights)] if weights else [])])


# ---- models: Tables IV (complexity), V (ablation) and VI (loss terms) ----------------------------

_TIMES = ("tx_ms", "rx_ms")
_TIME_NOTE = (
    "Times depend on the machine: published ones are of an NVIDIA RTX 4090, ours of the machine "
    "in the manifest beside complexity.csv."
)
_MODEL = re.compile(r"_?(m_[a-e])$")
_TERMS = ("rec", "per", "adv")


def model_tables(results: Results) -> tuple[list[Table], list[str]]:
    """The tables that the results have rows for, and why the others are absent."""
    tables, remarks = [], []
    if len(results.complexity):
        tables.append(_complexity_table(results.complexity))
    else:
        remarks.append(
            "No complexity table: there is no complexity.csv here or in ../complexity "
            "(python -m pvsc_link.bench complexity --preset pvsc_paper --csv FILE writes it)."
        )
    for number, rows, make in (
        ("V (ablation)", _ablation_rows(results), _ablation_table),
        ("VI (loss terms)", _loss_rows(results.bd), _loss_table),
    ):
        if rows:
            tables.append(make(rows))
        else:
            remarks.append(f"No table in the form of Table {number}: no such model is here.")
    return tables, remarks


def _cells(line, columns) -> list[list[float]]:
    """One number per column; NaN for what the line lacks."""
    return [[pd.to_numeric(line.get(name), errors="coerce")] for name in columns]


def _complexity_table(complexity: pd.DataFrame) -> Table:
    columns = (*_TIMES, "macs_m_per_pixel", "params_m")
    paper = published("complexity")
    rows: list[Row] = []
    for label, of_size in complexity.groupby("label", sort=False):
        theirs = paper[paper["resolution"] == label]
        for _, line in of_size.iterrows() if len(theirs) else ():
            if not str(line["preset"]).endswith("_intra") and not _MODEL.search(line["preset"]):
                rows.append(make_row(OURS, [label, line["preset"]], _cells(line, columns)))
        for _, line in theirs.iterrows():
            rows.append(make_row(PUBLISHED, [label, line["method"]], _cells(line, columns)))
    return Table(
        name="table_4_complexity",
        title="Computational complexity at different resolutions (form of Table IV)",
        key_names=("Resolution", "Method"),
        column_names=("Tx (ms)", "Rx (ms)", "MACs (M/pixel)", "Params (M)"),
        measures=("",),
        rows=rows,
        notes=[
            _TIME_NOTE,
            "GLC-Video: source coding alone. Params: of all models that four rates need.",
        ],
        digits=(1, 1, 2, 1),
        group_by=(0,),
    )


_ABLATION_COLUMNS = ("bd_cbr_percent", "macs_g", "params_m", *_TIMES)


def _ablation_rows(results: Results) -> list[Row]:
    """Ours of M_a to M_e, a row per preset: its MACs and times, and the BD-CBR of that preset.

    MACs and times come from one line of complexity.csv, of the paper's size where it is there.
    """
    complexity, bd = results.complexity, results.bd
    of_presets: dict[str, dict[str, object]] = {}
    if len(complexity):
        for label in ("1080p", "table_v"):  # the later one replaces the earlier one whole
            for _, line in complexity[complexity["label"] == label].iterrows():
                of_presets[str(line["preset"])] = dict(line)
    if len(bd) and "variant" in bd:
        own = (bd["scheme"] == "pvsc") & (bd["metric"] == "lpips") & (bd["clip"] != "mean")
        # The variant begins with the preset; the format of rate maps and the training follow.
        variants = bd["variant"].fillna("").astype(str)
        presets = variants.str.extract("^([^,-]*)", expand=False)
        for preset, values in bd[own].groupby(presets[own]):
            mean = values["bd_cbr_percent"].mean(skipna=False)
            of_presets.setdefault(str(preset), {})["bd_cbr_percent"] = mean
    rows = []
    for model in published("ablation")["model"]:
        for preset, line in of_presets.items():
            if preset.endswith(f"_{model}"):
                cells = _cells(line, _ABLATION_COLUMNS)
                rows.append(make_row(OURS, [model.upper(), preset], cells))
    return rows


def _ablation_table(rows: list[Row]) -> Table:
    theirs = [
        make_row(PUBLISHED, [str(line["model"]).upper(), ""], _cells(line, _ABLATION_COLUMNS))
        for _, line in published("ablation").iterrows()
    ]
    return Table(
        name="table_5_ablation",
        title="Ablation of spatio-temporal feature coding (form of Table V)",
        key_names=("Model", "Preset"),
        column_names=("BD-CBR (%)", "MACs (G)", "Params (M)", "Tx (ms)", "Rx (ms)"),
        measures=("",),
        rows=sorted([*rows, *theirs], key=lambda line: (line.keys[0], line.source)),
        notes=[
            "M_A: no spatio-temporal coding; M_B: temporal; M_C: spatial; M_D: both, full rate "
            "set; M_E: both, distilled rate set. Published: UVG, AWGN 10 dB, GOP 12, against M_E.",
            _TIME_NOTE,
        ],
        group_by=(),
    )


def terms_of(variant: str) -> tuple[int, ...] | None:
    """Loss terms that a variant's name states, e.g. ``rec+per``; ``None`` if it states none."""
    words = set(re.split(r"[+_ -]", variant))
    return tuple(int(term in words) for term in _TERMS) if "rec" in words else None


def _loss_rows(bd: pd.DataFrame) -> list[Row]:
    """Ours: semantic schemes whose variant names its loss terms, mean over what was run."""
    if bd.empty or not {"variant", "metric", "scheme"} <= set(bd.columns):
        return []
    rows = []
    here = bd[(bd["clip"] != "mean") & bd["variant"].notna()]
    for (scheme, variant), group in here.groupby(["scheme", "variant"], sort=False):
        terms = terms_of(str(variant))
        if terms:
            means = group.groupby("metric")["bd_cbr_percent"].mean()
            keys = [scheme_style(str(scheme)).label, *map(_tick, terms)]
            rows.append(make_row(OURS, keys, [[means.get(name, NAN)] for name in _loss_metrics()]))
    return rows


def _loss_metrics() -> list[str]:
    """The metrics of the paper's Table VI."""
    return [name for name in METRICS if f"bd_cbr_{name}_percent" in published("loss_terms")]


def _loss_table(rows: list[Row]) -> Table:
    columns = [f"bd_cbr_{name}_percent" for name in _loss_metrics()]
    theirs = [
        make_row(
            PUBLISHED, [line["method"], *(_tick(line[t]) for t in _TERMS)], _cells(line, columns)
        )
        for _, line in published("loss_terms").iterrows()
    ]
    return Table(
        name="table_6_loss_terms",
        title="BD-CBR (%) by loss terms (form of Table VI)",
        key_names=("Method", "L_rec", "L_per", "L_adv"),
        column_names=tuple(METRICS[name].short_label for name in _loss_metrics()),
        measures=("",),
        rows=[*rows, *theirs],
        notes=["Published: UVG, AWGN 10 dB, GOP 4.", CAVEAT],
        group_by=(),
    )


def _tick(used: int) -> str:
    return "yes" if used else ""
