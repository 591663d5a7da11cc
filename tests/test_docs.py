"""README and docs agree with the code and each other: images, links, commands, formulas, guides."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import latex2mathml.converter
import pytest
import torch

from advnets.cli.arguments import parse, starting_point
from advnets.cli.commands import Train
from advnets.evaluation.registry import METRICS, metrics_table
from advnets.extractors.registry import extractors_table
from advnets.paper.sections import SECTIONS
from advnets.presets import PRESETS, is_game_spec

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GUIDES = [DOCS / "guide.md", DOCS / "guide.ko.md"]
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]

SESSIONS = [DOCS / "python.md", DOCS / "notebook.md"]
"""Pages of Python alone, written by tools/sessions.py."""

IMAGE_BYTES = {".png": 150_000, ".gif": 500_000}

LINK = re.compile(r"\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^]]+\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DISPLAYED = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$([^$\n]+)\$")
TEMPLATE = re.compile(r"[\[\]…]|\b(RUN|DIR|NAME|PATH|SOURCE|PRESET)\b")
"""Placeholders; a command that has one is not parsed."""
SUBCOMMANDS = {
    "train",
    "sample",
    "evaluate",
    "compare",
    "sweep",
    "visualize",
    "data",
    "list",
    "fetch",
    "audit",
    "pack",
}
"""Commands that the text may mention without their arguments."""


def prose(text: str) -> str:
    """Return the page without its code."""
    return re.sub(r"`[^`\n]+`|^    .*$", "", FENCED.sub("", text), flags=re.MULTILINE)


def formulas(text: str) -> list[str]:
    """Return the displayed formulas of a page, then the inline ones."""
    text = prose(text)
    return DISPLAYED.findall(text) + INLINE.findall(DISPLAYED.sub("", text))


def commands(text: str) -> list[list[str]]:
    """Return the arguments of every advnets command of a page, and of every training of a sweep.

    Commands stand between backticks or on a line of code.
    """
    text = re.sub(r" *\\\n\s+", " ", text)
    lines = re.findall(r"`advnets ([^`\n]+)`", text)
    lines += re.findall(r"^    (?:\.venv/bin/)?advnets (.+)$", text, re.MULTILINE)
    lines += re.findall(r"^    torchrun .* -m advnets (.+)$", text, re.MULTILINE)
    commands = [shlex.split(line, comments=True) for line in lines if not TEMPLATE.search(line)]
    for sweep in [command for command in commands if command[0] == "sweep" and "--" in command]:
        separator = sweep.index("--")
        training = [argument.replace("{seed}", "0") for argument in sweep[separator + 1 :]]
        commands.append(["train", sweep[1], *training])
        del sweep[separator:]
    return [command for command in commands if not SUBCOMMANDS.issuperset(command)]


def sections(text: str) -> set[str]:
    """Return the sections of `advnets paper` that a page names."""
    values = [c[i + 1] for c in commands(text) for i, flag in enumerate(c) if flag == "--sections"]
    return {name for names in values for name in names.split(",")} - {"list"}


def blocks(text: str) -> list[tuple[str, int]]:
    """Return the first sign and the number of items or rows of every block of a page.

    The sign is `text` for a paragraph, and the level for a heading.
    """
    kinds = []
    for block in re.split(r"\n{2,}", FENCED.sub("", text).strip()):
        sign = re.match(r"#+|\||!|\$\$|    |- |\d\.", block)
        items = re.findall(r"^(?:\||- |\d\. )", block, re.MULTILINE)
        kinds.append((sign[0] if sign else "text", len(items)))
    return kinds


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_to_existing_files_and_headings(page: Path):
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors(path.read_text("utf-8")), f"{page.name}: {target}"


def test_the_index_of_results_lists_every_page():
    linked = LINK.findall((DOCS / "results" / "README.md").read_text("utf-8"))
    pages = {page.name for page in (DOCS / "results").glob("*.md")} - {"README.md"}
    assert pages == {target for target in linked if target in pages}


def test_every_image_is_used_and_small():
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in IMAGE.findall(page.read_text("utf-8"))
    }
    files = {path.resolve() for path in (DOCS / "images").rglob("*") if path.is_file()}
    assert shown == files
    for path in files:
        assert path.stat().st_size <= IMAGE_BYTES[path.suffix], path


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_command_parses(page: Path, tmp_path, monkeypatch):
    listed = commands(page.read_text("utf-8"))
    assert listed or page.parent.name == "results" or page in SESSIONS
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for arguments in listed:
        preset = arguments[1] if arguments[0] == "train" and len(arguments) > 1 else None
        if "--resume" in arguments or "--tyro-print-completion" in arguments:
            continue  # resuming needs the run; completion is tyro's own
        if preset and preset not in PRESETS and not is_game_spec(preset):
            Path(preset).mkdir(parents=True, exist_ok=True)
        parse(arguments, Train.defaults(*starting_point(arguments)))  # exits if it cannot


@pytest.mark.parametrize("guide", GUIDES, ids=lambda page: page.name)
def test_guides_name_every_section_of_the_paper(guide: Path):
    assert set(SECTIONS) == sections(guide.read_text("utf-8"))


def test_readme_has_the_table_of_all_metrics():
    """The lines between the markers are those of `metrics_table()`: paste its output there."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (table,) = re.findall(r"<!-- metrics -->\n(.*)\n<!-- /metrics -->", readme, re.DOTALL)
    assert table == metrics_table()


