"""Formats of files of molecules, a module each.

Reading cuts a stream of lines into records, each of which is a small file of the same format, and
parses a record on its own. Writing turns one molecule into the text of one record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from diffrelax.files import jsons, pdb, sdf, smiles, tables, xyz
from diffrelax.molecule import Molecule

Info = Mapping[str, Any]


class Format(NamedTuple):
    """How a file becomes molecules.

    Parameters
    ----------
    cut : callable
        Lines, each with its line feed, to records.
    title : callable
        A record to the name in it; empty if there is none.
    properties : callable
        A record to what else it says of the molecule.
    parse : callable
        A record, its name, the seed of an embedding and the most atoms to embed to the molecule.
    """

    cut: Callable[[Iterable[str]], Iterator[str]]
    title: Callable[[str], str]
    properties: Callable[[str], dict[str, Any]]
    parse: Callable[[str, str, int, int | None], Molecule]


class Writer(NamedTuple):
    """How molecules become a file.

    Parameters
    ----------
    text : callable
        A molecule, what else is known of it, and its number in the file, from 1, to a record.
    begin, between, end : str
        What stands before, between and behind the records.
    """

    text: Callable[[Any, Info, int], str]
    begin: str = ""
    between: str = ""
    end: str = ""


_SMILES = Format(smiles.cut, smiles.title, smiles.properties, smiles.parse)
_TABLE = Format(tables.cut, tables.title, tables.properties, tables.parse)
_SDF = Format(sdf.cut, sdf.title, sdf.properties, sdf.parse)
_XYZ = Format(xyz.cut, xyz.title, xyz.properties, xyz.parse)
_PDB = Format(pdb.cut, pdb.title, pdb.properties, pdb.parse)
FORMATS = {
    ".smi": _SMILES, ".txt": _SMILES, ".csv": _TABLE, ".tsv": _TABLE, ".sdf": _SDF, ".mol": _SDF,
    ".xyz": _XYZ, ".extxyz": _XYZ, ".pdb": _PDB,
}  # fmt: skip
_FRAMES = Writer(xyz.text)
WRITERS = {
    ".extxyz": _FRAMES,
    ".xyz": _FRAMES,
    ".sdf": Writer(sdf.text),
    ".pdb": Writer(pdb.text, end="END\n"),
    ".json": Writer(jsons.text, begin="[\n", between=",\n", end="\n]\n"),
    ".jsonl": Writer(jsons.line),
}


def suffix_of(path: str | PathLike[str]) -> str:
    """Return the suffix that tells the format of a file, in lower case, without a last ``.gz``."""
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def stem_of(path: Path) -> str:
    """Return the name of a file without the suffix of its format and a last ``.gz``."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem
