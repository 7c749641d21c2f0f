import io
import xml.etree.ElementTree as ET
from itertools import combinations

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from harness.arms import InTrainingSpec, PostHocSpec
from harness.report.comparison.compare import compare
from harness.report.figures import (
    ASIDE,
    MOST_BELOW,
    WIDEST,
    draw,
    metric_against_cost,
    metric_against_state_dim,
)
from harness.report.looks import FILLS


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def points(axes):
    """The data of every point, in the order drawn."""
    return [
        (round(float(x), 4), round(float(y), 4))
        for line in axes.containers
        for x, y in zip(*line.lines[0].get_data(), strict=True)
    ]


def seen(axes):
    """Where every point is on the screen, horizontally, in pixels."""
    markers = [line.lines[0] for line in axes.containers]
    return [marker.get_transform().transform(marker.get_xydata())[0][0] for marker in markers]


def legend(figure):
    return [text.get_text() for one in figure.legends for text in one.get_texts()]


@pytest.fixture
def variants(suite, trial):
    """Beside the four rows: compressing with fine-tuning, and an earlier window."""
    rows = suite().replace(
        {name: {"in_training tau=0.1": "in_training", "post_hoc as tau=0.1": "post_hoc",
                "small as tau=0.1": "small"} for name in ("label", "matches")}
    )  # fmt: skip
    more = [
        trial(role, seed, test + 0.01 * seed, label=label, matches=matches, dim=dim)
        for role, label, matches, test, dim in (
            ("post_hoc", "post_hoc tuned", "in_training", 0.6, 8.0),
            ("in_training", "in_training early", None, 0.8, 7.0),
            ("small", "small early", "in_training early", 0.7, 7.0),
        )
        for seed in range(3)
    ]
    return pd.concat([rows, pd.DataFrame(more)], ignore_index=True)


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
        assert InTrainingSpec.style.colour.lower() in text.lower()
        assert "<dc:date>" not in text


def test_the_same_comparison_gives_the_same_bytes(suite):
    assert draw(compare(suite())) == draw(compare(suite()))


def test_points_and_intervals_are_those_of_the_table(two_tasks):
    axes = panels(metric_against_cost(compare(two_tasks)))["digits"]
    assert set(points(axes)) == {(1.0, 95.0), (0.25, 85.0), (1.05, 45.0), (0.25, 73.3333)}
    assert "accuracy, %" in axes.get_ylabel()


def test_a_panel_for_each_task_and_a_name_for_each_arm(two_tasks):
    figure = metric_against_state_dim(compare(two_tasks))
    assert set(panels(figure)) == {"digits", "pylib"}
    assert "lower is better" in panels(figure)["pylib"].get_ylabel()
    assert legend(figure) == [
        "full size", "in-training truncation", "train, then compress", "small from scratch",
    ]  # fmt: skip


def test_a_row_without_an_interval_has_no_bar_and_says_so(suite):
    figure = metric_against_state_dim(compare(suite().query("seed == 0")))
    (axes,) = figure.axes
    assert not any(line.has_yerr for line in axes.containers)
    assert legend(figure)[-1] == "no bar: no interval"
    assert "no bar: no interval" not in legend(metric_against_state_dim(compare(suite())))


def test_sizes_are_where_the_points_say(suite):
    """7, 8 and 9 states a block, mean 8: aside on the screen alone, and evenly around 8."""
    figure = metric_against_state_dim(compare(suite()))
    figure.canvas.draw()
    (axes,) = figure.axes
    assert [x for x, _ in points(axes)] == [64.0, 8.0, 8.0, 8.0]
    place = axes.transData.transform((8.0, 50.0))[0]
    aside = [(x - place) * 72 / figure.dpi for x in seen(axes)[1:]]
    assert aside == pytest.approx([-ASIDE, 0.0, ASIDE])


