"""Formats of files of molecules, a module each.

Reading cuts a stream of lines into records, each of which is a small file of the same format, and
parses a record on its own. Writing turns one molecule into the text of one record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from diffrelax.errors import InputError
from diffrelax.files import cdxml, jsons, mol2, pdb, sdf, smiles, tables, xyz
from diffrelax.files.programs import GAUSSIAN, ORCA
from diffrelax.molecule import Molecule

Info = Mapping[str, Any]


class Format(Protocol):
    """How a file becomes molecules: a module, or an object, with these functions."""

    def cut(self, lines: Iterable[str], /) -> Iterator[str]:
        """Yield the records of lines, each with its line feed."""

    def title(self, record: str, /) -> str:
        """Return the name in a record; empty if there is none."""

    def properties(self, record: str, /) -> dict[str, Any]:
        """Return what else a record says of the molecule."""

    def parse(
        self, record: str, name: str, seed: int, max_atoms: int | None, charge: int | None, /
    ) -> Molecule:
        """Read a record, with the seed of an embedding, and the most atoms to embed.

        The charge is that of a geometry which tells none.
        """


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


FORMATS: dict[str, Format] = {
    ".smi": smiles, ".txt": smiles, ".csv": tables, ".tsv": tables, ".sdf": sdf, ".mol": sdf,
    ".mol2": mol2, ".cdxml": cdxml, ".xyz": xyz, ".extxyz": xyz, ".pdb": pdb, ".gjf": GAUSSIAN,
    ".com": GAUSSIAN, ".inp": ORCA,
}  # fmt: skip
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
            f"the charge {charge} is for {', '.join(CHARGED)}, whose geometries may tell none: "
            "write that of others into their SMILES or bonds"
        )


def suffix_of(path: str | PathLike[str]) -> str:
    """Return the suffix that tells the format of a file, in lower case, without a last ``.gz``."""
    return Path(Path(path).name.lower().removesuffix(".gz")).suffix


def stem_of(path: Path) -> str:
    """Return the name of a file without the suffix of its format and a last ``.gz``."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem
