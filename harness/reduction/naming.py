"""Errors that say which block, and which system of a stack, they speak of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .balanced import TruncationError
from .gramians import UnusableSystem


@contextlib.contextmanager
def naming_block(i: int, what: str = "block") -> Iterator[None]:
    """A `ValueError` from inside says which block it speaks of."""
    try:
        yield
    except ValueError as error:
        # Only our own kinds are known to be made from a message.
        ours = isinstance(error, (UnusableSystem, TruncationError))
        kind = type(error) if ours else ValueError
        raise kind(f"{what} {i}: {error}") from error


def naming_system(place: int | None) -> contextlib.AbstractContextManager[None]:
    """The same for the system of a stack at this place; None for a block of one system."""
    return contextlib.nullcontext() if place is None else naming_block(place, "system")
