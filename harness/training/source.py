"""The full trial that another trial starts or learns from."""

from __future__ import annotations

from harness.models import Backbone
from harness.models.description import rebuild
from harness.records.store import Store, TrialDir
from harness.suite.specs import TrialSpec
from harness.tasks.base import TaskInfo
from harness.tools.inputs import shown


def source_of(spec: TrialSpec, store: Store) -> TrialDir | None:
    """The folder of the full trial that this one needs, or None.

    Raises:
        ValueError: it has not been run in this store, or did not complete.
    """
    needed = spec.source()
    if needed is None:
        return None
    source = store.trial(needed.trial_id)
    result = source.result()
    if result is None or result["status"] != "completed":
        has = "has not been run" if result is None else f"has {result['status']}"
        does = "starts" if spec.arm.from_full else "learns"
        raise ValueError(
            f"{spec.arm.with_article} trial {does} from the full trial of its seed, "
            f"{needed.trial_id}, which {has} in this store"
        )
    return source


def model_of(source: TrialDir, info: TaskInfo) -> Backbone:
    """The selected model of a full trial, on the CPU, in evaluation mode.

    Raises:
        ValueError: the model is gone, damaged, or from another task.
    """
    try:
        weights, description = source.load_model()
    except FileNotFoundError as error:  # no other machine would find it either
        raise ValueError(
            f"{error.filename} is gone, and this trial needs it; "
            f"remove {source.place} to run trial {source.trial_id} again"
        ) from None
    stored = description.get("task_info")
    if stored != info.described():
        raise ValueError(f"{source.place} holds a model of another task: {shown(stored)}")
    try:
        return rebuild(description, weights)
    except ValueError as error:
        raise source.damaged(f"model.json: {error}") from None
