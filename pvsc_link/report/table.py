"""A table of numbers with a best and a second-best: the model that every format is written from."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

OURS, PUBLISHED = "ours", "published"
BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Number:
    """One number; ``rank`` is ``BEST``, ``SECOND`` or 0."""

    value: float
    rank: int = 0


@dataclass(frozen=True)
class Row:
    """One line: who says so, what it is about, and per column one number for each measure."""

    source: str  # OURS or PUBLISHED
    keys: tuple[str, ...]
    cells: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table of the report.

    ``name`` : of its files; ``measures`` : what stands in one cell, in order, e.g. LPIPS / DISTS;
    ``lower_is_better`` : per column; ``digits`` : after the point, per column.
    """

    name: str
    title: str
    key_names: tuple[str, ...]
    column_names: tuple[str, ...]
    measures: tuple[str, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    digits: tuple[int, ...] = ()

    def text(self, number: Number, column: int) -> str:
        """A number as printed; an empty text where there is none."""
        digits = self.digits[column] if self.digits else 1
        if not math.isfinite(number.value):
            return ""
        rounded = round(number.value, digits) + 0.0  # no "-0.0"
        return f"{rounded:.{digits}f}"

    def _repr_markdown_(self) -> str:
        from pvsc_link.report.table_formats import as_markdown  # it is written from this model

        return as_markdown(self)


def row(source: str, keys: Sequence[object], cells: Sequence[Sequence[float]]) -> Row:
    """A row from plain values."""
    numbers = tuple(tuple(Number(float(value)) for value in cell) for cell in cells)
    return Row(source, tuple(str(key) for key in keys), numbers)


def ranked(table: Table, group_by: Sequence[int]) -> Table:
    """The table with the lowest number of ours marked best, the next second-best.

    Parameters: ``group_by`` : places of the keys within whose equal values rows compete. Every
    column and measure is ranked alone; equal numbers share a mark; a group of one has no best.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, line in enumerate(table.rows):
        if line.source == OURS:
            groups[tuple(line.keys[i] for i in group_by)].append(place)
    rows = list(table.rows)
    for places in groups.values():
        for column in range(len(table.column_names)):
            for measure in range(len(table.measures)):
                _mark(table, rows, places, column, measure)
    return replace(table, rows=rows)


def _mark(table: Table, rows: list[Row], places: list[int], column: int, measure: int) -> None:
    """Mark the best two among ``places``, by the numbers as printed."""
    shown = {p: table.text(rows[p].cells[column][measure], column) for p in places}
    values = sorted({float(text) for text in shown.values() if text})
    if sum(bool(text) for text in shown.values()) < 2:
        return
    marks = dict(zip(values, (BEST, SECOND), strict=False))
    for place, text in shown.items():
        if text and float(text) in marks:
            cells = [list(cell) for cell in rows[place].cells]
            cells[column][measure] = replace(cells[column][measure], rank=marks[float(text)])
            rows[place] = replace(rows[place], cells=tuple(tuple(cell) for cell in cells))
