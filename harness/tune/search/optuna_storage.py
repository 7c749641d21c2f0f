"""Optuna's storage: a file in the store, or a PostgreSQL server. One driver at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool

from harness.records.files import make_shared
from harness.records.lease import Busy
from harness.records.store import Store
from harness.tools.inputs import cut, user_path
from harness.tools.redact import redacted

FILE = "optuna.db"
CONNECT_SECONDS = 4  # after which a silent server counts as unreachable
SQLITE_SECONDS = 30  # for which a write waits for a reader of the same file, such as a dashboard
DRIVERS = ("psycopg2", "psycopg")

# With the kernel's default, a study would stay locked for two hours after its machine is lost.
_KEEPALIVE = {"idle": 30, "interval": 10, "count": 3}


def locate(storage_url: str | None, store: Store) -> URL:
    """The storage that a user names, by default the store's own file. Touches nothing.

    Raises:
        ValueError: an unsupported storage, a missing driver, or an impossible file.
    """
    if storage_url is None:
        if not store.is_folder:
            raise ValueError(
                f"a study in {store.address} needs a database of its own: name it with "
                "--storage postgresql://USER@HOST/DATABASE"
            )
        return URL.create("sqlite", database=str(store.root / FILE))
    try:
        url = make_url(storage_url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "the storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if storage_url.partition("?")[0].count("@") > 1:  # the rest of a password would be the host
        raise ValueError("the storage's URL has more than one '@': in a password, write %40")
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ValueError("a storage in memory would be lost: name a file, sqlite:///FILE")
        if url.query:
            raise ValueError(
                "a storage sqlite:///FILE takes nothing after '?'; in a path, write %3F"
            )
        file = user_path(url.database, "the storage")
        if not file.parent.is_dir():
            where = f"there is no folder {cut(str(file.parent))}"
            raise ValueError(f"the storage {cut(str(file))} cannot be: {where}")
        return url.set(database=str(file))
    if url.get_backend_name() != "postgresql":
        raise ValueError(
            f"the storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, "
            f"not {cut(url.drivername)}"
        )
    return url.set(drivername=f"postgresql+{_driver(url)}")


def _driver(url: URL) -> str:
    _, _, named = url.drivername.partition("+")
    here = [d for d in DRIVERS if named in ("", d) and find_spec(d)]
    if not here:
        raise ValueError(
            f"a PostgreSQL storage needs {named or DRIVERS[0]}, which is not installed: "
            "pip install 'compressm-harness[servers]'"
        )
    return here[0]


def shown(url: URL) -> str:
    """The storage as shown to the user, without its password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return redacted(url.set(drivername="postgresql").render_as_string(hide_password=True))


class StorageLost(ValueError):
    """The storage's server does not answer, or no longer; perhaps it will again."""


@contextlib.contextmanager
def faults(url: URL) -> Iterator[None]:
    """Turn any error of the storage, or of the connection to it, into a one-line ValueError, and
    one of a server's connection into StorageLost."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        asked = url.query.get("password", ())
        secrets = [url.password, *((asked,) if isinstance(asked, str) else asked)]
        said = redacted(_first_line(error), map(str, filter(None, secrets)))
        kind = StorageLost if _is_of_connection(error, url) else ValueError
        raise kind(f"the storage {shown(url)}: {said}") from None


def _is_of_connection(error: BaseException | None, url: URL) -> bool:
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    lost = isinstance(error, OperationalError | InterfaceError)
    return url.get_backend_name() == "postgresql" and (
        lost or (error is not None and error.connection_invalidated)
    )


def _first_line(error: BaseException) -> str:
    """The driver's own message, from inside the wrappers of SQLAlchemy and Optuna."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    said = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    return said.splitlines()[0]


