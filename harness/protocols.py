"""How models are selected and scored: one value per protocol, used by all rooms.

`strict` is ours. `published` follows the paper's research code, `release` its released code; both
are reproduced with their traps. harness/training/README.md compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

Name = Literal["strict", "published", "release"]


@dataclass(frozen=True)
class Protocol:
    """What differs between protocols.

    truncates: at the steps of the arm's `window`, at the `evaluations` inside it, or where an
        evaluation falls on a step of the window's grid (`coincided`).
    selects: `best`: the best of the present size; `last_record`: whenever validation ties or beats
        all values before it, of any size, and after every truncation; `reset_record`: whenever it
        beats the bar, which every truncation resets to the value before it.
    loss: cross-entropy, or -log(p + 1e-8) of a softmax.
    running_norm: batch normalisation also divides by running statistics in training.
    shared_mask: one dropout mask for the whole batch.
    trains_pass: every evaluation also passes over the training split.
    clock: what counts as training time: everything, or steps and evaluations without truncations.
    aggregate: what a table of the protocol reports.
    """

    name: Name
    truncates: Literal["window", "evaluations", "coincided"]
    selects: Literal["best", "last_record", "reset_record"]
    loss: Literal["cross_entropy", "log_p_plus_epsilon"]
    running_norm: bool
    shared_mask: bool
    trains_pass: bool
    clock: Literal["whole", "without_truncation"]
    aggregate: Literal["mean", "top3"]

    def split(self, task: Any, seed: int) -> Any:
        """The task's spec as a trial of this seed sees it: its split may be the run's own."""
        if self.name in task.split_by_run:
            return task.model_copy(update={"split_seed": seed})
        return task

    def model(self, model: Any) -> Any:
        """The model's spec as this protocol builds it."""
        changes = {}
        if self.running_norm and model.surroundings[0] == "batch":
            changes["norm"] = "ema_batch"
        if self.shared_mask:
            changes["dropout_mask"] = "shared"
        return model.model_copy(update=changes) if changes else model


STRICT = Protocol(
    name="strict",
    truncates="window",
    selects="best",
    loss="cross_entropy",
    running_norm=False,
    shared_mask=False,
    trains_pass=False,
    clock="whole",
    aggregate="mean",
)
PUBLISHED = Protocol(
    name="published",
    truncates="evaluations",
    selects="last_record",
    loss="log_p_plus_epsilon",
    running_norm=True,
    shared_mask=True,
    trains_pass=True,
    clock="without_truncation",
    aggregate="top3",
)
RELEASE = replace(PUBLISHED, name="release", truncates="coincided", selects="reset_record")
PROTOCOLS: dict[str, Protocol] = {p.name: p for p in (STRICT, PUBLISHED, RELEASE)}
