"""Lines of a SMILES or InChI, each optionally followed by a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions
from diffrelax.molecule import Molecule
from diffrelax.molecule.inchi import read_inchi

HEADER = re.compile(r"(?i)(canonical_|isomeric_)?smiles\b")
LONGEST_NAME = 1000  # characters of a SMILES in the place of a name
OF_SDF = re.compile(r"\bV[23]000\s*$")


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that are neither blank nor comments, nor a header such as RDKit's.

    Raises
    ------
    ValueError
        If they are those of another format.
    """
    rest = (line for line in map(_checked, lines) if line and line[0] != "#")
    first = next(rest, "")
    if first.isdecimal():
        raise InputError("it looks like an .xyz file, not lines of SMILES")
    if first and not HEADER.match(first):
        yield first
    yield from rest


def _checked(line: str) -> str:
    if OF_SDF.search(line):
        raise InputError("it looks like an .sdf file, not lines of SMILES")
    return line.strip()


def cut_smiles(record: str) -> tuple[str, str]:
    """Part a SMILES, with the extension of ChemAxon that may follow, from the name behind it."""
    found = re.fullmatch(r"(\S*(?:\s+\|[^|]*\|)?)(.*)", record.strip(), flags=re.DOTALL)
    assert found
    return found[1], found[2].strip()


def title(record: str) -> str:
    """Return the name behind a SMILES, or the SMILES itself if there is none."""
    smiles, name = cut_smiles(record)
    return name or smiles[:LONGEST_NAME]


def parse(record: str, options: ReadOptions) -> Molecule:
    """Embed a SMILES or an InChI."""
    return embed_text(cut_smiles(record)[0], options)


def embed_text(text: str, options: ReadOptions, multiplicity: int | None = None) -> Molecule:
    """Embed a SMILES or an InChI that stands alone."""
    name, seed, max_atoms, _ = options
    given: Any = {"seed": seed, "max_atoms": max_atoms, "multiplicity": multiplicity}
    if not text.startswith("InChI="):
        return Molecule.from_smiles(text, name=name, **given)
    return Molecule.from_rdkit(read_inchi(text), name=name or text, **given)
