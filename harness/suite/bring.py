"""Load the code of plug-ins: from files, from installed modules, and from what a driver sends."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable
from pathlib import Path

from harness import plugins
from harness.inputs import cut, os_reason, shown
from harness.plugins import Source
from harness.plugins.source import digest
from harness.tasks.own.content import located, relative_to

from .execute import answering, execute, run_code

_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_brought: set[str] = set()  # absolute paths of files, SHA-256 of what a driver sent


def bring(name: str, anew: bool = False) -> str:
    """Load a plug-in: FILE.py, from the suite's folder, or MODULE of an installed package.

    A file that was loaded before is loaded again only `anew`. Returns its name, of a file its
    absolute path.

    Raises:
        ValueError: one line; there is none, or it raises.
    """
    if name.endswith(".py"):
        path = located(name, "the plug-in")
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
    try:
        with relative_to(path.parent):
            execute(path)
    except OSError as error:
        raise ValueError(f"cannot read {os_reason(error)}") from None
    if all(one in before for one in plugins.plugins()):
        raise ValueError(f"{cut(str(path))} registers no plug-in: harness.layer, .arm, .task and "
                         ".rank_rule are the decorators")  # fmt: skip
    _brought.add(str(path))


def listed(source: bytes) -> list[str]:
    """What the suites and studies in a source list as their `plugins`, as far as they are written
    out: their code is loaded before that of the suite, whose comparisons name its kinds."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "Suite",
            "Study",
        ):
            values = [word.value for word in node.keywords if word.arg == "plugins"]
            items = [item for value in values for item in getattr(value, "elts", ())]
            found += [
                i.value for i in items if isinstance(i, ast.Constant) and isinstance(i.value, str)
            ]
    return found


def receive(sources: Iterable[Source]) -> None:
    """Load what a driver has sent, each once in this process.

    Raises:
        ValueError: it is not what was sent, raises here, or belongs to a package that is not
            installed here, or in another version.
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
            raise ValueError(f"the plug-in {source} is here, but not as the driver has it: "
                             "install the same everywhere")  # fmt: skip
        _brought.add(source.sha256)


def _run(path: Path, source: Source) -> None:
    if source.module:
        with importing(Path(source.folder), source.files):
            importlib.import_module(source.module)
    else:
        run_code(path, source.files[source.file], source.files)