def test_readme_has_the_table_of_all_extractors():
    readme = (ROOT / "README.md").read_text("utf-8")
    (table,) = re.findall(r"<!-- extractors -->\n(.*)\n<!-- /extractors -->", readme, re.DOTALL)
    assert table == extractors_table()


def test_guides_explain_every_metric_of_samples():
    with_extractor = {name for name, spec in METRICS.items() if spec.uses_extractor}
    with_curve = {name for name, spec in METRICS.items() if spec.curve}
    for guide in GUIDES:
        explained = {*re.findall(r"^\| `([\w-]+)` \|", guide.read_text("utf-8"), re.MULTILINE)}
        assert with_curve | with_extractor - {"class-accuracy"} <= explained


def test_guides_agree_block_by_block():
    """The Korean guide has the English guide's headings, tables, formulas, links and commands."""
    english, korean = (guide.read_text("utf-8") for guide in GUIDES)
    assert blocks(english) == blocks(korean)
    assert LINK.findall(english)[1:] == LINK.findall(korean)[1:]  # the first links to the other
    for find in (DISPLAYED.findall, IMAGE.findall, FENCED.findall, commands):
        assert find(english) == find(korean)
    for pattern in (INLINE, re.compile(r"`[^`\n]+`")):
        terms, translated = (
            set(pattern.findall(FENCED.sub("", text))) for text in (english, korean)
        )
        assert terms == translated


@pytest.mark.parametrize("guide", GUIDES, ids=lambda page: page.name)
def test_formulas_survive_markdown(guide: Path):
    """GitHub parses Markdown before formulas, and formulas only after a space or a line break."""
    text = guide.read_text("utf-8")
    for formula in formulas(text):
        assert not re.search(r"[*<>`]", formula), f"Markdown interprets a character of {formula}"
        assert not re.search(r"\\[^a-zA-Z]", formula), f"Markdown drops a backslash of {formula}"
        assert not re.search(r"(?<![a-zA-Z0-9])_", formula), f"_ may begin emphasis in {formula}"
        assert "operatorname" not in formula, f"GitHub refuses \\operatorname: {formula}"
        assert "\\" not in latex2mathml.converter.convert(formula), f"unknown command in {formula}"
    plain = DISPLAYED.sub("", prose(text))
    for match in INLINE.finditer(plain):
        before, after = plain[match.start() - 1], plain[match.end()]
        assert before in " \n", f"no space before {match[0]}"
        assert not re.match(r"[a-zA-Z0-9$]", after), f"{after} after {match[0]}"
    assert "$" not in INLINE.sub("", plain), "an unpaired $"
    assert "$$" not in DISPLAYED.sub("", text), "$$ has to be on a line of its own"


def test_programs_of_the_guide_give_the_numbers_in_their_comments(tmp_path, monkeypatch):
    """Both guides have the same programs, so those of the first are run."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for _, program in FENCED.findall(GUIDES[0].read_text("utf-8")):
        exec(program, names)
    slopes = [names["naive_slope"], names["our_slope"]]
    assert names["naive"] == float("-inf")
    assert names["ours"] == -17
    assert torch.isnan(slopes[0]).all()
    assert slopes[1] == -1
    criteria = [float(value) for value in (*names["along_means"], names["mixture"])]
    assert criteria == pytest.approx([-1.3863, -0.1209, -0.0002, -0.9548], abs=1e-4)
    assert names["distance"] == pytest.approx(16.2, abs=0.005)
    scores = names["scores"]
    fractions = [scores.precision, scores.recall, scores.density, scores.coverage]
    assert fractions == pytest.approx([0.96, 0.95, 1.02, 0.97], abs=0.005)
    assert names["features"].shape == (2, 128)
    assert names["samples"].shape == (16, 1, 8, 8)
    assert names["logits"].shape == (16,)
    assert names["inversion"].errors.max() < 0.01
    assert [record["n_real"] for record in names["records"]] == [200]
