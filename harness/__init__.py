"""A benchmarking harness for state-space models; what is named here loads when it is used."""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = dict.fromkeys(("arm", "layer", "rank_rule", "task"), "harness.plugins")


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(importlib.import_module(_NAMES[name]), name)
