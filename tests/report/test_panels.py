"""A figure of very many comparisons shows the first, and says so: no image has room for all."""

import pandas as pd
import pytest

from harness.records.schemas import SCHEMAS
from harness.report import figures, forest
from harness.report.comparison.compare import compare
from harness.report.figures import metric_against_cost, metric_against_state_dim
from harness.report.forest import every_row
from harness.report.looks import looks
from harness.report.panels import MOST_PANELS
from harness.report.presentation import CROWDED
from harness.report.ranks import rank_figure

DRAW = {
    "state_dim": metric_against_state_dim,
    "cost": metric_against_cost,
    "rows": lambda comparison: every_row(comparison, looks(comparison).of),
}


def comparisons(trial, count, rows):
    """`count` comparisons of full size and `rows` variants."""
    found = []
    for k in range(count):
        found.append(trial("full", 0, 0.9, dim=64.0, comparison=f"c{k}"))
        for j in range(rows):
            found.append(
                trial("in_training", 0, 0.5 + j / 100, label=f"variant {j}", comparison=f"c{k}")
            )
    return compare(pd.DataFrame(found))


def said(figure):
    return getattr(figure, "_supxlabel", None) and figure.get_supxlabel()


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_more_than_a_figure_shows(trial, monkeypatch, name, most):
    for module in ("figures", "forest"):
        monkeypatch.setattr(f"harness.report.{module}.MOST_PANELS", most)
    figure = DRAW[name](comparisons(trial, 3, CROWDED))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles == [f"digits, c{k}" for k in range(most)]
    rest = f"the first {most} of 3 comparisons; the tables have all" if most < 3 else None
    assert said(figure) == rest


def test_a_figure_with_a_line_for_each_row_has_a_bound_on_lines(trial, monkeypatch):
    monkeypatch.setattr("harness.report.forest.MOST_LINES", 2 * CROWDED + 3)
    comparison = comparisons(trial, 3, CROWDED)
    assert len(DRAW["rows"](comparison).axes) == 2
    monkeypatch.setattr("harness.report.forest.MOST_LINES", 1)
    assert len(DRAW["rows"](comparison).axes) == 1


def test_panels_of_ranks_too(trial, monkeypatch):
    monkeypatch.setattr(rank_figure, "MOST_PANELS", 2)
    rows = pd.DataFrame(
        [
            {"comparison": f"c{k}", "task": "digits", "model": "lru", "label": "full",
             "role": "full", "seed": 0, "begin": 0, "end": 20, "step": step, "at": step / 20,
             "spearman": 1.0, "overlap": 1.0, "outside": 0.0}
            for k in range(3) for step in (0, 10, 20)
        ]
    )  # fmt: skip
    trials = pd.DataFrame([trial("full", 0, 0.9, comparison=f"c{k}") for k in range(3)])
    trials["spec.training.steps"] = 20
    figure = rank_figure._figure(rows, trials, SCHEMAS["spectra"].empty_table())
    assert len(figure.axes) == 2 * 3
    assert said(figure) == "the first 2 of 3 comparisons; the tables have all"


def test_the_highest_figure_fits_into_an_image():
    """Matplotlib refuses images of 2^16 lines and more."""
    highest = max(figures.CURVES_HEIGHT, figures.PANEL_HEIGHT, rank_figure.PANEL_HEIGHT)
    lines = (highest * MOST_PANELS + 3) * figures.DPI
    assert lines < 2**16
    rows = (forest.LINE * forest.MOST_LINES + forest.AROUND * MOST_PANELS) * figures.DPI
    assert rows < 2**16
