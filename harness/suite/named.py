"""What suites and studies have in common: a name, a description, and plug-ins."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import field_validator, model_validator

from harness.spec import Spec

from .bring import with_plugins
from .names import checked_name, checked_text


class NamedSpec(Spec):
    """A spec with the fields `name`, `description` and `plugins`; messages call it `called`."""

    called: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _plugins_come_first(cls, values: Any) -> Any:
        return with_plugins(values)

    @field_validator("name", check_fields=False)
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return checked_name(name, cls.called)

    @field_validator("description", check_fields=False)
    @classmethod
    def _description_can_be_printed(cls, description: str) -> str:
        return checked_text(description, "the description")
