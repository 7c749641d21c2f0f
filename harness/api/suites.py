"""Suites as Python passes them: a name, a path, or the object itself."""

from __future__ import annotations

import shlex
from os import PathLike
from typing import TypeAlias

from harness.suite import Suite, load, override
from harness.suite.explain import validated
from harness.tools.inputs import shown

SuiteLike: TypeAlias = "str | PathLike[str] | Suite"

_words: dict[str, list[str]] = {}  # of every suite that was loaded, as JSON: what asks for it


def load_suite(name_or_path: str | PathLike[str], *settings: str) -> Suite:
    """The suite of a name (`demo`, `paper.scifar`) or a file (`my_suite.py`, `my_suite.py:name`).

    `settings` override its fields by dotted path: `load_suite("demo", "training.steps=200")`.

    Raises:
        ValueError: one line saying what is missing, broken or of the wrong type.
    """
    name = str(name_or_path)
    suite = override(load(name), settings)
    _words[suite.model_dump_json()] = [name, *(f"--set={one}" for one in settings)]
    return suite


def suite_of(given: SuiteLike) -> Suite:
    """The suite, loaded if given by name or path. Raises ValueError for anything else."""
    if isinstance(given, Suite):
        return validated(given, Suite)
    if isinstance(given, str | PathLike):
        return load_suite(given)
    raise ValueError(f"a suite is a Suite, its name or its file; got {shown(given)}")


def command_of(suite: Suite, options: list[str]) -> str:
    """The command line equivalent to a call of `run`.

    A suite built in Python has no file, so `SUITE` stands for it.
    """
    words = _words.get(suite.model_dump_json(), ["SUITE"])
    return shlex.join(["harness", "run", *words, *options])


__all__ = ["SuiteLike", "command_of", "load_suite", "suite_of"]
