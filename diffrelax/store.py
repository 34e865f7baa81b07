"""Finished units of work, each found by its key, in one SQLite file."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffrelax.errors import InputError

PAGE = 500  # units read at once; others may write in between
PATIENCE = 60  # s, to wait while another process writes
TABLE = """CREATE TABLE IF NOT EXISTS units
    (number INTEGER PRIMARY KEY, key TEXT UNIQUE, kind TEXT, document TEXT)"""


class Store:
    """Finished units of work: plain JSON documents, found by their keys.

    What is kept is there whole or not at all, whatever ends the process. Any number of processes
    may share a store, also over a network file system with locks (NFS 4, Lustre with ``flock``).

    Parameters
    ----------
    path : path
        Of the file, made if there is none.
    alone : bool
        Keep other processes out until the store is closed.

    Raises
    ------
    ValueError
        If another process uses the store and one of them must be alone, or the file is no store.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self.path = path.resolve()
        with self._explained():
            self._database = sqlite3.connect(
                self.path,
                timeout=0 if alone else PATIENCE,
                isolation_level=None,
                check_same_thread=False,
            )
            if alone:
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            with self._changing() as database:
                database.execute(TABLE)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the document of a unit; None if there is none."""
        with self._explained():
            select = "SELECT document FROM units WHERE key = ?"
            row = self._database.execute(select, [key]).fetchone()
        return json.loads(row[0]) if row else None

    def keep(self, key: str, document: Mapping[str, Any], kind: str = "unit") -> None:
        """Keep the document of a unit, in place of an earlier one."""
        self.keep_all({key: document}, kind)

    def keep_all(self, documents: Mapping[str, Mapping[str, Any]], kind: str = "unit") -> None:
        """Keep units, all or none; they come last in the order of `each`."""
        rows = [(key, kind, json.dumps(document)) for key, document in documents.items()]
        with self._explained(), self._changing() as database:
            insert = "INSERT OR REPLACE INTO units (key, kind, document) VALUES (?, ?, ?)"
            database.executemany(insert, rows)

    def each(self, kind: str = "unit") -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield keys and documents of a kind in the order in which they were kept."""
        select = f"""SELECT number, key, document FROM units WHERE kind = ? AND number > ?
            ORDER BY number LIMIT {PAGE}"""
        last = 0
        while True:
            with self._explained():
                rows = self._database.execute(select, [kind, last]).fetchall()
            if not rows:
                return
            for last, key, document in rows:  # noqa: B007
                yield key, json.loads(document)

    def drop(self, key: str | None = None) -> None:
        """Drop the unit of a key; without it all."""
        with self._explained(), self._changing() as database:
            database.execute("DELETE FROM units WHERE key = coalesce(?, key)", [key])

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction, and end it; an error or an interrupt takes it back."""
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # it has been taken back, by a full disk
                database.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise errors of SQLite as what they mean here."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "locked" in text:
                raise InputError(
                    f"another process writes to {self.path}: wait for its end"
                ) from error
            if "not a database" in text or "malformed" in text:
                raise InputError(f"{self.path} is damaged, or no store of units: delete it, which "
                                 "loses what was kept in it") from error  # fmt: skip
            if "full" in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
            raise OSError(f"{self.path}: {text}") from error
