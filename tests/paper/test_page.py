"""Tests of the page: sections are built once, stored, and shown on one page."""

import io
import re

import pytest
from PIL import Image

from advnets.cli.console import Console
from advnets.errors import StoppedError
from advnets.paper.blocks import (
    Check,
    Formula,
    Scale,
    Section,
    SectionContent,
    Sources,
    Table,
    Text,
    escape_markup,
    strip_markup,
)
from advnets.paper.page import PaperRunner, markup_to_html
from advnets.report.html import Html, element


def red():
    file = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(file, "PNG")
    return file.getvalue()


class Counting:
    """A section that counts how often it is built, and can be made to stop."""

    def __init__(self):
        self.played, self.stop = 0, False

    def __call__(self, context):
        if self.stop:
            raise StoppedError("stopped")
        self.played += 1
        return SectionContent(
            (
                Text("so $p_g = p_{data}$ & `x < y`"),
                Formula(r"\frac{1}{2}", "2"),
                context.save_image("red.png", red(), "A red <field>", "red"),
                Table("rows", ("name", "a"), (("one", "1"),)),
            ),
            (Check("it is", "1", "2", passed=self.played == 1),),
        )


@pytest.fixture
def sections():
    first, second = Counting(), Counting()
    return {
        "one": Section("The one", "section 1", first),
        "two": Section("The two", "section 2", second),
    }


def runner(sections, out, *, full=False, seeds=1):
    return PaperRunner(
        sections, out, Scale(full, seeds), Sources(), None, Console(), lambda message: None
    )


def names(results):
    return [result.section for result in results]


def test_a_section_is_built_once(sections, tmp_path):
    assert names(runner(sections, tmp_path).run(["two", "one"])) == ["one", "two"]
    repeated = list(runner(sections, tmp_path).run(["one"]))
    assert sections["one"].build.played == 1
    assert repeated[0].content.checks[0].passed
    assert runner(sections, tmp_path).load_result("two") is not None


@pytest.mark.parametrize("scale", [{"full": True}, {"seeds": 2}])
def test_results_of_another_scale_are_not_reused(sections, tmp_path, scale):
    list(runner(sections, tmp_path).run(["one"]))
    list(runner(sections, tmp_path, **scale).run(["one"]))
    assert sections["one"].build.played == 2


def test_results_before_an_interruption_are_stored(sections, tmp_path):
    sections["two"].build.stop = True
    with pytest.raises(StoppedError):
        list(runner(sections, tmp_path).run(["one", "two"]))
    sections["two"].build.stop = False
    assert names(runner(sections, tmp_path).run(["one", "two"])) == ["one", "two"]
    assert (sections["one"].build.played, sections["two"].build.played) == (1, 1)


def test_a_section_with_missing_data_is_rebuilt_once_they_are_available(tmp_path):
    """Otherwise passing `--faces` later would have no effect."""
    sources = []

    def show(context):
        sources.append(context.sources.faces)
        return SectionContent((Text("no faces"),), missing_sources=("faces",))

    def run(faces):
        sections = {"one": Section("The one", "section 1", show)}
        config, data = Sources(faces=faces), str(tmp_path)
        list(
            PaperRunner(sections, tmp_path, Scale(False, 1), config, data, Console(), str).run(
                ["one"]
            )
        )

    run("tfd")
    run("tfd")
    assert sources == ["tfd"]
    run("digits")
    assert sources == ["tfd", "digits"]


@pytest.mark.parametrize("broken", ["", "{", "{}", '{"section": "one"}'])
def test_a_damaged_result_is_rebuilt(sections, tmp_path, broken):
    first_runner = runner(sections, tmp_path)
    list(first_runner.run(["one"]))
    (first_runner.folder("one") / "result.json").write_text(broken)
    list(first_runner.run(["one"]))
    assert sections["one"].build.played == 2


def test_page_is_complete_and_self_contained(sections, tmp_path):
    list(runner(sections, tmp_path).run(["one"]))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "1 of 1 checks pass" in page
    assert "<code>x &lt; y</code>" in page
    assert page.count("<math") == 2
    assert "<mfrac>" in page
    assert 'alt="A red &lt;field&gt;" width="20"' in page
    assert "data:image/png;base64," in page
    assert "Not built yet: The two (two); continue with <code>advnets paper --quick</code>." in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_page_shows_failed_checks(sections, tmp_path):
    sections["one"].build.played = 1
    list(runner(sections, tmp_path).run(["one"]))
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "0 of 1 checks pass" in page
    assert 'class="fail">no<' in page


def test_terminal_text_has_no_markup():
    assert strip_markup(r"$p_{data}$ is $-\log 4$ by `x`") == "p_data is -log 4 by x"


NAME = r"my $20 & `cheap` {faces} \ <b>_x_"


def test_text_from_data_is_escaped():
    """A dollar sign or backtick in a folder's name is shown literally."""
    text = f"{escape_markup(NAME)}, `{escape_markup(NAME)}`, $D^*$ and 5 more"
    assert strip_markup(text) == f"{NAME}, {NAME}, D^* and 5 more"
    *pieces, formula, rest = markup_to_html(text)
    code = pieces.pop(next(i for i, piece in enumerate(pieces) if isinstance(piece, Html)))
    assert "".join(map(str, pieces)) == f"{NAME}, , "
    assert str(code) == str(element("code", NAME))
    assert "<math" in str(formula)
    assert rest == " and 5 more"
