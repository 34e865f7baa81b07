"""Units of work: each is known by a key that says what it is, and is done once."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, overload

from diffrelax.atomic import replacing, write_text
from diffrelax.errors import InputError
from diffrelax.molecule import Molecule

T = TypeVar("T")
Unit: TypeAlias = dict[str, Any]

DECIMALS = 6  # Å: far below what a calculation resolves, far above what a file loses
KEY = 16  # digits of a key, in the name of a checkpoint beside an output


def work_key(
    stage: str,
    molecule: Molecule | str,
    settings: Mapping[str, Any],
    *,
    model_sha256: str = "",
    seed: int = 42,
) -> str:
    """Return the key of a unit of work: the sha256 of the canonical JSON of what decides it.

    Parameters
    ----------
    stage : str
        What is done, such as ``"relax"`` or ``"dft"``.
    molecule : Molecule or str
        A geometry, known by its atoms and their isotopes, positions to 1e-6 Å, charge,
        multiplicity and bonds; or a SMILES that has yet to become one. Names do not count.
    settings : mapping
        Of plain values.
    model_sha256 : str
        Of the weights, where a model takes part.
    seed : int

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    ValueError
        If a setting is not a finite plain value.
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


def _geometry(molecule: Molecule) -> dict[str, Any]:
    isotopes = {"isotopes": list(molecule.isotopes)} if molecule.isotopes else {}
    return isotopes | {
        "numbers": molecule.numbers.tolist(),
        "positions": (molecule.positions.round(DECIMALS) + 0.0).tolist(),  # no negative zeros
        "charge": molecule.charge,
        "multiplicity": molecule.multiplicity,
        "bonds": [list(bond) for bond in molecule.bonds],
    }


class WorkFolder:
    """A folder of finished units of work, one JSON file each, and of checkpoints of the others.

    Files appear whole or not at all, so any number of processes, on any number of machines that
    share the folder, may use it at once. Units that were packed into one file beside the folder,
    ``<folder>.jsonl.gz``, are found where they have no file of their own.

    Parameters
    ----------
    path : path
        Made if it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).resolve()  # the pack has the name of the folder
        self.path.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def of(path: str | os.PathLike[str] | None) -> WorkFolder:
        """Open a folder; without a path, or an empty one, nothing is found and nothing kept."""
        return WorkFolder(path) if path else Checkpoints()

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
        """Return what a unit gives, which is calculated and kept if it is not found.

        Parameters
        ----------
        key : str
        work : callable
            Does the unit; gives its document, unless that is read and written by the others.
        read : callable
            Reads a document that is found; None where the unit must be done again.
        write : callable
            Writes the document to keep; None where the unit must be done again next time.
        """
        found = self.find(key)
        if found is not None and (known := read(found)) is not None:
            return known
        done = work()
        if (document := write(done)) is not None:
            self.keep(key, document)
        return done

    def find(self, key: str) -> Unit | None:
        """Return the document of a finished unit; None if it is not finished or damaged."""
        document = _read(self.path / f"{key}.json")
        return self._find_packed(key) if document is None else document

    def keep(self, key: str, document: Mapping[str, Any]) -> None:
        """Store the document of a unit that has finished, and drop its own checkpoint."""
        write_text(self.path / f"{key}.json", json.dumps(document, ensure_ascii=False) + "\n")
        (self.path / f"{key}.checkpoint").unlink(missing_ok=True)

    def checkpoint(self, key: str) -> Path | None:
        """Return the file in which a unit that has not finished may keep its state."""
        return self.path / f"{key}.checkpoint"

    def pack(self) -> int:
        """Add the units that have files of their own to the pack, and return how many it has.

        What the pack has keeps its bytes, so that a repository stores of a new version only what is
        new: a gzip member at the end, molecule by molecule. The files are left where they are.
        """
        new = {}
        for path in self.path.glob("*.json"):
            if (document := _read(path)) and document != self._find_packed(path.stem):
                new[path.stem] = document
        # neighbours that are alike take less room
        order = sorted(new, key=lambda key: (str(new[key].get("name", "")), key))
        lines = [
            json.dumps({"key": key, "document": new[key]}, ensure_ascii=False) + "\n"
            for key in order
        ]
        if lines:
            before = self._pack.read_bytes() if self._pack.exists() else b""
            with replacing(self._pack) as part:
                part.write_bytes(before + gzip.compress("".join(lines).encode(), mtime=0))
        self._packed |= dict(zip(order, lines, strict=True))
        return len(self._packed)

    @property
    def _pack(self) -> Path:
        return self.path.with_name(f"{self.path.name}.jsonl.gz")

    @cached_property
    def _packed(self) -> dict[str, str]:
        """The lines of the pack, by the key of their unit; of two with one key, the later."""
        if not self._pack.exists():
            return {}
        try:
            with gzip.open(self._pack, "rt", encoding="utf-8") as lines:
                return {json.loads(line)["key"]: line for line in lines}
        except (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
            raise InputError(f"{self._pack} is damaged ({error}): restore or remove it") from error

    def _find_packed(self, key: str) -> Unit | None:
        return json.loads(self._packed[key])["document"] if key in self._packed else None


class Checkpoints(WorkFolder):
    """Units and checkpoints of the molecule in work, beside an output, if there is one.

    Parameters
    ----------
    output : path, optional
    """

    def __init__(self, output: Path | None = None) -> None:
        self._output = output

    def find(self, key: str) -> Unit | None:
        """Return the document of a finished unit; None without an output."""
        path = self.checkpoint(key)
        return _read(path) if path else None

    def keep(self, key: str, document: Mapping[str, Any]) -> None:
        """Store the document of a unit that has finished in the place of its own checkpoint."""
        if path := self.checkpoint(key):
            write_text(path, json.dumps(document, ensure_ascii=False) + "\n")

    def checkpoint(self, key: str) -> Path | None:
        """Return the file of a unit; None without an output."""
        output = self._output
        return output and output.with_name(f"{output.name}.{key[:KEY]}.checkpoint")

    def kept(self) -> list[Path]:
        """Return the checkpoints beside the output, whichever units they are of."""
        if self._output is None:
            return []
        pattern = f"{glob.escape(self._output.name)}.{'?' * KEY}.checkpoint"
        return list(self._output.parent.glob(pattern))

    def drop(self) -> None:
        """Delete them."""
        for path in self.kept():
            path.unlink()


def _read(path: Path) -> Unit | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return document if isinstance(document, dict) else None
