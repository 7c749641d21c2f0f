"""Plug-ins: other people's layers, arms, tasks and rank rules, on equal terms with ours.

A decorator registers a class or function under its own name, together with its source. The source
is recorded with every trial that uses it and sent to the workers.
"""

from .layers import layer
from .registry import (
    Plugin,
    arm,
    find,
    identity,
    lacking,
    plugins,
    rank_rule,
    sources_of,
    task,
    used_by,
)
from .source import Source, reading

__all__ = [
    "Plugin",
    "Source",
    "arm",
    "find",
    "identity",
    "lacking",
    "layer",
    "plugins",
    "rank_rule",
    "reading",
    "sources_of",
    "task",
    "used_by",
]
