"""One trial: set up or resume, train, test once, record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from pydantic import ValidationError

from harness import plugins, tasks
from harness.models import Backbone, build
from harness.models.backbone import choices
from harness.models.description import describe
from harness.models.precision import set_products
from harness.models.scans import Choice
from harness.records.store import Store, TrialDir
from harness.suite.explain import explain, validated
from harness.suite.specs import TrialSpec
from harness.tasks.base import Task

from . import machine
from .clocks import Clocks
from .environment import checkpoint_seconds
from .evaluate import evaluate
from .faults import Diverged, described, is_fault
from .graphs import refusal
from .latency import step_latency
from .loop import Run, train
from .memory import check_memory
from .optimizer import make_optimizer
from .parting import keep, part, spec_of
from .record import record_of
from .seeds import drawn_from, stream
from .source import model_of, source_of
from .state import MISFITS, RunState, pack, unpack

NOTE_EVERY = 1.0  # seconds between notes of what was spent
Progress = Callable[[dict[str, Any]], None]


class Interrupted(Exception):
    """Asked to stop; the checkpoint holds everything up to here."""


@dataclass(frozen=True)
class Fork:
    """Where a trial parts from another, whose state right after optimizer step `step` is kept."""

    trial_id: str
    step: int


@dataclass
class Setting:
    """How this process runs a trial; no part of the spec, and nothing that changes its numbers."""

    progress: Progress = lambda _: None
    stop: Callable[[], bool] = lambda: False
    exclusive: bool = False
    device_share: float = 1.0
    checkpoint_seconds: float | None = None  # None: HARNESS_CHECKPOINT_SECONDS, default 60
    fork: Fork | None = None  # begin there rather than at step 0, if it is still there
    keep_at: Collection[int] = ()  # steps after which other trials will part from this one


def run_trial(spec: TrialSpec, store: Store, setting: Setting | None = None) -> dict[str, Any]:
    """Run a trial to its end, from its checkpoint if there is one, and return its result.

    An ended trial is returned as it stands.

    Raises:
        ValueError: the trial cannot run as asked; nothing was lost.
        Interrupted: `setting.stop()` turned true; a checkpoint was taken.
    """
    spec = validated(spec, TrialSpec).resolved()
    setting = setting or Setting()
    folder = store.trial(spec.trial_id)
    # What can be refused is refused before anything is written, a lock too.
    trial = None if folder.ended() else Trial(spec, store, folder, setting)
    with folder.claim():
        ended = folder.result()
        if ended is not None:
            return ended
        assert trial is not None
        return trial.run()


class Trial:
    """A trial in this process. Making one refuses what cannot run, and writes nothing."""

    def __init__(self, spec: TrialSpec, store: Store, folder: TrialDir, setting: Setting):
        self.begun = time.perf_counter()
        self.spec, self.store, self.folder, self.setting = spec, store, folder, setting
        self.source = source_of(spec, store)
        self.every = setting.checkpoint_seconds
        if self.every is None:
            self.every = checkpoint_seconds()
        self.device, threads = machine.pick_device(), machine.thread_count()
        check_memory(spec, machine.gpu_memory(self.device))
        machine.prepare(self.device, threads)
        self.manifest = machine.manifest(self.device, threads)
        self.plugins = plugins.used_by(spec)
        self.manifest["identity"] |= plugins.identity(self.plugins)
        if self.plugins:
            self.manifest["plugins"] = [one.record() for one in self.plugins]
        self.manifest["precision"] = set_products(spec.model.precision, self.device)
        self.clocks = Clocks(self.device)
        self.lost = 0.0
        self.restarts = 0
        self.forked: dict[str, Any] | None = None  # what the trial parted from, and its cost then
        self.keeping = 0.0  # seconds that went to states for others, which is no cost of this way
        self.manifest["backends"] = [
            asdict(choice) for choice in self.choices(spec.built.state_dims)
        ]
        self.task = tasks.build(spec.data)
        # Where the run's seed draws the split, the data that rows share are those before it.
        own_split = spec.protocol.name in spec.task.split_by_run
        self.data_fingerprint = self.task.pool_fingerprint if own_split else self.task.fingerprint
        self.manifest["data_fingerprint"] = self.data_fingerprint
        if refusal(spec, self.task.info, self.device) is None:
            self.manifest["identity"]["cuda_graphs"] = True
        self._check(self.task)
        spec.model.layer_class().warm_up()
        self.state = self._fresh(self.task)

    def run(self) -> dict[str, Any]:
        """Set up, train, finish."""
        task, state = self.task, self.state
        self.folder.begin(self.spec.model_dump(mode="json"), self.manifest, self._is_this)
        self._resume(state, time.perf_counter() - self.begun)
        arm = self.spec.arm
        run = Run(
            self.spec,
            task,
            self.device,
            self.clocks,
            steps=arm.train_steps(self.spec.training.steps),
            lr_factor=getattr(arm, "finetune_lr_factor", 1.0),
            keep_at=frozenset(self.setting.keep_at),
            keep=partial(keep, self),
            teacher=self.teacher,
        )
        self.saved, self.noted = time.perf_counter(), -math.inf
        try:
            train(run, state, lambda: self._behind_boundary(run, state))
            return self._finish(task, state, "completed", None)
        except Interrupted:
            raise
        except Diverged as diverged:
            return self._finish(task, state, "diverged", str(diverged))
        except Exception as error:  # no usable diagonal form, a zero spectrum, a mistake of ours
            if is_fault(error):
                raise
            return self._finish(task, state, "failed", described(error))

    def _check(self, task: Task) -> None:
        size, batch = task.sizes["train"], self.spec.training.batch_size
        if batch > size:
            raise ValueError(
                f"training.batch_size {batch} is larger than the training split of "
                f"{task.name}, {size} examples"
            )
        known = self.folder.manifest()
        changed = None if known is None else machine.difference(known, self.manifest)
        if changed is not None:
            key, then, now = changed
            raise ValueError(
                f"trial {self.folder.trial_id} was begun with {key} {then} "
                f"and cannot go on with {now}: the result would not be bit-identical"
            )

    def _is_this(self, content: dict[str, Any]) -> bool:
        """Whether a stored spec is this trial's: fields that came later may be missing in it."""
        try:
            return spec_of(content).trial_id == self.folder.trial_id
        except ValidationError as error:
            raise ValueError(
                f"{self.folder.path} holds a spec that cannot be read: {explain(error)}"
            ) from None

    def _fresh(self, task: Task) -> RunState:
        self.teacher: Backbone | None = None
        if self.source is not None:
            trained = model_of(self.source, task.info).to(self.device)
        if self.source is not None and self.spec.arm.from_full:
            model = trained
        else:
            with drawn_from(stream(self.spec.seed, "weights")):
                model = build(self.spec.built, task.info)
            model = model.to(self.device)
            self.teacher = trained if self.source is not None else None
        self.initial_state_dims = list(self.spec.built.state_dims)
        return RunState(model, make_optimizer(model, self.spec.training))

    def choices(self, state_dims: Sequence[int]) -> list[Choice]:
        """What computes each layer at these sizes."""
        batch = self.spec.training.batch_size
        return choices(self.spec.model, self.spec.task.info, state_dims, batch, self.device)

    def _resume(self, state: RunState, seconds_setup: float) -> None:
        checkpoint, spent = self.folder.load_checkpoint(), self.folder.spent()
        if checkpoint is not None:
            self._unpack(state, *checkpoint)
            if spent is not None:  # the work after the checkpoint, which is done again
                self.lost += max(0.0, spent[0] - self.spent)
                self.restarts = max(self.restarts, spent[1] + 1)
            self.lost += seconds_setup
        else:
            if spent is not None:  # killed before its first checkpoint
                self.lost, self.restarts = spent[0], spent[1] + 1
            if not part(self, state, seconds_setup):
                self.clocks.seconds["setup"] = seconds_setup
        self.first_step = state.step

    def _unpack(
        self, state: RunState, tensors: dict[str, torch.Tensor], plain: dict[str, Any]
    ) -> None:
        try:
            unpack(state, tensors, plain["state"])
            self.clocks = Clocks(self.device, plain["clocks"])
            self.restarts = plain["restarts"] + 1
            self.lost = plain["lost"]
            self.forked, self.keeping = plain["forked"], plain["keeping"]
        except MISFITS as error:
            if is_fault(error):
                raise
            reason = f"the checkpoint does not fit this trial: {described(error)}"
            raise self.folder.damaged_checkpoint(reason) from None

    @property
    def spent(self) -> float:
        """Seconds that this trial took here so far, those for work that was lost included."""
        before = self.forked["seconds"] if self.forked else 0.0
        return self.clocks.total + self.lost - before

    @property
    def exclusive(self) -> bool:
        """Whether the seconds may be compared: this process's, and those of what it parted from."""
        return self.setting.exclusive and (self.forked is None or self.forked["exclusive"])

    def _behind_boundary(self, run: Run, state: RunState) -> None:
        self.setting.progress(
            {
                "trial_id": self.folder.trial_id,
                "step": state.step,
                "steps": run.steps,
                "first_step": self.first_step,
                "state_dims": state.model.state_dims,
                "metric": state.curves[-1]["value"] if state.curves else None,
                "train_flops": state.train_flops,
            }
        )
        stop = self.setting.stop()
        assert self.every is not None
        if stop or time.perf_counter() - self.saved >= self.every:
            with self.clocks("checkpoint"):
                tensors, plain = pack(state)
                content = {
                    "state": plain,
                    "clocks": dict(self.clocks.seconds),
                    "restarts": self.restarts,
                    "lost": self.lost,
                    "forked": self.forked,
                    "keeping": self.keeping,
                }
                self.folder.save_checkpoint(tensors, content)
            self.saved = time.perf_counter()
        if stop or time.perf_counter() - self.noted >= NOTE_EVERY:
            with self.clocks("checkpoint"):
                self.folder.note_spent(self.spent, self.restarts)
            self.noted = time.perf_counter()
        if stop:
            raise Interrupted(f"trial {self.folder.trial_id} stopped at step {state.step}")

    def _finish(
        self, task: Task, state: RunState, status: str, message: str | None
    ) -> dict[str, Any]:
        selected = state.selected
        measured: dict[str, Any] = {}
        if status == "completed" and selected is not None:
            model = state.model
            model.resize(selected.state_dims)
            model.to(self.device).load_state_dict(selected.weights)
            with self.clocks("evaluate"):
                value = evaluate(model, task, "test", self.device)
                if not math.isfinite(value):
                    raise Diverged(f"the test {task.metric} is {value}")
                measured["test_metric"] = value
                latency, size = step_latency(model, task, self.device)
            measured |= {"step_latency_seconds": latency, "state_bytes": size}
            self.folder.save_model(model.state_dict(), describe(model))
        dims = selected.state_dims if selected is not None else state.model.state_dims
        record = record_of(self, state, status, dims) | measured
        tid = self.folder.trial_id
        tables = {
            name: [{"trial_id": tid, **row} for row in getattr(state, name)]
            for name in ("curves", "truncations", "spectra")
        }
        return self.folder.finish(tables, {"status": status, "message": message, "record": record})
