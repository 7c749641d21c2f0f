"""The figure with a line for each row, of comparisons too crowded for points with names."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.report import figures
from harness.report.comparison.compare import compare
from harness.report.forest import every_row
from harness.report.looks import looks
from harness.report.presentation import CROWDED
from harness.report.sentences import says


@pytest.fixture
def crowded(trial) -> pd.DataFrame:
    """Full size and CROWDED variants, the k-th at 0.5 + k / 100, each over seeds 0 and 1."""
    rows = [trial("full", seed, 0.9 + 0.02 * seed, dim=64.0) for seed in (0, 1)]
    for k in range(CROWDED):
        for seed in (0, 1):
            value = 0.5 + k / 100 + 0.02 * seed
            rows.append(trial("in_training", seed, value, label=f"variant {k}"))
    return compare(pd.DataFrame(rows))


def test_only_a_crowded_comparison_has_it(crowded):
    few = crowded.iloc[:CROWDED]
    assert every_row(few, looks(few).of) is None
    assert set(figures.draw(few)) == {"state_dim.png", "state_dim.svg", "cost.png", "cost.svg"}
    assert {"rows.png", "rows.svg"} <= set(figures.draw(crowded))


def test_every_row_has_its_line_in_the_order_of_the_table(crowded):
    (axes,) = every_row(crowded, looks(crowded).of).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(crowded.label)
    asides = [text.get_text() for text in axes.texts]
    assert len(asides) == len(crowded)
    assert all("states" in aside and "FLOPs" in aside for aside in asides)
    dots = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    found = {int(line.get_ydata()[0]): float(line.get_xdata()[0]) for line in dots}
    expected = (crowded.metric_mean * 100).reset_index(drop=True).to_dict()
    assert found == pytest.approx(expected)
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line not in dots]
    assert len(bars) == len(crowded) + 1  # and the line of full size
    assert axes.yaxis_inverted()


def test_it_is_the_same_file_for_the_same_comparison(crowded):
    assert figures.draw(crowded)["rows.svg"] == figures.draw(crowded)["rows.svg"]


def test_many_rows_are_counted_in_sentences_and_the_best_is_called_flattering(trial):
    """Small at 0.6; of 12 variants over 3 seeds the first 4 are worse, the last 4 better."""
    rows = [trial("full", seed, 0.9 + 0.01 * seed, dim=64.0) for seed in range(3)]
    rows += [trial("small", seed, 0.6 + 0.01 * seed) for seed in range(3)]
    for k in range(12):
        shift = (-0.1, 0.0, 0.1)[k // 4] + 0.001 * k
        noise = (0.0, 0.05, -0.05) if k // 4 == 1 else (0.0, 0.002, -0.002)
        for seed in range(3):
            value = 0.6 + 0.01 * seed + shift + noise[seed]
            rows.append(trial("in_training", seed, value, label=f"variant {k}"))
    said = says(compare(pd.DataFrame(rows)))
    assert said[0] == (
        "digits: 12 rows of in-training truncation against small from scratch of their size: "
        "4 better, 4 undecided, 4 worse."
    )
    assert "variant 11 has the best mean at 8 states per block" in said[1]
    assert "of 13 rows; the best of so many is biased upwards" in said[1]
