"""The paper's own numbers, as printed in its Tables I to VI."""

from functools import cache
from importlib.resources import files

import pandas as pd

#: Data sets in the order of the paper's columns; the mean over them is its last column.
DATASETS = ("UVG", "MCL-JCV", "HEVC A", "HEVC B", "HEVC C", "HEVC D", "HEVC E")
AVERAGE = "Average"

#: What a reader must know wherever a published number stands beside one of ours.
CAVEAT = (
    "Rows marked published are the paper's own values: full test sets, anchor VTM-17.0, the "
    "authors' weights. Rows marked ours are measured here, on the clips and against the anchor "
    "named; compare the order of schemes before the numbers."
)


@cache
def bd_cbr() -> pd.DataFrame:
    """Tables I to III: table, method, channel, snr_db, nmse_db, gop, dataset, BD-CBR in percent."""
    return _read("paper_bd_cbr.csv")


@cache
def complexity() -> pd.DataFrame:
    """Table IV: milliseconds, mega-MACs per pixel and millions of parameters by resolution."""
    return _read("paper_complexity.csv")


@cache
def ablation() -> pd.DataFrame:
    """Table V: M_a to M_e, what each contains, BD-CBR against M_e, giga-MACs, parameters, times."""
    return _read("paper_ablation.csv")


@cache
def loss_terms() -> pd.DataFrame:
    """Table VI: loss terms in use and BD-CBR against VTM on three metrics."""
    return _read("paper_loss_terms.csv")


def _read(name: str) -> pd.DataFrame:
    with files("pvsc_link.report").joinpath(name).open("rb") as file:
        return pd.read_csv(file)
