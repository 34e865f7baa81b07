"""File formats of molecules, one module each.

Reading cuts the lines of a file into records, which are small files of the same format, and parses
each record separately. Writing turns each molecule into the text of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from diffrelax.errors import InputError
from diffrelax.files import cdxml, jsons, mol2, pdb, programs, sdf, smiles, tables, xyz
from diffrelax.files.values import ReadOptions
from diffrelax.molecule import Molecule

Info = Mapping[str, Any]


class Format(NamedTuple):
    """How to read a file format.

    Parameters
    ----------
    cut : callable
        Yields records from lines with line feeds.
    parse : callable
        Returns the molecule of a record.
    title : callable
        Returns the name in a record; empty if there is none.
    properties : callable
        Returns the properties in a record.
    """

    cut: Callable[[Iterable[str]], Iterator[str]]
    parse: Callable[[str, ReadOptions], Molecule]
    title: Callable[[str], str] = lambda record: ""
    properties: Callable[[str], dict[str, Any]] = lambda record: {}


class Writer(NamedTuple):
    """How to write a file format.

    Parameters
    ----------
    text : callable
        Returns a record, given a molecule, its properties and its number in the file, from 1.
    begin, between, end : str
        Text before, between and after the records.
    """

    text: Callable[[Any, Info, int], str]
    begin: str = ""
    between: str = ""
    end: str = ""


_SMILES = Format(smiles.cut, smiles.parse, smiles.title)
_TABLE = Format(tables.cut, tables.parse, tables.title, tables.properties)
_SDF = Format(sdf.cut, sdf.parse, sdf.title, sdf.properties)
_XYZ = Format(xyz.cut, xyz.parse, xyz.title, xyz.properties)
_GAUSSIAN = Format(programs.cut, programs.parse_gaussian)
FORMATS = {
    ".smi": _SMILES,
    ".txt": _SMILES,
    ".csv": _TABLE,
    ".tsv": _TABLE,
    ".sdf": _SDF,
    ".mol": _SDF,
    ".mol2": Format(mol2.cut, mol2.parse, mol2.title),
    ".cdxml": _SDF._replace(cut=cdxml.cut),
    ".xyz": _XYZ,
    ".extxyz": _XYZ,
    ".pdb": Format(pdb.cut, pdb.parse, pdb.title, pdb.properties),
    ".gjf": _GAUSSIAN,
    ".com": _GAUSSIAN,
    ".inp": Format(programs.cut, programs.parse_orca),
}
CHARGED = (".xyz", ".extxyz", ".pdb")  # formats that may lack a charge
_FRAMES = Writer(xyz.text)
WRITERS = {
    ".extxyz": _FRAMES,
    ".xyz": _FRAMES,
    ".sdf": Writer(sdf.text),
    ".pdb": Writer(pdb.text, end="END\n"),
    ".json": Writer(jsons.text, begin="[\n", between=",\n", end="\n]\n"),
    ".jsonl": Writer(jsons.line),
}


def check_charge(charge: int | None, inputs: Iterable[object]) -> None:
    """Check that a charge, if given, is needed: at least one input is a file that may lack it.

    Raises
    ------
    ValueError
        If it is not needed.
    """
    paths = (one for one in inputs if isinstance(one, (str, PathLike)))
    if charge is not None and not any(suffix_of(path) in CHARGED for path in paths):
        raise InputError(
            f"the charge {charge} is for {', '.join(CHARGED)}, whose geometries may have "
            "none: in other files the SMILES or the bonds determine it"
        )


def suffix_of(path: str | PathLike[str]) -> str:
    """Return the suffix of a file in lower case, without a final ``.gz``."""
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def stem_of(path: Path) -> str:
    """Return the name of a file without its suffix and a final ``.gz``."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem
