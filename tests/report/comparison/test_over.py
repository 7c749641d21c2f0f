import io
import json

import pandas as pd
import pytest

from harness.report.comparison.over import COLUMNS, over
from harness.report.over_table import FORMATS, render_over

SEEDS = range(3)


def rows_of(trial, task="digits", comparison=None, **changes):
    """White 0.50, 0.60, 0.70 and task 0.60, 0.80, 0.75 at 4 states; both 0.9 at 8; one tuned."""
    made = {
        ("full", "full"): ([0.95, 0.95, 0.95], {}),
        ("post_hoc", "white 4"): ([0.50, 0.60, 0.70], {"gramians": "white", "state_dims": "[4]"}),
        ("post_hoc", "task 4"): ([0.60, 0.80, 0.75], {"gramians": "task", "state_dims": "[4]"}),
        ("post_hoc", "white 8"): ([0.90, 0.90, 0.90], {"gramians": "white", "state_dims": "[8]"}),
        ("post_hoc", "task 8"): ([0.90, 0.91, 0.92], {"gramians": "task", "state_dims": "[8]"}),
        ("post_hoc", "tuned task 4"): (
            [0.90, 0.90, 0.90],
            {"gramians": "task", "state_dims": "[4]", "finetune_share": 0.1},
        ),
        ("in_training", "in training"): ([0.8, 0.8, 0.8], {"gramians": "white"}),
    }
    prefix = f"{comparison}: " if comparison else ""
    return pd.DataFrame(
        [
            trial(
                kind, seed, values[seed], label=prefix + label, task=task, comparison=comparison,
                flops_method=100.0 if "white" in label else 110.0, **changes,
            )
            | {f"spec.arm.{name}": value for name, value in said.items()}
            for (kind, label), (values, said) in made.items()
            for seed in SEEDS
        ]
    )  # fmt: skip


def test_rows_that_differ_in_that_field_alone_are_paired_by_seed(trial):
    """0.10, 0.20, 0.05: mean 0.11667, sd 0.076376, so 4.3027 * 0.076376 / sqrt(3) = 0.18973."""
    found = over(rows_of(trial), "gramians=white")
    assert list(found.columns) == list(COLUMNS)
    assert list(zip(found.label, found.over, strict=True)) == [
        ("task 4", "white 4"), ("task 8", "white 8"),
    ]  # fmt: skip
    first = found.iloc[0]
    assert first.difference == pytest.approx(0.35 / 3)
    assert first.difference_high - first.difference == pytest.approx(0.18973, abs=1e-5)
    assert first.difference - first.difference_low == pytest.approx(0.18973, abs=1e-5)
    assert (first.seeds, first.relative_flops) == (3, pytest.approx(1.1))


def test_a_value_may_be_a_number_or_none(trial):
    rows = rows_of(trial)
    (found,) = over(rows, "finetune_share=none").to_dict("records")
    assert (found["label"], found["over"]) == ("tuned task 4", "task 4")
    (found,) = over(rows, "finetune_share=0.1").to_dict("records")
    assert (found["label"], found["over"]) == ("task 4", "tuned task 4")


def test_positive_is_better_where_lower_is_better(trial):
    rows = rows_of(trial, metric="bits_per_byte", higher_is_better=False)
    assert over(rows, "gramians=white").difference.iloc[0] == pytest.approx(-0.35 / 3)


def test_a_label_measures_every_row_of_its_comparison(trial):
    found = over(rows_of(trial), "white 4").set_index("label")
    assert list(found.over.unique()) == ["white 4"]
    assert set(found.index) == {"full", "task 4", "white 8", "task 8", "tuned task 4",
                                "in training"}  # fmt: skip
    assert found.difference["full"] == pytest.approx(0.35)


@pytest.mark.parametrize("baseline", ["white 4", "gramians=white"])
def test_rows_of_other_comparisons_are_no_baseline(trial, baseline):
    long, short = (rows_of(trial, comparison=name) for name in ("long", "short"))
    short["test_metric"] -= 0.3
    both = over(pd.concat([long, short]), baseline)
    alone = over(long, baseline)
    for name in ("long", "short"):
        ours = both[both.comparison == name]
        assert set(ours.over.str.split(":").str[0]) == {name}
        assert list(ours.difference) == pytest.approx(list(alone.difference))


def test_only_seeds_that_both_finished_count_and_a_diverged_one_takes_the_interval(trial):
    rows = rows_of(trial)
    first = over(rows.drop(rows[(rows.label == "white 4") & (rows.seed == 2)].index),
                 "gramians=white").iloc[0]  # fmt: skip
    assert (first.seeds, first.difference) == (2, pytest.approx(0.15))
    rows.loc[(rows.label == "white 4") & (rows.seed == 2), "status"] = "diverged"
    first = over(rows, "gramians=white").iloc[0]
    assert first.seeds == 2
    assert pd.isna(first.difference_low)


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        ("nothing", "no row is called 'nothing'; use FIELD=VALUE or one of full, white 4"),
        ("gramian=white", "no row is called 'gramian=white', and no two rows differ in that field"),
        ("gramians=horizon", "no row is called 'gramians=horizon', and no two rows differ"),
        ("", "no row is called ''"),
    ],
)
def test_an_unknown_baseline_is_refused(trial, baseline, said):
    with pytest.raises(ValueError, match=said):
        over(rows_of(trial), baseline)


def test_every_format_shows_it(trial):
    found = over(rows_of(trial), "gramians=white")
    assert "+11.7 ± 19.0" in render_over(found, "text")
    assert "| task 4 | white 4 | 8 | 3 | 1.10× | +11.7 ± 19.0 |" in render_over(found, "md")
    read = pd.read_csv(io.StringIO(render_over(found, "csv")))
    assert list(read.columns) == list(COLUMNS)
    assert read.difference.iloc[0] == pytest.approx(0.35 / 3)
    rows = json.loads(render_over(found, "json"))["rows"]
    assert [row["label"] for row in rows] == ["task 4", "task 8"]
    with pytest.raises(ValueError, match="unknown format 'tex' for differences: use one of"):
        render_over(found, "tex")
    assert "tex" not in FORMATS
