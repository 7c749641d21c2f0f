"""A process that dies, or a disk that is full, at the k-th change that it makes to files.

Changes are what Python reports to audit hooks (files opened for writing, renames, removals, new
folders, truncations), and `os.fsync`. They are counted from 0 and only under one folder, so that
caches and temporary folders elsewhere are left alone. SQLite's own writes are not seen.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

KILLED = 137
NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
Change = tuple[
    str, Path
]  # what is done: open, rename, remove, mkdir, rmdir, truncate, fsync; where

_CHANGING = {
    "os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.rmdir": "rmdir",
    "os.truncate": "truncate", "os.link": "link", "os.symlink": "link",
}  # fmt: skip
_GROWING = {"open", "mkdir", "link", "fsync"}  # what needs room on the disk
_sees: list[Callable[[str, Path], None]] = []  # at most one: who is told of changes


def changes(root: Path, body: Callable[[], object]) -> list[Change]:
    """Every change that `body` makes under `root`, in order."""
    seen: list[Change] = []
    with _told(root, lambda what, path: seen.append((what, path))):
        body()
    return seen


def killed_at(k: int, root: Path, body: Callable[[], object]) -> bool:
    """Run `body` in a fork that dies right before its k-th change; False if it ends before that.

    Of a file that is just being made durable, half is lost. The fork dies as if by SIGKILL: no
    handler, no `finally`. An exception in it is an AssertionError here.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with _told(root, _Killer(k)):
                body()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), f"the fork ended with {code}"
    return code == KILLED


@contextlib.contextmanager
def full_from(k: int, root: Path) -> Iterator[list[Change]]:
    """From the k-th change on, no more fits on the disk below `root`: what needs room is ENOSPC.

    Yields what was refused, which is empty as long as there was room for everything.
    """
    refused: list[Change] = []
    count = iter(range(sys.maxsize))

    def see(what: str, path: Path) -> None:
        if next(count) < k or what not in _GROWING or not _grows(what, path):
            return
        refused.append((what, path))
        if what == "fsync":
            _halve(path)
        raise OSError(NO_SPACE.errno, NO_SPACE.strerror, str(path))

    with _told(root, see):
        yield refused


class _Killer:
    def __init__(self, k: int) -> None:
        self.left = k

    def __call__(self, what: str, path: Path) -> None:
        self.left -= 1
        if self.left >= 0:
            return
        if what == "fsync" and path.is_file():
            _halve(path)
        os._exit(KILLED)


def _grows(what: str, path: Path) -> bool:
    """Whether this one really takes room: not a file that is there already, nor a folder's sync."""
    if what == "open":
        return not path.exists()
    return what != "fsync" or path.is_file()


def _halve(path: Path) -> None:
    told, _sees[:] = list(_sees), []  # this one is ours
    os.truncate(path, path.stat().st_size // 2)
    _sees[:] = told


@contextlib.contextmanager
def _told(root: Path, see: Callable[[str, Path], None]) -> Iterator[None]:
    """Call `see` right before every change under `root`; what it raises, the change raises."""
    assert not _sees, "one at a time"
    root = Path(os.path.realpath(root))

    def filtered(what: str, path: Path) -> None:
        if path.is_relative_to(root):
            see(what, path)

    fsync = os.fsync

    def told_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        filtered("fsync", path)
        fsync(descriptor)

    _install()
    _sees.append(filtered)
    os.fsync = told_fsync
    try:
        yield
    finally:
        os.fsync = fsync
        _sees.clear()


def _install(done: list[bool] = []) -> None:  # noqa: B006  a hook stays for the process's life
    if not done:
        sys.addaudithook(_hook)
        done.append(True)


def _hook(event: str, args: tuple[object, ...]) -> None:
    if not _sees:
        return
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and isinstance(path, str | bytes | os.PathLike):
            _sees[0]("open", _absolute(path, -1))
    elif event in _CHANGING:
        folder = args[-1] if isinstance(args[-1], int) and event != "os.truncate" else -1
        what, target = _CHANGING[event], args[1] if event == "os.rename" else args[0]
        _sees[0](what, _absolute(target, folder))


def _absolute(path: object, folder: int) -> Path:
    """The path without links, but for its own last part; `folder` is what it is relative to."""
    if isinstance(path, int):
        return Path(os.readlink(f"/proc/self/fd/{path}"))
    base = os.readlink(f"/proc/self/fd/{folder}") if folder >= 0 else os.getcwd()
    whole = Path(base, os.fsdecode(path))  # type: ignore[arg-type]
    return Path(os.path.realpath(whole.parent), whole.name)


def leftovers(root: Path) -> list[str]:
    """What only a run under way may keep: temporary files and checkpoints, below a store."""
    found = [p for p in root.rglob("*") if p.name.startswith(".tmp-") or p.name == "checkpoint"]
    return sorted(str(path.relative_to(root)) for path in found)


def mode_of(path: Path) -> str:
    """The permission bits of a file as `ls` writes them."""
    return stat.filemode(path.stat().st_mode)
