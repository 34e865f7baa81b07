"""Inputs of Gaussian and ORCA: one geometry in Cartesian coordinates, its charge and its spin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from typing import Any, NamedTuple

import ase
from ase.io.gaussian import read_gaussian_in
from ase.io.orca import read_geom_orcainp

from diffrelax.errors import InputError
from diffrelax.molecule import Molecule


class ProgramInput(NamedTuple):
    """The input of a program, read by ASE.

    Parameters
    ----------
    state : pattern
        Before the geometry: charge and multiplicity.
    begins : str
        How that looks, for people.
    read : callable
        Reads the geometry.
    """

    state: re.Pattern[str]
    begins: str
    read: Callable[[str], ase.Atoms]

    def cut(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the whole file."""
        yield "".join(lines)

    def title(self, record: str) -> str:
        """Return nothing: a title is about the calculation."""
        return ""

    def properties(self, record: str) -> dict[str, Any]:
        """Return nothing: there are none."""
        return {}

    def parse(
        self,
        record: str,
        name: str,
        seed: int,
        max_atoms: int | None = None,
        charge: int | None = None,
    ) -> Molecule:
        """Take the positions, and perceive the bonds."""
        if not (state := self.state.search(record)):
            raise InputError(f"no Cartesian coordinates behind a line such as {self.begins!r}")
        try:
            atoms = self.read(record)
        except Exception as error:  # ASE's parsers fail in many ways
            raise InputError(
                f"ASE cannot read this geometry ({error}): give symbols and decimal numbers, or an "
                ".xyz file"
            ) from error
        bare = ase.Atoms(atoms.numbers, atoms.positions)
        own_charge, multiplicity = map(int, state.groups())
        return Molecule.from_atoms(bare, name=name, charge=own_charge, multiplicity=multiplicity)


OF_ORCA = re.compile(r"^ *\* *xyz +([+-]?\d+) +(\d+) *$", re.MULTILINE | re.IGNORECASE)


def _read_gaussian(record: str) -> ase.Atoms:
    return read_gaussian_in(StringIO(record))


def _read_orca(record: str) -> ase.Atoms:
    lines = (line.strip() for line in OF_ORCA.sub("*xyz 0 1", record).splitlines())  # as ASE asks
    return read_geom_orcainp(StringIO("\n".join(lines) + "\n"))


GAUSSIAN = ProgramInput(
    re.compile(r"^ *(-?\d+)[ ,]+(\d+)(?:[ ,]+-?\d+)* *$", re.MULTILINE), "0 1", _read_gaussian
)
ORCA = ProgramInput(OF_ORCA, "* xyz 0 1", _read_orca)
