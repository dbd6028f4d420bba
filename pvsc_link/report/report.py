"""From a results folder to everything people look at: tables, figures, page."""

from dataclasses import dataclass
from pathlib import Path

from pvsc_link.report.figures import MOST_OF_A_KIND, draw_figures
from pvsc_link.report.page import write_page
from pvsc_link.report.results import read_results
from pvsc_link.report.tables import bd_tables, model_tables, write_formats

ENDINGS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Report:
    """Files written, by kind, and sentences of what is missing and why."""

    tables: list[Path]
    figures: list[Path]
    page: Path
    remarks: list[str]


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    most_figures: int = MOST_OF_A_KIND,
    workers: int = 1,
) -> Report:
    """Tables, figures and page of a results folder, whatever state it is in.

    Parameters: ``out`` : where ``tables/``, ``figures/`` and ``report.html`` go, default the
    folder itself; ``most_figures`` : of each kind; ``workers`` : processes that draw.
    Raises ``InputError`` only if the folder does not exist.
    """
    results = read_results(folder)
    target = Path(out) if out is not None else results.folder
    target.mkdir(parents=True, exist_ok=True)
    of_models, why_no_models = model_tables(results)
    tables = [*bd_tables(results), *of_models]
    written = [path for table in tables for path in write_formats(table, target / "tables")]
    figures = draw_figures(results, target / "figures", ENDINGS, most=most_figures, workers=workers)
    remarks = [*results.problems, *figures.remarks, *why_no_models]
    page = write_page(target / "report.html", results, tables, remarks)
    return Report(written, figures.files, page, remarks)
