"""All figures of a results folder: which ones there are, and their files."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import matplotlib

from pvsc_link.report.arithmetic_figure import arithmetic_figures
from pvsc_link.report.axis_figure import axis_figures
from pvsc_link.report.bler_figure import bler_figures
from pvsc_link.report.cbr_figure import cbr_figures
from pvsc_link.report.frame_figure import frame_figures
from pvsc_link.report.matched_frames import matched_frames
from pvsc_link.report.panels import NamedFigure
from pvsc_link.report.rate_figure import grid_figures, rate_figures
from pvsc_link.report.results import Results, read_results
from pvsc_link.report.style import MATPLOTLIB

#: Files per figure unless the caller says otherwise, and most figures of a kind: a large sweep
#: has hundreds of conditions, which the page shows and nobody prints.
ENDINGS, MOST_OF_A_KIND = ("png", "pdf"), 3


@dataclass
class FigureSet:
    """What was written, and sentences about what was not."""

    files: list[Path]
    remarks: list[str]


def write_figures(folder: str | Path, endings: Sequence[str] = ENDINGS) -> list[Path]:
    """The figures of a results folder into ``folder/figures/``; returns the files.

    Rows without a number are left out; where nothing is left there is no figure.
    """
    return draw_figures(read_results(folder), Path(folder) / "figures", endings).files


def draw_figures(
    results: Results,
    target: Path,
    endings: Sequence[str],
    *,
    most: int = MOST_OF_A_KIND,
    workers: int = 1,
) -> FigureSet:
    """Draw at most ``most`` figures of each kind into ``target``, in order of the grid.

    Parameters: ``workers`` : processes to draw with; above 1 they are forked, so only for callers
    that have no threads running.
    """
    chosen: list[NamedFigure] = []
    remarks, cut = [], []
    for kind, figures in _kinds(results):
        first = list(islice(figures, most + 1))
        chosen += first[:most]
        if len(first) > most:
            cut.append(kind)
        elif not first:
            remarks.append(f"No figure of {kind}: {_WHY_NONE[kind]}")
    if cut:
        remarks.append(
            f"Only the first {most} figures are drawn of: {', '.join(cut)} "
            "(--most-figures N draws more; report.html shows every condition)."
        )
    target.mkdir(parents=True, exist_ok=True)
    _in_processes(partial(_draw, target=target, endings=endings), chosen, workers)
    files = [target / f"{name}.{ending}" for name, _ in chosen for ending in endings]
    return FigureSet(files, remarks)


def _kinds(results: Results) -> Iterator[tuple[str, Iterator[NamedFigure]]]:
    keyed, means, styles = results.curves.keyed, results.curves.means, results.curves.styles
    if keyed.empty:
        return
    yield "rate-perception grid", grid_figures(means, styles)
    yield "quality against CBR", rate_figures(means, styles)
    for axis, title in _AXES.items():
        yield f"quality against {title}", axis_figures(keyed, styles, axis)
    yield "floating-point mismatch", arithmetic_figures(keyed)
    yield "CBR by part", cbr_figures(means, styles)
    yield "BLER", bler_figures(results.bler)
    yield "shown frames", frame_figures(matched_frames(results.folder, keyed, styles))


_AXES = {"snr_db": "SNR", "csi_nmse_db": "NMSE", "coherence_length": "coherence length"}
_ONE = "the results hold one value of it."
_WHY_NONE = {
    "rate-perception grid": "no metric has a number.",
    "quality against CBR": "no metric has a number.",
    **{f"quality against {title}": _ONE for title in _AXES.values()},
    "floating-point mismatch": "no receiver computes otherwise than its transmitter.",
    "CBR by part": "all channel uses belong to one part.",
    "BLER": "no MCS was measured at two SNRs.",
    "shown frames": "none were kept (--save-frames keeps them).",
}


def _in_processes(
    draw: Callable[[Sequence[NamedFigure]], None], figures: Sequence[NamedFigure], workers: int
) -> None:
    """Share the figures out; raises ``RuntimeError`` if a process did not end well."""
    workers = min(workers, len(figures))
    if workers <= 1:
        return draw(figures)
    fork = multiprocessing.get_context("fork")  # what draws a figure cannot be pickled
    processes = [fork.Process(target=draw, args=(figures[i::workers],)) for i in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process that drew figures failed; its error is above")


def _draw(figures: Sequence[NamedFigure], target: Path, endings: Sequence[str]) -> None:
    with matplotlib.rc_context(MATPLOTLIB):
        for name, make in figures:
            figure = make()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, not once per file
            for ending in endings:
                path = target / f"{name}.{ending}"
                figure.savefig(path, metadata=_no_date(path.suffix))


def _no_date(suffix: str) -> dict:
    """Metadata without a date, so that equal tables give equal files."""
    return {
        ".png": {"Software": None},
        ".svg": {"Date": None, "Creator": None},
        ".pdf": {"CreationDate": None, "Creator": None},
    }.get(suffix, {})
