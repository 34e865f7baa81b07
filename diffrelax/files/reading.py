"""Reading molecules from SMILES, objects and files of many formats."""

from __future__ import annotations

import csv
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from io import BufferedReader
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias, TypeGuard

import ase
from rdkit import Chem, rdBase

from diffrelax.errors import InputError, message_of, reason_of
from diffrelax.files import CHARGED, FORMATS, check_charge, stem_of, suffix_of
from diffrelax.files.processes import ordered_map
from diffrelax.files.smiles import parse as parse_smiles
from diffrelax.files.smiles import title as smiles_title
from diffrelax.files.streams import check_text, read_lines
from diffrelax.files.values import ReadOptions
from diffrelax.molecule import Molecule
from diffrelax.molecule.annotations import text_of
from diffrelax.molecule.checks import LONGEST_SMILES
from diffrelax.molecule.embedding import check_seed

LONGEST_REPR = 200  # characters
LARGEST_RECORD = 20_000_000  # characters
WORKER_SECONDS = 120.0  # embedding has its own limit; this one covers everything else


@dataclass(frozen=True)
class Rejected:
    """An input that could not be read as a molecule.

    Parameters
    ----------
    name : str
    source : str
        The input text, or file and record number: ``path#3``.
    reason : str
        What is wrong, and what to do.
    again : bool
        Whether to try again, because a process died or took too long.
    """

    name: str
    source: str
    reason: str
    again: bool = False


@dataclass(frozen=True)
class Record:
    """A record of a file that is not parsed yet.

    Parameters
    ----------
    text : str
        Text of the record, a small file of the same format.
    suffix : str
        Suffix of the format, such as ``".sdf"``.
    default : str
        Name, if the record has none.
    source : str
        File and record number: ``path#3``.
    charge : int, optional
        Charge, if the record has none. Default: 0.
    """

    text: str
    suffix: str
    default: str
    source: str
    charge: int | None = None

    @property
    def name(self) -> str:
        """Name of the record, or its default."""
        try:
            check_text(self.text)
            return FORMATS[self.suffix].title(self.text) or self.default
        except Exception:  # `read` gives the reason
            return self.default

    @property
    def properties(self) -> dict[str, Any]:
        """Properties other than name and geometry; empty if the record is damaged."""
        try:
            return FORMATS[self.suffix].properties(self.text)
        except Exception:  # `read` gives the reason
            return {}

    def read(self, seed: int, max_atoms: int | None = None) -> Molecule | Rejected:
        """Read the molecule; `Rejected` if it is invalid."""
        try:
            check_text(self.text)
            options = ReadOptions(self.name, seed, max_atoms, self.charge)
            return FORMATS[self.suffix].parse(self.text, options)
        except Exception as error:  # one bad record must not affect the others
            return Rejected(name=self.name, source=self.source, reason=reason_of(error))


Input: TypeAlias = str | os.PathLike[str] | Record | Molecule | Rejected | ase.Atoms | Chem.Mol
SINGLE_INPUTS = (str, bytes, os.PathLike, Record, Molecule, Rejected, ase.Atoms, Chem.Mol)


