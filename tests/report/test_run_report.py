from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from advnets.errors import DataError, RunError
from advnets.plots.image_grid import read_grid
from advnets.report.run_report import summary, write_report
from advnets.run_directory import RunDirectory

VOID = {"meta", "img", "source"}


class Page(HTMLParser):
    """A page as a browser reads it; fails where tags do not match."""

    def __init__(self, run):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words, self.rows = [], [], [], []
        self.feed((run / "report.html").read_text("utf-8"))
        self.close()
        assert not self.open

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def images(self):
        return [attributes for tag, attributes in self.tags if tag == "img"]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def report(run):
    path = write_report(run).path
    assert path == run / "report.html"
    assert [file for file in run.iterdir() if file.suffix == ".part"] == []
    return Page(run)


def change(run, name, edit):
    """Rewrite a JSON file of a run."""
    record = json.loads((run / name).read_text())
    edit(record)
    (run / name).write_text(json.dumps(record))


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_the_summary_says_who_played_and_how_it_stands(finished):
    """One paragraph in words has the numbers of config.json and of the last events."""
    assert (
        "A generator of 90,688 parameters and a discriminator of 124,289 parameters play against "
        "each other on 1,197 images of digits (8 × 8, gray). 12,000 steps (1,003 epochs) took "
        "5 min. The run is complete. At the last look D took real data for real with "
        "probability 0.51 and samples with 0.49: D can hardly tell them apart."
    ) in report(finished).text


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (0.52, "from a sample beside it with probability 0.52: D can hardly tell them apart."),
        (0.8, "with probability 0.80: D is right more often than not."),
        (0.95, "with probability 0.95: D is right nearly every time."),
        (math.nan, "At the last look D(x, G(z)) was not finite: the game has broken down."),
    ],
)
def test_of_pairs_the_summary_says_how_often_d_tells_which_is_real(finished, pair, said):
    events = [e for e in RunDirectory(finished).events() if e["kind"] != "log"]
    last = {"kind": "log", "step": 12000, "epoch": 1.0, "d_pair": pair, "value_pair": -0.6}
    lines = [json.dumps(event) for event in (*events, last)]
    (finished / "events.jsonl").write_text("\n".join(lines) + "\n")
    text = report(finished).text
    assert said in text
    assert "data: D(x, G(z)) = 1/2, whose logarithm is −log 2. On the way" in text
    assert "−log 4" not in text


def test_the_newest_samples_are_inside(finished):
    """The image shown is, to the byte, the newest file of samples/."""
    shown = report(finished).images()[0]
    newest = finished / "samples" / "step-00012000.png"
    assert shown["alt"] == "Grid of images drawn by the generator after 12,000 steps"
    assert base64.b64decode(shown["src"].partition(",")[2]) == newest.read_bytes()
    assert (int(shown["width"]), int(shown["height"])) == decoded(shown["src"]).size


