"""PDB: small molecules, one per model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ase
import numpy as np
from rdkit import Chem, rdBase

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions, identity, one_line, plain_number, plain_values
from diffrelax.molecule import Molecule
from diffrelax.molecule.annotations import charge_of

ATOMS = ("ATOM  ", "HETATM")
TITLE = re.compile(r"^(?:COMPND|TITLE ) {4}(.*)$", re.MULTILINE)
REMARK = re.compile(r"^REMARK   6 ([^:\n]+): (.*)$", re.MULTILINE)  # 6 to 99 are free text


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield a record for each model; lines without atoms belong to the next one."""
    record: list[str] = []
    atoms = found = False
    for line in lines:
        atoms = atoms or line.startswith(ATOMS)
        ends = line.startswith("ENDMDL") or line.rstrip() == "END"
        if atoms or not ends:  # some programs end a model twice
            record.append(line)
        if atoms and ends:
            yield "".join(record)
            record, atoms, found = [], False, True
    if atoms:
        yield "".join(record)
    elif not found and any(not line.isspace() for line in record):
        raise InputError("it has no ATOM or HETATM line")


def title(record: str) -> str:
    """Return the name of the compound, or the title."""
    found = TITLE.search(record)
    return found[1].strip() if found else ""


def properties(record: str) -> dict[str, Any]:
    """Return the properties in remarks of files written by diffrelax."""
    return {key: plain_number(value.strip()) for key, value in REMARK.findall(record)}


def parse(record: str, options: ReadOptions) -> Molecule:
    """Read elements, positions and formal charges, and perceive the bonds.

    The format has no bond orders, and connections are often left out.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromPDBBlock(record, sanitize=False, removeHs=False, proximityBonding=False)
    if mol is None or mol.GetNumAtoms() == 0:
        raise InputError("RDKit cannot read this record: it is damaged")
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    atoms = ase.Atoms(numbers, mol.GetConformer().GetPositions())
    known = properties(record)
    atoms.info = {key: known[key] for key in ("smiles", "charge", "multiplicity") if key in known}
    charges = np.array([atom.GetFormalCharge() for atom in mol.GetAtoms()])
    if charges.any():
        atoms.set_initial_charges(charges)
    is_known = charge_of(atoms) is not None
    return Molecule.from_atoms(
        atoms, name=options.name, charge=None if is_known else options.charge
    )


def text(molecule: Molecule, info: Mapping[str, Any], number: int) -> str:
    """Return a model; positions are rounded to 0.001 Å."""
    mol = replace(molecule, name="").to_rdkit()
    with rdBase.BlockLogs():
        block = Chem.MolToPDBBlock(mol)
    atoms = "".join(line for line in block.splitlines(keepends=True) if line != "END\n")
    values = plain_values({**identity(molecule), **info})
    remarks = "".join(
        f"REMARK   6 {one_line(str(key)).replace(':', ' ')}: {one_line(str(value))}\n"
        for key, value in values.items()
        if value is not None and value != ""
    )
    return f"MODEL     {number:4d}\nCOMPND    {one_line(molecule.name)}\n{remarks}{atoms}ENDMDL\n"
