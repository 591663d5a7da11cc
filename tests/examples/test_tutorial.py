"""The tutorial notebook, executed by a kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "tutorial.ipynb"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    """It shows a progress bar for notebooks, a grid of samples, curves and a comparison."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}})
    client.execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [{kind for out in cell for kind in out.get("data", ())} for cell in outputs]
    assert "application/vnd.jupyter.widget-view+json" in kinds[0]
    assert "text/html" in kinds[1]
    assert "image/png" in kinds[2] & kinds[3]
    assert outputs[2][0]["text"] == "torch.Size([16, 1, 8, 8])\n"
    assert outputs[4][0]["text"].count("real training images {") == 2
    assert "<td>0, 1</td>" in outputs[5][-1]["data"]["text/html"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits", "digits-2"}
