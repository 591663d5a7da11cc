from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advnets.data import options
from advnets.errors import UnknownNameError, UsageError


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
        (r"C:\pictures", (r"C:\pictures", "")),
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
def test_name_and_options_are_told_apart(source, expected):
    """Options begin after the first colon that a whole list of NAME=VALUE follows."""
    assert options.split(source) == expected


def test_every_type_is_read():
    """Numbers, words, yes and no, choices, tuples, tuples of tuples."""
    text = "n=3,sd=1e-2,name=y,deep=yes,size=96,line=1/2/3,plane=0:1/2:3"
    assert options.read(text, Some, "it") == Some(
        3, 0.01, "y", True, 96, (1.0, 2.0, 3.0), ((0.0, 1.0), (2.0, 3.0))
    )
    assert options.read("plane=-2/3", Some, "it").plane == ((-2.0,), (3.0,))
    assert options.read("", Some, "it") == Some()


def test_what_is_shown_is_what_one_types():
    """The text of the defaults reads back as the defaults."""
    assert options.read(options.shown(Some), Some, "it") == Some()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("nn=3", UnknownNameError, "no option of it is called 'nn'; did you mean n"),
        ("n=3.5", UsageError, "it: n is '3.5'; expected a whole number"),
        ("sd=nan", UsageError, "it: sd is 'nan'; expected a number"),
        ("sd=inf", UsageError, "it: sd is 'inf'; expected a number"),
        ("deep=maybe", UsageError, "it: deep is 'maybe'; expected yes or no"),
        ("size=50", UnknownNameError, "no value of it: size is called '50'; known: 48, 96."),
        ("n=1,n=2", UsageError, "n must come once"),
        ("n", UsageError, "n must come once, as n=VALUE"),
        ("line=1/x", UsageError, "it: line is 'x'; expected a number"),
    ],
)
def test_mistakes_are_one_sentence(text, error, message):
    with pytest.raises(error) as caught:
        options.read(text, Some, "it")
    assert message in str(caught.value)


def test_a_source_without_options_says_so():
    @dataclass(frozen=True)
    class Nothing:
        pass

    with pytest.raises(UsageError, match="it takes no options, but 'n' came; leave it out"):
        options.read("n=1", Nothing, "it")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    """Whatever is typed, options are read or refused by our error."""
    options.split(text)
    with suppress(UsageError):
        options.read(text, Some, "it")


@given(st.lists(st.sampled_from([*"n=3,sd1e:/.-_ ", "plane=", "line=", "size=", "deep=", "yes"])))
def test_what_looks_like_options_is_read_or_refused(parts):
    with suppress(UsageError):
        options.read("".join(parts), Some, "it")
