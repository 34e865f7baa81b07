"""Formats of files of molecules, a module each.

Reading cuts a stream of lines into records, each of which is a small file of the same format, and
parses a record on its own. Writing turns one molecule into the text of one record.
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
    """How a file becomes molecules.

    Parameters
    ----------
    cut : callable
        Yields the records of lines, each with its line feed.
    parse : callable
        Reads a record.
    title : callable
        Returns the name in a record; empty if there is none.
    properties : callable
        Returns what else a record says of the molecule.
    """

    cut: Callable[[Iterable[str]], Iterator[str]]
    parse: Callable[[str, ReadOptions], Molecule]
    title: Callable[[str], str] = lambda record: ""
    properties: Callable[[str], dict[str, Any]] = lambda record: {}


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
CHARGED = (".xyz", ".extxyz", ".pdb")  # what may tell no charge
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
    """Find out whether a charge that inputs are given is one that some of them can take.

    Raises
    ------
    ValueError
        If it is not.
    """
    paths = (one for one in inputs if isinstance(one, (str, PathLike)))
    if charge is not None and not any(suffix_of(path) in CHARGED for path in paths):
        raise InputError(
            f"the charge {charge} is for {', '.join(CHARGED)}, whose geometries may have "
            "none: in other files the SMILES or the bonds determine it"
        )


def suffix_of(path: str | PathLike[str]) -> str:
    """Return the suffix that tells the format of a file, in lower case, without a last ``.gz``."""
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def stem_of(path: Path) -> str:
    """Return the name of a file without the suffix of its format and a last ``.gz``."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem
