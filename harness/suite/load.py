"""Finds a suite by name or file, and overrides its fields by dotted path."""

from __future__ import annotations

import copy
import json
import re
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import suites
from harness.arms import ARM_UNION
from harness.models.specs import MODEL_UNION
from harness.plugins.source import listed
from harness.spec import Spec
from harness.tasks.own.content import relative_to
from harness.tasks.specs import TASK_UNION
from harness.tools.inputs import cut, read_bounded, shown

from .bring import bring
from .execute import LARGEST_FILE, answering, execute
from .explain import explain
from .suite import Suite

LONGEST = 100  # characters of all settings that a message repeats
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")


def load(name_or_path: str) -> Suite:
    """`demo` is suites/demo.py:suite, `paper.scifar` suites/paper.py:scifar, `file.py:name` any.

    Raises:
        ValueError: one line saying what is missing, broken or of the wrong type.
    """
    return find(name_or_path, (Suite,), "suite")


def find(name_or_path: str, kinds: tuple[type[Spec], ...], what: str) -> Any:
    """The object of one of these kinds with this name; messages call it `what`.

    Raises:
        ValueError: as `load`.
    """
    file, attribute = _locate(name_or_path)
    with relative_to(file.parent):
        for name in listed(read_bounded(file, LARGEST_FILE)):
            bring(name, anew=True)
        return _found(execute(file), file, attribute, kinds, what)


def _found(
    module: types.ModuleType, file: Path, attribute: str, kinds: tuple[type[Spec], ...], what: str
) -> Any:
    """The attribute of a suite's module, if it is of one of these kinds."""
    with answering(file, attribute):
        found: Any = getattr(module, attribute, None)
        # By class: an object's own attributes may be anything, and may raise.
        have = [k for k, v in vars(module).items() if issubclass(type(v), kinds)]
        kind = next((kind for kind in kinds if issubclass(type(found), kind)), None)
        if kind is not None:
            return kind.model_validate(found)  # `model_copy(update=...)` does not validate
    listed = ", ".join(map(str, have[:20])) + (", ..." if len(have) > 20 else "")
    raise ValueError(
        f"{cut(str(file))} has no {what} {shown(attribute)}; it has {listed or 'none'}"
    )


def available() -> list[str]:
    """The suites that come with the harness, as module names."""
    folder = Path(suites.__path__[0])
    return sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))


def _locate(text: str) -> tuple[Path, str]:
    path, _, attribute = text.partition(":")
    if path.endswith(".py"):
        if not Path(path).is_file():
            raise ValueError(f"no suite file {cut(path)}")
        return Path(path), attribute or "suite"
    if not _NAME.fullmatch(text):
        raise ValueError(f"{shown(text)} is neither a suite's name nor a path FILE.py[:NAME]")
    module, _, attribute = text.partition(".")
    file = Path(suites.__path__[0]) / f"{module}.py"
    if module.startswith("_") or not file.is_file():
        there = ", ".join(available())
        raise ValueError(f"no suite {shown(text)}; there are {there}, or FILE.py:NAME")
    return file, attribute or "suite"


def override(suite: Suite, settings: Sequence[str]) -> Suite:
    """The suite with `PATH=VALUE` settings applied and validated.

    A path applies to every comparison that has it (`training.steps`, `seeds`, `task.window`,
    `arms.LABEL.tau`), or to one if it starts with its name (`digits.training.steps`). A value is
    JSON or else plain text. An arm that matches another follows its changes.

    Raises:
        ValueError: no `=`, a path that no comparison has, a value that does not validate.
    """
    if not settings:
        return suite
    # The content of own data is read again, since a new path or option may change it.
    seen = {"comparisons": {"__all__": {"task": {"content"}}}}
    content = suite.model_dump(mode="json", exclude=seen)
    for setting in settings:
        path, value = _parsed(suite, setting)
        _apply(suite, content["comparisons"], path, value)
    try:
        return Suite.model_validate(content)
    except ValidationError as error:
        said = re.sub(
            r"^comparisons\.(\d+)", lambda hit: suite.comparisons[int(hit[1])].key, explain(error)
        )
        raise ValueError(f"--set {cut(' '.join(settings), LONGEST)}: {said}") from None


