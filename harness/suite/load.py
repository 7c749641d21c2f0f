"""Find a suite by name or file, and override its fields by dotted path."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import suites

from .suite import Suite

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")


def load(name_or_path: str) -> Suite:
    """`demo` is suites/demo.py:suite, `paper.scifar` suites/paper.py:scifar, `file.py:name` any.

    Raises:
        ValueError: one line that says what is missing, broken or of another type.
    """
    file, attribute = _locate(name_or_path)
    module = _execute(file)
    found = getattr(module, attribute, None)
    if not isinstance(found, Suite):
        have = [k for k, v in vars(module).items() if isinstance(v, Suite)]
        raise ValueError(f"{file} has no suite {attribute!r}; it has {', '.join(have) or 'none'}")
    return found


def available() -> list[str]:
    """The suites that come with the harness, by module."""
    folder = Path(suites.__path__[0])
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def _locate(text: str) -> tuple[Path, str]:
    path, _, attribute = text.partition(":")
    if path.endswith(".py"):
        if not Path(path).is_file():
            raise ValueError(f"no suite file {path}")
        return Path(path), attribute or "suite"
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a suite's name nor a path FILE.py[:NAME]")
    module, _, attribute = text.partition(".")
    file = Path(suites.__path__[0]) / f"{module}.py"
    if module.startswith("_") or not file.is_file():
        raise ValueError(f"no suite {text!r}; there are {', '.join(available())}, or FILE.py:NAME")
    return file, attribute or "suite"


def _execute(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"_suite_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ValueError(f"{file}, line {error.lineno}: {error.msg}") from None
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}") from None
    except Exception as error:
        raise ValueError(f"{file}: {type(error).__name__}: {error}") from None
    return module


def explain(error: ValidationError) -> str:
    """A validation error as one line: path, what is wrong, what came."""
    parts = []
    for item in error.errors():
        path = ".".join(str(p) for p in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        given = item.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float | None) else ""
        parts.append(f"{path}: {message}{shown}" if path else message)
    more = f" (and {len(parts) - 1} more)" if len(parts) > 1 else ""
    return parts[0] + more


def override(suite: Suite, settings: Sequence[str]) -> Suite:
    """The suite with `PATH=VALUE` settings applied, and validated like everything else.

    A path starts in every comparison that has it (`training.steps`, `seeds`, `task.window`,
    `arms.LABEL.tau`), or in one, by its name (`digits.training.steps`). A value is JSON, or else
    plain text. An arm that matches another follows it.

    Raises:
        ValueError: no `=`, a path that no comparison has, a value that does not validate.
    """
    if not settings:
        return suite
    content = suite.model_dump(mode="json")
    fields = [set(_fields(c)) for c in suite.comparisons]
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise ValueError(f"--set needs PATH=VALUE, not {setting!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        hits = 0
        for comparison, source, known in zip(
            content["comparisons"], suite.comparisons, fields, strict=True
        ):
            local = path.removeprefix(f"{source.key}.")
            if local in known:
                _assign(comparison, local, value)
                hits += 1
        if not hits:
            close = [
                k for k in sorted(set().union(*fields)) if k.split(".")[-1] == path.split(".")[-1]
            ]
            hint = f"; did you mean {', '.join(close[:3])}?" if close else ""
            raise ValueError(f"--set {path}: no comparison of {suite.name} has it{hint}")
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"--set {' '.join(settings)}: {explain(error)}") from None


def _fields(comparison: Any, prefix: str = "") -> list[str]:
    found = []
    for name in type(comparison).model_fields:
        value = getattr(comparison, name)
        found.append(prefix + name)
        if hasattr(type(value), "model_fields"):
            found += _fields(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for key, item in value.items():
                found.append(f"{prefix}{name}.{key}")
                found += _fields(item, f"{prefix}{name}.{key}.")
    return found


def _assign(comparison: dict[str, Any], path: str, value: Any) -> None:
    before = copy.deepcopy(comparison["arms"])
    node: Any = comparison
    *parents, last = _split(comparison, path)
    for key in parents:
        node = node[key]
    node[last] = value
    for label, arm in before.items():
        changed = comparison["arms"].get(label)
        if changed == arm:
            continue
        for other in comparison["arms"].values():
            if isinstance(other, dict) and other.get("to") == arm:
                other["to"] = changed


def _split(comparison: dict[str, Any], path: str) -> list[str]:
    # Labels of arms may hold dots ("in_training tau=0.1"), fields never do.
    if not path.startswith("arms."):
        return path.split(".")
    rest = path.removeprefix("arms.")
    label = max((k for k in comparison["arms"] if f"{rest}.".startswith(f"{k}.")), key=len)
    tail = rest.removeprefix(label).removeprefix(".")
    return ["arms", label, *(tail.split(".") if tail else [])]
