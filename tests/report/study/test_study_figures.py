import io
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from harness.report.study.answer import recommend, summarise
from harness.report.study.importance import Importance
from harness.report.study.over_time import over_time
from harness.report.study.pareto import pareto
from harness.report.study.study_figures import draw, importance_bars
from harness.report.study.timing_map import timing_map
from harness.report.style import CANDIDATE, PAPER, described, finalist_colours
from tests.report.study.study_cases import (
    a_record,
    confirmation,
    over_training,
    pairs,
    searched,
    ways,
)

NOTHING = Importance(None, "3 complete candidates are too few; 8 are needed", 3)
BARS = Importance(
    pd.DataFrame(
        [(target, knob, value, value - 0.1, value + 0.3)
         for target in ("metric", "cost") for knob, value in (("start", 0.6), ("tau", 0.2))],
        columns=["target", "knob", "value", "low", "high"],
    ),
    None,
    9,
)  # fmt: skip
SETTINGS = {"paper": (0.0, 0.1, 4, 0.05), "c2": (0.2, 0.4, 3, 0.06), "c5": (0.3, 0.5, 5, 0.1)}


@pytest.fixture(scope="module")
def finished():
    trials = confirmation(ways(SETTINGS), seeds=3)
    found = recommend(trials, "constrained", 0.03, list(SETTINGS))
    return a_record("constrained", "done", [2, 5], found), trials, *over_training(trials)


def offsets(axes):
    return [c.get_offsets() for c in axes.collections if len(c.get_offsets()) and c.get_paths()]


def legend(figure_or_axes):
    found = getattr(figure_or_axes, "legend_", None) or figure_or_axes.legends[0]
    return [text.get_text() for text in found.get_texts()]


def test_files_are_pictures_with_something_on_them(finished):
    record, trials, curves, truncations = finished
    files = draw(record, summarise(searched(20)), BARS, trials, curves, truncations)
    names = ("pareto", "map", "importance", "over_time")
    assert sorted(files) == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    for name in names:
        pixels = matplotlib.image.imread(io.BytesIO(files[f"{name}.png"]))
        assert pixels.shape[1] > 1100
        assert 0.01 < (pixels[..., :3].min(axis=2) < 0.9).mean() < 0.5
        text = files[f"{name}.svg"].decode()
        ET.fromstring(text)
        assert "<dc:date>" not in text


def test_the_same_study_gives_the_same_bytes(finished):
    record, trials, curves, truncations = finished
    once, twice = (
        draw(record, summarise(searched(12)), NOTHING, trials, curves, truncations)
        for _ in range(2)
    )
    assert once == twice


@pytest.mark.parametrize("state", ["running", "failed"])
def test_a_study_at_its_beginning_draws_empty_panels(state):
    table = searched(3).assign(state=state)
    for summary in (summarise(table), summarise(table.iloc[:0])):
        files = draw(a_record(), summary, NOTHING, None, None, None)
        assert sorted(files)[-1] == "pareto.svg"
        # Text in an svg is drawn as glyphs under a comment that holds it.
        assert b"no candidate has finished yet" in files["pareto.svg"]


def test_candidates_stand_at_full_plus_their_difference_whatever_their_seeds():
    table = pairs((-0.01, 0.5), (-0.02, 0.25), {"difference": -0.05, "cost": 0.2,
                  "state": "stopped"})  # fmt: skip
    table = table[(table.number != 2) | (table.seed == 2)]  # full has 0.92 there, 0.91 on average
    axes = pareto(summarise(table), 0.015, [], None).axes[0]
    stopped, complete = offsets(axes)
    assert np.allclose(stopped, [(0.2, 86.0)])
    assert np.allclose(complete, [(0.5, 90.0), (0.25, 89.0)])
    assert legend(axes) == [
        "stopped: first seeds only", "candidate, all seeds", "front of the search", "full size",
        "margin: 1.5 points from full",
    ]  # fmt: skip


def test_the_margin_lies_on_the_worse_side():
    for higher, level in ((True, 89.5), (False, 92.5)):
        table = pairs((0.0, 0.5)).assign(higher_is_better=higher)
        axes = pareto(summarise(table), 0.015, [], None).axes[0]
        line = next(line for line in axes.lines if str(line.get_label()).startswith("margin"))
        assert line.get_ydata()[0] == pytest.approx(level)


def test_the_front_steps_through_its_candidates_only():
    table = pairs((-0.01, 0.5), (-0.02, 0.25), (-0.03, 0.4))
    axes = pareto(summarise(table), None, [], None).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "front of the search")
    assert np.allclose(line.get_xydata(), [(0.25, 89.0), (0.5, 90.0)])
    assert line.get_drawstyle() == "steps-post"


