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
    """A page as parsed by a browser; fails if tags do not match."""

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


def test_the_summary_has_players_progress_and_state(finished):
    """The summary has the numbers of config.json and of the last events."""
    assert (
        "A generator (90,688 parameters) and a discriminator (124,289 parameters), trained on "
        "1,197 images of digits (8 × 8, gray). 12,000 steps (1,003 epochs) took 5 min. The run is "
        "complete. In the last log interval, the mean of D(x) was 0.51 and that of D(G(z)) 0.49: "
        "D hardly distinguishes samples from real data."
    ) in report(finished).text


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (0.52, "D(x, G(z)) was 0.52: D hardly distinguishes samples from real data."),
        (0.8, "was 0.80: D distinguishes samples from real data in most cases."),
        (0.95, "was 0.95: D distinguishes samples from real data in nearly all cases."),
        (math.nan, "log interval, D(x, G(z)) was not finite: the training has broken down."),
    ],
)
def test_the_summary_of_a_game_of_pairs(finished, with_curves, pair, sentence):
    events = [e for e in RunDirectory(finished).events() if e["kind"] != "log"]
    last = {"kind": "log", "step": 12000, "epoch": 1.0, "d_pair": pair, "value_pair": -0.6}
    lines = [json.dumps(event) for event in (*events, last)]
    (finished / "events.jsonl").write_text("\n".join(lines) + "\n")
    text = report(finished).text
    assert sentence in text
    assert "D(x, G(z)) = 1/2 and E log D(x, G(z)) = −log 2: D cannot distinguish samples" in text
    assert "−log 4" not in text


def test_the_newest_samples_are_embedded(finished):
    """The embedded image is, byte for byte, the newest file of samples/."""
    image = report(finished).images()[0]
    newest = finished / "samples" / "step-00012000.png"
    assert image["alt"] == "Grid of samples of the generator after 12,000 steps"
    assert base64.b64decode(image["src"].partition(",")[2]) == newest.read_bytes()
    assert (int(image["width"]), int(image["height"])) == decoded(image["src"]).size


def test_an_incomplete_image_is_skipped(finished):
    """If the newest file is not a complete image, the one before it is embedded."""
    newest = finished / "samples" / "step-00012000.png"
    newest.write_bytes(newest.read_bytes()[:300])
    (finished / "samples" / "step-99999999.png").write_text("no image")
    (finished / "samples" / "step-best.png").write_text("not ours")
    assert "after 2,000 steps" in report(finished).images()[0]["alt"]


