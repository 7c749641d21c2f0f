"""Read a trial's spec from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .explain import explain
from .specs import TrialSpec


def read_trial(path: Path) -> TrialSpec:
    """The validated spec in a JSON file.

    Raises:
        ValueError: one line naming the file and what is wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse, object_pairs_hook=_distinct)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON spec: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, not {type(content).__name__}")
    version = content.get("spec_version", 1)
    if version != 1 or isinstance(version, bool):
        raise ValueError(f"{path}: spec_version {version!r} is unknown; this harness reads 1")
    try:
        return TrialSpec.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number that a spec may hold")
