"""The mirror adds what is missing, once, and comes back whole after it is deleted."""

import shutil

import pytest

from harness.records.collect import collect
from harness.records.mirror.mirror import mirror
from harness.records.mirror.mirror_content import POINTS
from harness.records.store import Store

from .mirrored import runs_of

LAUNCH = {"id": "launch-1", "command": "harness run demo", "machine": {"cores": 2}}
TABLES = {"trials.parquet", "curves.parquet", "truncations.parquet", "spectra.parquet"}


def test_what_it_holds(recorded):
    store, _ = recorded
    mirror(store, "demo", LAUNCH)
    parents, children, count, client = runs_of(store)
    assert count == 3
    parent = parents["launch-1"]
    assert parent.data.params == {"command": "harness run demo", "machine.cores": "2"}
    child = children["aa"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["role"] == "full, small"
    assert child.data.params["model.state_dim"] == "64"
    assert child.data.metrics["test_metric"] == 0.95
    assert child.info.status == "FINISHED"
    curve = client.get_metric_history(child.info.run_id, "validation/accuracy")
    assert len(curve) == POINTS
    assert {0, 999} <= {point.step for point in curve}  # thinned, both ends kept
    assert len(client.get_metric_history(children["bb"].info.run_id, "validation/accuracy")) == 3
    names = {one.path for one in client.list_artifacts(parent.info.run_id)}
    assert TABLES | {"index.html", "figures"} <= names
    assert parent.info.artifact_uri.startswith((store.root / "mlartifacts").as_uri())


def test_again_adds_nothing_and_new_trials_are_added(recorded, ended):
    store, plan = recorded
    mirror(store, "demo", LAUNCH)
    before = {key: run.info.run_id for key, run in runs_of(store)[1].items()}
    mirror(store, "demo", LAUNCH)
    mirror(store, "demo", None)
    assert runs_of(store)[2] == 3
    ended(store, "cc", seed=2)
    entry = {"trial_id": "cc", "label": "full", "role": "full", "matches": None}
    collect(store, "demo", {"trials": [*plan["trials"], entry]})
    mirror(store, "demo", {"id": "launch-2"})
    parents, children, count, _ = runs_of(store)
    assert count == 5
    after = {key: run.info.run_id for key, run in children.items()}
    assert after == {**before, "cc": after["cc"]}
    second = parents["launch-2"].info.run_id
    assert children["cc"].data.tags["mlflow.parentRunId"] == second
    assert children["aa"].data.tags["mlflow.parentRunId"] == parents["launch-1"].info.run_id


def test_a_trial_that_ended_anew_or_was_cut_short_is_replaced(recorded, ended):
    store, plan = recorded
    mirror(store, "demo", LAUNCH)
    _, children, _, client = runs_of(store)
    store.trial("bb").wipe()
    ended(store, "bb", seed=1, test_metric=0.5)
    client.delete_tag(children["aa"].info.run_id, "harness.content")  # as if killed half-way
    collect(store, "demo", plan)
    mirror(store, "demo", None)
    _, after, count, _ = runs_of(store)
    assert count == 3
    assert after["bb"].data.metrics["test_metric"] == 0.5
    assert after["aa"].info.run_id != children["aa"].info.run_id


@pytest.mark.parametrize("artifacts", ["kept", "deleted"])
def test_a_deleted_mirror_comes_back(recorded, artifacts):
    store, _ = recorded
    mirror(store, "demo", LAUNCH)
    _, before, _, _ = runs_of(store)
    for path in store.root.glob("mlflow.db*"):
        path.unlink()
    if artifacts == "deleted":
        shutil.rmtree(store.root / "mlartifacts")
    mirror(store, "demo", None)
    assert (store.root / "mlflow.db").exists()  # MLflow may go on with a file that was deleted
    parents, after, count, client = runs_of(store)
    assert count == 3
    assert not {run.info.run_id for run in after.values()} & {
        r.info.run_id for r in before.values()
    }
    assert parents["launch-1"].data.params["command"] == "harness run demo"
    for key, run in before.items():
        assert after[key].data.metrics == run.data.metrics
        assert after[key].data.params == run.data.params
        assert after[key].info.end_time == run.info.end_time
    names = {one.path for one in client.list_artifacts(parents["launch-1"].info.run_id)}
    assert names >= TABLES
    assert len(list((store.root / "mlartifacts" / "demo").iterdir())) == 1  # none is orphaned


def test_a_moved_store_gets_a_view_at_its_new_place(recorded, tmp_path):
    store, _ = recorded
    mirror(store, "demo", LAUNCH)
    shutil.move(store.root, tmp_path / "moved")
    moved = Store(tmp_path / "moved")
    mirror(moved, "demo", None)
    parents, _, count, _ = runs_of(moved)
    assert count == 3
    place = (tmp_path / "moved" / "mlartifacts").as_uri()
    assert parents["launch-1"].info.artifact_uri.startswith(place)
    assert not (tmp_path / "store").exists()


def test_a_suite_that_was_never_run_is_refused(store):
    with pytest.raises(ValueError, match="no record of the suite demo"):
        mirror(store, "demo", None)
    assert not (store.root / "mlflow.db").exists()
