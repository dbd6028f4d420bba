"""Where the time of a block goes on the link: encoding, channel and LLRs, and decoding."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SHOWN = ("sionna-xla", "layered-xla", "layered")


def draw_stages(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Stacked bars of CPU time per block, one group per MCS and one bar per decoder.

    Input: rows of ``bench link`` with ``mcs``, ``k``, ``decoder``, ``mbit_per_cpu_s``,
    ``chain_ms``. Output: a PNG at ``path``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    shown = [row for row in rows if row["decoder"] in _SHOWN]
    shown.sort(key=lambda row: (row["mcs"], _SHOWN.index(row["decoder"])))
    labels = [f"MCS {row['mcs']}  {row['decoder']}" for row in shown]
    chain = [row["chain_ms"] for row in shown]
    decode = [row["k"] / row["mbit_per_cpu_s"] / 1e3 for row in shown]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(shown) + 1.2), layout="constrained")
    axes.barh(labels, chain, color="0.7", label="encode, channel, LLRs")
    axes.barh(labels, decode, left=chain, color="tab:blue", label="decode")
    for place, (before, own) in enumerate(zip(chain, decode, strict=True)):
        axes.text(before + own, place, f" {own:.2f}", va="center", fontsize="x-small")
    axes.invert_yaxis()
    axes.set(xlabel="CPU time per block of 6144 coded bits in ms (label: decoding)")
    axes.tick_params(axis="y", labelsize="small")
    axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