@contextlib.contextmanager
def held(url: URL, name: str, store: Store) -> Iterator[ServerLock | None]:
    """Lock the study `name` against every other driver; yields the server's lock, if it has one.

    Raises:
        Busy: another driver holds it, on this machine or, with a server, on any machine.
        ValueError: the server cannot be reached, within about `CONNECT_SECONDS`.
    """
    what = f"study {name}"
    with contextlib.ExitStack() as stack:
        lock = None
        if url.get_backend_name() == "postgresql":
            lock = stack.enter_context(contextlib.closing(ServerLock(url, what)))
            lock.take()
        stack.enter_context(store.lock(f"study-{name}", what))
        if url.get_backend_name() == "sqlite":
            assert url.database is not None
            beside = Path(url.database).resolve().parent
            if not store.is_folder or beside != store.root.resolve():
                stack.enter_context(Store(beside).lock(f"study-{name}", what))
        yield lock


class ServerLock:
    """A session lock: the server drops it when the connection ends, however it ends."""

    def __init__(self, url: URL, what: str) -> None:
        self.url, self.what = url, what
        digest = hashlib.sha256(f"compressm-harness {what}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        self._engine = sqlalchemy.create_engine(
            url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_connect_args()
        )
        self._connection: Connection | None = None

    def take(self, again: bool = False) -> None:
        """Take the lock, over a new connection; `again` after the one before was lost.

        Raises:
            Busy: another driver holds it.
            StorageLost: the server cannot be reached.
        """
        self.close()
        with faults(self.url):
            connection = self._connection = self._engine.connect()
            for setting, value in _KEEPALIVE.items():
                connection.execute(sqlalchemy.text(f"SET tcp_keepalives_{setting} = {value}"))
            query = sqlalchemy.text("SELECT pg_try_advisory_lock(:key)")
            if connection.execute(query, {"key": self._key}).scalar():
                return
            holder = _holder(connection, self._key)
        if again and holder == _own_name():
            raise StorageLost(f"the storage {shown(self.url)} has not missed us yet")
        raise Busy(f"{self.what} is being run by {holder}")

    def check(self) -> None:
        """Raise StorageLost if the connection broke, and the lock with it."""
        assert self._connection is not None
        with faults(self.url):
            self._connection.execute(sqlalchemy.text("SELECT 1"))

    def close(self) -> None:
        """Let go of the lock."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):  # its server may be away
                # The server notices later that a connection was closed.
                self._connection.execute(sqlalchemy.text("SELECT pg_advisory_unlock_all()"))
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
        self._connection = None


def _holder(connection: Connection, key: int) -> str:
    """The process that holds an advisory lock, by the name it gave."""
    halves = {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}
    query = (
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted "
        "AND locktype = 'advisory' AND classid = :high AND objid = :low AND objsubid = 1"
    )
    return connection.execute(sqlalchemy.text(query), halves).scalar() or "another process"


def _own_name() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"[:63]


def _connect_args() -> dict[str, Any]:
    return {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": _own_name(),
        "keepalives": 1,
        **{f"keepalives_{name}": value for name, value in _KEEPALIVE.items()},
    }


@contextlib.contextmanager
def storage(url: URL) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's storage. Missing tables are created.

    Raises:
        ValueError: it cannot be reached, or belongs to another version of Optuna.
    """
    if url.get_backend_name() == "sqlite":
        assert url.database is not None
        make_shared(Path(url.database))
        kwargs: dict[str, Any] = {"connect_args": {"timeout": SQLITE_SECONDS}}
    else:
        kwargs = {"connect_args": _connect_args(), "pool_pre_ping": True}
    spelled = url.render_as_string(hide_password=False)
    if make_url(spelled).database != url.database:
        raise ValueError(f"SQLAlchemy has no URL for {shown(url)}: choose another path")
    with faults(url):
        try:
            # Optuna treats braces as fields to fill in.
            spelled = spelled.replace("{", "{{").replace("}", "}}")
            opened = optuna.storages.RDBStorage(spelled, engine_kwargs=kwargs)
        except RuntimeError as error:  # tables of another version of Optuna
            raise ValueError(f"the storage {shown(url)}: {error}") from None
    try:
        yield opened
    finally:
        opened.engine.dispose()
