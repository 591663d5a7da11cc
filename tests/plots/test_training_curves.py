from __future__ import annotations

import io
import math
import sys

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from advnets.errors import MissingExtraError
from advnets.plots.training_curves import SCORES, training_curves, without_rolled_back


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is drawn, to look into."""
    drawn = []

    class Recorded(matplotlib.figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Recorded)
    return drawn


PAIRS = [(1, 0.9), (2, 0.75), (3, 0.5)]


def tick(step, **observed):
    return {"kind": "log", "step": step, "epoch": step / 10} | observed


def curves(axes):
    """Label to points, of everything drawn with a label."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.lines}


def notes(axes):
    return [text.get_text() for text in axes.texts]


def read(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        return image


def test_the_three_panels_show_the_events(events, figures):
    """D(x), D(G(z)), V and the scores are drawn at their epochs, each beside its line."""
    read(training_curves(events, real_data=23.5))
    ticks = [event for event in events if event["kind"] == "log"]
    epochs = [event["epoch"] for event in ticks]
    verdict, value, parzen = map(curves, figures[0].axes)
    for panel, label, key in (
        (verdict, "real, D(x)", "d_real"),
        (verdict, "samples, D(G(z))", "d_fake"),
        (value, "V(D, G)", "value"),
    ):
        np.testing.assert_array_equal(panel[label][0], epochs)
        np.testing.assert_array_equal(panel[label][1], [event[key] for event in ticks])
    evaluated = [event for event in events if event["kind"] == "evaluate"]
    np.testing.assert_array_equal(parzen["last weights"][1], [e["mean"] for e in evaluated])
    assert verdict["1/2: cannot tell"][1] == [0.5, 0.5]
    assert value["−log 4: the optimum"][1] == [-math.log(4)] * 2
    assert parzen["real data: 24"][1] == [23.5, 23.5]


def test_each_kept_generator_has_a_curve_of_its_own(events, figures):
    others = [
        event | {"weights": "ema", "mean": event["mean"] + 1}
        for event in events
        if event["kind"] == "evaluate"
    ]
    read(training_curves([*events, *others]))
    parzen = curves(figures[0].axes[2])
    average, last = parzen["weight average"][1], parzen["last weights"][1]
    np.testing.assert_allclose(np.array(average) - np.array(last), 1)


def test_without_evaluations_there_are_two_panels(events, figures):
    read(training_curves([event for event in events if event["kind"] != "evaluate"], real_data=1.0))
    assert len(figures[0].axes) == 2


@pytest.mark.parametrize("dark", [False, True])
def test_the_ground_is_light_or_dark(events, dark):
    """The corner of the image has the color of the page that it is for."""
    corner = read(training_curves(events, dark=dark)).convert("L").getpixel((0, 0))
    assert isinstance(corner, int)
    assert corner < 40 if dark else corner == 255


def test_a_game_of_pairs_has_one_verdict_and_its_own_optimum(figures):
    read(training_curves([tick(10 * k, d_pair=v, value_pair=math.log(v)) for k, v in PAIRS]))
    verdict, value = map(curves, figures[0].axes)
    np.testing.assert_array_equal(verdict["D(x, G(z))"][1], [v for _, v in PAIRS])
    assert verdict["1/2: cannot tell"][1] == [0.5, 0.5]
    np.testing.assert_array_equal(value["E log D(x, G(z))"][1], [math.log(v) for _, v in PAIRS])
    assert value["−log 2: the optimum"][1] == [-math.log(2)] * 2


def test_a_single_point_is_a_dot(figures):
    """One tick draws no line, so it gets a mark that can be seen."""
    read(training_curves([tick(10, d_real=0.7, d_fake=0.3, value=-0.9)]))
    for axes in figures[0].axes:
        assert all(line.get_marker() == "o" for line in axes.lines[1:])


def test_nothing_at_all_is_drawn_as_nothing(figures):
    read(training_curves([]))
    assert notes(figures[0].axes[1]) == ["no V(D, G) yet"]


def test_what_is_not_finite_is_left_out_and_counted(figures):
    """NaN and infinities are not drawn; a note says how many there were."""
    values = [0.9, math.nan, 0.8, math.inf]
    read(training_curves([tick(10 * k, d_real=v, value=-1.0) for k, v in enumerate(values)]))
    verdict = figures[0].axes[0]
    np.testing.assert_array_equal(curves(verdict)["real, D(x)"][1], [0.9, 0.8])
    assert notes(verdict) == ["2 of real, D(x) not finite: left out", "no samples, D(G(z)) yet"]


@pytest.mark.parametrize(
    ("metric", "key", "title"),
    [
        ("frechet", "value", "Fréchet distance"),
        ("modes", "kl_uniform", "KL of modes"),
        ("points", "high_quality", "High quality"),
        ("divergence", "kl", "KL to the density"),
    ],
)
def test_another_score_on_the_way_is_drawn_by_its_name(metric, key, title, figures):
    """No line of real images' Parzen score stands in it."""
    scored = [
        {"kind": "evaluate", "metric": metric, "step": k, "epoch": k, key: 1.0 / k} for k in (1, 2)
    ]
    read(training_curves([tick(1, d_real=0.7), *scored], real_data=240.0))
    panel = figures[0].axes[2]
    assert panel.get_title(loc="left") == title
    assert list(curves(panel)) == ["last weights"]
    np.testing.assert_array_equal(curves(panel)["last weights"][1], [1.0, 0.5])


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("shown", [{"d_real": 0.7, "value": -1}, {"d_pair": 0.6, "value_pair": -1}])
def test_titles_and_legends_do_not_meet(shown, metric, figures):
    """Both stand above their panel, whatever is drawn there."""
    _, _, key = SCORES[metric]
    scored = [
        {"kind": "evaluate", "metric": metric, "step": 2, "epoch": 0.2, "weights": which, key: 100}
        for which in ("ema", "last")
    ]
    training_curves([tick(1, **shown), tick(2, **shown), *scored], real_data=240.0)
    for axes in figures[0].axes:
        title, legend = axes._left_title.get_window_extent(), axes.get_legend().get_window_extent()
        assert title.x1 < legend.x0


def test_all_of_it_not_finite(figures):
    """A game that broke down at once still makes an image."""
    event = {"kind": "evaluate", "step": 1, "epoch": 0.1, "mean": math.nan, "standard_error": 1}
    read(training_curves([tick(1, d_real=math.nan, value=math.inf), event], real_data=math.nan))
    assert notes(figures[0].axes[2]) == ["1 of last weights not finite: left out"]


def test_what_a_rollback_undid_is_not_drawn(figures):
    """Ticks after the step a roll-back returned to are dropped; those played again are kept."""
    back = {"kind": "rollback", "step": 10}
    played = [tick(10, value=-1.0), tick(20, value=-9.0), back, tick(20, value=-1.1)]
    read(training_curves(played))
    np.testing.assert_array_equal(curves(figures[0].axes[1])["V(D, G)"][1], [-1.0, -1.1])
    assert without_rolled_back(played) == [played[0], back, played[3]]


def test_where_epochs_begin_again_the_axis_is_steps(figures):
    """A second stage counts its own epochs; the axis then has steps, which go on."""
    stages = [tick(10, value=-1.0), tick(20, value=-1.0) | {"epoch": 0.5}]
    read(training_curves(stages))
    np.testing.assert_array_equal(curves(figures[0].axes[1])["V(D, G)"][0], [10, 20])
    assert figures[0].axes[-1].get_xlabel() == "steps"


def test_matplotlibs_global_state_is_left_alone(events):
    """No pyplot is imported and no setting changed."""
    had_pyplot, settings = "matplotlib.pyplot" in sys.modules, matplotlib.rcParams.copy()
    training_curves(events)
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert matplotlib.rcParams.copy() == settings


def test_without_matplotlib_the_cure_is_said(events, without_matplotlib):
    with pytest.raises(MissingExtraError, match=r"type: pip install 'advnets\[report\]'"):
        training_curves(events)


def test_a_game_that_observes_other_things_is_drawn_by_them():
    from advnets.cli.console import metrics_text
    from advnets.plots.training_curves import metric_names

    tick = {"kind": "log", "step": 5, "epoch": 0.5, "elbo": -100.0, "elbo/divergence": 20.0}
    tick |= {"loss/generator": 0.2, "seconds": 1.0, "images_per_second": 9.0}
    assert metric_names(tick) == ["elbo", "elbo/divergence"]
    assert metrics_text(tick) == "elbo -100.000  elbo/divergence 20.000"
    drawn = training_curves([tick, {**tick, "step": 10, "epoch": 1.0, "elbo": -90.0}])
    read(drawn)
    other = training_curves([{**tick, "elbo": -10.0}, {**tick, "step": 10, "epoch": 1.0}])
    assert drawn != other
