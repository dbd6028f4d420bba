"""``python -m pvsc_link.report results/NAME``: tables, figures and a page from a results folder."""

import argparse
import os
import sys

from pvsc_link.report.figures import MOST_OF_A_KIND
from pvsc_link.report.report import write_report
from pvsc_link.report.results import columns_text
from pvsc_link.types import InputError

BAD_INPUT = 2


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 0 done, 2 bad input (nothing was written)."""
    words = _parser().parse_args(argv)
    if words.columns:
        print(columns_text())
        return 0
    try:
        if words.folder is None:
            raise InputError(
                "no results folder",
                found=None,
                allowed="a folder that a sweep wrote",
                remedy="For instance: python -m pvsc_link.report results/quickstart",
            )
        report = write_report(
            words.folder,
            words.out,
            most_figures=words.most_figures,
            workers=os.cpu_count() or 1,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    for remark in report.remarks:
        print(f"- {remark}", file=sys.stderr)
    print(f"{len(report.tables)} files of tables, {len(report.figures)} of figures, {report.page}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.report", description=__doc__)
    parser.add_argument("folder", nargs="?", help="results folder")
    parser.add_argument("--out", help="where to write (default: into the results folder)")
    parser.add_argument(
        "--most-figures",
        type=int,
        default=MOST_OF_A_KIND,
        help="most figures of each kind (default: %(default)s)",
    )
    parser.add_argument(
        "--columns", action="store_true", help="print meaning and unit of every column, stop"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
