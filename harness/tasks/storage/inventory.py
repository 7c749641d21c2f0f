"""An inventory of data sets: where they come from, and what a data folder holds of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.tasks.specs import TASK_SPECS, TaskSpecBase
from harness.tasks.specs.own import OwnSpec
from harness.tasks.storage.cache import _DIGEST
from harness.tools.inputs import cut, parse_json, read_bounded


def data_lines(data_dir: Path) -> Iterator[str]:
    """For every task what it is, where its data come from and what is here. Reads no data."""
    for kind in sorted(TASK_SPECS, key=lambda kind: kind.task_name()):
        name = kind.task_name()
        yield f"{name:20} {kind.family:11} {_shape(kind, name)}"
        yield from (f"{'':20} {line}" for line in _origin(kind, name, data_dir))


def _shape(kind: type[TaskSpecBase], name: str) -> str:
    if issubclass(kind, OwnSpec):
        return "your data      shapes and metric as its files and options have them"
    spec = kind.model_validate({"name": name})
    return f"{spec.info.kind:14} length {spec.info.length:6}  {spec.metric}"


def _origin(kind: type[TaskSpecBase], name: str, data_dir: Path) -> Iterator[str]:
    yield f"from: {kind.origin}"
    for archive in kind.archives:
        only = kind.archive_uses.get(archive)
        use = f" (only for {only})" if only else ""
        yield f"archive: {archive}{use}, {_archive(archive, data_dir / 'downloads')}"
    if kind.installed:
        yield f"here: yes, as installed; harness data check {name} tells its checksum"
        return
    here = list(_here(data_dir / (kind.folder or name)))
    yield from (f"here: {line}" for line in here)
    if not here:
        how = " --set path=PATH" if issubclass(kind, OwnSpec) else ""
        yield f"here: no; made when first needed, or by harness data fetch {name}{how}"


def _archive(archive: str, folder: Path) -> str:
    """Whether an archive is in the folder of downloads."""
    path = folder / archive
    try:
        if path.is_file():
            return f"here, {_megabytes(path.stat().st_size)}"
        part = path.with_name(f"{archive}.part")
        if part.is_file():
            return f"{_megabytes(part.stat().st_size)} of it here"
    except OSError as error:
        return f"not readable: {error.strerror}"
    return "not here"


def _here(folder: Path) -> Iterator[str]:
    """What a task's folder holds: generated files, and folders of mapped arrays."""
    for path in sorted(folder.glob("*/*.npz")):
        yield f"{path}, {_checksum(path)}"
    for index in sorted(folder.glob("[!.]*/index.json")):
        yield f"{index.parent}, {_described(index)}"


def _described(index: Path) -> str:
    """Size, checksum and options of mapped arrays, as their index tells them."""
    try:
        content = parse_json(read_bounded(index), index)
        size = sum(int(entry["bytes"]) for entry in content["arrays"].values())
        first = min(content["arrays"])
        checksum = content["arrays"][first]["sha256"][:16]
        options = json.dumps(content["options"], sort_keys=True)
        made = content.get("notes", {}).get("path")  # for own data: the path
        of = f"{cut(made)} with {options}" if made else options
        return f"{_megabytes(size)}, {first} sha256 {checksum}, of {of}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "damaged"


def _checksum(path: Path) -> str:
    """The size of a file, and the beginning of the checksum that it was stored with."""
    try:
        size = _megabytes(path.stat().st_size)
        with np.load(path, allow_pickle=False) as stored:
            return f"{size}, sha256 {str(stored[_DIGEST])[:16]}"
    except Exception:  # corrupted bytes make the readers raise almost anything
        return "damaged"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"
