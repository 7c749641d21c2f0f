"""How checks report what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.tools.inputs import cut


def expect(kept: object, said: str) -> None:
    """Raise AssertionError with these words unless the promise is kept."""
    if not kept:
        raise AssertionError(said)


@contextlib.contextmanager
def promised(whose: str, what: str) -> Iterator[None]:
    """Say whose promise is not kept in here; whatever else somebody's code raises is one, too."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{whose}: {cut(str(error), 1_000)}") from None
    except Exception as error:
        said = cut(f"{type(error).__name__}: {error}", 300)
        raise AssertionError(f"{whose}: {what} raises {said}") from error
