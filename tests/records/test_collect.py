"""A suite's tables: one row per role, one copy of the curves, damage named."""

import json
import os

import pytest

from harness.planning.plan import Plan
from harness.records import schemas
from harness.records.collect import collect
from harness.records.files import TEMPORARY_PREFIX
from harness.suite import Comparison, FullSpec, Suite, TaskSpec, TrainingSpec


def entry(trial_id, label="full", role="full", matches=None):
    return {"trial_id": trial_id, "label": label, "role": role, "matches": matches,
            "task": "digits", "seed": 0}  # fmt: skip


def suite_table(store, name):
    return schemas.read_table(store.suite("demo").folder / f"{name}.parquet", name)


def test_one_row_per_role_one_copy_of_the_curves(store, ended, spec):
    ended(store, "aa")
    ended(store, "bb", seed=1)
    plan = {
        "trials": [
            entry("aa"),
            entry("aa", label="small", role="small", matches="in_training"),
            entry("bb"),
            entry("cc"),  # not run yet
        ]
    }
    collect(store, "demo", plan)
    rows = suite_table(store, "trials").to_pylist()
    assert [(row["trial_id"], row["role"], row["matches"]) for row in rows] == [
        ("aa", "full", None),
        ("aa", "small", "in_training"),
        ("bb", "full", None),
    ]
    assert [row["seed"] for row in rows] == [0, 0, 1]
    assert rows[0]["energy_joules"] is None
    assert json.loads(rows[0]["spec_json"]) == spec
    assert rows[2]["spec.seed"] == 1
    curves = suite_table(store, "curves")
    assert curves["trial_id"].to_pylist() == ["aa"] * 3 + ["bb"] * 3
    assert set(json.loads(curves.schema.metadata[b"specs"])) == {"aa", "bb"}
    assert suite_table(store, "spectra").num_rows == 0


def test_a_row_knows_its_comparison(store, ended):
    """From the suite through the plan to the table; plans from before it leave it null."""
    full = FullSpec(kind="full")
    comparisons = [
        Comparison(name=name, task=TaskSpec(name="digits"), arms={"full": full},
                   training=TrainingSpec(steps=steps))
        for name, steps in (("", 400), ("short", 40))
    ]  # fmt: skip
    plan = Plan(Suite(name="demo", comparisons=comparisons), store).record()
    for one in plan["trials"]:
        ended(store, one["trial_id"])
    collect(store, "demo", plan)
    table = suite_table(store, "trials")
    names = table.column_names
    assert names[names.index("matches") + 1] == "comparison"
    assert table["label"].to_pylist() == ["full", "short: full"]
    assert table["comparison"].to_pylist() == ["digits", "short"]
    old = [{key: one[key] for key in one if key != "comparison"} for one in plan["trials"]]
    collect(store, "demo", {"trials": old})
    assert suite_table(store, "trials")["comparison"].to_pylist() == [None, None]


def test_a_suite_without_ended_trials_has_empty_tables(store):
    collect(store, "demo", {"trials": [entry("aa")]})
    assert suite_table(store, "trials").num_rows == 0
    assert "role" in suite_table(store, "trials").column_names


def test_mixed_data_is_refused(store, ended):
    ended(store, "aa")
    ended(store, "bb", seed=1, data_fingerprint="d2")
    with pytest.raises(ValueError, match="aa and bb saw different data") as caught:
        collect(store, "demo", {"trials": [entry("aa"), entry("bb", label="other")]})
    assert "\n" not in str(caught.value)
    assert not store.suite("demo").folder.exists()
    collect(store, "demo", {"trials": [entry("aa")]})


def test_a_checkpoint_that_was_left_behind_the_end_is_cleared_away(store, ended):
    """By a kill between the result and the removal; nobody claims an ended trial again."""
    trial = ended(store, "aa")
    trial.save_checkpoint({}, {})
    collect(store, "demo", {"trials": [entry("aa")]})
    assert not (trial.path / "checkpoint").exists()


def test_temporary_files_that_nobody_writes_any_more_are_cleared_away(store, ended):
    ended(store, "aa")
    collect(store, "demo", {"trials": [entry("aa")]})
    fresh, stale = (store.suite("demo").folder / f"{TEMPORARY_PREFIX}{i}" for i in range(2))
    fresh.touch()
    stale.touch()
    os.utime(stale, (0, 0))
    collect(store, "demo", {"trials": [entry("aa")]})
    assert (fresh.exists(), stale.exists()) == (True, False)
