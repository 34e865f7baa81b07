"""Molecules as plain JSON, without loss of precision."""

from __future__ import annotations

from operator import not_
from typing import Annotated, Any, Self, TypeAlias

from pydantic import Field, PlainSerializer, PlainValidator

from diffrelax.entries import Entries
from diffrelax.molecule import Molecule

Vector: TypeAlias = tuple[float, float, float]


class Document(Entries):
    """Base class of documents: frozen, without unknown fields."""


class MoleculeDocument(Document):
    """A molecule with exact positions."""

    numbers: tuple[int, ...] = Field(description="atomic numbers")
    positions: tuple[Vector, ...] = Field(description="Å")
    charge: int = Field(default=0, description="total charge, e")
    multiplicity: int = Field(default=1, description="2S + 1")
    bonds: tuple[tuple[int, int, float], ...] = Field(
        default=(), description="begin, end, order (1.5 is aromatic); empty if unknown"
    )
    formal_charges: tuple[int, ...] = Field(
        default=(), description="e, one for each atom; empty if unknown"
    )
    name: str = ""
    smiles: str = Field(default="", description="isomeric canonical SMILES, empty if unknown")
    start: str = Field(default="given", description="origin of the positions")
    isotopes: tuple[int, ...] = Field(
        default=(),
        exclude_if=not_,
        description="mass numbers, 0 for the natural mixture; left out if no atom is labelled",
    )
    left_open: bool = Field(
        default=False,
        exclude_if=not_,
        description="whether its source left stereochemistry open; left out if not",
    )

    @classmethod
    def from_molecule(cls, molecule: Molecule) -> Self:
        """Return the document of a molecule."""
        plain = {"numbers": molecule.numbers.tolist(), "positions": molecule.positions.tolist()}
        return cls(**vars(molecule) | plain)

    def to_molecule(self) -> Molecule:
        """Return the molecule.

        Raises
        ------
        ValueError
            If the document is not a valid molecule.
        """
        return Molecule(**dict(self))


def _read(given: Any) -> Molecule:
    if isinstance(given, Molecule):
        return given
    return MoleculeDocument.model_validate(given).to_molecule()


def _write(molecule: Molecule) -> dict[str, Any]:
    return MoleculeDocument.from_molecule(molecule).model_dump(mode="json")


# a molecule in a record that is written down as its document
Written: TypeAlias = Annotated[Molecule, PlainValidator(_read), PlainSerializer(_write)]
