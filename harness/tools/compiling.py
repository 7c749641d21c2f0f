"""Loops compiled by numba: kept on disk where that can be done, compiled anew where it cannot.

What is kept only saves seconds, and the bits of a result do not depend on it. So no trouble with
it, a folder that cannot be written or a file cut short, may end a trial: it is said once.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import numba

from harness.tools.inputs import cut
from harness.tools.notes import say

_said: list[str] = []  # the note of this process, at most one


def compiled(function: Callable[..., Any]) -> Any:
    """The function compiled when first called: without the interpreter's lock and without
    fast-math, division as in numpy."""
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy")(function)
    try:
        dispatcher._cache = _cache_class()(function)  # what `cache=True` does
    except Exception as error:  # no folder that can be written, or a numba with other classes
        _say(error)
    return dispatcher


@functools.cache
def _cache_class() -> type:
    """numba's own cache of a function, private to it, which here ends nothing."""
    from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserWideCacheLocator

    class Files(CompileResultCacheImpl):
        """Where what was compiled is kept: as numba has it, but never in a folder called `~`."""

        @property
        def _locator_classes(self) -> list[Any]:  # type: ignore[override]
            known: list[Any] = list(CompileResultCacheImpl._locator_classes)
            if os.path.expanduser("~").startswith("~"):  # no HOME, and a user whom nobody knows
                known.remove(UserWideCacheLocator)
            return known

    class Cache(FunctionCache):
        """A cache that counts as empty where it cannot be read, and is made anew if it can be."""

        _impl_class = Files

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            try:
                return super().load_overload(sig, target_context)
            except Exception as error:  # whatever unpickling half a file raises
                _say(error)
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            try:
                try:
                    super().save_overload(sig, data)
                except OSError:
                    raise
                except Exception:  # an index that cannot be read: begin a new one
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
