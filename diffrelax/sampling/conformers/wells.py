"""Where the wells of torsions are, by chemistry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rdkit import Chem

from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors, watched_torsions

PLANAR, PYRAMID = Chem.HybridizationType.SP2, Chem.HybridizationType.SP3
HALVES, THIRDS, SIXTHS = (range(360 // n, 360, 360 // n) for n in (2, 3, 6))  # degrees


def other_wells(molecule: Molecule, rotors: Rotors) -> list[np.ndarray]:
    """Say by how much each rotor turns into its other wells.

    By thirds between two sp3 atoms, by sixths where one of the two is planar, by a half where both
    are or the bond is conjugated. Ends with three neighbours that are alike, such as methyl, do not
    count, and a half turn of one with two that are alike, such as phenyl, leads nowhere.

    Parameters
    ----------
    molecule : Molecule
    rotors : Rotors
        Of the molecule.

    Returns
    -------
    list of (n_turns,) arrays, radians
        One for each rotor; empty where all wells are the same.
    """
    mol = molecule.to_rdkit()
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    wells = []
    turns: Sequence[int]
    for j, k in rotors.bonds.tolist():
        ends = [(mol.GetAtomWithIdx(j), k), (mol.GetAtomWithIdx(k), j)]
        bond = mol.GetBondBetweenAtoms(j, k)
        planar = [atom.GetHybridization() == PLANAR for atom, _ in ends]
        if all(planar) or (bond and bond.GetIsConjugated()):
            turns = HALVES
        else:
            turns = SIXTHS if any(planar) else THIRDS
        folds = [fold(atom, other, ranks) for atom, other in ends]
        if 3 in folds:
            turns = ()
        elif 2 in folds:
            turns = [turn for turn in turns if turn < 180]
        wells.append(np.radians(turns))
    return wells


def telling_torsions(molecule: Molecule, rotors: Rotors, wells: Sequence[np.ndarray]) -> np.ndarray:
    """Choose the torsions that tell wells apart.

    Those of rotors with other wells, and of bonds in rings, which pucker. Beside them one that
    tells the handedness of each sp3 atom, from one neighbour to the next about the bond to a third:
    N may be inverted, and neighbours that are alike may stand in either order, with which the other
    torsions mean another geometry, as of an axial group and an equatorial one. Not where two that
    are alike have no part in the other torsions, as the hydrogens of a chain.

    Parameters
    ----------
    molecule : Molecule
    rotors : Rotors
        Of the molecule.
    wells : sequence of arrays
        See `other_wells`.

    Returns
    -------
    (n_torsions, 4) int array
    """
    mol = molecule.to_rdkit()
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))
    chosen = [
        quad for quad, turns in zip(rotors.torsions.tolist(), wells, strict=True) if len(turns)
    ]
    for quad in watched_torsions(molecule).tolist():
        bond = mol.GetBondBetweenAtoms(*quad[1:3])
        if bond and bond.IsInRing():
            chosen.append(quad)
    known = {i for quad in chosen for i in quad}
    for atom in mol.GetAtoms():
        near = [n.GetIdx() for n in atom.GetNeighbors()]
        free = [ranks[i] for i in near if i not in known]
        if atom.GetHybridization() == PYRAMID and len(near) > 2 and len(set(free)) == len(free):
            chosen.append([near[0], atom.GetIdx(), *near[1:3]])
    return np.array(chosen, dtype=np.int64).reshape(-1, 4)


def fold(atom: Chem.Atom, other: int, ranks: list[int]) -> int:
    """Count the turns of one end that make no difference, where its neighbours are all alike."""
    near = {n.GetIdx() for n in atom.GetNeighbors()} - {other}
    shape = 2 if atom.GetHybridization() == PLANAR else 3
    return shape if len(near) == shape and len({ranks[i] for i in near}) == 1 else 1
