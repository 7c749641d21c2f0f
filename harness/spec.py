"""The base of every spec: frozen, typed, refusing what it does not know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from harness.inputs import cut

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
