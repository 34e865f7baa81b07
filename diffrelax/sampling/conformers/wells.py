"""Where the wells of torsions are, by chemistry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rdkit import Chem

from diffrelax.molecule import Molecule
from diffrelax.molecule.torsions import Rotors

PLANAR = Chem.HybridizationType.SP2
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
        folds = [_fold(atom, other, ranks) for atom, other in ends]
        if 3 in folds:
            turns = ()
        elif 2 in folds:
            turns = [turn for turn in turns if turn < 180]
        wells.append(np.radians(turns))
    return wells


def _fold(atom: Chem.Atom, other: int, ranks: list[int]) -> int:
    """Count the turns of one end that make no difference, where its neighbours are all alike."""
    near = {n.GetIdx() for n in atom.GetNeighbors()} - {other}
    shape = 2 if atom.GetHybridization() == PLANAR else 3
    return shape if len(near) == shape and len({ranks[i] for i in near}) == 1 else 1