def read_molecules(
    inputs: Input | Iterable[Input],
    *,
    seed: int = 42,
    workers: int = 1,
    max_atoms: int | None = None,
    charge: int | None = None,
) -> list[Molecule | Rejected]:
    """Read molecules from SMILES, objects or files.

    Files may be:

    - ``.smi``, ``.txt``: a SMILES or InChI and optionally a name on each line; lines that start
      with ``#`` and blank lines are skipped; unnamed molecules are named by their SMILES.
    - ``.csv``, ``.tsv``: a header and one row per molecule, separated by commas, semicolons or
      tabs. SMILES are in the column ``smiles`` or one that ends with it, isomeric before canonical;
      otherwise ``inchi`` is read. Names are in ``name``, ``title``, ``id``, or a column that ends
      with ``name`` or ``_id``; columns ``charge`` and ``multiplicity`` are used.
    - ``.sdf``, ``.mol``: V2000 or V3000. 2D records are embedded like a SMILES; 3D records without
      hydrogens get hydrogens and are relaxed with MMFF94. The properties ``charge`` and
      ``multiplicity`` are used.
    - ``.xyz``, ``.extxyz``: one or more frames. The keys ``charge``, ``multiplicity`` (or
      ``spin_multiplicity``), ``name`` and ``smiles`` of the comment line are used; the first two
      may also be written as ``charge: -1, multiplicity 2``. Two integers alone are charge and
      multiplicity; a single word is the name. If the number of atoms is wrong, the frame is
      rejected up to the next line that is only an integer.
    - ``.mol2``: molecules with bonds; ``.cdxml``: drawings, which are embedded.
    - ``.pdb``: one molecule per model. Bonds are perceived from elements, positions and formal
      charges.
    - ``.gjf``, ``.com`` (Gaussian), ``.inp`` (ORCA): the first geometry, in Cartesian
      coordinates, with its charge and multiplicity.

    All may be compressed, with ``.gz`` after the suffix. Unnamed records are named ``<file
    stem>-<i>``, counted from 1, or ``<file stem>`` if there is only one.

    Parameters
    ----------
    inputs : str, path, Molecule, ase.Atoms, rdkit.Chem.Mol, or an iterable of these
        A string with the suffix of a known format is a path; every other string is a SMILES or
        InChI, optionally followed by a name. All molecules of a file are read. `Rejected` inputs
        are kept.
    seed : int
        Random seed for embedding SMILES.
    workers : int
        Number of processes; results do not depend on it. A molecule that crashes a process, or
        takes two minutes, is `Rejected`. With more than one, a script must call this under ``if
        __name__ == "__main__"``.
    max_atoms : int, optional
        Reject larger molecules, hydrogens included, instead of embedding them.
    charge : int, optional
        Charge of geometries without one in ``.xyz``, ``.extxyz`` and ``.pdb`` files. Default: 0.

    Returns
    -------
    list of Molecule or Rejected
        In the order of the inputs. An invalid molecule is `Rejected` and does not affect others.

    Raises
    ------
    ValueError
        If the seed is not an integer from 0 to 2**31 - 9, or there is no worker.
    """
    records = each_record(inputs, charge)
    return list(each_molecule(records, seed=seed, workers=workers, max_atoms=max_atoms))


def each_molecule(
    inputs: Input | Iterable[Input],
    *,
    seed: int = 42,
    workers: int = 1,
    max_atoms: int | None = None,
) -> Iterator[Molecule | Rejected]:
    """Yield molecules one by one, see `read_molecules`; files are not held in memory."""
    check_seed(seed)
    read = partial(read_record, seed=seed, max_atoms=max_atoms)
    is_text = (str, Record, Rejected)  # objects are read here: RDKit does not pickle names
    texts = (one if isinstance(one, is_text) else read(one) for one in each_record(inputs))
    return ordered_map(read, texts, workers, _lost, WORKER_SECONDS)


def _lost(given: Input, reason: str) -> Molecule | Rejected:
    if isinstance(given, str):
        return Rejected(smiles_title(given), given, f"{reason}: check it", again=True)
    if isinstance(given, Record):
        return Rejected(given.name, given.source, f"{reason}: check it", again=True)
    return read_object(given)


def each_record(inputs: Input | Iterable[Input], charge: int | None = None) -> Iterator[Input]:
    """Yield inputs, with records in place of paths; nothing is parsed yet.

    `charge` is for records without one.
    """
    if isinstance(inputs, SINGLE_INPUTS) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    for given in inputs:
        if is_path(given):
            for record in _records_of(Path(given)):
                yield record if charge is None else _charged(record, charge)
        else:
            yield given


def read_record(
    given: Input, *, seed: int = 42, max_atoms: int | None = None
) -> Molecule | Rejected:
    """Read an input that `each_record` yields."""
    if isinstance(given, Record):
        return given.read(seed, max_atoms)
    if isinstance(given, str):
        return read_smiles(given, seed=seed, max_atoms=max_atoms)
    return read_object(given, seed=seed, max_atoms=max_atoms)


def is_path(given: object) -> TypeGuard[str | os.PathLike[str]]:
    """Return whether an input is a path; a string is one if it has the suffix of a format."""
    if isinstance(given, str):
        return suffix_of(given) in FORMATS
    return isinstance(given, os.PathLike)


def read_one(given: Input, *, seed: int = 42, charge: int | None = None) -> Molecule:
    """Read an input that must be a single molecule, see `read_molecules`.

    Raises
    ------
    ValueError
        If it is not, or a charge is given and the input is not a file that may lack one.
    """
    check_charge(charge, [given])
    found = read_molecules(given, seed=seed, charge=charge)
    if len(found) != 1:
        raise InputError(f"{given} has {len(found)} molecules: give one")
    if isinstance(found[0], Rejected):
        raise InputError(f"{found[0].name}: {found[0].reason}")
    return found[0]


