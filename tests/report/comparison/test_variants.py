import json

import pandas as pd
import pytest

from harness.report.comparison.compare import compare
from harness.report.comparison.variants import fields


@pytest.fixture
def variants_of(trial):
    """The variant of each row, from its arm and the fields of its spec."""

    def found(rows: dict, **changes) -> dict:
        trials = [
            trial(kind, seed, 0.8, label=label, **changes)
            | {f"spec.arm.{name}": value for name, value in said.items()}
            for label, (kind, said) in rows.items()
            for seed in (0, 1)
        ]
        made = compare(pd.DataFrame(trials)).set_index("label").variant
        return {label: fields(made[label]) for label in rows}

    return found


def test_it_is_the_fields_in_which_rows_of_an_arm_differ(variants_of):
    found = variants_of(
        {
            "a": ("post_hoc", {"gramians": "white", "method": "balanced"}),
            "b": ("post_hoc", {"gramians": "task", "method": "balanced"}),
            "c": ("in_training", {"gramians": "signal", "keep": "largest"}),
            "full": ("full", {}),
        }
    )
    assert found == {"a": {"gramians": "white"}, "b": {"gramians": "task"}, "c": {}, "full": {}}


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        ("post_hoc", "state_dims", ("[4]", "[8]")),
        ("post_hoc", "tau", (0.1, 0.2)),
        ("post_hoc", "mean_dim", (4.0, 8.0)),
        ("post_hoc", "max_loss", (0.1, 0.2)),
        ("post_hoc", "to.tau", (0.1, 0.2)),
        ("small", "match", ("seed", "mean")),
        ("hankel_regularized", "tau", (0.1, 0.2)),
        ("in_training", "tau", (0.1, 0.2)),
        ("in_training", "final", (4, 8)),
        ("in_training", "fraction", (0.1, 0.2)),
    ],
)
def test_size_alone_makes_no_variant(variants_of, kind, field, values):
    rows = {str(value): (kind, {field: value}) for value in values}
    assert all(variant == {} for variant in variants_of(rows).values())


def test_a_field_that_tells_nothing_more_is_left_out(variants_of):
    """The factor of the learning rate differs only with the share of steps, which comes first."""
    found = variants_of(
        {
            "cut": ("post_hoc", {"finetune_lr_factor": 0.1, "finetune_share": None}),
            "tuned": ("post_hoc", {"finetune_lr_factor": 1.0, "finetune_share": 0.1}),
        }
    )
    assert found == {"cut": {"finetune_share": None}, "tuned": {"finetune_share": 0.1}}


def test_a_field_younger_than_the_record_has_its_default(variants_of):
    found = variants_of({"old": ("post_hoc", {}), "new": ("post_hoc", {"gramians": "task"})})
    assert found == {"old": {"gramians": "white"}, "new": {"gramians": "task"}}


def test_whole_numbers_stay_whole_in_a_column_with_gaps(variants_of, trial):
    rows = {"one": ("in_training", {"count": 1}), "two": ("in_training", {"count": 2})}
    found = variants_of(rows | {"full": ("full", {})})
    assert json.dumps([found["one"], found["two"]]) == '[{"count": 1}, {"count": 2}]'


def test_rows_of_other_tasks_are_no_variants_of_each_other(trial):
    trials = [
        trial("post_hoc", 0, 0.8, task=task) | {"spec.arm.gramians": gramians}
        for task, gramians in (("digits", "white"), ("vowels", "task"))
    ]
    assert compare(pd.DataFrame(trials)).variant.isna().all()


def test_an_arm_whose_plug_in_is_missing_has_variants_too(variants_of):
    found = variants_of({"a": ("lost", {"knob": 1.0}), "b": ("lost", {"knob": 2.0})})
    assert found == {"a": {"knob": 1.0}, "b": {"knob": 2.0}}
