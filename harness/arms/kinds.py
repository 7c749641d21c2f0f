"""Which arms there are, by kind: what specs, plans and reports look into."""

from __future__ import annotations

from typing import Any

from harness.spec import SpecUnion

from .base import Arm

ARM_UNION = SpecUnion("kind", ())  # `harness.arms` adds ours, plug-ins theirs


def of_kind(kind: str) -> type[Arm]:
    """The arm of a kind; the base of all for one that is not known here, as of a record whose
    plug-in is gone: it has no title, no style and nothing special."""
    found: Any = ARM_UNION.find(kind)
    return found or Arm
