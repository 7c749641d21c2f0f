"""The door for other people's code: layers, arms, tasks and rank rules that take part as ours do.

A decorator registers a class, or a function, under its own name. Where its code stands goes with
it: that is recorded with every trial that uses it, and sent to the workers.
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
