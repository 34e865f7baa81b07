"""Output files to which results are appended, and which a rerun completes.

Each result is stored in ``<file>.units`` first, and then appended to the file, which can be
restored from the store. Finished inputs are not repeated, except failures that may not happen
again. Inputs without a geometry may be corrected or removed before a rerun.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from gzip import BadGzipFile
from io import FileIO
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import ase

from diffrelax.atomic import replacing
from diffrelax.errors import InputError
from diffrelax.files import WRITERS, suffix_of
from diffrelax.files.reading import Input, Record
from diffrelax.files.streams import GZIP
from diffrelax.files.values import plain_values
from diffrelax.files.writing import as_bytes, encoded
from diffrelax.molecule import Molecule
from diffrelax.results.beside import RESULT, changed, open_beside

DIGITS = 4  # of positions in Å that are kept for a report
LARGE = {"symbols", "positions"}  # entries of a row that are kept with the geometry alone
NOT_IN_INFO = {"name", "smiles", "charge", "multiplicity", "symbols", "positions", "arms"}


class InputResult(NamedTuple):
    """Result of an input.

    Parameters
    ----------
    source : SMILES, Record or Rejected
        The input.
    row : dict
        Its row, plain values, with a ``reason``.
    molecule : Molecule, ase.Atoms or None
        None without a geometry; atoms that are not a molecule only for .extxyz.
    properties : mapping
        Properties written with the geometry, in addition to the row.
    again : bool
        Whether the next run tries the input again. It then has no geometry.
    error : Exception or None
        An internal error, described in the row; the input is also tried again.
    frames : mapping of str to Molecule
        Earlier geometries with the same atoms, by title; for a report.
    curves : mapping of str to sequence of float
        Largest force on an atom at each gradient call, eV/Å, by start; for a report.
    """

    source: Input
    row: dict[str, Any]
    molecule: Molecule | ase.Atoms | None
    properties: Mapping[str, Any] = {}
    again: bool = False
    error: Exception | None = None
    frames: Mapping[str, Molecule] = {}
    curves: Mapping[str, Sequence[float]] = {}


class ResultFile:
    """A growing file of molecules, with its store.

    Parameters
    ----------
    path : path
        Path with a suffix of `diffrelax.files.WRITERS`, compressed or not.
    settings, overwrite
        See `open_beside`.
    is_good : callable
        Returns whether a row is a success; empty entries may be missing.

    Attributes
    ----------
    store : Store
    n_written : int
        Number of geometries in the file.

    Raises
    ------
    ValueError
        If the file exists and was made in another way or with other settings, or was changed; or if
        another process writes to it.
    OSError
        If it cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        is_good: Callable[[Mapping[str, Any]], bool],
        *,
        overwrite: bool = False,
    ) -> None:
        self.path = path
        self.n_written = 0
        self._n_tried = self._n_good = 0
        self._again: set[int] = set()  # numbers of inputs to be tried again
        self._due: list[int] = []  # those of them of which the next results are
        self._is_good = is_good
        self._writer = WRITERS[suffix_of(path)]
        self._open = gzip.open if path.suffix.lower() == ".gz" else open
        self._end = as_bytes(path, self._writer.end) if self._writer.end else b""
        self._whole = 0  # bytes before the end
        self.store = open_beside(path, settings, overwrite=overwrite)
        try:
            for _, unit in self.store.each(RESULT):
                self._count(unit)
            if self.n_written:
                self._restore()
            elif path.exists() and path.stat().st_size:
                raise changed(self.path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, so that other processes can use the file."""
        self.store.close()

    @property
    def n_done(self) -> int:
        """Number of finished inputs."""
        return self._n_tried - len(self._again)

    @property
    def n_bad(self) -> int:
        """Number of finished inputs without success or without a written geometry."""
        return self.n_done - self._n_good

    @property
    def n_again(self) -> int:
        """Number of inputs to try again."""
        return len(self._again)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, in order of completion."""
        yield from (unit["row"] for _, unit in self.store.each(RESULT))

    def skip_done(self, inputs: Iterator[Input]) -> list[Input]:
        """Skip the finished inputs of an iterator.

        Returns
        -------
        list of Input
            Inputs to try again; their results must be appended first.

        Raises
        ------
        ValueError
            If inputs with a written geometry have changed.
        """
        again: dict[int, Input] = {}
        n_given = self._n_tried
        for number in range(self._n_tried):
            known, given = self.store.find(_key(number)), next(inputs, None)
            assert known is not None
            changed = given is None or _digest(given) != known["input"]
            if changed and known["text"] is not None:
                what = "missing" if given is None else "a different one"
                raise InputError(
                    f"{self.path} was made from other molecules: number {number + 1} is now "
                    f"{what}: choose another file, or give --overwrite"
                )
            if given is None:
                self.store.drop(key=_key(number))
                n_given -= 1
            elif changed or number in self._again:
                again[number] = given
        self._n_tried, self._again, self._due = n_given, set(again), list(again)
        return list(again.values())

    def append(self, results: Sequence[InputResult]) -> None:
        """Append results; a row says so if its geometry cannot be written.

        Raises
        ------
        OSError
            For example if the disk is full. The file keeps complete records.
        """
        numbers = chain(self._due, count(self._n_tried))
        units, texts = {}, list[str]()
        for number, result in zip(numbers, results, strict=False):
            if text := self._text(result, self.n_written + len(texts) + 1):
                texts.append(text)
            units[_key(number)] = {
                "number": number,
                "input": _digest(result.source),
                "again": result.again or result.error is not None,
                "row": {k: v for k, v in result.row.items() if v is not None and k not in LARGE},
                "text": text,
                "frames": {k: m.positions.round(DIGITS).tolist() for k, m in result.frames.items()},
                "curves": {name: [*curve] for name, curve in result.curves.items()},
            }
        self.store.keep_all(plain_values(units), RESULT)
        first = not self.n_written
        del self._due[: len(units)]
        for unit in units.values():
            self._count(unit)
        if texts:
            head = self._writer.begin if first else self._writer.between
            self._write(as_bytes(self.path, head + self._writer.between.join(texts)))

    def _count(self, unit: Mapping[str, Any]) -> None:
        number, row = unit["number"], unit["row"]
        self._n_tried = max(self._n_tried, number + 1)
        self._again.discard(number)
        self.n_written += unit["text"] is not None
        if unit["again"]:
            self._again.add(number)
        else:
            self._n_good += self._is_good(row) and row.get("written", True)

    def _text(self, result: InputResult, number: int) -> str | None:
        """Return the record of a result; None without a geometry, or if it cannot be written."""
        row, molecule = result.row, result.molecule
        if molecule is None:
            return None
        info = {key: value for key, value in row.items() if key not in NOT_IN_INFO}
        try:
            return self._writer.text(molecule, {**result.properties, **info}, number)
        except Exception as error:  # one bad molecule never costs the others
            why = f"cannot be written: {type(error).__name__}: {error}"
            row |= {"reason": "; ".join(filter(None, (row["reason"], why))), "written": False}
            return None

    def _write(self, data: bytes) -> None:
        """Write after the complete records, followed by the end of the format."""
        with FileIO(self.path, "r+", opener=_make_or_open) as file:
            try:
                _write_at(file, self._whole, data + self._end)
            except BaseException as error:
                with suppress(OSError):
                    _write_at(file, self._whole, self._end if self._whole else b"")
                if isinstance(error, OSError):
                    error.filename = error.filename or str(self.path)
                raise
        self._whole += len(data)

    def _restore(self) -> None:
        """Restore the file from the store, unless it is complete."""
        if not self._is_whole():
            with replacing(self.path) as part:
                with self._open(part, "wb") as file:
                    for text in self._texts():
                        file.write(encoded(text))
                with part.open("ab") as plain:
                    plain.write(self._end)
        self._whole = self.path.stat().st_size - len(self._end)

    def _is_whole(self) -> bool:
        """Return whether the file matches the store; False if it is truncated."""
        end = encoded(self._writer.end)
        try:
            with self._open(self.path, "rb") as file:
                for data in map(encoded, self._texts()):
                    found = file.read(len(data))
                    if found != data:
                        found += file.read(len(end) + 1)
                        if data.startswith(found) or found == end:
                            return False
                        raise changed(self.path)
                if (found := file.read(len(end) + 1)) == end:
                    return True
        except (FileNotFoundError, EOFError):  # EOFError: of gzip
            return False
        except BadGzipFile:
            with self.path.open("rb") as file:
                if GZIP.startswith(file.read(len(GZIP))):  # cut in the header of a piece
                    return False
            raise changed(self.path) from None
        if end.startswith(found):
            return False
        raise changed(self.path)

    def _texts(self) -> Iterator[str]:
        """Yield the records with the text before each."""
        head = self._writer.begin
        for _, unit in self.store.each(RESULT):
            if unit["text"] is not None:
                yield head + unit["text"]
                head = self._writer.between


def _key(number: int) -> str:
    return f"input {number}"


def _digest(given: Input) -> str:
    """Return 16 hexadecimal digits that identify the content of an input."""
    text = str(given)
    if isinstance(given, Record):
        text = given.suffix + given.text + ("" if given.charge is None else f"{given.charge:+d}")
    written = text.encode("utf-8", errors="surrogatepass")
    return hashlib.sha256(written).hexdigest()[:16]


def _make_or_open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _write_at(file: FileIO, place: int, data: bytes) -> None:
    """Write at a position of a file, and truncate it after that."""
    file.truncate(place)
    file.seek(place)
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())
