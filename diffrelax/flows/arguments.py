"""Arguments of jobs: molecules as plain JSON that all stores and workers can read.

An argument is a SMILES, optionally followed by a name, or a document as plain JSON: a molecule, the
result of an earlier stage, or a failure that passes through all later stages.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
from ase.io.jsonio import decode
from jobflow import OutputReference
from pydantic import ValidationError
from rdkit import Chem, rdBase

from diffrelax.entries import explain_invalid
from diffrelax.errors import InputError
from diffrelax.files import FORMATS, smiles, tables
from diffrelax.files.reading import (
    SINGLE_INPUTS,
    Record,
    Rejected,
    each_record,
    is_path,
    read_object,
    read_record,
    read_smiles,
    smiles_title,
)
from diffrelax.files.smiles import cut_smiles
from diffrelax.files.streams import check_text
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import LONGEST_SMILES
from diffrelax.results.documents import FailureDocument
from diffrelax.results.molecules import MoleculeDocument
from diffrelax.results.stored import read_document
from diffrelax.store import work_key

LONGEST_SOURCE, LONGEST_NAME = 200, 100  # characters

Plain: TypeAlias = str | dict[str, Any]
Argument: TypeAlias = Plain | OutputReference


@runtime_checkable
class PymatgenMolecule(Protocol):
    """The part of ``pymatgen.core.Molecule`` that is used, so that pymatgen is not required."""

    atomic_numbers: tuple[int, ...]
    cart_coords: np.ndarray
    charge: float
    spin_multiplicity: int


def as_arguments(inputs: Any, *, seed: int = 42, charge: int | None = None) -> list[Argument]:
    """Turn inputs into arguments of jobs; SMILES are not embedded yet.

    Parameters
    ----------
    inputs : SMILES, path, Molecule, ase.Atoms, rdkit.Chem.Mol, pymatgen Molecule, \
