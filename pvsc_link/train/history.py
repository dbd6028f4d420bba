"""The record of a run: CSV tables of loss terms and of evaluations, and their plot."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_BRANCHES = ("ideal", "tx", "rx")
_TERMS = ("rec", "per", "adv", "latent")
LOSS_COLUMNS = (
    *("step", "phase", "phase_step", "gop", "learning_rate", "seconds", "loss", "rate"),
    *("bpp_y", "bpp_z", *(f"{term}_{branch}" for term in _TERMS for branch in _BRANCHES)),
    *("discriminator", "norm", "skipped"),
)
EVALUATION_COLUMNS = (
    *("step", "phase", "omega_index", "omega", "clip", "frame_kind"),
    *("psnr_db", "lpips", "bpp_y", "bpp_z", "reals_per_pixel"),
)


class Table:
    """A CSV file that grows row by row and is cut back when a run resumes.

    Parameters: ``path``; ``columns`` : header; values that a row lacks stay empty.
    """

    def __init__(self, path: Path, columns: tuple[str, ...]):
        self.path, self.columns = path, columns

    def append(self, rows: list[Mapping[str, object]]) -> None:
        """Add rows; the file is closed again at once, so that a kill loses nothing."""
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)

    def forget_after(self, step: int) -> None:
        """Drop rows of steps after ``step``: they will be made again."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if _complete(row)]
        kept = [row for row in rows if int(row["step"]) <= step]
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        partial.replace(self.path)

    def read(self) -> list[dict[str, str]]:
        """Every row as text."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if _complete(row)]


def _complete(row: dict) -> bool:
    """False for a line that a kill cut short."""
    return None not in row and None not in row.values() and row["step"].isdigit()


class Means:
    """Means of the terms of several steps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self.count = 0

    def add(self, terms: Mapping[str, np.ndarray]) -> None:
        for key, value in terms.items():
            if np.ndim(value) == 0:
                self._sums[key] = self._sums.get(key, 0.0) + float(value)
        self.count += 1

    def take(self) -> dict[str, float]:
        """The means so far; starts anew."""
        means = {key: float(f"{value / self.count:.6g}") for key, value in self._sums.items()}
        self._sums, self.count = {}, 0
        return means


def write_plot(losses: Table, evaluations: Table, path: Path) -> None:
    """Every loss term and the evaluations against the step, as PNG."""
    from matplotlib.figure import Figure

    rows, points = losses.read(), evaluations.read()
    if not rows:
        return
    panels = (
        ("loss",),
        tuple(f"rec_{b}" for b in _BRANCHES),
        tuple(f"per_{b}" for b in _BRANCHES),
        ("rate", "bpp_y", "bpp_z"),
        tuple(f"latent_{b}" for b in _BRANCHES),
        ("discriminator", *(f"adv_{b}" for b in _BRANCHES)),
        ("learning_rate", "norm"),
    )
    figure = Figure(figsize=(15, 10), layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    for axis, names in zip(axes, panels, strict=False):
        _draw_terms(axis, rows, names)
    for axis, column in zip(axes[len(panels) :], ("psnr_db", "lpips"), strict=False):
        _draw_evaluations(axis, points, column)
    partial = path.with_suffix(".partial.png")
    figure.savefig(partial, dpi=80)
    partial.replace(path)


def _draw_terms(axis, rows: list[dict[str, str]], names: tuple[str, ...]) -> None:
    for name in names:
        pairs = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
        if pairs:
            axis.plot(*zip(*pairs, strict=True), label=name, linewidth=0.8)
    if axis.lines:
        values = np.concatenate([line.get_ydata() for line in axis.lines])
        axis.set_yscale("log" if (values > 0).all() and np.ptp(values) > 0 else "linear")
        axis.legend(fontsize=7, loc="upper right")
    axis.set_xlabel("step")
    axis.grid(True, which="both", linewidth=0.3)


def _draw_evaluations(axis, points: list[dict[str, str]], column: str) -> None:
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    for point in points:
        key = (point["omega"], point["frame_kind"])
        curves.setdefault(key, {}).setdefault(int(point["step"]), []).append(float(point[column]))
    for (omega, kind), values in sorted(curves.items()):
        steps = sorted(values)
        line = "--" if kind == "I" else "-"
        means = [np.mean(values[s]) for s in steps]
        axis.plot(steps, means, line, marker=".", label=f"{kind} omega {omega}", linewidth=0.8)
    if axis.lines:
        axis.legend(fontsize=6, ncols=2, loc="upper left")
    axis.set_xlabel("step")
    axis.set_ylabel(column)
    axis.grid(True, linewidth=0.3)
