"""The form of a table like those of the paper, and its formats.

A table has a line per method, keys at the start of a line, and numbers of which the best two are
marked. It is written as CSV for programs, as Markdown for reading and as LaTeX (booktabs) for a
paper, in one column or two.
"""

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path

from PIL import ImageFont

from pvsc_link.storage import write_atomically

OURS, PUBLISHED = "ours", "published"
BEST, SECOND = 1, 2
NAN = float("nan")
#: Title of the last column of a table over data sets, their mean.
AVERAGE = "Average"


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
