"""All settings outside the specs: the `HARNESS_*` variables, in one table.

None of them changes what a trial is. Threads and device can change the bits of its results, so its
manifest records them. A variable is read when it is needed, without torch, so that a driver can
refuse what its workers would refuse. With `empty_is_unset`, an empty variable counts as unset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from harness.tools.inputs import shown, user_path
from harness.tools.redact import redacted

PREFIX = "HARNESS_"
MOST_THREADS = 1024  # torch and OpenMP crash on numbers that no machine has
MOST_SECONDS = 1_000_000.0  # twelve days

Value = TypeVar("Value")


@dataclass(frozen=True)
class Variable(Generic[Value]):
    """One variable: its meaning, its default, and how its text is parsed."""

    name: str
    default: str  # as text; empty for none
    meaning: str
    parse: Callable[[str, str], Value]  # takes name and text; raises ValueError
    forwarded: bool = False  # whether a driver passes it on to its workers
    empty_is_unset: bool = True

    def text(self) -> str | None:
        """The variable's text, or None if it is unset."""
        text = os.environ.get(self.name)
        return None if text == "" and self.empty_is_unset else text

    def get(self) -> Value:
        """The variable's value, or the default if it is unset.

        Raises:
            ValueError: one line that names the variable and what it takes.
        """
        text = self.text()
        return self.parse(self.name, self.default if text is None else text)


def _device(name: str, text: str) -> str | None:
    if not re.fullmatch(r"(cpu|cuda(:[0-9]{1,4})?)?", text):
        raise ValueError(f"{name} is {shown(text)}; use cpu or cuda")
    return text or None


def _threads(name: str, text: str) -> int:
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_THREADS))
    if not digits or not 1 <= int(text) <= MOST_THREADS:
        raise ValueError(
            f"{name} must be a whole number from 1 to {MOST_THREADS}, not {shown(text)}"
        )
    return int(text)


def _seconds(least: float, name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not least <= seconds <= MOST_SECONDS:
        raise ValueError(
            f"{name} must be a number of seconds from {least:g} to {MOST_SECONDS:.0f}, "
            f"not {shown(text)}"
        )
    return seconds


def _switch(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError(f"{name} must be 0 or 1, not {shown(text)}")
    return text == "1"


def _tristate(name: str, text: str) -> bool | None:
    if text not in ("auto", "0", "1"):
        raise ValueError(f"{name} must be auto, 0 or 1, not {shown(text)}")
    return None if text == "auto" else text == "1"


def _address(name: str, text: str) -> str | None:
    if not text:
        return None
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname:
        public = re.sub(r"(//)[^/\s]*@", r"\1***@", shown(text))
        raise ValueError(f"{name} must be an http or https address; got {public}")
    return text


def _folder(name: str, text: str) -> Path:
    return user_path(text, name)


def _verbatim(name: str, text: str) -> str:
    return text


STORE = Variable(
    f"{PREFIX}STORE",
    "results/local",
    "folder or s3:// address of records, unless --store is given",
    _verbatim,
)
DATA = Variable(
    f"{PREFIX}DATA", "data", "folder of downloaded and generated data", _folder, forwarded=True
)
DATA_MIRROR = Variable(
    f"{PREFIX}DATA_MIRROR",
    "",
    "http or https address of a mirror of the archives, tried first",
    _address,
    forwarded=True,
)
DATA_UNCHECKED = Variable(
    f"{PREFIX}DATA_UNCHECKED",
    "0",
    "1 waives the known checksums of archives",
    _switch,
    forwarded=True,
)
MLFLOW = Variable(
    f"{PREFIX}MLFLOW",
    "",
    "http or https address of an MLflow server that shows the suites, in place of the store's file",
    _address,
)
DEVICE = Variable(
    f"{PREFIX}DEVICE",
    "",
    "cpu, cuda or cuda:N; unset, a GPU if there is one",
    _device,
    forwarded=True,
)
THREADS = Variable(
    f"{PREFIX}THREADS",
    "1",
    f"threads of one trial, 1 to {MOST_THREADS}",
    _threads,
    forwarded=True,
    empty_is_unset=False,
)
CHECKPOINT_SECONDS = Variable(
    f"{PREFIX}CHECKPOINT_SECONDS",
    "60",
    "seconds between the checkpoints of a trial",
    partial(_seconds, 0.0),
    forwarded=True,
    empty_is_unset=False,
)
LEASE_SECONDS = Variable(
    f"{PREFIX}LEASE_SECONDS",
    "30",
    "seconds of silence after which a trial's process on another machine counts as lost",
    partial(_seconds, 1.0),
    forwarded=True,
    empty_is_unset=False,
)
CUDA_GRAPHS = Variable(
    f"{PREFIX}CUDA_GRAPHS",
    "auto",
    "steps as CUDA graphs: auto, 0 (never) or 1 (wherever they can be)",
    _tristate,
    forwarded=True,
)
RAY_START_SECONDS = Variable(
    f"{PREFIX}RAY_START_SECONDS",
    "180",
    "seconds that our own Ray may take to start",
    partial(_seconds, 1.0),
    empty_is_unset=False,
)

VARIABLES: tuple[Variable[Any], ...] = (
    STORE, DATA, DATA_MIRROR, DATA_UNCHECKED, MLFLOW, DEVICE, THREADS, CHECKPOINT_SECONDS,
    LEASE_SECONDS, CUDA_GRAPHS, RAY_START_SECONDS,
)  # fmt: skip
INTERNAL = {f"{PREFIX}RAY_FOLDER"}  # set by a launch for the processes of its Ray


def check() -> None:
    """Raise ValueError for the first variable with an invalid value.

    The store's path is checked when the store is opened.
    """
    for variable in VARIABLES:
        variable.get()


def forwarded() -> dict[str, str]:
    """The variables that workers get from this process: name and text of each one that is set.

    A relative data folder is relative to this process, so it is made absolute.
    """
    texts = {v.name: v.text() for v in VARIABLES if v.forwarded}
    found = {name: text for name, text in texts.items() if text}
    if DATA.name in found:
        found[DATA.name] = str(DATA.get())
    return found


def described() -> Iterator[str]:
    """A line for each variable that is set, and for each unknown `HARNESS_*` variable."""
    for variable in VARIABLES:
        text = variable.text()
        if text is not None:
            yield f"{variable.name}={shown(redacted(text))}: {variable.meaning}"
    for name in unknown():
        yield f"{name} is no setting of the harness"


def unknown() -> list[str]:
    """The `HARNESS_*` variables that are set but not in the table, sorted."""
    known = {variable.name for variable in VARIABLES} | INTERNAL
    return sorted(n for n in os.environ if n.startswith(PREFIX) and n not in known)


def misspelt() -> Iterator[str]:
    """A line for each unknown variable whose name is close to one of ours.

    The rest may belong to other programs with the same prefix.
    """
    for name in unknown():
        from difflib import get_close_matches

        near = get_close_matches(name, [v.name for v in VARIABLES], n=1, cutoff=0.85)
        if near:
            yield f"{shown(name)} is no setting of the harness: did you mean {near[0]}?"


__all__ = [
    "CHECKPOINT_SECONDS",
    "CUDA_GRAPHS",
    "DATA",
    "DATA_MIRROR",
    "DATA_UNCHECKED",
    "DEVICE",
    "MLFLOW",
    "RAY_START_SECONDS",
    "STORE",
    "THREADS",
    "VARIABLES",
    "Variable",
    "check",
    "described",
    "forwarded",
    "misspelt",
    "unknown",
]
