"""Which files trials have, and when each was written: without reading any."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping

from harness.records.checksums import RESULT, digest
from harness.records.schemas import TRIAL_TABLES
from harness.records.store import Store
from harness.records.trial_files import RECORDED, SHARED

Stamp = tuple[int, float]  # bytes, and when written, in seconds since the epoch
Files = Mapping[str, Stamp]  # of one trial, by name: `result.json`, `epochs/2/curves.parquet`

_TABULATED = {RESULT, "spec.json", *(f"{name}.parquet" for name in TRIAL_TABLES)}
_OF_RUNS = {*RECORDED} - {*SHARED}  # of which each run of a trial has its own
_CHECKPOINT, _RUNS, _KEPT = "checkpoint/", "epochs/", "forks/"


def trial_files(store: Store, trials: Iterable[str]) -> dict[str, Files]:
    """The files of these trials, but for the states that others fork from.

    In a bucket that is one listing of all trials, a request for a thousand objects. Raises OSError.
    """
    if store.is_folder:
        root = str(store.storage.path("trials"))
        return {trial_id: dict(_below(f"{root}/{trial_id}")) for trial_id in trials}
    found: dict[str, dict[str, Stamp]] = {trial_id: {} for trial_id in trials}
    for entry in store.storage.list("trials/"):
        _, trial_id, name = entry.key.split("/", 2)
        if trial_id in found and not name.startswith(_KEPT):
            found[trial_id][name] = entry.size, entry.modified
    return dict(found)


def result_stamps(store: Store) -> dict[str, Stamp]:
    """When each ended trial of the store wrote its result."""
    if store.is_folder:
        root, names = str(store.storage.path("trials")), store.storage.children("trials/")
        stamps = {name: stamp_of(f"{root}/{name}/{RESULT}") for name in names}
        return {name: stamp for name, stamp in stamps.items() if stamp is not None}
    return ends_and_forks(store)[0]


def ends_and_forks(store: Store) -> tuple[dict[str, Stamp], dict[str, list[int]]]:
    """From one listing of a bucket: `result_stamps`, and after which steps trials keep a state."""
    stamps: dict[str, Stamp] = {}
    forks: dict[str, list[int]] = {}
    for entry in store.storage.list("trials/"):
        _, trial_id, name = entry.key.split("/", 2)
        if name == RESULT:
            stamps[trial_id] = entry.size, entry.modified
        elif (found := re.fullmatch(r"forks/([0-9]{1,18})\.safetensors", name)) is not None:
            forks.setdefault(trial_id, []).append(int(found[1]))
    return stamps, {trial_id: sorted(steps) for trial_id, steps in forks.items()}


def fingerprint(files: Files) -> str:
    """A digest of when all that goes into a suite's tables was written, and how long it is."""
    known = sorted(
        (name, *stamp) for name, stamp in files.items() if name.rpartition("/")[2] in _TABULATED
    )
    return digest(repr(known).encode())[:32]


def has_leftovers(files: Files) -> bool:
    """Whether an ended trial has something that its end should have removed."""
    if RESULT not in files:
        return False
    runs = {name.rpartition("/")[0] for name in files if name.rpartition("/")[2] in _OF_RUNS}
    return len(runs) > 1 or any(_CHECKPOINT in name for name in files)


def stamp_of(path: str) -> Stamp | None:
    """The stamp of a file; None if there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    return status.st_size, status.st_mtime


def _below(folder: str, prefix: str = "") -> Iterator[tuple[str, Stamp]]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        name = prefix + entry.name
        if prefix == _RUNS or f"{name}/" in (_CHECKPOINT, _RUNS):
            yield from _below(entry.path, f"{name}/")
        elif f"{name}/" != _KEPT and (stamp := stamp_of(entry.path)) is not None:
            yield name, stamp


__all__ = [
    "Files",
    "Stamp",
    "ends_and_forks",
    "fingerprint",
    "has_leftovers",
    "result_stamps",
    "trial_files",
]
