from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advnets import presets
from advnets.data import spec
from advnets.data.registry import file_formats, image_datasets, named_dataset
from advnets.data.spec import data_directory, dataset_folders, join_words
from advnets.data.synthetic.registry import DISTRIBUTIONS
from advnets.errors import UnknownNameError, UsageError


def test_known_names_are_the_registered_ones():
    """The names in `spec`, which imports no parser, are those of the registry."""
    assert tuple(image_datasets()) == spec.IMAGE_DATASETS
    assert set(spec.DISTRIBUTION_NAMES) == set(DISTRIBUTIONS)


def test_every_source_has_a_unique_description():
    sources = (*map(named_dataset, spec.DATASET_NAMES), *file_formats())
    descriptions = [source.description for source in sources]
    assert all(descriptions)
    assert len(set(descriptions)) == len(descriptions)


@pytest.mark.parametrize(
    ("source", "fold", "expected"),
    [
        ("tfd", 1, "tfd"),
        ("tfd", 3, "tfd:fold=3"),
        ("tfd:fold=2", 1, "tfd"),
        ("tfd:fold=2", 3, "tfd:fold=3"),
        ("tfd:size=96", 1, "tfd:size=96"),
        ("tfd: fold = 4,size=96", 2, "tfd:size=96,fold=2"),
        (r"C:\faces.mat", 2, r"C:\faces.mat:fold=2"),
    ],
)
def test_with_fold_replaces_the_fold(source, fold, expected):
    assert spec.with_fold(source, fold) == expected


def test_a_path_with_a_colon_is_not_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a:fold=2").touch()
    assert spec.with_fold("a:fold=2", 3) == "a:fold=2:fold=3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mnist", True),
        ("ring:modes=3", True),
        ("hf:a/b", True),
        ("minst", False),
        ("", False),
        ("x" * 5000, False),
        ("~nobody-has-this-home/x", False),
    ],
)
def test_is_source(text, expected):
    assert spec.is_source(text) is expected


def test_paths_are_sources(tmp_path):
    (tmp_path / "a.csv").touch()
    assert spec.is_source(str(tmp_path))
    assert spec.is_source(f"{tmp_path / 'a.csv'}:sd=0.1")


@pytest.mark.parametrize(
    ("source", "preset", "out"),
    [
        ("ring", "points", "ring"),
        ("ring:modes=3,sd=0.1", "points", "ring"),
        ("moons", "points", "moons"),
        ("mnist", "digits", "mnist"),
        ("hf:owner/set:split=test", "digits", "set"),
    ],
)
def test_a_source_selects_its_preset(source, preset, out):
    """Points select the preset points, images the preset digits."""
    run = presets.starting_config(source)
    assert (run.preset, run.data.source) == (preset, source)
    assert presets.default_out(run, source) == Path("runs") / out


def test_a_file_of_points_selects_its_preset(tmp_path):
    (tmp_path / "drawn by hand.csv").write_text("1,2\n")
    run = presets.starting_config(f"{tmp_path}/drawn by hand.csv:sd=0.5")
    assert run.preset == "points"
    assert presets.default_out(run) == Path("runs/drawn-by-hand")


@dataclass(frozen=True)
class Some:
    n: int = 8
    sd: float = 0.5
    name: str = "x"
    deep: bool = False
    size: Literal[48, 96] = 48
    line: tuple[float, ...] = (1.0, 2.0)
    plane: tuple[tuple[float, ...], ...] = ((0.0,), (1.0,))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ring", ("ring", "")),
        ("ring:modes=8,sd=1", ("ring", "modes=8,sd=1")),
        ("a/b.csv:sd=0.1", ("a/b.csv", "sd=0.1")),
        ("hf:owner/set", ("hf:owner/set", "")),
        ("hf:owner/set:split=test", ("hf:owner/set", "split=test")),
        (r"C:\images", (r"C:\images", "")),
        (r"C:\points.csv:sd=1", (r"C:\points.csv", "sd=1")),
        ("mixture:means=0:1/2:3", ("mixture", "means=0:1/2:3")),
        ("mixture:means=0:1/2:3,sds=1", ("mixture", "means=0:1/2:3,sds=1")),
        ("mixture:sds=1,means=0:1/2:3", ("mixture", "sds=1,means=0:1/2:3")),
        ("a:b=c/points.csv:sd=0.1", ("a:b=c/points.csv", "sd=0.1")),
        ("hf:owner/set:label=a=b", ("hf:owner/set", "label=a=b")),
        ("ring:modes=8,sd", ("ring", "modes=8,sd")),
        ("", ("", "")),
    ],
)
def test_split_source(source, expected):
    """Options start after the first colon that is followed by a complete list of NAME=VALUE."""
    assert spec.split_source(source) == expected


