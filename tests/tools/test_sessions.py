"""The pages docs/python.md and docs/notebook.md show what their code prints."""

from __future__ import annotations

import re

import pytest

NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def assert_pages_agree(page: str, expected: str) -> None:
    """Compare two pages: texts must be equal; scores depend on the processor and may differ."""
    page, expected = (
        re.sub(r"(python|torch|numpy) [\w.+]+|machine \w+", "", text) for text in (page, expected)
    )
    assert NUMBER.sub("0", page) == NUMBER.sub("0", expected)
    printed, written = (
        [float(number.replace(",", "")) for number in NUMBER.findall(text)]
        for text in (page, expected)
    )
    assert printed == pytest.approx(written, rel=0.5, abs=0.1)


@pytest.mark.slow
def test_the_page_of_python_shows_what_its_code_prints(script, tmp_path, monkeypatch):
    text = script.PYTHON_PAGE.read_text("utf-8")
    monkeypatch.chdir(tmp_path)
    assert_pages_agree(script.run_page(text), text)


@pytest.mark.slow
def test_the_page_of_the_notebook_shows_its_outputs(script, tmp_path):
    """The notebook shows a progress bar, a grid of samples, curves and a comparison."""
    notebook = script.run_notebook(tmp_path)
    page = script.notebook_page(notebook, tmp_path)
    assert_pages_agree(page, script.NOTEBOOK_PAGE.read_text("utf-8"))
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    kinds = [{kind for out in cell for kind in out.get("data", ())} for cell in outputs]
    assert "application/vnd.jupyter.widget-view+json" in kinds[0]
    assert "text/html" in kinds[1]
    assert "image/png" in kinds[2] & kinds[3]
    assert "<td>0, 1</td>" in outputs[5][-1]["data"]["text/html"]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"digits", "digits-2"}


def test_code_is_replaced_by_what_it_prints_now(script):
    page = "```python\nx = 1\nprint(x)\nx + 1\n```\n\n```text\nold\n```\n\n```python\ny = x\n```\n"
    expected = (
        "```python\nx = 1\nprint(x)\nx + 1\n```\n\n```text\n1\n2\n```\n\n```python\ny = x\n```\n"
    )
    assert script.run_page(page) == expected
    with pytest.raises(AssertionError):
        assert_pages_agree("score 3.1", "score 9.1")
    with pytest.raises(AssertionError):
        assert_pages_agree("precision 3.1", "recall 3.1")
