"""What the store needs of any storage: six operations on keys like `trials/ID/result.json`.

Two of them are conditional, and everything that must happen once rests on them: `create` succeeds
for one of many writers, `swap` for one of those who saw the same version.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stored:
    """An object's bytes, and the version that `swap` compares with."""

    data: bytes
    version: str


@dataclass(frozen=True)
class Entry:
    """An object in a listing: its key, its bytes and when it was written, in seconds since the
    epoch by the storage's clock."""

    key: str
    size: int
    modified: float


class Storage(ABC):
    """Objects by key. Each appears whole or not at all, to every reader.

    A key is changed either by `swap` or by `write`, never by both. Every operation raises OSError
    if the storage fails; what `create` or `swap` was to do may have been done then.
    """

    address: str  # that `storage_at` takes

    @abstractmethod
    def create(self, key: str, data: bytes) -> str | None:
        """Write a new object and return its version; None if there is one of this key."""

    @abstractmethod
    def swap(self, key: str, data: bytes, version: str) -> str | None:
        """Replace the object if its version is this one, and return the new version; otherwise
        None."""

    @abstractmethod
    def read(self, key: str, at_most: int | None = None) -> Stored | None:
        """The object, or None. Raises ValueError if it has more than `at_most` bytes."""

    @abstractmethod
    def write(self, key: str, data: bytes, durable: bool = True) -> None:
        """Write or replace the object, whatever there is. Without `durable` a power cut may lose
        it."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object below a prefix that is empty or ends with a slash, in any order."""

    @abstractmethod
    def children(self, prefix: str = "") -> Sequence[str]:
        """The names directly below such a prefix, sorted: those of objects, and the first parts of
        longer keys. Some storages list such a part for a while after its last object has gone."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object, if there is one."""

    @abstractmethod
    def modified(self, key: str) -> float | None:
        """When the object was written, as in `Entry`; None if there is none."""

    def rename(self, key: str, new: str) -> None:
        """Give an object another key, at which there is none."""
        stored = self.read(key)
        if stored is not None:
            self.write(new, stored.data)
            self.delete(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        return self.modified(key) is not None

    def delete_all(self, prefix: str) -> None:
        """Remove every object below the prefix."""
        for entry in list(self.list(prefix)):
            self.delete(entry.key)

    def drop_empty(self, prefix: str) -> None:  # noqa: B027  only folders have any
        """Remove a folder of this prefix if nothing is in it."""

    def sweep(self, prefix: str) -> None:  # noqa: B027  only folders need it
        """Remove what processes that have ended left half-written below a prefix."""

    @abstractmethod
    def place(self, key: str = "") -> str:
        """The key with the storage's address, to show to people."""

    def path(self, key: str = "") -> Path:
        """The file or folder of the key.

        Raises:
            ValueError: this storage is no folder.
        """
        raise ValueError(f"{self.place(key)} is no file")


__all__ = ["Entry", "Storage", "Stored"]
