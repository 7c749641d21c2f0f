"""One trial: set up or resume, train, test once, record."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from pydantic import ValidationError

from harness import environment, plugins, tasks
from harness.arms.weighted import check_examples
from harness.models import Backbone, build
from harness.models.description import describe, expect
from harness.models.precision import set_products
from harness.records.lease import Busy
from harness.records.store import Store, TrialDir
from harness.suite.explain import explain, validated
from harness.suite.specs import TrialSpec
from harness.tasks.base import Task

from .context import TrialContext
from .costs.clocks import Clocks
from .costs.latency import step_latency
from .costs.spending import Spending, spending_of
from .evaluate import evaluate
from .execution import Execution, Fork, Interrupted
from .facts import TrialFacts, scan_choices
from .forking import begin_at, keep_for_forks, spec_of
from .host import machine
from .host.faults import Diverged, described, is_fault
from .host.memory import check_memory
from .host.process import process_as_before
from .loop import train
from .record import record_of
from .seeds import drawn_from, stream
from .source import model_of, source_of
from .state import MISFITS, RunState, pack, unpack
from .step.graphs import refusal
from .step.optimizer import make_optimizer

NOTE_EVERY = 1.0  # seconds between notes of what was spent


@process_as_before()
def run_trial(spec: TrialSpec, store: Store, execution: Execution | None = None) -> dict[str, Any]:
    """Run a trial to its end, from its checkpoint if there is one, and return its result.

    The result of an ended trial is returned as it is. The process's settings that a trial changes
    (threads, algorithms, precision, random state) are restored, however it ends.

    Raises:
        ValueError: the trial cannot run as asked; nothing was lost.
        Interrupted: `execution.stop()` turned true; a checkpoint was taken.
        Busy: another process runs the trial, or has taken it over from this one.
    """
    spec = validated(spec, TrialSpec).resolved()
    folder, execution = store.trial(spec.trial_id), execution or Execution()
    # Refusals come before anything is written, even a claim.
    trial = None if folder.ended() else RunningTrial(spec, store, folder, execution)
    with folder.claim(execution.owner, execution.instead_of, execution.watch):
        ended = folder.result()
        if ended is not None:
            return ended
        assert trial is not None
        return trial.run()


class RunningTrial:
    """A trial in this process. Creating one refuses what cannot run, and writes nothing."""

    def __init__(self, spec: TrialSpec, store: Store, folder: TrialDir, execution: Execution):
        self.begun = time.perf_counter()
        self.store, self.folder, self.execution = store, folder, execution
        source = source_of(spec, store)
        self.every = execution.checkpoint_seconds
        if self.every is None:
            self.every = environment.CHECKPOINT_SECONDS.get()
        self.facts = facts_of(spec, source, execution.device_share)
        self._check()
        spec.model.layer_class().warm_up()
        self.spending = Spending(Clocks(self.facts.device))
        self.state, self.teacher = begin(self.facts, source)

    def run(self) -> dict[str, Any]:
        """Set up, train, finish."""
        facts, state = self.facts, self.state
        self.folder.begin(facts.spec.model_dump(mode="json"), dict(facts.manifest), self._is_this)
        self._resume(time.perf_counter() - self.begun)
        self.first_step = state.step
        exclusive = self.spending.is_exclusive(self.execution.exclusive)
        context = TrialContext(
            facts.spec,
            facts.task,
            facts.device,
            self.spending.clocks,
            keep_at=frozenset(self.execution.keep_at),
            keep=partial(keep_for_forks, self.folder, facts, self.spending, exclusive),
            teacher=self.teacher,
        )
        self.saved, self.noted = time.perf_counter(), -math.inf
        try:
            train(context, state, lambda: self._after_boundary(context))
            return self._finish("completed", None)
        except (Interrupted, Busy):
            raise
        except Diverged as diverged:
            return self._finish("diverged", str(diverged))
        except Exception as error:  # no usable diagonal form, a zero spectrum, a bug of ours
            if is_fault(error):
                raise
            return self._finish("failed", described(error))

    def _check(self) -> None:
        task, batch = self.facts.task, self.facts.spec.training.batch_size
        if batch > task.sizes["train"]:
            raise ValueError(
                f"training.batch_size {batch} is larger than the training split of "
                f"{task.name}, {task.sizes['train']} examples"
            )
        check_examples(self.facts.spec.arm, self.facts.spec.model, task.sizes["train"], task.name)
        known = self.folder.manifest()
        changed = None if known is None else machine.difference(known, self.facts.manifest)
        if changed is not None:
            key, then, now = changed
            raise ValueError(
                f"trial {self.folder.trial_id} was begun with {key} {then} "
                f"and cannot go on with {now}: the result would not be bit-identical"
            )

    def _is_this(self, content: dict[str, Any]) -> bool:
        """Whether a stored spec, which may lack newer fields, is this trial's."""
        try:
            return spec_of(content).trial_id == self.folder.trial_id
        except ValidationError as error:
            raise ValueError(
                f"{self.folder.place} holds a spec that cannot be read: {explain(error)}"
            ) from None

    def _resume(self, seconds_setup: float) -> None:
        """Start from the checkpoint, a fork, or step 0."""
        checkpoint, spent = self.folder.load_checkpoint(), self.folder.spent()
        if checkpoint is not None:
            self._unpack(*checkpoint)
            if spent is not None:  # work after the checkpoint, which is repeated
                self.spending.lost += max(0.0, spent[0] - self.spending.seconds)
                self.spending.restarts = max(self.spending.restarts, spent[1] + 1)
            self.spending.lost += seconds_setup
            return
        fork, forked = self.execution.fork, None
        if fork is not None:
            parent = self.store.trial(fork.trial_id)
            forked = begin_at(parent, fork.step, self.facts, self.state, seconds_setup)
        if forked is not None:
            self.spending = forked
        else:
            self.spending.clocks.seconds["setup"] = seconds_setup
        if spent is not None:  # killed before its first checkpoint
            self.spending.lost, self.spending.restarts = spent[0], spent[1] + 1

    def _unpack(self, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> None:
        try:
            unpack(self.state, tensors, plain["state"])
            self.spending = spending_of(plain, self.facts.device)
        except MISFITS as error:
            if is_fault(error):
                raise
            reason = f"the checkpoint does not fit this trial: {described(error)}"
            raise self.folder.damaged_checkpoint(reason) from None

    def _after_boundary(self, context: TrialContext) -> None:
        state, spending = self.state, self.spending
        self.execution.progress(
            {
                "trial_id": self.folder.trial_id,
                "step": state.step,
                "steps": context.steps,
                "first_step": self.first_step,
                "state_dims": state.model.state_dims,
                "metric": state.curves[-1]["value"] if state.curves else None,
                "train_flops": state.train_flops,
            }
        )
        self.folder.check()
        stop = self.execution.stop()
        assert self.every is not None
        if stop or time.perf_counter() - self.saved >= self.every:
            with spending.clocks("checkpoint"):
                tensors, plain = pack(state)
                self.folder.save_checkpoint(tensors, {"state": plain, **spending.content()})
            self.saved = time.perf_counter()
        if stop or time.perf_counter() - self.noted >= NOTE_EVERY:
            with spending.clocks("checkpoint"):
                self.folder.note_spent(spending.seconds, spending.restarts)
            self.noted = time.perf_counter()
        if stop:
            raise Interrupted(f"trial {self.folder.trial_id} stopped at step {state.step}")

    def _finish(self, status: str, message: str | None) -> dict[str, Any]:
        facts, state = self.facts, self.state
        measured = self._test(state) if status == "completed" and state.selected else {}
        exclusive = self.spending.is_exclusive(self.execution.exclusive)
        record = record_of(facts, self.spending, state, status, exclusive) | measured
        tables = {
            name: [{"trial_id": facts.trial_id, **row} for row in rows]
            for name, rows in state.tables().items()
        }
        return self.folder.finish(tables, {"status": status, "message": message, "record": record})

    def _test(self, state: RunState) -> dict[str, Any]:
        """Test the selected model once and keep it; return its fields of the record."""
        model, task, device = state.model, self.facts.task, self.facts.device
        assert state.selected is not None
        model.resize(state.selected.state_dims)
        expect(model, state.selected.weights)
        model.to(device).load_state_dict(state.selected.weights)
        with self.spending.clocks("evaluate"):
            value = evaluate(model, task, "test", device)
            if not math.isfinite(value):
                raise Diverged(f"the test {task.metric} is {value}")
            latency, size = None, None  # there is no recurrent mode
            if model.spec.causal:
                latency, size = step_latency(model, task, device)
        self.folder.save_model(model.state_dict(), describe(model))
        return {"test_metric": value, "step_latency_seconds": latency, "state_bytes": size}


def facts_of(spec: TrialSpec, source: TrialDir | None, device_share: float) -> TrialFacts:
    """Prepare this machine for a trial, and collect what its result will depend on.

    `source` is the full trial that it needs, if any. Raises ValueError if it cannot run here.
    """
    device, threads = machine.pick_device(), machine.thread_count()
    check_memory(spec, machine.gpu_memory(device))
    machine.prepare(device, threads)
    manifest = machine.manifest(device, threads)
    used = plugins.used_by(spec)
    manifest["identity"] |= plugins.identity(used)
    if used:
        manifest["plugins"] = [one.record() for one in used]
    manifest["precision"] = set_products(spec.model.precision, device)
    chosen = scan_choices(spec, device, spec.built.state_dims)
    manifest["backends"] = [asdict(choice) for choice in chosen]
    task = tasks.build(spec.data)
    fingerprint = data_fingerprint(spec, task)
    manifest["data_fingerprint"] = fingerprint
    if refusal(spec, task.info, device) is None:
        manifest["identity"]["cuda_graphs"] = True
    facts = TrialFacts(spec, spec.trial_id, task, device, manifest, fingerprint, device_share)
    result = source.result() if source is not None and spec.arm.costs_full else None
    if result is None:
        return facts
    cost = result["record"]
    return replace(facts, flops_before=cost["flops_method"], seconds_before=cost["seconds_method"])


def data_fingerprint(spec: TrialSpec, task: Task) -> str:
    """The fingerprint of the data that a row's trials have in common: before the split, if the seed
    draws it."""
    own_split = spec.protocol.name in spec.task.split_by_run
    return task.pool_fingerprint if own_split else task.fingerprint


def begin(facts: TrialFacts, source: TrialDir | None) -> tuple[RunState, Backbone | None]:
    """The state at step 0 (the selected model of `source`, or one drawn from the seed), and the
    teacher, if the arm learns from one."""
    spec, info = facts.spec, facts.task.info
    trained = None if source is None else model_of(source, info).to(facts.device)
    if trained is not None and spec.arm.from_full:
        return RunState(trained, make_optimizer(trained, spec.training)), None
    with drawn_from(stream(spec.seed, "weights")):
        model = build(spec.built, info)
    model = model.to(facts.device)
    return RunState(model, make_optimizer(model, spec.training)), trained


__all__ = ["Execution", "Fork", "Interrupted", "run_trial"]
