"""Strained multiple bonds and arenes in a geometry."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
from rdkit import Chem

from diffrelax.geometry import dihedrals
from diffrelax.molecule.record import Molecule
from diffrelax.molecule.twists import overlooked_twists

BENT, TWISTED = 12.0, 15.0  # degrees; exceeded by one in a hundred validation molecules
FLAT_AXIS = 0.5  # sine of the angle between the ends of an allene; 0.53 in 1,2-cyclopentadiene
FLAT_KINDS = (Chem.BondType.DOUBLE, Chem.BondType.AROMATIC)
SECOND_ROW = 10  # multiple bonds of heavier atoms bend easily


def has_bent_bonds(molecule: Molecule, positions: np.ndarray) -> bool:
    """Return whether a triple bond, a (cumulated) double bond or an arene is strained.

    Parameters
    ----------
    molecule : Molecule
    positions : (n_atoms, 3) array, Å
    """
    mol = molecule.to_rdkit(stereo=False)
    straight = {
        atom.GetIdx(): [near.GetIdx() for near in atom.GetNeighbors()]
        for atom in mol.GetAtoms()
        if atom.GetHybridization() == Chem.HybridizationType.SP and atom.GetDegree() == 2
    }
    for middle, (left, right) in straight.items():
        u, v = positions[left] - positions[middle], positions[right] - positions[middle]
        cosine = u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
        if cosine > -np.cos(np.radians(BENT)):
            return True
    torsions = []
    for bond in mol.GetBonds():
        ends = bond.GetBeginAtom(), bond.GetEndAtom()
        if bond.GetBondType() in FLAT_KINDS and all(
            end.GetIdx() not in straight and end.GetAtomicNum() < SECOND_ROW for end in ends
        ):
            i, j = (end.GetIdx() for end in ends)
            beside = ([n.GetIdx() for n in end.GetNeighbors()] for end in ends)
            torsions += [(a, i, j, b) for a, b in product(*beside) if a != j and b != i and a != b]
    if not torsions:
        return False
    turned = np.abs(np.degrees(dihedrals(positions[np.array(torsions)])))
    return bool(np.minimum(turned, 180.0 - turned).max() > TWISTED)


def flat_cumulene(molecule: Molecule, positions: np.ndarray) -> str:
    """Name a cumulene whose ends should be perpendicular but are not; empty if there is none.

    Parameters
    ----------
    molecule : Molecule
    positions : (n_atoms, 3) array, Å
    """
    doubles = Counter(i for *ends, order in molecule.bonds if order == 2 for i in ends)
    if max(doubles.values(), default=0) < 2:
        return ""
    for twist in overlooked_twists(molecule.to_rdkit()):
        if twist.is_axial and abs(twist.sense(positions)) < FLAT_AXIS:
            return "=".join(map(molecule.label, twist.chain))
    return ""
