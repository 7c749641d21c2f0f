"""The database file of the MLflow mirror: whether it is usable, and how it is replaced.

A new database is built in a temporary folder of the store and renamed once it is complete. So the
file of that name is never a partial one, whatever interrupts a mirror. If it still cannot be opened
(damaged, from another version of MLflow, a folder), it is kept beside its replacement.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from harness.records.files import (
    TEMPORARY_PREFIX,
    make_shared,
    sync,
    unreadable_name,
    unused,
)

NAME = "mlflow.db"
BUSY_SECONDS = 5.0  # to wait for another program that writes to the database
_ASIDE = f"{TEMPORARY_PREFIX}mlflow-"
_COMPANIONS = ("-journal", "-wal", "-shm")  # files that SQLite keeps beside a database
# The last is raised by a query that does not fit the tables.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def fault(database: Path, revision: str, tables: set[str]) -> str | None:
    """Why an existing database cannot be used, or None if it can. Writes nothing to it.

    `revision` and `tables` are those of the installed MLflow.

    Raises:
        sqlite3.OperationalError: another program holds it, or it cannot be read or written.
    """
    if not database.is_file():
        return "it is not a file"
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if check != "ok":
                return f"it is damaged: {check.splitlines()[-1]}"
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            there = {name for (name,) in connection.execute(query)}
            if "alembic_version" not in there:
                return "it is unfinished or not MLflow's"
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGED:
            return str(error)
        raise
    if found != [(revision,)]:
        return "it is unfinished or from another version of MLflow"
    return "it lacks tables" if tables - there else None


@contextlib.contextmanager
def aside(root: Path) -> Iterator[Path]:
    """An empty file for a new database, in a temporary folder of the store that is always removed.

    Also removes folders left by killed processes: the caller holds the mirror's lock.
    """
    for leftover in root.glob(f"{_ASIDE}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = root / f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        make_shared(folder / NAME)
        yield folder / NAME
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(new: Path, database: Path) -> Path | None:
    """Rename a new database into place; return where the previous one is kept, if there was one."""
    sync(new)
    kept = None
    if os.path.lexists(database):
        kept = unreadable_name(database)
        os.rename(database, kept)
    for ending in _COMPANIONS:  # SQLite would apply them to the new database
        beside = database.with_name(NAME + ending)
        if os.path.lexists(beside):
            target = kept or database.with_name(f"{NAME}.unreadable")
            os.rename(beside, unused(target.with_name(target.name + ending)))
    os.replace(new, database)
    sync(database.parent)
    return kept