def records_in(file: BufferedReader, source: str, suffix: str) -> Iterator[Record | Rejected]:
    """Cut an open file into its records.

    Parameters
    ----------
    file : binary file
    source : str
        Name in messages.
    suffix : str
        Suffix of the format.

    Yields
    ------
    Record
    Rejected
        If the file is damaged or empty.
    """
    stem, n = stem_of(Path(source)), 0
    last: Record | None = None
    size = 0
    damage: Exception | None = None

    def lines() -> Iterator[str]:
        nonlocal size, damage
        try:
            for line in read_lines(file):
                size += len(line)
                if size > LARGEST_RECORD:
                    raise InputError(f"it has a record of more than {LARGEST_RECORD:,} characters")
                yield line
        except (OSError, EOFError, zlib.error) as error:  # treated as the end of the file
            damage = error

    try:
        for n, text in enumerate(FORMATS[suffix].cut(lines()), start=1):
            size = 0
            if last:
                yield last
            last = Record(text, suffix, f"{stem}-{n}", f"{source}#{n}")
    except (ValueError, csv.Error) as error:
        damage = error
    if last:
        yield last if n > 1 or damage else replace(last, default=stem)
    if damage:
        beyond = f" beyond record {n}" if n else ""
        reason = f"{source} cannot be read{beyond}: {message_of(damage)}"
        yield Rejected(name=Path(source).name, source=source, reason=reason)
    elif not last:
        reason = f"{source} is empty"
        yield Rejected(name=Path(source).name, source=source, reason=reason)


def _records_of(path: Path) -> Iterator[Record | Rejected]:
    try:
        check_file(path)
        file = path.open("rb")
    except (OSError, ValueError) as error:
        yield Rejected(name=path.name, source=str(path), reason=message_of(error))
        return
    with file:
        yield from records_in(file, str(path), suffix_of(path))


def _charged(record: Record | Rejected, charge: int) -> Record | Rejected:
    if isinstance(record, Rejected) or record.suffix not in CHARGED:
        return record
    return replace(record, charge=charge)


def check_file(path: Path) -> None:
    """Check that a path is a file of molecules.

    Raises
    ------
    ValueError, OSError
        If it does not exist, is a folder, or has an unknown suffix.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the files inside")
    try:
        path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {path}; check the path") from None
    except OSError as error:  # such as a loop of links
        raise InputError(message_of(error)) from None
    if suffix_of(path) not in FORMATS:
        raise InputError(f"{path} has an unknown suffix: use {', '.join(FORMATS)}")


def read_smiles(text: str, *, seed: int = 42, max_atoms: int | None = None) -> Molecule | Rejected:
    """Read a SMILES, optionally followed by a name; `Rejected` if it is invalid."""
    name = smiles_title(text)
    if "\n" in text.strip():
        reason = "it has several lines: give a list of SMILES or the path of a .smi file"
        return Rejected(name=text.split(maxsplit=1)[0], source=text, reason=reason)
    try:
        return parse_smiles(text, ReadOptions(name, seed, max_atoms))
    except Exception as error:
        reason = reason_of(error)
    if len(text) > LONGEST_SMILES:
        return Rejected(name=name, source=text[:LONGEST_REPR], reason=reason)
    if os.path.exists(text) or re.search(r"^[~.]*/|\.[a-z]\w{1,6}$", text):
        with rdBase.BlockLogs():
            is_smiles = Chem.MolFromSmiles(text) is not None
        try:
            if not is_smiles:
                check_file(Path(text))
        except (OSError, ValueError) as error:
            reason = message_of(error) if os.path.exists(text) else f"{reason}; {error}"
    return Rejected(name=name, source=text, reason=reason)


def read_object(
    given: object, *, seed: int = 42, max_atoms: int | None = None
) -> Molecule | Rejected:
    """Read a Molecule, ase.Atoms or RDKit Mol; `Rejected` for anything else."""
    name = source = shorten(repr(given), LONGEST_REPR, placeholder=" …")
    try:
        if isinstance(given, (Molecule, Rejected)):
            return given
        if isinstance(given, ase.Atoms):
            name = text_of(given.info.get("name")) or source
            return Molecule.from_atoms(given)
        if isinstance(given, Chem.Mol):
            source = f"RDKit Mol {Chem.MolToSmiles(given)}"
            name = (given.GetProp("_Name").strip() if given.HasProp("_Name") else "") or source
            return Molecule.from_rdkit(given, seed=seed, max_atoms=max_atoms)
        if isinstance(getattr(given, "molecule", None), Molecule):
            raise InputError(f"a {type(given).__name__} is not a molecule: give its .molecule")
        raise InputError(
            f"{source} is not a molecule: give a SMILES, a path, a Molecule, ase.Atoms or an "
            "RDKit Mol"
        )
    except Exception as error:
        return Rejected(name=name, source=source, reason=reason_of(error))
