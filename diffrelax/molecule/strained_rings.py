"""Rings that a multiple bond or an arene strains."""

from __future__ import annotations

from itertools import permutations

from rdkit import Chem

from diffrelax.molecule.twists import SMALL_RING, double_bond_chains

LARGEST = 12  # atoms of rings that such bonds strain


def has_strained_ring(mol: Chem.Mol) -> bool:
    """Tell whether a ring of few atoms has a part that would be straight, or stiff, elsewhere.

    That is a triple bond, cumulated double bonds, a double bond that may be trans, or an arene that
    is bridged in its meta or para positions.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Its geometry does not matter.
    """
    rings = [frozenset(ring) for ring in mol.GetRingInfo().AtomRings() if len(ring) <= LARGEST]
    straight = {i for run in double_bond_chains(mol) for i in run[1:-1]}
    roomy = set()
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if bond.GetBondType() == Chem.BondType.TRIPLE:
            straight.update(ends)
        elif bond.GetBondType() == Chem.BondType.DOUBLE and not bond.GetIsAromatic():
            roomy.add(frozenset(ends))
    return any(
        ring & straight or (len(ring) >= SMALL_RING and any(ends <= ring for ends in roomy))
        for ring in rings
    ) or any(
        len(arene & ring) > 2
        for arene, ring in permutations(rings, 2)
        if all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in arene)
    )
