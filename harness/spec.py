"""The base of every spec: frozen, typed, refusing what it does not know; and unions that grow."""

from __future__ import annotations

import functools
import importlib.metadata
import operator
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    TypeAdapter,
    model_validator,
)
from pydantic_core import core_schema

from harness.tools.inputs import cut

ENTRY_POINTS = "harness.plugins"  # the group in which an installed package names its modules

# Bounds far beyond any machine, so that a slip of the pen is refused before it costs anything.
MOST_STATES, MOST_BLOCKS, MOST_STEPS = 65_536, 1_000, 1_000_000_000

StateDim = Annotated[int, Field(ge=1, le=MOST_STATES)]
StateDims = Annotated[
    tuple[StateDim, ...], Field(strict=False, min_length=1, max_length=MOST_BLOCKS)
]


class Spec(BaseModel):
    """A frozen value; a wrong field, type or range raises pydantic's `ValidationError`.

    So does an instance of a subclass where its parent is asked for: see `_is_no_other_class`.
    """

    # Fields that are no part of a trial's identity: they say where something lies, or follow from
    # other fields. As pydantic's `exclude` takes them.
    not_identity: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    # Instances are validated, too: `model_copy(update=...)` makes them without.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        revalidate_instances="always",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _is_no_other_class(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        # Validation would make the parent of it, without what it overrides and without a word.
        if isinstance(value, cls) and type(value) is not cls:
            raise ValueError(
                f"class {_where(type(value))} stands where {cls.__name__} should: a spec is "
                "stored and sent to its worker as JSON, so a class of your own would run as "
                "its parent"
            )
        return handler(value)


def _where(kind: type) -> str:
    """`NAME (FILE.py)` of a class."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return f"{cut(kind.__name__, 60)} ({cut(Path(file).name if file else kind.__module__, 60)})"


class SpecUnion:
    """The specs that may stand in one place, told apart by the value of one field.

    As an annotation, `Annotated[Any, union]`, it validates as pydantic's tagged union of all specs
    that it has at that moment: plug-ins join while the program runs. A value that names none of
    them lets installed packages bring theirs first. A dict without the field is a `default`.
    """

    def __init__(self, field: str, specs: Iterable[type[Spec]], default: str | None = None) -> None:
        self.field, self.default = field, default
        self.specs = {tag_of(spec, field): spec for spec in specs}
        self._replaced: dict[type[Spec], str] = {}  # by what was loaded again, and under which tag
        self._adapter: TypeAdapter[Any] | None = None

    def add(self, spec: type[Spec]) -> None:
        """Let a spec stand here, in the place of one of the same tag."""
        tag = tag_of(spec, self.field)
        if tag in self.specs:
            self._replaced[self.specs[tag]] = tag
        self.specs[tag] = spec
        self._adapter = None

    def find(self, tag: object) -> type[Spec] | None:
        """The spec of this tag, of ours or of a plug-in; None where there is none."""
        if isinstance(tag, str) and tag not in self.specs:
            load_installed()
        return self.specs.get(tag) if isinstance(tag, str) else None

    @property
    def union(self) -> Any:
        """The specs that there are now, as a type."""
        specs = tuple(self.specs.values())
        if not specs[1:]:
            return specs[0]
        return Annotated[functools.reduce(operator.or_, specs), Field(discriminator=self.field)]

    def validate(self, value: Any) -> Any:
        """The spec that a dict, or a spec, stands for. Raises pydantic's ValidationError."""
        if isinstance(value, Spec):
            tag = getattr(value, self.field, None)
            if type(value) in self._replaced:  # of a file that was executed again since
                value = value.model_dump()
        else:
            if isinstance(value, dict) and self.field not in value and self.default is not None:
                value = {self.field: self.default, **value}
            tag = value.get(self.field) if isinstance(value, dict) else None
        self.find(tag)
        if self._adapter is None:
            self._adapter = TypeAdapter(self.union)
        return self._adapter.validate_python(value)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validate,
            serialization=core_schema.wrap_serializer_function_ser_schema(
                self._serialize, schema=core_schema.any_schema()
            ),
        )

    def _serialize(self, value: Any, handler: Any) -> Any:
        # Even where it equals its field's default, no spec is known without it.
        found, tag = handler(value), getattr(value, self.field, None)
        if not isinstance(found, dict) or tag in (None, self.default):
            return found
        return {self.field: tag, **found}


def tag_of(spec: type[BaseModel], field: str) -> str:
    """What tells this spec from others: the one value that its field may have.

    Raises:
        ValueError: it has no such field, or one that may have other values.
    """
    found = spec.model_fields.get(field)
    values = get_args(found.annotation) if found is not None else ()
    if len(values) != 1 or not isinstance(values[0], str):
        raise ValueError(f'class {_where(spec)} needs a field `{field}: Literal["ITS_NAME"]`')
    return values[0]


_faults: list[str] | None = None  # of installed plug-ins; None before anything asked for them


def load_installed() -> list[str]:
    """Import what installed packages name in the group `harness.plugins`, once.

    Returns one line for each that cannot be imported. That breaks no command which needs none of
    it; who misses something repeats these lines.
    """
    global _faults
    if _faults is None:
        _faults = []  # at once: what is imported here may ask, too
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            try:
                point.load()
            except (Exception, SystemExit) as error:
                said = cut(f"{type(error).__name__}: {error}")
                package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
                _faults.append(f"plug-in {point.name} of package {package} does not load: {said}")
    return _faults