def bomb(side: int) -> bytes:
    """Return a small PNG file that declares this height and width."""

    def chunk(name: bytes, data: bytes) -> bytes:
        head = struct.pack(">I", len(data)) + name + data
        return head + struct.pack(">I", zlib.crc32(name + data))

    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compressobj()
    pixels = b"".join(rows.compress(bytes(side // 8 + 1)) for _ in range(side)) + rows.flush()
    chunks = (b"IHDR", size), (b"IDAT", pixels), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("kind", ["bomb", "larger bomb", "text", "pipe", "device", "link"])
def test_a_file_that_is_not_a_grid_is_skipped(finished, kind):
    """It is not decompressed; the grid before it is embedded."""
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
        content = before.read_bytes()
        data = b"k\0\0" + zlib.compress(bytes(3 << 20))
        size, crc = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(b"zTXt" + data))
        path.write_bytes(content[:33] + size + b"zTXt" + data + crc + content[33:])
    else:
        path.write_bytes(bomb(12_000 if kind == "bomb" else 20_000))
    image = report(finished).images()[0]
    assert base64.b64decode(image["src"].partition(",")[2]) == before.read_bytes()
    with pytest.raises(DataError, match=r"step-99999999.png cannot be read as a grid of samples"):
        read_grid(path)


def test_each_score_is_next_to_that_of_real_data(finished):
    """The row of real images with the same grid follows; a score above it is noted."""
    rows = [row for row in report(finished).rows if "10,000 on 300" in row]
    generator, real = "generator, EMA weights", "real training images"
    above = generator + "above real images: smoother than the data"
    assert rows == [
        [generator, "19.2 ± 0.9", "0.215", "paper", "10,000 on 300", "12,000", "0"],
        [real, "23.5 ± 1.0", "0.167", "paper", "10,000 on 300", "–", "0"],
        [above, "25.8 ± 0.9", "0.200", "fine", "10,000 on 300", "12,000", "0"],
        [real, "24.2 ± 1.0", "0.180", "fine", "10,000 on 300", "–", "0"],
    ]


def test_scores_of_real_data_on_other_counts_are_not_compared(finished):
    """Rows that differ in the number of samples are not compared."""

    def fewer(scores):
        scores[3]["n_samples"] = 100

    change(finished, "scores.json", fewer)
    page = report(finished)
    assert "smoother than the data" not in "".join(row[0] for row in page.rows)
    assert [row[4] for row in page.rows if row[0] == "real training images"] == [
        "10,000 on 300",
        "100 on 300",
    ]


def test_sigma_on_the_edge_of_its_grid_is_flagged(finished):
    change(finished, "scores.json", lambda scores: scores[0].update(sigma_on_edge=True))
    assert "σ is at the edge of its grid" in report(finished).text


def test_the_caveat_is_always_present(finished):
    """Theis et al. are named; the published score is next to the data that it was measured on."""
    text = report(finished).text
    assert "does not mean better samples (Theis et al. 2016" in text
    assert "225 ± 2" not in text
    change(finished, "config.json", lambda record: record["data"].update(name="mnist"))
    assert "report 225 ± 2 nats for adversarial nets on MNIST" in report(finished).text


def test_every_config_value_is_in_a_table(finished):
    """Each value of the config, however deep, is a row with its name."""
    rows = [row for row in report(finished).rows if len(row) == 2]
    for row in (
        ["hidden sizes", "256, 256"],
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


def test_two_stages_have_tables_of_their_own(finished):
    change(finished, "config.json", lambda record: record["config"]["stages"].append({"epochs": 3}))
    text = report(finished).text
    assert "Stage 1 epochs 1,000" in text
    assert "Stage 2 epochs 3" in text


@pytest.mark.parametrize(
    ("end", "command", "words"),
    [
        ("done", "--resume --epochs N", "The run is complete."),
        ("stopped", "--resume", "The run was stopped before its last step."),
        (None, "--resume", "The run has not ended: it is in progress, or was interrupted."),
    ],
)
def test_next_steps(finished, end, command, words):
    """The commands depend on how the run ended."""
    lines = (finished / "events.jsonl").read_text().splitlines()[:-1]
    lines += [json.dumps({"kind": "end", "step": 12000, "reason": end})] if end else []
    (finished / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))
    text = report(finished).text
    assert words in text
    assert re.search(f"advnets train --out [^ ]*/runs/digits {command} Configuration", text)
    assert f"advnets evaluate {finished}" in text


def test_paths_are_quoted_for_the_shell(started_run):
    run = started_run.rename(started_run.with_name("my run"))
    assert f"advnets evaluate '{run}'" in report(run).text


def test_a_run_that_has_just_started(started_run):
    """Each missing part is named, and the page is complete."""
    text = report(started_run).text
    for words in (
        "No step has been logged yet.",
        "No sample grid has been written yet.",
        "Nothing has been logged yet.",
        "None yet; advnets evaluate adds them",
    ):
        assert words in text


def test_an_incomplete_config(started_run):
    """Parts that config.json lacks are omitted."""
    (started_run / "config.json").write_text('{"format": 2}')
    (started_run / "events.jsonl").unlink()
    assert (
        "A generator and a discriminator, trained on images of unknown data."
        in report(started_run).text
    )


def test_a_directory_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"holds no run \(it has no config.json\)"):
        write_report(tmp_path)


def test_invalid_scores_do_not_prevent_the_report(finished):
    for content in ("[{", "", "null", "[1]", "[{}]", '[{"metric": "swd"}]'):
        (finished / "scores.json").write_text(content)
        text = report(finished).text
        assert "scores.json cannot be read (" in text
        assert "); move it away and evaluate again" in text
    (finished / "scores.json").write_text('[{"metric": "swd", "samples": "generator"}]')
    assert "an incomplete record: evaluate again" in report(finished).text


def test_rows_are_named_by_what_is_scored(finished):
    """Reference rows, as that of the mean image, have names of their own."""
    names = {"generator": "ema", "D": "last", "mean training image": None, "pixels": None}
    (finished / "scores.json").write_text(
        json.dumps(
            [
                {
                    "metric": "classification-error",
                    "samples": name,
                    "weights": weights,
                    "error": 0.5,
                }
                for name, weights in names.items()
            ]
        )
    )
    rows = [
        row[0] for row in report(finished).rows if row and "classification error 50.00 %" in row
    ]
    assert rows == ["generator, EMA weights", "D, last weights", *[*names][2:]]


def test_without_matplotlib_the_page_names_the_extra(finished, with_curves, without_matplotlib):
    page = report(finished)
    assert (
        "matplotlib is not installed; install it with: pip install 'advnets[report]'" in page.text
    )
    assert len(page.images()) == 1
    assert not (finished / "curves.png").exists()


def test_rollbacks_and_divergence_are_in_the_summary(finished):
    """Including the values that were not finite."""
    with (finished / "events.jsonl").open("a") as file:
        file.write('{"kind": "rollback", "step": 500}\n')
        file.write('{"kind": "log", "step": 600, "d_real": NaN, "d_fake": 0.5}\n')
    text = report(finished).text
    assert "600 of 12,000 steps" in text
    assert "The run was rolled back once, after values that were not finite." in text
    assert "was not finite: the training has broken down." in text


def test_the_page_is_self_contained(finished):
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


def test_the_page_is_accessible(finished):
    """It has a language, ordered headings, alternative texts and headers of cells."""
    page = report(finished)
    tags = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"] == {"lang": "en"}
    headings = [tag for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * 6
    assert all(image["alt"] for image in page.images())
    assert all(attributes["scope"] for tag, attributes in page.tags if tag == "th")
    assert tags.count("table") == tags.count("caption")


def test_nothing_from_files_becomes_markup(finished):
    """Markup in names is escaped."""
    evil = "<script>alert('$x')</script>\"&"
    change(finished, "config.json", lambda record: record["config"].update(preset=evil))
    change(finished, "config.json", lambda record: record["data"].update(name=evil))
    change(finished, "config.json", lambda record: record.update(command=evil))
    change(finished, "scores.json", lambda scores: scores[0].update(seed=evil))
    page = report(finished)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 5


def test_reports_are_reproducible(finished, with_curves):
    """Two reports of the same files are equal byte for byte."""
    first = write_report(finished).path.read_bytes()
    assert write_report(finished).path.read_bytes() == first


def test_the_curves_have_a_light_and_a_dark_version(finished, with_curves):
    """The light one is also curves.png."""
    page = report(finished)
    (source,) = [attributes for tag, attributes in page.tags if tag == "source"]
    assert source["media"] == "screen and (prefers-color-scheme: dark)"
    assert np.asarray(decoded(source["srcset"]).convert("L"))[0, 0] < 40
    light = page.images()[1]["src"]
    assert np.asarray(decoded(light).convert("L"))[0, 0] == 255
    assert base64.b64decode(light.partition(",")[2]) == (finished / "curves.png").read_bytes()


def test_points_are_called_points():
    """The summary of a run on points has their number of dimensions, not channels."""
    record = {"data": {"name": "ring", "train": 1000, "white_level": 1, "shape": [2, 1, 1]}}
    assert "on 1,000 points of ring (two-dimensional)" in summary(record, [])
    record["data"] |= {"train": None, "white_level": 255, "shape": [3, 8, 8]}
    assert "on images of ring (8 × 8, color)" in summary(record, [])
