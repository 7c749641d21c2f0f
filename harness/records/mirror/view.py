"""What a suite's experiment holds, and what is added to it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import schemas
from harness.records.mirror import children, mlflow_io
from harness.records.mirror.children import CONTENT, TRIAL, Child
from harness.records.mirror.mirror_content import NAME, MirroredTrial, texts
from harness.records.suite_records import SuiteRecords

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LAUNCH = "harness.launch"
_REPORT = ("*.parquet", "*.json", "comparison.*", "index.html", "figures/*")


class View:
    """The runs of one experiment that the harness created. `at_a_time` are added together."""

    def __init__(self, client: MlflowClient, experiment_id: str, at_a_time: int = 1) -> None:
        self.client, self.experiment_id, self.at_a_time = client, experiment_id, at_a_time
        self.parents: dict[str, Any] = {}
        self.children: dict[str, Any] = {}
        for run in mlflow_io.all_runs(client, experiment_id):
            if _LAUNCH in run.data.tags:
                self.parents[run.data.tags[_LAUNCH]] = run
            elif TRIAL in run.data.tags:
                self.children[run.data.tags[TRIAL]] = run

    def add_parent(self, launch: Mapping[str, Any]) -> None:
        name = launch["id"]
        if name in self.parents:
            return
        facts = schemas.flatten({k: v for k, v in launch.items() if k not in ("id", "trials")})
        run = self.client.create_run(
            self.experiment_id, tags={_LAUNCH: name, NAME: name}, run_name=name
        )
        mlflow_io.log(self.client, run.info.run_id, texts(facts), [], {})
        self.client.set_terminated(run.info.run_id)
        self.parents[name] = run

    def add_children(self, trials: Iterable[MirroredTrial], parent_of: Mapping[str, str]) -> None:
        """Add the trials whose runs are missing or changed, below the launches of those names."""
        new = [
            Child(trial, self.parents[parent_of[trial.trial_id]].info.run_id)
            for trial in trials
            if not self._is_there(trial)
        ]
        children.add(self.client, self.experiment_id, new, self.at_a_time)

    def _is_there(self, trial: MirroredTrial) -> bool:
        """Whether the trial's run is; its tags are brought up to date, an old run is deleted."""
        run = self.children.get(trial.trial_id)
        if run is None:
            return False
        # The last batch sets the content's tag: a run without it is incomplete.
        if run.data.tags.get(CONTENT) != trial.content:
            self.client.delete_run(run.info.run_id)
            return False
        changed = {k: v for k, v in trial.tags.items() if run.data.tags.get(k) != v}
        if changed:  # the suite has renamed it
            mlflow_io.log(self.client, run.info.run_id, {}, [], changed)
        return True

    def add_artifacts(self, launch: str, records: SuiteRecords) -> None:
        """Copy the tables and the report to the launch's run if they have changed."""
        files = {name: records.read(name) for name in records.files() if _is_of_report(name)}
        digest = hashlib.sha256()
        for name, data in files.items():
            digest.update(f"{name}\0".encode() + data)
        run = self.parents[launch]
        if run.data.tags.get(CONTENT) == digest.hexdigest():
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            self.client.log_artifacts(run.info.run_id, folder)
        self.client.set_tag(run.info.run_id, CONTENT, digest.hexdigest())


def _is_of_report(name: str) -> bool:
    return any(name.count("/") == one.count("/") and fnmatch(name, one) for one in _REPORT)


__all__ = ["View"]
