"""The base of every spec: frozen, typed, refusing what it does not know."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen value; a wrong field, type or range raises pydantic's `ValidationError`."""

    # Instances are validated, too: `model_copy(update=...)` makes them without.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        revalidate_instances="always",
    )
