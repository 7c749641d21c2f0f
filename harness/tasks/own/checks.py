"""Checks that files still hold what a spec says."""

from __future__ import annotations

from typing import Any

from harness.tasks.specs.own import Content, OwnSpec
from harness.tools.inputs import cut


def check_unchanged(spec: OwnSpec, sha256: str) -> None:
    """Raises ValueError if the files of a spec have changed since it was made."""
    if sha256 != spec.seen("sha256"):
        raise ValueError(
            f"{cut(spec.path)} holds other data than the trial was planned with: its SHA-256 is "
            f"{sha256}, not {spec.seen('sha256')}; plan anew, or leave `content` out"
        )


def facts(content: Content) -> dict[str, Any]:
    """The part of `content` that depends on the files and reading options, not on path or split."""
    return content.model_dump(exclude={"path", "train", "validation"})


def check_same(spec: OwnSpec, content: dict[str, Any]) -> None:
    """Raises ValueError if the `content` of a spec differs from what was read, by `facts`."""
    if spec.content is None or content != facts(spec.content):
        raise ValueError(f"{cut(spec.path)}: `content` is of other options: leave it out")
