import io
import xml.etree.ElementTree as ET

import matplotlib.image
import pandas as pd
import pytest

from harness.report.comparison import compare
from harness.report.figures import LOOKS, draw, metric_against_cost, metric_against_state_dim


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def test_files_are_pictures_with_something_on_them(two_tasks):
    files = draw(compare(two_tasks))
    assert sorted(files) == ["cost.png", "cost.svg", "state_dim.png", "state_dim.svg"]
    for name in ("cost.png", "state_dim.png"):
        pixels = matplotlib.image.imread(io.BytesIO(files[name]))
        assert pixels.shape[1] > 900
        assert 0.01 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5
    for name in ("cost.svg", "state_dim.svg"):
        text = files[name].decode()
        ET.fromstring(text)
        assert LOOKS["in_training"].colour.lower() in text.lower()
        assert "<dc:date>" not in text


def test_the_same_comparison_gives_the_same_bytes(suite):
    assert draw(compare(suite())) == draw(compare(suite()))


def test_points_and_intervals_are_those_of_the_table(two_tasks):
    axes = panels(metric_against_cost(compare(two_tasks)))["digits"]
    points = {
        (round(float(x), 4), round(float(y), 4))
        for line in axes.containers
        for x, y in zip(*line.lines[0].get_data(), strict=True)
    }
    assert points == {(1.0, 95.0), (0.25, 85.0), (1.05, 45.0), (0.25, 73.3333)}
    assert "accuracy, %" in axes.get_ylabel()


def test_a_panel_for_each_task_and_a_name_for_each_arm(two_tasks):
    figure = metric_against_state_dim(compare(two_tasks))
    assert set(panels(figure)) == {"digits", "pylib"}
    assert "lower is better" in panels(figure)["pylib"].get_ylabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "full size", "in-training truncation", "train, then compress", "small from scratch",
    ]  # fmt: skip


def test_a_row_without_an_interval_is_hollow_and_says_so(suite):
    figure = metric_against_state_dim(compare(suite().query("seed == 0")))
    (axes,) = figure.axes
    assert {line.lines[0].get_markerfacecolor() for line in axes.containers} == {"white"}
    assert not any(line.has_yerr for line in axes.containers)
    assert figure.legends[0].get_texts()[-1].get_text() == "hollow: no interval"


def test_an_unknown_arm_has_a_look_of_its_own(suite):
    other = suite().query("role == 'small'").assign(role="a_new_arm", label="new")
    figure = metric_against_state_dim(compare(pd.concat([suite(), other])))
    assert "a new arm" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("role", ["full", "small"])
def test_nothing_finished_or_no_full_row_still_draws(suite, role):
    trials = suite().query("role == @role").assign(test_metric=float("nan"))
    assert all(draw(compare(trials)).values())
