"""Bonds and isotopes of a molecule, read from RDKit."""

from __future__ import annotations

from typing import NamedTuple

from rdkit import Chem

from diffrelax.errors import InputError
from diffrelax.molecule.drawings import dative_error

BOND_TYPES = {
    1.0: Chem.BondType.SINGLE,
    1.5: Chem.BondType.AROMATIC,
    2.0: Chem.BondType.DOUBLE,
    3.0: Chem.BondType.TRIPLE,
}


class Bond(NamedTuple):
    """A bond between two atoms, ``begin < end``, of order 1, 1.5 (aromatic), 2 or 3."""

    begin: int
    end: int
    order: float


def check_orders(mol: Chem.Mol) -> None:
    """Raise InputError if a bond has no order, such as a dative or ionic bond."""
    for bond in mol.GetBonds():
        if bond.GetBondType() not in BOND_TYPES.values():
            kind = bond.GetBondType().name.lower()
            raise InputError(dative_error(mol) or f"a bond of kind {kind}: write its order")


def isotopes_of(mol: Chem.Mol) -> tuple[int, ...]:
    """Return the mass number of each atom, 0 for the natural mixture; empty if none is labelled."""
    isotopes = tuple(atom.GetIsotope() for atom in mol.GetAtoms())
    return isotopes if any(isotopes) else ()


def bonds_of(mol: Chem.Mol) -> tuple[Bond, ...]:
    """Return the bonds of an RDKit molecule, sorted."""
    bonds = []
    for bond in mol.GetBonds():
        begin, end = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        bonds.append(Bond(begin, end, bond.GetBondTypeAsDouble()))
    return tuple(sorted(bonds))
