import io
import math
import sys

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from advnets.errors import MissingExtraError
from advnets.evaluation.registry import METRICS
from advnets.plots.training_curves import RunCurve, run_curves, training_curves, without_rolled_back


@pytest.fixture
def figures(monkeypatch):
    """Record the matplotlib figures that are drawn during a test."""
    saved = []

    class Recorded(matplotlib.figure.Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            saved.append(self)

    monkeypatch.setattr(matplotlib.figure, "Figure", Recorded)
    return saved


PAIRS = [(1, 0.9), (2, 0.75), (3, 0.5)]


def log_event(step, **metrics):
    return {"kind": "log", "step": step, "epoch": step / 10} | metrics


def curves(axes):
    """Return x and y of each line, by its label."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.lines}


def notes(axes):
    return [text.get_text() for text in axes.texts]


def open_png(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        return image


def test_the_three_panels_show_the_events(events, figures):
    """D(x), D(G(z)), V and the evaluations are drawn at their epochs, with reference lines."""
    open_png(training_curves(events, real_data=23.5))
    logs = [event for event in events if event["kind"] == "log"]
    epochs = [event["epoch"] for event in logs]
    output, value, parzen = map(curves, figures[0].axes)
    for panel, label, key in (
        (output, "real, D(x)", "d_real"),
        (output, "samples, D(G(z))", "d_fake"),
        (value, "V(D, G)", "value"),
    ):
        np.testing.assert_array_equal(panel[label][0], epochs)
        np.testing.assert_array_equal(panel[label][1], [event[key] for event in logs])
    evaluated = [event for event in events if event["kind"] == "evaluate"]
    np.testing.assert_array_equal(parzen["last weights"][1], [e["mean"] for e in evaluated])
    assert output["1/2: optimum"][1] == [0.5, 0.5]
    assert value["−log 4: optimum"][1] == [-math.log(4)] * 2
    assert parzen["real data: 24"][1] == [23.5, 23.5]


def test_ema_and_last_weights_have_one_curve_each(events, figures):
    others = [
        event | {"weights": "ema", "mean": event["mean"] + 1}
        for event in events
        if event["kind"] == "evaluate"
    ]
    open_png(training_curves([*events, *others]))
    parzen = curves(figures[0].axes[2])
    average, last = parzen["EMA weights"][1], parzen["last weights"][1]
    np.testing.assert_allclose(np.array(average) - np.array(last), 1)


def test_without_evaluations_there_are_two_panels(events, figures):
    open_png(
        training_curves([event for event in events if event["kind"] != "evaluate"], real_data=1.0)
    )
    assert len(figures[0].axes) == 2


@pytest.mark.parametrize("dark", [False, True])
def test_the_background_is_light_or_dark(events, dark):
    """The corner of the image has the background color of its page."""
    corner = open_png(training_curves(events, dark=dark)).convert("L").getpixel((0, 0))
    assert isinstance(corner, int)
    assert corner < 40 if dark else corner == 255


def test_a_game_of_pairs_has_one_curve_and_its_own_optimum(figures):
    open_png(
        training_curves([log_event(10 * k, d_pair=v, value_pair=math.log(v)) for k, v in PAIRS])
    )
    output, value = map(curves, figures[0].axes)
    np.testing.assert_array_equal(output["D(x, G(z))"][1], [v for _, v in PAIRS])
    assert output["1/2: optimum"][1] == [0.5, 0.5]
    np.testing.assert_array_equal(value["E log D(x, G(z))"][1], [math.log(v) for _, v in PAIRS])
    assert value["−log 2: optimum"][1] == [-math.log(2)] * 2


def test_a_single_point_has_a_marker(figures):
    """One event draws no line."""
    open_png(training_curves([log_event(10, d_real=0.7, d_fake=0.3, value=-0.9)]))
    for axes in figures[0].axes:
        assert all(line.get_marker() == "o" for line in axes.lines[1:])


def test_without_events_the_panels_are_empty(figures):
    open_png(training_curves([]))
    assert notes(figures[0].axes[1]) == ["no values of V(D, G)"]


def test_values_not_finite_are_omitted_and_counted(figures):
    """NaN and infinities are not drawn; a note has their number."""
    values = [0.9, math.nan, 0.8, math.inf]
    open_png(
        training_curves([log_event(10 * k, d_real=v, value=-1.0) for k, v in enumerate(values)])
    )
    output = figures[0].axes[0]
    np.testing.assert_array_equal(curves(output)["real, D(x)"][1], [0.9, 0.8])
    assert notes(output) == [
        "2 values of real, D(x) are not finite",
        "no values of samples, D(G(z))",
    ]


@pytest.mark.parametrize(
    ("metric", "key", "title"),
    [
        ("frechet", "value", "Fréchet distance"),
        ("modes", "kl_uniform", "KL divergence of modes"),
        ("mixture", "high_quality", "High quality"),
        ("kl-jsd", "kl", "KL divergence"),
    ],
)
def test_another_metric_is_drawn_under_its_title(metric, key, title, figures):
    """The line of the Parzen log-likelihood of real images is not in the panel."""
    scored = [
        {"kind": "evaluate", "metric": metric, "step": k, "epoch": k, key: 1.0 / k} for k in (1, 2)
    ]
    open_png(
        training_curves(
            [log_event(1, d_real=0.7), *scored], metric_curve=METRICS[metric].curve, real_data=240.0
        )
    )
    panel = figures[0].axes[2]
    assert panel.get_title(loc="left") == title
    assert list(curves(panel)) == ["last weights"]
    np.testing.assert_array_equal(curves(panel)["last weights"][1], [1.0, 0.5])


@pytest.mark.parametrize("metric", [name for name, spec in METRICS.items() if spec.curve])
@pytest.mark.parametrize(
    "plotted", [{"d_real": 0.7, "value": -1}, {"d_pair": 0.6, "value_pair": -1}]
)
def test_titles_and_legends_do_not_overlap(plotted, metric, figures):
    """Both are above their panel."""
    curve = METRICS[metric].curve
    key = curve.value
    scored = [
        {"kind": "evaluate", "metric": metric, "step": 2, "epoch": 0.2, "weights": which, key: 100}
        for which in ("ema", "last")
    ]
    events = [log_event(1, **plotted), log_event(2, **plotted), *scored]
    training_curves(events, metric_curve=curve, real_data=240.0)
    for axes in figures[0].axes:
        title, legend = axes._left_title.get_window_extent(), axes.get_legend().get_window_extent()
        assert title.x1 < legend.x0


@pytest.mark.parametrize(
    ("images_per_step", "label", "last"),
    [(96, "real examples shown", 9_600), (20_000, "real examples shown, millions", 2.0)],
)
def test_curves_of_several_runs_are_beside_their_legend(images_per_step, label, last, figures):
    """The axis has a unit that suits the length; no point is under the legend."""
    events = [{"step": step, "d_real": 0.99 - step / 1000} for step in range(10, 101, 10)]
    events.append({"step": math.nan, "d_real": 0.5})
    runs = [
        RunCurve("digits: D(x)", "probability of real", f"seed {seed}", events, "d_real", n)
        for seed, n in enumerate((images_per_step, images_per_step))
    ]
    open_png(run_curves(runs))
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == label
    assert max(axes.lines[0].get_xdata()) == pytest.approx(last)
    box = axes.get_legend().get_window_extent()
    assert box.x0 >= axes.get_window_extent().x1
    assert box.x1 <= figures[0].bbox.x1


@pytest.mark.parametrize(
    "prefix", ["seed ", "runs/digits-with-a-long-name-of-its-folder-", "a" * 99]
)
@pytest.mark.parametrize("count", [5, 10, 32])
def test_every_curve_of_many_runs_is_named_below_the_panel(count, prefix, figures):
    """The names are inside the figure, below the axis, and no two curves look the same."""
    events = [{"step": step, "d_real": 0.99 - step / 1000} for step in range(10, 101, 10)]
    runs = [
        RunCurve("digits: D(x)", "probability of real", f"{prefix}{i}", events, "d_real", 96)
        for i in (*range(count), 0)
    ]
    open_png(run_curves(runs))
    axes, below = figures[0].axes
    lines = axes.lines[: count + 1]
    looks = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert len({*looks[:-1]}) == count
    assert looks[-1] == looks[0]
    texts = below.get_legend().get_texts()
    assert [text.get_text().replace("\n", "") for text in texts[:count]] == [
        f"{prefix}{i}" for i in range(count)
    ]
    assert texts[count].get_text() == "1/2: optimum"
    box = below.get_legend().get_window_extent()
    assert box.y1 <= axes.xaxis.label.get_window_extent().y0
    assert figures[0].bbox.y0 <= box.y0
    assert figures[0].bbox.x0 <= box.x0
    assert box.x1 <= figures[0].bbox.x1


def test_curves_without_finite_values(figures):
    """A training that diverged at once has an image."""
    event = {"kind": "evaluate", "step": 1, "epoch": 0.1, "mean": math.nan, "standard_error": 1}
    open_png(
        training_curves([log_event(1, d_real=math.nan, value=math.inf), event], real_data=math.nan)
    )
    assert notes(figures[0].axes[2]) == ["1 values of last weights are not finite"]


def test_events_undone_by_a_rollback_are_not_drawn(figures):
    """Events after the step of the roll-back are dropped; those logged again are kept."""
    rollback = {"kind": "rollback", "step": 10}
    events = [
        log_event(10, value=-1.0),
        log_event(20, value=-9.0),
        rollback,
        log_event(20, value=-1.1),
    ]
    open_png(training_curves(events))
    np.testing.assert_array_equal(curves(figures[0].axes[1])["V(D, G)"][1], [-1.0, -1.1])
    assert without_rolled_back(events) == [events[0], rollback, events[3]]


def test_the_axis_is_steps_if_epochs_begin_again(figures):
    """A second stage counts its own epochs; steps continue."""
    stages = [log_event(10, value=-1.0), log_event(20, value=-1.0) | {"epoch": 0.5}]
    open_png(training_curves(stages))
    np.testing.assert_array_equal(curves(figures[0].axes[1])["V(D, G)"][0], [10, 20])
    assert figures[0].axes[-1].get_xlabel() == "steps"


def test_the_global_state_of_matplotlib_is_unchanged(events):
    """No pyplot is imported and no setting changed."""
    had_pyplot, settings = "matplotlib.pyplot" in sys.modules, matplotlib.rcParams.copy()
    training_curves(events)
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert matplotlib.rcParams.copy() == settings


def test_without_matplotlib_the_error_names_the_extra(events, without_matplotlib):
    with pytest.raises(
        MissingExtraError, match=r"install it with: pip install 'advnets\[report\]'"
    ):
        training_curves(events)


def test_a_game_with_other_metrics_is_drawn_by_them():
    from advnets.cli.console import metrics_text
    from advnets.plots.training_curves import metric_names

    log = {"kind": "log", "step": 5, "epoch": 0.5, "elbo": -100.0, "elbo/divergence": 20.0}
    log |= {"loss/generator": 0.2, "seconds": 1.0, "images_per_second": 9.0}
    assert metric_names(log) == ["elbo", "elbo/divergence"]
    assert metrics_text(log) == "elbo -100.000  elbo/divergence 20.000"
    image = training_curves([log, {**log, "step": 10, "epoch": 1.0, "elbo": -90.0}])
    open_png(image)
    clipped = training_curves([{**log, "elbo": -10.0}, {**log, "step": 10, "epoch": 1.0}])
    assert image != clipped
