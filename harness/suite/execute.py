"""Runs the Python file of a suite; whatever goes wrong becomes one line."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import PydanticUserError, ValidationError

from harness import plugins
from harness.tools.inputs import cut, read_bounded

from .explain import explain
from .memory_modules import FromMemory

LARGEST_FILE = 16 * 2**20  # bytes


def execute(file: Path) -> types.ModuleType:
    """The module that a file defines. It may import modules from its folder; these are kept apart
    from modules of the same name in other folders.

    Raises:
        ValueError: one line with the file, the line if it is known, and the fault.
        OSError: it cannot be read.
    """
    return run_code(file, read_bounded(file, LARGEST_FILE))


def run_code(
    file: Path, source: bytes, beside: Mapping[str, bytes] | None = None
) -> types.ModuleType:
    """The module that a file's source defines. With `beside` (source by path relative to the file's
    folder), it imports modules from there rather than from the folder.

    Raises:
        ValueError: as `execute`.
    """
    path = file.absolute()
    module = types.ModuleType(f"_suite_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    folder = os.getcwd()
    with (
        answering(file),
        _left_as_it_was(folder),
        importing_from(path.parent, beside),
        plugins.reading(path.parent, beside),
    ):
        # Not by import: its cached bytecode would hide a change of the same second and size.
        code = compile(source, module.__file__, "exec", dont_inherit=True)
        exec(code, vars(module))
    return module


@contextlib.contextmanager
def answering(file: Path, attribute: str | None = None) -> Iterator[None]:
    """Turn whatever a suite's code raises, whenever its objects are used, into a one-line
    ValueError. `attribute` is the one being read; None while the file runs."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ValueError(_fault(file, error, attribute)) from None


def _fault(file: Path, error: BaseException, attribute: str | None) -> str:
    """What is wrong with a suite's file, and where, in one line."""
    name = cut(str(file))
    if isinstance(error, SyntaxError):
        place = f", line {error.lineno}" if error.lineno else ""
        inside = error.filename and error.filename != str(file.absolute())
        return f"{f'{name}: {error.filename}' if inside else name}{place}: {cut(str(error.msg))}"
    if isinstance(error, ValidationError):
        said = explain(error)
    else:
        said = ": ".join(filter(None, (type(error).__name__, _words(error))))
    if attribute is not None:
        return f"{name}, {attribute}: {said}"
    own = str(file.absolute())
    frames = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    lines = [line for path, line in frames if path == own]
    beside = [(path, line) for path, line in frames if path != own and _is_beside(path, file)]
    if beside:
        said += f" ({cut(Path(beside[-1][0]).name)}, line {beside[-1][1]})"
    return f"{name}, line {lines[-1]}: {said}" if lines else f"{name}: {said}"


def _is_beside(path: str, file: Path) -> bool:
    return Path(path).is_relative_to(file.absolute().parent) and "site-packages" not in path


def _words(error: BaseException) -> str:
    try:
        # (without the address that pydantic adds)
        return cut(error.message if isinstance(error, PydanticUserError) else str(error))
    except Exception:  # an exception of the suite's own, whose `__str__` raises another
        return "(which cannot be written out)"


@contextlib.contextmanager
def _left_as_it_was(folder: str) -> Iterator[None]:
    """Restore what would mislead the rest of the command: the working folder, which a relative
    `--store` depends on, and the standard streams."""
    streams = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        os.chdir(folder)
    if any(getattr(stream, "closed", False) for stream in streams):
        raise ValueError("it has closed standard output or standard error")


@contextlib.contextmanager
def importing_from(folder: Path, files: Mapping[str, bytes] | None = None) -> Iterator[None]:
    """Allow imports from this folder, or from these `files` of it, and forget the modules
    afterwards; write no bytecode."""
    before, path, writes_nothing = set(sys.modules), sys.path, sys.dont_write_bytecode
    finder: Any = None if files is None else FromMemory(folder, files)
    if finder is None:
        path.insert(0, str(folder))
    else:
        sys.meta_path.insert(0, finder)
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_nothing
        sys.path = path
        with contextlib.suppress(ValueError):
            path.remove(str(folder)) if finder is None else sys.meta_path.remove(finder)
        fresh = [name for name in sys.modules if name not in before]
        own = {name for name in fresh if _lies_in(sys.modules[name], folder)}
        for name in fresh:
            if name.partition(".")[0] in own:
                del sys.modules[name]


def _lies_in(module: Any, folder: Path) -> bool:
    """Whether a module or package lies directly in this folder."""
    spec = module.__spec__ if isinstance(module, types.ModuleType) else None
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *filter(None, [spec.origin])]
    return any(Path(place).parent == folder for place in places)
