"""Which rows a figure tells apart, and how."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from harness.arms import SmallSpec
from harness.report.comparison.compare import compare
from harness.report.figures import metric_against_cost, metric_against_state_dim
from harness.report.looks import FILLS, VALUES, by_arm, looks, styles_of
from harness.report.sentences import says
from harness.report.telling import named as said_as
from harness.report.telling import telling_fields

GRAMIANS = ("white", "horizon", "signal", "task")
SIZES = (4, 8, 16)


def rows_of(trial, gramians=GRAMIANS, sizes=SIZES):
    """Full size; small, compressing and fine-tuned compressing at each size; one in training."""
    made = [("full", "full", 64, {})]
    made += [("small", f"small {n}", n, {}) for n in sizes]
    for one in gramians:
        for n in sizes:
            made.append(("post_hoc", f"post_hoc {one} {n}", n, {"gramians": one}))
            said = {"gramians": one, "finetune_share": 0.1}
            made.append(("post_hoc", f"tuned {one} {n}", n, said))
        made.append(("in_training", f"in_training {one} 8", 8, {"gramians": one}))
    trials = [
        trial(kind, seed, 0.5 + number / 100 + seed / 50, label=label, dim=float(n))
        | {f"spec.arm.{name}": value for name, value in said.items()}
        for number, (kind, label, n, said) in enumerate(made)
        for seed in (0, 1)
    ]
    return compare(pd.DataFrame(trials))


@pytest.fixture
def curves(trial):
    return rows_of(trial)


def named(comparison, label):
    return comparison.index[comparison.label == label][0]


def test_no_two_methods_look_the_same(curves):
    found = looks(curves)
    at_eight = curves[curves.state_dim_mean == 8]
    assert len({found.of[index] for index in at_eight.index}) == len(at_eight)
    for index, other in combinations(curves.index, 2):
        assert (found.of[index] == found.of[other]) == (found.curve[index] == found.curve[other])


def test_colour_and_dashes_are_of_the_weighting_and_marker_of_the_arm(curves):
    of = looks(curves).of
    task, tuned, in_training, white = (
        of[named(curves, label)]
        for label in ("post_hoc task 8", "tuned task 8", "in_training task 8", "post_hoc white 8")
    )
    assert task.colour == tuned.colour == in_training.colour != white.colour
    assert task.line == tuned.line != white.line
    assert task.marker == tuned.marker == white.marker != in_training.marker
    assert (task.fill, tuned.fill, in_training.fill) == ("full", "open", "full")
    assert (white.colour, white.line) == VALUES[0]  # the default's
    assert of[named(curves, "small 8")][:2] == SmallSpec.style


def test_the_legend_has_an_entry_for_each_arm_weighting_and_filling(curves):
    figure = metric_against_state_dim(curves)
    texts = [text.get_text() for one in figure.legends for text in one.get_texts()]
    assert texts == [
        "full size", "in-training truncation", "train, then compress", "small from scratch",
        "gramians white", "gramians horizon", "gramians signal", "gramians task", "tuned",
    ]  # fmt: skip


def test_a_line_joins_the_sizes_of_each_method(curves):
    (axes,) = metric_against_state_dim(curves).axes
    joined = [
        line for line in axes.lines if len(line.get_xdata()) > 2 and line.get_marker() == "None"
    ]
    assert len(joined) == 1 + 2 * len(GRAMIANS)  # small, and each weighting cut and tuned
    white = curves[curves.label.str.startswith("post_hoc white")].metric_mean * 100
    assert any(
        line.get_xdata() == pytest.approx(SIZES) and line.get_ydata() == pytest.approx(white)
        for line in joined
    )
    widths = {line.get_color(): line.get_linewidth() for line in joined}
    assert widths.pop(SmallSpec.style.colour) > max(widths.values())
    (full,) = [line for line in axes.lines if len(set(line.get_ydata())) == 1
               and list(line.get_xdata()) == [0, 1]]  # fmt: skip
    full_size = curves[curves.arm == "full"].metric_mean.iloc[0] * 100
    assert full.get_ydata()[0] == pytest.approx(full_size)


def test_curves_do_not_hide_each_other_and_keep_their_place(curves):
    """Each curve has a shift of its own, the same at every size, on the screen alone."""
    figure = metric_against_state_dim(curves)
    figure.canvas.draw()
    (axes,) = figure.axes
    markers = [line.lines[0] for line in axes.containers]
    at = {8: [], 16: []}
    for marker in markers:
        x = float(marker.get_xdata()[0])
        if x in at:
            centre = axes.transData.transform((x, 0))[0]
            at[x].append(marker.get_transform().transform(marker.get_xydata())[0][0] - centre)
    for shifts in at.values():
        assert len(set(np.round(shifts, 3))) == len(shifts)
    assert set(np.round(at[16], 3)) < set(np.round(at[8], 3))  # in training is at 8 alone


def test_the_ticks_are_the_sizes(curves):
    (axes,) = metric_against_state_dim(curves).axes
    assert list(axes.get_xticks()) == [*SIZES, 64]
    assert list(metric_against_cost(curves).axes[0].get_xticks()) != [*SIZES, 64]


@pytest.mark.parametrize(
    "change",
    [
        {"gramians": ("white",)},  # one weighting: curves of small, cut and tuned
        {"sizes": SIZES[:2]},  # too few sizes for a curve
    ],
)
def test_too_few_sizes_make_no_curve_and_one_weighting_no_colour(trial, change):
    comparison = rows_of(trial, **change)
    found = looks(comparison)
    assert_told_apart(comparison)
    if change.get("sizes"):
        assert not found.curves
        assert found.of[named(comparison, "small 8")].colour == SmallSpec.style.colour
    else:  # fine-tuning does
        assert found.curves
        assert any("finetune_share" in name for name in found.rest)


def test_more_values_than_colours_get_a_look_each(trial):
    many = tuple(f"weighting{k}" for k in range(len(VALUES) + 1))
    comparison = rows_of(trial, gramians=many)
    found = looks(comparison)
    assert telling_fields(comparison, len(VALUES), len(FILLS)) is None
    assert_told_apart(comparison)
    assert len(found.rest) == 3 * len(many)  # cut, tuned, in training


def assert_told_apart(comparison):
    """Rows of one arm look the same exactly if they are of one variant."""
    of = looks(comparison).of
    for one, other in combinations(comparison.index, 2):
        if comparison.arm[one] == comparison.arm[other]:
            same = comparison.variant.fillna("")[[one, other]].nunique() == 1
            assert (of[one] == of[other]) == same


def scattered(trial, rows):
    """A comparison of full size, small from scratch and these (arm, label, fields), at 8 states."""
    made = [("full", "full", {}), ("small", "small 8", {}), *rows]
    return compare(
        pd.DataFrame(
            trial(arm, seed, 0.5 + number / 100, label=label, dim=64.0 if arm == "full" else 8.0)
            | {f"spec.arm.{name}": value for name, value in said.items()}
            for number, (arm, label, said) in enumerate(made)
            for seed in (0, 1)
        )
    )


def refits():
    """Three weightings and two other methods, each with and without a refit."""
    ways = {one: {"method": "balanced", "gramians": one} for one in ("white", "signal", "task")}
    ways |= {one: {"method": one, "gramians": "white"} for one in ("last", "aire")}
    for name, way in ways.items():
        yield "post_hoc", f"{name} 8", way | {"refit": "none"}
        yield "post_hoc", f"{name} 8, C refitted", way | {"refit": "C"}


def test_scattered_rows_are_told_apart_by_the_fields_that_say_it_shortest(trial):
    comparison = scattered(trial, refits())
    found = looks(comparison)
    assert not found.curves
    assert_told_apart(comparison)
    assert list(found.rest) == ["white", "signal", "task", "last", "aire", "C refitted"]
    assert all(look.marker for look in found.rest.values())  # no line shows a colour
    for name in ("white", "task", "aire"):
        plain, refitted = (
            found.of[named(comparison, label)] for label in (f"{name} 8", f"{name} 8, C refitted")
        )
        assert plain.colour == refitted.colour
        assert (plain.fill, refitted.fill) == ("full", "open")
    assert found.of[named(comparison, "small 8")].colour == SmallSpec.style.colour


def test_no_entry_names_what_is_not_set():
    assert said_as((("gramians", "white"), ("controllability", None))) == "gramians white"
    assert said_as((("state_dims", None),)) == "state_dims None"


def test_a_weighting_has_its_colour_in_every_figure(trial, curves):
    scatter, whole = scattered(trial, refits()), looks(curves).of
    for one in ("white", "signal", "task"):
        here = looks(scatter).of[named(scatter, f"{one} 8")]
        there = whole[named(curves, f"post_hoc {one} 8")]
        assert (here.colour, here.line) == (there.colour, there.line)


def test_numbers_are_shades_from_dark_to_light(trial):
    numbers = (512, 8, 64, 16, 128, 256, 32)
    rows = [("post_hoc", f"{n} examples", {"calibration": n}) for n in numbers]
    comparison = scattered(trial, rows)
    found = looks(comparison)
    assert list(found.rest) == [f"calibration {n}" for n in sorted(numbers)]
    light = [
        np.dot(to_rgb(found.rest[f"calibration {n}"].colour), (0.2126, 0.7152, 0.0722))
        for n in sorted(numbers)
    ]
    assert (np.diff(light) > 0.03).all()
    assert_told_apart(comparison)


def test_more_variants_than_colours_and_fillings_still_differ(trial):
    rows = [
        ("post_hoc", f"{method} {keep} {n}", {"method": method, "scope": keep, "calibration": n})
        for method in "abcde"
        for keep in "xyz"
        for n in range(3)
    ]
    assert len(rows) > len(VALUES) * len(FILLS)
    assert_told_apart(scattered(trial, rows))


def test_every_row_keeps_the_colour_of_its_arm_where_it_is_named(trial):
    comparison = scattered(trial, refits())
    styles = styles_of(comparison)
    for index, look in by_arm(comparison).items():
        assert look[:2] == styles[comparison.arm[index]]


def test_names_too_long_for_a_column_get_more_room(trial):
    rows = [("post_hoc", f"a name of very many letters, number {k}", {"calibration": 8 * k})
            for k in range(1, 10)]  # fmt: skip
    figure = metric_against_state_dim(scattered(trial, rows))
    figure.canvas.draw()
    for one in figure.legends:
        assert one.get_window_extent().x1 <= figure.bbox.x1


def test_colours_differ_in_print():
    """Each pair differs in luminance by a tenth or in its dashes."""
    for (one, dashes), (other, others) in combinations(VALUES, 2):
        light = [np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)) for colour in (one, other)]
        assert abs(light[0] - light[1]) > 0.1 or dashes != others


def test_sentences_count_each_method_by_itself(curves):
    text = "\n".join(says(curves))
    assert "3 rows of train, then compress, gramians task against" in text
    assert "3 rows of train, then compress, finetune_share 0.1, gramians task against" in text
    assert "4 rows of in-training truncation against" in text