def test_rows_of_other_sizes_are_not_moved(suite, trial):
    """Two sizes 10 % apart: each stands around its own place, so their order is kept."""
    early = [trial("in_training", seed, 0.84, label="in_training early", dim=7.2)
             for seed in range(3)]  # fmt: skip
    figure = metric_against_state_dim(compare(pd.concat([suite(), pd.DataFrame(early)])))
    figure.canvas.draw()
    (axes,) = figure.axes
    found = dict(zip(points(axes), seen(axes), strict=True))
    place = axes.transData.transform((7.2, 50.0))[0]
    assert found[(7.2, 84.0)] == pytest.approx(place)
    assert min(found.values()) == found[(7.2, 84.0)]


def test_many_rows_of_a_size_stay_near_it(suite, trial):
    rows = [trial("in_training", 0, 0.8, label=f"c{k}", dim=8.0) for k in range(40)]
    figure = metric_against_state_dim(compare(pd.DataFrame(rows)))
    figure.canvas.draw()
    (axes,) = figure.axes
    assert np.ptp(seen(axes)) * 72 / figure.dpi < WIDEST


def test_every_point_is_inside_its_panel(two_tasks):
    figure = metric_against_state_dim(compare(two_tasks))
    figure.canvas.draw()
    for axes in panels(figure).values():
        frame = axes.get_window_extent()
        for x, (_, y) in zip(seen(axes), points(axes), strict=True):
            assert frame.contains(x, axes.transData.transform((8.0, y))[1])


@pytest.mark.parametrize("draw_it", [metric_against_state_dim, metric_against_cost])
def test_variants_of_an_arm_differ_in_their_filling(variants, draw_it):
    figure = draw_it(compare(variants))
    (axes,) = figure.axes
    markers = [line.lines[0] for line in axes.containers]
    colour = PostHocSpec.style.colour
    looks = [
        (marker.get_fillstyle(), marker.get_markerfacecolor())
        for marker in markers
        if marker.get_color() == colour
    ]
    assert looks == [("full", colour), ("full", "white")]
    assert len({marker.get_color() for marker in markers}) == 4
    assert legend(figure)[4:] == ["tuned", "early"]


def test_an_arm_with_one_row_in_each_panel_needs_no_variants(two_tasks):
    figure = metric_against_state_dim(compare(two_tasks))
    assert len(legend(figure)) == 4
    for axes in panels(figure).values():
        assert {line.lines[0].get_fillstyle() for line in axes.containers} == {"full"}


def test_names_stand_beside_points_where_fillings_do_not_suffice(trial):
    rows = [
        trial("in_training", seed, 0.9 - 0.02 * k, label=f"in_training tau={k}", dim=60.0 - 6 * k)
        for k in range(len(FILLS) + 1)
        for seed in range(2)
    ]
    figure = metric_against_state_dim(compare(pd.DataFrame(rows)))
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [f"tau={k}" for k in range(len(FILLS) + 1)]
    figure.canvas.draw()
    places = [axes.transData.transform(point) for point in points(axes)]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(box.contains(*place) for box in boxes for place in places)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_each_comparison_of_a_task_has_its_panel(comparison_named):
    both = pd.concat([comparison_named("long"), comparison_named("short", shift=0.2)])
    figure = metric_against_state_dim(compare(both))
    assert list(panels(figure)) == ["digits, long", "digits, short"]
    assert len(legend(figure)) == 4


@pytest.mark.parametrize(("number", "columns"), [(MOST_BELOW, 1), (MOST_BELOW + 1, 2)])
def test_many_panels_stand_in_two_columns(comparison_named, number, columns):
    rows = pd.concat([comparison_named(f"one {k}") for k in range(number)])
    figure = metric_against_state_dim(compare(rows))
    assert len(panels(figure)) == number
    figure.canvas.draw()
    lefts = {round(axes.get_position().x0, 2) for axes in panels(figure).values()}
    assert len(lefts) == columns


def test_an_unknown_arm_has_a_look_of_its_own(suite):
    other = suite().query("role == 'small'").assign(role="a_new_arm", label="new")
    figure = metric_against_state_dim(compare(pd.concat([suite(), other])))
    assert "a new arm" in legend(figure)


@pytest.mark.parametrize("role", ["full", "small"])
def test_nothing_finished_or_no_full_row_still_draws(suite, role):
    trials = suite().query("role == @role").assign(test_metric=float("nan"))
    assert all(draw(compare(trials)).values())
