"""Reads a trial's spec from a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.tasks.own.content import relative_to
from harness.tools.inputs import cut, os_reason, parse_json, read_bounded, shown

from .explain import explain
from .specs import TrialSpec

LARGEST_SPEC = 16 * 2**20  # bytes; a usual spec has about a thousand


def read_trial(path: Path) -> TrialSpec:
    """The validated spec in a JSON file.

    Raises:
        ValueError: one line naming the file and what is wrong in it.
    """
    try:
        data = read_bounded(path, LARGEST_SPEC)
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    name = cut(str(path))
    content = parse_json(data, path, parse_constant=_refuse, object_pairs_hook=_distinct)
    if not isinstance(content, dict):
        raise ValueError(f"{name} must hold a JSON object, not {type(content).__name__}")
    version = content.get("spec_version", 1)
    if version != 1 or isinstance(version, bool):
        raise ValueError(f"{name}: spec_version {shown(version)} is unknown; this harness reads 1")
    try:
        with relative_to(path.parent):
            return TrialSpec.model_validate(content)
    except ValidationError as error:
        unknown = any(one["type"] == "union_tag_invalid" for one in error.errors())
        hint = "; --plugin FILE.py brings one of your own" if unknown else ""
        raise ValueError(f"{name}: {explain(error)}{hint}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(k for k, _ in pairs).items() if count > 1)
        raise ValueError(f"{shown(twice, 60)} stands there twice")
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number that a spec may hold")
