"""Lines of SMILES or InChI, each optionally followed by a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions
from diffrelax.molecule import Molecule
from diffrelax.molecule.inchi import read_inchi

HEADER = re.compile(r"(?i)(canonical_|isomeric_)?smiles\b")
LONGEST_NAME = 1000  # characters of a SMILES used as a name
SDF_LINE = re.compile(r"\bV[23]000\s*$")


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines except blank lines, comments and a header.

    Raises
    ------
    ValueError
        If the file has another format.
    """
    rest = (line for line in map(_checked, lines) if line and line[0] != "#")
    first = next(rest, "")
    if first.isdecimal():
        raise InputError("it looks like an .xyz file, not lines of SMILES")
    if first and not HEADER.match(first):
        yield first
    yield from rest


def _checked(line: str) -> str:
    if SDF_LINE.search(line):
        raise InputError("it looks like an .sdf file, not lines of SMILES")
    return line.strip()


def cut_smiles(record: str) -> tuple[str, str]:
    """Split a SMILES, with a ChemAxon extension if any, from the name after it."""
    found = re.fullmatch(r"(\S*(?:\s+\|[^|]*\|)?)(.*)", record.strip(), flags=re.DOTALL)
    assert found
    return found[1], found[2].strip()


def title(record: str) -> str:
    """Return the name after a SMILES, or the SMILES if there is none."""
    smiles, name = cut_smiles(record)
    return name or smiles[:LONGEST_NAME]


def parse(record: str, options: ReadOptions) -> Molecule:
    """Embed a SMILES or an InChI."""
    return embed_text(cut_smiles(record)[0], options)


def embed_text(text: str, options: ReadOptions, multiplicity: int | None = None) -> Molecule:
    """Embed a SMILES or an InChI without a name."""
    name, seed, max_atoms, _ = options
    given: Any = {"seed": seed, "max_atoms": max_atoms, "multiplicity": multiplicity}
    if not text.startswith("InChI="):
        return Molecule.from_smiles(text, name=name, **given)
    return Molecule.from_rdkit(read_inchi(text), name=name or text, **given)
