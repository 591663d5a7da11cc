"""Run the code of docs/python.md and examples/tutorial.ipynb, and write what it prints.

    python tools/sessions.py

In docs/python.md, each block of Python is followed by a block of text with its output.
docs/notebook.md is written from the notebook, with its outputs; its images are in
docs/images/notebook. It takes about two minutes.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
PYTHON_PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "tutorial.ipynb"
NOTEBOOK_PAGE = ROOT / "docs" / "notebook.md"
IMAGES = ROOT / "docs" / "images" / "notebook"

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
"""A block of Python in Markdown, with the block of its output if there is one."""
PNG_URI = re.compile(r'src="data:image/png;base64,([^"]+)"')
"""An image that is embedded in HTML."""


def run_page(text: str) -> str:
    """Run the blocks of Python of a page, in one namespace; return it with their outputs."""
    namespace: dict[str, Any] = {}

    def run_block(match: re.Match[str]) -> str:
        printed = run_code(match[1], namespace)
        return code_block("python", match[1]) + (
            f"\n{code_block('text', printed)}" if printed else ""
        )

    return BLOCK.sub(run_block, text)


def run_code(code: str, namespace: dict[str, Any]) -> str:
    """Run code; return what it prints, with the repr of a last expression, as in a notebook."""
    statements = ast.parse(code).body
    last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        exec(compile(ast.Module(statements, []), "session", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "session", "eval"), namespace)
            if value is not None:
                print(repr(value))
    return stdout.getvalue()


def run_notebook(folder: Path) -> nbformat.NotebookNode:
    """Execute the notebook with `folder` as its working directory, and return it."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute()
    return notebook


def notebook_page(notebook: nbformat.NotebookNode, images: Path) -> str:
    """Convert an executed notebook to Markdown, and write its images to the folder `images`."""
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(f"{cell.source}\n")
            continue
        parts.append(code_block("python", cell.source))
        # Add the images of an output, or else its text.
        for output in cell.outputs:
            data = output.get("data", {})
            pngs = PNG_URI.findall(data.get("text/html", "")) or [data.get("image/png")]
            if pngs[0]:
                for content in pngs:
                    file = images / f"{len(parts)}.png"
                    file.write_bytes(base64.b64decode(content))
                    parts.append(f"![Output of the cell above](images/notebook/{file.name})\n")
            elif output.output_type == "stream" and output.name == "stdout":
                parts.append(code_block("text", output.text))
            elif "text/plain" in data and "text/html" in data:
                parts.append(code_block("text", data["text/plain"]))
    return "\n".join(parts)


def code_block(language: str, text: str) -> str:
    """Return text as a fenced code block of Markdown."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def main() -> None:
    """Write both pages."""
    for page in (PYTHON_PAGE, NOTEBOOK_PAGE):
        with tempfile.TemporaryDirectory() as folder:
            if page == NOTEBOOK_PAGE:
                IMAGES.mkdir(parents=True, exist_ok=True)
                text = notebook_page(run_notebook(Path(folder)), IMAGES)
            else:
                with contextlib.chdir(folder):
                    text = run_page(page.read_text("utf-8"))
        page.write_text(text, "utf-8")
        print(page, file=sys.stderr)


if __name__ == "__main__":
    main()
