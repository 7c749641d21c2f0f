"""What every task promises: `harness.tasks.base`, and the spec that asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import tasks
from harness.tasks.base import SPLITS, UNSCORED, Task
from harness.tasks.metrics import METRICS
from harness.tasks.specs import TASK_UNION, TaskSpecBase

from .promise import expect, promised


def check_task(task: type[TaskSpecBase] | TaskSpecBase, data_dir: str | Path) -> None:
    """Check the contract of a task, given its registered spec or one with options that make it
    small. Its caches go under `data_dir`.

    Splits, shapes and types as `info` says, the same examples for the same rows, a fingerprint
    that does not change, a known metric, a spec that survives JSON.

    Raises:
        AssertionError: one line that names the task and the broken promise.
    """
    spec = _spec_of(task)
    whose = f"task {spec.task_name()}"
    with promised(whose, "its spec"):
        _spec(spec)
    with promised(whose, "building it"):
        made, again = (tasks.build_anew(spec, Path(data_dir)) for _ in range(2))
    with promised(whose, "its attributes"):
        _attributes(spec, made, again)
    for split in SPLITS:
        with promised(whose, f"split {split}"):
            _examples(made, split)
            pairs = zip(_few(made, split), _few(again, split), strict=True)
            same = all(torch.equal(one, two) for one, two in pairs)
            expect(same, f"built twice, split {split} has other examples")
    with promised(whose, "summary"):
        json.dumps(made.summary(), allow_nan=False)


def _spec_of(task: Any) -> TaskSpecBase:
    if isinstance(task, TaskSpecBase):
        return task
    name = getattr(task, "__name__", repr(task))
    expect(
        task in TASK_UNION.specs.values(),
        f"{name} is no registered task: decorate it with @harness.task",
    )
    return TASK_UNION.validate({"name": task.task_name()})


def _spec(spec: TaskSpecBase) -> None:
    there = json.loads(spec.model_dump_json())
    expect(TASK_UNION.validate(there) == spec, "its spec comes back from JSON as another")
    expect(spec.metric in METRICS, f"no metric {spec.metric}; there are {list(METRICS)}")
    hash(spec)


def _attributes(spec: TaskSpecBase, task: Task, again: Task) -> None:
    expect(task.name == spec.task_name(), f"the task is called {task.name}")
    expect(task.info == spec.info, f"its info is {task.info}, its spec's {spec.info}")
    expect(task.metric == spec.metric, f"metric {task.metric}, its spec's {spec.metric}")
    known = isinstance(task.fingerprint, str) and len(task.fingerprint) == 64
    expect(known, "its fingerprint is no SHA-256 in hex")
    expect(task.fingerprint == again.fingerprint, "built twice, it has another fingerprint")
    expect(set(task.sizes) == set(SPLITS), f"its sizes are of {', '.join(task.sizes)}")
    empty = [split for split, size in task.sizes.items() if size < 1]
    expect(not empty, f"split {empty and empty[0]} is empty")
    for split, size in (("train", spec.train_size), ("validation", spec.validation_size)):
        expect(
            size in (None, task.sizes[split]),
            f"its spec says {size} {split} examples, and there are {task.sizes[split]}",
        )


def _few(task: Task, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    last = task.sizes[split] - 1
    return task.examples(split, np.array([last, 0, last]))


def _examples(task: Task, split: str) -> None:
    info = task.info
    x, y = _few(task, split)
    wide = (info.length,) if info.vocabulary else (info.length, info.inputs)
    shape = (3, 2, *wide) if info.paired else (3, *wide)
    kind = torch.int64 if info.vocabulary else torch.float32
    expect(
        tuple(x.shape) == shape and x.dtype == kind,
        f"x of split {split} is {tuple(x.shape)} {x.dtype}, not {shape} {kind}",
    )
    shape, kind = (3,) if info.pools else (3, info.length), torch.int64
    if info.kind == "regression":
        shape, kind = (*shape, info.outputs), torch.float32
    expect(
        tuple(y.shape) == shape and y.dtype == kind,
        f"y of split {split} is {tuple(y.shape)} {y.dtype}, not {shape} {kind}",
    )
    expect(torch.equal(x[0], x[2]), f"one row of split {split} gives two examples")
    if info.kind == "regression":
        expect(bool(torch.isfinite(y).all()), f"y of split {split} is not finite")
    else:
        if info.unscored:
            scored = y != UNSCORED
            every = scored.reshape(len(y), -1).any(1).all()
            expect(every, f"an example of split {split} has no target that is scored")
            y = y[scored]
        inside = y.min() >= 0 and y.max() < info.outputs
        expect(inside, f"y of split {split} lies outside of 0..{info.outputs - 1}")
    if info.vocabulary:
        inside = x.min() >= 0 and x.max() < info.vocabulary
        expect(inside, f"x of split {split} lies outside of 0..{info.vocabulary - 1}")
    else:
        expect(bool(torch.isfinite(x).all()), f"x of split {split} is not finite")