def test_every_option_type_is_parsed():
    """Numbers, words, yes and no, choices, tuples, tuples of tuples."""
    text = "n=3,sd=1e-2,name=y,deep=yes,size=96,line=1/2/3,plane=0:1/2:3"
    assert spec.parse_options(text, Some, "it") == Some(
        3, 0.01, "y", True, 96, (1.0, 2.0, 3.0), ((0.0, 1.0), (2.0, 3.0))
    )
    assert spec.parse_options("plane=-2/3", Some, "it").plane == ((-2.0,), (3.0,))
    assert spec.parse_options("", Some, "it") == Some()


def test_formatted_options_parse_to_the_defaults():
    """The formatted defaults parse to the defaults."""
    assert spec.parse_options(spec.format_options(Some), Some, "it") == Some()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("nn=3", UnknownNameError, "no option of it is called 'nn'; did you mean n"),
        ("n=3.5", UsageError, "it: n must be an integer, got '3.5'"),
        ("sd=nan", UsageError, "it: sd must be a number, got 'nan'"),
        ("sd=inf", UsageError, "it: sd must be a number, got 'inf'"),
        ("deep=maybe", UsageError, "it: deep must be yes or no, got 'maybe'"),
        ("size=50", UnknownNameError, "no value of it: size is called '50'; known: 48, 96"),
        ("n=1,n=2", UsageError, "expected n=VALUE once, got 'n=1,n=2'"),
        ("n", UsageError, "expected n=VALUE once, got 'n'"),
        ("line=1/x", UsageError, "it: line must be a number, got 'x'"),
    ],
)
def test_invalid_options_are_refused(text, error, message):
    with pytest.raises(error) as caught:
        spec.parse_options(text, Some, "it")
    assert message in str(caught.value)


def test_options_of_a_source_without_any_are_refused():
    @dataclass(frozen=True)
    class Nothing:
        pass

    with pytest.raises(UsageError, match="it takes no options, got 'n'; remove it"):
        spec.parse_options("n=1", Nothing, "it")


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    """Any text is parsed or refused with a UsageError."""
    spec.split_source(text)
    with suppress(UsageError):
        spec.parse_options(text, Some, "it")


@given(st.lists(st.sampled_from([*"n=3,sd1e:/.-_ ", "plane=", "line=", "size=", "deep=", "yes"])))
def test_option_like_text_is_parsed_or_refused(parts):
    with suppress(UsageError):
        spec.parse_options("".join(parts), Some, "it")


def test_data_directory_precedence(monkeypatch, tmp_path):
    """The argument precedes ADVNETS_DATA, which precedes the user's cache."""
    monkeypatch.setenv("ADVNETS_DATA", str(tmp_path / "env"))
    assert data_directory(str(tmp_path / "given")) == tmp_path / "given"
    assert data_directory() == tmp_path / "env"
    monkeypatch.delenv("ADVNETS_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_directory() == tmp_path / "cache" / "advnets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory() == tmp_path / ".cache" / "advnets"
    assert data_directory("~/x") == tmp_path / "x"


def test_dataset_folders_order():
    """A dataset is searched in a folder of its name, then in the data directory."""
    assert dataset_folders("mnist", "d") == (Path("d/mnist"), Path("d"))


def test_join_words():
    """Items are joined to a phrase."""
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words("ab", "or") == "a or b"
