"""What is known about a trial before it starts and never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.models.backbone import choices
from harness.models.scans import Choice
from harness.suite.specs import TrialSpec
from harness.tasks.base import Task


@dataclass(frozen=True)
class TrialFacts:
    """A trial on this machine: its spec and data, and what decides the bits of its result.

    manifest: see `machine.manifest`. flops_before and seconds_before are the cost of the full
    training, if the arm's total includes it.
    """

    spec: TrialSpec
    trial_id: str
    task: Task
    device: torch.device
    manifest: Mapping[str, Any]
    data_fingerprint: str
    device_share: float
    flops_before: float = 0.0
    seconds_before: float = 0.0


def scan_choices(spec: TrialSpec, device: torch.device, state_dims: Sequence[int]) -> list[Choice]:
    """The backend of each block's scan at these sizes."""
    return choices(spec.model, spec.task.info, state_dims, spec.training.batch_size, device)
