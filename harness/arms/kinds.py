"""Which arms there are, by kind: the registry that specs, plans and reports look into."""

from __future__ import annotations

import json
from typing import Any, TypeVar, get_args

from pydantic import ValidationInfo

from harness.inputs import shown

from .base import Arm

AnArm = TypeVar("AnArm", bound=Arm)
KINDS: dict[str, type[Arm]] = {}


def register(arm: type[AnArm]) -> type[AnArm]:
    """Let an arm take part under its `kind`, the default of that field.

    Raises:
        ValueError: a `kind` that is no `Literal` with its default, or that is taken.
    """
    kind = arm.model_fields["kind"].default
    if not isinstance(kind, str) or get_args(arm.model_fields["kind"].annotation) != (kind,):
        raise ValueError(f'arm {arm.__name__} needs a kind: `kind: Literal["NAME"] = "NAME"`')
    if KINDS.get(kind, arm) is not arm:
        raise ValueError(f"arm {arm.__name__} takes kind {kind}, which {KINDS[kind].__name__} has")
    KINDS[kind] = arm
    return arm


def of_kind(kind: str) -> type[Arm]:
    """The arm of a kind; the base of all for one that is not known here, as of a record whose
    plug-in is gone: it has no title, no style and nothing special."""
    return KINDS.get(kind, Arm)


def validated(value: Any, info: ValidationInfo) -> Arm:
    """An arm of any kind, validated; for a field of a spec.

    Raises:
        ValueError: it says no kind, or one that there is not; or as the arm's own class.
    """
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    if kind is None:
        raise ValueError("kind is missing")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"no kind {shown(kind)}; there are {', '.join(KINDS)}")
    if info.mode == "json":  # only there a list is as good as a tuple
        return KINDS[kind].model_validate_json(json.dumps(value))
    return KINDS[kind].model_validate(value)
