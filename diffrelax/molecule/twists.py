"""Configurations of double bonds and cumulenes that RDKit ignores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from rdkit import Chem

SMALL_RING = 8  # RDKit overlooks the E/Z of double bonds in smaller rings


def double_bond_chains(mol: Chem.Mol) -> list[tuple[int, ...]]:
    """Find chains of cumulated double bonds, such as allenes.

    A single double bond is a chain of two atoms. Inner atoms are carbon.
    """
    doubles: dict[int, list[int]] = {}
    for bond in mol.GetBonds():
        if bond.GetBondType() == Chem.BondType.DOUBLE:
            for atom in (bond.GetBeginAtom(), bond.GetEndAtom()):
                doubles.setdefault(atom.GetIdx(), []).append(bond.GetOtherAtomIdx(atom.GetIdx()))
    inner = {
        i
        for i, near in doubles.items()
        if len(near) == 2 and mol.GetAtomWithIdx(i).GetAtomicNum() == 6
    }
    chains = []
    for end in sorted(set(doubles) - inner):
        for second in doubles[end]:
            chain = [end, second]
            while chain[-1] in inner:
                before, here = chain[-2:]
                chain.append(next(i for i in doubles[here] if i != before))
            if chain[0] < chain[-1]:
                chains.append(tuple(chain))
    return chains


class Twist(NamedTuple):
    """The configuration of a chain of double bonds that RDKit ignores.

    Attributes
    ----------
    chain : tuple of int
        Atoms of the chain; its ends are perpendicular if the number is odd, coplanar if even.
    left, right : tuple of int
        Other neighbours of the first and the last atom, one or two each.
    is_element : bool
        Whether rotating one end gives another stereoisomer.
    """

    chain: tuple[int, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    is_element: bool

    @property
    def is_axial(self) -> bool:
        """Whether the ends are perpendicular, as in an allene."""
        return len(self.chain) % 2 == 1

    @property
    def torsion(self) -> tuple[int, int, int, int]:
        """Atoms of the torsion: neighbour, first and last atom, neighbour."""
        return self.left[0], self.chain[0], self.chain[-1], self.right[0]

    def sense(self, positions: np.ndarray) -> float:
        """Return a number from -1 to 1 whose sign is the configuration."""
        axis = positions[self.chain[-1]] - positions[self.chain[0]]
        a, b = (
            np.cross(axis, positions[side[0]] - positions[side[1] if side[1:] else end])
            for side, end in ((self.left, self.chain[0]), (self.right, self.chain[-1]))
        )
        length = np.linalg.norm(a) * np.linalg.norm(b)
        if self.is_axial:
            return float(axis @ np.cross(a, b) / (np.linalg.norm(axis) * length))
        return float(a @ b / length)


def overlooked_twists(mol: Chem.Mol) -> list[Twist]:
    """Find the chains of double bonds with configurations that RDKit ignores.

    They are allenes and longer cumulenes, double bonds in rings of fewer than eight atoms, and
    those between equal branches of a ring, as in 1-ethylidene-4-methylcyclohexane.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        With its stereochemistry assigned.
    """
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    found = []
    for chain in double_bond_chains(mol):
        sides = _substituents(mol, chain)
        if not all(sides):
            continue
        bond = mol.GetBondBetweenAtoms(*chain[:2])
        unequal = all(len({ranks[i] for i in side}) == len(side) for side in sides)
        if len(chain) % 2:
            unequal &= min(map(len, sides)) == 2
        if len(chain) == 2 and not _in_small_ring(bond):
            if bond.GetStereo() != Chem.BondStereo.STEREONONE or unequal:
                continue
            unequal = bond.GetIdx() in double_bond_elements(mol)
        found.append(Twist(chain, *sides, unequal))
    return found


def open_twists(mol: Chem.Mol) -> list[Twist]:
    """Find configurations that SMILES cannot specify: of cumulenes, or at equal branches."""
    return [
        twist
        for twist in overlooked_twists(mol)
        if twist.is_element and not _in_small_ring(mol.GetBondBetweenAtoms(*twist.chain[:2]))
    ]


def annulenes(mol: Chem.Mol) -> list[tuple[int, ...]]:
    """Find large aromatic rings, in which RDKit ignores cis and trans double bonds.

    For example [18]annulene, but not porphine, where smaller rings determine the bonds.
    """
    rings = mol.GetRingInfo()
    return [
        ring
        for ring in rings.AtomRings()
        if len(ring) >= SMALL_RING
        and all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
        and any(
            rings.MinAtomRingSize(i) == rings.MinAtomRingSize(j) == len(ring)
            for i, j in pairwise(ring)
        )
    ]


def _substituents(mol: Chem.Mol, chain: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the other neighbours of the first and of the last atom of a chain, sorted."""
    first, last = (
        tuple(sorted({a.GetIdx() for a in mol.GetAtomWithIdx(end).GetNeighbors()} - {inner}))
        for end, inner in ((chain[0], chain[1]), (chain[-1], chain[-2]))
    )
    return first, last


def _in_small_ring(bond: Chem.Bond) -> bool:
    return any(bond.IsInRingSize(size) for size in range(3, SMALL_RING))


def double_bond_elements(mol: Chem.Mol) -> set[int]:
    """Return stereo double bonds of RDKit's newer perception, which RDKit cannot embed."""
    found = Chem.FindPotentialStereo(Chem.Mol(mol), cleanIt=False)
    return {info.centeredOn for info in found if info.type == Chem.StereoType.Bond_Double}
