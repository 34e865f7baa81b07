"""Tripos MOL2, read with RDKit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rdkit import Chem, rdBase

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions
from diffrelax.molecule import Molecule

MOLECULE = "@<TRIPOS>MOLECULE"


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield the records of molecules."""
    record: list[str] = []
    for line in lines:
        if line.startswith(MOLECULE) and record:
            yield "".join(record)
            record = []
        if record or line.startswith(MOLECULE):
            record.append(line)
    if record:
        yield "".join(record)


def title(record: str) -> str:
    """Return the name in a record."""
    name = record.partition("\n")[2].partition("\n")[0].strip()
    return "" if name == "*****" else name


def parse(record: str, options: ReadOptions) -> Molecule:
    """Read a record; formal charges follow from bonds and atom types."""
    with rdBase.BlockLogs():
        mol = Chem.MolFromMol2Block(record, removeHs=False)
    if mol is None:
        raise InputError(
            "RDKit cannot read this record: it is damaged, or its atom types are not Tripos types"
        )
    return Molecule.from_rdkit(
        mol, name=options.name, seed=options.seed, max_atoms=options.max_atoms
    )
