"""A maggma store in one SQLite file, for flows without a database server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import Any

from bson import json_util
from maggma.core import Store
from maggma.stores import MemoryStore
from pydash import get, pick

StoredDocument = dict[str, Any]

PAGE = 500  # documents read at once, between which others may write
PATIENCE = 60  # s, to wait while others write
RESTORE = ": delete it and rerun the flow, which restores finished work from its folder work"
ADVICE = {
    "database or disk is full": ": free some disk space and run again",
    "file is not a database": RESTORE,
    "database disk image is malformed": RESTORE,
}


class SQLiteStore(Store):
    """Documents in a table of an SQLite file, found by their key through an index.

    Criteria other than the key are evaluated by maggma's `MemoryStore`. If a process is killed, the
    file has its last complete update. A power cut may damage it; it can be deleted, and is filled
    again by rerunning the flow.

    Parameters
    ----------
    path : str
        SQLite file, created if it does not exist.
    table : str
    **kwargs
        Of `maggma.core.Store`.
    """

    def __init__(self, path: str, table: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path, self.table, self.kwargs = path, table, kwargs
        self._database: sqlite3.Connection | None = None

    @property
    def name(self) -> str:
        """The file and the table."""
        return f"sqlite://{self.path}/{self.table}"

    @property
    def _collection(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError(f"{self.name} is not connected")
        return self._database

    def connect(self, force_reset: bool = False) -> None:
        """Open the file.

        Raises
        ------
        OSError
            If it cannot be opened or made, or is damaged.
        """
        if self._database is not None and not force_reset:
            return
        try:
            database = sqlite3.connect(self.path, timeout=PATIENCE)
            # no waiting for the disk: finished units, from which it is filled again, have waited
            database.execute("PRAGMA synchronous = OFF")
            with database:
                database.execute(
                    f"CREATE TABLE IF NOT EXISTS {self.table} "
                    "(number INTEGER PRIMARY KEY, key TEXT, document TEXT)"
                )
                database.execute(
                    f"CREATE INDEX IF NOT EXISTS {self.table}_keys ON {self.table} (key)"
                )
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error
        self._database = database

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def count(self, criteria: StoredDocument | None = None) -> int:
        """Count the documents that match."""
        return sum(1 for _ in self._matching(criteria))

    def query(
        self,
        criteria: StoredDocument | None = None,
        properties: StoredDocument | list[str] | None = None,
        sort: dict[str, Any] | None = None,
        skip: int = 0,
        limit: int = 0,
    ) -> Iterator[StoredDocument]:
        """Yield the documents that match, in the order in which they were first stored.

        Parameters
        ----------
        criteria, properties, sort, skip, limit
            See `maggma.core.Store.query`.
        """
        found: Any = (document for _, document in self._matching(criteria))
        for field, order in reversed((sort or {}).items()):
            found = sorted(found, key=lambda d: get(d, field), reverse=order in (-1, "desc"))
        for document in islice(found, skip, skip + limit if limit else None):
            yield _picked(document, properties) if properties else document

    def update(
        self, docs: StoredDocument | list[StoredDocument], key: list[str] | str | None = None
    ) -> None:
        """Store documents, replacing those with the same values of the key fields.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        fields = [key] if isinstance(key, str) else key or [self.key]
        try:
            with self._collection as database:
                for document in docs if isinstance(docs, list) else [docs]:
                    self._put(database, document, fields)
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def ensure_index(self, key: str, unique: bool = False) -> bool:
        """Return whether there is an index: only for the key."""
        return key == self.key

    def groupby(
        self,
        keys: list[str] | str,
        criteria: StoredDocument | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Iterator[tuple[StoredDocument, list[StoredDocument]]]:
        """Group documents, see `maggma.core.Store.groupby`."""
        return self._in_memory(criteria).groupby(keys, criteria, *args, **kwargs)

    def remove_docs(self, criteria: StoredDocument) -> None:
        """Remove the documents that match."""
        numbers = [(number,) for number, _ in self._matching(criteria)]
        with self._collection as database:
            database.executemany(f"DELETE FROM {self.table} WHERE number = ?", numbers)

    def _put(
        self, database: sqlite3.Connection, document: StoredDocument, fields: list[str]
    ) -> None:
        text = json.dumps(document, default=json_util.default, ensure_ascii=False)
        wanted = [get(document, field) for field in fields]
        for number, known in list(self._found({self.key: document[self.key]})):
            if [get(known, field) for field in fields] == wanted:
                database.execute(
                    f"UPDATE {self.table} SET document = ? WHERE number = ?", [text, number]
                )
                return
        database.execute(
            f"INSERT INTO {self.table} (key, document) VALUES (?, ?)", [document[self.key], text]
        )

    def _matching(self, criteria: StoredDocument | None) -> Iterator[tuple[int, StoredDocument]]:
        if not criteria or (set(criteria) == {self.key} and self._keys(criteria) is not None):
            yield from self._found(criteria)
            return
        for document in self._in_memory(criteria).query(criteria):
            yield document.pop("_id"), document

    def _in_memory(self, criteria: StoredDocument | None) -> MemoryStore:
        store = MemoryStore(key=self.key)
        store.connect()
        for number, document in self._found(criteria):
            store._collection.insert_one(document | {"_id": number})
        return store

    def _found(self, criteria: StoredDocument | None) -> Iterator[tuple[int, StoredDocument]]:
        """Yield the documents with the requested keys, or all."""
        keys = self._keys(criteria)
        try:
            if keys is None:
                yield from self._page_by_page()
                return
            select = f"SELECT number, document FROM {self.table} WHERE key = ?"
            rows = [row for key in keys for row in self._collection.execute(select, [key])]
            yield from map(_read, sorted(rows))
        except sqlite3.DatabaseError as error:
            raise self._explain(error) from error

    def _keys(self, criteria: StoredDocument | None) -> list[str] | None:
        """Return the keys that criteria list; None for other criteria."""
        wanted = (criteria or {}).get(self.key)
        if isinstance(wanted, str):
            return [wanted]
        return wanted["$in"] if isinstance(wanted, dict) and set(wanted) == {"$in"} else None

    def _page_by_page(self) -> Iterator[tuple[int, StoredDocument]]:
        select = f"SELECT number, document FROM {self.table} WHERE number > ? ORDER BY number"
        last = 0
        while rows := self._collection.execute(f"{select} LIMIT {PAGE}", [last]).fetchall():
            yield from map(_read, rows)
            last = rows[-1][0]

    def _explain(self, error: sqlite3.DatabaseError) -> OSError:
        return OSError(f"{self.path}: {error}{ADVICE.get(str(error), '')}")


def _read(row: tuple[int, str]) -> tuple[int, StoredDocument]:
    number, text = row
    return number, json_util.loads(text) if '{"$' in text else json.loads(text)


def _picked(document: StoredDocument, properties: StoredDocument | list[str]) -> StoredDocument:
    """Return some fields; pydash is slow, so only dotted names are left to it."""
    nested = [name for name in properties if "." in name]
    at_top = {name: document[name] for name in properties if name in document}
    return at_top | (pick(document, *nested) if nested else {})