def test_fresh_seeds_stand_beside_the_search_with_their_intervals(finished):
    record = finished[0]
    summary = summarise(searched(8, stopped=False))
    axes = pareto(summary, 0.03, [2, 5], record["recommendation"]).axes[0]
    full = float(summary[summary.state == "complete"].full_mean.mean())
    points = {tuple(np.round(line.get_xydata()[0], 4)) for line in axes.lines
              if line.get_marker() == "D" and len(line.get_xydata())}  # fmt: skip
    rows = record["recommendation"]["rows"]
    assert points == {
        (round(row["cost"], 4), round(100 * (full + row["difference"]), 4)) for row in rows
    }
    assert {text.get_text() for text in axes.texts} >= set(SETTINGS)
    ties = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert len(ties) == 2  # the paper's row is of no candidate


def test_names_do_not_lie_on_each_other(finished):
    axes = pareto(summarise(searched(40)), 0.03, [2, 5], finished[0]["recommendation"]).axes[0]
    axes.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text() in SETTINGS]
    assert len(boxes) == 3
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_names_of_one_point_are_set_apart():
    axes = pareto(summarise(pairs((-0.01, 0.5), (-0.01, 0.5))), None, [0, 1], None).axes[0]
    axes.figure.canvas.draw()
    one, other = (text.get_window_extent() for text in axes.texts)
    assert not one.overlaps(other)


def test_a_far_outlier_is_counted_and_does_not_squeeze_the_rest():
    table = pairs(*[(-0.01 - 0.001 * i, 0.3 + 0.05 * i) for i in range(8)], (-0.7, 0.2))
    axes = pareto(summarise(table), None, [], None).axes[0]
    low, high = axes.get_ylim()
    assert high - low < 5
    assert "1 more outside the frame" in {text.get_text() for text in axes.texts}


def test_the_papers_window_is_marked():
    axes = pareto(summarise(searched(6)), None, [], None).axes[0]
    colours = [matplotlib.colors.to_hex(c.get_facecolors()[0]) for c in axes.collections]
    assert PAPER.lower() in colours
    assert CANDIDATE.lower() in colours
    assert "the paper's window" in legend(axes)


def test_the_map_has_every_candidate_in_both_panels_by_its_value():
    table = pairs({"difference": -0.02, "tau": 0.01, "cost": 0.3}, {"tau": 0.1, "end": 0.5},
                  {"state": "stopped", "tau": 0.05})  # fmt: skip
    figure = timing_map(summarise(table), [1], log_tau=True)
    loss, cost = figure.axes[:2]
    values = {}
    for axes in (loss, cost):
        stopped, complete, ring = offsets(axes)
        assert np.allclose(stopped, [(2, 0.05)])
        assert {tuple(p) for p in complete.round(6)} == {(0, 0.01), (1, 0.1)}
        assert np.allclose(ring, [(1, 0.1)])
        assert axes.get_yscale() == "log"
        assert [text.get_text() for text in axes.texts] == ["c1"]
        values[axes] = sorted(axes.collections[1].get_array())
    assert values[loss] == pytest.approx([-2.0, 0.0])
    assert values[cost] == pytest.approx([0.3, 0.5])
    sizes = loss.collections[1].get_sizes()
    assert sizes.max() > 3 * sizes.min()
    assert legend(figure)[-1] == "dark edge: stopped, first seeds only"
    assert timing_map(summarise(table), [], log_tau=False).axes[0].get_yscale() == "linear"


def test_colours_stop_short_of_far_outliers_and_say_so():
    rows = [{"difference": -0.01 - 0.001 * i} for i in range(12)] + [{"difference": -0.8}]
    figure = timing_map(summarise(pairs(*rows)), [], log_tau=True)
    low, high = figure.axes[0].collections[1].get_clim()
    assert -10 < low < high <= -1.0
    assert figure.axes[0].collections[1].colorbar.extend == "min"


def test_bars_and_whiskers_are_those_of_the_table():
    metric = importance_bars(BARS).axes[0]
    widths = [bar.get_width() for bar in metric.patches]
    assert widths == pytest.approx([20, 60])  # from below
    (whiskers,) = metric.collections
    ends = [sorted(float(x) for x in segment[:, 0]) for segment in whiskers.get_segments()]
    assert np.allclose(ends, [(10, 50), (50, 90)])
    assert [text.get_text() for text in metric.get_yticklabels()] == ["tau", "start"]
    empty = importance_bars(NOTHING)
    assert [axes.texts[0].get_text() for axes in empty.axes] == [NOTHING.reason] * 2
    still = Importance(BARS.table.assign(value=np.nan), None, 9)
    assert importance_bars(still).axes[1].texts[0].get_text() == "does not vary"


