"""What data sets there are: where they come from, and what of them is in a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from harness.tasks.cache import _DIGEST
from harness.tasks.specs import TASK_SPECS, TaskSpecBase


def data_lines(data_dir: Path) -> Iterator[str]:
    """For every task what it is, where its data come from and what is here; reads no data."""
    for kind in sorted(TASK_SPECS, key=_name):
        name = _name(kind)
        info = kind.model_validate({"name": name}).info
        yield f"{name:10} {kind.family:11} {info.kind:14} length {info.length:5}  {kind.metric}"
        yield f"{'':10} from: {kind.origin}"
        if kind.installed:
            yield f"{'':10} here: yes, as installed; harness data check {name} tells its checksum"
            continue
        files = sorted((data_dir / name).glob("*/*.npz"))
        if not files:
            yield f"{'':10} here: no; made when first needed, or by harness data fetch {name}"
        for path in files:
            yield f"{'':10} here: {path}, {path.stat().st_size / 1e6:.3g} MB, {_checksum(path)}"


def _name(kind: type[TaskSpecBase]) -> str:
    return str(kind.model_fields["name"].annotation.__args__[0])  # type: ignore[union-attr]


def _checksum(path: Path) -> str:
    """The beginning of the checksum that a file was stored with."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return f"sha256 {str(stored[_DIGEST])[:16]}"
    except Exception:  # bits gone wrong make the readers raise almost anything
        return "damaged"
