"""Files of results that grow as results come, and from which the same command goes on.

Results are appended to the file, and then noted in the journal beside it, ``<file>.journal``: JSON
lines, the first with the settings, then one for each input, those without a geometry too. Every
note says how far the file was whole, so what a kill or a full disk has cut short is taken back, and
what is noted is not done again, but for inputs that failed in a way that may not happen twice.
Inputs that gave no geometry may be mended: they may be others the next time, or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO, FileIO
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ase

from diffrelax.atomic import claim
from diffrelax.errors import InputError
from diffrelax.files import WRITERS, suffix_of
from diffrelax.files.reading import Input, Record
from diffrelax.files.values import plain_values
from diffrelax.files.writing import as_bytes, would_be_lost
from diffrelax.molecule import Molecule

PIECE = 1 << 20  # bytes
NOT_NOTED = {"symbols", "positions"}  # entries of a row
NOT_IN_INFO = {"name", "smiles", "charge", "multiplicity", "symbols", "positions", "arms"}


class InputResult(NamedTuple):
    """What became of an input.

    Parameters
    ----------
    source : SMILES, Record or Rejected
        The input.
    row : dict
        What is told of it, plain values, with its ``reason``.
    molecule : Molecule, ase.Atoms or None
        None where there is no geometry; atoms that are no molecule, in .extxyz only.
    properties : mapping
        What is written with the geometry beside the row.
    again : bool
        Whether the input is tried again when the file is opened the next time.
    error : Exception or None
        An error inside, of which the row tells; the input is then tried again, too.
    """

    source: Input
    row: dict[str, Any]
    molecule: Molecule | ase.Atoms | None
    properties: Mapping[str, Any] = {}
    again: bool = False
    error: Exception | None = None


class ResultFile:
    """A file of molecules that grows, and its journal.

    Parameters
    ----------
    path : path
        With one of the suffixes of `diffrelax.files.WRITERS`, compressed or not.
    settings : mapping
        All that decides what a result is, plain values.
    is_good : callable
        Whether a row, whose empty entries may be missing, is what the user hoped for.
    overwrite : bool
        Begin anew, whatever is there.

    Attributes
    ----------
    n_written : int
        Geometries in the file.

    Raises
    ------
    ValueError
        If there is a file that was not made so, was made with other settings, or was changed
        since; or if another process writes to it.
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
        self.path, self.journal = path, path.with_name(f"{path.name}.journal")
        self.n_written = 0
        self._writer, self._is_good = WRITERS[suffix_of(path)], is_good
        self._whole = self._crc = 0  # bytes of the file that are whole records, and their checksum
        self._noted = 0  # bytes of the journal
        self._finished = False
        self._sources: list[str] = []
        self._good: dict[int, bool] = {}  # whether those of these that are done are good
        self._again: set[int] = set()  # which of these are to be tried again
        self._bare: set[int] = set()  # which of these gave no geometry
        self._due: list[int] = []  # those of which the next results are
        if path.exists() and not self.journal.exists() and not overwrite:
            raise would_be_lost(self.path)
        self._notes = _open(self.journal)
        self._file: FileIO | None = None
        try:
            claim(self._notes, self.path, fcntl.flock)
            self._header = {"file": path.name, "settings": plain_values(dict(settings))}
            if not overwrite:
                self._go_on(self._header["settings"])
            if self._noted == 0:
                self._notes.truncate(0)
                self._note(self._header)
            if path.exists() and not self._finished:
                self._put(b"")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ResultFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._notes.close()
        if self._file:
            self._file.close()

    @property
    def n_done(self) -> int:
        """Inputs that are done."""
        return len(self._good)

    @property
    def n_bad(self) -> int:
        """Rows of inputs that are done and are not good or not written."""
        return len(self._good) - sum(self._good.values())

    @property
    def n_again(self) -> int:
        """Inputs that were tried and are to be tried again."""
        return len(self._again)

    def skip_done(self, inputs: Iterator[Input]) -> list[Input]:
        """Take the inputs that were tried from an iterator, once.

        Returns
        -------
        list of Input
            Those of them that are to be tried again; their results must be appended first.

        Raises
        ------
        ValueError
            If those with a geometry are not the ones that the file was made of.
        """
        again: list[Input] = []
        for number, known in enumerate(self._sources):
            given = next(inputs, None)
            changed = given is None or _digest(given) != known
            if changed and number not in self._bare:
                what = "missing" if given is None else "another, or has another charge"
                raise InputError(
                    f"{self.path} was made of other molecules, of which number {number + 1} is now "
                    f"{what}: name another file, or give --overwrite"
                )
            if changed and number not in self._again:  # mended, or left out
                self._again.add(number)
                del self._good[number]
            if given is None:
                self._again.discard(number)
            elif number in self._again:
                again.append(given)
        self._due = sorted(self._again)
        return again

    def append(self, results: Sequence[InputResult]) -> None:
        """Append results, all or none; one that cannot be written says so in its row.

        Raises
        ------
        OSError
            If the disk is full, for example. The file stays as it was.
        """
        if self._finished:  # or what a kill leaves behind the end would be taken for a change
            self._note({"more": self.n_done})
        texts: list[str] = []
        for _, row, molecule, properties, *_ in results:
            try:
                if molecule is not None:
                    info = {key: value for key, value in row.items() if key not in NOT_IN_INFO}
                    number = self.n_written + len(texts) + 1
                    texts.append(self._writer.text(molecule, {**properties, **info}, number))
            except Exception as error:  # one bad molecule never costs the others
                why = f"cannot be written: {type(error).__name__}: {error}"
                row |= {"reason": "; ".join(filter(None, (row["reason"], why))), "written": False}
        numbers = chain(self._due, count(len(self._sources)))
        notes = [
            {
                "input": _digest(result.source),
                "number": number,
                **({"again": True} if result.again or result.error else {}),
                **({"geometry": False} if result.molecule is None else {}),
                **{k: v for k, v in result.row.items() if v is not None and k not in NOT_NOTED},
            }
            for result, number in zip(results, numbers, strict=False)
        ]
        before = self._whole, self._crc, self.n_written
        try:
            if texts:
                head = self._writer.between if self.n_written else self._writer.begin
                self._put(as_bytes(self.path, head + self._writer.between.join(texts)))
                self.n_written += len(texts)
            self._note(*notes)
        except BaseException:
            self._whole, self._crc, self.n_written = before
            with suppress(OSError):
                self._put(b"")
            raise
        del self._due[: len(notes)]
        self._count(notes)

    def finish(self) -> None:
        """Note that there was no more input."""
        if not self._finished:
            self._note({"finished": self.n_done})

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield what is noted of each input, at each time that it was tried, if it is known."""
        with self.journal.open("rb") as lines:
            notes = (json.loads(line) for line in lines)
            yield from (note for note in notes if "input" in note)

    def _go_on(self, settings: Mapping[str, Any]) -> None:
        """Follow the journal as far as the file has what it says."""
        with self.journal.open("rb") as lines, _reading(self.path) as file:
            header, at = _parsed(lines.readline()), lines.tell()
            if header is None or "settings" not in header:
                if self.path.exists():
                    raise would_be_lost(self.path)
                if header is not None:  # of another command
                    raise would_be_lost(self.journal)
                return
            if different := differing(header.get("settings", {}), settings):
                if self.path.exists():
                    raise InputError(
                        f"{self.path} was made with {different}: name another file, or give "
                        "--overwrite"
                    )
                return
            self._noted, notes = at, []
            for line in lines:
                note, at = _parsed(line), at + len(line)
                if note is None:
                    break
                notes.append(note)
                if "whole" not in note:
                    continue
                if not self._has(file, note):
                    break
                self._noted, self._finished = at, "finished" in note
                self.n_written = note["written_so_far"]
                self._count([one for one in notes if "input" in one])
                notes = []
            if self._finished and file.read() != self._footer():
                raise self._changed()

    def _has(self, file: BinaryIO, note: Mapping[str, Any]) -> bool:
        """Read on to where the file was whole; False if it does not reach there."""
        crc, left = self._crc, note["whole"] - self._whole
        while left and (piece := file.read(min(left, PIECE))):
            crc, left = zlib.crc32(piece, crc), left - len(piece)
        if not left and crc != note["crc"]:
            raise self._changed()
        if not left:
            self._whole, self._crc = note["whole"], crc
        return not left

    def _count(self, notes: Sequence[Mapping[str, Any]]) -> None:
        for note in notes:
            number = note.get("number", len(self._sources))
            self._sources[number : number + 1] = [note["input"]]  # one more, or in its place
            if note.get("geometry", note.get("written", True)):
                self._bare.discard(number)
            else:
                self._bare.add(number)
            if "again" in note:
                self._again.add(number)
            else:
                self._again.discard(number)
                self._good[number] = self._is_good(note) and note.get("written", True)

    def _put(self, data: bytes) -> None:
        """Write behind the whole records, where the end of the format then stands."""
        self._file = self._file or _open(self.path)
        _write(self._file, self._whole, data + self._footer(len(data)))
        self._whole, self._crc = self._whole + len(data), zlib.crc32(data, self._crc)

    def _note(self, *notes: Mapping[str, Any]) -> None:
        *first, last = notes
        state = {"written_so_far": self.n_written, "whole": self._whole, "crc": self._crc}
        lines = [json.dumps(plain_values(note)) + "\n" for note in (*first, {**last, **state})]
        data = "".join(lines).encode()
        _write(self._notes, self._noted, data)
        self._noted += len(data)
        self._finished = "finished" in last

    def _footer(self, more: int = 0) -> bytes:
        end = self._writer.end
        return as_bytes(self.path, end) if end and self._whole + more else b""

    def _changed(self) -> ValueError:
        return InputError(
            f"{self.path} was changed since it was written: name another file, or give --overwrite"
        )


def differing(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Say which settings differ, by the names that they have as options, without the dashes."""
    return "; ".join(
        f"{key.replace('_', '-')} {_told(known.get(key))}, not {_told(wanted.get(key))}"
        for key in {**known, **wanted}
        if known.get(key) != wanted.get(key)
    )


def _told(value: Any) -> Any:
    return "left open" if value is None else value


def _open(path: Path) -> FileIO:
    """Open a file to write anywhere in it; it is made if it does not exist."""
    return FileIO(path, "r+", opener=lambda name, _: os.open(name, os.O_RDWR | os.O_CREAT, 0o666))


def _reading(path: Path) -> BinaryIO | BytesIO:
    return path.open("rb") if path.exists() else BytesIO()


def _write(file: FileIO, at: int, data: bytes) -> None:
    """Write to the disk from a place on; nothing stays behind it."""
    try:
        file.seek(at)
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        file.truncate()
        os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(file.name)
        raise


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        note = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return note if isinstance(note, dict) else None


def _digest(given: Input) -> str:
    """Return 16 hexadecimal digits of what an input says, wherever it stands."""
    text = str(given)
    if isinstance(given, Record):
        text = given.suffix + given.text + ("" if given.charge is None else f"{given.charge:+d}")
    written = text.encode("utf-8", errors="surrogatepass")
    return hashlib.sha256(written).hexdigest()[:16]
