"""Rings that a multiple bond or an arene strains."""

from __future__ import annotations

from rdkit import Chem

from diffrelax.molecule.twists import SMALL_RING, annulenes, double_bond_chains

LARGEST = 12  # atoms of rings that such bonds strain


def has_strained_ring(mol: Chem.Mol) -> bool:
    """Tell whether a ring of few atoms has a part that would be straight, or stiff, elsewhere.

    That is a triple bond, cumulated double bonds, a double bond that may be trans, or an arene that
    is bridged in its meta or para positions. Annulenes count, however large.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Its geometry does not matter.
    """
    if annulenes(mol):
        return True
    rings = [frozenset(ring) for ring in mol.GetRingInfo().AtomRings() if len(ring) <= LARGEST]
    straight = {i for run in double_bond_chains(mol) for i in run[1:-1]}
    doubles = []
    for bond in mol.GetBonds():
        ends = {bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()}
        if bond.GetBondType() == Chem.BondType.TRIPLE:
            straight |= ends
        elif bond.GetBondType() == Chem.BondType.DOUBLE:
            doubles.append(ends)
    arenes = [ring for ring in rings if all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring)]
    return any(
        ring & straight
        or (len(ring) >= SMALL_RING and any(ends <= ring for ends in doubles))
        or any(len(arene & ring) > 2 for arene in arenes if arene != ring)
        for ring in rings
    )
