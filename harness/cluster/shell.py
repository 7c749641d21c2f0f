"""Parts of shell scripts that depend on the description; the rest lies in `scripts/`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from .description import Cluster
from .ray_start import environment

SCRIPTS = Path(__file__).with_name("scripts")
MADE = "# Made by `harness cluster render`: change the description, and render it again."


def settings(cluster: Cluster, variables: Mapping[str, str]) -> str:
    """What a node sets up and exports first; `variables` are exported too."""
    exported = {**environment(cluster), **variables}
    lines = [
        *cluster.setup,
        *(f': "${{{name}:?is one of the secrets, and must be set}}"' for name in cluster.secrets),
        *(f"export {name}={shlex.quote(value)}" for name, value in exported.items()),
    ]
    return "\n" + "\n".join(lines) + "\n"


def script(*parts: str) -> str:
    """The text of a part that stands in a file of `scripts/`, or as it is, one after another."""
    return "".join((SCRIPTS / p).read_text() if p.endswith(".sh") else p for p in parts)


__all__ = ["MADE", "script", "settings"]
