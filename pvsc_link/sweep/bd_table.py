"""``bd_cbr.csv``: BD-CBR of every scheme against the anchor, per channel condition and clip."""

from collections.abc import Iterator, Sequence

import pandas as pd

from pvsc_link.metrics.bd import BdResult, bd_cbr

CONDITION = ["channel", "snr_db", "csi_nmse_db", "coherence_length", "gop"]
BD_COLUMNS = (
    "scheme variant equalizer csi_aware mcs_policy decoder anchor channel snr_db csi_nmse_db "
    "coherence_length gop clip metric bd_cbr_percent overlap note"
).split()
_CURVE = ["scheme", "variant", "equalizer", "csi_aware", "mcs_policy", "decoder"]

#: Column of points.csv by metric, and whether more of it is better.
QUALITY = {"psnr": ("psnr_db", True), "lpips": ("lpips", False), "dists": ("dists", False)}
MEAN_CLIP = "mean"


def bd_table(points: pd.DataFrame, anchor: str | None, metrics: Sequence[str]) -> pd.DataFrame:
    """BD-CBR in percent (negative: fewer channel uses than the anchor at equal quality).

    ``points`` : as read or made by ``sweep.store``. Curves are means over seeds. Each clip has its
    own row; ``clip = mean`` is the plain mean of the clips' values where there are several, as in
    the paper's tables. Without an anchor the table is empty.
    """
    if anchor is None or points.empty:
        return pd.DataFrame(columns=BD_COLUMNS)
    rows = list(_rows(points, anchor, metrics))
    table = pd.DataFrame(rows, columns=BD_COLUMNS)
    return pd.concat([table, _means(table)], ignore_index=True)


def _rows(points: pd.DataFrame, anchor: str, metrics: Sequence[str]) -> Iterator[dict]:
    for place, here in points.groupby([*CONDITION, "clip"], dropna=False, sort=False):
        curves = dict(list(here.groupby(_CURVE, dropna=False, sort=False)))
        anchors = [key for key in curves if anchor in (key[0], f"{key[0]}:{key[1]}")]
        for key, curve in curves.items():
            for metric in metrics:
                result = _against(curves[anchors[0]] if anchors else None, curve, metric)
                yield {
                    **dict(zip(_CURVE, key, strict=True)),
                    **dict(zip([*CONDITION, "clip"], place, strict=True)),
                    "anchor": anchor,
                    "metric": metric,
                    "bd_cbr_percent": result.bd_cbr_percent,
                    "overlap": result.overlap,
                    "note": result.note,
                }


def _against(anchor: pd.DataFrame | None, curve: pd.DataFrame, metric: str) -> BdResult:
    column, higher_is_better = QUALITY[metric]
    if anchor is None:
        return BdResult(float("nan"), float("nan"), "the anchor has no row at this condition")
    return bd_cbr(
        *_curve_of(anchor, column), *_curve_of(curve, column), higher_is_better=higher_is_better
    )


def _curve_of(rows: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    """(CBR, quality) of one curve, mean over seeds, one entry per rate."""
    mean = rows.groupby("rate")[["cbr", column]].mean()
    return mean["cbr"].tolist(), mean[column].tolist()


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over clips of every scheme, condition and metric that has more than one clip."""
    keys = [
        name for name in BD_COLUMNS if name not in ("clip", "bd_cbr_percent", "overlap", "note")
    ]
    rows = []
    for place, group in table.groupby(keys, dropna=False, sort=False):
        if len(group) < 2:
            continue
        missing = int(group["bd_cbr_percent"].isna().sum())
        rows.append(
            {
                **dict(zip(keys, place, strict=True)),
                "clip": MEAN_CLIP,
                "bd_cbr_percent": group["bd_cbr_percent"].mean(skipna=False),
                "overlap": group["overlap"].min(),
                "note": f"{missing} of {len(group)} clips have no value" if missing else "",
            }
        )
    return pd.DataFrame(rows, columns=BD_COLUMNS)
