"""Finished units of work in one SQLite file, found by key."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Self, TypeAlias, TypeVar, overload

from diffrelax.errors import InputError
from diffrelax.molecule import Molecule

T = TypeVar("T")
Unit: TypeAlias = dict[str, Any]

DECIMALS = 6  # Å: far below what a calculation resolves, far above what a file loses
IN_A_FOLDER = "units.sqlite"
PAGE = 500  # units read at once; others may write in between
PATIENCE = 60  # s, to wait while another process writes
SOON = 1.0  # s
TABLES = (
    """CREATE TABLE IF NOT EXISTS units
    (number INTEGER PRIMARY KEY, key TEXT UNIQUE, kind TEXT, document TEXT)""",
    "CREATE INDEX IF NOT EXISTS kinds ON units (kind, number)",
)


def work_key(
    stage: str,
    molecule: Molecule | str,
    settings: Mapping[str, Any],
    *,
    model_sha256: str = "",
    seed: int = 42,
) -> str:
    """Return the key of a unit of work: the sha256 of the canonical JSON of its inputs.

    Parameters
    ----------
    stage : str
        Kind of work, such as ``"relax"`` or ``"dft"``.
    molecule : Molecule or str
        A geometry (atoms with isotopes, positions to 1e-6 Å, charge, multiplicity and bonds), or a
        SMILES. Names are ignored.
    settings : mapping
        Plain values.
    model_sha256 : str
        Checksum of the weights, if a model is used.
    seed : int

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        If a setting is not a plain, finite value.
    """
    record = {
        "stage": stage,
        "molecule": molecule if isinstance(molecule, str) else _geometry(molecule),
        "settings": dict(settings),
        "model_sha256": model_sha256,
        "seed": seed,
    }
    try:
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"settings {dict(settings)} cannot be part of a key: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def atoms_of(molecule: Molecule) -> str:
    """Return the identity of a molecule without positions, for use in `work_key`."""
    known = _geometry(molecule)
    del known["positions"]
    return json.dumps(known, sort_keys=True)


def _geometry(molecule: Molecule) -> dict[str, Any]:
    isotopes = {"isotopes": list(molecule.isotopes)} if molecule.isotopes else {}
    return isotopes | {
        "numbers": molecule.numbers.tolist(),
        "positions": (molecule.positions.round(DECIMALS) + 0.0).tolist(),  # no negative zeros
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
        "bonds": [list(bond) for bond in molecule.bonds],
    }


class Store:
    """Finished units of work: plain JSON documents, found by their keys.

    Units are written completely or not at all, also if the process is killed. Several processes may
    share a store, also on a network file system with locks (NFS 4, Lustre with ``flock``).

    Parameters
    ----------
    path : path or None
        SQLite file, created if it does not exist. None: in memory.
    alone : bool
        Lock the store for this process until it is closed.

    Raises
    ------
    ValueError
        If the store is locked by another process, or the file is not a store.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, alone: bool = False) -> None:
        self.path = Path(path).resolve() if path else None
        self._waiting: dict[str, tuple[str, str, str]] = {}
        self._written = monotonic()
        with self._explained():
            self._database = sqlite3.connect(
                self.path or ":memory:",
                timeout=0 if alone else PATIENCE,
                isolation_level=None,
                check_same_thread=False,
            )
            if alone:
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            (n_tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if not n_tables:
                self._database.execute("PRAGMA auto_vacuum = FULL")
            if alone or not n_tables:
                with self._changing() as database:
                    for table in TABLES:
                        database.execute(table)

    @classmethod
    def in_folder(cls, folder: str | os.PathLike[str]) -> Self:
        """Open the store of a folder, created if needed; in memory for an empty name."""
        if not folder:
            return cls(None)
        Path(folder).mkdir(parents=True, exist_ok=True)
        return cls(Path(folder) / IN_A_FOLDER)

    @staticmethod
    def of(given: Store | str | os.PathLike[str] | None) -> Store:
        """Return a given store, or open that of a path."""
        return given if isinstance(given, Store) else Store(given)

    def count(self) -> int:
        """Return the number of units of all kinds."""
        with self._explained():
            (n,) = self._database.execute("SELECT count(*) FROM units").fetchone()
        return int(n)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write waiting units, and close the file."""
        try:
            self.flush()
        finally:
            self._database.close()

    def find(self, key: str) -> Unit | None:
        """Return the document of a unit; None if there is none."""
        if key in self._waiting:
            return json.loads(self._waiting[key][-1])
        with self._explained():
            select = "SELECT document FROM units WHERE key = ?"
            row = self._database.execute(select, [key]).fetchone()
        return json.loads(row[0]) if row else None

    def keep(self, key: str, document: Mapping[str, Any], kind: str = "unit") -> None:
        """Store the document of a unit, replacing an earlier one."""
        self.keep_all({key: document}, kind)

    def keep_all(self, documents: Mapping[str, Mapping[str, Any]], kind: str = "unit") -> None:
        """Store units together; they come last in the order of `each`. Arrays become lists."""
        rows = [*self._waiting.values(), *(_row(*one, kind) for one in documents.items())]
        with self._explained(), self._changing() as database:
            insert = "INSERT OR REPLACE INTO units (key, kind, document) VALUES (?, ?, ?)"
            database.executemany(insert, rows)
        self._waiting.clear()
        self._written = monotonic()

    def keep_soon(self, key: str, document: Mapping[str, Any], kind: str = "unit") -> None:
        """Store the document of a quick unit together with others, within a second."""
        self._waiting[key] = _row(key, document, kind)
        if monotonic() > self._written + SOON:
            self.flush()

    def flush(self) -> None:
        """Write waiting units."""
        if self._waiting:
            self.keep_all({})

    def each(self, kind: str = "unit") -> Iterator[tuple[str, Unit]]:
        """Yield keys and documents of a kind in the order in which they were stored."""
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

    def drop(self, *, key: str | None = None, kind: str | None = None) -> None:
        """Remove the unit of a key, or those of a kind, which may end in ``*``; default: all."""
        with self._explained(), self._changing() as database:
            database.execute(
                "DELETE FROM units WHERE key = coalesce(?, key) AND kind GLOB coalesce(?, '*')",
                [key, kind],
            )

    @overload
    def find_or_do(self, key: str, work: Callable[[], Unit]) -> Unit: ...

    @overload
    def find_or_do(
        self,
        key: str,
        work: Callable[[], T],
        read: Callable[[Unit], T | None],
        write: Callable[[T], Unit | None],
    ) -> T: ...

    def find_or_do(
        self,
        key: str,
        work: Callable[[], Any],
        read: Callable[[Unit], Any] = dict,
        write: Callable[[Any], Unit | None] = dict,
    ) -> Any:
        """Return the result of a unit; do and store it if it is not found.

        Parameters
        ----------
        key : str
        work : callable
            Does the unit; returns its document, or what ``read`` and ``write`` convert.
        read : callable
            Converts a stored document; None if the unit must be done again.
        write : callable
            Returns the document to store; None if the unit must be done again next time.
        """
        found = self.find(key)
        if found is not None and (known := read(found)) is not None:
            return known
        done = work()
        if (document := write(done)) is not None:
            self.keep(key, document)
        return done

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction; errors and interrupts roll it back."""
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
        """Translate errors of SQLite."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            text = str(error)
            if "locked" in text:
                raise InputError(
                    f"another process is writing {self.path}: wait until it has finished"
                ) from error
            if "not a database" in text or "malformed" in text:
                raise InputError(
                    f"{self.path} is damaged, or not a store: delete it (its results are lost)"
                ) from error
            if "full" in text:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
            raise OSError(f"{self.path}: {text}") from error


def _row(key: str, document: Mapping[str, Any], kind: str) -> tuple[str, str, str]:
    return key, kind, json.dumps(document, default=lambda array: array.tolist())
