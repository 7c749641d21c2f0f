"""States of a running trial: its checkpoint, and those that other trials fork from."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.records.files import plain_name
from harness.records.lease import Lease
from harness.records.storage import Storage
from harness.records.tensors import Tensors, pack_state, unpack_state
from harness.tools.inputs import LARGEST_JSON, parse_json

if TYPE_CHECKING:
    import torch

_HELD = "held-by-"
_ENDING = ".safetensors"
_CHECKPOINT, _SPENT = "checkpoint/state.safetensors", "checkpoint/spent.json"


class Damaged(ValueError):
    """A record has changed since it was written: which, why, and what to do, in one line."""


class States:
    """What a trial needs to resume, and what its forks need.

    A run that took over from one that may still live writes to a place of its own, `epochs/N`; it
    goes on from what the runs before it left in theirs.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        self.storage = storage
        self._prefix = prefix
        self._lease: Lease | None = None

    def check(self) -> None:
        """Raise ClaimLost if another process has taken the trial over from this object."""
        if self._lease is not None:
            self._lease.check()

    def save_checkpoint(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint: tensors and JSON state in one file, atomically.

        `state` may hold NaN and infinities; they survive the round trip. Raises ClaimLost.
        """
        self.check()
        self.storage.write(self._mine(_CHECKPOINT), pack_state(tensors, state))

    def load_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, state) of the newest checkpoint, or None if there is none.

        Our writes are atomic, so a damaged file is not treated as a missing one: raises Damaged.
        """
        key = self._newest(_CHECKPOINT)
        try:
            return self._state(key)
        except ValueError as error:
            raise self.damaged_checkpoint(str(error)) from None

    def damaged_checkpoint(self, reason: str) -> Damaged:
        """The error to raise for a checkpoint that the trial cannot resume from."""
        place = self.storage.place(self._newest(_CHECKPOINT))
        return Damaged(f"{reason}; remove {place} to start the trial from step 0")

    def note_spent(self, seconds: float, restarts: int) -> None:
        """Note the trial's cost so far, including work after its checkpoint, in case it is killed.

        Atomic but not durable: a power cut may lose the newest note, which is only a number.
        """
        noted = json.dumps({"seconds": seconds, "restarts": restarts})
        self.storage.write(self._mine(_SPENT), noted.encode(), durable=False)

    def spent(self) -> tuple[float, int] | None:
        """(seconds, restarts) as last noted; None if there is no readable note."""
        try:
            stored = self.storage.read(self._newest(_SPENT), LARGEST_JSON)
            noted = parse_json(stored.data, _SPENT) if stored is not None else {}
            seconds, restarts = float(noted["seconds"]), int(noted["restarts"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        return (seconds, restarts) if math.isfinite(seconds) else None

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint, if any, and the note beside it."""
        self.storage.delete_all(self._mine("checkpoint/"))

    def save_fork(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Keep the state right after optimizer step `step` for the trials that fork there."""
        self.check()
        self.storage.write(self._fork(step), pack_state(tensors, state))

    def load_fork(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, state) as given to `save_fork`, or None if there is none.

        Raises Damaged.
        """
        try:
            return self._state(self._fork(step))
        except ValueError as error:
            raise self.damaged_fork(step, str(error)) from None

    def damaged_fork(self, step: int, reason: str) -> Damaged:
        """The error to raise for a kept state that no trial can fork from."""
        place = self.storage.place(self._fork(step))
        return Damaged(f"{reason}; remove {place} to start its forks from step 0")

    def forks(self) -> list[int]:
        """The steps whose states are kept, ascending."""
        kept = (name.removesuffix(_ENDING) for name in self._kept() if name.endswith(_ENDING))
        return sorted(int(step) for step in kept if re.fullmatch("[0-9]{1,18}", step))

    def drop_forks(self, but: Collection[int] = ()) -> None:
        """Remove the kept states except those of the steps in `but`, unless a study holds them."""
        if any(name.startswith(_HELD) for name in self._kept()):
            return
        for step in self.forks():
            if step not in but:
                self.storage.delete(self._fork(step))
        self.storage.drop_empty(self._prefix + "forks/")

    def hold_forks(self, study: str) -> None:
        """Let `drop_forks` remove nothing until `release_forks`: the study may fork anywhere."""
        name = f"{_HELD}{plain_name(study, 'study name')}"
        self.storage.write(f"{self._prefix}forks/{name}", b"")

    def release_forks(self, study: str) -> None:
        """Let go of the states that `hold_forks` holds for the study."""
        self.storage.delete(f"{self._prefix}forks/{_HELD}{study}")

    def _kept(self) -> Sequence[str]:
        return self.storage.children(f"{self._prefix}forks/")

    def _fork(self, step: int) -> str:
        return f"{self._prefix}forks/{step}{_ENDING}"

    def _state(self, key: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        place = self.storage.place(key)
        try:
            stored = self.storage.read(key)
        except IsADirectoryError:
            raise ValueError(f"{place} is a folder") from None
        return None if stored is None else unpack_state(stored.data, place)

    # Places

    @property
    def _number(self) -> int:
        """The place of the run that this object is part of."""
        return self._lease.claim.place if self._lease is not None else 0

    def _in(self, place: int, name: str) -> str:
        """The key of a file of the run in that place."""
        return f"{self._prefix}epochs/{place}/{name}" if place else f"{self._prefix}{name}"

    def _mine(self, name: str) -> str:
        return self._in(self._number, name)

    def _newest(self, name: str) -> str:
        """The key of the file in the newest place that has it, up to one's own."""
        for place in self._places():
            if self.storage.exists(self._in(place, name)):
                return self._in(place, name)
        return self._mine(name)

    def _places(self) -> Iterator[int]:
        """One's own place and those before it, the newest first."""
        yield self._number
        if self._number:
            names = self.storage.children(f"{self._prefix}epochs/")
            there = (int(name) for name in names if name.isdecimal())
            yield from sorted((n for n in there if n < self._number), reverse=True)
            yield 0
