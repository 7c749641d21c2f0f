"""Loops compiled by numba, cached on disk if possible and compiled again otherwise.

The cache only saves seconds; no result depends on it. So a problem with it (a folder that is not
writable, a truncated file) must not end a trial. It is reported once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numba

from harness.tools.inputs import cut
from harness.tools.notes import say

_said: list[str] = []  # this process's note, at most one


def compiled(function: Callable[..., Any]) -> Any:
    """The function, compiled at its first call: without the interpreter's lock, without fast-math,
    and with numpy's division."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _cache_class()(function)  # what `cache=True` does
    except Exception as error:  # no writable folder, or a numba with other classes
        _say(error)
    return dispatcher


@functools.cache
def _cache_class() -> type:
    """numba's own function cache, changed so that its errors end nothing."""
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserWideCacheLocator

    class Files(CompileResultCacheImpl):
        """numba's own locations for compiled code, but never a folder called `~`."""

        @property
        def _locator_classes(self) -> list[Any]:  # type: ignore[override]
            known: list[Any] = list(CompileResultCacheImpl._locator_classes)
            if os.path.expanduser("~").startswith("~"):  # no HOME, and a user whom nobody knows
                known.remove(UserWideCacheLocator)
            return known

    class Cache(FunctionCache):
        """A cache that counts as empty if it cannot be read, and is rewritten if possible."""

        _impl_class = Files

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception as error:  # anything that unpickling half a file raises
                _say(error)
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                try:
                    super().save_overload(sig, data)
                except OSError:
                    raise
                except Exception:  # an unreadable index: start a new one
                    self.flush()
                    super().save_overload(sig, data)
            except OSError as error:  # full, or no longer ours to write
                _say(error)

    return Cache


def _say(error: Exception) -> None:
    if not _said:
        _said.append(cut(f"{type(error).__name__}: {error}"))
        say(f"what numba compiles cannot be kept on disk, so it is compiled again ({_said[0]})")


__all__ = ["compiled"]
