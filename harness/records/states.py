"""States of a running trial: its checkpoint, and those that other trials fork from."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records.files import plain_name, read_json, write_atomic
from harness.records.tensors import Tensors, pack_state, unpack_state

if TYPE_CHECKING:
    import torch

_HELD = "held-by-"


class Damaged(ValueError):
    """A record has changed since it was written: which, why, and what to do, in one line."""


class States:
    """What the trial in the folder `path` needs to resume, and what its forks need."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save_checkpoint(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint: tensors and JSON state in one file, atomically.

        `state` may hold NaN and infinities; they survive the round trip.
        """
        write_atomic(self._checkpoint, pack_state(tensors, state))

    def load_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, state) of the newest checkpoint, or None if there is none.

        Our writes are atomic, so a damaged file is not treated as a missing one: raises Damaged.
        """
        try:
            return unpack_state(self._checkpoint)
        except ValueError as error:
            raise self.damaged_checkpoint(str(error)) from None

    def damaged_checkpoint(self, reason: str) -> Damaged:
        """The error to raise for a checkpoint that the trial cannot resume from."""
        return Damaged(f"{reason}; remove {self._checkpoint} to start the trial from step 0")

    def note_spent(self, seconds: float, restarts: int) -> None:
        """Note the trial's cost so far, including work after its checkpoint, in case it is killed.

        Atomic but not durable: a power cut may lose the newest note, which is only a number.
        """
        noted = json.dumps({"seconds": seconds, "restarts": restarts})
        write_atomic(self._spent, noted.encode(), durable=False)

    def spent(self) -> tuple[float, int] | None:
        """(seconds, restarts) as last noted; None if there is no readable note."""
        try:
            noted = read_json(self._spent)
            seconds, restarts = float(noted["seconds"]), int(noted["restarts"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        return (seconds, restarts) if math.isfinite(seconds) else None

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint, if any, and the note beside it."""
        shutil.rmtree(self._checkpoint.parent, ignore_errors=True)

    def save_fork(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Keep the state right after optimizer step `step` for the trials that fork there."""
        write_atomic(self._fork(step), pack_state(tensors, state))

    def load_fork(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, state) as given to `save_fork`, or None if there is none.

        Raises Damaged.
        """
        try:
            return unpack_state(self._fork(step))
        except ValueError as error:
            raise self.damaged_fork(step, str(error)) from None

    def damaged_fork(self, step: int, reason: str) -> Damaged:
        """The error to raise for a kept state that no trial can fork from."""
        path = self._fork(step)
        return Damaged(f"{reason}; remove {path} to start its forks from step 0")

    def forks(self) -> list[int]:
        """The steps whose states are kept, ascending."""
        kept = (path.stem for path in self.path.glob("forks/*.safetensors"))
        return sorted(int(step) for step in kept if re.fullmatch("[0-9]{1,18}", step))

    def drop_forks(self, but: Collection[int] = ()) -> None:
        """Remove the kept states except those of the steps in `but`, unless a study holds them."""
        if any(self.path.glob(f"forks/{_HELD}*")):
            return
        for step in self.forks():
            if step not in but:
                self._fork(step).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or missing
            (self.path / "forks").rmdir()

    def hold_forks(self, study: str) -> None:
        """Let `drop_forks` remove nothing until `release_forks`: the study may fork anywhere."""
        write_atomic(self.path / "forks" / f"{_HELD}{plain_name(study, 'study name')}", b"")

    def release_forks(self, study: str) -> None:
        """Let go of the states that `hold_forks` holds for the study."""
        (self.path / "forks" / f"{_HELD}{study}").unlink(missing_ok=True)

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def _spent(self) -> Path:
        return self.path / "checkpoint" / "spent.json"

    def _fork(self, step: int) -> Path:
        return self.path / "forks" / f"{step}.safetensors"
