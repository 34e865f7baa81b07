"""SDF and MOL: V2000 or V3000, with properties."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from io import StringIO
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions, identity, one_line, plain_number, plain_values
from diffrelax.molecule import Molecule
from diffrelax.molecule.annotations import check_label
from diffrelax.molecule.inchi import lost_stereo

END = "$$$$"
COUNTS = re.compile(r"[ \d]{6}.*\bV[23]000\s*$")
PROPERTY = re.compile(r"^>[^\n<]*<([^\n>]+)>[^\n]*\n(.*?)(?=^\s*$|\Z)", re.MULTILINE | re.DOTALL)


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield the records between lines that start with ``$$$$``.

    A truncated record ends three lines before the counts line of the next.
    """
    record: list[str] = []
    for line in lines:
        if line.startswith(END):
            yield "".join(record)
            record = []
            continue
        is_within = len(record) > 3 and not record[-4].startswith(">")  # not in a property
        if is_within and COUNTS.match(line):
            if (cut_short := "".join(record[:-3])).strip():
                yield cut_short
            record = record[-3:]
        record.append(line)
    if any(not line.isspace() for line in record):
        yield "".join(record)


def title(record: str) -> str:
    """Return the first line."""
    return record.partition("\n")[0].strip()


def properties(record: str) -> dict[str, Any]:
    """Return the data items; numbers are converted."""
    _, _, data = record.partition("M  END")
    return {key: plain_number(value.strip()) for key, value in PROPERTY.findall(data)}


def parse(record: str, options: ReadOptions) -> Molecule:
    """Read a record; embed drawings and geometries without hydrogens."""
    with rdBase.BlockLogs():
        supplier = Chem.SDMolSupplier()
        supplier.SetData(record, removeHs=False)
        mol = supplier[0] if len(supplier) else None
        if mol is None:
            raw = Chem.MolFromMolBlock(record, sanitize=False, removeHs=False)
            problems = Chem.DetectChemistryProblems(raw) if raw is not None else ()
            reason = "; ".join(p.Message() for p in problems) or "it is truncated or damaged"
            raise InputError(f"RDKit cannot read this record: {reason}")
    given = {key: value for key, value in mol.GetPropsAsDict().items() if value != ""}
    molecule = Molecule.from_rdkit(
        mol,
        name=options.name,
        seed=options.seed,
        charge=given.get("charge"),
        multiplicity=given.get("multiplicity"),
        max_atoms=options.max_atoms,
    )
    if molecule.is_embedded:
        _check_stereo(record, mol)
    _check_label(mol, molecule)
    return molecule


def _check_label(mol: Chem.Mol, molecule: Molecule) -> None:
    """Raise ValueError if the property SMILES has the same formula but is another molecule.

    A SMILES of another formula may be the parent of a protonated or desalted molecule.
    """
    given = mol.GetPropsAsDict(autoConvertStrings=False)
    label = next((value for key, value in given.items() if key.lower() == "smiles"), "")
    with rdBase.BlockLogs():
        asked = Chem.MolFromSmiles(label)
    same_formula = asked and CalcMolFormula(asked) == CalcMolFormula(mol)
    if same_formula and not molecule.left_open:
        check_label(label, molecule)


def _check_stereo(record: str, mol: Chem.Mol) -> None:
    """Raise ValueError if RDKit lost a configuration of the record.

    RDKit ignores those of allenes, some spiro atoms and some double bonds at rings.
    """
    read = Chem.Mol(mol)
    read.RemoveAllConformers()  # from which InChI would recover the configuration
    with rdBase.BlockLogs():
        lost = lost_stereo(Chem.MolBlockToInchi(record), Chem.MolToInchi(read))
    if lost:
        raise InputError(
            f"the stereochemistry {lost} of its InChI cannot be embedded: give coordinates"
        )


def text(molecule: Molecule, info: Mapping[str, Any], number: int) -> str:
    """Return a record with its properties; positions are rounded to 0.0001 Å."""
    mol = replace(molecule, name=_line(molecule.name)).to_rdkit()
    for atom, mass_number in zip(mol.GetAtoms(), molecule.isotopes, strict=False):
        atom.SetIsotope(mass_number)
    for key, value in {**identity(molecule), **info}.items():
        if (plain := plain_values(value)) is not None and plain != "":
            written = plain if isinstance(plain, str) else json.dumps(plain)
            lines = filter(None, map(_line, written.splitlines()))
            name = re.sub("[<>]", "", one_line(str(key))).lstrip("_")  # _Name is the title
            mol.SetProp(name or "property", "\n".join(lines))
    file = StringIO()
    with rdBase.BlockLogs(), Chem.SDWriter(file) as writer:
        writer.write(mol)
    return file.getvalue()


def _line(text: str) -> str:
    line = one_line(text)
    return f" {line}" if line.startswith((END, ">")) else line
