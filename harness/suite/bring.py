"""Loads the code of plug-ins: from files, from installed modules, and from a driver."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from harness import plugins
from harness.plugins import Source
from harness.plugins.source import digest, listed, sent_file
from harness.tasks.own.content import located, relative_to
from harness.tools.inputs import cut, os_reason, shown

from .execute import answering, execute, importing_from, run_code

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_brought: set[str] = set()  # absolute paths of files, SHA-256 of sources from a driver


def bring(name: str, anew: bool = False) -> str:
    """Load a plug-in: FILE.py, relative to the suite's folder, or an installed MODULE.

    A file that is already loaded is loaded again only if `anew`. Returns the module's name or the
    file's absolute path.

    Raises:
        ValueError: one line; it does not exist, or it raises.
    """
    if name.endswith(".py"):
        path = located(name, "the plug-in")
        if (sent := sent_file(path)) is not None:
            run_code(path, *sent)
            return str(path)
        if not path.is_file():
            raise ValueError(f"no plug-in file {cut(str(path))}")
        if anew or str(path) not in _brought:
            _load(path)
        return str(path)
    if not _MODULE.fullmatch(name):
        raise ValueError(
            f"a plug-in is FILE.py or the name of an installed module, not {shown(name)}"
        )
    with answering(Path(name)):
        importlib.import_module(name)
    return name


def _load(path: Path) -> None:
    before = plugins.plugins()
    _brought.add(str(path))  # first, since a suite's file may list itself
    try:
        with relative_to(path.parent):
            execute(path)
        if all(one in before for one in plugins.plugins()):
            raise ValueError(
                f"{cut(str(path))} registers no plug-in: harness.layer, .arm, .task and .rank_rule "
                "are the decorators"
            )
    except OSError as error:
        _brought.discard(str(path))
        raise ValueError(f"cannot read {os_reason(error)}") from None
    except ValueError:
        _brought.discard(str(path))
        raise


def receive(sources: Iterable[Source]) -> None:
    """Load the sources that a driver has sent, each once per process.

    Raises:
        ValueError: a source changed on the way, raises, or belongs to a package that is missing
            here or has another version.
    """
    for source in sources:
        if source.sha256 in _brought:
            continue
        if source.distribution is None:
            if digest(source.files) != source.sha256:
                raise ValueError(f"the plug-in {source} did not arrive as it was sent")
            path = Path(source.folder, source.file)
            with relative_to(path.parent):
                _run(path, source)
        else:
            with answering(Path(source.module)):
                importlib.import_module(source.module)
        here = {one.source.sha256 for one in plugins.plugins()}
        if source.sha256 not in here:
            raise ValueError(f"the plug-in {source} differs here from the driver's: "
                             "install the same version everywhere")  # fmt: skip
        _brought.add(source.sha256)


def _run(path: Path, source: Source) -> None:
    folder = Path(source.folder)
    if source.module:
        with (
            answering(path),
            importing_from(folder, source.files),
            plugins.reading(folder, source.files),
        ):
            importlib.import_module(source.module)
        return
    files = source.files
    for name in listed(files[source.file]):
        if name in files:
            run_code(folder / name, files[name], files)
    run_code(path, files[source.file], files)


def with_plugins(values: Any) -> Any:
    """Load the plug-ins of a suite or study before its validation; return its values with absolute
    paths of plug-in files.

    Raises:
        ValueError: as `bring`.
    """
    names = values.get("plugins") if isinstance(values, dict) else None
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return {**values, "plugins": tuple(bring(name) for name in names)}
    return values


# Left out of records if empty, as in old records.
Plugins = Annotated[
    tuple[str, ...], Field(strict=False, max_length=100, exclude_if=lambda names: not names)
]
