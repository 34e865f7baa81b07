"""Rings strained by a multiple bond or an arene."""

from __future__ import annotations

from rdkit import Chem

from diffrelax.molecule.twists import SMALL_RING, annulenes, double_bond_chains

LARGEST = 12  # atoms; such bonds do not strain larger rings


def has_strained_ring(mol: Chem.Mol) -> bool:
    """Return whether a small ring contains a linear or rigid group.

    These are triple bonds, cumulated double bonds, double bonds that may be trans, and meta- or
    para-bridged arenes. Annulenes of any size count.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        Its geometry is not used.
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
