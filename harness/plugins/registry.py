"""Which plug-ins there are, and what each of them must be."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from harness.arms import ARM_UNION, Arm, rank_rules
from harness.spec import Spec, load_installed, tag_of
from harness.tasks.metrics import METRICS
from harness.tasks.specs import TASK_UNION, TaskSpecBase
from harness.tools.inputs import cut, is_plain_name, shown

from .source import Source, source_of

What = Literal["layer", "arm", "task", "rank_rule"]
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True)
class Plugin:
    """A class or function registered under a name, and its source."""

    what: What
    name: str
    target: Callable[..., Any]
    source: Source

    def __str__(self) -> str:
        return f"{self.what.replace('_', ' ')} {self.name}"

    def record(self) -> dict[str, str | None]:
        """What manifests and records say of it."""
        return {
            "what": self.what,
            "name": self.name,
            "file": self.source.file,
            "distribution": self.source.distribution,
            "version": self.source.version,
            "sha256": self.source.sha256,
        }


_plugins: dict[tuple[What, str], Plugin] = {}


def arm(cls: type[Any]) -> type[Any]:
    """Register a subclass of `harness.arms.Arm` under its `kind`.

    Raises:
        ValueError: it is none, its kind is missing or taken, or a field has no default.
    """
    check_base(cls, Arm, "arm")
    check_fields(cls, "arm", "kind")
    enter("arm", tag_of(cls, "kind"), cls, ARM_UNION.specs)
    ARM_UNION.add(cls)
    return cls


def task(cls: type[Any]) -> type[Any]:
    """Register a subclass of `harness.tasks.TaskSpecBase` under its `name`.

    Its `implementation` is a subclass of `harness.tasks.Task`, a function that makes one of the
    spec and the data folder, or the name of either as MODULE:NAME.

    Raises:
        ValueError: it is none, says no info, metric or implementation, its name is missing or
            taken, or a field has no default.
    """
    check_base(cls, TaskSpecBase, "task")
    check_fields(cls, "task", "name")
    name = tag_of(cls, "name")
    for said in ("family", "metric", "origin", "implementation"):
        if not hasattr(cls, said):
            raise ValueError(f"task {name} does not say its `{said}`")
    if cls.metric not in METRICS:
        known = ", ".join(METRICS)
        raise ValueError(f"task {name} has the metric {shown(cls.metric)}; there are {known}")
    if cls.info is TaskSpecBase.info:
        raise ValueError(f"task {name} does not say its `info`, the shapes that a model needs")
    enter("task", name, cls, TASK_UNION.specs)
    TASK_UNION.add(cls)
    return cls


def rank_rule(rule: Any) -> Any:
    """Register a function `(arm, systems, event) -> ranks` as a `rule` of an in_training arm
    under its own name, or a subclass of `harness.arms.rank_rules.RankRule` under its `name`.

    Raises:
        ValueError: it is neither, has no name, or one that is taken.
    """
    is_class = isinstance(rule, type)
    if not (issubclass(rule, rank_rules.RankRule) if is_class else inspect.isfunction(rule)):
        raise ValueError(
            "@rank_rule takes a function (arm, systems, event) or a class derived from "
            f"harness.arms.rank_rules.RankRule, and {shown(rule)} is neither"
        )
    name = getattr(rule, "name", None) if is_class else rule.__name__
    if not isinstance(name, str):
        raise ValueError(f'rank rule {rule.__name__} needs a name: `name = "its_name"`')
    rank_rules.rule_of(name, rule)  # before it is entered
    enter("rank_rule", name, rule, rank_rules.RULES)
    rank_rules.register(name, rule, again=True)
    return rule


def find(what: What, name: str) -> Plugin | None:
    """The plug-in of this name; None for what is ours, or nobody's."""
    return _plugins.get((what, name))


def plugins() -> list[Plugin]:
    """All that are registered."""
    return list(_plugins.values())


def used_by(trial: Any) -> list[Plugin]:
    """The plug-ins that a `TrialSpec` needs."""
    named: list[tuple[What, str]] = [
        ("layer", trial.model.kind), ("arm", trial.arm.kind), ("task", trial.task.name),
        *(("rank_rule", name) for name in trial.arm.rank_rules),
    ]  # fmt: skip
    return [_plugins[key] for key in named if key in _plugins]


def sources_of(trial: Any) -> tuple[Source, ...]:
    """What a worker must be sent to run a `TrialSpec`, each once.

    Raises:
        ValueError: code that stands in no file.
    """
    used = used_by(trial)
    for one in used:
        if not one.source.file:
            raise ValueError(f"the code of {one} was typed in: put it into a file, for its workers")
    return tuple({one.source.sha256: one.source for one in used}.values())


def identity(used: Iterable[Plugin]) -> dict[str, str]:
    """What of plug-ins decides the bits of a result, for a manifest."""
    return {f"source of {one} (SHA-256)": one.source.sha256 for one in used}


def lacking(recorded: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each plug-in of records (`Plugin.record`) that is not registered here."""
    lines = []
    for one in recorded:
        if one["distribution"] is not None:
            load_installed()
        if find(one["what"], one["name"]) is None:
            package = f" of {one['distribution']} {one['version']}" if one["distribution"] else ""
            lines.append(
                f"{one['what'].replace('_', ' ')} {one['name']} is not loaded here: its code stood "
                f"in {one['file']}{package} (SHA-256 {one['sha256'][:12]}). Records are reported "
                "without it; its trials run with it alone"
            )
    return list(dict.fromkeys(lines))


def check_base(cls: Any, base: type, what: What) -> None:
    """Raise ValueError for what is no class derived from `base`."""
    if not (isinstance(cls, type) and issubclass(cls, base)):
        kind = "class" if isinstance(cls, type) else type(cls).__name__
        named = cut(getattr(cls, "__name__", shown(cls)))
        raise ValueError(
            f"@{what} takes a class derived from {base.__module__}.{base.__name__}, "
            f"and {kind} {named} is none"
        )


def check_fields(spec: type[Spec], what: What, tag: str) -> None:
    """Raise ValueError for a field without a default, beside the one that names the plug-in."""
    for name, one in spec.model_fields.items():
        if name != tag and one.is_required():
            raise ValueError(f"{what} {spec.__name__}: field `{name}` needs a default")


def enter(what: What, name: str, target: Callable[..., Any], taken: Iterable[str]) -> None:
    """Register under a name, in the place of an earlier state of the same code.

    Raises:
        ValueError: the name is no plain one, or is taken.
    """
    said, tag = what.replace("_", " "), "kind" if what in ("layer", "arm") else "name"
    if not is_plain_name(name):
        raise ValueError(f"{said} {shown(name)}: a {tag} is letters, digits, '_', '.' and '-'")
    known = _plugins.get((what, name))
    if known is None and name in taken:
        raise ValueError(f"{said} {name} is one of the harness's own: choose another {tag}")
    new = Plugin(what, name, target, source_of(target))
    if known is not None and not known.source.is_place_of(new.source):
        raise ValueError(
            f"{said} {name} is registered by {known.source} already: choose another {tag}"
        )
    _plugins[what, name] = new
