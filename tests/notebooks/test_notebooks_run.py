"""The notebooks run from top to bottom and are committed with what they showed."""

from pathlib import Path

import nbformat
import pytest

nbclient = pytest.importorskip("nbclient")
FOLDER = Path(__file__).parents[2] / "notebooks"
#: What a notebook reads besides the package; without it there is nothing to run.
NEEDS = {
    "02_rate_perception": "results/reference/rayleigh_nmse/points.csv",
    "03_channel_robustness": "results/reference/rayleigh_nmse/points.csv",
}
#: The one that runs with every test run: the first that a user opens.
QUICK = "01_quickstart"


def names():
    for path in sorted(FOLDER.glob("*.ipynb")):
        yield pytest.param(path.stem, marks=() if path.stem == QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", names())
def test_a_notebook_runs_from_top_to_bottom(name):
    if name in NEEDS and not (FOLDER.parent / NEEDS[name]).is_file():
        pytest.skip(f"needs {NEEDS[name]}")
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=1800, resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()  # raises CellExecutionError with the cell's own traceback
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("image/png" in out.get("data", {}) for out in shown), "it shows a figure"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_its_outputs(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
