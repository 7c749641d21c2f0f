"""Reads a cluster's description from a file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.suite import explain
from harness.suite.explain import known
from harness.tools.inputs import cut, os_reason, parse_json, read_bounded, shown

from .description import Cluster

LARGEST = 2**20  # bytes; a usual description has about a thousand

known(Cluster)


def read_cluster(path: Path) -> Cluster:
    """The validated description in a TOML or JSON file.

    Raises:
        ValueError: one line naming the file and what is wrong in it.
    """
    if path.suffix not in (".toml", ".json"):
        raise ValueError(
            f"a cluster's description is FILE.toml or FILE.json, not {shown(path.name)}"
        )
    try:
        data = read_bounded(path, LARGEST)
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    content = parse_json(data, path) if path.suffix == ".json" else _toml(data, path)
    try:
        return Cluster.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{cut(str(path))}: {explain(error)}") from None


def _toml(data: bytes, path: Path) -> Any:
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{cut(str(path))} is not valid TOML: {cut(str(error))}") from None


__all__ = ["read_cluster"]
