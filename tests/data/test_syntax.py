"""Every source that help, messages and docs write with options can be opened as it is written."""

import re
from pathlib import Path

import numpy as np
import pytest

from advnets.data import spec
from advnets.data.datasets.matlab import Fold
from advnets.data.huggingface.table import Hub
from advnets.data.registry import named_dataset, open_dataset

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
NAME = rf"(?:{'|'.join(spec.DATASET_NAMES)}|hf:[\w/-]+|[\w-]+\.(?:csv|npy|mat))"
OPTIONS = r"[a-z_]+=[^\s,`\"')\\{<|]+"
SOURCE = re.compile(rf"(?<![\w./-])({NAME}):({OPTIONS}(?:,{OPTIONS})*)")
MEANS = re.compile(r"\bmeans=[-\d.:/]*\d")


def documented_sources() -> set[tuple[str, str]]:
    """Return name and options of every source in README, docs and docstrings."""
    sources: set[tuple[str, str]] = set()
    for page in PAGES:
        text = page.read_text("utf-8")
        sources |= {(name, options.rstrip(".:;")) for name, options in SOURCE.findall(text)}
        sources |= {("mixture", means) for means in MEANS.findall(text)}
    return sources


@pytest.mark.parametrize(("name", "options"), sorted(documented_sources()))
def test_every_documented_source_is_valid(name, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = f"{name}:{options}"
    assert spec.split_source(source) == (name, options)
    if name in spec.DISTRIBUTION_NAMES or name.endswith(spec.POINT_FILE_SUFFIXES):
        Path("points.csv").write_text("0,0\n1,2\n3,1\n")
        np.save("points.npy", np.array([[0.0, 0.0], [1.0, 2.0]]))
        small = source if re.search(r"\bn=", options) else f"{source},n=20"
        assert np.isfinite(open_dataset(small).train.read(slice(None))).all()
    elif name.startswith(f"{spec.HUB_PREFIX}:"):
        spec.parse_options(options, Hub, name)
    else:  # a published set, which need not be on this machine
        spec.parse_options(
            options, named_dataset(name).options if name in spec.DATASET_NAMES else Fold, name
        )


def test_documented_sources_include_known_examples():
    """The test above cannot pass for lack of examples."""
    assert {("mixture", "means=0:1/2:3"), ("mixture", "means=-2/3"), ("ring", "modes=8")} < {
        *documented_sources()
    }


def test_listed_sources_can_be_typed(run_command, tmp_path, monkeypatch):
    """The options of every dataset can be typed as they are printed."""
    monkeypatch.setenv("ADVNETS_DATA", str(tmp_path))
    code, out, _ = run_command("data", "list")
    assert code == 0
    names = [line for line in out.splitlines() if line.partition(":")[0] in spec.DATASET_NAMES]
    assert len(names) == len(spec.DATASET_NAMES)
    for source in names:
        name, options = spec.split_source(source)
        assert name in spec.DATASET_NAMES
        spec.parse_options(options, named_dataset(name).options, name)
        if name in spec.DISTRIBUTION_NAMES:
            assert len(open_dataset(re.sub(r"\bn=\d+", "n=20", source)).train) == 20


def test_a_planar_mixture_has_the_given_means(run_command):
    train = open_dataset("mixture:means=0:1/20:3,sds=0.1,n=400").train
    points, modes = train.read(slice(None))[:, :, 0, 0], train.labels
    assert points[modes == 0].mean(0) == pytest.approx([0, 1], abs=0.05)
    assert points[modes == 1].mean(0) == pytest.approx([20, 3], abs=0.05)
    code, out, err = run_command("data", "audit", "mixture:means=0:1/2:3,n=100")
    assert (code, err) == (0, "")
    assert "points in a plane" in out
