from __future__ import annotations

import pytest

from advnets.cli.arguments import config_of
from advnets.errors import RunError
from advnets.report import comparison


def cell(mean, half=None, std=None, seeds=(0, 1)):
    widths = {"half_width": half, "std": std}
    return {"mean": mean, **widths, "seeds": list(seeds), "sample_seeds": [0]}


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (cell(246.7123, 2.04), "246.7 ± 2.0"),
        (cell(12345.6, 123.4), "12,346 ± 123"),
        (cell(0.98765, 0.00312), "0.9877 ± 0.0031"),
        (cell(3.14159), "3.142"),
        (cell(12345.6), "12,346"),
        (cell(0.8, 1e-17), "0.8000 ± 0"),
        (cell(0.0, 0.0), "0 ± 0"),
        (cell(1.5, 0.25, None, (0,)), "1.50 ± 0.25 [1 seed]"),
        (cell(246.7123, 2.04, 0.822), "246.7 ± 2.0 (0.8)"),
        (cell(246.7123, None, 0.822), "246.71 (0.82)"),
        (cell(0.8, 1e-17, 1e-17), "0.8000 ± 0 (0)"),
        (cell(1.5e-9, 2e-10, 1e-10), "1.5e-09 ± 2e-10 (1e-10)"),
        (cell(None), "–"),
        (None, "–"),
    ],
)
def test_a_mean_is_rounded_to_the_precision_of_its_interval(interval, text):
    assert comparison._format_cell(interval, num_seeds=2) == text


def curve_of(record):
    config = config_of(record["command"])
    history = comparison.History("name", config, record["curve"], record["training_eval"])
    return comparison._run_curve(history)


def test_a_training_curve_is_the_metric_of_the_ema_weights():
    event = {"metric": "modes", "kl_uniform": 0.2, "weights": "ema", "step": 10}
    ema = [event, event | {"step": 20, "kl_uniform": 0.1}]
    curve = curve_of(
        {
            "command": "advnets train modern-stacked --batch-size 20 --threads 1 --seed 4",
            "curve": [],
            "training_eval": [ema[0], event | {"weights": "last", "kl_uniform": 0.3}, ema[1]],
        }
    )
    assert (curve.events, curve.value, curve.images_per_step) == (ema, "kl_uniform", 20)
    assert (curve.title, curve.label) == ("modern-stacked: KL divergence of modes", "seed 4")


def test_a_training_curve_without_evaluations_is_the_output_of_d():
    logs = [{"step": 500, "d_real": 0.6}, {"step": 1000, "d_real": 0.5}]
    line = "advnets train modern-ring --threads 1 --seed 0"
    curve = curve_of({"command": line, "curve": logs, "training_eval": []})
    assert (curve.events, curve.value, curve.images_per_step) == (logs, "d_real", 128)
    assert curve.title == "modern-ring: D(x)"
    with pytest.raises(RunError, match="name has no training curve: it was trained without"):
        curve_of({"command": line, "curve": [{"step": 1, "elbo": 2.0}], "training_eval": []})


def test_a_difference_has_its_sign():
    assert comparison._format_cell(cell(0.5, 0.125), sign="+") == "+0.50 ± 0.12"


@pytest.mark.parametrize(
    "name", ["*a*", "_a_", "a_b", "`a`", "[a](b)", "<b>a</b>", "a|b", "&lt;", "# a", "a\nb", "\\"]
)
def test_names_of_runs_and_data_are_escaped_in_markdown(name):
    """The cells, parsed as Markdown, contain the literal names."""
    pytest.importorskip("markdown_it")
    from markdown_it import MarkdownIt

    table = "\n".join(comparison._markdown_table([("run", "score"), (name, "1")], left=1))
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    cells = [token.children for token in tokens if token.type == "inline"]
    assert {child.type for child in cells[2]} <= {"text", "text_special"}
    assert "".join(child.content for child in cells[2]) == " ".join(name.split())


def test_names_are_escaped_in_latex():
    """The characters that LaTeX interprets, those that its fonts lack, and ends of rows."""
    assert comparison._escape_latex("mlp, --lr 0.1_a & 50 % #1 $x$ {y} ~^") == (
        r"mlp, {-}{-}lr 0.1\_a \& 50 \% \#1 \$x\$ \{y\} \textasciitilde{}\textasciicircum{}"
    )
    assert comparison._escape_latex("a\\b\n<c>") == r"a\textbackslash{}b \textless{}c\textgreater{}"
    assert comparison._escape_latex("-0.5 ± 0.1 – −") == r"$-$0.5 $\pm$ 0.1 \textendash{} $-$"
    assert comparison._escape_latex("[a]*") == "{[}a{]}{*}"


def test_runs_with_the_same_options_share_a_color(monkeypatch):
    """Three curves of two configs have two labels; those of one config are labeled by seed."""
    drawn = []
    monkeypatch.setattr(comparison, "run_curves", lambda curves: drawn.append(curves) or b"")
    logs = [{"step": 500, "d_real": 0.6}]

    def labels(*options):
        lines = [f"advnets train digits {option}" for option in options]
        runs = [comparison.History(line, config_of(line), logs, []) for line in lines]
        comparison.curves_figure(runs)
        return [curve.label for curve in drawn[-1]]

    three = labels("--game.k 1 --seed 1", "--game.k 2 --seed 1", "--game.k 1 --seed 2")
    assert three == ["game.k=1", "game.k=2", "game.k=1"]
    assert labels("--seed 1", "--seed 2") == ["seed 1", "seed 2"]


def test_a_bar_in_a_name_does_not_break_the_table():
    assert comparison._markdown_table([("a|b", "c")], left=1) == ["| a\\|b | c |", "|---|---:|"]
