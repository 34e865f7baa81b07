"""Inputs of Gaussian and ORCA: one Cartesian geometry with charge and multiplicity."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from io import StringIO

import ase
from ase.io.gaussian import read_gaussian_in
from ase.io.orca import read_geom_orcainp

from diffrelax.errors import InputError
from diffrelax.files.values import ReadOptions
from diffrelax.molecule import Molecule
from diffrelax.molecule.checks import check_free

# charge and multiplicity before the geometry
GAUSSIAN_STATE = re.compile(r"^ *(-?\d+)[ ,]+(\d+)(?:[ ,]+-?\d+)* *$", re.MULTILINE)
ORCA_STATE = re.compile(r"^ *\* *xyz +([+-]?\d+) +(\d+) *$", re.MULTILINE | re.IGNORECASE)
CONSTRAINTS = re.compile(r"\bconstraints(?=\s*\{)|\bmodred\w*", re.IGNORECASE)


def cut(lines: Iterable[str]) -> Iterator[str]:
    """Yield the whole file."""
    yield "".join(lines)


def parse_gaussian(record: str, options: ReadOptions) -> Molecule:
    """Read the geometry, and perceive the bonds."""
    return _parse(record, options, GAUSSIAN_STATE, "0 1", read_gaussian_in)


def parse_orca(record: str, options: ReadOptions) -> Molecule:
    """Read the geometry, and perceive the bonds."""
    return _parse(record, options, ORCA_STATE, "* xyz 0 1", _read_orca)


def _parse(
    record: str,
    options: ReadOptions,
    state: re.Pattern[str],
    example: str,
    read: Callable[[StringIO], ase.Atoms],
) -> Molecule:
    if not (found := state.search(record)):
        raise InputError(f"no Cartesian coordinates after a line such as {example!r}")
    check_free(CONSTRAINTS.findall(record))
    try:
        atoms = read(StringIO(record))
    except Exception as error:  # ASE's parsers raise many types of errors
        raise InputError(
            f"ASE cannot read this geometry ({error}): give symbols and decimal numbers, or an "
            ".xyz file"
        ) from error
    charge, multiplicity = map(int, found.groups())
    bare = ase.Atoms(atoms.numbers, atoms.positions)
    return Molecule.from_atoms(bare, name=options.name, charge=charge, multiplicity=multiplicity)


def _read_orca(file: StringIO) -> ase.Atoms:
    lines = (line.strip() for line in ORCA_STATE.sub("*xyz 0 1", file.read()).splitlines())
    return read_geom_orcainp(StringIO("\n".join(lines) + "\n"))  # the only form that ASE reads
