"""The base of every spec: frozen, typed, without unknown fields; and unions that can grow."""

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

ENTRY_POINTS = "harness.plugins"  # the group in which installed packages name their modules

# Bounds far beyond any machine, so that a typo is refused before it costs anything.
MOST_STATES, MOST_BLOCKS, MOST_STEPS = 65_536, 1_000, 1_000_000_000

StateDim = Annotated[int, Field(ge=1, le=MOST_STATES)]
StateDims = Annotated[
    tuple[StateDim, ...], Field(strict=False, min_length=1, max_length=MOST_BLOCKS)
]


class Spec(BaseModel):
    """A frozen value; a wrong field, type or range raises pydantic's `ValidationError`.

    So does an instance of a subclass in place of its parent: see `_is_no_other_class`.
    """

    # Fields outside a trial's identity, in the form of pydantic's `exclude`: they say where data
    # are stored, or follow from other fields.
    not_identity: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    # Instances are validated too: `model_copy(update=...)` does not validate.
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
        # Validation would silently turn it into its parent, without its overrides.
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
    """Specs that are alternatives in one place, distinguished by the value of one field.

    As an annotation, `Annotated[Any, union]`, it validates as pydantic's tagged union of all its
    specs at that moment: plug-ins may join while the program runs. For an unknown tag, the plug-ins
    of installed packages are loaded first. A dict without the field is a `default`.
    """

    def __init__(self, field: str, specs: Iterable[type[Spec]], default: str | None = None) -> None:
        self.field, self.default = field, default
        self.specs = {tag_of(spec, field): spec for spec in specs}
        self._replaced: dict[type[Spec], str] = {}  # specs that were loaded again, with their tags
        self._adapter: TypeAdapter[Any] | None = None

    def add(self, spec: type[Spec]) -> None:
        """Add a spec, replacing one with the same tag."""
        tag = tag_of(spec, self.field)
        if tag in self.specs:
            self._replaced[self.specs[tag]] = tag
        self.specs[tag] = spec
        self._adapter = None

    def find(self, tag: object) -> type[Spec] | None:
        """The spec with this tag, ours or a plug-in's, or None."""
        if isinstance(tag, str) and tag not in self.specs:
            load_installed()
        return self.specs.get(tag) if isinstance(tag, str) else None

    @property
    def union(self) -> Any:
        """The present specs, as a type."""
        specs = tuple(self.specs.values())
        if not specs[1:]:
            return specs[0]
        return Annotated[functools.reduce(operator.or_, specs), Field(discriminator=self.field)]

    def validate(self, value: Any) -> Any:
        """The spec described by a dict or a spec. Raises pydantic's ValidationError."""
        if isinstance(value, Spec):
            tag = getattr(value, self.field, None)
            if type(value) in self._replaced:  # from a file that was executed again since
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
        # Keep the tag even if it is the field's default: it identifies the spec.
        found, tag = handler(value), getattr(value, self.field, None)
        if not isinstance(found, dict) or tag in (None, self.default):
            return found
        return {self.field: tag, **found}


def tag_of(spec: type[BaseModel], field: str) -> str:
    """The tag of this spec: the only value that its field may have.

    Raises:
        ValueError: it has no such field, or the field may have other values.
    """
    found = spec.model_fields.get(field)
    values = get_args(found.annotation) if found is not None else ()
    if len(values) != 1 or not isinstance(values[0], str):
        raise ValueError(f'class {_where(spec)} needs a field `{field}: Literal["ITS_NAME"]`')
    return values[0]


_faults: list[str] | None = None  # of installed plug-ins; None until they are loaded


def load_installed() -> list[str]:
    """Import, once, what installed packages name in the group `harness.plugins`.

    Returns one line for each that cannot be imported. Commands that do not need it still work;
    whoever misses a plug-in repeats these lines.
    """
    global _faults
    if _faults is None:
        _faults = []  # first: an imported module may call this too
        for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
            try:
                point.load()
            except (Exception, SystemExit) as error:
                said = cut(f"{type(error).__name__}: {error}")
                package = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
                _faults.append(f"plug-in {point.name} of package {package} does not load: {said}")
    return _faults
