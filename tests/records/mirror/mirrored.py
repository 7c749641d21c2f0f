"""What MLflow says of a store's mirror."""

from harness.records.mirror import mlflow_io


def runs_of(store, suite="demo"):
    """(parents by launch, children by trial, client), duplicates counted."""
    with mlflow_io.connected(mlflow_io.database(store)) as client:
        found = client.get_experiment_by_name(suite)
        runs = list(mlflow_io.all_runs(client, found.experiment_id))
    parents = [run for run in runs if "harness.launch" in run.data.tags]
    children = [run for run in runs if "harness.trial_id" in run.data.tags]
    assert len(parents) + len(children) == len(runs)
    return (
        {run.data.tags["harness.launch"]: run for run in parents},
        {run.data.tags["harness.trial_id"]: run for run in children},
        len(runs),
        client,
    )
