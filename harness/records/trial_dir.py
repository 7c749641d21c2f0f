"""One trial's folder: what was asked, how it ended, and what it needs to go on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import schemas
from harness.records.files import (
    TEMPORARY_PREFIX,
    plain_name,
    read_json,
    write_atomic,
    write_json,
)
from harness.records.tensors import Tensors, pack, pack_state, unpack, unpack_state

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from harness.records.store import Store

_HELD = "held-by-"


class TrialDir:
    """One trial's folder. It has ended if and only if `result.json` exists."""

    def __init__(self, store: Store, trial_id: str) -> None:
        self.store = store
        self.trial_id = trial_id
        self.path = store.root / "trials" / trial_id

    # What was asked, and where it runs

    def begin(
        self,
        spec: Mapping[str, Any],
        manifest: Mapping[str, Any],
        is_same: Callable[[dict[str, Any]], bool] | None = None,
    ) -> None:
        """Write `spec.json` and `manifest.json` where they are missing.

        The first of each stays: a resume compares itself to them. `is_same` says whether a stored
        spec is this one, which may lack fields that came later; without it all must be equal.
        Raises ValueError if the folder holds another spec.
        """
        known = self.spec()
        if known is not None:
            equal = schemas.canonical(known) == schemas.canonical(spec)
            if not equal and not (is_same and is_same(known)):
                raise ValueError(f"{self.path} holds the record of another spec")
        if known is None:
            write_json(self.path / "spec.json", spec)
        if self.manifest() is None:
            write_json(self.path / "manifest.json", manifest)

    def spec(self) -> dict[str, Any] | None:
        """The trial's spec, or None before `begin`. Raises ValueError if it is damaged."""
        return self._read("spec.json")

    def manifest(self) -> dict[str, Any] | None:
        """Where and with what the trial began, or None. Raises ValueError if it is damaged."""
        return self._read("manifest.json")

    @contextlib.contextmanager
    def claim(self) -> Iterator[TrialDir]:
        """Hold this trial, so that no second process runs it. Raises `locks.Busy`.

        What a killed process left half-written is cleared away.
        """
        with self.store.lock(f"trial-{self.trial_id}", f"trial {self.trial_id}"):
            for leftover in self.path.glob(f"**/{TEMPORARY_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            if self.ended():
                self.drop_checkpoint()
            yield self

    # How it ended

    def ended(self) -> bool:
        """Whether the trial has ended: completed, diverged or failed."""
        return (self.path / "result.json").exists()

    def result(self) -> dict[str, Any] | None:
        """The result, or None while the trial has not ended. Raises ValueError if damaged."""
        return self._read("result.json")

    def finish(self, tables: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """End the trial: write its tables, then `result.json`, then drop the checkpoint.

        `tables` maps `curves`, `truncations` and `spectra` to rows (dicts); a missing one is
        written empty. `result["record"]` holds the fixed columns of `trials`. Raises ValueError,
        with nothing written, where a row does not fit its schema or a number in the result is
        NaN.
        """
        unknown = sorted(set(tables) - set(schemas.TRIAL_TABLES))
        if unknown:
            raise ValueError(f"a trial has no table {', '.join(unknown)}")
        record = result.get("record")
        if not isinstance(record, Mapping) or record.get("trial_id") != self.trial_id:
            raise ValueError(f"the result of trial {self.trial_id} has no record of that trial")
        schemas.make_table("trials", [record])
        schemas.canonical(result)
        spec = self.spec()
        ready = {
            name: schemas.make_table(name, tables.get(name, ()), spec)
            for name in schemas.TRIAL_TABLES
        }
        for name, table in ready.items():
            schemas.write_table(self.path / f"{name}.parquet", table)
        write_json(self.path / "result.json", result)
        self.drop_checkpoint()

    def table(self, name: str) -> pa.Table:
        """One of the trial's tables. Raises FileNotFoundError, or ValueError if damaged."""
        return schemas.read_table(self.path / f"{name}.parquet", name)

    def write_failure(self, failure: Mapping[str, Any]) -> None:
        """Note the last fault of the machine; the trial has not ended by it."""
        write_json(self.path / "failure.json", failure)

    def failure(self) -> dict[str, Any] | None:
        """The last fault of the machine, or None."""
        return self._read("failure.json")

    def wipe(self) -> None:
        """Forget everything but the spec, so that the trial can be run again from its start."""
        # First the file that says it has ended: a kill in between leaves an unfinished trial.
        (self.path / "result.json").unlink(missing_ok=True)
        if not self.path.exists():
            return
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "spec.json":
                path.unlink()

    # What it needs to go on, and the model it leaves

    def save_checkpoint(self, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint by this one: tensors and JSON state in one file, in one step.

        `state` may hold NaN and infinities, which come back as they were.
        """
        write_atomic(self._checkpoint, pack_state(tensors, state))

    def load_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, state) of the newest checkpoint, or None if there is none.

        A torn file cannot come from us, so a damaged one is not taken for an absent one: raises
        ValueError in one line.
        """
        return unpack_state(self._checkpoint)

    def note_spent(self, seconds: float, restarts: int) -> None:
        """Note what the trial has taken so far, beyond its checkpoint too, should it be killed.

        Whole or not at all, but not durable: a power cut may take the newest note, and a number
        is all that is lost with it.
        """
        path = self._spent
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-spent")
        temporary.write_text(json.dumps({"seconds": seconds, "restarts": restarts}))
        os.replace(temporary, path)

    def spent(self) -> tuple[float, int] | None:
        """(seconds, restarts) as last noted, or None. A note that cannot be read is none."""
        try:
            noted = read_json(self._spent)
            return float(noted["seconds"]), int(noted["restarts"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint, if any, and the note beside it."""
        shutil.rmtree(self._checkpoint.parent, ignore_errors=True)

    def save_fork(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Keep the state right after optimizer step `step` for the trials that part there."""
        write_atomic(self._fork(step), pack_state(tensors, state))

    def load_fork(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """(tensors on the CPU, state) as `save_fork` was given them, or None if it is not there.

        Raises ValueError, in one line, for a damaged file.
        """
        return unpack_state(self._fork(step))

    def forks(self) -> list[int]:
        """The steps behind which a state is kept, ascending."""
        return sorted(int(path.stem) for path in self.path.glob("forks/*.safetensors"))

    def drop_forks(self, but: Collection[int] = ()) -> None:
        """Remove the kept states, except behind the steps in `but`, unless a study holds them."""
        if any(self.path.glob(f"forks/{_HELD}*")):
            return
        for step in self.forks():
            if step not in but:
                self._fork(step).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or not there
            (self.path / "forks").rmdir()

    def hold_forks(self, study: str) -> None:
        """Have `drop_forks` remove nothing until `release_forks`: the study may part anywhere."""
        write_atomic(self.path / "forks" / f"{_HELD}{plain_name(study, 'study name')}", b"")

    def release_forks(self, study: str) -> None:
        """The study is over, as far as this trial goes."""
        (self.path / "forks" / f"{_HELD}{study}").unlink(missing_ok=True)

    def save_model(self, tensors: Tensors, description: Mapping[str, Any]) -> None:
        """Write the selected model and what is needed to rebuild it (`model.json`, last)."""
        write_atomic(self.path / "model.safetensors", pack(tensors))
        write_json(self.path / "model.json", description)

    def load_model(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(tensors on the CPU, description) of the selected model.

        Raises FileNotFoundError if the trial left none, ValueError if it is damaged.
        """
        description = self._read("model.json")
        if description is None:
            raise FileNotFoundError(f"trial {self.trial_id} has no stored model in {self.path}")
        return unpack(self.path / "model.safetensors"), description

    @property
    def _checkpoint(self) -> Path:
        return self.path / "checkpoint" / "state.safetensors"

    @property
    def _spent(self) -> Path:
        return self.path / "checkpoint" / "spent.json"

    def _fork(self, step: int) -> Path:
        return self.path / "forks" / f"{step}.safetensors"

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content = read_json(self.path / name)
        except FileNotFoundError:
            return None
        if not isinstance(content, dict):
            raise ValueError(f"{self.path / name} is not a JSON object")
        return content
