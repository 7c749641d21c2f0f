"""All arms by kind, for specs, plans and reports."""

from __future__ import annotations

from typing import Any

from harness.spec import SpecUnion

from .base import Arm

ARM_UNION = SpecUnion("kind", ())  # `harness.arms` adds ours, plug-ins add theirs


def of_kind(kind: str) -> type[Arm]:
    """The arm of a kind; the base class `Arm` for an unknown kind, as in a record whose plug-in is
    missing: it has no title, no style and nothing special."""
    found: Any = ARM_UNION.find(kind)
    return found or Arm
