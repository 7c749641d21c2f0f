"""Imports modules whose code a driver has sent, not from files of this machine."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import linecache
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class FromMemory:
    """Finds and loads the modules of a folder that may not exist on this machine."""

    def __init__(self, folder: Path, files: Mapping[str, bytes]):
        self.folder, self.files = folder, files

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        place = name.replace(".", "/")
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if file in self.files:
                inside = [str(self.folder / place)] if file.endswith("__init__.py") else None
                return importlib.util.spec_from_file_location(
                    name,
                    self.folder / file,
                    loader=self,  # type: ignore[arg-type]
                    submodule_search_locations=inside,
                )
        return None

    def create_module(self, spec: Any) -> None:
        """Use the default module."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Run its code; tracebacks and `inspect` can show its lines."""
        path = Path(str(module.__file__))
        source = self.files[path.relative_to(self.folder).as_posix()]
        lines = source.decode(errors="replace").splitlines(keepends=True)
        linecache.cache[str(path)] = (len(source), None, lines, str(path))
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