def test_a_image_cut_by_a_kill_is_passed_over(finished):
    """Where the newest file is no whole image, the one before it is shown."""
    newest = finished / "samples" / "step-00012000.png"
    newest.write_bytes(newest.read_bytes()[:300])
    (finished / "samples" / "step-99999999.png").write_text("no image")
    (finished / "samples" / "step-best.png").write_text("not ours")
    assert "after 2,000 steps" in report(finished).images()[0]["alt"]


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is of this height and width."""

    def chunk(name: bytes, data: bytes) -> bytes:
        head = struct.pack(">I", len(data)) + name + data
        return head + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compressobj()
    pixels = b"".join(rows.compress(bytes(side // 8 + 1)) for _ in range(side)) + rows.flush()
    chunks = (b"IHDR", size), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("kind", ["bomb", "larger bomb", "text", "pipe", "device", "link"])
def test_what_is_no_grid_breaks_no_report(finished, kind):
    """It is passed over and not unpacked, whatever it says; the grid before it is shown."""
    before = finished / "samples" / "step-00012000.png"
    path = finished / "samples" / "step-99999999.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":  # to another image, say a private one
        private = finished / "private.png"
        Image.new("L", (8, 8)).save(private)
        path.symlink_to(private)
    elif kind == "text":
        whole = before.read_bytes()
        data = b"k\0\0" + zlib.compress(bytes(3 << 20))
        size, crc = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(b"zTXt" + data))
        path.write_bytes(whole[:33] + size + b"zTXt" + data + crc + whole[33:])
    else:
        path.write_bytes(bomb(12_000 if kind == "bomb" else 20_000))
    shown = report(finished).images()[0]
    assert base64.b64decode(shown["src"].partition(",")[2]) == before.read_bytes()
    with pytest.raises(DataError, match=r"step-99999999.png cannot be read as a grid of samples"):
        read_grid(path)


def test_each_score_stands_beside_real_data(finished):
    """A score is followed by the row of real images at the same grid, and told when above it."""
    rows = [row for row in report(finished).rows if "10,000 on 300" in row]
    generator, real = "generator, averaged weights", "real training images"
    above = generator + "above real images: smoother than data"
    assert rows == [
        [generator, "19.2 ± 0.9", "0.215", "paper", "10,000 on 300", "12,000", "0"],
        [real, "23.5 ± 1.0", "0.167", "paper", "10,000 on 300", "–", "0"],
        [above, "25.8 ± 0.9", "0.200", "fine", "10,000 on 300", "12,000", "0"],
        [real, "24.2 ± 1.0", "0.180", "fine", "10,000 on 300", "–", "0"],
    ]


def test_real_data_scored_otherwise_is_not_beside_it(finished):
    """Rows that differ in the number of samples are not compared."""

    def fewer(scores):
        scores[3]["n_samples"] = 100

    change(finished, "scores.json", fewer)
    page = report(finished)
    assert "smoother than data" not in "".join(row[0] for row in page.rows)
    assert [row[4] for row in page.rows if row[0] == "real training images"] == [
        "10,000 on 300",
        "100 on 300",
    ]


def test_an_edge_of_the_grid_is_told(finished):
    change(finished, "scores.json", lambda scores: scores[0].update(sigma_on_edge=True))
    assert "σ is on the edge of its grid" in report(finished).text


def test_the_caveat_is_always_there(finished):
    """Theis et al. are named; the published figure only beside the data it was got on."""
    text = report(finished).text
    assert "does not mean better samples (Theis et al. 2016" in text
    assert "225 ± 2" not in text
    change(finished, "config.json", lambda record: record["data"].update(name="mnist"))
    assert "print 225 ± 2 nats for adversarial nets on MNIST" in report(finished).text


def test_every_setting_is_in_a_table(finished):
    """Each value of the config, however deep, is a row with its name."""
    rows = [row for row in report(finished).rows if len(row) == 2]
    for row in (
        ["hidden", "256, 256"],
        ["output sparse init", "none"],
        ["batch norm", "no"],
        ["lr", "0.0005"],
        ["batch size", "100"],
        ["seed", "0"],
        ["steps", "12,000"],
        ["train images", "1,197"],
        ["digest", "0123456789abcdef"],
        ["torch", "2.13.0"],
    ):
        assert row in rows


def test_two_stages_are_told_apart(finished):
    change(finished, "config.json", lambda record: record["config"]["stages"].append({"epochs": 3}))
    text = report(finished).text
    assert "Stage 1 epochs 1,000" in text
    assert "Stage 2 epochs 3" in text


@pytest.mark.parametrize(
    ("end", "command", "words"),
    [
        ("done", "--resume --epochs N", "The run is complete."),
        ("stopped", "--resume", "It was asked to stop there."),
        (None, "--resume", "It has not ended: it is running, or was broken off."),
    ],
)
def test_how_to_go_on(finished, end, command, words):
    """The commands fit how the run ended."""
    lines = (finished / "events.jsonl").read_text().splitlines()[:-1]
    lines += [json.dumps({"kind": "end", "step": 12000, "reason": end})] if end else []
    (finished / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    text = report(finished).text
    assert words in text
    assert re.search(f"advnets train --out [^ ]*/runs/digits {command} Settings", text)
    assert f"advnets evaluate {finished}" in text


def test_paths_are_quoted_for_the_shell(begun):
    run = begun.rename(begun.with_name("my run"))
    assert f"advnets evaluate '{run}'" in report(run).text


def test_a_run_that_only_began(begun):
    """Each missing piece is named, and the page is whole."""
    text = report(begun).text
    for words in (
        "No step is on record yet.",
        "No grid of samples has been written yet.",
        "Nothing has been observed yet.",
        "None yet; advnets evaluate adds them",
    ):
        assert words in text


def test_a_config_of_another_hand(begun):
    """Parts that config.json lacks are left out, not tripped over."""
    (begun / "config.json").write_text('{"format": 2}')
    (begun / "events.jsonl").unlink()
    assert "A generator and a discriminator play against each other" in report(begun).text


def test_no_run_is_said(tmp_path):
    with pytest.raises(RunError, match=r"holds no run \(no config.json\)"):
        write_report(tmp_path)


def test_broken_scores_do_not_hide_the_rest(finished):
    for content in ("[{", "", "null", "[1]", "[{}]", '[{"metric": "sliced"}]'):
        (finished / "scores.json").write_text(content)
        text = report(finished).text
        assert "scores.json cannot be read (" in text
        assert "); move it away and evaluate again" in text
    (finished / "scores.json").write_text('[{"metric": "sliced", "samples": "generator"}]')
    assert "a record that lacks its numbers: evaluate again" in report(finished).text


def test_each_row_is_called_by_what_it_scores(finished):
    """The mean image beside a reconstruction is no generator."""
    names = {"generator": "ema", "D": "last", "mean training image": None, "pixels": None}
    (finished / "scores.json").write_text(
        json.dumps(
            [
                {"metric": "test-error", "samples": name, "weights": weights, "error": 0.5}
                for name, weights in names.items()
            ]
        )
    )
    rows = [row[0] for row in report(finished).rows if row and "class wrong 50.00%" in row]
    assert rows == ["generator, averaged weights", "D, last weights", *[*names][2:]]


def test_without_matplotlib_one_line_has_the_cure(finished, drawn, without_matplotlib):
    page = report(finished)
    assert "matplotlib is not installed; type: pip install 'advnets[report]'" in page.text
    assert len(page.images()) == 1
    assert not (finished / "curves.png").exists()


def test_rollbacks_and_breakdowns_are_told(finished):
    """Numbers that were not finite are in the summary."""
    with (finished / "events.jsonl").open("a") as file:
        file.write('{"kind": "rollback", "step": 500}\n')
        file.write('{"kind": "log", "step": 600, "d_real": NaN, "d_fake": 0.5}\n')
    text = report(finished).text
    assert "600 of 12,000 steps" in text
    assert "Numbers that are not finite were met once, and undone." in text
    assert "was not finite: the game has broken down." in text


def test_the_page_needs_nothing_else(finished):
    """No script, no request: every source is data, and the page forbids all others."""
    page = report(finished)
    html = (finished / "report.html").read_text("utf-8")
    assert "http://" not in html
    assert "https://" not in html
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in {"src", "srcset", "href"} & attributes.keys():
            assert attributes[name].startswith("data:image/png;base64,")
    policy = {"http-equiv": "Content-Security-Policy"}
    assert any(policy.items() <= attributes.items() for _, attributes in page.tags)


def test_the_page_can_be_heard(finished):
    """Language, one main heading, ordered headings, alternative texts, headers of cells."""
    page = report(finished)
    tags = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"] == {"lang": "en"}
    headings = [tag for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * 6
    assert all(image["alt"] for image in page.images())
    assert all(attributes["scope"] for tag, attributes in page.tags if tag == "th")
    assert tags.count("table") == tags.count("caption")


def test_nothing_from_files_becomes_markup(finished):
    """A name made to break out of the page is read back as text."""
    evil = "<script>alert('$x')</script>\"&"
    change(finished, "config.json", lambda record: record["config"].update(preset=evil))
    change(finished, "config.json", lambda record: record["data"].update(name=evil))
    change(finished, "config.json", lambda record: record.update(command=evil))
    change(finished, "scores.json", lambda scores: scores[0].update(seed=evil))
    page = report(finished)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 5


def test_a_report_is_written_anew(finished, drawn):
    """Written twice from the same files it is the same bytes."""
    first = write_report(finished).path.read_bytes()
    assert write_report(finished).path.read_bytes() == first


def test_the_curves_come_in_light_and_dark(finished, drawn):
    """A dark page is offered an image with a dark ground, on screens only; the other is a file."""
    page = report(finished)
    (source,) = [attributes for tag, attributes in page.tags if tag == "source"]
    assert source["media"] == "screen and (prefers-color-scheme: dark)"
    assert np.asarray(decoded(source["srcset"]).convert("L"))[0, 0] < 40
    light = page.images()[1]["src"]
    assert np.asarray(decoded(light).convert("L"))[0, 0] == 255
    assert base64.b64decode(light.partition(",")[2]) == (finished / "curves.png").read_bytes()


def test_points_are_called_points():
    """A run on points speaks of points, where they lie, and not of channels."""
    record = {"data": {"name": "ring", "train": 1000, "white_level": 1, "shape": [2, 1, 1]}}
    assert "on 1,000 points of ring (in a plane)" in summary(record, [])
    record["data"] |= {"train": None, "white_level": 255, "shape": [3, 8, 8]}
    assert "on images of ring (8 × 8, color)" in summary(record, [])