def _parsed(suite: Suite, setting: str) -> tuple[str, Any]:
    # Labels of arms may contain "=" ("in_training tau=0.1").
    known = {name for c in suite.comparisons for name in _fields(c)}
    known |= {f"{c.key}.{name}" for c in suite.comparisons for name in _fields(c)}
    head = setting[: max(map(len, known)) + 1]
    ends = [hit.start() for hit in re.finditer("=", head)]
    end = next((i for i in ends if setting[:i] in known), setting.find("="))
    if end <= 0:
        raise ValueError(f"--set needs PATH=VALUE, not {shown(setting)}")
    path, text = setting[:end], setting[end + 1 :]
    try:
        return path, json.loads(text)
    except (ValueError, RecursionError):
        return path, text


def _apply(suite: Suite, contents: list[dict[str, Any]], path: str, value: Any) -> None:
    found = False
    for comparison, content in zip(suite.comparisons, contents, strict=True):
        local = path.removeprefix(f"{comparison.key}.")
        if local not in _fields(comparison):
            continue
        found = True
        try:
            _assign(content, local, value)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(
                f"--set {cut(path)}: an earlier --set replaced what it is in"
            ) from None
    if not found:
        raise ValueError(
            f"--set {cut(path)}: no comparison of {suite.name} has it; {_hint(suite, path)}"
        )


def _hint(suite: Suite, path: str) -> str:
    """The same name elsewhere, or else the valid names beside a wrong one."""
    for comparison in suite.comparisons:
        path = path.removeprefix(f"{comparison.key}.")
    known = dict.fromkeys(name for c in suite.comparisons for name in _fields(c))
    same = [name for name in known if name.split(".")[-1] == path.split(".")[-1]]
    if same:
        return f"did you mean {', '.join(same[:3])}?"

    longest = max(map(len, known)) + 1

    def parent(name: str) -> str:
        name = name[:longest].rpartition(".")[0]
        while name and name not in known:
            name = name.rpartition(".")[0]
        return name

    above = parent(path)
    beside = [name.removeprefix(f"{above}.") for name in known if parent(name) == above]
    where = above or "a comparison"
    return f"{where} has {', '.join(beside)}" if beside else f"{where} has no fields"


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
    _drop_what_is_gone(node, parents, last, value)
    node[last] = value
    if not isinstance(comparison["arms"], dict):
        return  # validation will refuse it
    for label, arm in before.items():
        changed = comparison["arms"].get(label)
        if changed == arm:
            continue
        for other in comparison["arms"].values():
            for name, value in other.items() if isinstance(other, dict) else ():
                if value == arm:
                    other[name] = changed


UNIONS = {"model": MODEL_UNION, "task": TASK_UNION, "arms": ARM_UNION}


def _drop_what_is_gone(node: dict[str, Any], parents: list[str], last: str, value: Any) -> None:
    """Where a spec changes its kind, keep the fields that were set and that both kinds have."""
    union = UNIONS.get(parents[0]) if parents else None
    if union is None or last != union.field or node.get(last) == value:
        return
    old, new = union.find(node.get(last, union.default)), union.find(value)
    if old is None or new is None:
        return  # which validation refuses
    blank = {name: field.default for name, field in old.model_fields.items()}
    for name in [*node]:
        if name not in new.model_fields or node[name] == blank.get(name):
            del node[name]


def _split(comparison: dict[str, Any], path: str) -> list[str]:
    # Labels of arms may contain dots ("in_training tau=0.1"), fields never do.
    if not path.startswith("arms."):
        return path.split(".")
    rest = path.removeprefix("arms.")
    label = max((k for k in comparison["arms"] if f"{rest}.".startswith(f"{k}.")), key=len)
    tail = rest.removeprefix(label).removeprefix(".")
    return ["arms", label, *(tail.split(".") if tail else [])]
