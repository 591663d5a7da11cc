import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("before", "in_notebook"), [("import ipykernel.zmqshell", True), ("import IPython", False)]
)
def test_the_progress_bar_of_a_notebook_is_a_widget(before, in_notebook):
    """It is tqdm's choice, by the module of the kernel that is loaded."""
    code = f"{before}\nfrom advnets.cli.console import progress_bar\nprint(progress_bar()[1])"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (process.stdout, process.stderr) == (f"{in_notebook}\n", "")