def test_over_time_has_means_bands_and_sizes(finished):
    _, trials, curves, truncations = finished
    figure = over_time(trials, curves, truncations, list(SETTINGS))
    above, late, below, names = figure.axes
    assert [text.get_text() for text in names.legend_.get_texts()] == [
        "full size", "paper: 4 × tau 0.05, 0 to 10 %", "c2: 3 × tau 0.06, 20 to 40 %",
        "c5: 5 × tau 0.1, 30 to 50 %",
    ]  # fmt: skip
    ids = trials[trials.label == "c2"].trial_id
    end = curves[curves.trial_id.isin(ids) & (curves.metric == "accuracy") & (curves.step == 1500)]
    for axes in (above, late):
        assert axes.lines[2].get_ydata()[-1] == pytest.approx(100 * end.value.mean())
        band = axes.collections[2].get_paths()[0].vertices
        at_end = band[np.isclose(band[:, 0], 100), 1]
        assert (at_end.min(), at_end.max()) == pytest.approx(
            (100 * end.value.min(), 100 * end.value.max())
        )
    assert late.lines[0].get_xdata().min() == 70
    x, y = below.lines[2].get_data()
    assert (y[0], y[-1]) == (64, trials[trials.label == "c2"].state_dims.iloc[0][0])
    # Events come at 26.7, 33.3 and 40 % of training.
    assert np.allclose(x, [0, 100 * 400 / 1500, 100 * 500 / 1500, 40, 100])
    assert list(below.lines[0].get_ydata()) == [64, 64]


def test_the_state_dimension_is_the_mean_over_blocks_truncated_or_not(finished):
    _, trials, curves, truncations = finished
    trials = trials.assign(state_dims=[[8, 64]] * len(trials))
    below = over_time(trials, curves, truncations, ["c2"]).axes[2]
    last = truncations[truncations.trial_id == "c2/0"].sort_values("step").dim_after.iloc[-1]
    assert below.lines[1].get_ydata()[-1] == pytest.approx((64 + last) / 2)


def test_the_state_dimension_of_a_stack_is_the_mean_order_of_its_systems(finished):
    """Padded to its largest order, a block of 8, 2 and 2 states has 4 on average."""
    _, trials, curves, truncations = finished
    orders = [[int(n), 2, 2] for n in truncations.dim_after]
    ragged = truncations.assign(orders_after=orders)
    below = over_time(trials, curves, ragged, ["c2"]).axes[2]
    last = truncations[truncations.trial_id == "c2/0"].sort_values("step").dim_after.iloc[-1]
    assert (below.lines[1].get_ydata()[0], below.lines[1].get_ydata()[-1]) == (
        64,
        pytest.approx((last + 4) / 3),
    )


def test_of_two_values_at_a_step_the_later_counts(finished):
    _, trials, curves, truncations = finished
    ends = curves[curves.step == 1500]
    twice = pd.concat([curves[curves.step < 1500], ends.assign(value=0.1), ends])
    once, again = (
        over_time(trials, table, truncations, ["c2"]).axes[0].lines[1].get_ydata()
        for table in (curves, twice)
    )
    assert np.array_equal(once, again)


def test_only_validation_counts_at_steps_that_every_seed_has(finished):
    _, trials, curves, truncations = finished
    train = curves.assign(split="train", value=0.1)
    gap = (curves.trial_id == "c2/1") & (curves.step == 1500)
    mixed = pd.concat([curves[~gap], train])
    line = over_time(trials, mixed, truncations, ["c2"]).axes[0].lines[1]
    whole = over_time(trials, curves, truncations, ["c2"]).axes[0].lines[1]
    assert np.allclose(line.get_xydata(), whole.get_xydata()[:-1])


def test_a_diverged_seed_is_in_no_curve(finished):
    _, trials, curves, truncations = finished
    broken = trials.copy()
    broken.loc[broken.trial_id == "c2/1", "status"] = "diverged"
    curves = curves.copy()
    curves.loc[curves.trial_id == "c2/1", "value"] = np.nan
    line = over_time(broken, curves, truncations, ["c2"]).axes[0].lines[1]
    assert np.isfinite(line.get_ydata()).all()
    gone = trials.assign(status="diverged")
    assert over_time(gone, curves, truncations, ["c2"]).axes[0].texts


def test_settings_in_a_few_words():
    setting = {"start": 0.07, "end": 0.29, "count": 4.0, "tau": 0.05}
    assert described(setting) == "4 × tau 0.05, 7 to 29 %"
    assert described({**setting, "options": '{"moments": "reset"}'}).endswith("%, moments reset")
    assert described({"start": 0.1}) == ""
    looks = finalist_colours(["paper", "c1", "c2"])
    assert looks["paper"] == PAPER
    assert len(set(looks.values())) == 3
