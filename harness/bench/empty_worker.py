"""A worker whose trials train nothing: they are claimed, recorded and ended as any other."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.launch.worker import TrialWorker
from harness.records.schemas import TRIAL_TABLES
from harness.training.host.process import process_as_before

if TYPE_CHECKING:
    from harness.records.store import Store
    from harness.suite.specs import TrialSpec
    from harness.training.trial import Execution


@dataclass(frozen=True)
class Trained:
    """What a trial left behind."""

    manifest: dict[str, Any]
    result: dict[str, Any]
    tables: dict[str, list[dict[str, Any]]]

    def of(self, trial_id: str, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tables and the result, as if another seed had left the same."""
        record = {**self.result["record"], "trial_id": trial_id, "seed": seed}
        tables = {
            name: [{**row, "trial_id": trial_id} for row in rows]
            for name, rows in self.tables.items()
        }
        return tables, {"status": self.result["status"], "message": None, "record": record}


class EmptyWorker(TrialWorker):
    """Trains its first trial in a folder of its own, and leaves the records of that for each.

    Its message is the seconds for which it was idle before: from the end of one trial to the
    beginning of the next, both claims included.
    """

    trained: Trained | None = None
    idle: float | None = None
    ended: float | None = None

    def run(self, *arguments: Any, **named: Any) -> tuple[str, str | None]:
        """As any worker's."""
        status, message = super().run(*arguments, **named)
        return status, message if status != "completed" else str(self.idle)

    @process_as_before()
    def _end(self, spec: TrialSpec, store: Store, execution: Execution) -> dict[str, Any]:
        if self.trained is None:
            self.trained = trained(spec)
        folder = store.trial(spec.trial_id)
        with folder.claim(execution.owner, execution.instead_of, execution.watch):
            if (ended := folder.result()) is not None:
                return ended
            now = time.monotonic()
            self.idle = None if self.ended is None else now - self.ended
            folder.begin(spec.model_dump(mode="json"), self.trained.manifest)
            result = folder.finish(*self.trained.of(spec.trial_id, spec.seed))
            self.ended = time.monotonic()
        return result


def trained(spec: TrialSpec) -> Trained:
    """Train this trial in a temporary store."""
    from harness.records.store import Store
    from harness.training.trial import Execution, run_trial

    with tempfile.TemporaryDirectory(prefix="harness-bench-") as place:
        store = Store.open(f"{place}/store")
        run_trial(spec, store, Execution(exclusive=False))
        folder = store.trial(spec.trial_id)
        manifest, result = folder.manifest(), folder.result()
        assert manifest is not None
        assert result is not None
        tables = {name: folder.table(name).to_pylist() for name in TRIAL_TABLES}
    return Trained(manifest, result, tables)


__all__ = ["EmptyWorker", "Trained", "trained"]
