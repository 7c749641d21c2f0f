"""Where the code of a plug-in stands: what is recorded of it, and what a worker needs of it."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from harness.spec import ENTRY_POINTS
from harness.tools.inputs import cut, read_bounded

LARGEST_SOURCE = 16 * 2**20  # bytes of a plug-in's file, and of all that goes with it


@dataclass(frozen=True)
class Source:
    """Where the code of a plug-in stands.

    `file` is its path below `folder`, and `files` the content of it and of the modules beside it
    that it imports, by path. `sha256`, hex, is that of the file; of several that of their paths and
    SHA-256. Code of an installed package has a `distribution` and a `module`, and `files` is empty.
    """

    file: str
    sha256: str
    module: str = ""
    distribution: str | None = None
    version: str | None = None
    folder: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def is_place_of(self, other: Source) -> bool:
        """Whether the other is the same code, or a later state of the same file."""
        same_file = (self.folder, self.file, self.module) == (
            other.folder, other.file, other.module,
        )  # fmt: skip
        return same_file or self.sha256 == other.sha256

    def __str__(self) -> str:
        if self.distribution is not None:
            return f"{self.file} of {self.distribution} {self.version}"
        return self.file


@dataclass(frozen=True)
class Reading:
    """The folder whose files are executed as plug-ins, and their content where they come from
    memory rather than from the folder."""

    folder: Path
    files: Mapping[str, bytes] | None = None

    def read(self, name: str) -> bytes | None:
        """A file of the folder by its path below it; None where there is none."""
        if self.files is not None:
            return self.files.get(name)
        path = self.folder / name
        return read_bounded(path, LARGEST_SOURCE) if path.is_file() else None


_reading: ContextVar[Reading | None] = ContextVar("plug-ins are read from", default=None)


@contextlib.contextmanager
def reading(folder: Path, files: Mapping[str, bytes] | None = None) -> Iterator[None]:
    """Say where the code comes from that is executed meanwhile."""
    token = _reading.set(Reading(folder, files))
    try:
        yield
    finally:
        _reading.reset(token)


def source_of(target: Callable[..., Any]) -> Source:
    """Where the code of a class or function stands.

    Raises:
        ValueError: nowhere that could be read.
    """
    name = target.__module__
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None:
        return _of_no_file(target)
    file, now = Path(path).absolute(), _reading.get()
    depth = name.count(".") + (file.name == "__init__.py" and not name.startswith("_"))
    root = file.parents[depth]
    if now is None or not file.is_relative_to(now.folder):
        package = _distribution(name)
        if package is not None:
            own = hashlib.sha256(file.read_bytes()).hexdigest()
            place = file.relative_to(root).as_posix()
            return Source(place, own, name, package.name, package.version)
        now = Reading(root)
    place = file.relative_to(now.folder).as_posix()
    files = _with_imports(place, now)
    module = "" if depth == 0 else name
    return Source(place, digest(files), module, folder=str(now.folder), files=files)


def digest(files: Mapping[str, bytes]) -> str:
    """SHA-256, hex: of the file, or of the paths and the SHA-256 of several."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if len(sums) == 1:
        return next(iter(sums.values()))
    return hashlib.sha256(
        "".join(f"{n}\0{s}\n" for n, s in sorted(sums.items())).encode()
    ).hexdigest()


def listed(source: bytes) -> list[str]:
    """What the suites and studies in a source list as their `plugins`, as far as they are written
    out: their code is loaded before that of the suite, whose comparisons name its kinds."""
    found: list[str] = []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # which executing it says better
    for node in ast.walk(tree):
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


def sent_file(path: Path) -> tuple[bytes, Mapping[str, bytes]] | None:
    """The content of a file, and of those beside it, where the code that is executed now was sent
    by a driver; None where it comes from this machine.

    Raises:
        ValueError: this file was not sent.
    """
    now = _reading.get()
    if now is None or now.files is None:
        return None
    name = path.relative_to(now.folder).as_posix() if path.is_relative_to(now.folder) else ""
    if name not in now.files:
        raise ValueError(f"{cut(str(path))} does not lie beside the suite: it was not sent here")
    return now.files[name], now.files


def _of_no_file(target: Callable[..., Any]) -> Source:
    """Code that was typed in, in a cell of a notebook say: it runs in this process alone."""
    for part in (target, *vars(target).values()):
        function = getattr(part, "fget", getattr(part, "__func__", part))
        code: Any = getattr(function, "__code__", None)
        if code is None or function.__module__ != target.__module__:
            continue
        cell = "".join(linecache.getlines(code.co_filename))
        if cell:
            return Source("", hashlib.sha256(cell.encode()).hexdigest())
    raise ValueError(f"the code of {target.__name__} stands in no file: put it into one")


def _distribution(module: str) -> importlib.metadata.Distribution | None:
    """The installed package that a module belongs to, if it does."""
    top = module.partition(".")[0]
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.module.partition(".")[0] == top and point.dist is not None:
            return point.dist
    owners = importlib.metadata.packages_distributions().get(top, [])
    return importlib.metadata.distribution(owners[0]) if owners else None


def with_imports(main: str, folder: Path) -> dict[str, bytes]:
    """The content of a file in a folder and, in turn, of the modules beside it that it imports,
    and of the plug-ins that it lists, by path below the folder.

    Raises:
        ValueError: it imports too much code.
    """
    return _with_imports(main, Reading(folder))


def _with_imports(main: str, now: Reading) -> dict[str, bytes]:
    """The content of a file and, in turn, of the modules beside it that it imports, and of the
    plug-ins that it lists, by path."""
    parents = [str(parent / "__init__.py") for parent in PurePosixPath(main).parents]
    files: dict[str, bytes] = {}
    todo = [main, *parents[:-1]]
    while todo:
        name = todo.pop(0)
        content = None if name in files else now.read(name)
        if content is None:
            continue
        files[name] = content
        if sum(map(len, files.values())) > LARGEST_SOURCE:
            raise ValueError(
                f"{cut(main)} imports more than {LARGEST_SOURCE / 2**20:g} MiB of code"
            )
        todo += [*listed(content), *_imported(content, name)]
    return files


def _imported(content: bytes, name: str) -> Iterator[str]:
    """Where below the folder the modules may lie that a file imports."""
    package = PurePosixPath(name).parent.parts
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            modules = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = (*base, *(node.module.split(".") if node.module else ()))
            modules = [base, *((*base, alias.name) for alias in node.names)]
        else:
            continue
        for module in modules:
            if module[:1] == ("harness",):
                continue
            for end in range(1, len(module) + 1):
                path = "/".join(module[:end])
                yield from (f"{path}.py", f"{path}/__init__.py")
