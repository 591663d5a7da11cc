"""What is written agrees with what is there: images, links, commands, formulas, languages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import latex2mathml.converter
import pytest
import torch

from advnets.cli.commands import Train
from advnets.cli.main import parse, starting_point
from advnets.evaluation.registry import METRICS, metrics_table
from advnets.paper.registry import SECTIONS
from advnets.presets import PRESETS, is_game_spec

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
GUIDES = [DOCS / "guide.md", DOCS / "guide.ko.md"]
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"]
PAGE_IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]

IMAGE_BYTES = {".png": 150_000, ".gif": 500_000}

LINK = re.compile(r"\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^]]+\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DISPLAYED = re.compile(r"^\$\$\n(.*?)\n\$\$$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\$([^$\n]+)\$")
TEMPLATE = re.compile(r"[\[\]…]|\b(RUN|DIR|NAME|PATH|SOURCE|PRESET)\b")
"""What a command has where the reader is to put their own."""
NAMES = {
    "train",
    "sample",
    "evaluate",
    "compare",
    "visualize",
    "data",
    "list",
    "fetch",
    "audit",
    "pack",
}
"""Of commands that are spoken of, and not given."""


def prose(text: str) -> str:
    """The page without its code."""
    return re.sub(r"`[^`\n]+`|^    .*$", "", FENCED.sub("", text), flags=re.MULTILINE)


def formulas(text: str) -> list[str]:
    shown = prose(text)
    return DISPLAYED.findall(shown) + INLINE.findall(DISPLAYED.sub("", shown))


def commands(text: str) -> list[list[str]]:
    """Return the arguments of every advnets command of a page, and of every training of a sweep.

    Commands stand between backticks or on a line of code.
    """
    text = re.sub(r" *\\\n\s+", " ", text)
    typed = re.findall(r"`advnets ([^`\n]+)`", text)
    typed += re.findall(r"^    (?:\.venv/bin/)?advnets (.+)$", text, re.MULTILINE)
    arguments = [shlex.split(line, comments=True) for line in typed if not TEMPLATE.search(line)]
    for sweep in [some for some in arguments if some[0] == "sweep" and "--" in some]:
        at = sweep.index("--")
        trained = [argument.replace("{seed}", "0") for argument in sweep[at + 1 :]]
        arguments.append(["train", *trained])
        del sweep[at:]
    return [some for some in arguments if not NAMES.issuperset(some)]


def parts(text: str) -> set[str]:
    """Parts of the paper that a page names."""
    lists = [c[i + 1] for c in commands(text) for i, a in enumerate(c) if a == "--sections"]
    return {name for names in lists for name in names.split(",")} - {"list"}


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_link_to_a_file_leads_there(page: Path):
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


def test_every_image_is_shown_and_small():
    shown = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in IMAGE.findall(page.read_text("utf-8"))
    }
    there = {path.resolve() for path in (DOCS / "images").rglob("*") if path.is_file()}
    assert shown == there
    for path in there:
        assert path.stat().st_size <= IMAGE_BYTES[path.suffix], path


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_every_command_is_one(page: Path, tmp_path, monkeypatch):
    given = commands(page.read_text("utf-8"))
    assert given or page.parent.name == "results"  # some results come from scripts alone
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for arguments in given:
        begins_with = [name for name in arguments[1:2] if arguments[0] == "train"]
        if "--resume" in arguments or "--tyro-print-completion" in arguments:
            continue  # of a run that is not here; not ours
        if begins_with and begins_with[0] not in PRESETS and not is_game_spec(begins_with[0]):
            Path(begins_with[0]).mkdir(parents=True, exist_ok=True)
        parse(arguments, Train.defaults(*starting_point(arguments)))  # exits if it cannot


@pytest.mark.parametrize("guide", GUIDES, ids=lambda page: page.name)
def test_the_guides_name_every_part_of_the_paper(guide: Path):
    assert set(SECTIONS) == parts(guide.read_text("utf-8"))


def test_the_readme_has_the_table_of_all_metrics():
    """The lines between the markers are those of `metrics_table()`: paste its output there."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (table,) = re.findall(r"<!-- metrics -->\n(.*)\n<!-- /metrics -->", readme, re.DOTALL)
    assert table == metrics_table()


def test_the_guides_explain_every_metric_of_samples():
    with_extractor = {name for name, spec in METRICS.items() if spec.uses_extractor}
    with_curve = {name for name, spec in METRICS.items() if spec.curve}
    for guide in GUIDES:
        explained = {*re.findall(r"^\| `([\w-]+)` \|", guide.read_text("utf-8"), re.MULTILINE)}
        assert with_curve | with_extractor - {"class-accuracy"} <= explained


def test_the_guides_are_built_alike():
    """Same headings by level, formulas, images, tables, programs and commands, in one order."""
    texts = [guide.read_text("utf-8") for guide in GUIDES]
    for pattern in (r"^(#+) ", r"^\|---.*$", r"^\d\. \*\*"):
        first, second = (re.findall(pattern, text, re.MULTILINE) for text in texts)
        assert first == second
    for taken in (DISPLAYED.findall, IMAGE.findall, FENCED.findall, commands):
        first, second = (taken(text) for text in texts)
        assert first == second
    first, second = (set(INLINE.findall(prose(text))) for text in texts)
    assert first == second


@pytest.mark.parametrize("guide", GUIDES, ids=lambda page: page.name)
def test_formulas_survive_markdown(guide: Path):
    """GitHub reads Markdown first, and formulas only where they begin after a blank."""
    text = guide.read_text("utf-8")
    for formula in formulas(text):
        assert not re.search(r"[*<>`]", formula), f"Markdown has a meaning for a sign in {formula}"
        assert not re.search(r"\\[^a-zA-Z]", formula), f"Markdown drops a backslash of {formula}"
        assert not re.search(r"(?<![a-zA-Z0-9])_", formula), f"_ may begin emphasis in {formula}"
        assert "operatorname" not in formula, f"GitHub refuses \\operatorname: {formula}"
        assert "\\" not in latex2mathml.converter.convert(formula), f"unknown command in {formula}"
    plain = DISPLAYED.sub("", prose(text))
    for match in INLINE.finditer(plain):
        before, after = plain[match.start() - 1], plain[match.end()]
        assert before in " \n", f"no blank before {match[0]}"
        assert not re.match(r"[a-zA-Z0-9$]", after), f"{after} after {match[0]}"
    assert "$" not in INLINE.sub("", plain), "a $ without its other"
    assert "$$" not in DISPLAYED.sub("", text), "$$ is to stand on lines of its own"


def test_the_guides_programs_give_what_they_say():
    """Both guides have the same; it is run here, and the numbers beside it are looked at."""
    seen: dict[str, object] = {}
    for _, program in FENCED.findall(GUIDES[0].read_text("utf-8")):
        exec(program, seen)
    slopes = [seen["naive_slope"], seen["our_slope"]]
    assert seen["naive"] == float("-inf")
    assert seen["ours"] == -17
    assert torch.isnan(slopes[0]).all()
    assert slopes[1] == -1
    found = [float(value) for value in (*seen["along_means"], seen["mixture"])]
    assert found == pytest.approx([-1.3863, -0.1209, -0.0002, -0.9548], abs=1e-4)
    assert seen["distance"] == pytest.approx(16.2, abs=0.005)
    scores = seen["scores"]
    shares = [scores.precision, scores.recall, scores.density, scores.coverage]
    assert shares == pytest.approx([0.96, 0.95, 1.02, 0.97], abs=0.005)
    assert seen["features"].shape == (2, 128)
