"""``docs/metrics.md`` lists every metric as the registry describes it."""

from pathlib import Path

from pvsc_link.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def row_of(metric):
    cells = (
        f"`{metric.name}`",
        f"`{metric.column}`",
        metric.label,
        metric.unit or "–",
        metric.direction.split(" ")[0],
        str(metric.smallest_side),
        "per clip" if metric.of_clip else "per frame",
        metric.source,
    )
    return f"| {' | '.join(cells)} |"


def test_the_table_of_the_docs_is_that_of_the_registry():
    """Remedy: copy the rows that this test prints."""
    listed = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    rows = [row_of(metric) for metric in METRICS.values()]
    print("\n".join(rows))
    assert listed == rows
