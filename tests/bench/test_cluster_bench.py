"""`harness bench cluster`: its worker, and a small run of it."""

import json

import pytest

from harness.bench.cluster_bench import lines, suite_of
from harness.bench.empty_worker import EmptyWorker
from harness.cli.app import execute
from harness.planning.plan import Plan
from harness.planning.plan_file import write_plan
from harness.records.collect import collect
from harness.records.store import Store


def test_trials_that_train_nothing_are_recorded_as_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DEVICE", "cpu")
    store, suite = Store.open(tmp_path / "store"), suite_of(40)
    plan = Plan(suite, store)
    write_plan(plan, "x")
    rows = plan.rows
    worker = EmptyWorker()
    said = [
        worker.run(row.spec.model_dump(mode="json"), str(store.root), 1.0, {}) for row in rows[:3]
    ]
    assert [status for status, _ in said] == ["completed"] * 3, said
    assert said[0][1] == "None"  # there was nothing before
    assert all(0 < float(idle) < 60 for _, idle in said[1:])
    plan = Plan(suite, store)
    assert [plan.state(row) for row in plan.rows[:4]] == ["completed"] * 3 + ["missing"]
    assert collect(store, suite.name, plan.record()) == []
    for row in rows[:3]:
        trial = store.trial(row.trial_id)
        assert trial.damage() == []
        assert trial.result()["record"]["seed"] == row.role.trial.seed
        assert set(trial.table("curves")["trial_id"].to_pylist()) == {row.trial_id}


@pytest.mark.slow
def test_a_node_is_killed_and_all_trials_end(capsys, tmp_path):
    """Through the command line, as a user would."""
    store = str(tmp_path / "store")
    arguments = ["bench", "cluster", "--trials", "60", "--nodes", "2", "--store", store, "--json"]
    assert execute(arguments) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["trials"] == 60
    assert found["killed_after_seconds"] > 0
    assert found["idle_seconds_median"] > 0
    assert len(list(Store(store).ended_trials())) == 60
    assert "60 trials, 2 nodes, store: folder" in "\n".join(lines(found))
    assert "Traceback" not in err
    assert execute(arguments) == 2
    assert "is not empty: give --store another" in capsys.readouterr().err
