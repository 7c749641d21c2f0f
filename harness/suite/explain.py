"""Validation errors in one line: the path as users write it, what is wrong, what is allowed."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.arms import ARM_UNION
from harness.models.specs import MODEL_UNION
from harness.spec import Spec, SpecUnion, load_installed
from harness.tasks.specs import TASK_UNION
from harness.tools.inputs import cut, shown

from .specs import TrainingSpec, TrialSpec

AnySpec = TypeVar("AnySpec", bound=Spec)
LONGEST = 60  # characters of a refused value that are shown
LONGEST_LIST = 200  # of the fields that there are
LONGEST_MESSAGE = 1_000
_UNIONS = (TASK_UNION, MODEL_UNION, ARM_UNION)  # what may be validated on its own
_WHOLES: dict[str, Any] = {m.__name__: m for m in (TrialSpec, TrainingSpec)}


def known(*models: type[BaseModel]) -> None:
    """Let `explain` also resolve paths in these models, which this file cannot import."""
    _WHOLES.update({model.__name__: model for model in models})


def explain(error: ValidationError) -> str:
    """The first fault as one line, and how many more there are."""
    parts = [spec for union in _UNIONS for spec in union.specs.values()]
    whole = (_WHOLES | {part.__name__: part for part in parts}).get(error.title, Union[(*parts,)])
    said = [_one(item, whole) for item in _telling(error.errors(include_url=False))]
    distinct = list(dict.fromkeys(said))
    more = f" (and {len(distinct) - 1} more)" if len(distinct) > 1 else ""
    return distinct[0] + more


def validated(spec: Any, kind: type[AnySpec]) -> AnySpec:
    """The spec validated again as this class, since `model_copy(update=...)` does not validate.

    Raises:
        ValueError: one line; the spec, or one inside it, is of another class or invalid.
    """
    try:
        return kind.model_validate(spec)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def renamed(spec: AnySpec, name: str | None) -> AnySpec:
    """The suite or study under another name, if one is given. Raises ValueError as `validated`."""
    if name is None:
        return spec
    return validated(spec.model_copy(update={"name": name}).model_dump(mode="json"), type(spec))


def _telling(items: list[Any]) -> list[Any]:
    """The useful errors: if a field may be a number or a list, leave out that a list is no number
    when another error says what is wrong inside the list."""

    def of_a_list(item: Any) -> bool:
        return item["type"] == "int_type" and type(item["input"]) in (list, tuple)

    places = (item["loc"] for item in items if not of_a_list(item))
    within = {place[:end] for place in places for end in range(1, len(place))}
    return [item for item in items if not of_a_list(item) or item["loc"][:-1] not in within]


def _one(item: Any, whole: Any) -> str:
    path, model = _walk(item["loc"], whole)
    message = " ".join(item["msg"].removeprefix("Value error, ").split())
    path = cut(path)
    if item["type"] == "extra_forbidden" and model is not None:
        message = f"no such field; there are {cut(', '.join(model.model_fields), LONGEST_LIST)}"
    elif item["type"] == "union_tag_not_found":
        message = f"{item['ctx']['discriminator']} is missing"
    elif item["type"] == "union_tag_invalid":  # whose message holds all of the tag
        field, given = item["ctx"]["discriminator"].strip("'"), item["ctx"]["tag"]
        message = f"no {field} {shown(given, LONGEST)}; there are {item['ctx']['expected_tags']}"
        message += "".join(f"; {fault}" for fault in load_installed())
    else:
        message += _shown(item.get("input"))
    message = cut(message, LONGEST_MESSAGE)
    return f"{path}: {message}" if path else message


def _shown(value: Any) -> str:
    if not isinstance(value, str | int | float | None):
        return ""
    return f" (got {shown(value, LONGEST)})"


def _walk(location: tuple[int | str, ...], kind: Any) -> tuple[str, type[BaseModel] | None]:
    """The path without pydantic's names of union members, and the model at its end."""
    path: list[str] = []
    model = None
    for part in location:
        kind = _plain(kind)
        model = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
        if get_origin(kind) in (Union, types.UnionType):
            kind = next((m for m in get_args(kind) if part in _tags(m)), None)
            continue
        path.append(str(part))
        if model is not None:
            field = model.model_fields.get(str(part))
            kind = Annotated[field.annotation, *field.metadata, None] if field else None
        else:
            kind = next(
                iter(get_args(kind)[-1:] if get_origin(kind) is dict else get_args(kind)), None
            )
    return ".".join(path), model


def _plain(kind: Any) -> Any:
    """A type without annotations and without None."""
    if get_origin(kind) is Annotated:
        unions = [extra for extra in kind.__metadata__ if isinstance(extra, SpecUnion)]
        return _plain(unions[0].union if unions else get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        members = [m for m in get_args(kind) if m is not types.NoneType]
        if len(members) == 1:
            return _plain(members[0])
    return kind


def _tags(member: Any) -> tuple[Any, ...]:
    """The values of `kind` or `name` that select this member of a union."""
    fields = getattr(_plain(member), "model_fields", {})
    literals = (f.annotation for f in (fields.get("kind"), fields.get("name")) if f is not None)
    return tuple(v for kind in literals if get_origin(kind) is Literal for v in get_args(kind))
