"""Tables, figures and a page from a results folder, or one page from several.

python -m pvsc_link.report results/NAME
python -m pvsc_link.report results/A results/B --compare
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pvsc_link.commands import FAILED, run_command
from pvsc_link.storage import require_writable
from pvsc_link.types import InputError

if TYPE_CHECKING:
    from pvsc_link.report.page import Report

DEFAULT_FORMATS = ("png", "pdf", "svg")
FORMATS = (*DEFAULT_FORMATS, "pgf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command("report", argv)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("folders", nargs="*", metavar="folder", help="results folder")
    parser.add_argument(
        "--compare", action="store_true", help="show several results folders on one page"
    )
    parser.add_argument(
        "--out",
        help="where to write (default: into the results folder; with --compare, A+B beside the "
        "first)",
    )
    parser.add_argument(
        "--most-figures", type=int, help="most figures of each kind (default: a fixed number)"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        metavar="FORMAT",
        help=f"formats of the figures: {', '.join(FORMATS)} "
        "(default: all but pgf, which needs LaTeX)",
    )
    parser.add_argument(
        "--old", help="results folder of an earlier run: print a table of its BD-CBR beside, stop"
    )
    parser.add_argument(
        "--columns", action="store_true", help="print meaning and unit of every column, stop"
    )


def run(words: argparse.Namespace) -> int:
    """Write the report; returns the exit status."""
    from pvsc_link.report.figures import MOST_OF_A_KIND
    from pvsc_link.report.page import write_comparison, write_report
    from pvsc_link.report.results import columns_text

    if words.columns:
        print(columns_text())
        return 0
    if not words.folders:
        raise InputError(
            "no results folder",
            found=None,
            allowed="a folder that a sweep wrote",
            remedy="For instance: python -m pvsc_link.report results/quickstart",
        )
    if words.compare != (len(words.folders) > 1):
        raise InputError(
            "results folders",
            found=f"{len(words.folders)} {'with' if words.compare else 'without'} --compare",
            allowed="one folder, or several with --compare",
            remedy="For instance: python -m pvsc_link.report results/A results/B --compare",
        )
    for folder in words.folders:
        _refuse_a_folder_of_nothing(Path(folder))
    folder = words.folders[0]
    if words.old is not None:
        from pvsc_link.report.results import read_results
        from pvsc_link.report.table_formats import as_markdown
        from pvsc_link.report.tables import old_and_new_table

        print(as_markdown(old_and_new_table(read_results(words.old), read_results(folder))))
        return 0
    if words.compare:
        if words.out is not None:
            require_writable(words.out)
        report = write_comparison(words.folders, words.out)
        return _told(report, words.folders)
    require_writable(words.out or folder)
    most = MOST_OF_A_KIND if words.most_figures is None else words.most_figures
    endings = tuple(words.format or DEFAULT_FORMATS)
    if "pgf" in endings and not can_measure_text():
        raise InputError(
            "--format pgf without LaTeX",
            found="no pdflatex with the packages that matplotlib loads (underscore.sty)",
            allowed="a LaTeX, by which matplotlib measures the text of PGF figures",
            remedy="Install one, such as Debian's texlive-latex-extra, or take pdf.",
        )
    cores = os.cpu_count() or 1
    report = write_report(folder, words.out, most_figures=most, workers=cores, endings=endings)
    return _told(report, words.folders)


def _told(report: "Report", folders: Sequence[str]) -> int:
    """Say what was written; returns the exit status."""
    for remark in report.remarks:
        print(f"- {remark}", file=sys.stderr)
    print(f"{len(report.tables)} files of tables, {len(report.figures)} of figures, {report.page}")
    if not report.num_rows and not any((Path(f) / "complexity.csv").is_file() for f in folders):
        print(f"error: not one row of results can be read in {', '.join(folders)}", file=sys.stderr)
        return FAILED
    return 0


def can_measure_text() -> bool:
    """Whether there is a LaTeX that matplotlib's PGF figures need."""
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    asked = subprocess.run(["kpsewhich", "underscore.sty"], capture_output=True, check=False)
    return asked.returncode == 0


def _refuse_a_folder_of_nothing(folder: Path) -> None:
    """Raise ``InputError`` for a folder with no file that a sweep or a benchmark writes."""
    written = ("points.csv", "points.sqlite", "manifest.json", "bd_cbr.csv", "complexity.csv")
    if folder.is_dir() and not any((folder / name).exists() for name in written):
        raise InputError(
            "results folder",
            found=f"{folder} without results",
            allowed=f"a folder with one of {', '.join(written)}",
            remedy="Run a sweep first, or name the folder that it wrote.",
        )


if __name__ == "__main__":
    sys.exit(main())