OutputReference, or an iterable of these
        All molecules of a file are used. A mapping is a document.
    seed : int
        Random seed for embedding inputs other than SMILES, such as 2D drawings.
    charge : int, optional
        Charge of geometries without one in files.

    Returns
    -------
    list of str, dict or OutputReference
        In the order of the inputs. Invalid molecules become failure documents.
    """
    one = (*SINGLE_INPUTS, Mapping, OutputReference, PymatgenMolecule)
    if isinstance(inputs, one) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    arguments: list[Argument] = []
    for given in inputs:
        if is_path(given):
            arguments += _from_file(Path(given), seed, charge)
        else:
            arguments.append(as_argument(given, seed=seed))
    return arguments


def as_argument(given: Any, *, seed: int = 42) -> Argument:
    """Turn one molecule into the argument of a job; a file must have a single molecule.

    Raises
    ------
    ValueError
        If a file has none or several.
    """
    if isinstance(given, OutputReference):
        return given
    if not is_path(given):
        return as_plain(given, seed=seed)
    found = list(_from_file(Path(given), seed))
    if len(found) != 1:
        raise InputError(f"{given} holds {len(found)} molecules: use make_batch for all of them")
    return found[0]


def as_plain(given: Any, *, seed: int = 42) -> Plain:
    """Turn one molecule, such as the output of a job of other software, into plain JSON."""
    if isinstance(given, str):
        return given.strip()
    if isinstance(given, Mapping):
        if given.get("@class") != "MSONAtoms":
            return dict(given)
        atoms = decode(given["atoms_json"])  # which jobflow leaves alone without pymatgen
        atoms.info = dict(given["atoms_info"])
        given = atoms
    if isinstance(given, PymatgenMolecule):
        try:
            given = Molecule(
                np.array(given.atomic_numbers),
                given.cart_coords,
                charge=cast(int, given.charge),
                multiplicity=given.spin_multiplicity,
            ).to_atoms()
        except ValueError as error:
            return _written(Rejected("pymatgen Molecule", str(given), str(error)))
    return _written(read_object(given, seed=seed))


def read_argument(argument: str | Mapping[str, Any], *, seed: int = 42) -> Molecule | Rejected:
    """Return the molecule of a job argument; a SMILES is embedded.

    Parameters
    ----------
    argument : str or mapping
        See the module. The output of a result is used.
    seed : int
        Random seed for embedding a SMILES.

    Returns
    -------
    Molecule or Rejected
        `Rejected` if it is not a molecule or document, or an earlier stage failed.
    """
    if isinstance(argument, str):
        return read_smiles(argument, seed=seed)
    try:
        return _read_mapping(argument)
    except ValueError as error:
        source = str(dict(argument))[:LONGEST_SOURCE]
        return Rejected(str(argument.get("name", "a mapping")), source, str(error))


def _read_mapping(argument: Mapping[str, Any]) -> Molecule | Rejected:
    if "schema_version" not in argument:
        return _read_molecule(argument)
    document = read_document(argument)
    if document.geometry:
        return document.geometry.to_molecule()
    return Rejected(document.name, getattr(document, "source", ""), document.reason)


def label(argument: Argument) -> str:
    """Return the name of the molecule of an argument; empty if not known yet."""
    if isinstance(argument, OutputReference):
        return ""
    return smiles_title(argument) if isinstance(argument, str) else argument.get("name", "")


def job_name(*parts: object) -> str:
    """Return a job name that is safe in scripts of schedulers."""
    name = " ".join(str(part) for part in parts if part != "")
    return re.sub(r"[^\w .,+=–-]+", "_", name)[:LONGEST_NAME]


def atomic_numbers(argument: Argument) -> list[int]:
    """Return the atomic numbers of the molecule of an argument; empty if not known yet."""
    if isinstance(argument, OutputReference):
        return []
    if isinstance(argument, Mapping):
        read = read_argument(argument)
        return [] if isinstance(read, Rejected) else read.numbers.tolist()
    text = cut_smiles(argument)[0]
    if len(text) > LONGEST_SMILES:
        return []
    with rdBase.BlockLogs():
        is_inchi = text.startswith("InChI=")
        mol = Chem.MolFromInchi(text) if is_inchi else Chem.MolFromSmiles(text)
    return [atom.GetAtomicNum() for atom in Chem.AddHs(mol).GetAtoms()] if mol else []


def failure(rejected: Rejected, *, stage: str = "read", key: str = "") -> dict[str, Any]:
    """Return the failure document of an invalid input."""
    document = FailureDocument.here(
        rejected.name, rejected.reason, stage=stage, source=rejected.source, key=key
    )
    return document.model_dump(mode="json")


def _from_file(path: Path, seed: int, charge: int | None = None) -> Iterator[Argument]:
    for record in each_record(path, charge):
        line = _line(record) if isinstance(record, Record) else ""
        yield line or _written(read_record(record, seed=seed))


def _line(record: Record) -> str:
    """Return a record as a SMILES or InChI with its name; empty if it has more, or is damaged."""
    parse = FORMATS[record.suffix].parse
    if parse not in (smiles.parse, tables.parse):
        return ""
    try:
        check_text(record.text)
        if parse is smiles.parse:
            return record.text
        structure, name = tables.structure(record.text), tables.title(record.text)
        if tables.state(record.text):
            return ""
    except (ValueError, csv.Error):  # read again, it says why
        return ""
    line = f"{structure} {name}"
    return line if "\n" not in line and cut_smiles(line) == (structure, name) else ""


def _written(read: Molecule | Rejected) -> dict[str, Any]:
    if isinstance(read, Rejected):
        return failure(read, key=work_key("read", f"{read.source}: {read.reason}", {}))
    return MoleculeDocument.from_molecule(read).model_dump(mode="json")


def _read_molecule(record: Mapping[str, Any]) -> Molecule:
    try:
        plain = {key: value for key, value in record.items() if not key.startswith("@")}
        return MoleculeDocument.model_validate(plain).to_molecule()
    except ValidationError as error:
        name = record.get("name", "a document")
        raise InputError(f"{name} is not a molecule: {explain_invalid(error)}") from error
